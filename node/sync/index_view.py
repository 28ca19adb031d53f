"""The index's picture of all logs: sorted leaves, of which unchanged ones are shared from one picture to the next.

A change of a few logs copies the leaves in which they lie, and a list of leaves; so pictures are cheap to make, cost
next to nothing to keep, and never change under whoever reads them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from node.sync.index_blocks import PackedBlocks, Span, age_span, bitmaps, blocks_in, numbers, pairs, state_of
from node.sync.index_reading import sized
from node.sync.index_runs import runs_of
from protocols.limits import DIGEST_STATE_BYTES, HANDLE_BYTES, INDEX_LEAF_LOGS_MAX
from protocols.model import LogName
from protocols.sync.effects import Rows, Runs

__all__ = ["Entry", "IndexView", "Leaf", "edit", "entry_of", "gather"]

_ROW_BYTES: Final = HANDLE_BYTES + DIGEST_STATE_BYTES

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
    serial: int = 0


async def entry_of(handle: bytes, name: LogName, packed: PackedBlocks, serial: int = 0) -> Entry | None:
    """The log that has these blocks; None if there are none."""
    if not packed:
        return None
    return await sized(len(packed), lambda: Entry(handle, state_of(packed), age_span(packed), name, packed, serial))


_Columns: TypeAlias = tuple[
    list[bytes], list[bytes], list[LogName], list[PackedBlocks], "array[int]", "array[int]", "array[int]"
]  # handle, state, name, packed blocks, oldest first stored, newest, serial of the last change

_EMPTY: Final[_Columns] = ([], [], [], [], array("q"), array("q"), array("Q"))


class Leaf:
    """Up to INDEX_LEAF_LOGS_MAX logs in ascending order of handle, a column for each field. Never changed once it is
    part of a view; compared by identity."""

    __slots__ = ("handles", "names", "newest", "newest_s", "oldest", "oldest_s", "packed", "rows", "serials", "states")

    def __init__(self, columns: _Columns) -> None:
        self.handles, self.states, self.names, self.packed, self.oldest, self.newest, self.serials = columns
        self.oldest_s = min(self.oldest)
        self.newest_s = max(self.newest)
        self.rows = b"".join(chain.from_iterable(zip(self.handles, self.states, strict=True)))

    def __len__(self) -> int:
        return len(self.handles)

    def columns(self) -> _Columns:
        """The columns themselves, not to be changed."""
        return self.handles, self.states, self.names, self.packed, self.oldest, self.newest, self.serials

    def older_than(self, alive_from_s: int) -> list[int]:
        """The indices of the logs in which something is older. `alive_from_s` must lie within the leaf's ages."""
        found: list[int] = np.flatnonzero(np.frombuffer(self.oldest, dtype=np.int64) < alive_from_s).tolist()
        return found


def edit(leaf: Leaf | None, changes: Iterable[tuple[bytes, Entry | None]]) -> list[Leaf]:
    """A leaf (None: an empty one) with some logs replaced, added, or (None) removed; in several parts if it grew.

    `changes` ascend by handle.
    """
    columns = _EMPTY if leaf is None else leaf.columns()
    handles, states, names, packed, oldest, newest, serials = _part(columns, 0, len(columns[0]))  # copies
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
        serials[at:until] = array("Q", [one.serial for one in added])
    return _cut((handles, states, names, packed, oldest, newest, serials))


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
    handles, states, names, packed, oldest, newest, serials = columns
    return handles[lo:hi], states[lo:hi], names[lo:hi], packed[lo:hi], oldest[lo:hi], newest[lo:hi], serials[lo:hi]


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
            one.serials + other.serials,
        )
    )


class IndexView:
    """An immutable picture of the live logs; implements `protocols.sync.effects.LogTable` (and, still, `LogView`).

    `oldest_s` is the earliest `first stored` of all (Unix seconds); None without logs. `serials_from` is the serial of
    the index's first picture: a lower one comes from another process.
    """

    def __init__(
        self, leaves: Sequence[Leaf] = (), *, serial: int = 0, serials_from: int = 0, is_partial: bool = False
    ) -> None:
        self.leaves = leaves
        self.serials_from = serials_from
        self.is_partial = is_partial
        self.oldest_s = min((leaf.oldest_s for leaf in leaves), default=None)
        self._serial = serial
        self._firsts = [leaf.handles[0] for leaf in leaves]
        self._offsets = list(accumulate(map(len, leaves), initial=0))
        """The row with which each leaf begins, and how many there are."""

    # --- LogTable ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many logs there are."""
        return self._offsets[-1]

    @property
    def serial(self) -> int:
        """See `LogTable.serial`."""
        return self._serial

    @cached_property
    def prefixes(self) -> npt.NDArray[np.uint64]:
        """See `LogTable.prefixes`."""
        rows = np.frombuffer(b"".join([leaf.rows for leaf in self.leaves]), dtype=">u8")
        prefixes = rows[:: _ROW_BYTES // 8].astype(np.uint64)
        prefixes.setflags(write=False)
        return prefixes

    def rows(self, lo: int, hi: int) -> Iterator[memoryview]:
        """See `LogTable.rows`."""
        for number in range(self._leaf_with(lo), len(self.leaves)):
            offset = self._offsets[number]
            if offset >= hi:
                return
            yield memoryview(self.leaves[number].rows)[_ROW_BYTES * max(lo - offset, 0) : _ROW_BYTES * (hi - offset)]

    def changed_since(self, serial: int) -> Rows:
        """See `LogTable.changed_since`. Every log, if the serial is not one of this index."""
        if not self.serials_from <= serial <= self._serial:
            return np.arange(len(self))
        found = [
            np.flatnonzero(np.frombuffer(leaf.serials, dtype=np.uint64) > serial) + offset
            for leaf, offset in zip(self.leaves, self._offsets[:-1], strict=True)
        ]
        return np.concatenate(found) if found else np.arange(0)

    def runs(self, rows: Rows) -> Runs:
        """See `LogTable.runs`."""
        packed = [leaf.packed[index] for leaf, index in map(self._at, rows.tolist())]
        blocks = np.array([blocks_in(one) for one in packed], dtype=np.int64)
        none = np.empty(0, dtype=np.uint64)
        return runs_of(
            blocks,
            np.concatenate([numbers(one) for one in packed] or [none]),
            np.concatenate([bitmaps(one) for one in packed] or [none]),
        )

    def find(self, handle: bytes) -> int | None:
        """See `LogTable.find`."""
        if not self.leaves:
            return None
        number = self.leaf_number(handle)
        handles = self.leaves[number].handles
        index = bisect_left(handles, handle)
        return self._offsets[number] + index if index < len(handles) and handles[index] == handle else None

    def handle_at(self, row: int) -> bytes:
        """See `LogTable.handle_at`."""
        leaf, index = self._at(row)
        return leaf.handles[index]

    def state_at(self, row: int) -> bytes:
        """See `LogTable.state_at`."""
        leaf, index = self._at(row)
        return leaf.states[index]

    def name_at(self, row: int) -> LogName:
        """See `LogTable.name_at`."""
        leaf, index = self._at(row)
        return leaf.names[index]

    def blocks_at(self, row: int) -> Sequence[tuple[int, bytes]]:
        """See `LogTable.blocks_at`."""
        leaf, index = self._at(row)
        return pairs(leaf.packed[index])

    # --- for the node ------------------------------------------------------------------------------------------

    def state(self, handle: bytes) -> bytes | None:
        """The state of a log, None if the view does not have it."""
        row = self.find(handle)
        return None if row is None else self.state_at(row)

    def packed(self, handle: bytes) -> PackedBlocks:
        """The blocks of a log as they are packed; empty if the view does not have it."""
        row = self.find(handle)
        if row is None:
            return b""
        leaf, index = self._at(row)
        return leaf.packed[index]

    def names(self) -> Iterator[LogName]:
        """The names of all logs, in the order of their rows."""
        return chain.from_iterable([leaf.names for leaf in self.leaves])

    @cached_property
    def fingerprint(self) -> str:
        """Hex over the whole view, as `live_fingerprint`: equal on two mailboxes exactly if they hold the same."""
        hasher = blake3()
        for leaf in self.leaves:
            hasher.update(leaf.rows)
        return hasher.hexdigest()

    def leaf_number(self, handle: bytes) -> int:
        """The number of the leaf in which a log lies, or would if it were there."""
        return max(0, bisect_right(self._firsts, handle) - 1)

    def _leaf_with(self, row: int) -> int:
        return bisect_right(self._offsets, row) - 1

    def _at(self, row: int) -> tuple[Leaf, int]:
        """The leaf of a row, and the index within it. Raises IndexError."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = self._leaf_with(row)
        return self.leaves[number], row - self._offsets[number]

    # --- LogView, until the sessions that need it are gone -----------------------------------------------------

    @cached_property
    def handles(self) -> Sequence[bytes]:
        """See `LogView.handles`."""
        return list(chain.from_iterable([leaf.handles for leaf in self.leaves]))

    @cached_property
    def states(self) -> Sequence[bytes]:
        """See `LogView.states`."""
        return list(chain.from_iterable([leaf.states for leaf in self.leaves]))

    def name(self, handle: bytes) -> LogName | None:
        """See `LogView.name`."""
        row = self.find(handle)
        return None if row is None else self.name_at(row)

    def blocks(self, handle: bytes) -> Sequence[tuple[int, bytes]]:
        """See `LogView.blocks`."""
        row = self.find(handle)
        return () if row is None else self.blocks_at(row)
