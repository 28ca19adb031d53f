"""Leaves made out of other leaves: with some logs changed, split where they grew, joined where they shrank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from node.sync.index_blocks import ROW_BYTES, TAIL_BYTES, blocks_in, parts_of, rows_in, tails_in
from node.sync.index_leaf import LOG_ROW_BYTES, Columns, Entry, Leaf, find_row, long_among
from node.sync.index_log import LongLog
from node.sync.index_names import Names, PackedName, pack_name
from protocols.limits.replication import INDEX_LEAF_LOGS_MAX

__all__ = ["SPLIT_LOGS", "edit", "gather", "joined"]

SPLIT_LOGS: Final = INDEX_LEAF_LOGS_MAX * 5 // 8
"""Logs in each part when a leaf is split: room to grow, and nowhere near the size at which two are joined again."""

_JOIN_LOGS_MAX: Final = INDEX_LEAF_LOGS_MAX // 2

_NONE: Final = Columns(b"", b"", b"", b"", b"", Names(()), {})


def edit(leaf: Leaf | None, changes: Sequence[tuple[bytes, Entry | None]]) -> list[Leaf]:
    """A leaf (None: an empty one) with some logs replaced, added, or (None) removed; in several parts if it grew.

    `changes` ascend by handle. An entry with the state that the log has already changes nothing, its serial included;
    if none does, the leaf itself is returned.
    """
    editing = _Editing(leaf.columns if leaf else _NONE)
    for handle, entry in changes:
        editing.change(handle, entry)
    if leaf and not editing.has_changed:
        return [leaf]
    return _parts(editing.finish())


class _Editing:
    """Columns that are put together anew from stretches of old ones and from what comes in between."""

    def __init__(self, old: Columns) -> None:
        self.has_changed = False
        self._old = old
        self._behind = np.cumsum(np.frombuffer(old.counts, np.uint8), dtype=np.int64)
        self._at = 0
        self._rows = _Column(old.rows, LOG_ROW_BYTES)
        self._serials = _Column(old.serials, 8)
        self._counts = _Column(old.counts, 1)
        self._blocks = _Column(old.blocks, ROW_BYTES)
        self._tails = _Column(old.tails, TAIL_BYTES)
        self._long = dict(old.long)
        self._renamed: list[tuple[int, int, Entry | None]] = []

    def change(self, handle: bytes, entry: Entry | None) -> None:
        """Replaces, adds, or removes a log, behind those of the calls before."""
        at = self._at = find_row(self._old.rows, handle, self._at)
        row = self._old.rows[LOG_ROW_BYTES * at : LOG_ROW_BYTES * (at + 1)]
        known = row.startswith(handle)
        self._at += known
        if (entry is None and not known) or (entry is not None and row == handle + entry.state):
            return
        self.has_changed = True
        until = at + known
        lo = self._behind.item(at - 1) if at else 0
        hi = lo + self._old.counts[at] if known else lo
        self._long.pop(handle, None)
        short = b""
        if entry is None:
            self._rows.cut(at, until, b"")
            self._serials.cut(at, until, b"")
            self._counts.cut(at, until, b"")
        else:
            if isinstance(entry.log, LongLog):
                self._long[handle] = entry.log
            else:
                short = entry.log
            self._rows.cut(at, until, handle + entry.state)
            self._serials.cut(at, until, entry.serial.to_bytes(8, "little"))
            self._counts.cut(at, until, bytes((blocks_in(short),)))
        self._blocks.cut(lo, hi, rows_in(short))
        self._tails.cut(lo, hi, tails_in(short))
        if entry is None or not known:
            self._renamed.append((at, until, entry))

    def finish(self) -> Columns:
        """The columns with all changes."""
        return Columns(
            self._rows.finish(),
            self._serials.finish(),
            self._counts.finish(),
            self._blocks.finish(),
            self._tails.finish(),
            self._names(),
            self._long,
        )

    def _names(self) -> Names:
        if not self._renamed:
            return self._old.names
        old = self._old.names.packed()
        new: list[PackedName] = []
        done = 0
        for at, until, entry in self._renamed:
            new += old[done:at]
            if entry:
                new.append(pack_name(entry.name))
            done = until
        return Names(new + old[done:])


class _Column:
    """One column being put together anew."""

    __slots__ = ("_done", "_parts", "_source", "_unit")

    def __init__(self, source: bytes, unit: int) -> None:
        self._source = memoryview(source)
        self._unit = unit
        self._parts: list[bytes | memoryview] = []
        self._done = 0

    def cut(self, lo: int, hi: int, new: bytes | memoryview) -> None:
        """Puts something else instead of the units lo..hi-1, behind those of the calls before."""
        self._parts += (self._source[self._done : self._unit * lo], new)
        self._done = self._unit * hi

    def finish(self) -> bytes:
        self._parts.append(self._source[self._done :])
        return b"".join(self._parts)


def _parts(columns: Columns) -> list[Leaf]:
    """The logs as one leaf, or several if they are too many, or none."""
    count = len(columns.counts)
    if not count:
        return []
    if count <= INDEX_LEAF_LOGS_MAX:
        return [Leaf(columns)]
    names = columns.names.packed()
    behind = np.concatenate(([0], np.cumsum(np.frombuffer(columns.counts, np.uint8), dtype=np.int64))).tolist()
    leaves: list[Leaf] = []
    for lo, hi in parts_of(count, SPLIT_LOGS):
        rows = columns.rows[LOG_ROW_BYTES * lo : LOG_ROW_BYTES * hi]
        leaves.append(
            Leaf(
                Columns(
                    rows,
                    columns.serials[8 * lo : 8 * hi],
                    columns.counts[lo:hi],
                    columns.blocks[ROW_BYTES * behind[lo] : ROW_BYTES * behind[hi]],
                    columns.tails[TAIL_BYTES * behind[lo] : TAIL_BYTES * behind[hi]],
                    Names(names[lo:hi]),
                    long_among(columns.long, rows),
                )
            )
        )
    return leaves


def gather(leaves: Iterable[Leaf]) -> list[Leaf]:
    """The same leaves, small neighbours joined: what expires must not leave thousands of tiny ones behind."""
    gathered: list[Leaf] = []
    for leaf in leaves:
        if gathered and len(gathered[-1]) + len(leaf) <= _JOIN_LOGS_MAX:
            gathered[-1] = joined([gathered[-1], leaf])
        else:
            gathered.append(leaf)
    return gathered


def joined(leaves: Sequence[Leaf]) -> Leaf:
    """One leaf, of whatever size, of the logs of one leaf or more that follow each other."""
    if len(leaves) == 1:
        return leaves[0]
    all_columns = [leaf.columns for leaf in leaves]
    return Leaf(
        Columns(
            b"".join([one.rows for one in all_columns]),
            b"".join([one.serials for one in all_columns]),
            b"".join([one.counts for one in all_columns]),
            b"".join([one.blocks for one in all_columns]),
            b"".join([one.tails for one in all_columns]),
            Names([name for one in all_columns for name in one.names.packed()]),
            {handle: log for one in all_columns for handle, log in one.long.items()},
        )
    )
