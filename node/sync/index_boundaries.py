"""Pictures that leave out what is older than a boundary: by our own rule just now, or by that of a stricter peer.

Most logs and blocks are wholly alive or wholly dead, which their ages tell. Only blocks through which the boundary goes
are read, once for each boundary: what was found is carried over to the next picture as long as the block is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import trio

from node.store.api import Store
from node.sync.index_blocks import (
    Block,
    PackedBlocks,
    block_of,
    find,
    restrict,
    row_at,
    splice,
    take,
)
from node.sync.index_reading import Pace, read_blocks, sized
from node.sync.index_view import Entry, IndexView, Leaf, edit, entry_of
from protocols.limits import INDEX_VIEWS_MAX
from protocols.model import LogName

__all__ = ["Boundaries"]


class _Boundary:
    """The last picture for one boundary: `view` is exactly `whole` without what is too old.

    `leaves` hold what became of leaves of `whole` and of its successor while that is being worked on: a failure costs
    nothing that was done.
    """

    def __init__(self, alive_from_s: int) -> None:
        self.alive_from_s = alive_from_s
        self.whole = IndexView()
        self.view = IndexView()
        self.leaves: dict[Leaf, Sequence[Leaf]] = {}
        self.lock = trio.Lock()


class _Restricted(NamedTuple):
    """What is left of something. `exact` is false if the store had moved on already when it was read; that is a picture
    as good as any, but nothing to build upon."""

    leaves: Sequence[Leaf]
    exact: bool


@dataclass(slots=True)
class _Cut:
    """A log of which a part is too old: its blocks that are wholly alive, and what is found out about others."""

    handle: bytes
    serial: int
    whole: PackedBlocks
    alive: PackedBlocks
    changes: list[tuple[int, Block | None]] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    async def result(self) -> PackedBlocks:
        """The blocks as if what is too old were removed already."""
        if not self.changes:
            return self.alive
        self.changes.sort(key=itemgetter(0))
        return await sized(len(self.whole), lambda: splice(self.alive, self.changes))


class Boundaries:
    """The pictures for the last few boundaries that were asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[int, _Boundary] = OrderedDict()
        self._turns = trio.Lock()
        """Whoever needs blocks read takes turns leaf by leaf: a peer that invents boundaries shares with all others."""

    async def view(self, whole: IndexView, alive_from_s: int) -> IndexView:
        """`whole` without messages whose first stored is < `alive_from_s`. Raises StoreUnavailable."""
        if whole.oldest_s is None or whole.oldest_s >= alive_from_s:
            return whole
        boundary = self._kept.get(alive_from_s)
        if boundary is None:
            boundary = self._kept[alive_from_s] = _Boundary(alive_from_s)
            if len(self._kept) > INDEX_VIEWS_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(alive_from_s)
        async with boundary.lock:
            if boundary.whole is whole:
                return boundary.view
            return await self._follow(boundary, whole)

    async def _follow(self, boundary: _Boundary, whole: IndexView) -> IndexView:
        """Makes the picture for a new `whole`."""
        boundary.leaves = {leaf: boundary.leaves[leaf] for leaf in whole.leaves if leaf in boundary.leaves}
        alive: list[Leaf] = []
        is_exact = True
        pace = Pace()
        for leaf in whole.leaves:
            await pace.spend(blocks=1)
            if leaf.oldest_s >= boundary.alive_from_s:
                alive.append(leaf)
            elif leaf in boundary.leaves:
                alive += boundary.leaves[leaf]
            elif leaf.newest_s >= boundary.alive_from_s:
                async with self._turns:
                    restricted = await self._restrict(boundary, leaf, pace)
                alive += restricted.leaves
                if restricted.exact:
                    boundary.leaves[leaf] = restricted.leaves
                else:
                    is_exact = False
        view = IndexView(alive, serial=whole.serial, serials_from=whole.serials_from, is_partial=True)
        boundary.whole, boundary.view = (whole, view) if is_exact else (IndexView(), IndexView())
        return view

    async def _restrict(self, boundary: _Boundary, leaf: Leaf, pace: Pace) -> _Restricted:
        """One leaf without what is too old."""
        cuts: dict[LogName, _Cut] = {}
        changes: list[tuple[bytes, Entry | None]] = []
        for index in leaf.older_than(boundary.alive_from_s):
            name = leaf.names[index]
            if leaf.newest[index] >= boundary.alive_from_s:
                cuts[name] = await self._cut(boundary, leaf, index, pace)
            else:
                changes.append((leaf.handles[index], None))
            await pace.spend(blocks=4)
        is_exact = True
        unread = {name: cut.unread for name, cut in cuts.items() if cut.unread}
        async for name, number, items in read_blocks(self._store, unread, pace):
            kept = [item for item in items if item.first_stored_s >= boundary.alive_from_s]
            cut = cuts[name]
            cut.changes.append((number, block_of(number, kept) if kept else None))
            row = block_of(number, items).row if items else b""
            is_exact = is_exact and row == row_at(cut.whole, find(cut.whole, number))
        for name, cut in cuts.items():
            changes.append((cut.handle, await entry_of(cut.handle, name, await cut.result(), cut.serial)))
            await pace.spend(blocks=4)
        return _Restricted(edit(leaf, sorted(changes, key=itemgetter(0))), is_exact)

    async def _cut(self, boundary: _Boundary, leaf: Leaf, index: int, pace: Pace) -> _Cut:
        """What is known of a log of which a part is alive, without reading it."""
        handle, serial, whole = leaf.handles[index], leaf.serials[index], leaf.packed[index]
        known, known_alive = boundary.whole.packed(handle), boundary.view.packed(handle)
        if known is whole:
            return _Cut(handle, serial, whole, known_alive)
        alive, partly = await sized(len(whole), lambda: restrict(whole, boundary.alive_from_s))
        cut = _Cut(handle, serial, whole, alive)
        for number in partly:
            if row_at(known, find(known, number)) == row_at(whole, find(whole, number)):
                cut.changes.append((number, take(known_alive, number)))
            else:
                cut.unread.append(number)
            await pace.spend(messages=16)
        return cut
