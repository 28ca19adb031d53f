"""How the index reads the store: a few blocks, or everything, in slices that leave others their turn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from node.store.api import LogItems, Store
from node.sync.index_blocks import Block, PackedBlocks, block_of
from protocols.limits import BLOCK_SEQS, INDEX_INLINE_BYTES, INDEX_SLICE_BLOCKS, INDEX_SLICE_MESSAGES, SEQ_MAX
from protocols.model import Item, LogName

__all__ = ["Pace", "packed_logs", "read_blocks", "sized"]

T = TypeVar("T")


class Pace:
    """Gives others their turn after every few milliseconds of work."""

    def __init__(self) -> None:
        self._done = 0.0

    async def spend(self, *, blocks: int = 0, messages: int = 0) -> None:
        """Notes work that was done: so many blocks (or logs) visited, so many messages hashed."""
        self._done += blocks / INDEX_SLICE_BLOCKS + messages / INDEX_SLICE_MESSAGES
        if self._done >= 1:
            self._done = 0.0
            await trio.lowlevel.checkpoint()


async def sized(size_bytes: int, work: Callable[[], T]) -> T:
    """The result of `work`, which goes over so many bytes: done at once, or in a thread if that would take long."""
    if size_bytes <= INDEX_INLINE_BYTES:
        return work()
    return await trio.to_thread.run_sync(work)


async def read_blocks(
    store: Store, wanted: Mapping[LogName, Sequence[int]], pace: Pace
) -> AsyncIterator[tuple[LogName, int, Sequence[Item]]]:
    """Items of some blocks of some logs (ascending in each), block by block; empty ones included.

    A request to the store costs more than the few blocks that it mostly is about, so they share one.
    Raises StoreUnavailable.
    """
    for runs in _batches((name, *run) for name, numbers in wanted.items() for run in _runs(numbers)):
        found = await store.items_of(
            [(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX)) for name, first, last in runs]
        )
        for (name, first, last), items in zip(runs, found, strict=True):
            held = dict(_by_block(items))
            for number in range(first, last + 1):
                block = held.get(number, ())
                yield name, number, block
                await pace.spend(blocks=1, messages=len(block))


def _batches(runs: Iterable[tuple[LogName, int, int]]) -> Iterator[list[tuple[LogName, int, int]]]:
    """Runs of blocks, put together to INDEX_SLICE_BLOCKS or less."""
    batch: list[tuple[LogName, int, int]] = []
    blocks = 0
    for name, first, last in runs:
        if batch and blocks + last - first + 1 > INDEX_SLICE_BLOCKS:
            yield batch
            batch, blocks = [], 0
        batch.append((name, first, last))
        blocks += last - first + 1
    if batch:
        yield batch


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, last) runs without gaps, none longer than INDEX_SLICE_BLOCKS."""
    first = last = -2
    for number in numbers:
        if number == last + 1 and number - first < INDEX_SLICE_BLOCKS:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


def _by_block(items: Sequence[Item]) -> Iterator[tuple[int, Sequence[Item]]]:
    """Ascending items, cut into blocks: (block number, its items)."""
    start = 0
    while start < len(items):
        number = items[start].seq // BLOCK_SEQS
        behind = ((number + 1) * BLOCK_SEQS,)
        end = start + BLOCK_SEQS  # as good as always the block ends here or before
        if end < len(items) and items[end] < behind:
            end = len(items)
        end = bisect_left(items, behind, start, min(end, len(items)))
        yield number, items[start:end]
        start = end


class _Packing:
    """One log while a scan passes it. Its last block stays open: the next part may go on with it."""

    def __init__(self, name: LogName) -> None:
        self.name = name
        self._rows = bytearray()
        self._tails = bytearray()
        self._number = -1
        self._items: list[Item] = []

    def add(self, number: int, items: Sequence[Item]) -> None:
        """Takes more of the log, behind what it has."""
        if number != self._number:
            self._close()
            self._number = number
        self._items += items

    def _close(self) -> None:
        if self._items:
            block: Block = block_of(self._number, self._items)
            self._rows += block.row
            self._tails += block.tail
            self._items = []

    def packed(self) -> PackedBlocks:
        self._close()
        return bytes(self._rows + self._tails)


async def packed_logs(parts: AsyncIterator[LogItems], pace: Pace) -> AsyncIterator[tuple[LogName, PackedBlocks]]:
    """The logs of a scan, put together from their parts as long as these follow each other."""
    packing: _Packing | None = None
    async for name, items in parts:
        if packing is None or name != packing.name:
            if packing is not None:
                yield packing.name, packing.packed()
            packing = _Packing(name)
        for number, held in _by_block(items):
            packing.add(number, held)
            await pace.spend(blocks=1, messages=len(held))
    if packing is not None:
        yield packing.name, packing.packed()
