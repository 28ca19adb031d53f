"""Pictures that leave out what is older than a boundary: by our own rule just now, or by that of a stricter peer.

Most logs and blocks are wholly alive or wholly dead, which their ages tell. Only blocks through which the boundary goes
are read, once for each boundary: what was found is carried over to the next picture, unless a change of the block has
been announced since. As every commit is announced after it can be read, nothing that is carried over is out of date.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import trio

from node.store.api import ItemSource, StoreUnavailable
from node.sync.index_blocks import ROW_BYTES, TAIL_BYTES, Block, ages, blocks_of, numbers, state_of
from node.sync.index_edit import edit, joined
from node.sync.index_leaf import LOG_ROW_BYTES, Columns, Entry, Leaf, entry_of
from node.sync.index_log import Log, length_of, restricted, spliced, taken, work_bytes
from node.sync.index_reading import Pace, overlapped, read_blocks, sized
from node.sync.index_view import IndexView
from protocols.limits.data import HANDLE_BYTES, SEQ_MAX
from protocols.limits.replication import (
    INDEX_CHANGE_BYTES,
    INDEX_FOREIGN_VIEW_S,
    INDEX_FOREIGN_VIEWS_BURST,
    INDEX_KEPT_S,
    INDEX_MARKS_MAX,
    INDEX_SLICE_BLOCKS,
    INDEX_VIEWS_MAX,
)
from protocols.limits.sync import BLOCK_SEQS, DIGEST_STATE_BYTES
from protocols.model import LogName, handle_of

__all__ = ["Boundaries"]


class _Boundary:
    """The last picture for one boundary: `view` is `whole` without what is too old; None before the first.

    `leaves` hold what became of leaves of `whole` and of its successor while that is being worked on: a failure costs
    nothing that was done. `touched` are numbers of blocks of which a change was announced since.
    """

    def __init__(self, alive_from_s: int) -> None:
        self.alive_from_s = alive_from_s
        self.whole: IndexView | None = None
        self.view = IndexView()
        self.leaves: dict[Leaf, Sequence[Leaf]] = {}
        self.touched: dict[LogName, set[int]] = {}
        self.marks = 0
        self.overflow = False
        self.used_at = 0.0
        self.lock = trio.Lock()

    def touch(self, name: LogName, number: int) -> None:
        """Notes an announced change."""
        if self.overflow:
            return
        noted = self.touched.setdefault(name, set())
        if number not in noted:
            noted.add(number)
            self.marks += 1
            if self.marks > INDEX_MARKS_MAX:
                self.overflow, self.touched = True, {}

    def take_touched(self) -> dict[LogName, set[int]]:
        """What was noted, which is noted no more. If it was too much, everything is to be found out anew."""
        if self.overflow:
            self.whole, self.view, self.leaves, self.overflow = None, IndexView(), {}, False
        touched, self.touched, self.marks = self.touched, {}, 0
        return touched


@dataclass(slots=True)
class _Cut:
    """A log of which a part is too old: its blocks that are wholly alive, and what is found out about others."""

    name: LogName
    handle: bytes
    serial: int
    alive: Log
    changes: list[tuple[int, Block | None]] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    async def entry(self) -> Entry | None:
        """The log as if what is too old were removed already."""
        self.changes.sort(key=itemgetter(0))
        size_bytes = work_bytes(self.alive, self.changes) + INDEX_CHANGE_BYTES * len(self.changes)
        log = await sized(size_bytes, lambda: spliced(self.alive, self.changes)) if self.changes else self.alive
        return entry_of(self.handle, self.name, log, self.serial)


class Boundaries:
    """The pictures for the last few boundaries that were asked for. `own` tells our own boundary of the moment."""

    def __init__(self, store: ItemSource, own: Callable[[], int]) -> None:
        self._store = store
        self._own = own
        self._kept: OrderedDict[int, _Boundary] = OrderedDict()
        self._foreign_left = float(INDEX_FOREIGN_VIEWS_BURST)
        self._counted_at = 0.0
        self._turns = trio.Semaphore(2)
        """Whoever needs blocks read takes turns leaf by leaf: a peer with its own boundary shares with all others."""

    def touch(self, name: LogName, number: int) -> None:
        """Notes an announced change of a block."""
        for boundary in self._kept.values():
            boundary.touch(name, number)

    async def view(self, whole: IndexView, alive_from_s: int) -> IndexView:
        """`whole` without messages whose first stored is < `alive_from_s`. Raises StoreUnavailable."""
        self._drop(whole)
        if whole.oldest_s is None or whole.oldest_s >= alive_from_s:
            return whole
        boundary = self._kept.get(alive_from_s) or self._keep(alive_from_s)
        self._kept.move_to_end(alive_from_s)
        boundary.used_at = trio.current_time()
        async with boundary.lock:
            if boundary.whole is whole and not boundary.touched and not boundary.overflow:
                return boundary.view
            return await self._follow(boundary, whole)

    def _drop(self, whole: IndexView) -> None:
        """Forgets pictures that leave out nothing any more, and those that nobody has asked for in a while."""
        unused_at = trio.current_time() - INDEX_KEPT_S
        for alive_from_s, boundary in list(self._kept.items()):
            if whole.oldest_s is None or whole.oldest_s >= alive_from_s or boundary.used_at < unused_at:
                del self._kept[alive_from_s]

    def _keep(self, alive_from_s: int) -> _Boundary:
        own = self._own()
        if alive_from_s != own:
            self._count_foreign()
        boundary = self._kept[alive_from_s] = _Boundary(alive_from_s)
        if len(self._kept) > INDEX_VIEWS_MAX:
            del self._kept[next(kept for kept in self._kept if kept != own)]
        return boundary

    def _count_foreign(self) -> None:
        now = trio.current_time()
        gained = (now - self._counted_at) / INDEX_FOREIGN_VIEW_S
        self._foreign_left = min(float(INDEX_FOREIGN_VIEWS_BURST), self._foreign_left + gained)
        self._counted_at = now
        if self._foreign_left < 1:
            raise StoreUnavailable("too many mailboxes with other retentions ask at once; later there is room again")
        self._foreign_left -= 1

    async def _follow(self, boundary: _Boundary, whole: IndexView) -> IndexView:
        """Makes the picture for a new `whole`."""
        pace = Pace()
        # Unmarked before anything is read: what changes meanwhile is marked again, for the next time.
        touched = boundary.take_touched()
        try:
            blocks: dict[bytes, set[int]] = {}
            for name, changed in touched.items():
                handle = handle_of(name)
                blocks[handle] = changed
                if whole.leaves:
                    boundary.leaves.pop(whole.leaves[whole.leaf_number(handle)], None)
                await pace.spend(messages=16)
            boundary.leaves = {leaf: boundary.leaves[leaf] for leaf in whole.leaves if leaf in boundary.leaves}
            for leaf in whole.leaves:
                if leaf.oldest_s >= boundary.alive_from_s:
                    boundary.leaves[leaf] = [leaf]
                elif leaf.newest_s < boundary.alive_from_s:
                    boundary.leaves[leaf] = []
            missing = [leaf for leaf in whole.leaves if leaf not in boundary.leaves]
            await overlapped([partial(self._restrict, boundary, leaf, blocks) for leaf in missing])
        except BaseException:
            for name, changed in touched.items():
                boundary.touched.setdefault(name, set()).update(changed)
            raise
        boundary.whole = whole
        alive = [part for leaf in whole.leaves for part in boundary.leaves[leaf]]
        boundary.view = IndexView(alive, serial=whole.serial, serials_from=whole.serials_from, is_partial=True)
        return boundary.view

    async def _restrict(self, boundary: _Boundary, leaf: Leaf, touched: Mapping[bytes, set[int]]) -> None:
        """Finds out what one leaf is without what is too old."""
        async with self._turns:
            if boundary.whole is None:
                boundary.leaves[leaf] = await self._restrict_all(boundary, leaf, Pace())
            else:
                boundary.leaves[leaf] = await self._restrict_changed(boundary, leaf, boundary.whole, touched, Pace())

    async def _restrict_changed(
        self, boundary: _Boundary, leaf: Leaf, before: IndexView, touched: Mapping[bytes, set[int]], pace: Pace
    ) -> Sequence[Leaf]:
        """A leaf of which most is known."""
        handles = leaf.handles()
        known = boundary.view.between(handles[0], handles[-1])
        gone = {handle for part in known for handle in part.handles()}.difference(handles)
        changed = np.flatnonzero(leaf.serials() > before.serial).tolist()
        changed += [index for index, handle in enumerate(handles) if handle in touched]
        changes: list[tuple[bytes, Entry | None]] = [(handle, None) for handle in gone]
        changes += await self._restrict_some(boundary, leaf, sorted(set(changed)), touched, pace)
        return edit(joined(known) if known else None, sorted(changes, key=itemgetter(0)))

    async def _restrict_some(
        self, boundary: _Boundary, leaf: Leaf, indices: Sequence[int], touched: Mapping[bytes, set[int]], pace: Pace
    ) -> list[tuple[bytes, Entry | None]]:
        """Some logs of a leaf one by one, with what is known of them."""
        cuts: dict[LogName, _Cut] = {}
        for index in indices:
            name = leaf.name(index)
            cuts[name] = await self._cut(boundary, leaf, index, name, touched.get(leaf.handle(index), set()), pace)
        unread = {name: cut.unread for name, cut in cuts.items() if cut.unread}
        async for found in read_blocks(self._store, unread, alive_from_s=boundary.alive_from_s):
            for name, blocks in found:
                cuts[name].changes += blocks
            await pace.spend(blocks=len(found))
        entries: list[tuple[bytes, Entry | None]] = []
        for cut in cuts.values():
            entries.append((cut.handle, await cut.entry()))
            await pace.spend(blocks=4)
        return entries

    async def _cut(
        self, boundary: _Boundary, leaf: Leaf, index: int, name: LogName, touched: set[int], pace: Pace
    ) -> _Cut:
        """What is known of a log of which a part may be alive, without reading it."""
        log, handle = leaf.log(index), leaf.handle(index)
        alive, partly = await sized(40 * length_of(log), lambda: restricted(log, boundary.alive_from_s))
        cut = _Cut(name, handle, int(leaf.serials()[index]), alive)
        known = boundary.whole.log(handle) if boundary.whole else b""
        known_alive = boundary.view.log(handle)
        for number in partly:
            block, now = taken(known, number), taken(log, number)
            if number not in touched and block is not None and now is not None and block.row == now.row:
                cut.changes.append((number, taken(known_alive, number)))
            else:
                cut.unread.append(number)
            await pace.spend(messages=32)
        await pace.spend(blocks=4)
        return cut

    async def _restrict_all(self, boundary: _Boundary, leaf: Leaf, pace: Pace) -> Sequence[Leaf]:
        """A leaf of which nothing is known yet, all logs at once."""
        columns, counts = leaf.columns, leaf.counts()
        intact, partly = ages(columns.tails, boundary.alive_from_s)
        log_of = np.repeat(np.arange(len(leaf)), counts)
        blocks = np.frombuffer(columns.blocks, f"V{ROW_BYTES}").copy()
        tails = np.frombuffer(columns.tails, f"V{TAIL_BYTES}").copy()
        alive = intact.copy()
        cut = np.flatnonzero(partly)
        for lo in range(0, len(cut), INDEX_SLICE_BLOCKS):
            part = cut[lo : lo + INDEX_SLICE_BLOCKS]
            firsts = (numbers(blocks[part].tobytes()) * np.uint64(BLOCK_SEQS)).tolist()
            spans = [
                (leaf.name(log), first, min(first + BLOCK_SEQS - 1, SEQ_MAX))
                for log, first in zip(log_of[part].tolist(), firsts, strict=True)
            ]
            found = blocks_of(await self._store.columns_of(spans, alive_from_s=boundary.alive_from_s))
            held = part[found.counts > 0]
            blocks[held] = np.frombuffer(found.rows, blocks.dtype)
            tails[held] = np.frombuffer(found.tails, tails.dtype)
            alive[held] = True
            await pace.spend(blocks=2 * len(part))
        left = np.bincount(log_of[alive], minlength=len(leaf))
        rows = np.frombuffer(columns.rows, np.uint8).reshape(-1, LOG_ROW_BYTES).copy()
        changed = np.flatnonzero((np.bincount(log_of[~intact], minlength=len(leaf)) > 0) & (left > 0))
        held_blocks = blocks[alive].tobytes()
        ends = np.cumsum(left)
        rows[changed, HANDLE_BYTES:] = _states(held_blocks, (ends - left)[changed], ends[changed])
        kept = np.flatnonzero((left > 0) | (counts == 0))
        if not len(kept):
            return []
        names = columns.names
        base = Leaf(
            Columns(
                rows[kept].tobytes(),
                leaf.serials()[kept].tobytes(),
                left[kept].astype(np.uint8).tobytes(),
                held_blocks,
                tails[alive].tobytes(),
                names if len(kept) == len(leaf) else names.pick(kept),
                columns.long,
            )
        )
        long = await self._restrict_some(boundary, leaf, np.flatnonzero(counts == 0).tolist(), {}, pace)
        return edit(base, long) if long else [base]


def _states(blocks: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The states of logs that have the blocks starts..ends-1, a row for each."""
    source = memoryview(blocks)
    states = [
        state_of(source[lo:hi])
        for lo, hi in zip((ROW_BYTES * starts).tolist(), (ROW_BYTES * ends).tolist(), strict=True)
    ]
    return np.frombuffer(b"".join(states), np.uint8).reshape(-1, DIGEST_STATE_BYTES)
