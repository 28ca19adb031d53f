"""The ceiling: what SQLite itself does on this disk, from Python, with nothing around it.

One connection, WAL, `synchronous = FULL` (each commit is on the disk), the store's own cache and checkpoint sizes, and
the plainest table that could hold messages: a row in order of arrival and one unique index. It has no ages, watermarks,
variants, names or limits.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from node.bench.rates import Rate, rate_of
from node.store.api import Arrival
from protocols.limits.store import CHECKPOINT_PAGES, WRITER_CACHE_BYTES
from protocols.model import LogName

__all__ = ["RawRow", "RawSqlite"]

RawRow: TypeAlias = tuple[int, int, bytes, int, int, bytes]
"""log number, seq, digest, first stored (Unix seconds), size, blob"""

_INSERT = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)"


class RawSqlite:
    """One database file. All methods block."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._logs: dict[LogName, int] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[RawSqlite]:
        """A new database at `path`."""
        with closing(sqlite3.connect(path, isolation_level=None, cached_statements=256)) as database:
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                f"cache_size = -{WRITER_CACHE_BYTES // 1024}",
                f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            ):
                database.execute(f"PRAGMA {pragma}").fetchall()
            database.execute(
                "CREATE TABLE messages (log INTEGER, seq INTEGER, digest BLOB, first_stored INTEGER, size INTEGER,"
                " blob BLOB, PRIMARY KEY (log, seq, digest))"
            )
            yield cls(database)

    def rows(self, arrivals: Sequence[Arrival]) -> list[RawRow]:
        """What `put` takes; logs become numbers here, so that it costs the measurement nothing."""
        logs = self._logs
        return [
            (logs.setdefault(name, len(logs)), seq, digest, first_stored_s, len(blob), blob)
            for name, seq, blob, digest, first_stored_s in arrivals
        ]

    def put(self, batches: Sequence[Sequence[RawRow]]) -> Rate:
        """Inserts each batch in a transaction of its own."""
        waits_s = []
        begun_s = time.perf_counter()
        for batch in batches:
            start_s = time.perf_counter()
            if len(batch) == 1:  # one statement is a transaction by itself
                self._database.execute(_INSERT, batch[0])
            else:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(_INSERT, batch)
                self._database.execute("COMMIT")
            waits_s.append(time.perf_counter() - start_s)
        return rate_of(sum(map(len, batches)), begun_s, waits_s)

    def get(self, requests: Sequence[Sequence[tuple[LogName, int]]]) -> Rate:
        """Each request names (log, seq): of each the log's messages from that seq on are read."""
        waits_s, read = [], 0
        begun_s = time.perf_counter()
        for request in requests:
            start_s = time.perf_counter()
            for name, seq in request:
                rows = self._database.execute(
                    "SELECT seq, blob FROM messages WHERE log = ? AND seq >= ? ORDER BY seq", (self._logs[name], seq)
                )
                read += len(rows.fetchall())
            waits_s.append(time.perf_counter() - start_s)
        return rate_of(read, begun_s, waits_s)
