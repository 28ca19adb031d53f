"""Frames as `example.md` shows them: a line for each thing that a frame says, its bytes on the left."""

from __future__ import annotations

import re
from typing import Final

from tests.protocols.sync import by_the_spec as spec
from tests.protocols.sync.messages_by_the_spec import LAYOUTS, Json

__all__ = ["annotated", "filled"]

_HEX_CHARACTERS: Final = 50
_BYTES_IN_LINE: Final = 16

_PARTS: Final = {
    "listing": ["width", "number of logs", "fragments", "kinds", "heads", "extras", "hashes"],
    "regions": ["width of bounds", "bounds", "modes", "fingerprints"],
    "asked": ["width", "number of fragments", "fragments"],
    "logs": ["logs: number, watermark + 1, messages", "seqs", "dates", "sizes"],
    "fetch": ["log"],
    "log": ["handle", "spans"],
    "spans": ["first", "how many follow"],
}
"""What stands in arrays, and in fields of several elements."""


def annotated(frame: bytes) -> str:
    """The lines for a frame with its prefix."""
    lines = [_line(frame[:4], f"{len(frame) - 4} bytes follow", 0)]
    _message(frame, 4, 0, lines)
    return "\n".join(lines)


def _line(data: bytes, comment: str, depth: int) -> str:
    return f"{data.hex(' '):<{_HEX_CHARACTERS}}{'  ' * depth}{comment}".rstrip()


def _message(data: bytes, at: int, depth: int, lines: list[str]) -> int:
    _, count, start = spec.read_head(data, at)
    number, behind = spec.read_value(data, start)
    name, (_, layout) = next((name, layout) for name, layout in LAYOUTS.items() if layout[0] == number)
    lines.append(_line(data[at:start], f"array of {count}", depth))
    lines.append(_line(data[start:behind], f"{number}: {name}", depth + 1))
    at, left = behind, count - 1
    for field in layout:
        parts = _PARTS[field.name] if field.size > 1 else [field.name.replace("_", " ")]
        for part in parts[:left]:
            at = _value(data, at, part, depth + 1, lines)
            left -= 1
    return at


def _value(data: bytes, at: int, what: str, depth: int, lines: list[str]) -> int:
    kind, size, start = spec.read_head(data, at)
    if kind == "int":
        lines.append(_line(data[at:start], f"{what}: {size}", depth))
        return start
    if kind == "array":
        lines.append(_line(data[at:start], f"{what}: array of {size}" if size else f"{what}: none", depth))
        parts = _PARTS.get(what, [what])
        for index in range(size):
            start = _value(data, start, parts[index % len(parts)], depth + 1, lines)
        return start
    body = data[start : start + size]
    if kind == "str":
        lines.append(_line(data[at : start + size], f'{what}: "{body.decode()}"', depth))
    elif what == "first" and body:
        lines.append(_line(data[at:start], f"{what}: bin of {size}, a message", depth))
        _message(body, 0, depth + 1, lines)
    else:
        _bin(data[at:start], body, f"{what}: bin of {size}" if size else f"{what}: empty", depth, lines)
    return start + size


def _bin(head: bytes, body: bytes, comment: str, depth: int, lines: list[str]) -> None:
    """Head and content in one line if they fit."""
    if len(head + body) <= _BYTES_IN_LINE:
        lines.append(_line(head + body, comment, depth))
        return
    lines.append(_line(head, comment, depth))
    lines.extend(_line(body[at : at + _BYTES_IN_LINE], "", depth) for at in range(0, len(body), _BYTES_IN_LINE))


def filled(text: str, session: Json) -> str:
    """`text` with the frames of a session in its blocks, which are marked with their numbers."""
    frames = [bytes.fromhex(line["frame"]) for line in session["transcript"]]
    shown: set[int] = set()

    def block(found: re.Match[str]) -> str:
        number = int(found[1])
        shown.add(number)
        return f"```hex {number}\n{annotated(frames[number - 1])}\n```"

    result = re.sub(r"```hex (\d+)\n.*?```", block, text, flags=re.DOTALL)
    assert shown == set(range(1, len(frames) + 1)), "not every frame is explained"
    return result
