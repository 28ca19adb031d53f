"""Pictures of some topics only, for peers that keep no others."""

from __future__ import annotations

from collections import OrderedDict

import trio

from node.sync.index_leaf import Leaf
from node.sync.index_reading import Pace
from node.sync.index_view import IndexView
from protocols.limits.replication import INDEX_INTERESTS_LOGS_MAX, INDEX_INTERESTS_MAX, INDEX_KEPT_S
from protocols.sync.interest import Interest

__all__ = ["Interests"]


class _Limited:
    """The last picture of some topics for one boundary. `leaves` tell what is of them in each leaf of `source`."""

    def __init__(self) -> None:
        self.source = IndexView()
        self.view = IndexView()
        self.leaves: dict[Leaf, Leaf | None] = {}
        self.copied = 0
        """Logs of the picture that are not the index's own."""
        self.used_at = 0.0


class Interests:
    """The pictures for the last few interests that were asked for: INDEX_INTERESTS_MAX, and no more copies of logs in
    all than INDEX_INTERESTS_LOGS_MAX times those of the index."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, Interest], _Limited] = OrderedDict()
        self._turns = trio.Lock()
        """Pictures are made one after the other: peers with many interests share what one peer would have."""

    async def view(self, source: IndexView, alive_from_s: int, interest: Interest) -> IndexView:
        """`source`, which is the picture for a boundary, limited to logs of these topics."""
        key = (alive_from_s, interest)
        async with self._turns:
            limited = self._kept.pop(key, None) or _Limited()
            if limited.source is not source:
                await _follow(limited, source, interest)
            limited.used_at = trio.current_time()
            self._kept[key] = limited
            self._drop_surplus(len(source))
            return limited.view

    def drop_unused(self) -> None:
        """Forgets pictures that nobody has asked for in a while."""
        unused_at = trio.current_time() - INDEX_KEPT_S
        for key in [key for key, limited in self._kept.items() if limited.used_at < unused_at]:
            del self._kept[key]

    def _drop_surplus(self, logs: int) -> None:
        copied = sum(limited.copied for limited in self._kept.values())
        while len(self._kept) > INDEX_INTERESTS_MAX or copied > INDEX_INTERESTS_LOGS_MAX * logs:
            _, dropped = self._kept.popitem(last=False)
            copied -= dropped.copied


async def _follow(limited: _Limited, source: IndexView, interest: Interest) -> None:
    pace = Pace()
    leaves: dict[Leaf, Leaf | None] = {}
    for leaf in source.leaves:
        if leaf in limited.leaves:
            leaves[leaf] = limited.leaves[leaf]
        else:
            chosen = leaf.columns.names.of_interest(interest)
            leaves[leaf] = leaf if len(chosen) == len(leaf) else leaf.pick(chosen) if len(chosen) else None
            await pace.spend(blocks=len(leaf) // 2)
    found = [leaf for leaf in leaves.values() if leaf is not None]
    limited.leaves = leaves
    limited.copied = sum(len(part) for leaf, part in leaves.items() if part is not None and part is not leaf)
    limited.source = source
    limited.view = IndexView(
        found, serial=source.serial, serials_from=source.serials_from, is_partial=source.is_partial
    )
