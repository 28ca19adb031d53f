"""Frames and strict msgpack: the lowest layer of everything that mailboxes say to each other.

A frame is 4 bytes of length (big-endian) and that many bytes of one msgpack array. Only arrays, unsigned integers, bins
and UTF-8 strings occur: no maps (so no duplicate keys), no floats, no ext types, no nil, no booleans.
Whatever a peer sends, these functions raise RemoteProtocolError and nothing else, at a cost proportional to what was
sent, never to what was claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.sync import FRAME_BYTES_MAX
from protocols.pieces import Pieces

__all__ = [
    "FrameDecoder",
    "as_array",
    "as_bytes",
    "as_int",
    "as_ints",
    "as_text",
    "encode_frame",
    "pack",
    "pack_around",
    "unpack",
]

_PREFIX_BYTES: Final = 4
_SHORT_ARRAY: Final = 0x90
"""The first byte of an array of up to 15 elements, without their number."""


def encode_frame(payload: bytes) -> bytes:
    """`payload` with its length in front. Raises LocalProtocolError if it is empty or over FRAME_BYTES_MAX."""
    if not 0 < len(payload) <= FRAME_BYTES_MAX:
        raise LocalProtocolError(f"a frame of {len(payload)} bytes (allowed: 1 to {FRAME_BYTES_MAX})")
    return len(payload).to_bytes(_PREFIX_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into frames. Holds at most what it was fed and has not given out yet."""

    def __init__(self, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces = Pieces()
        self._size = 0
        """Of the frame whose prefix has been read; 0 before it."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the stream, in pieces of any size."""
        self._pieces.add(data)

    def next_frame(self) -> bytes | None:
        """The next complete frame without its prefix, or None if more bytes are needed.

        Raises RemoteProtocolError("frame-size") as soon as the prefix claims nothing or more than `bytes_max`.
        """
        if not self._size:
            if len(self._pieces) < _PREFIX_BYTES:
                return None
            size = int.from_bytes(self._pieces.peek(_PREFIX_BYTES), "big")
            if not 0 < size <= self._bytes_max:
                raise RemoteProtocolError("frame-size", f"a frame of {size} bytes (allowed: 1 to {self._bytes_max})")
            self._pieces.take(_PREFIX_BYTES)
            self._size = size
        if len(self._pieces) < self._size:
            return None
        size, self._size = self._size, 0
        return self._pieces.take(size)

    @property
    def at_boundary(self) -> bool:
        """Whether the stream could end here without cutting a frame in two."""
        return not self._size and not len(self._pieces)


def pack(message: Sequence[Any]) -> bytes:
    """msgpack of a nested sequence of ints, bytes and strings."""
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return packed


def pack_around(before: Sequence[Any], data: bytes | memoryview, after: Sequence[Any]) -> bytes:
    """msgpack of [*before, data, *after], which are 15 elements at the most; `data` is large, and copied once."""
    size = len(data)
    width, kind = (1, 0xC4) if size < 2**8 else (2, 0xC5) if size < 2**16 else (4, 0xC6)
    head = bytes([_SHORT_ARRAY | len(before) + 1 + len(after)]) + pack(before)[1:]
    return b"".join((head, bytes([kind]), size.to_bytes(width, "big"), data, pack(after)[1:]))


def unpack(data: bytes) -> list[Any]:
    """The array in `data`; whoever knows the layout checks its elements. Raises RemoteProtocolError("malformed")."""
    size = len(data)
    try:
        message = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=size,  # every element takes a byte: a larger claim is a lie
            max_bin_len=size,
            max_str_len=size,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise RemoteProtocolError("malformed", f"not the msgpack we speak: {str(error)[:100]}") from None
    return as_array(message, "message")


def as_array(value: Any, what: str, *, length: int | None = None, length_max: int | None = None) -> list[Any]:
    """`value` if it is an array of exactly `length` or at most `length_max` elements. Raises RemoteProtocolError."""
    if type(value) is not list:
        raise RemoteProtocolError("malformed", f"{what} is not an array")
    if length is not None and len(value) != length:
        raise RemoteProtocolError("malformed", f"{what} has {len(value)} elements instead of {length}")
    if length_max is not None and len(value) > length_max:
        raise RemoteProtocolError("limit", f"{what} has {len(value)} elements (allowed: {length_max})")
    return value


def as_int(value: Any, what: str, *, maximum: int) -> int:
    """`value` if it is an integer in 0..maximum. Raises RemoteProtocolError."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise RemoteProtocolError("malformed", f"{what} is not an integer in 0..{maximum}")
    return value


def as_ints(value: Any, what: str, *, maximum: int, length_max: int) -> list[int]:
    """`value` if it is an array of at most `length_max` integers in 0..maximum. Raises RemoteProtocolError."""
    numbers = as_array(value, what, length_max=length_max)
    for number in numbers:
        if type(number) is not int or not 0 <= number <= maximum:
            raise RemoteProtocolError("malformed", f"{what} holds something else than integers in 0..{maximum}")
    return numbers


def as_bytes(value: Any, what: str, *, length: int | None = None, length_max: int | None = None) -> bytes:
    """`value` if it is a bin of exactly `length` or at most `length_max` bytes. Raises RemoteProtocolError."""
    if type(value) is not bytes:
        raise RemoteProtocolError("malformed", f"{what} is not a bin")
    if length is not None and len(value) != length:
        raise RemoteProtocolError("malformed", f"{what} has {len(value)} bytes instead of {length}")
    if length_max is not None and len(value) > length_max:
        raise RemoteProtocolError("limit", f"{what} has {len(value)} bytes (allowed: {length_max})")
    return value


def as_text(value: Any, what: str, *, bytes_max: int) -> str:
    """`value` if it is a string of at most `bytes_max` UTF-8 bytes. Raises RemoteProtocolError."""
    if type(value) is not str:
        raise RemoteProtocolError("malformed", f"{what} is not a string")
    if len(value) > bytes_max or len(value.encode()) > bytes_max:
        raise RemoteProtocolError("limit", f"{what} has more than {bytes_max} bytes")
    return value
