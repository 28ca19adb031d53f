"""The blocks of one log, packed into one bytes object of 40 bytes a block.

    n rows of 24 bytes: block number (big-endian), block digest     ascending; `log_state` hashes exactly these bytes
    n tails of 16 bytes: bitmap of the seqs held (lowest bit: lowest seq), earliest and latest `first stored`
                         (Unix seconds, 4 bytes each), little-endian

`first stored` is never negative. Beyond AGE_MAX_S (the year 2106) it is cut down to that, which as an earliest one
says "then or later", and as a latest one says nothing at all: such blocks are read when it matters.

A log of a million messages has some ten thousand blocks. So nothing here visits them one by one in Python: a change
copies bytes around it, and sums over a log are numpy's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from protocols.limits import BLOCK_SEQS, DIGEST_BYTES, DIGEST_STATE_BYTES
from protocols.model import Item

__all__ = [
    "AGE_MAX_S",
    "Block",
    "PackedBlocks",
    "Span",
    "age_span",
    "bitmaps",
    "block_of",
    "blocks_in",
    "find",
    "numbers",
    "pairs",
    "restrict",
    "row_at",
    "splice",
    "state_of",
    "take",
    "unpack",
]

PackedBlocks: TypeAlias = bytes

_ITEM: Final = struct.Struct(f">Q{DIGEST_BYTES}sq")  # what `reconcile.block_digest` hashes of an item
_ROW: Final = struct.Struct(f">Q{DIGEST_STATE_BYTES}s")
_TAIL: Final = struct.Struct("<QII")
_TAILS: Final = np.dtype([("bitmap", "<u8"), ("oldest_s", "<u4"), ("newest_s", "<u4")])
_ROW_BYTES: Final = _ROW.size
_TAIL_BYTES: Final = _TAIL.size

_BLOCK_BYTES: Final = _ROW_BYTES + _TAIL_BYTES
_FEW_BLOCKS: Final = 16
"""Up to so many blocks plain Python is faster than setting numpy up."""

AGE_MAX_S: Final = 2**32 - 1
_FOREVER_S: Final = 2**63 - 1


class Span(NamedTuple):
    """Earliest and latest `first stored` of something, in Unix seconds, or bounds of them beyond AGE_MAX_S."""

    oldest_s: int
    newest_s: int


class Block(NamedTuple):
    """One block as it is packed: 24 bytes of row, 16 bytes of tail."""

    row: bytes
    tail: bytes


def block_of(number: int, items: Sequence[Item]) -> Block:
    """A block that holds `items` (one at least, ascending by seq and digest); the digest is that of `block_digest`."""
    pack = _ITEM.pack
    digest = blake3(b"".join([pack(seq, digest, first_s) for seq, digest, first_s, _ in items]))
    ages = [item.first_stored_s for item in items]
    bitmap = 0
    for item in items:
        bitmap |= 1 << item.seq % BLOCK_SEQS
    return Block(
        _ROW.pack(number, digest.digest(length=DIGEST_STATE_BYTES)),
        _TAIL.pack(bitmap, min(*ages, AGE_MAX_S), min(max(ages), AGE_MAX_S)),
    )


def blocks_in(packed: PackedBlocks) -> int:
    """How many blocks there are."""
    return len(packed) // _BLOCK_BYTES


def find(packed: PackedBlocks, number: int, lo: int = 0) -> int:
    """The index of the first block with this number or a higher one, at `lo` or after it."""
    key = number.to_bytes(8, "big")
    hi = blocks_in(packed)
    while lo < hi:
        middle = (lo + hi) // 2
        if packed[_ROW_BYTES * middle : _ROW_BYTES * middle + 8] < key:
            lo = middle + 1
        else:
            hi = middle
    return lo


def row_at(packed: PackedBlocks, index: int) -> bytes:
    """The row of a block; empty behind the last one."""
    return packed[_ROW_BYTES * index : _ROW_BYTES * (index + 1)] if index < blocks_in(packed) else b""


def take(packed: PackedBlocks, number: int) -> Block | None:
    """A block by its number, None if it is not there."""
    index, count = find(packed, number), blocks_in(packed)
    row = row_at(packed, index)
    if row[:8] != number.to_bytes(8, "big"):
        return None
    start = _ROW_BYTES * count + _TAIL_BYTES * index
    return Block(row, packed[start : start + _TAIL_BYTES])


def splice(packed: PackedBlocks, changes: Sequence[tuple[int, Block | None]]) -> PackedBlocks:
    """`packed` with some blocks replaced, added, or (None) removed. `changes` ascend by block number."""
    count = blocks_in(packed)
    source = memoryview(packed)
    rows: list[bytes | memoryview] = []
    tails: list[bytes | memoryview] = []
    at = 0

    def keep(until: int) -> None:
        if until > at:
            rows.append(source[_ROW_BYTES * at : _ROW_BYTES * until])
            tails.append(source[_ROW_BYTES * count + _TAIL_BYTES * at : _ROW_BYTES * count + _TAIL_BYTES * until])

    for number, block in changes:
        key = number.to_bytes(8, "big")
        here = row_at(packed, at)[:8]
        index = at if here >= key or at == count else find(packed, number, at)
        keep(index)
        at = index + (row_at(packed, index)[:8] == key)
        if block is not None:
            rows.append(block.row)
            tails.append(block.tail)
    keep(count)
    return b"".join(rows + tails)


def state_of(packed: PackedBlocks) -> bytes:
    """The log's state: `reconcile.log_state` of its blocks."""
    rows = memoryview(packed)[: _ROW_BYTES * blocks_in(packed)]
    return blake3(rows).digest(length=DIGEST_STATE_BYTES)


def pairs(packed: PackedBlocks) -> list[tuple[int, bytes]]:
    """(block number, block digest) of each block, ascending."""
    return list(_ROW.iter_unpack(memoryview(packed)[: _ROW_BYTES * blocks_in(packed)]))


def numbers(packed: PackedBlocks) -> npt.NDArray[np.uint64]:
    """The number of each block, ascending."""
    rows = np.frombuffer(packed, dtype=">u8", count=blocks_in(packed) * _ROW_BYTES // 8)
    return rows[:: _ROW_BYTES // 8].astype(np.uint64)


def bitmaps(packed: PackedBlocks) -> npt.NDArray[np.uint64]:
    """The bitmap of each block."""
    return _tails(packed)["bitmap"].astype(np.uint64)


def _tails(packed: PackedBlocks) -> npt.NDArray[np.void]:
    return np.frombuffer(packed, dtype=_TAILS, offset=_ROW_BYTES * blocks_in(packed))


def age_span(packed: PackedBlocks) -> Span:
    """Earliest and latest `first stored` in a log with one block at least."""
    if blocks_in(packed) > _FEW_BLOCKS:
        tails = _tails(packed)
        oldest_s, newest_s = int(tails["oldest_s"].min()), int(tails["newest_s"].max())
    else:
        spans = list(_TAIL.iter_unpack(memoryview(packed)[_ROW_BYTES * blocks_in(packed) :]))
        oldest_s, newest_s = min(oldest for _, oldest, _ in spans), max(newest for _, _, newest in spans)
    return Span(oldest_s, newest_s if newest_s < AGE_MAX_S else _FOREVER_S)


def restrict(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    """The blocks of which everything is alive, and the numbers of those of which a part may be."""
    if blocks_in(packed) <= _FEW_BLOCKS:
        return _restrict_few(packed, alive_from_s)
    tails = _tails(packed)
    whole = tails["oldest_s"].astype(np.int64) >= alive_from_s
    partly = ~whole & (tails["newest_s"].astype(np.int64) >= min(alive_from_s, AGE_MAX_S))
    rows = np.frombuffer(packed, dtype=np.dtype(f"V{_ROW_BYTES}"), count=len(tails))
    return rows[whole].tobytes() + tails[whole].tobytes(), numbers(packed)[partly].tolist()


def _restrict_few(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    rows: list[bytes] = []
    tails: list[bytes] = []
    partly: list[int] = []
    for number, block in unpack(packed):
        _, oldest_s, newest_s = _TAIL.unpack(block.tail)
        if oldest_s >= alive_from_s:
            rows.append(block.row)
            tails.append(block.tail)
        elif newest_s >= min(alive_from_s, AGE_MAX_S):
            partly.append(number)
    return b"".join(rows + tails), partly


def unpack(packed: PackedBlocks) -> list[tuple[int, Block]]:
    """The blocks, each with its number, as `splice` takes them."""
    count = blocks_in(packed)
    tails = (packed[at : at + _TAIL_BYTES] for at in range(_ROW_BYTES * count, len(packed), _TAIL_BYTES))
    return [
        (int.from_bytes(row[:8], "big"), Block(row, tail))
        for row, tail in zip((row_at(packed, index) for index in range(count)), tails, strict=True)
    ]
