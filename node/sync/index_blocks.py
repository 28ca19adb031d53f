"""The blocks of a log, packed into one bytes object of 40 bytes a block.

    n rows of 24 bytes: block number (big-endian), block digest     ascending; `log_state` hashes exactly these bytes
    n tails of 16 bytes: bitmap of the seqs held (lowest bit: lowest seq), earliest and latest `first stored`
                         (Unix seconds, 4 bytes each), little-endian

`first stored` is never negative. Beyond AGE_MAX_S (the year 2106) it is cut down to that, which as an earliest one
says "then or later", and as a latest one says nothing at all: such blocks are read when it matters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from node.store.api import ItemColumns
from protocols.limits.data import DIGEST_BYTES
from protocols.limits.sync import BLOCK_SEQS, DIGEST_STATE_BYTES

__all__ = [
    "AGE_MAX_S",
    "ROW_BYTES",
    "TAILS",
    "TAIL_BYTES",
    "Block",
    "Blocks",
    "PackedBlocks",
    "ages",
    "bitmaps",
    "blocks_in",
    "blocks_of",
    "few_bitmaps",
    "find",
    "numbers",
    "pack",
    "pairs",
    "parts_of",
    "restrict",
    "row_at",
    "rows_in",
    "splice",
    "state_of",
    "tails_in",
    "take",
    "unpack",
]

PackedBlocks: TypeAlias = bytes

AGE_MAX_S: Final = 2**32 - 1

TAILS: Final = np.dtype([("bitmap", "<u8"), ("oldest_s", "<u4"), ("newest_s", "<u4")])
ROW_BYTES: Final = 8 + DIGEST_STATE_BYTES
TAIL_BYTES: Final = TAILS.itemsize

_ROW: Final = struct.Struct(f">Q{DIGEST_STATE_BYTES}s")
_TAIL: Final = struct.Struct("<QII")
_ROWS: Final = np.dtype([("number", ">u8"), ("digest", f"V{DIGEST_STATE_BYTES}")])
_BLOCK_BYTES: Final = ROW_BYTES + TAIL_BYTES
_ITEM: Final = struct.Struct(f">Q{DIGEST_BYTES}sq")
_ITEMS: Final = np.dtype([("seq", ">u8"), ("digest", f"V{DIGEST_BYTES}"), ("first_stored_s", ">i8")])
"""What `reconcile.block_digest` hashes of an item."""

_FEW_BLOCKS: Final = 16
_FEW_ITEMS: Final = 48
"""Up to so many blocks, or messages in them, plain Python is faster than setting numpy up."""


class Block(NamedTuple):
    """One block as it is packed: 24 bytes of row, 16 bytes of tail."""

    row: bytes
    tail: bytes


class Blocks(NamedTuple):
    """The blocks of several logs (or spans of them) in columns: the i-th has the next `counts[i]`, ascending."""

    counts: npt.NDArray[np.int64]
    rows: bytes
    tails: bytes

    def each(self) -> Iterator[list[tuple[int, Block]]]:
        """The blocks of one after the other, each block with its number."""
        at = 0
        for count in self.counts.tolist():
            yield _numbered(self.rows, self.tails, at, at + count)
            at += count


def _numbered(rows: bytes, tails: bytes, lo: int, hi: int) -> list[tuple[int, Block]]:
    found: list[tuple[int, Block]] = []
    for at in range(lo, hi):
        row = rows[ROW_BYTES * at : ROW_BYTES * (at + 1)]
        found.append((int.from_bytes(row[:8], "big"), Block(row, tails[TAIL_BYTES * at : TAIL_BYTES * (at + 1)])))
    return found


def blocks_of(items: ItemColumns) -> Blocks:
    """The blocks that hold `items`; their digests are those of `block_digest`."""
    counts, seqs, digests, first_stored_s = items
    if not len(seqs):
        return Blocks(np.zeros(len(counts), np.int64), b"", b"")
    if len(seqs) <= _FEW_ITEMS:
        return _blocks_of_few(counts.tolist(), seqs.tolist(), digests, first_stored_s.tolist())
    hashed = np.empty(len(seqs), _ITEMS)
    hashed["seq"], hashed["first_stored_s"] = seqs, first_stored_s
    hashed["digest"] = np.frombuffer(digests, hashed.dtype["digest"])
    group = np.repeat(np.arange(len(counts)), counts)
    number = seqs // np.uint64(BLOCK_SEQS)
    starts = np.flatnonzero((group[1:] != group[:-1]) | (number[1:] != number[:-1])) + 1
    starts = np.concatenate(([0], starts))
    source = memoryview(hashed.tobytes())
    bounds = (np.append(starts, len(seqs)) * _ITEMS.itemsize).tolist()
    rows = np.empty(len(starts), _ROWS)
    rows["number"] = number[starts]
    rows["digest"] = np.frombuffer(
        b"".join([blake3(source[lo:hi]).digest(length=DIGEST_STATE_BYTES) for lo, hi in pairwise(bounds)]),
        _ROWS["digest"],
    )
    tails = np.empty(len(starts), TAILS)
    tails["bitmap"] = np.bitwise_or.reduceat(np.uint64(1) << seqs % np.uint64(BLOCK_SEQS), starts)
    tails["oldest_s"] = np.minimum(np.minimum.reduceat(first_stored_s, starts), AGE_MAX_S)
    tails["newest_s"] = np.minimum(np.maximum.reduceat(first_stored_s, starts), AGE_MAX_S)
    return Blocks(np.bincount(group[starts], minlength=len(counts)), rows.tobytes(), tails.tobytes())


def _blocks_of_few(counts: Sequence[int], seqs: Sequence[int], digests: bytes, first_stored_s: Sequence[int]) -> Blocks:
    rows: list[bytes] = []
    tails: list[bytes] = []
    found: list[int] = []
    at = 0
    for count in counts:
        before, until = len(rows), at + count
        while at < until:
            start, number, bitmap = at, seqs[at] // BLOCK_SEQS, 0
            hashed: list[bytes] = []
            while at < until and seqs[at] // BLOCK_SEQS == number:
                digest = digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)]
                hashed.append(_ITEM.pack(seqs[at], digest, first_stored_s[at]))
                bitmap |= 1 << seqs[at] % BLOCK_SEQS
                at += 1
            ages_s = first_stored_s[start:at]
            rows.append(_ROW.pack(number, blake3(b"".join(hashed)).digest(length=DIGEST_STATE_BYTES)))
            tails.append(_TAIL.pack(bitmap, min(*ages_s, AGE_MAX_S), min(max(ages_s), AGE_MAX_S)))
        found.append(len(rows) - before)
    return Blocks(np.array(found, np.int64), b"".join(rows), b"".join(tails))


def parts_of(count: int, size: int) -> Iterator[tuple[int, int]]:
    """0..count-1 in as few even parts (lo..hi-1) of `size` at the most as it takes."""
    parts = -(-count // size)
    return ((count * part // parts, count * (part + 1) // parts) for part in range(parts))


def pack(blocks: Sequence[Block]) -> PackedBlocks:
    """Blocks in ascending order, packed."""
    return b"".join([block.row for block in blocks] + [block.tail for block in blocks])


def unpack(packed: PackedBlocks) -> list[tuple[int, Block]]:
    """The blocks, each with its number, as `splice` takes them."""
    count = blocks_in(packed)
    return _numbered(packed, packed[ROW_BYTES * count :], 0, count)


def blocks_in(packed: PackedBlocks) -> int:
    """How many blocks there are."""
    return len(packed) // _BLOCK_BYTES


def rows_in(packed: PackedBlocks) -> memoryview:
    """The rows of all blocks."""
    return memoryview(packed)[: ROW_BYTES * blocks_in(packed)]


def tails_in(packed: PackedBlocks) -> memoryview:
    """The tails of all blocks."""
    return memoryview(packed)[ROW_BYTES * blocks_in(packed) :]


def find(packed: PackedBlocks, number: int, lo: int = 0) -> int:
    """The index of the first block with this number or a higher one, at `lo` or after it."""
    key = number.to_bytes(8, "big")
    hi = blocks_in(packed)
    while lo < hi:
        middle = (lo + hi) // 2
        if packed[ROW_BYTES * middle : ROW_BYTES * middle + 8] < key:
            lo = middle + 1
        else:
            hi = middle
    return lo


def row_at(packed: PackedBlocks, index: int) -> bytes:
    """The row of a block; empty behind the last one."""
    return packed[ROW_BYTES * index : ROW_BYTES * (index + 1)] if index < blocks_in(packed) else b""


def take(packed: PackedBlocks, number: int) -> Block | None:
    """A block by its number, None if it is not there."""
    index, count = find(packed, number), blocks_in(packed)
    row = row_at(packed, index)
    if row[:8] != number.to_bytes(8, "big"):
        return None
    start = ROW_BYTES * count + TAIL_BYTES * index
    return Block(row, packed[start : start + TAIL_BYTES])


def splice(packed: PackedBlocks, changes: Sequence[tuple[int, Block | None]]) -> PackedBlocks:
    """`packed` with some blocks replaced, added, or (None) removed. `changes` ascend by block number."""
    count = blocks_in(packed)
    source = memoryview(packed)
    rows: list[bytes | memoryview] = []
    tails: list[bytes | memoryview] = []
    at = 0

    def keep(until: int) -> None:
        if until > at:
            rows.append(source[ROW_BYTES * at : ROW_BYTES * until])
            tails.append(source[ROW_BYTES * count + TAIL_BYTES * at : ROW_BYTES * count + TAIL_BYTES * until])

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


def state_of(rows: bytes | memoryview) -> bytes:
    """The state of a log that has the blocks with these rows: `reconcile.log_state`."""
    return blake3(rows).digest(length=DIGEST_STATE_BYTES)


def pairs(rows: bytes | memoryview) -> list[tuple[int, bytes]]:
    """(block number, block digest) of each row, ascending."""
    return list(_ROW.iter_unpack(rows))


def numbers(rows: bytes | memoryview) -> npt.NDArray[np.uint64]:
    """The block number of each row, ascending."""
    return np.frombuffer(rows, ">u8")[:: ROW_BYTES // 8].astype(np.uint64)


def bitmaps(tails: bytes | memoryview) -> npt.NDArray[np.uint64]:
    """The bitmap of each tail."""
    return np.frombuffer(tails, TAILS)["bitmap"].astype(np.uint64)


def few_bitmaps(tails: bytes | memoryview) -> list[int]:
    """The same without numpy, which is quicker for few."""
    return [bitmap for bitmap, _, _ in _TAIL.iter_unpack(tails)]


class Ages(NamedTuple):
    """For each block: whether everything in it is alive, and whether only a part may be."""

    alive: npt.NDArray[np.bool_]
    partly: npt.NDArray[np.bool_]


def ages(tails: bytes | memoryview, alive_from_s: int) -> Ages:
    """How the blocks with these tails stand to a boundary >= 0."""
    columns = np.frombuffer(tails, TAILS)
    alive = columns["oldest_s"].astype(np.int64) >= alive_from_s
    return Ages(alive, ~alive & (columns["newest_s"].astype(np.int64) >= min(alive_from_s, AGE_MAX_S)))


def restrict(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    """The blocks of which everything is alive, and the numbers of those of which only a part may be."""
    if blocks_in(packed) <= _FEW_BLOCKS:
        return _restrict_few(packed, alive_from_s)
    alive, partly = ages(tails_in(packed), alive_from_s)
    rows, tails = np.frombuffer(rows_in(packed), _ROWS), np.frombuffer(tails_in(packed), TAILS)
    return rows[alive].tobytes() + tails[alive].tobytes(), rows["number"][partly].tolist()


def _restrict_few(packed: PackedBlocks, alive_from_s: int) -> tuple[PackedBlocks, list[int]]:
    alive: list[Block] = []
    partly: list[int] = []
    for number, block in unpack(packed):
        _, oldest_s, newest_s = _TAIL.unpack(block.tail)
        if oldest_s >= alive_from_s:
            alive.append(block)
        elif newest_s >= min(alive_from_s, AGE_MAX_S):
            partly.append(number)
    return pack(alive), partly
