"""Runs of sequence numbers out of the bitmaps of blocks, for any number of logs at once.

A bit of a bitmap is a seq of its block that is held. A run begins at a bit that has none before it and ends at one that
has none behind it, where the first bit of a block follows the last one of the block before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from node.sync.index_blocks import PackedBlocks, few_bitmaps, pairs, rows_in, tails_in
from protocols.limits.sync import BLOCK_SEQS, LOG_RUNS_MAX
from protocols.sync.effects import Runs

__all__ = ["runs_of", "runs_of_one"]

_U64Array = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
_TOP = np.uint64(BLOCK_SEQS - 1)


def runs_of(blocks: npt.NDArray[np.int64], numbers: _U64Array, bitmaps: _U64Array) -> Runs:
    """The runs of some logs, of which log i has the next `blocks[i]` blocks: ascending numbers, bitmaps that are not 0.

    The lowest bit of a bitmap is the block's lowest seq.
    """
    log = np.repeat(np.arange(len(blocks)), blocks)
    joined = (log[1:] == log[:-1]) & (numbers[1:] == numbers[:-1] + _ONE)
    joined &= (bitmaps[:-1] >> _TOP & bitmaps[1:] & _ONE) != 0
    starts = bitmaps & ~(bitmaps << _ONE)
    starts[1:][joined] &= ~_ONE
    ends = bitmaps & ~(bitmaps >> _ONE)
    ends[:-1][joined] &= ~(_ONE << _TOP)
    found = np.concatenate(([0], np.cumsum(np.bitwise_count(starts), dtype=np.int64)))
    counts = np.diff(found[np.concatenate(([0], np.cumsum(blocks)))])
    ragged = counts > LOG_RUNS_MAX
    if ragged.any():
        counts[ragged] = 0
        starts[ragged[log]] = ends[ragged[log]] = 0
    return Runs(counts, _positions(numbers, starts), _positions(numbers, ends))


def runs_of_one(log: PackedBlocks) -> list[tuple[int, int]]:
    """The runs (first, last) of one short log; none if there are too many."""
    runs: list[tuple[int, int]] = []
    for (number, _), bitmap in zip(pairs(rows_in(log)), few_bitmaps(tails_in(log)), strict=True):
        first, left = number * BLOCK_SEQS, bitmap
        while left:
            zeros = (left & -left).bit_length() - 1
            left >>= zeros
            ones = (~left & left + 1).bit_length() - 1
            left >>= ones
            first += zeros
            if runs and runs[-1][1] + 1 == first:
                runs[-1] = runs[-1][0], first + ones - 1
            else:
                runs.append((first, first + ones - 1))
            first += ones
    return runs if len(runs) <= LOG_RUNS_MAX else []


def _positions(numbers: _U64Array, bits: _U64Array) -> _U64Array:
    """The seqs of all bits that are set, in their order."""
    counts = np.bitwise_count(bits).astype(np.int64)
    found = np.empty(counts.sum(), dtype=np.uint64)
    at = np.cumsum(counts) - counts
    base = numbers * np.uint64(BLOCK_SEQS)
    while True:  # one bit of each block at a time: most have one, none more than half of BLOCK_SEQS
        left = np.flatnonzero(bits)
        if len(left) < len(bits):
            bits, at, base = bits[left], at[left], base[left]
        if not len(bits):
            return found
        found[at] = base + np.bitwise_count(~bits & (bits - _ONE))
        bits = bits & (bits - _ONE)
        at = at + 1
