"""The blocks of one log, packed into one bytes object of 40 bytes a block.

    n rows of 24 bytes: block number (big-endian), block digest     ascending; `log_state` hashes exactly these bytes
    n ages of 16 bytes: earliest and latest `first stored` (Unix seconds, signed, little-endian)

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

from protocols.limits import DIGEST_BYTES, DIGEST_STATE_BYTES
from protocols.model import Item

__all__ = [
    "Block",
    "PackedBlocks",
    "Span",
    "age_span",
    "block_of",
    "blocks_in",
    "find",
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
_AGES: Final = struct.Struct("<qq")
_ROW_BYTES: Final = _ROW.size
_AGES_BYTES: Final = _AGES.size

_BLOCK_BYTES: Final = _ROW_BYTES + _AGES_BYTES
_FEW_BLOCKS: Final = 16
"""Up to so many blocks plain Python is faster than setting numpy up."""

_Ages: TypeAlias = npt.NDArray[np.int64]


class Span(NamedTuple):
    """Earliest and latest `first stored` of something, in Unix seconds."""

    oldest_s: int
    newest_s: int


class Block(NamedTuple):
    """One block as it is packed: 24 bytes of row, 16 bytes of ages."""

    row: bytes
    ages: bytes


def block_of(number: int, items: Sequence[Item]) -> Block:
    """A block that holds `items` (one at least, ascending by seq and digest); the digest is that of `block_digest`."""
    pack = _ITEM.pack
    digest = blake3(b"".join([pack(seq, digest, first_s) for seq, digest, first_s, _ in items]))
    ages = [item.first_stored_s for item in items]
    return Block(
        _ROW.pack(number, digest.digest(length=DIGEST_STATE_BYTES)),
        _AGES.pack(min(ages), max(ages)),
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
    start = _ROW_BYTES * count + _AGES_BYTES * index
    return Block(row, packed[start : start + _AGES_BYTES])


def splice(packed: PackedBlocks, changes: Sequence[tuple[int, Block | None]]) -> PackedBlocks:
    """`packed` with some blocks replaced, added, or (None) removed. `changes` ascend by block number."""
    count = blocks_in(packed)
    source = memoryview(packed)
    rows: list[bytes | memoryview] = []
    ages: list[bytes | memoryview] = []
    at = 0

    def keep(until: int) -> None:
        if until > at:
            rows.append(source[_ROW_BYTES * at : _ROW_BYTES * until])
            ages.append(source[_ROW_BYTES * count + _AGES_BYTES * at : _ROW_BYTES * count + _AGES_BYTES * until])

    for number, block in changes:
        key = number.to_bytes(8, "big")
        here = row_at(packed, at)[:8]
        index = at if here >= key or at == count else find(packed, number, at)
        keep(index)
        at = index + (row_at(packed, index)[:8] == key)
        if block is not None:
            rows.append(block.row)
            ages.append(block.ages)
    keep(count)
    return b"".join(rows + ages)


def state_of(packed: PackedBlocks) -> bytes:
    """The log's state: `reconcile.log_state` of its blocks."""
    rows = memoryview(packed)[: _ROW_BYTES * blocks_in(packed)]
    return blake3(rows).digest(length=DIGEST_STATE_BYTES)


def pairs(packed: PackedBlocks) -> list[tuple[int, bytes]]:
    """(block number, block digest) of each block, ascending."""
    return list(_ROW.iter_unpack(memoryview(packed)[: _ROW_BYTES * blocks_in(packed)]))


def _ages(packed: PackedBlocks) -> _Ages:
    """One row of (oldest, newest) for each block."""
    flat = np.frombuffer(packed, dtype="<i8", offset=_ROW_BYTES * blocks_in(packed))
    return flat.astype(np.int64, copy=False).reshape(-1, 2)


def age_span(packed: PackedBlocks) -> Span:
    """Earliest and latest `first stored` in a log with one block at least."""
    if blocks_in(packed) > _FEW_BLOCKS:
        ages = _ages(packed)
        return Span(int(ages[:, 0].min()), int(ages[:, 1].max()))
    spans = list(_AGES.iter_unpack(memoryview(packed)[_ROW_BYTES * blocks_in(packed) :]))
    return Span(min(oldest for oldest, _ in spans), max(newest for _, newest in spans))


def restrict(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    """The blocks of which everything is alive, and the numbers of those of which only a part is.

    `alive_from_s` must lie within the log's age span.
    """
    if blocks_in(packed) <= _FEW_BLOCKS:
        return _restrict_few(packed, alive_from_s)
    ages = _ages(packed)
    whole = ages[:, 0] >= alive_from_s
    partly = np.flatnonzero(~whole & (ages[:, 1] >= alive_from_s))
    rows = np.frombuffer(packed, dtype=np.dtype(f"V{_ROW_BYTES}"), count=len(ages))
    numbers = [int.from_bytes(row_at(packed, index)[:8], "big") for index in partly.tolist()]
    return rows[whole].tobytes() + ages[whole].astype("<i8", copy=False).tobytes(), numbers


def _restrict_few(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    rows: list[bytes] = []
    ages: list[bytes] = []
    partly: list[int] = []
    for number, block in unpack(packed):
        oldest_s, newest_s = _AGES.unpack(block.ages)
        if oldest_s >= alive_from_s:
            rows.append(block.row)
            ages.append(block.ages)
        elif newest_s >= alive_from_s:
            partly.append(number)
    return b"".join(rows + ages), partly


def unpack(packed: PackedBlocks) -> list[tuple[int, Block]]:
    """The blocks, each with its number, as `splice` takes them."""
    count = blocks_in(packed)
    ages = (packed[at : at + _AGES_BYTES] for at in range(_ROW_BYTES * count, len(packed), _AGES_BYTES))
    return [
        (int.from_bytes(row[:8], "big"), Block(row, age))
        for row, age in zip((row_at(packed, index) for index in range(count)), ages, strict=True)
    ]
