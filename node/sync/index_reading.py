"""How the index reads blocks from the store, and how it leaves others their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from node.store.api import Store
from node.sync.index_blocks import Block, blocks_of
from protocols.limits import (
    BLOCK_SEQS,
    INDEX_INLINE_BYTES,
    INDEX_SLICE_BLOCKS,
    INDEX_SLICE_MESSAGES,
    SEQ_MAX,
)
from protocols.model import LogName

__all__ = ["Pace", "overlapped", "read_blocks", "sized"]

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


async def overlapped(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Runs jobs in their order, two at a time: the store reads for one while the other's blocks are hashed.

    If one fails, the other is cancelled, no more are begun, and what it raised is raised.
    """
    failures: list[Exception] = []
    slots = trio.Semaphore(2)

    async def run(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Exception as error:
            failures.append(error)
            nursery.cancel_scope.cancel()
        finally:
            slots.release()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            await slots.acquire()
            nursery.start_soon(run, job)
    if failures:
        raise failures[0]


async def read_blocks(
    store: Store, wanted: Mapping[LogName, Sequence[int]], pace: Pace, *, alive_from_s: int = 0
) -> AsyncIterator[tuple[LogName, list[tuple[int, Block | None]]]]:
    """Some blocks of some logs (ascending in each), as they are without what is older than a boundary; None for empty
    ones. A log may come in several parts.

    A request to the store costs more than the few blocks that it mostly is about, so they share one.
    Raises StoreUnavailable.
    """
    for runs in _batches((name, *run) for name, numbers in wanted.items() for run in _runs(numbers)):
        items = await store.columns_of(
            [(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX)) for name, first, last in runs],
            alive_from_s=alive_from_s,
        )
        await pace.spend(messages=len(items.seqs))
        for (name, first, last), blocks in zip(runs, blocks_of(items).each(), strict=True):
            held = dict(blocks)
            yield name, [(number, held.get(number)) for number in range(first, last + 1)]
            await pace.spend(blocks=last - first + 1)


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
