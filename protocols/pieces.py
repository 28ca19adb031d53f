"""A queue of bytes that came in pieces."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Pieces"]

_PIECE_BYTES_MIN: Final = 4096
"""Smaller pieces are put together: each by itself takes some 250 bytes beside its own."""

_SPARE_PART: Final = 16
"""A piece keeps all of that alive of which it was cut. It is kept as it is, and not copied, if no more than this part
is something else: so what is held is what is counted, or hardly more. But of the first piece, of which there is one
only, half may have been taken already."""


class Pieces:
    """Bytes in the pieces in which they came, as far as these are large: they are copied once, when they are taken."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview | bytearray] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: bytes | memoryview) -> None:
        """Puts bytes, which must not change any more, at the end."""
        if _is_lean(data, _SPARE_PART):
            self._pieces.append(memoryview(data))
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))
        self._size += len(data)

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, or all if there are fewer, which stay where they are."""
        found = b""
        for piece in self._pieces:
            found += piece[: size - len(found)]
            if len(found) == size:
                break
        return found

    def take(self, size: int) -> bytes:
        """The first `size` bytes, or all if there are fewer."""
        left = size = min(size, self._size)
        taken: list[memoryview | bytearray] = []
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                piece = self._cut(piece, left)
            taken.append(piece)
            left -= len(piece)
        self._size -= size
        return b"".join(taken)

    def _cut(self, piece: memoryview | bytearray, size: int) -> memoryview | bytearray:
        """The beginning of a piece; the rest goes back."""
        head, rest = piece[:size], piece
        if isinstance(rest, bytearray):
            del rest[:size]
        else:
            rest = rest[size:]
        self._pieces.appendleft(rest if isinstance(rest, bytearray) or _is_lean(rest, 1) else bytearray(rest))
        return head

    def clear(self) -> None:
        """Forgets everything."""
        self._pieces.clear()
        self._size = 0


def _is_lean(data: bytes | memoryview, spare_part: int) -> bool:
    """Whether it costs little beside its own bytes to keep this as it is."""
    whole = data.obj if isinstance(data, memoryview) else data
    assert isinstance(whole, bytes), "what is kept does not change"
    return len(data) >= _PIECE_BYTES_MIN and len(data) + len(data) // spare_part >= len(whole)
