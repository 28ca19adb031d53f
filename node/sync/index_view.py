"""The index's picture of all logs: sorted leaves, of which unchanged ones are shared from one picture to the next.

A change of a few logs copies the leaves in which they lie, and a list of leaves; so pictures are cheap to make, cost
next to nothing to keep, and never change under whoever reads them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from node.sync.index_blocks import ROW_BYTES, TAILS
from node.sync.index_leaf import LOG_ROW_BYTES, Leaf, spread
from node.sync.index_log import Log, LongLog, all_rows
from node.sync.index_runs import runs_of, runs_of_one
from protocols.model import LogName
from protocols.sync.effects import Rows, Runs

__all__ = ["IndexView"]

_FEW_LOGS: Final = 4
_FEW_BLOCKS: Final = 4
"""For so many, as after a hint, plain Python is faster than setting numpy up."""

_FEW_ROWS: Final = 64
"""A copy of so many costs less than two views."""


class IndexView:
    """An immutable picture of the live logs; implements `protocols.sync.effects.LogTable`.

    `oldest_s` is a lower bound of every `first stored` (Unix seconds); None without logs. `serials_from` is the serial
    of the index's first picture: a lower one comes from another process.
    """

    def __init__(
        self, leaves: Sequence[Leaf] = (), *, serial: int = 0, serials_from: int = 0, is_partial: bool = False
    ) -> None:
        self.leaves = leaves
        self.serials_from = serials_from
        self.is_partial = is_partial
        self.oldest_s = min((leaf.oldest_s for leaf in leaves), default=None)
        self._serial = serial
        self._firsts = [leaf.first() for leaf in leaves]
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
        prefixes = np.empty(len(self), np.uint64)
        for leaf, offset in zip(self.leaves, self._offsets[:-1], strict=True):
            rows = np.frombuffer(leaf.columns.rows, ">u8")
            prefixes[offset : offset + len(leaf)] = rows[:: LOG_ROW_BYTES // 8]
        prefixes.setflags(write=False)
        return prefixes

    def rows(self, lo: int, hi: int) -> Sequence[bytes | memoryview]:
        """See `LogTable.rows`."""
        begin = self._leaf_with(lo)
        if hi <= lo + _FEW_ROWS and begin < len(self.leaves) and hi <= self._offsets[begin + 1]:
            offset = self._offsets[begin]
            return [self.leaves[begin].columns.rows[LOG_ROW_BYTES * (lo - offset) : LOG_ROW_BYTES * (hi - offset)]]
        found: list[memoryview] = []
        for number in range(begin, len(self.leaves)):
            offset = self._offsets[number]
            if offset >= hi:
                break
            rows = memoryview(self.leaves[number].columns.rows)
            found.append(rows[LOG_ROW_BYTES * max(lo - offset, 0) : LOG_ROW_BYTES * (hi - offset)])
        return found

    def changed_since(self, serial: int) -> Rows:
        """See `LogTable.changed_since`. Every log, if the serial is not one of this index."""
        if not self.serials_from <= serial <= self._serial:
            return np.arange(len(self))
        found = [
            np.flatnonzero(leaf.serials() > serial) + offset
            for leaf, offset in zip(self.leaves, self._offsets[:-1], strict=True)
            if leaf.serial > serial
        ]
        return np.concatenate(found) if found else np.arange(0)

    def runs(self, rows: Rows) -> Runs:
        """See `LogTable.runs`."""
        if len(rows) <= _FEW_LOGS and (few := self._runs_of_few(rows)):
            return few
        is_ascending = bool((rows[1:] >= rows[:-1]).all())  # as whoever asks for many has them
        order = None if is_ascending else np.argsort(rows, kind="stable")
        ascending = rows if order is None else rows[order]
        counts: list[npt.NDArray[np.int64]] = []
        bitmaps: list[npt.NDArray[np.uint64]] = []
        block_numbers: list[npt.NDArray[np.uint64]] = []
        long: list[tuple[int, LongLog]] = []
        bounds = np.searchsorted(ascending, self._offsets).tolist()
        for leaf, offset, (lo, hi) in zip(self.leaves, self._offsets[:-1], pairwise(bounds), strict=True):
            if lo == hi:
                continue
            chosen = ascending[lo:hi] - offset
            every = leaf.counts()
            counts.append(every[chosen])
            held = spread((np.cumsum(every) - every)[chosen], counts[-1])
            bitmaps.append(np.frombuffer(leaf.columns.tails, TAILS)["bitmap"][held])
            block_numbers.append(np.frombuffer(leaf.columns.blocks, ">u8")[:: ROW_BYTES // 8][held])
            if leaf.columns.long:
                at_long = np.flatnonzero(counts[-1] == 0).tolist()
                long += [(lo + at, leaf.columns.long[leaf.handle(int(chosen[at]))]) for at in at_long]
        if not counts:
            return Runs(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        flat_numbers, flat_bitmaps = np.concatenate(block_numbers), np.concatenate(bitmaps)
        found = runs_of(np.concatenate(counts), flat_numbers.astype(np.uint64), flat_bitmaps.astype(np.uint64))
        if long:
            found = _with_long(found, long)
        return found if order is None else _in_order(found, order)

    def _runs_of_few(self, rows: Rows) -> Runs | None:
        """The same for a few short logs; None if they are not short."""
        each: list[list[tuple[int, int]]] = []
        for row in rows.tolist():
            leaf, index = self._at(row)
            log = leaf.log(index)
            if isinstance(log, LongLog) or leaf.columns.counts[index] > _FEW_BLOCKS:
                return None
            each.append(runs_of_one(log))
        return Runs(
            np.array([len(runs) for runs in each], np.int64),
            np.array([first for runs in each for first, _ in runs], np.uint64),
            np.array([last for runs in each for _, last in runs], np.uint64),
        )

    def find(self, handle: bytes) -> int | None:
        """See `LogTable.find`."""
        if not self.leaves:
            return None
        number = self.leaf_number(handle)
        index = self.leaves[number].find(handle)
        return self._offsets[number] + index if self.leaves[number].has(handle, index) else None

    def handle_at(self, row: int) -> bytes:
        """See `LogTable.handle_at`."""
        leaf, index = self._at(row)
        return leaf.handle(index)

    def state_at(self, row: int) -> bytes:
        """See `LogTable.state_at`."""
        leaf, index = self._at(row)
        return leaf.state(index)

    def name_at(self, row: int) -> LogName:
        """See `LogTable.name_at`."""
        leaf, index = self._at(row)
        return leaf.name(index)

    def blocks_at(self, row: int) -> bytes:
        """See `LogTable.blocks_at`."""
        leaf, index = self._at(row)
        return all_rows(leaf.log(index))

    # --- for the node ------------------------------------------------------------------------------------------

    def state(self, handle: bytes) -> bytes | None:
        """The state of a log, None if the view does not have it."""
        row = self.find(handle)
        return None if row is None else self.state_at(row)

    def log(self, handle: bytes) -> Log:
        """The blocks of a log; empty if the view does not have it."""
        row = self.find(handle)
        if row is None:
            return b""
        leaf, index = self._at(row)
        return leaf.log(index)

    def names(self) -> Iterator[LogName]:
        """The names of all logs, in the order of their rows."""
        for leaf in self.leaves:
            yield from leaf.columns.names.all()

    @cached_property
    def fingerprint(self) -> str:
        """Hex over the whole view, as `live_fingerprint`: equal on two mailboxes exactly if they hold the same."""
        hasher = blake3()
        for leaf in self.leaves:
            hasher.update(leaf.columns.rows)
        return hasher.hexdigest()

    def between(self, first: bytes, last: bytes) -> list[Leaf]:
        """The logs with handles from `first` to `last`, as leaves or parts of leaves."""
        found: list[Leaf] = []
        for number in range(self.leaf_number(first), len(self.leaves)):
            leaf = self.leaves[number]
            if leaf.first() > last:
                break
            lo, hi = leaf.find(first), leaf.find(last)
            hi += leaf.has(last, hi)
            if hi > lo:
                found.append(leaf if hi - lo == len(leaf) else leaf.pick(np.arange(lo, hi)))
        return found

    def leaf_number(self, handle: bytes) -> int:
        """The number of the leaf in which a log lies, or would if it were there."""
        return max(0, bisect_right(self._firsts, handle) - 1)

    def _leaf_with(self, row: int) -> int:
        return bisect_right(self._offsets, row) - 1

    def _at(self, row: int) -> tuple[Leaf, int]:
        """The leaf of a row, and the index within it. Raises IndexError."""
        if not 0 <= row < self._offsets[-1]:
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect_right(self._offsets, row) - 1
        return self.leaves[number], row - self._offsets[number]


def _in_order(found: Runs, order: npt.NDArray[np.int64]) -> Runs:
    """The runs of logs of which number i belongs at order[i]."""
    counts, starts = np.empty_like(found.counts), np.empty_like(found.counts)
    counts[order] = found.counts
    starts[order] = np.cumsum(found.counts) - found.counts
    at = spread(starts, counts)
    return Runs(counts, found.firsts[at], found.lasts[at])


def _with_long(short: Runs, long: Sequence[tuple[int, LongLog]]) -> Runs:
    """The runs of all logs, with those of the long ones put where they belong."""
    counts = short.counts.copy()
    behind = np.cumsum(short.counts)
    places = np.repeat([behind[at] for at, _ in long], [log.runs.counts[0] for _, log in long])
    for at, log in long:
        counts[at] = log.runs.counts[0]
    return Runs(
        counts,
        np.insert(short.firsts, places, np.concatenate([log.runs.firsts for _, log in long])),
        np.insert(short.lasts, places, np.concatenate([log.runs.lasts for _, log in long])),
    )
