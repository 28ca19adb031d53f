"""The index: for every log its blocks' digests and its state, kept equal to the store.

It holds no message: a change only marks the blocks it touched, and whoever needs a picture has the marked blocks read
again from the store. So it can't drift, whatever order changes are told in.

How it is made, from the bottom up: `index_blocks` (the blocks of a short log), `index_log` (of any log), `index_leaf`
(some hundred logs in packed columns), `index_edit` (leaves out of leaves), `index_view` (all logs, immutable),
`index_boundaries` (pictures that leave out what is too old), `index_interests` (pictures of some topics), `index_load`
(the first picture), and here what keeps it up to date. All work is cut into slices of a few milliseconds; none needs a
thread, but for logs of absurd shapes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter

import trio

from node.store.api import Change, ItemSource
from node.sync.index_blocks import Block, few_bitmaps
from node.sync.index_boundaries import Boundaries
from node.sync.index_edit import edit, gather
from node.sync.index_interests import Interests
from node.sync.index_leaf import Entry, Leaf, entry_of
from node.sync.index_load import load
from node.sync.index_log import Log, length_of, spliced, taken, work_bytes
from node.sync.index_reading import Pace, overlapped, read_blocks, sized
from node.sync.index_view import IndexView
from protocols.limits.replication import (
    INDEX_CHANGE_BYTES,
    INDEX_MARKS_MAX,
    INDEX_PORTION_BLOCKS,
    INDEX_SERIAL_BITS,
    INDEX_SLICE_BLOCKS,
)
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import LogName, handle_of
from protocols.sync.deliveries import Deliveries
from protocols.sync.interest import Interest

__all__ = ["IndexView", "LogIndex"]


class LogIndex:
    """Follows a store. `load` once at the start, then `view` whenever a picture is needed.

    `own_boundary` tells from which first stored on messages are alive by our own rule; pictures for other boundaries
    are rationed. `serial` is that of the first picture (INDEX_SERIAL_BITS bits), by default at random.
    """

    def __init__(
        self, store: ItemSource, *, own_boundary: Callable[[], int] = lambda: 0, serial: int | None = None
    ) -> None:
        self._store = store
        self._lock = trio.Lock()
        self._stale: dict[LogName, set[int]] = {}
        """Numbers of the blocks that have changed since they were read."""
        self._marks = 0
        self._are_many = trio.Event()
        self._staged: dict[bytes, Entry | None] = {}
        """Logs that have been read (None: they are gone) but are not in `_view` yet."""
        # At random, and with room below 2^53: a serial from before a restart must never be taken for one of ours.
        if serial is None:
            serial = secrets.randbits(INDEX_SERIAL_BITS)
        self._view = IndexView(serial=serial, serials_from=serial)
        self._boundaries = Boundaries(store, own_boundary)
        self._interests = Interests()
        store.subscribe(self._on_change)

    async def load(self) -> None:
        """Reads the whole store. Changes that come in meanwhile are not lost. Raises StoreUnavailable."""
        async with self._lock:
            self._replace(await load(self._store, self._view.serial + 1))

    async def view(self, alive_from_s: int, interest: Interest | None = None) -> IndexView:
        """A picture of all messages with first stored >= `alive_from_s` as they are now, of the topics of `interest`
        (None: all). Returns at once if it is there already. Raises StoreUnavailable."""
        if self._stale or self._staged or self._lock.locked():
            await self._be_up_to_date()
        whole = self._view
        self._interests.drop_unused()
        view = await self._boundaries.view(whole, alive_from_s)
        return view if interest is None else await self._interests.view(view, alive_from_s, interest)

    def has_states(self, states: Mapping[bytes, bytes], prefix_bytes: int) -> bool:
        """Whether the last picture has exactly these states (their beginnings) of these logs, by handle. It may be a
        moment old, and leaves nothing out for its age: a no means nothing, a yes that they are or were held here."""
        view = self._view
        return all((view.state(handle) or b"")[:prefix_bytes] == prefix for handle, prefix in states.items())

    def holds(self, name: LogName, seq: int) -> bool:
        """Whether the last picture, which may be a moment old, has a message, be it too old to be served."""
        block = taken(self._view.log(handle_of(name)), seq // BLOCK_SEQS)
        return block is not None and bool(few_bitmaps(block.tail)[0] >> seq % BLOCK_SEQS & 1)

    def blocks_held(self) -> int:
        """How many blocks there are, as of the last picture."""
        return sum(leaf.blocks_held() for leaf in self._view.leaves)

    async def keep_up(self) -> None:
        """Until cancelled, reads what has changed if nobody asks for it for too long."""
        while True:
            await self._are_many.wait()
            await self.view(0)

    def mark(self, name: LogName, number: int) -> None:
        """Notes that a block is to be read anew, for the next picture."""
        self._boundaries.touch(name, number)
        numbers = self._stale.setdefault(name, set())
        if number not in numbers:
            numbers.add(number)
            self._marks += 1
            if self._marks == INDEX_MARKS_MAX:
                self._are_many.set()

    def _on_change(self, change: Change) -> None:
        for stretch in Deliveries.of(change.stored).stretches:
            seqs = stretch.seqs
            first, last = min(seqs), max(seqs)
            # Mostly there is no gap between them; if so, these are all blocks, and a few more would do no harm.
            is_dense = last - first < len(seqs) + BLOCK_SEQS
            for number in range(first // BLOCK_SEQS, last // BLOCK_SEQS + 1) if is_dense else _blocks_of(seqs):
                self.mark(stretch.name, number)
        for group in (change.merged, change.removed):
            for name, item in group:
                self.mark(name, item.seq // BLOCK_SEQS)

    async def _be_up_to_date(self) -> None:
        try:
            self._lock.acquire_nowait()  # as mostly, and then nobody else needs a turn
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            await self._refresh()
        finally:
            self._lock.release()

    async def _refresh(self) -> None:
        # Unmarked before the read: what changes while we read marks its block again, for the next time.
        stale, self._stale, self._marks, self._are_many = self._stale, {}, 0, trio.Event()
        batches = list(_batches(stale))
        try:
            await overlapped([partial(self._reread_all, batch) for batch in batches])
        finally:
            for batch in batches:  # if the store failed or we were cancelled, there are still some to be done
                for name, numbers in batch.items():
                    self._stale.setdefault(name, set()).update(numbers)
        await self._merge()

    async def _reread_all(self, batch: dict[LogName, set[int]]) -> None:
        pace = Pace()
        while batch:
            await self._reread(batch, pace)

    async def _reread(self, batch: dict[LogName, set[int]], pace: Pace) -> None:
        """Reads some blocks of some logs, and takes those from `batch` that are done."""
        handles = {name: handle_of(name) for name in batch}
        portions = {name: self._portion(handles[name], numbers) for name, numbers in batch.items()}
        changes: dict[LogName, list[tuple[int, Block | None]]] = {name: [] for name in batch}
        async for found in read_blocks(self._store, portions):
            for name, blocks in found:
                changes[name] += blocks
            await pace.spend(blocks=len(found))
        for name, changed in changes.items():
            await self._change(handles[name], name, changed)
            batch[name].difference_update(portions[name])
            if not batch[name]:
                del batch[name]
            await pace.spend(blocks=4)

    def _portion(self, handle: bytes, numbers: set[int]) -> list[int]:
        """The next blocks of a log to be read."""
        if len(numbers) <= INDEX_PORTION_BLOCKS:
            return sorted(numbers)
        return sorted(islice(numbers, max(INDEX_PORTION_BLOCKS, length_of(self._log(handle)) // 4)))

    async def _change(self, handle: bytes, name: LogName, changed: Sequence[tuple[int, Block | None]]) -> None:
        before = self._log(handle)
        size_bytes = work_bytes(before, changed) + INDEX_CHANGE_BYTES * len(changed)
        log = await sized(size_bytes, partial(spliced, before, changed))
        self._staged[handle] = entry_of(handle, name, log, self._view.serial + 1)

    def _log(self, handle: bytes) -> Log:
        """The blocks of a log as far as they have been read; empty if it is not known."""
        if handle in self._staged:
            entry = self._staged[handle]
            return entry.log if entry else b""
        return self._view.log(handle)

    async def _merge(self) -> None:
        """Makes the next picture out of the last one and what is staged. The last one stays as it is."""
        pace = Pace()
        by_leaf: dict[int, list[tuple[bytes, Entry | None]]] = {}
        for handle, entry in self._staged.items():
            by_leaf.setdefault(self._view.leaf_number(handle), []).append((handle, entry))
            await pace.spend(messages=4)
        leaves: list[Leaf] = []
        done = 0
        has_changed = False
        for number in sorted(by_leaf):
            leaves += self._view.leaves[done:number]
            leaf = self._view.leaves[number] if self._view.leaves else None
            edited = edit(leaf, sorted(by_leaf[number], key=itemgetter(0)))
            has_changed |= edited != ([leaf] if leaf else [])
            leaves += edited
            done = number + 1
            await pace.spend(blocks=16, messages=8 * len(by_leaf[number]))
        leaves += self._view.leaves[done:]
        if has_changed:
            self._replace(gather(leaves))
        self._staged = {}

    def _replace(self, leaves: Sequence[Leaf]) -> None:
        self._view = IndexView(leaves, serial=self._view.serial + 1, serials_from=self._view.serials_from)


def _batches(stale: Mapping[LogName, set[int]]) -> Iterator[dict[LogName, set[int]]]:
    """Logs put together until they have INDEX_SLICE_BLOCKS blocks to be read, or more if one alone has more."""
    batch: dict[LogName, set[int]] = {}
    blocks = 0
    for name, numbers in stale.items():
        batch[name] = numbers
        blocks += len(numbers)
        if blocks >= INDEX_SLICE_BLOCKS:
            yield batch
            batch, blocks = {}, 0
    if batch:
        yield batch


def _blocks_of(seqs: Sequence[int]) -> set[int]:
    return {seq // BLOCK_SEQS for seq in seqs}
