"""The writing side of the SQLite store: what one transaction does. Lives in the writer thread; knows no trio.

A method that raises StoreError has written nothing. After any other exception the transaction must be rolled back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from node.store._schema import SEQ_OFFSET, chunks_of, one
from node.store._variants import Key, Occupancy, Row, count, settle
from node.store.api import Arrival, Change, PutResult, StoredItem, StoreFull
from protocols.limits import (
    BLOB_CHUNK_BYTES,
    EMPTY_LOGS_MAX,
    EXPIRY_BATCH_MESSAGES,
    EXPIRY_LOCK_S,
    EXPIRY_SLICE_MESSAGES,
    INSERT_ROWS,
    LOG_CACHE_MAX,
    RECLAIM_BATCH_CHUNKS,
)
from protocols.model import Item, LogName

__all__ = ["Ledger"]


@dataclass(slots=True)
class _Log:
    """What the writer knows of a log. `top` is at least the highest seq held, -1 if there is none."""

    id: int
    topic_id: int
    watermark: int | None
    top: int
    is_live: bool


class Ledger:
    """All changes of one store file. Not thread-safe: the writer owns it."""

    def __init__(self, connection: sqlite3.Connection, *, limit_bytes: int | None) -> None:
        self._db = connection
        self._limit_bytes = limit_bytes
        self._logs: dict[LogName, _Log] = {}
        messages, size = connection.execute(
            "SELECT count(*), total(size) FROM messages INDEXED BY messages_age"
        ).fetchone()
        logs = one(connection, "SELECT count(*) FROM logs WHERE emptied IS NULL")
        topics = one(connection, "SELECT count(DISTINCT topic) FROM logs INDEXED BY logs_live WHERE emptied IS NULL")
        self.occupancy = Occupancy(messages, int(size), logs, topics)
        self._empty_logs: int = one(connection, "SELECT count(*) FROM logs WHERE emptied IS NOT NULL")
        self.has_garbage = one(connection, "SELECT 1 FROM garbage LIMIT 1") is not None
        # Ids only ever grow while there is a row above: what arrives together lies together.
        self._next_blob = 1 + max(
            one(connection, "SELECT max(id) FROM blobs") or 0, one(connection, "SELECT max(last) FROM garbage") or 0
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside is committed durably, or none of it. Raises sqlite3.Error."""
        before = replace(self.occupancy), self._empty_logs, self._next_blob, self.has_garbage
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self.occupancy, self._empty_logs, self._next_blob, self.has_garbage = before
            self._logs.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- storing ---------------------------------------------------------------------------------------------------

    def put(self, arrivals: Sequence[Arrival], origin: object) -> tuple[PutResult, Change]:
        """See `Store.put`. Raises StoreFull."""
        logs: dict[LogName, dict[int, Key]] = {}
        blobs: dict[bytes, bytes] = {}
        for name, seq, blob, digest, first_stored_s in arrivals:
            keys = logs.get(name)
            if keys is None:
                keys = logs[name] = {}
            key = keys.get(seq)
            if key is None:
                key = keys[seq] = Key({}, {}, {})
            known_s = key.arriving.get(digest)
            if known_s is None or first_stored_s < known_s:
                key.arriving[digest] = first_stored_s
            blobs[digest] = blob
        growth = Occupancy()
        for name, keys in logs.items():
            self._plan(name, keys, blobs, growth)
        if self.occupancy.exceeds(self._limit_bytes, growth):
            raise StoreFull(f"the storage limit of {self._limit_bytes} bytes is reached")
        counts = count(arrivals, logs)
        change = Change([], [], [], origin)
        new: list[tuple[int, int, bytes, int, int, int]] = []
        new_blobs: list[tuple[int, bytes | memoryview]] = []
        stored = [(self._store_log(name, keys, blobs, change, new, new_blobs), name) for name, keys in logs.items()]
        self._insert("blobs", new_blobs)
        self._insert("messages", new)
        watermarks: dict[LogName, int | None] = {}
        for log, name in stored:
            log.top = max(log.top, *logs[name])
            self._advance(log, logs[name])
            watermarks[name] = log.watermark
        self.occupancy.messages += growth.messages
        self.occupancy.bytes += growth.bytes
        return PutResult(*counts, watermarks), change

    def _plan(self, name: LogName, keys: dict[int, Key], blobs: Mapping[bytes, bytes], growth: Occupancy) -> None:
        log = self._find(name)
        if log is not None:
            self._load_held(log, keys)
        if log is None or not log.is_live:
            growth.logs += 1
        for key in keys.values():
            if not key.held and len(key.arriving) == 1:
                key.kept = key.arriving
            else:
                key.kept = settle({digest: row.first_stored_s for digest, row in key.held.items()}, key.arriving)
            growth.messages += len(key.kept) - len(key.held)
            for digest in key.kept:
                if digest not in key.held:
                    growth.bytes += len(blobs[digest])
            for digest, row in key.held.items():
                if digest not in key.kept:
                    growth.bytes -= row.size

    def _load_held(self, log: _Log, keys: dict[int, Key]) -> None:
        """Fills in what is held of `keys`: one look-up each, or one walk where they lie close together."""
        seqs = [seq for seq in keys if seq <= log.top]
        if not seqs:
            return
        sql = "SELECT seq, digest, first_stored, size, blob FROM messages WHERE log = ? AND seq "
        low, high = min(seqs), max(seqs)
        is_dense = len(seqs) > 8 and high - low <= 4 * len(seqs)
        ranges = [(low, high)] if is_dense else [(seq, seq) for seq in seqs]
        for low, high in ranges:
            rows = self._db.execute(sql + "BETWEEN ? AND ?", (log.id, low - SEQ_OFFSET, high - SEQ_OFFSET))
            for seq, digest, first_stored_s, size, blob in rows:
                key = keys.get(seq + SEQ_OFFSET)
                if key is not None:
                    key.held[digest] = Row(first_stored_s, size, blob)

    def _store_log(
        self,
        name: LogName,
        keys: Mapping[int, Key],
        blobs: Mapping[bytes, bytes],
        change: Change,
        new: list[tuple[int, int, bytes, int, int, int]],
        new_blobs: list[tuple[int, bytes | memoryview]],
    ) -> _Log:
        """Changes what is held of a log; what is new is added to `new` and `new_blobs`, to be inserted."""
        log = self._revive(name, self._find(name))
        for seq in sorted(keys):
            key = keys[seq]
            for digest, first_stored_s in key.kept.items():
                held = key.held.get(digest)
                if held is None:
                    blob = blobs[digest]
                    new.append((log.id, seq - SEQ_OFFSET, digest, first_stored_s, len(blob), self._next_blob))
                    self._add_blob(blob, new_blobs)
                    _extend(change.stored, name, Item(seq, digest, first_stored_s, len(blob)))
                elif held.first_stored_s != first_stored_s:
                    self._set_first_stored(log, seq, digest, first_stored_s)
                    _extend(change.merged, name, Item(seq, digest, first_stored_s, held.size))
            for digest, held in key.held.items():
                if digest not in key.kept:
                    self._delete(log.id, seq, digest)
                    self._free_blob(held.blob, held.size)
                    _extend(change.removed, name, Item(seq, digest, held.first_stored_s, held.size))
        return log

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Inserts many rows at a time: Python's lock is given up and taken again for each statement, and whoever wants
        it back may have to wait while another thread computes."""
        if not rows:
            return
        one_row = f"({', '.join('?' * len(rows[0]))})"
        many = f"INSERT INTO {table} VALUES {', '.join([one_row] * INSERT_ROWS)}"
        whole = len(rows) - len(rows) % INSERT_ROWS
        for start in range(0, whole, INSERT_ROWS):
            self._db.execute(many, [value for row in rows[start : start + INSERT_ROWS] for value in row])
        self._db.executemany(f"INSERT INTO {table} VALUES {one_row}", rows[whole:])

    def _add_blob(self, blob: bytes, rows: list[tuple[int, bytes | memoryview]]) -> None:
        if len(blob) <= BLOB_CHUNK_BYTES:
            rows.append((self._next_blob, blob))
            self._next_blob += 1
            return
        view = memoryview(blob)
        for start in range(0, len(blob), BLOB_CHUNK_BYTES):
            rows.append((self._next_blob, view[start : start + BLOB_CHUNK_BYTES]))
            self._next_blob += 1

    def _set_first_stored(self, log: _Log, seq: int, digest: bytes, first_stored_s: int) -> None:
        self._db.execute(
            "UPDATE messages SET first_stored = ? WHERE log = ? AND seq = ? AND digest = ?",
            (first_stored_s, log.id, seq - SEQ_OFFSET, digest),
        )

    def merge(self, items: Sequence[StoredItem], origin: object) -> Change:
        """See `Store.merge`."""
        merged: dict[tuple[LogName, int, bytes], StoredItem] = {}
        for name, item in items:
            log = self._find(name)
            if log is None or item.seq > log.top:
                continue
            row = self._db.execute(
                "SELECT first_stored, size FROM messages WHERE log = ? AND seq = ? AND digest = ?",
                (log.id, item.seq - SEQ_OFFSET, item.digest),
            ).fetchone()
            if row is not None and item.first_stored_s < row[0]:
                self._set_first_stored(log, item.seq, item.digest, item.first_stored_s)
                new = Item(item.seq, item.digest, item.first_stored_s, row[1])
                merged[name, item.seq, item.digest] = StoredItem(name, new)
        return Change(merged=list(merged.values()), origin=origin)

    # --- logs and watermarks ---------------------------------------------------------------------------------------

    def _find(self, name: LogName) -> _Log | None:
        log = self._logs.get(name)
        if log is not None:
            return log
        row = self._db.execute(
            "SELECT l.id, l.topic, w.seq, l.emptied IS NULL, (SELECT max(seq) FROM messages m WHERE m.log = l.id)"
            " FROM logs l LEFT JOIN watermarks w ON w.log = l.id"
            " WHERE l.topic = (SELECT id FROM topics WHERE topic = ?) AND l.log = ?",
            name,
        ).fetchone()
        if row is None:
            return None
        log_id, topic_id, watermark, is_live, top = row
        return self._remember(
            name,
            _Log(
                log_id,
                topic_id,
                None if watermark is None else watermark + SEQ_OFFSET,
                -1 if top is None else top + SEQ_OFFSET,
                bool(is_live),
            ),
        )

    def _remember(self, name: LogName, log: _Log) -> _Log:
        if len(self._logs) >= LOG_CACHE_MAX:
            del self._logs[next(iter(self._logs))]
        self._logs[name] = log
        return log

    def _revive(self, name: LogName, log: _Log | None) -> _Log:
        """The log as one that holds messages, made if need be."""
        if log is not None and log.is_live:
            return log
        topic_id = (
            one(self._db, "SELECT id FROM topics WHERE topic = ?", (name.topic,)) if log is None else log.topic_id
        )
        if topic_id is None:
            topic_id = self._db.execute("INSERT INTO topics (topic) VALUES (?)", (name.topic,)).lastrowid
            assert topic_id is not None
        if not self._has_live_logs(topic_id):
            self.occupancy.topics += 1
        self.occupancy.logs += 1
        if log is not None:
            self._db.execute("UPDATE logs SET emptied = NULL WHERE id = ?", (log.id,))
            self._empty_logs -= 1
            log.is_live = True
            return log
        log_id = self._db.execute("INSERT INTO logs (topic, log) VALUES (?, ?)", (topic_id, name.log)).lastrowid
        assert log_id is not None
        return self._remember(name, _Log(log_id, topic_id, None, -1, is_live=True))

    def _has_live_logs(self, topic_id: int) -> bool:
        return one(self._db, "SELECT 1 FROM logs WHERE topic = ? AND emptied IS NULL LIMIT 1", (topic_id,)) is not None

    def _advance(self, log: _Log, just_stored: Iterable[int]) -> None:
        """Moves the watermark over everything held directly above it. Each message is passed once in its life."""
        following = 0 if log.watermark is None else log.watermark + 1
        start = following
        stored = just_stored if isinstance(just_stored, Mapping) else ()
        while following in stored:
            following += 1
        if following <= log.top:
            following = self._end_of_run(log, following)
        if following == start:
            return
        log.watermark = following - 1
        self._db.execute("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", (log.id, log.watermark - SEQ_OFFSET))

    def _end_of_run(self, log: _Log, seq_from: int) -> int:
        """The lowest seq >= `seq_from` that is not held."""
        expected = seq_from - SEQ_OFFSET
        rows = self._db.execute("SELECT seq FROM messages WHERE log = ? AND seq >= ? ORDER BY seq", (log.id, expected))
        for (seq,) in rows:
            if seq > expected:
                break
            expected = seq + 1  # a variant comes again with the same seq: no change
        rows.close()
        return expected + SEQ_OFFSET

    def adopt_watermarks(self, watermarks: Mapping[LogName, int]) -> None:
        """See `Store.adopt_watermarks`."""
        for name, theirs in watermarks.items():
            log = self._find(name)
            ours = -1 if log is None or log.watermark is None else log.watermark
            if log is None or log.top <= ours or theirs <= ours:
                continue
            lowest = one(
                self._db, "SELECT min(seq) FROM messages WHERE log = ? AND seq >= ?", (log.id, ours + 1 - SEQ_OFFSET)
            )
            if lowest is None:
                continue
            adopted = min(theirs, lowest + SEQ_OFFSET - 1)
            if adopted > ours:
                log.watermark = adopted
                self._db.execute("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", (log.id, adopted - SEQ_OFFSET))
                self._advance(log, ())

    # --- removing --------------------------------------------------------------------------------------------------

    def expire(self, alive_from_s: int, messages_max: int) -> Change:
        """See `Store.expire`; may stop early so as not to hold up stores."""
        deadline = time.perf_counter() + EXPIRY_LOCK_S
        due = self._db.execute(
            "SELECT log, seq, digest, first_stored, size, blob FROM messages INDEXED BY messages_age"
            " WHERE first_stored < ? ORDER BY first_stored, blob LIMIT ?",
            (alive_from_s, messages_max),
        ).fetchall()
        names: dict[int, LogName] = {}
        removed: list[StoredItem] = []
        for start in range(0, len(due), EXPIRY_SLICE_MESSAGES):
            for log_id, seq, digest, first_stored_s, size, blob in due[start : start + EXPIRY_SLICE_MESSAGES]:
                if log_id not in names:
                    names[log_id] = self._name(log_id)
                self._delete(log_id, seq + SEQ_OFFSET, digest)
                self._free_blob(blob, size)
                removed.append(StoredItem(names[log_id], Item(seq + SEQ_OFFSET, digest, first_stored_s, size)))
            if time.perf_counter() > deadline:
                break
        for log_id, name in names.items():
            self._close_if_empty(log_id, name, alive_from_s)
        self._forget_empty_logs()
        self.occupancy.messages -= len(removed)
        self.occupancy.bytes -= sum(stored.item.size for stored in removed)
        return Change(removed=removed)

    def _name(self, log_id: int) -> LogName:
        row = self._db.execute(
            "SELECT t.topic, l.log FROM logs l JOIN topics t ON t.id = l.topic WHERE l.id = ?", (log_id,)
        ).fetchone()
        return LogName(*row)

    def _delete(self, log_id: int, seq: int, digest: bytes) -> None:
        self._db.execute(
            "DELETE FROM messages WHERE log = ? AND seq = ? AND digest = ?", (log_id, seq - SEQ_OFFSET, digest)
        )

    def _free_blob(self, first: int, size: int) -> None:
        """Removes a small blob now and leaves a large one to `reclaim`."""
        chunks = chunks_of(size)
        if chunks == 1:
            self._db.execute("DELETE FROM blobs WHERE id = ?", (first,))
        else:
            self._db.execute("INSERT INTO garbage VALUES (?, ?)", (first, first + chunks - 1))
            self.has_garbage = True

    def _close_if_empty(self, log_id: int, name: LogName, alive_from_s: int) -> None:
        if one(self._db, "SELECT 1 FROM messages WHERE log = ? LIMIT 1", (log_id,)) is not None:
            return
        log = self._find(name)
        assert log is not None
        self.occupancy.logs -= 1
        if log.watermark is None:  # nothing worth remembering
            self._forget(log.id, log.topic_id, name)
        else:
            self._db.execute("UPDATE logs SET emptied = ? WHERE id = ?", (alive_from_s, log_id))
            self._empty_logs += 1
            log.is_live = False
        if not self._has_live_logs(log.topic_id):
            self.occupancy.topics -= 1

    def _forget(self, log_id: int, topic_id: int, name: LogName) -> None:
        self._db.execute("DELETE FROM logs WHERE id = ?", (log_id,))
        self._db.execute("DELETE FROM watermarks WHERE log = ?", (log_id,))
        if one(self._db, "SELECT 1 FROM logs WHERE topic = ? LIMIT 1", (topic_id,)) is None:
            self._db.execute("DELETE FROM topics WHERE id = ?", (topic_id,))
        self._logs.pop(name, None)

    def _forget_empty_logs(self) -> None:
        for _ in range(min(self._empty_logs - EMPTY_LOGS_MAX, EXPIRY_BATCH_MESSAGES)):
            log_id, topic_id = self._db.execute(
                "SELECT id, topic FROM logs WHERE emptied IS NOT NULL ORDER BY emptied, id LIMIT 1"
            ).fetchone()
            self._forget(log_id, topic_id, self._name(log_id))
            self._empty_logs -= 1

    def reclaim(self) -> None:
        """Removes a few pieces of large blobs that are not referred to any more."""
        row = self._db.execute("SELECT first, last FROM garbage LIMIT 1").fetchone()
        if row is None:
            self.has_garbage = False
            return
        first, last = row
        end = min(last, first + RECLAIM_BATCH_CHUNKS - 1)
        self._db.execute("DELETE FROM blobs WHERE id BETWEEN ? AND ?", (first, end))
        self._db.execute("DELETE FROM garbage WHERE first = ?", (first,))
        if end < last:
            self._db.execute("INSERT INTO garbage VALUES (?, ?)", (end + 1, last))


def _extend(items: Sequence[StoredItem], name: LogName, item: Item) -> None:
    assert isinstance(items, list)
    items.append(StoredItem(name, item))
