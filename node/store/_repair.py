"""Saves what can be read of a damaged store into a new one. Works on a file that no mailbox has open.

Keys are read from both ends of each table and index that has them, as far as the damage lets; every blob is checked
against its digest. What is lost comes back from neighbours that hold it: to them it looks like any other gap.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.store._budget import Budget
from node.store._ledger import Ledger
from node.store._readers import blob_of
from node.store._schema import SEQ_OFFSET, connect_reader, connect_writer, prepare, put_in_place, translate
from node.store._variants import Unjudged
from node.store.api import Arrival, StoreUnavailable
from protocols.limits.data import DIGEST_BYTES, SEQ_MAX
from protocols.limits.store import COMMIT_BATCH_BYTES, REPAIR_PAGE_ROWS
from protocols.model import LogName, check_id, digest_of
from protocols.operations import is_genuine

__all__ = ["RepairReport", "repair_file"]

_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What became of a repair. `lost` messages were known by name but could not be read; how many more there were
    cannot be told where `keys_lost`. The damaged file is kept as `moved_to`."""

    kept: int
    lost: int
    keys_lost: bool
    moved_to: Path


def repair_file(path: Path, *, progress: Callable[[int], None] = lambda messages: None) -> RepairReport:
    """Puts a new store with all that is sound in the place of the store `path`, and keeps the old file beside it.

    Raises StoreUnavailable if there is no such file or the disk fails; then everything is as it was. Blocks.
    """
    if not path.exists():
        raise StoreUnavailable(f"there is no store {path}")
    draft = path.with_name(path.name + ".repaired")
    moved_to = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        for suffix in ("", "-wal", "-shm"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        prepare(draft)
        with closing(connect_writer(draft)) as connection:
            salvage = _Salvage(path, Ledger(connection, budget=Budget(None)), progress)
            salvage.run()
        for suffix in ("-wal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(moved_to.with_name(moved_to.name + suffix))
        put_in_place(draft, path)
    except (sqlite3.Error, OSError) as error:
        raise translate(error, draft) from error
    return RepairReport(salvage.kept, salvage.lost, salvage.keys_lost, moved_to)


class _Salvage:
    def __init__(self, path: Path, ledger: Ledger, progress: Callable[[int], None]) -> None:
        self._path = path
        self._ledger = ledger
        self._progress = progress
        self.kept = 0
        self.lost = 0
        self.keys_lost = False
        self._first_lost: dict[int, int] = {}  # log -> stored seq

    def run(self) -> None:
        try:
            self._db = connect_reader(self._path)
        except sqlite3.Error:
            self.keys_lost = True
            return
        with closing(self._db):
            topics = dict(self._both_ends("SELECT id, topic FROM topics", "id", 0))
            topics |= dict(self._both_ends("SELECT id, topic FROM topics INDEXED BY idx_topics_topic", "topic", 1))
            logs = {row[0]: row for row in self._both_ends("SELECT id, topic, log FROM logs", "id", 0)}
            by_name = self._both_ends(
                "SELECT id, topic, log FROM logs INDEXED BY idx_logs_topic_log", "topic, log", 1, 2
            )
            logs |= {row[0]: row for row in by_name}
            names: dict[int, LogName] = {}
            for log_id, topic_id, log in logs.values():
                try:
                    names[log_id] = LogName(check_id("a topic", topics[topic_id]), check_id("a log", log))
                except (KeyError, TypeError, ValueError):
                    self.keys_lost = True
            keys = self._keys()
            self._keep(names, keys)
            self._keep_watermarks(names)

    def _keys(self) -> dict[tuple[int, int, bytes], tuple[int, int, int]]:
        """(log, stored seq, digest) -> (first stored, size, blob) of every message of which that can be read."""
        keys: dict[tuple[int, int, bytes], tuple[int, int, int]] = {}
        columns = "SELECT log, seq, digest, first_stored, size, blob FROM messages"
        by_age = self._both_ends(f"{columns} INDEXED BY messages_age", "first_stored, blob", 3, 5)
        for row in (*by_age, *self._both_ends(columns, "log, seq, digest", 0, 1, 2)):
            log, seq, digest, first_stored_s, size, blob = row
            if isinstance(digest, bytes) and len(digest) == DIGEST_BYTES and isinstance(first_stored_s, int):
                keys[log, seq, digest] = (first_stored_s, size, blob)
        return keys

    def _both_ends(self, sql: str, order: str, *at: int) -> Iterator[tuple[Any, ...]]:
        """All rows that can be reached from the beginning and from the end of a table or index; `at` are the places
        of the columns that order it."""
        columns = order.split(", ")
        for way, sign in (("ASC", ">"), ("DESC", "<")):
            after: Sequence[Any] | None = None
            while True:
                where = "" if after is None else f" WHERE ({order}) {sign} ({', '.join('?' * len(columns))})"
                by = ", ".join(f"{column} {way}" for column in columns)
                rows: list[tuple[Any, ...]] = []
                try:
                    rows.extend(self._db.execute(f"{sql}{where} ORDER BY {by} LIMIT {REPAIR_PAGE_ROWS}", after or ()))
                except (sqlite3.Error, UnicodeDecodeError):
                    self.keys_lost = True
                    yield from rows  # those before the damage
                    break
                yield from rows
                if len(rows) < REPAIR_PAGE_ROWS:
                    return  # the other end has been reached
                after = [rows[-1][place] for place in at]

    def _keep(self, names: dict[int, LogName], keys: dict[tuple[int, int, bytes], tuple[int, int, int]]) -> None:
        batch: list[Arrival] = []
        size = 0
        for (log, seq, digest), (first_stored_s, blob_size, first) in sorted(keys.items()):
            blob = self._blob(first, blob_size) if log in names else None
            if blob is None or digest_of(blob) != digest or not 0 <= seq + SEQ_OFFSET <= SEQ_MAX:
                self.lost += 1
                self._first_lost.setdefault(log, seq)
                continue
            batch.append(Arrival(names[log], seq + SEQ_OFFSET, blob, digest, first_stored_s))
            size += len(blob)
            if size >= COMMIT_BATCH_BYTES or len(batch) >= REPAIR_PAGE_ROWS:
                self._store(batch)
                batch, size = [], 0
        if batch:
            self._store(batch)

    def _blob(self, first: int, size: int) -> bytes | None:
        try:
            return blob_of(self._db, first, size)
        except (sqlite3.Error, TypeError, OverflowError):
            return None

    def _store(self, batch: list[Arrival]) -> None:
        judged: dict[tuple[LogName, int, bytes], bool] = {}
        blobs = {(arrival.name, arrival.seq, arrival.digest): arrival.blob for arrival in batch}
        with self._ledger.transaction():
            try:
                self._ledger.put(batch, None, judged)
            except Unjudged as unjudged:
                for key in unjudged.wanted:
                    judged[key] = key in blobs and is_genuine(key[0], key[1], blobs[key])
                self._ledger.put(batch, None, judged)
        self.kept += len(batch)
        self._progress(self.kept)

    def _keep_watermarks(self, names: dict[int, LogName]) -> None:
        """What has expired is not to be asked for again; but what has just been lost is, and it may be anything where
        keys were lost."""
        if self.keys_lost:
            return
        db = self._ledger.db
        with self._ledger.transaction():
            for log, stored in self._both_ends("SELECT log, seq FROM watermarks", "log", 0):
                seq = min(stored, self._first_lost.get(log, _LARGEST) - 1)
                if log not in names or seq < -SEQ_OFFSET:
                    continue
                topic, name = names[log]
                db.execute("INSERT OR IGNORE INTO topics (topic) VALUES (?)", (topic,))
                db.execute(
                    "INSERT OR IGNORE INTO logs (topic, log, emptied) SELECT id, ?, ? FROM topics WHERE topic = ?",
                    (name, int(time.time()), topic),
                )
                db.execute(
                    "INSERT INTO watermarks SELECT l.id, ? FROM logs l JOIN topics t ON t.id = l.topic"
                    " WHERE t.topic = ? AND l.log = ?"
                    " ON CONFLICT (log) DO UPDATE SET seq = max(seq, excluded.seq)",
                    (seq, topic, name),
                )
