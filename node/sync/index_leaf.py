"""A leaf of the index: some hundred logs next to each other in the order of their handles, in packed columns.

Objects of Python's would cost a kilobyte for each log; here it is the 32 bytes of its row, 40 for each block, its name,
and little else. A leaf never changes: an edit makes a new one out of copied stretches of bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from node.sync.index_blocks import (
    AGE_MAX_S,
    ROW_BYTES,
    TAIL_BYTES,
    TAILS,
    state_of,
)
from node.sync.index_log import Log, LongLog, log_of, state_of_log
from node.sync.index_names import Names
from protocols.limits.data import HANDLE_BYTES
from protocols.limits.replication import INDEX_SHORT_BLOCKS_MAX
from protocols.limits.sync import DIGEST_STATE_BYTES
from protocols.model import LogName

__all__ = [
    "LOG_ROW_BYTES",
    "Columns",
    "Entry",
    "Leaf",
    "entry_of",
    "find_row",
    "leaf_of",
    "long_among",
    "spread",
]

LOG_ROW_BYTES: Final = HANDLE_BYTES + DIGEST_STATE_BYTES

_FOREVER_S: Final = 2**63 - 1


class Entry(NamedTuple):
    """One log, with one block at least, and the serial of its last change."""

    handle: bytes
    state: bytes
    name: LogName
    log: Log
    serial: int


def entry_of(handle: bytes, name: LogName, log: Log, serial: int) -> Entry | None:
    """The log that has these blocks; None if there are none."""
    return Entry(handle, state_of_log(log), name, log, serial) if log else None


class Columns(NamedTuple):
    """Some logs in ascending order of handle, a column for each field.

    rows: handle and state, 32 bytes a log
    serials: the serial of its last change, 8 bytes a log
    counts: how many blocks it has, 1 byte a log; 0: it is one of `long`
    blocks, tails: the blocks of all logs but those, 24 and 16 bytes a block
    long: by handle
    """

    rows: bytes
    serials: bytes
    counts: bytes
    blocks: bytes
    tails: bytes
    names: Names
    long: Mapping[bytes, LongLog]


class Leaf:
    """Up to INDEX_LEAF_LOGS_MAX logs, one at least. Immutable; compared by identity.

    `oldest_s` and `newest_s` are bounds of the ages of everything in it, `serial` is that of the last change.
    """

    __slots__ = ("columns", "newest_s", "oldest_s", "serial")

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        ages = np.frombuffer(columns.tails, TAILS)
        long = columns.long.values()
        self.oldest_s = min([int(ages["oldest_s"].min(initial=AGE_MAX_S)), *(log.oldest_s for log in long)])
        newest_s = max([int(ages["newest_s"].max(initial=0)), *(log.newest_s for log in long)])
        self.newest_s = newest_s if newest_s < AGE_MAX_S else _FOREVER_S
        self.serial = int(np.frombuffer(columns.serials, np.uint64).max())

    def __len__(self) -> int:
        return len(self.columns.counts)

    def first(self) -> bytes:
        """The lowest handle."""
        return self.handle(0)

    def handles(self) -> list[bytes]:
        """All handles, ascending."""
        rows = self.columns.rows
        return [rows[at : at + HANDLE_BYTES] for at in range(0, len(rows), LOG_ROW_BYTES)]

    def handle(self, index: int) -> bytes:
        """The handle of a log."""
        return self.columns.rows[LOG_ROW_BYTES * index : LOG_ROW_BYTES * index + HANDLE_BYTES]

    def state(self, index: int) -> bytes:
        """The state of a log."""
        return self.columns.rows[LOG_ROW_BYTES * index + HANDLE_BYTES : LOG_ROW_BYTES * (index + 1)]

    def name(self, index: int) -> LogName:
        """The name of a log."""
        return self.columns.names.at(index)

    def find(self, handle: bytes) -> int:
        """The index of the first log with this handle or a higher one."""
        return find_row(self.columns.rows, handle)

    def has(self, handle: bytes, index: int) -> bool:
        """Whether that is the log at `index`, which may be behind the last one."""
        return index < len(self) and self.handle(index) == handle

    def log(self, index: int) -> Log:
        """The blocks of a log."""
        count = self.columns.counts[index]
        if not count:
            return self.columns.long[self.handle(index)]
        start = sum(self.columns.counts[:index])
        return b"".join(
            (
                memoryview(self.columns.blocks)[ROW_BYTES * start : ROW_BYTES * (start + count)],
                memoryview(self.columns.tails)[TAIL_BYTES * start : TAIL_BYTES * (start + count)],
            )
        )

    def serials(self) -> npt.NDArray[np.uint64]:
        """The serial of each log's last change."""
        return np.frombuffer(self.columns.serials, np.uint64)

    def counts(self) -> npt.NDArray[np.int64]:
        """How many blocks each log has in the columns: 0 for a long one."""
        return np.frombuffer(self.columns.counts, np.uint8).astype(np.int64)

    def blocks_held(self) -> int:
        """How many blocks all logs have."""
        return len(self.columns.blocks) // ROW_BYTES + sum(map(len, self.columns.long.values()))

    def states_anew(self) -> list[bytes]:
        """The state of each log as it follows from its blocks."""
        blocks = memoryview(self.columns.blocks)
        ends = np.cumsum(self.counts() * ROW_BYTES).tolist()
        return [
            state_of(blocks[lo:hi]) if hi > lo else self.columns.long[self.handle(index)].state
            for index, (lo, hi) in enumerate(pairwise([0, *ends]))
        ]

    def pick(self, chosen: npt.NDArray[np.int64]) -> Leaf:
        """A leaf of some of the logs: ascending indices, one at least."""
        columns, counts = self.columns, self.counts()
        held = spread((np.cumsum(counts) - counts)[chosen], counts[chosen])
        rows = _take(columns.rows, LOG_ROW_BYTES, chosen)
        return Leaf(
            Columns(
                rows,
                _take(columns.serials, 8, chosen),
                _take(columns.counts, 1, chosen),
                _take(columns.blocks, ROW_BYTES, held),
                _take(columns.tails, TAIL_BYTES, held),
                columns.names.pick(chosen),
                long_among(columns.long, rows),
            )
        )


def find_row(rows: bytes, handle: bytes, lo: int = 0) -> int:
    """The index of the first row with this handle or a higher one, at `lo` or after it."""
    hi = len(rows) // LOG_ROW_BYTES
    while lo < hi:
        middle = (lo + hi) // 2
        if rows[LOG_ROW_BYTES * middle : LOG_ROW_BYTES * middle + HANDLE_BYTES] < handle:
            lo = middle + 1
        else:
            hi = middle
    return lo


def spread(starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """starts[0], starts[0] + 1, … counts[0] of them, then from starts[1], and so on."""
    behind = np.cumsum(counts)
    return np.arange(int(counts.sum())) + np.repeat(starts - behind + counts, counts)


def _take(column: bytes | bytearray, unit: int, chosen: npt.NDArray[np.int64]) -> bytes:
    return np.frombuffer(column, f"V{unit}")[chosen].tobytes()


def long_among(long: Mapping[bytes, LongLog], rows: bytes) -> Mapping[bytes, LongLog]:
    """Those of the long logs that have a row."""
    if not long:
        return long
    handles = {rows[at : at + HANDLE_BYTES] for at in range(0, len(rows), LOG_ROW_BYTES)}
    return {handle: log for handle, log in long.items() if handle in handles}


def leaf_of(handles: bytes, counts: Sequence[int], blocks: bytes, tails: bytes, names: Names, serials: bytes) -> Leaf:
    """A leaf of logs that were read anew, all of their blocks in one row, however many they are."""
    rows: list[bytes] = []
    kept: list[memoryview] = []
    kept_tails: list[memoryview] = []
    short = bytearray()
    long: dict[bytes, LongLog] = {}
    source, source_tails = memoryview(blocks), memoryview(tails)
    at = 0
    for index, count in enumerate(counts):
        handle = handles[HANDLE_BYTES * index : HANDLE_BYTES * (index + 1)]
        own = source[ROW_BYTES * at : ROW_BYTES * (at + count)]
        own_tails = source_tails[TAIL_BYTES * at : TAIL_BYTES * (at + count)]
        at += count
        if count > INDEX_SHORT_BLOCKS_MAX:
            log = log_of([b"".join((own, own_tails))])
            assert isinstance(log, LongLog)
            long[handle] = log
            rows += (handle, log.state)
            short.append(0)
        else:
            kept.append(own)
            kept_tails.append(own_tails)
            rows += (handle, state_of(own))
            short.append(count)
    if long:
        blocks, tails = b"".join(kept), b"".join(kept_tails)
    return Leaf(Columns(b"".join(rows), serials, bytes(short), blocks, tails, names, long))
