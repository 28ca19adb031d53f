"""Many numbers in few bytes: the columns of which the messages about logs are made.

Two codes, both without a loop over the numbers unless they are few:

- **varints**: LEB128, each number in groups of 7 bits from the lowest, with the high bit set in all bytes but the last.
- **ascending** numbers below 2^width in the code of Elias (1974) and Fano (1971): of each the lowest
  l = max(0, width - floor(log2 n)) bits one after the other, then (from a new byte on) a string of bits that has a 1 at
  place (number >> l) + i for the i-th number. That is about 2 + log2(2^width / n) bits for each. Bits fill bytes from
  the highest; spare bits are 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX

__all__ = [
    "FEW",
    "Numbers",
    "ascending_bytes_max",
    "bits_of",
    "join_bits",
    "pack_ascending",
    "pack_few_varints",
    "pack_varint_list",
    "pack_varints",
    "unpack_ascending",
    "unpack_varint_list",
    "unpack_varints",
    "varint_bytes",
    "varint_size",
]

Numbers: TypeAlias = npt.NDArray[np.uint64]

FEW: Final = 16
"""Up to so many numbers plain Python is several times faster than setting numpy up; most messages have no more."""

_VARINT_BYTES_MAX: Final = 10
_WIDTH_MAX: Final = 64
_PAIR_END: Final = 2**14
"""Below it a varint takes two bytes at the most."""


def _u64(number: int) -> np.uint64:
    return np.uint64(number)


def varint_size(number: int) -> int:
    """How many bytes a number takes as a varint."""
    return max(1, -(-number.bit_length() // 7))


def varint_bytes(numbers: Numbers) -> npt.NDArray[np.int64]:
    """How many bytes each number takes as a varint."""
    if numbers.size <= FEW:
        return np.array([varint_size(number) for number in numbers.tolist()], np.int64)
    sizes = np.ones(numbers.size, np.int64)
    for size in range(1, _VARINT_BYTES_MAX):
        longer = numbers >> _u64(7 * size) != 0
        if not longer.any():
            break
        sizes += longer
    return sizes


def pack_varints(numbers: Numbers) -> bytes:
    """The numbers as varints, one after the other."""
    if numbers.size <= FEW:
        return pack_few_varints(numbers.tolist())
    sizes = varint_bytes(numbers)
    longest = int(sizes.max())
    if longest == 1:
        return numbers.astype(np.uint8).tobytes()
    groups = np.empty((numbers.size, longest), np.uint8)
    for at in range(longest):
        groups[:, at] = (numbers >> _u64(7 * at)).astype(np.uint8) & 127 | (sizes > at + 1).astype(np.uint8) << 7
    packed: bytes = groups[np.arange(longest) < sizes[:, None]].tobytes()
    return packed


def pack_few_varints(numbers: Iterable[int]) -> bytes:
    """The same without numpy, which is quicker for few."""
    packed = bytearray()
    for number in numbers:
        left = number
        while left > 127:
            packed.append(left & 127 | 128)
            left >>= 7
        packed.append(left)
    return bytes(packed)


def pack_varint_list(numbers: list[int]) -> bytes:
    """The same of a list: soon done where all numbers but the first take a byte, as differences mostly do, or where all
    take two, as the sizes of messages mostly do."""
    largest = max(numbers, default=0)
    if largest < 128:
        return bytes(numbers)
    if largest < _PAIR_END and min(numbers) >= 128:
        pairs = np.array(numbers, "<u2")
        packed: bytes = (pairs << 1 & 0x7F00 | pairs & 0x7F | 0x80).tobytes()
        return packed
    if max(numbers[1:], default=0) < 128:
        return pack_few_varints(numbers[:1]) + bytes(numbers[1:])
    return pack_varints(np.array(numbers, np.uint64))


def unpack_varints(data: bytes, what: str) -> Numbers:
    """The numbers in a column. Raises RemoteProtocolError: a number cut off, above 2^64-1, or longer than needed."""
    if len(data) <= FEW:
        return np.array(_unpack_few(data, what), np.uint64)
    raw = np.frombuffer(data, np.uint8)
    is_last = raw < 128
    if is_last.all():
        return raw.astype(np.uint64)
    ends = np.flatnonzero(is_last)
    if not ends.size or ends[-1] != raw.size - 1:
        raise RemoteProtocolError("malformed", f"{what} ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    longest = int(sizes.max())
    if longest == 2:  # the sizes of messages, mostly
        highest = raw[ends]
        is_long = sizes == 2
        if not highest[is_long].all():
            raise _not_shortest(what)
        return np.where(is_long, highest.astype(np.uint64) << _u64(7) | (raw[starts] & 127), highest)
    too_long = longest > _VARINT_BYTES_MAX
    if too_long or raw[ends[sizes == _VARINT_BYTES_MAX]].max(initial=0) > 1 or (raw[ends[sizes > 1]] == 0).any():
        raise _not_shortest(what)
    numbers = np.zeros(ends.size, np.uint64)
    for at in range(longest):
        has = sizes > at
        numbers[has] |= (raw[starts[has] + at] & 127).astype(np.uint64) << _u64(7 * at)
    return numbers


def unpack_varint_list(data: bytes, what: str) -> list[int]:
    """The same as a list: soon done where it is so for `pack_varint_list`."""
    if data.isascii():
        return list(data)
    if len(data) % 2 == 0:
        pairs = np.frombuffer(data, "<u2")
        if (pairs & 0x8080 == 0x80).all() and (pairs > 0xFF).all():
            return _listed(pairs >> 1 & 0x3F80 | pairs & 0x7F)
    head = 1
    while head < _VARINT_BYTES_MAX and data[head - 1] > 127 and head < len(data):
        head += 1
    if data[head:].isascii():
        return [*_unpack_few(data[:head], what), *data[head:]]
    return _listed(unpack_varints(data, what))


def _listed(numbers: npt.NDArray[np.integer[Any]]) -> list[int]:
    listed: list[int] = numbers.tolist()
    return listed


def _unpack_few(data: bytes, what: str) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        if byte > 127:
            shift += 7
            continue
        if number > SEQ_MAX or (shift and not byte):
            raise _not_shortest(what)
        numbers.append(number)
        number = shift = 0
    if shift:
        raise RemoteProtocolError("malformed", f"{what} ends within a number")
    return numbers


def _not_shortest(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        "malformed", f"{what} holds something else than numbers of 64 bits in their shortest form"
    )


def bits_of(numbers: Numbers, width: int) -> bytes:
    """The lowest `width` bits of each number, one after the other."""
    if not width or not numbers.size:
        return b""
    if numbers.size <= FEW:
        joined, count = 0, numbers.size * width
        for number in numbers.tolist():
            joined = joined << width | number & (1 << width) - 1
        return (joined << -count % 8).to_bytes(-(-count // 8), "big")
    bits = np.unpackbits(numbers.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    packed: bytes = np.packbits(bits[:, _WIDTH_MAX - width :]).tobytes()
    return packed


def join_bits(data: bytes, count: int, width: int) -> Numbers:
    """The inverse of `bits_of`; `data` must hold `count` * `width` bits. Spare bits are not looked at."""
    if not width or not count:
        return np.zeros(count, np.uint64)
    if count <= FEW:
        size = -(-count * width // 8)
        joined, last = int.from_bytes(data[:size], "big"), 8 * size - width
        return np.array([joined >> last - width * at & (1 << width) - 1 for at in range(count)], np.uint64)
    bits = np.zeros((count, _WIDTH_MAX), np.uint8)
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width)
    bits[:, _WIDTH_MAX - width :] = flat.reshape(count, width)
    return np.packbits(bits, axis=1).reshape(-1).view(">u8").astype(np.uint64)


def _low_bits(count: int, width: int) -> int:
    return max(0, width - (count.bit_length() - 1))


def ascending_bytes_max(count: int, width: int) -> int:
    """What so many numbers below 2^width can take at the most."""
    if not count:
        return 0
    low = _low_bits(count, width)
    return -(-count * low // 8) + -(-(count + (1 << width - low)) // 8)


def pack_ascending(numbers: Numbers, width: int) -> bytes:
    """Ascending numbers (the same may stand there twice) below 2^width."""
    count = numbers.size
    if not count:
        return b""
    low = _low_bits(count, width)
    high = (numbers >> _u64(low)) if low < _WIDTH_MAX else np.zeros(count, np.uint64)
    places = high.astype(np.int64) + np.arange(count)
    bits = np.zeros(int(places[-1]) + 1, np.uint8)
    bits[places] = 1
    return bits_of(numbers, low) + np.packbits(bits).tobytes()


def unpack_ascending(data: bytes, count: int, width: int, what: str) -> Numbers:
    """The inverse. Raises RemoteProtocolError unless these are `count` ascending numbers below 2^width."""
    if not count:
        if data:
            raise RemoteProtocolError("malformed", f"{what} has bytes without numbers")
        return np.zeros(0, np.uint64)
    low = _low_bits(count, width)
    low_bytes = -(-count * low // 8)
    if not low_bytes < len(data) <= ascending_bytes_max(count, width):
        raise RemoteProtocolError("malformed", f"{what} has {len(data)} bytes for {count} numbers")
    places = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, offset=low_bytes)))
    high = places - np.arange(places.size)
    if places.size != count or int(high[-1]) >> (width - low):
        raise RemoteProtocolError("malformed", f"{what} does not hold {count} numbers below 2^{width}")
    numbers = join_bits(data[:low_bytes], count, low)
    if low < _WIDTH_MAX:
        numbers |= high.astype(np.uint64) << _u64(low)
    if (numbers[1:] < numbers[:-1]).any():
        raise RemoteProtocolError("order", f"{what} is not ascending")
    return numbers
