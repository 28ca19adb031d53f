"""How the index reads blocks from the store, and how it leaves others their turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import trio

from node.aside import aside
from node.store.api import ItemColumns, ItemSource, ScanPage
from node.sync.index_blocks import Block, Blocks, blocks_of
from protocols.limits.data import DIGEST_BYTES, SEQ_MAX
from protocols.limits.replication import INDEX_INLINE_BYTES, INDEX_SLICE_BLOCKS, INDEX_SLICE_MESSAGES
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import LogName
from protocols.sync.common import runs

__all__ = ["BlockPage", "Found", "Pace", "overlapped", "read_blocks", "scan_blocks", "sized"]

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
    return await aside(work)


class BlockPage(NamedTuple):
    """A part of a scan: the blocks of the logs `names`, which are all that these have up to here.

    The first log goes on where the page before has stopped. `goes_on_at` is the number of the block with which the last
    one may go on in the next page; None at the end.
    """

    names: Sequence[LogName]
    blocks: Blocks
    goes_on_at: int | None


async def scan_blocks(store: ItemSource, pace: Pace) -> AsyncGenerator[BlockPage, None]:
    """All blocks in the store. The last one of each page of the store's scan is held back, as the next page may go on
    with it. Raises StoreUnavailable."""
    held: ScanPage | None = None
    async with aclosing(store.scan()) as pages:
        async for page in pages:
            names, whole, last = _without_last_block(_joined(held, page) if held else page)
            held = ScanPage(names[-1:], last)
            await pace.spend(messages=len(whole.seqs))
            yield BlockPage(names, blocks_of(whole), int(last.seqs[0]) // BLOCK_SEQS)
    if held:
        yield BlockPage(held.names, blocks_of(held.items), None)


def _joined(held: ScanPage, page: ScanPage) -> ScanPage:
    """The block that was held back, and what follows it."""
    names, items = [*held.names, *page.names], [held.items, page.items]
    counts = np.concatenate([one.counts for one in items])
    seqs = np.concatenate([one.seqs for one in items])
    if names[0] == names[1] and held.items.seqs[-1] <= page.items.seqs[0]:
        counts = np.append(counts[0] + counts[1], counts[2:])
        del names[0]
    first_stored_s = np.concatenate([one.first_stored_s for one in items])
    return ScanPage(names, ItemColumns(counts, seqs, b"".join([one.digests for one in items]), first_stored_s))


def _without_last_block(page: ScanPage) -> tuple[Sequence[LogName], ItemColumns, ItemColumns]:
    """The names, the items without those of the last block, and these."""
    counts, seqs, digests, first_stored_s = page.items
    last = len(seqs) - int(counts[-1])
    cut = last + int(np.searchsorted(seqs[last:], seqs[-1] // np.uint64(BLOCK_SEQS) * np.uint64(BLOCK_SEQS)))
    held = len(seqs) - cut
    whole = ItemColumns(
        np.append(counts[:-1], counts[-1] - held), seqs[:cut], digests[: DIGEST_BYTES * cut], first_stored_s[:cut]
    )
    rest = ItemColumns(np.array([held]), seqs[cut:], digests[DIGEST_BYTES * cut :], first_stored_s[cut:])
    return page.names, whole, rest


async def overlapped(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Runs jobs in their order, two at a time: the store reads for one while the other's blocks are hashed.

    If one fails, the other is cancelled, no more are begun, and what it raised is raised.
    """
    if len(jobs) == 1:
        await jobs[0]()
        return
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


Found: TypeAlias = list[tuple[LogName, list[tuple[int, Block | None]]]]
"""Blocks of some logs by number, ascending; None for those that hold nothing. A log may come in several parts."""


async def read_blocks(
    store: ItemSource, wanted: Mapping[LogName, Sequence[int]], *, alive_from_s: int = 0
) -> AsyncIterator[Found]:
    """Some blocks of some logs (ascending in each), as they are without what is older than a boundary; a few hundred at
    a time.

    A request to the store costs more than the few blocks that it mostly is about, so they share one.
    Raises StoreUnavailable.
    """
    adjacent = ((name, *run) for name, blocks in wanted.items() for run in runs(blocks, length_max=INDEX_SLICE_BLOCKS))
    for batch in _batches(adjacent):
        items = await store.columns_of(
            [(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX)) for name, first, last in batch],
            alive_from_s=alive_from_s,
        )
        found: Found = []
        for (name, first, last), blocks in zip(batch, blocks_of(items).each(), strict=True):
            held = dict(blocks)
            found.append((name, [(number, held.get(number)) for number in range(first, last + 1)]))
        yield found


def _batches(adjacent: Iterable[tuple[LogName, int, int]]) -> Iterator[list[tuple[LogName, int, int]]]:
    """Runs of blocks, put together to INDEX_SLICE_BLOCKS or less."""
    batch: list[tuple[LogName, int, int]] = []
    blocks = 0
    for name, first, last in adjacent:
        if batch and blocks + last - first + 1 > INDEX_SLICE_BLOCKS:
            yield batch
            batch, blocks = [], 0
        batch.append((name, first, last))
        blocks += last - first + 1
    if batch:
        yield batch
