"""The index's picture of all logs: sorted leaves, of which unchanged ones are shared from one picture to the next.

A change of a few logs copies the leaves in which they lie, and a list of leaves; so pictures are cheap to make, cost
next to nothing to keep, and never change under whoever reads them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from blake3 import blake3

from node.sync.index_blocks import PackedBlocks, Span, age_span, pairs, state_of
from node.sync.index_reading import sized
from protocols.limits import INDEX_LEAF_LOGS_MAX
from protocols.model import LogName

__all__ = ["Entry", "IndexView", "Leaf", "edit", "entry_of", "gather"]

_SPLIT_LOGS: Final = INDEX_LEAF_LOGS_MAX * 5 // 8
"""Logs in each part when a leaf is split: room to grow, and nowhere near the size at which two are joined again."""

_JOIN_LOGS_MAX: Final = INDEX_LEAF_LOGS_MAX // 2


class Entry(NamedTuple):
    """One log. `packed` are its blocks (one at least), `state` and `ages` what follows from them."""

    handle: bytes
    state: bytes
    ages: Span
    name: LogName
    packed: PackedBlocks


async def entry_of(handle: bytes, name: LogName, packed: PackedBlocks) -> Entry | None:
    """The log that has these blocks; None if there are none."""
    if not packed:
        return None
    return await sized(len(packed), lambda: Entry(handle, state_of(packed), age_span(packed), name, packed))


_Columns: TypeAlias = tuple[
    list[bytes], list[bytes], list[LogName], list[PackedBlocks], "array[int]", "array[int]"
]  # handle, state, name, packed blocks, oldest first stored, newest

_EMPTY: Final[_Columns] = ([], [], [], [], array("q"), array("q"))


class Leaf:
    """Up to INDEX_LEAF_LOGS_MAX logs in ascending order of handle, a column for each field. Never changed once it is
    part of a view; compared by identity."""

    __slots__ = ("handles", "names", "newest", "newest_s", "oldest", "oldest_s", "packed", "rows", "states")

    def __init__(self, columns: _Columns) -> None:
        self.handles, self.states, self.names, self.packed, self.oldest, self.newest = columns
        self.oldest_s = min(self.oldest)
        self.newest_s = max(self.newest)
        self.rows = b"".join(chain.from_iterable(zip(self.handles, self.states, strict=True)))

    def __len__(self) -> int:
        return len(self.handles)

    def columns(self) -> _Columns:
        """The columns themselves, not to be changed."""
        return self.handles, self.states, self.names, self.packed, self.oldest, self.newest

    def older_than(self, alive_from_s: int) -> list[int]:
        """The indices of the logs in which something is older. `alive_from_s` must lie within the leaf's ages."""
        found: list[int] = np.flatnonzero(np.frombuffer(self.oldest, dtype=np.int64) < alive_from_s).tolist()
        return found


def edit(leaf: Leaf | None, changes: Iterable[tuple[bytes, Entry | None]]) -> list[Leaf]:
    """A leaf (None: an empty one) with some logs replaced, added, or (None) removed; in several parts if it grew.

    `changes` ascend by handle.
    """
    columns = _EMPTY if leaf is None else leaf.columns()
    handles, states, names, packed, oldest, newest = _part(columns, 0, len(columns[0]))  # copies
    at = 0
    for handle, entry in changes:
        at = bisect_left(handles, handle, at)
        known = at < len(handles) and handles[at] == handle
        until = at + known  # what the change replaces
        added = [] if entry is None else [entry]
        handles[at:until] = [one.handle for one in added]
        states[at:until] = [one.state for one in added]
        names[at:until] = [one.name for one in added]
        packed[at:until] = [one.packed for one in added]
        oldest[at:until] = array("q", [one.ages.oldest_s for one in added])
        newest[at:until] = array("q", [one.ages.newest_s for one in added])
    return _cut((handles, states, names, packed, oldest, newest))


def _cut(columns: _Columns) -> list[Leaf]:
    count = len(columns[0])
    if not count:
        return []
    if count <= INDEX_LEAF_LOGS_MAX:
        return [Leaf(columns)]
    parts = -(-count // _SPLIT_LOGS)
    cuts = [count * part // parts for part in range(parts + 1)]
    return [Leaf(_part(columns, lo, hi)) for lo, hi in pairwise(cuts)]


def _part(columns: _Columns, lo: int, hi: int) -> _Columns:
    handles, states, names, packed, oldest, newest = columns
    return handles[lo:hi], states[lo:hi], names[lo:hi], packed[lo:hi], oldest[lo:hi], newest[lo:hi]


def gather(leaves: Iterable[Leaf]) -> list[Leaf]:
    """The same leaves, small neighbours joined: what expires must not leave thousands of tiny ones behind."""
    gathered: list[Leaf] = []
    for leaf in leaves:
        if gathered and len(gathered[-1]) + len(leaf) <= _JOIN_LOGS_MAX:
            gathered[-1] = _joined(gathered[-1], leaf)
        else:
            gathered.append(leaf)
    return gathered


def _joined(one: Leaf, other: Leaf) -> Leaf:
    return Leaf(
        (
            one.handles + other.handles,
            one.states + other.states,
            one.names + other.names,
            one.packed + other.packed,
            one.oldest + other.oldest,
            one.newest + other.newest,
        )
    )


class IndexView:
    """An immutable picture of the live logs; implements `protocols.sync.effects.LogView`.

    `oldest_s` is the earliest `first stored` of all (Unix seconds); None without logs.
    """

    def __init__(self, leaves: Sequence[Leaf] = ()) -> None:
        self.leaves = leaves
        self.oldest_s = min((leaf.oldest_s for leaf in leaves), default=None)
        self._firsts = [leaf.handles[0] for leaf in leaves]
        self._count = sum(map(len, leaves))

    def __len__(self) -> int:
        """How many logs there are."""
        return self._count

    @cached_property
    def handles(self) -> Sequence[bytes]:
        """All handles, ascending. A list of its own for whoever goes through it in a session, made when asked for."""
        return list(chain.from_iterable([leaf.handles for leaf in self.leaves]))

    @cached_property
    def states(self) -> Sequence[bytes]:
        """The state of each log, in the order of `handles`."""
        return list(chain.from_iterable([leaf.states for leaf in self.leaves]))

    def names(self) -> Iterator[LogName]:
        """The names of all logs, in the order of `handles`."""
        return chain.from_iterable([leaf.names for leaf in self.leaves])

    def leaf_number(self, handle: bytes) -> int:
        """The number of the leaf in which a log lies, or would if it were there."""
        return max(0, bisect_right(self._firsts, handle) - 1)

    def _find(self, handle: bytes) -> tuple[Leaf, int] | None:
        if not self.leaves:
            return None
        leaf = self.leaves[self.leaf_number(handle)]
        index = bisect_left(leaf.handles, handle)
        return (leaf, index) if index < len(leaf) and leaf.handles[index] == handle else None

    def name(self, handle: bytes) -> LogName | None:
        """The log of a handle, None if the view does not have it."""
        found = self._find(handle)
        return found[0].names[found[1]] if found else None

    def state(self, handle: bytes) -> bytes | None:
        """The state of a log, None if the view does not have it."""
        found = self._find(handle)
        return found[0].states[found[1]] if found else None

    def packed(self, handle: bytes) -> PackedBlocks:
        """The blocks of a log as they are packed; empty if the view does not have it."""
        found = self._find(handle)
        return found[0].packed[found[1]] if found else b""

    def blocks(self, handle: bytes) -> Sequence[tuple[int, bytes]]:
        """(block number, block digest) ascending; empty if the view does not have the log."""
        return pairs(self.packed(handle))

    @cached_property
    def fingerprint(self) -> str:
        """Hex over the whole view, as `live_fingerprint`: equal on two mailboxes exactly if they hold the same."""
        hasher = blake3()
        for leaf in self.leaves:
            hasher.update(leaf.rows)
        return hasher.hexdigest()
