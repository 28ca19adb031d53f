"""The index: for every log its blocks' digests and its state, kept equal to the store.

It holds no message: a change only marks the blocks it touched, and whoever needs a picture has the marked blocks read
again from the store. So it can't drift, whatever order changes are told in.

How it is made, from the bottom up: `index_blocks` (one log), `index_view` (all logs, immutable), `index_boundaries`
(pictures that leave out what is too old), and here what keeps them up to date. All work is cut into slices of a few
milliseconds; none needs a thread, but for logs of absurd shapes.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from itertools import islice
from operator import itemgetter

import trio

from node.store.api import Change, Store
from node.sync.index_blocks import Block, PackedBlocks, block_of, blocks_in, splice, unpack
from node.sync.index_boundaries import Boundaries
from node.sync.index_reading import Pace, packed_logs, read_blocks, sized
from node.sync.index_view import Entry, IndexView, Leaf, edit, entry_of, gather
from protocols.limits import (
    BLOCK_SEQS,
    INDEX_CHANGE_BYTES,
    INDEX_PORTION_BLOCKS,
    INDEX_SERIAL_BITS,
    INDEX_SLICE_BLOCKS,
    INDEX_STAGED_LOGS,
)
from protocols.model import LogName, handle_of

__all__ = ["IndexView", "LogIndex"]


class LogIndex:
    """Follows a store. `load` once at the start, then `view` whenever a picture is needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = trio.Lock()
        self._stale: dict[LogName, set[int]] = {}
        """Numbers of the blocks that have changed since they were read."""
        self._staged: dict[bytes, Entry | None] = {}
        """Logs that have been read (None: they are gone) but are not in `_view` yet."""
        # At random, and with room below 2^53: a serial from before a restart must never be taken for one of ours.
        serial = secrets.randbits(INDEX_SERIAL_BITS)
        self._view = IndexView(serial=serial, serials_from=serial)
        self._boundaries = Boundaries(store)
        store.subscribe(self._on_change)

    async def load(self) -> None:
        """Reads the whole store. Changes that come in meanwhile are not lost. Raises StoreUnavailable."""
        async with self._lock:
            pace = Pace()
            async for name, packed in packed_logs(self._store.scan(), pace):
                handle = handle_of(name)
                before = self._packed(handle)  # not empty if it came in parts with other logs in between
                await self._stage(handle, name, splice(before, unpack(packed)) if before else packed)
                await pace.spend(blocks=4)
                if len(self._staged) >= max(INDEX_STAGED_LOGS, len(self._view) // 8):
                    await self._merge()
            await self._merge()

    async def view(self, alive_from_s: int) -> IndexView:
        """A picture of all messages with first stored >= `alive_from_s` as they are now. Raises StoreUnavailable."""
        async with self._lock:
            await self._refresh()
            whole = self._view
        return await self._boundaries.view(whole, alive_from_s)

    def _on_change(self, change: Change) -> None:
        for group in (change.stored, change.merged, change.removed):
            for name, item in group:
                self._stale.setdefault(name, set()).add(item.seq // BLOCK_SEQS)

    async def _refresh(self) -> None:
        # Unmarked before the read: what changes while we read marks its block again, for the next time.
        stale, self._stale = self._stale, {}
        batch: dict[LogName, set[int]] = {}
        pace = Pace()
        try:
            while stale or batch:
                while stale and sum(map(len, batch.values())) < INDEX_SLICE_BLOCKS:
                    name, numbers = stale.popitem()
                    batch[name] = numbers
                await self._reread(batch, pace)
        finally:
            for rest in (batch, stale):  # the store failed or we were cancelled: still to be done
                for name, numbers in rest.items():
                    self._stale.setdefault(name, set()).update(numbers)
        await self._merge()

    async def _reread(self, batch: dict[LogName, set[int]], pace: Pace) -> None:
        """Reads some blocks of some logs, and takes those from `batch` that are done."""
        handles = {name: handle_of(name) for name in batch}
        portions = {
            name: sorted(islice(numbers, max(INDEX_PORTION_BLOCKS, blocks_in(self._packed(handles[name])) // 4)))
            for name, numbers in batch.items()
        }
        changes: dict[LogName, list[tuple[int, Block | None]]] = {name: [] for name in batch}
        async for name, number, items in read_blocks(self._store, portions, pace):
            changes[name].append((number, block_of(number, items) if items else None))
        for name, changed in changes.items():
            await self._change(handles[name], name, changed)
            batch[name].difference_update(portions[name])
            if not batch[name]:
                del batch[name]
            await pace.spend(blocks=4)

    async def _change(self, handle: bytes, name: LogName, changed: Sequence[tuple[int, Block | None]]) -> None:
        before = self._packed(handle)
        work_bytes = len(before) + INDEX_CHANGE_BYTES * len(changed)
        await self._stage(handle, name, await sized(work_bytes, lambda: splice(before, changed)))

    def _packed(self, handle: bytes) -> PackedBlocks:
        """The blocks of a log as far as they have been read; empty if it is not known."""
        if handle in self._staged:
            entry = self._staged[handle]
            return entry.packed if entry else b""
        return self._view.packed(handle)

    async def _stage(self, handle: bytes, name: LogName, packed: PackedBlocks) -> None:
        # Topics have many logs: each name is kept once. Python forgets interned strings that nobody uses.
        self._staged[handle] = await entry_of(handle, LogName(sys.intern(name.topic), name.log), packed)

    async def _merge(self) -> None:
        """Makes the next picture out of the last one and what is staged. The last one stays as it is."""
        pace = Pace()
        serial = self._view.serial + 1
        by_leaf: dict[int, list[tuple[bytes, Entry | None]]] = {}
        for handle, entry in self._staged.items():
            if self._view.packed(handle) != (entry.packed if entry else b""):
                changed = entry._replace(serial=serial) if entry else None
                by_leaf.setdefault(self._view.leaf_number(handle), []).append((handle, changed))
            await pace.spend(messages=4)
        leaves: list[Leaf] = []
        done = 0
        for number in sorted(by_leaf):
            leaves += self._view.leaves[done:number]
            leaf = self._view.leaves[number] if self._view.leaves else None
            leaves += edit(leaf, sorted(by_leaf[number], key=itemgetter(0)))
            done = number + 1
            await pace.spend(blocks=8, messages=8 * len(by_leaf[number]))
        leaves += self._view.leaves[done:]
        if by_leaf:
            self._view = IndexView(gather(leaves), serial=serial, serials_from=self._view.serials_from)
        self._staged = {}
