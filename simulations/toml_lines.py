"""Where in a TOML text something stands: tomllib keeps no positions, so it is asked about beginnings of the text.

A beginning that ends between two statements is TOML itself. What a statement says is in the first such beginning that
includes it and in all longer ones, so that a search by halves finds its line with few readings and no second grammar.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

__all__ = ["Place", "line_of", "line_of_syntax_error"]

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys, and positions in arrays from 0."""


def line_of(text: str, place: Place) -> int:
    """The line (from 1) of the statement that brings `place` into the valid TOML `text`: of its key, or of its table's
    header. If it is nowhere, that of the innermost part of the way that is there; 1 if there is none."""
    document = tomllib.loads(text)
    while place and not _holds(document, place):
        place = place[:-1]
    if not place:
        return 1
    lines = text.split("\n")
    low, high = 1, len(lines)  # the line is in low … high
    while low < high:
        middle = (low + high) // 2
        if _holds(_beginning(lines, middle), place):
            high = middle
        else:
            low = middle + 1
    return low


def line_of_syntax_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """The line (from 1) and what is wrong there, from what tomllib said."""
    said = str(error)
    if match := re.fullmatch(r"(.*) \(at line ([0-9]+), column [0-9]+\)", said, re.DOTALL):
        return int(match[2]), match[1]
    return text.count("\n") + 1, said.removesuffix(" (at end of document)")


def _beginning(lines: Sequence[str], count: int) -> dict[str, Any]:
    """What the first `count` lines say, and those behind them that belong to the same statement (or, if that is a long
    array, to the same element)."""
    for end in range(count, len(lines)):
        for closing in ("", "]"):
            with suppress(tomllib.TOMLDecodeError):
                return tomllib.loads("\n".join([*lines[:end], closing]))
    return tomllib.loads("\n".join(lines))


def _holds(value: Any, place: Place) -> bool:
    for part in place:
        if isinstance(part, str):
            if not isinstance(value, dict) or part not in value:
                return False
        elif not isinstance(value, list) or part >= len(value):
            return False
        value = value[part]
    return True
