"""How times, sizes, counts and names are written on the page and in the picture."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from html import escape
from typing import Final

from node.bench.svg import si
from simulations.recording import Happening, Recording

__all__ = ["axis_ticks", "byte_text", "count_of", "duration", "kind_text", "names_text", "percent", "replay_line"]

# No document may hold these, or they turn the text around them: C0 and C1 but tab and line feed, surrogates, marks that
# override the direction of writing, and what is no character.
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_UNITS_S: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_THIN: Final = "\u202f"
"""Between a number and its unit: narrow, and no line breaks there."""
_TIGHT: Final = "\u00a0"

_STEPS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600),
    *(86_400 * days for days in (1, 2, 5, 7, 14, 28, 56, 112, 365)),
)


def fit(text: str) -> str:
    """The same as any document can hold it: U+FFFD stands for what it can't."""
    return _UNFIT.sub("\ufffd", text)


def safe(text: str) -> str:
    """For HTML, in text and in quoted attributes."""
    return escape(fit(text))


def scrollable(body: str, name: str) -> str:
    """HTML that may be wider than the page, and can be scrolled with keys."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{name}">{body}</div>'


def duration(span_s: float) -> str:
    """In the two largest units that matter: `3 ms`, `1.2 s`, `2 min 5 s`, `3 d 4 h`."""
    if span_s < 0:
        return "−" + duration(-span_s)
    if not math.isfinite(span_s):
        return "∞"
    if span_s < 0.9995:
        ms = f"{span_s * 1000:.3g}{_THIN}ms" if span_s >= 0.0005 else f"<{_TIGHT}1{_THIN}ms"
        return ms if span_s else f"0{_THIN}s"
    if span_s < 9.95:
        return f"{span_s:.2g}{_THIN}s"
    rest = round(span_s)
    for index, (unit_s, unit) in enumerate(_UNITS_S):
        if rest >= unit_s:
            whole, below = divmod(rest, unit_s)
            if index + 1 == len(_UNITS_S):
                return f"{whole}{_THIN}{unit}"
            smaller_s, smaller = _UNITS_S[index + 1]
            more = below // smaller_s
            return f"{whole}{_THIN}{unit}" + (f"{_TIGHT}{more}{_THIN}{smaller}" if more else "")
    raise AssertionError(rest)


def at_text(at_s: float) -> str:
    """A place on an axis of time."""
    return duration(at_s) if at_s else "0"


def percent(share: float) -> str:
    """Never rounds up to 100 % nor down to 0 %: what is almost everything is not everything."""
    if share >= 1:
        return f"100{_THIN}%"
    if share <= 0:
        return f"0{_THIN}%"
    return f"{min(99.9, max(0.1, 100 * share)):.{0 if 0.1 <= share < 0.985 else 1}f}{_THIN}%"


def byte_text(size_bytes: float) -> str:
    """`0 B`, `1.2 kB`, `34 MB`."""
    return si(size_bytes, "B").replace(" ", _THIN)


def count_of(number: int, one: str, many: str | None = None) -> str:
    """`1 mailbox`, `2,000 mailboxes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """The same with a capital letter."""
    return text[:1].upper() + text[1:]


def kind_text(kind: str) -> str:
    """`disk-full` becomes `Disk full`."""
    return sentence(kind.replace("-", " ").strip()) or "Unnamed"


def names_text(names: Sequence[str], shown: int = 6) -> str:
    """The first few, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def happening_text(happening: Happening) -> str:
    """What happened; by its kind and names where nobody put it into words."""
    return happening.text or " ".join(filter(None, (kind_text(happening.kind), names_text(happening.who))))


def replay_line(recording: Recording) -> str:
    """The command that plays the same run again."""
    return f"mailboxd simulate {shlex.quote(recording.scenario)} --seed {recording.seed}"


def axis_ticks(length_s: float, most: int) -> Sequence[float]:
    """Round times from 0 to `length_s`, `most` of them or fewer."""
    if length_s <= 0:
        return (0.0,)
    step_s = next((step for step in _STEPS_S if length_s / step <= most), length_s / most)
    return tuple(step_s * index for index in range(int(length_s / step_s + 1e-9) + 1))
