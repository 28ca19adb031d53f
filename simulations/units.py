"""How quantities are written in scenario files: `90s`, `10m`, `2MiB`, `120kB/s`; and back.

Reading what was written gives the same number to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import inf
from typing import Final

from node.cli.options import parse_size_bytes

__all__ = [
    "FOREVER",
    "duration_text",
    "parse_duration_s",
    "parse_rate_bytes_per_s",
    "parse_size_bytes",
    "rate_text",
    "size_text",
]

FOREVER: Final = "forever"
"""The duration that never ends."""

_TIME_UNITS_S: Final[Mapping[str, Fraction]] = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86_400),
}
_DURATION: Final = re.compile(r"(-?[0-9]{1,20}(?:\.[0-9]{1,40})?)\s*([a-z]*)")
_BINARY: Final = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_DECIMAL: Final = {"GB": 10**9, "MB": 10**6, "kB": 10**3}


def parse_duration_s(text: str) -> float:
    """Reads `500ms`, `90s`, `1.5h`, `7d`, `-10m` or `forever`. Raises ValueError."""
    if text == FOREVER:
        return inf
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m, 2h or 7d")
    number, unit = match.groups()
    if unit not in _TIME_UNITS_S:
        fault = "has an unknown unit" if unit else "needs a unit"
        raise ValueError(f"{text!r} {fault}; use ms, s, m, h or d, for example {number}s")
    return float(Fraction(number) * _TIME_UNITS_S[unit])


def duration_text(seconds: float) -> str:
    """The shortest of these texts: whole days, hours, minutes, seconds, else milliseconds or seconds with a point."""
    if seconds == inf:
        return FOREVER
    exact = Fraction(repr(seconds))
    for unit in ("d", "h", "m", "s"):
        count = exact / _TIME_UNITS_S[unit]
        if count.denominator == 1 and (count or unit == "s"):
            return f"{count}{unit}"
    if abs(exact) < 1:
        return f"{Decimal(repr(seconds)).scaleb(3).normalize():f}ms"
    return f"{Decimal(repr(seconds)):f}s"


def parse_rate_bytes_per_s(text: str) -> float:
    """Reads `100B/s`, `120kB/s` or `6MB/s`. Raises ValueError."""
    size, slash, unit = text.strip().rpartition("/")
    if not slash or unit != "s":
        raise ValueError(f"{text!r} is not a rate such as 120kB/s or 6MB/s")
    return float(parse_size_bytes(size))


def rate_text(bytes_per_s: float) -> str:
    """A whole number of bytes each second, in the largest fitting unit of a thousand."""
    if bytes_per_s % 1:
        raise ValueError(f"{bytes_per_s!r} is not a whole number of bytes each second")
    return f"{_in_units(int(bytes_per_s), _DECIMAL)}/s"


def size_text(size_bytes: int) -> str:
    """A size in the largest unit that fits without a remainder."""
    return _in_units(size_bytes, _BINARY)


def _in_units(count: int, units: Mapping[str, int]) -> str:
    for unit, factor in units.items():
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return f"{count}B"
