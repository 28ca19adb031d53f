"""The writing side of the SQLite store: what one transaction does. Lives in the writer thread; knows no trio.

A method that raises StoreError has written nothing. After any other exception the transaction must be rolled back.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from node.store._inserts import PendingRows
from node.store._schema import SEQ_OFFSET, chunks_of, one
from node.store._variants import Judged, Key, Occupancy, Row, Unjudged, count, growth_by, keys_of, unjudged
from node.store.api import Arrival, Change, PutResult, StoredItem, StoreFull
from protocols.limits import (
    EMPTY_LOGS_MAX,
    EXPIRY_BATCH_MESSAGES,
    EXPIRY_LOCK_S,
    EXPIRY_SLICE_MESSAGES,
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


class _Plan(NamedTuple):
    """What a request does to one log, which may not exist yet. `keys` is None where all that arrives lies beyond
    everything held and is alone with its seq, ascending: as it nearly always is."""

    name: LogName
    log: _Log | None
    arrivals: Sequence[Arrival]
    keys: Mapping[int, Key] | None


@dataclass(slots=True)
class _Changes:
    """What a request has changed so far."""

    stored: list[Arrival] = field(default_factory=list)
    merged: list[StoredItem] = field(default_factory=list)
    removed: list[StoredItem] = field(default_factory=list)


class Ledger:
    """All changes of one store file. Not thread-safe: the writer owns it."""

    def __init__(self, connection: sqlite3.Connection, *, limit_bytes: int | None) -> None:
        self._db = connection
        self._limit_bytes = limit_bytes
        self._logs: dict[LogName, _Log] = {}
        self._pending = PendingRows(connection)
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
            self._pending.flush()
            self._db.execute("COMMIT")
        except BaseException:
            self._pending.clear()
            self.occupancy, self._empty_logs, self._next_blob, self.has_garbage = before
            self._logs.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- storing ---------------------------------------------------------------------------------------------------

    def put(
        self, arrivals: Sequence[Arrival], origin: object, judged: Judged = MappingProxyType({})
    ) -> tuple[PutResult, Change]:
        """See `Store.put`. Raises StoreFull; or Unjudged if it must be known first of blobs that are not in `judged`
        whether they are genuine. After either nothing has been written."""
        groups: defaultdict[LogName, list[Arrival]] = defaultdict(list)
        for arrival in arrivals:
            groups[arrival[0]].append(arrival)
        growth = Occupancy()
        plans = [self._plan(name, group, growth, judged) for name, group in groups.items()]
        wanted = [one for plan in plans if plan.keys for one in unjudged(plan.name, plan.keys, judged)]
        if wanted:
            raise Unjudged(wanted)
        if self.occupancy.exceeds(self._limit_bytes, growth):
            raise StoreFull(f"the storage limit of {self._limit_bytes} bytes is reached")
        self.occupancy.messages += growth.messages
        self.occupancy.bytes += growth.bytes
        changes = _Changes()
        stored = dropped = 0
        watermarks: dict[LogName, int | None] = {}
        for plan in plans:
            log = self._revive(plan.name, plan.log)
            if plan.keys is None:
                self._store_fresh(log, plan.arrivals, changes)
                stored += len(plan.arrivals)
            else:
                self._store_among_held(plan, plan.keys, log, changes)
                counts = count(plan.arrivals, plan.keys)
                stored += counts[0]
                dropped += counts[1]
            watermarks[plan.name] = log.watermark
        change = Change(changes.stored, changes.merged, changes.removed, origin)
        return PutResult(stored, len(arrivals) - stored - dropped, dropped, watermarks), change

    def _plan(self, name: LogName, arrivals: Sequence[Arrival], growth: Occupancy, judged: Judged) -> _Plan:
        """What becomes of `arrivals` of one log; adds by how much that makes the store grow."""
        log = self._find(name)
        if log is None or not log.is_live:
            growth.logs += 1
        highest = -1 if log is None else log.top
        size = 0
        for _, seq, blob, _, _ in arrivals:
            if seq <= highest:
                break
            highest = seq
            size += len(blob)
        else:
            growth.messages += len(arrivals)
            growth.bytes += size
            return _Plan(name, log, arrivals, None)
        held = {} if log is None else self._held(log, {arrival.seq for arrival in arrivals})
        keys = keys_of(name, arrivals, held, judged)
        grown = growth_by(keys, {arrival.digest: arrival.blob for arrival in arrivals})
        growth.messages += grown.messages
        growth.bytes += grown.bytes
        return _Plan(name, log, arrivals, keys)

    def _held(self, log: _Log, arriving: Set[int]) -> dict[int, dict[bytes, Row]]:
        """What is held of these seqs: one look-up each, or one walk where they lie close together."""
        seqs = [seq for seq in arriving if seq <= log.top]
        if not seqs:
            return {}
        self._pending.flush()
        sql = "SELECT seq, digest, first_stored, size, blob, genuine FROM messages WHERE log = ? AND seq "
        lowest, highest = min(seqs), max(seqs)
        is_dense = len(seqs) > 8 and highest - lowest <= 4 * len(seqs)
        held: dict[int, dict[bytes, Row]] = {}
        for low, high in [(lowest, highest)] if is_dense else [(seq, seq) for seq in seqs]:
            rows = self._db.execute(sql + "BETWEEN ? AND ?", (log.id, low - SEQ_OFFSET, high - SEQ_OFFSET))
            for seq, digest, first_stored_s, size, blob, genuine in rows:
                if seq + SEQ_OFFSET in arriving:
                    held.setdefault(seq + SEQ_OFFSET, {})[digest] = Row(first_stored_s, size, blob, bool(genuine))
        return held

    def _store_fresh(self, log: _Log, arrivals: Sequence[Arrival], changes: _Changes) -> None:
        """Stores what lies beyond everything held, ascending."""
        self._add(log, arrivals, changes)
        following = 0 if log.watermark is None else log.watermark + 1
        start = following
        for _, seq, _, _, _ in arrivals:
            following += seq == following
        # Before, nothing was held directly above the watermark: what is there now has just come.
        if following > start:
            self._set_watermark(log, following - 1)

    def _store_among_held(self, plan: _Plan, keys: Mapping[int, Key], log: _Log, changes: _Changes) -> None:
        blobs = {arrival.digest: arrival.blob for arrival in plan.arrivals}
        for seq, key in keys.items():
            for digest, first_stored_s in key.kept.items():
                held = key.held.get(digest)
                if held is None:
                    new = [Arrival(plan.name, seq, blobs[digest], digest, first_stored_s)]
                    self._add(log, new, changes, genuine=digest in key.genuine)
                    continue
                if held.first_stored_s != first_stored_s:
                    self._set_first_stored(log, seq, digest, first_stored_s)
                    changes.merged.append(StoredItem(plan.name, Item(seq, digest, first_stored_s, held.size)))
                if digest in key.genuine and not held.genuine:
                    self._set_genuine(log, seq, digest)
            for digest, held in key.held.items():
                if digest not in key.kept:
                    self._delete(log.id, seq, digest)
                    self._free_blob(held.blob, held.size)
                    gone = Item(seq, digest, held.first_stored_s, held.size)
                    changes.removed.append(StoredItem(plan.name, gone))
        self._advance(log)

    def _add(self, log: _Log, arrivals: Sequence[Arrival], changes: _Changes, *, genuine: bool = False) -> None:
        """Inserts new messages, ascending; the watermark is left to the caller."""
        self._next_blob = self._pending.add(log.id, arrivals, self._next_blob, genuine=genuine)
        log.top = max(log.top, arrivals[-1].seq)
        changes.stored += arrivals

    def _set_first_stored(self, log: _Log, seq: int, digest: bytes, first_stored_s: int) -> None:
        self._db.execute(
            "UPDATE messages SET first_stored = ? WHERE log = ? AND seq = ? AND digest = ?",
            (first_stored_s, log.id, seq - SEQ_OFFSET, digest),
        )

    def _set_genuine(self, log: _Log, seq: int, digest: bytes) -> None:
        self._db.execute(
            "UPDATE messages SET genuine = 1 WHERE log = ? AND seq = ? AND digest = ?",
            (log.id, seq - SEQ_OFFSET, digest),
        )

    def merge(self, items: Sequence[StoredItem], origin: object) -> Change:
        """See `Store.merge`."""
        self._pending.flush()
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
        self._pending.flush()  # only what is remembered is up to date without it
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

    def _advance(self, log: _Log) -> None:
        """Moves the watermark over everything held directly above it. Each message is passed once in its life."""
        following = 0 if log.watermark is None else log.watermark + 1
        end = self._end_of_run(log, following) if following <= log.top else following
        if end > following:
            self._set_watermark(log, end - 1)

    def _set_watermark(self, log: _Log, seq: int) -> None:
        log.watermark = seq
        self._pending.set_watermark(log.id, seq)

    def _end_of_run(self, log: _Log, seq_from: int) -> int:
        """The lowest seq >= `seq_from` that is not held."""
        self._pending.flush()
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
        self._pending.flush()
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
                self._set_watermark(log, adopted)
                self._advance(log)

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
