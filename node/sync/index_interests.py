"""Pictures of some topics only, for peers that keep no others."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import trio

from node.sync.index_leaf import Leaf
from node.sync.index_reading import Pace
from node.sync.index_view import IndexView
from protocols.limits import INDEX_INTERESTS_MAX, INDEX_KEPT_S
from protocols.sync.interest import Interest

__all__ = ["Interests"]


class _Limited:
    """The last picture of some topics for one boundary. `leaves` tell what is of them in each leaf of `source`."""

    def __init__(self) -> None:
        self.source = IndexView()
        self.view = IndexView()
        self.leaves: dict[Leaf, Leaf | None] = {}
        self.used_at = 0.0


class Interests:
    """The pictures for the last few interests that were asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, Interest], _Limited] = OrderedDict()

    async def view(self, source: IndexView, alive_from_s: int, interest: Interest) -> IndexView:
        """`source`, which is the picture for a boundary, limited to logs of these topics."""
        key = (alive_from_s, interest)
        limited = self._kept.get(key)
        if limited is None:
            limited = self._kept[key] = _Limited()
            if len(self._kept) > INDEX_INTERESTS_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        limited.used_at = trio.current_time()
        if limited.source is not source:
            await _follow(limited, source, interest)
        return limited.view

    def drop_unused(self) -> None:
        """Forgets pictures that nobody has asked for in a while."""
        unused_at = trio.current_time() - INDEX_KEPT_S
        for key in [key for key, limited in self._kept.items() if limited.used_at < unused_at]:
            del self._kept[key]


async def _follow(limited: _Limited, source: IndexView, interest: Interest) -> None:
    pace = Pace()
    leaves: dict[Leaf, Leaf | None] = {}
    for leaf in source.leaves:
        if leaf in limited.leaves:
            leaves[leaf] = limited.leaves[leaf]
        else:
            chosen = np.flatnonzero(leaf.columns.names.of_interest(interest))
            leaves[leaf] = leaf.pick(chosen) if len(chosen) else None
            await pace.spend(blocks=len(leaf) // 2)
    found = [leaf for leaf in leaves.values() if leaf is not None]
    limited.leaves = leaves
    limited.source = source
    limited.view = IndexView(
        found, serial=source.serial, serials_from=source.serials_from, is_partial=source.is_partial
    )
