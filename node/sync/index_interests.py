"""Pictures of some topics only, for peers that keep no others."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import trio

from node.sync.index_leaf import Leaf
from node.sync.index_names import pack_id
from node.sync.index_reading import Pace
from node.sync.index_view import IndexView
from protocols.limits import INDEX_INTERESTS_MAX, INDEX_KEPT_S

__all__ = ["Interests"]


class _Interest:
    """The last picture of these topics for one boundary. `leaves` tell what is of them in each leaf of `source`."""

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = frozenset(map(pack_id, topics))
        self.source = IndexView()
        self.view = IndexView()
        self.leaves: dict[Leaf, Leaf | None] = {}
        self.used_at = 0.0


class Interests:
    """The pictures for the last few interests that were asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, frozenset[str]], _Interest] = OrderedDict()

    async def view(self, source: IndexView, alive_from_s: int, topics: frozenset[str]) -> IndexView:
        """`source`, which is the picture for a boundary, limited to logs of these topics."""
        key = (alive_from_s, topics)
        interest = self._kept.get(key)
        if interest is None:
            interest = self._kept[key] = _Interest(topics)
            if len(self._kept) > INDEX_INTERESTS_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        interest.used_at = trio.current_time()
        if interest.source is not source:
            await self._follow(interest, source)
        return interest.view

    def drop_unused(self) -> None:
        """Forgets pictures that nobody has asked for in a while."""
        unused_at = trio.current_time() - INDEX_KEPT_S
        for key in [key for key, interest in self._kept.items() if interest.used_at < unused_at]:
            del self._kept[key]

    async def _follow(self, interest: _Interest, source: IndexView) -> None:
        pace = Pace()
        leaves: dict[Leaf, Leaf | None] = {}
        for leaf in source.leaves:
            if leaf in interest.leaves:
                leaves[leaf] = interest.leaves[leaf]
            else:
                chosen = np.flatnonzero(leaf.columns.names.of_topics(interest.topics))
                leaves[leaf] = leaf.pick(chosen) if len(chosen) else None
                await pace.spend(blocks=16)
        found = [leaf for leaf in leaves.values() if leaf is not None]
        interest.leaves = leaves
        interest.source = source
        interest.view = IndexView(found, serial=source.serial, serials_from=source.serials_from)
