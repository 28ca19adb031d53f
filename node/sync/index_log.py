"""The blocks of one log, however long it is.

Nearly all logs are short: their blocks are one packed bytes object (`index_blocks`), a few kilobytes that are cheap to
copy at each change. A long one is cut into chunks, and a change copies those chunks that it touches. Its state hashes
all its rows in order, so the hash is remembered as it stood behind each chunk: what is appended costs what it adds, and
what changes further in costs hashing from there on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import Final, TypeAlias

import numpy as np
from blake3 import blake3

from node.sync.index_blocks import (
    ROW_BYTES,
    TAIL_BYTES,
    TAILS,
    Block,
    PackedBlocks,
    bitmaps,
    blocks_in,
    find,
    numbers,
    parts_of,
    restrict,
    rows_in,
    splice,
    state_of,
    tails_in,
    take,
)
from node.sync.index_runs import runs_of
from protocols.limits.replication import INDEX_CHUNK_BLOCKS_MAX, INDEX_SHORT_BLOCKS_MAX
from protocols.limits.sync import DIGEST_STATE_BYTES, LOG_RUNS_MAX
from protocols.sync.effects import Runs

__all__ = [
    "Log",
    "LongLog",
    "all_rows",
    "between",
    "chunks_of",
    "length_of",
    "log_of",
    "restricted",
    "spliced",
    "state_of_log",
    "taken",
    "work_bytes",
]

Log: TypeAlias = "PackedBlocks | LongLog"
"""The blocks of a log: packed if they are INDEX_SHORT_BLOCKS_MAX or fewer."""


class LongLog:
    """A log of more blocks than that. Immutable.

    `state` is the log's, `oldest_s` and `newest_s` are bounds of its ages as in a tail.
    """

    __slots__ = ("_ages", "_firsts", "_hashers", "_runs", "chunks", "newest_s", "oldest_s", "state")

    def __init__(self, chunks: Sequence[PackedBlocks], before: LongLog | None = None) -> None:
        """`before` is what the log was before a change: what both begin with is not hashed again."""
        self.chunks: tuple[PackedBlocks, ...] = tuple(chunks)
        self._hashers: list[blake3] = []
        """The hash as it stands behind each chunk but the last."""
        if before is not None:
            same = takewhile(lambda pair: pair[0] is pair[1], zip(self.chunks[:-1], before.chunks[:-1], strict=False))
            self._hashers = before._hashers[: sum(1 for _ in same)]
        hasher = self._hashers[-1].copy() if self._hashers else blake3()
        for chunk in self.chunks[len(self._hashers) :]:
            hasher.update(rows_in(chunk))
            self._hashers.append(hasher.copy())
        self.state = self._hashers.pop().digest(length=DIGEST_STATE_BYTES)
        known = {} if before is None else dict(zip(map(id, before.chunks), before._ages, strict=True))
        self._ages: list[tuple[int, int]] = [known.get(id(chunk)) or _age_span(chunk) for chunk in self.chunks]
        self.oldest_s = min(oldest_s for oldest_s, _ in self._ages)
        self.newest_s = max(newest_s for _, newest_s in self._ages)
        self._firsts = [chunk[:8] for chunk in chunks]
        self._runs: Runs | None = None

    def __len__(self) -> int:
        """How many blocks there are."""
        return sum(map(blocks_in, self.chunks))

    def chunk_with(self, number: int) -> int:
        """The index of the chunk in which a block lies, or would if it were there."""
        return max(0, bisect_right(self._firsts, number.to_bytes(8, "big")) - 1)

    @property
    def runs(self) -> Runs:
        """Its runs of sequence numbers, as `LogTable.runs` gives them."""
        if self._runs is None:
            self._runs = self._count_runs()
        return self._runs

    def _count_runs(self) -> Runs:
        firsts: list[int] = []
        lasts: list[int] = []
        for chunk in self.chunks:
            found = runs_of(np.array([blocks_in(chunk)]), numbers(rows_in(chunk)), bitmaps(tails_in(chunk)))
            if found.counts[0] == 0:
                return _NO_RUNS  # there are too many in this chunk alone
            firsts += found.firsts.tolist()
            lasts += found.lasts.tolist()
        gaps = [at for at, (last, first) in enumerate(zip(lasts, firsts[1:], strict=False), 1) if last + 1 < first]
        if len(gaps) >= LOG_RUNS_MAX:
            return _NO_RUNS
        return Runs(
            np.array([len(gaps) + 1]),
            np.array([firsts[at] for at in (0, *gaps)], np.uint64),
            np.array([lasts[at - 1] for at in (*gaps, 0)], np.uint64),
        )


def _age_span(chunk: PackedBlocks) -> tuple[int, int]:
    ages = np.frombuffer(tails_in(chunk), TAILS)
    return int(ages["oldest_s"].min()), int(ages["newest_s"].max())


_NO_RUNS: Final = Runs(np.zeros(1, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64))


def log_of(chunks: Sequence[PackedBlocks], before: Log = b"") -> Log:
    """The log that has these blocks. `before` is what it was before a change."""
    gathered: list[PackedBlocks] = []
    for chunk in filter(None, chunks):
        if gathered and blocks_in(gathered[-1]) + blocks_in(chunk) <= INDEX_CHUNK_BLOCKS_MAX // 2:
            gathered[-1] = _joined(gathered[-1], chunk)
        else:
            gathered += _cut(chunk)
    if sum(map(blocks_in, gathered)) > INDEX_SHORT_BLOCKS_MAX:
        return LongLog(gathered, before if isinstance(before, LongLog) else None)
    short = b""
    for chunk in gathered:
        short = _joined(short, chunk)
    return short


def _joined(one: PackedBlocks, other: PackedBlocks) -> PackedBlocks:
    return b"".join((rows_in(one), rows_in(other), tails_in(one), tails_in(other)))


def _cut(chunk: PackedBlocks) -> list[PackedBlocks]:
    """A chunk in parts with room to grow, if it has become too long."""
    count = blocks_in(chunk)
    if count <= INDEX_CHUNK_BLOCKS_MAX:
        return [chunk]
    rows, tails = rows_in(chunk), tails_in(chunk)
    return [
        b"".join((rows[ROW_BYTES * lo : ROW_BYTES * hi], tails[TAIL_BYTES * lo : TAIL_BYTES * hi]))
        for lo, hi in parts_of(count, INDEX_CHUNK_BLOCKS_MAX * 5 // 8)
    ]


def chunks_of(log: Log) -> Sequence[PackedBlocks]:
    """The blocks of a log in packed parts; none if it is empty."""
    if isinstance(log, LongLog):
        return log.chunks
    return (log,) if log else ()


def length_of(log: Log) -> int:
    """How many blocks there are."""
    return len(log) if isinstance(log, LongLog) else blocks_in(log)


def state_of_log(log: Log) -> bytes:
    """The log's state: `reconcile.log_state` of its blocks."""
    return log.state if isinstance(log, LongLog) else state_of(rows_in(log))


def taken(log: Log, number: int) -> Block | None:
    """A block by its number, None if it is not there."""
    return take(log.chunks[log.chunk_with(number)] if isinstance(log, LongLog) else log, number)


def between(log: Log, first: int, last: int) -> PackedBlocks:
    """The blocks with the numbers first..last; none if `last` is lower."""
    if last < first:
        return b""
    chunks = log.chunks[log.chunk_with(first) : log.chunk_with(last) + 1] if isinstance(log, LongLog) else (log,)
    found = [(chunk, find(chunk, first), find(chunk, last + 1)) for chunk in chunks]
    rows = [rows_in(chunk)[ROW_BYTES * lo : ROW_BYTES * hi] for chunk, lo, hi in found]
    return b"".join(rows + [tails_in(chunk)[TAIL_BYTES * lo : TAIL_BYTES * hi] for chunk, lo, hi in found])


def spliced(log: Log, changes: Sequence[tuple[int, Block | None]]) -> Log:
    """`log` with some blocks replaced, added, or (None) removed. `changes` ascend by block number."""
    if not isinstance(log, LongLog):
        changed = splice(log, changes)
        return changed if blocks_in(changed) <= INDEX_SHORT_BLOCKS_MAX else log_of([changed])
    chunks = list(log.chunks)
    for at, group in groupby(changes, key=lambda change: log.chunk_with(change[0])):
        chunks[at] = splice(chunks[at], list(group))
    return log_of(chunks, log)


def work_bytes(log: Log, changes: Sequence[tuple[int, Block | None]]) -> int:
    """About how many bytes `spliced` copies and hashes, but for what each change itself costs."""
    if not isinstance(log, LongLog) or not changes:
        return 0 if isinstance(log, LongLog) else len(log)
    return sum(map(len, log.chunks[log.chunk_with(changes[0][0]) :]))


def restricted(log: Log, alive_from_s: int) -> tuple[Log, list[int]]:
    """The blocks of which everything is alive, and the numbers of those of which only a part may be."""
    if not isinstance(log, LongLog):
        return restrict(log, alive_from_s)
    if log.oldest_s >= alive_from_s:
        return log, []
    chunks: list[PackedBlocks] = []
    partly: list[int] = []
    for chunk in log.chunks:
        alive, cut = restrict(chunk, alive_from_s)
        chunks.append(chunk if len(alive) == len(chunk) else alive)
        partly += cut
    return log_of(chunks, log), partly


def all_rows(log: Log) -> bytes:
    """The rows of all blocks, ascending."""
    return b"".join(map(rows_in, log.chunks)) if isinstance(log, LongLog) else bytes(rows_in(log))
