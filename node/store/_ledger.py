"""The writing side of the SQLite store: what one transaction does. Lives in the writer thread; knows no trio.

A method that raises StoreError has written nothing. After any other exception the transaction must be rolled back.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import lt
from types import MappingProxyType
from typing import Any, NamedTuple

from node.store._budget import Budget
from node.store._evicted import Identity, is_within
from node.store._inserts import PendingRows
from node.store._logs import Log, evicted_of, find_logs, make_logs
from node.store._schema import SEQ_OFFSET, chunks_of, one
from node.store._shares import Ages, Shares, most_asked, source_of
from node.store._variants import Judged, Key, NeedsRoom, Occupancy, Row, Unjudged, count, growth_by, keys_of, unjudged
from node.store.api import Arrival, Change, PutResult, StoredItem, StoreFull
from protocols.limits.store import (
    EMPTY_LOG_BYTES,
    EMPTY_LOGS_MAX,
    EXPIRY_BATCH_MESSAGES,
    EXPIRY_LOCK_S,
    EXPIRY_SLICE_MESSAGES,
    LOG_CACHE_MAX,
    MESSAGE_OVERHEAD_BYTES,
    RECLAIM_BATCH_CHUNKS,
    STORAGE_NAMES_PART,
    STORE_PAGE_BYTES,
    TOPIC_NEW_S,
)
from protocols.model import Item, LogName
from protocols.sync.deliveries import Deliveries, Stretch, by_log

__all__ = ["Ledger"]


class _Plan(NamedTuple):
    """What a request does to one log, which may not exist yet. `keys` is None where all that arrives lies beyond
    everything held and is alone with its seq, ascending: as it nearly always is."""

    name: LogName
    log: Log | None
    arrivals: Stretch
    keys: Mapping[int, Key] | None


@dataclass(slots=True)
class _Changes:
    """What a request has changed so far."""

    stored: list[Stretch] = field(default_factory=list)
    merged: list[StoredItem] = field(default_factory=list)
    removed: list[StoredItem] = field(default_factory=list)


def _grown_by_topic(plans: Sequence[_Plan]) -> Mapping[str, int]:
    grown: defaultdict[str, int] = defaultdict(int)
    for plan in plans:
        if plan.keys is None:
            grown[plan.name.topic] += plan.arrivals.size + len(plan.arrivals.seqs) * MESSAGE_OVERHEAD_BYTES
        else:
            grown[plan.name.topic] += growth_by(plan.keys, plan.arrivals.blobs_by_digest()).storage_bytes
    return grown


class Ledger:
    """All changes of one store file. Not thread-safe: the writer owns it."""

    def __init__(self, connection: sqlite3.Connection, *, budget: Budget) -> None:
        self.db = connection
        self.budget = budget
        self.salt: bytes = one(connection, "SELECT value FROM notes WHERE name = 'salt'")
        self.shares: Shares[int] = Shares(time.time)
        self.ages = Ages(time.monotonic)
        self._accounted: list[tuple[int, int, int, int]] = []  # since the transaction began
        self._grown_bytes = 0  # likewise
        self._logs: dict[LogName, Log] = {}
        self._pending = PendingRows(connection)
        messages, size = self._read_shares()
        logs = one(connection, "SELECT count(*) FROM logs WHERE emptied IS NULL")
        topics = one(connection, "SELECT count(DISTINCT topic) FROM logs INDEXED BY logs_live WHERE emptied IS NULL")
        self.occupancy = Occupancy(messages, size, logs, topics, self.measure())
        self.shares.has_evicted = one(connection, "SELECT 1 FROM evicted LIMIT 1") is not None
        self._empty_logs: int = one(connection, "SELECT count(*) FROM logs WHERE emptied IS NOT NULL")
        self.has_garbage = one(connection, "SELECT 1 FROM garbage LIMIT 1") is not None
        # Ids only ever grow while there is a row above: what arrives together lies together.
        self.next_blob = 1 + max(
            one(connection, "SELECT max(id) FROM blobs") or 0, one(connection, "SELECT max(last) FROM garbage") or 0
        )

    def _read_shares(self) -> tuple[int, int]:
        """Fills the account; returns how many messages there are, and the size of their blobs together."""
        messages = total = 0
        rows = self.db.execute(
            "SELECT g.source, l.topic, sum(g.messages), sum(g.size) FROM (SELECT log, source, count(*) AS messages,"
            " sum(size) AS size FROM messages GROUP BY log, source) g LEFT JOIN logs l ON l.id = g.log GROUP BY 1, 2"
        )
        for source, topic_id, count_, size in rows:
            self.shares.change(source, topic_id or 0, count_, size)
            messages += count_
            total += size
        new = self.db.execute(
            "SELECT id, born FROM topics WHERE born > ? ORDER BY born, id", (int(time.time() - TOPIC_NEW_S),)
        )
        for topic_id, born_s in new:
            self.shares.born(topic_id, born_s)
        return messages, total

    def account(self, source: int, topic_id: int, messages: int, size: int) -> None:
        """Messages of a source in a topic came or (negative) went; undone if the transaction is."""
        self._accounted.append((source, topic_id, messages, size))
        self.shares.change(source, topic_id, messages, size)

    def measure(self) -> int:
        """Bytes of the database that are in use, without the pages that wait to be used again."""
        pages: int = one(self.db, "PRAGMA page_count") - one(self.db, "PRAGMA freelist_count")
        return pages * STORE_PAGE_BYTES

    def keep_to(self, budget: Budget) -> None:
        """Another storage limit from now on. What is too much is let go when there is need for room."""
        self.budget = budget
        self.db.execute(f"PRAGMA journal_size_limit = {budget.wal_bytes}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside is committed durably, or none of it. Raises sqlite3.Error."""
        before = replace(self.occupancy), self._empty_logs, self.next_blob, self.has_garbage
        self._accounted.clear()
        try:
            self.db.execute("BEGIN IMMEDIATE")
            if self.budget.is_on_disk:
                self.occupancy.used_bytes, self._grown_bytes = self.measure(), 0
            yield
            self._pending.flush()
            self.db.execute("COMMIT")
        except BaseException:
            self._pending.clear()
            for source, topic_id, messages, size in self._accounted:
                self.shares.change(source, topic_id, -messages, -size)
            self._accounted.clear()
            self.occupancy, self._empty_logs, self.next_blob, self.has_garbage = before
            self._logs.clear()
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    # --- storing ---------------------------------------------------------------------------------------------------

    def put(
        self,
        arrivals: Sequence[Arrival],
        origin: object,
        judged: Judged = MappingProxyType({}),
        client: str = "",
        gone: Set[Identity] = frozenset(),
    ) -> tuple[PutResult, Change]:
        """See `Store.put`; `gone` has been let go for it. Raises StoreFull (making room is up to the caller); or
        Unjudged if it must be known first of blobs that are not in `judged` whether they are genuine. After either
        nothing has been written."""
        groups = by_log(arrivals)
        growth = Occupancy()
        known = self._find_all(groups)
        watermarks = {name: None if (log := known.get(name)) is None else log.watermark for name in groups}
        if origin is not None and (gone or self.shares.has_evicted):
            kept = ((name, self._but_let_go(known.get(name), group, gone)) for name, group in groups.items())
            groups = {name: group for name, group in kept if group is not None}
        left_out = len(arrivals) - sum(len(group.seqs) for group in groups.values())
        plans = [self._plan(name, known.get(name), group, growth, judged) for name, group in groups.items()]
        wanted = [one for plan in plans if plan.keys for one in unjudged(plan.name, plan.keys, judged)]
        if wanted:
            raise Unjudged(wanted)
        self._check_room(growth, plans)
        source = source_of(origin, client, self.salt)
        self.ages.note(self.next_blob)
        self.occupancy.messages += growth.messages
        self.occupancy.bytes += growth.bytes
        changes = _Changes()
        stored, dropped = 0, left_out
        made = self._make([plan.name for plan in plans if plan.log is None])
        for plan in plans:
            log = made[plan.name] if plan.log is None else self._revive(plan.log)
            if plan.keys is None:
                self._store_fresh(log, plan.arrivals, changes, source)
                self.account(source, log.topic_id, len(plan.arrivals.seqs), plan.arrivals.size)
                stored += len(plan.arrivals.seqs)
            else:
                self._store_among_held(plan, plan.keys, log, changes, source)
                counts = count(list(plan.arrivals.deliveries()), plan.keys)
                stored += counts[0]
                dropped += counts[1]
            watermarks[plan.name] = log.watermark
        change = Change(Deliveries(changes.stored), changes.merged, changes.removed, origin)
        return PutResult(stored, len(arrivals) - stored - dropped, dropped, watermarks), change

    def _but_let_go(self, log: Log | None, arrivals: Stretch, gone: Set[Identity]) -> Stretch | None:
        """Without what was let go to make room, as `gone` or the record says, and has not come back since."""
        spans = [] if log is None else evicted_of(self.db, log.id)
        each = list(arrivals.deliveries())
        let_go = [one for one in each if is_within(one.seq, spans) or (one.name, one.seq, one.digest) in gone]
        if not let_go:
            return arrivals
        held = {} if log is None else self._held(log, {one.seq for one in let_go})
        away = {(one.seq, one.digest) for one in let_go if one.digest not in held.get(one.seq, ())}
        kept = [one for one in each if (one.seq, one.digest) not in away]
        return Stretch.of(kept) if kept else None

    def _check_room(self, growth: Occupancy, plans: Sequence[_Plan]) -> None:
        """Raises StoreFull if `growth` by `plans` does not fit into the storage limit. What doesn't grow the store is
        welcome even above the limit (which may have been lowered)."""
        size = growth.storage_bytes
        if self.budget.limit_bytes is None or size <= 0:
            return
        if size > (self.budget.database_bytes if self.budget.is_on_disk else self.budget.limit_bytes):
            raise StoreFull(f"a request of {size} bytes is too large for a storage limit of {self.budget.limit_bytes}")
        need_bytes = self.occupancy.storage_bytes + size - self.budget.limit_bytes
        if self.budget.is_on_disk:
            self._grown_bytes += size
            need_bytes = max(need_bytes, self.occupancy.used_bytes + self._grown_bytes - self.budget.database_bytes)
        if need_bytes > 0:
            self._grown_bytes -= size
            text = f"the storage limit of {self.budget.limit_bytes} bytes is reached"
            raise NeedsRoom(text, need_bytes, most_asked(_grown_by_topic(plans)))

    def _plan(self, name: LogName, log: Log | None, arrivals: Stretch, growth: Occupancy, judged: Judged) -> _Plan:
        """What becomes of `arrivals` of one log; adds by how much that makes the store grow."""
        if log is None or not log.is_live:
            growth.logs += 1
        seqs = arrivals.seqs
        if seqs[0] > (-1 if log is None else log.top) and (len(seqs) == 1 or all(map(lt, seqs, seqs[1:]))):
            growth.messages += len(seqs)
            growth.bytes += arrivals.size
            return _Plan(name, log, arrivals, None)
        held = {} if log is None else self._held(log, set(seqs))
        keys = keys_of(name, list(arrivals.deliveries()), held, judged)
        grown = growth_by(keys, arrivals.blobs_by_digest())
        growth.messages += grown.messages
        growth.bytes += grown.bytes
        return _Plan(name, log, arrivals, keys)

    def _held(self, log: Log, arriving: Set[int]) -> dict[int, dict[bytes, Row]]:
        """What is held of these seqs: one look-up each, or one walk where they lie close together."""
        seqs = [seq for seq in arriving if seq <= log.top]
        if not seqs:
            return {}
        self._pending.flush()
        sql = "SELECT seq, digest, first_stored, size, blob, genuine, source FROM messages WHERE log = ? AND seq "
        lowest, highest = min(seqs), max(seqs)
        is_dense = len(seqs) > 8 and highest - lowest <= 4 * len(seqs)
        held: dict[int, dict[bytes, Row]] = {}
        for low, high in [(lowest, highest)] if is_dense else [(seq, seq) for seq in seqs]:
            rows = self.db.execute(sql + "BETWEEN ? AND ?", (log.id, low - SEQ_OFFSET, high - SEQ_OFFSET))
            for seq, digest, first_stored_s, size, blob, genuine, source in rows:
                if seq + SEQ_OFFSET in arriving:
                    row = Row(first_stored_s, size, blob, bool(genuine), source)
                    held.setdefault(seq + SEQ_OFFSET, {})[digest] = row
        return held

    def _store_fresh(self, log: Log, arrivals: Stretch, changes: _Changes, source: int) -> None:
        """Stores what lies beyond everything held, ascending."""
        self._add(log, arrivals, changes, source)
        following = 0 if log.watermark is None else log.watermark + 1
        seqs = arrivals.seqs
        first, last = seqs[0], seqs[-1]
        # Before, nothing was held directly above the watermark: what is there now has just come.
        if first <= following <= last:
            if last - first == len(seqs) - 1:
                following = last + 1
            else:
                for seq in seqs:
                    following += seq == following
            if log.watermark is None or following - 1 > log.watermark:
                self._set_watermark(log, following - 1)

    def _store_among_held(self, plan: _Plan, keys: Mapping[int, Key], log: Log, changes: _Changes, source: int) -> None:
        blobs = plan.arrivals.blobs_by_digest()
        for seq, key in keys.items():
            for digest, first_stored_s in key.kept.items():
                held = key.held.get(digest)
                if held is None:
                    blob = blobs[digest]
                    new = Stretch(plan.name, len(blob), [seq], [blob], [digest], [first_stored_s])
                    self._add(log, new, changes, source, genuine=digest in key.genuine)
                    self.account(source, log.topic_id, 1, len(blob))
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
                    self.account(held.source, log.topic_id, -1, -held.size)
                    gone = Item(seq, digest, held.first_stored_s, held.size)
                    changes.removed.append(StoredItem(plan.name, gone))
        self._advance(log)

    def _add(self, log: Log, arrivals: Stretch, changes: _Changes, source: int, *, genuine: bool = False) -> None:
        """Inserts new messages, ascending; the watermark is left to the caller."""
        self.next_blob = self._pending.add(log.id, arrivals, self.next_blob, source, genuine=genuine)
        log.top = max(log.top, arrivals.seqs[-1])
        changes.stored.append(arrivals)

    def _set_first_stored(self, log: Log, seq: int, digest: bytes, first_stored_s: int) -> None:
        self.db.execute(
            "UPDATE messages SET first_stored = ? WHERE log = ? AND seq = ? AND digest = ?",
            (first_stored_s, log.id, seq - SEQ_OFFSET, digest),
        )

    def _set_genuine(self, log: Log, seq: int, digest: bytes) -> None:
        self.db.execute(
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
            row = self.db.execute(
                "SELECT first_stored, size FROM messages WHERE log = ? AND seq = ? AND digest = ?",
                (log.id, item.seq - SEQ_OFFSET, item.digest),
            ).fetchone()
            if row is not None and item.first_stored_s < row[0]:
                self._set_first_stored(log, item.seq, item.digest, item.first_stored_s)
                new = Item(item.seq, item.digest, item.first_stored_s, row[1])
                merged[name, item.seq, item.digest] = StoredItem(name, new)
        return Change(merged=list(merged.values()), origin=origin)

    # --- logs and watermarks ---------------------------------------------------------------------------------------

    def _find(self, name: LogName) -> Log | None:
        return self._find_all([name]).get(name)

    def _find_all(self, names: Collection[LogName]) -> dict[LogName, Log]:
        """Those of these logs that there are."""
        found = {name: log for name in names if (log := self._logs.get(name)) is not None}
        unknown = [name for name in names if name not in found]
        if unknown:
            self._pending.flush()  # only what is remembered is up to date without it
            for name, log in find_logs(self.db, unknown).items():
                found[name] = self._remember(name, log)
        return found

    def _remember(self, name: LogName, log: Log) -> Log:
        if len(self._logs) >= LOG_CACHE_MAX:
            del self._logs[next(iter(self._logs))]
        self._logs[name] = log
        return log

    def _make(self, names: Sequence[LogName]) -> dict[LogName, Log]:
        if not names:
            return {}
        made = make_logs(self.db, names, int(time.time()))
        for topic_id in made.topics_born:
            self.shares.born(topic_id)
        self.occupancy.logs += len(names)
        self.occupancy.topics += made.topics_revived
        return {name: self._remember(name, log) for name, log in made.logs.items()}

    def _revive(self, log: Log) -> Log:
        """The log as one that holds messages."""
        if not log.is_live:
            if not self._has_live_logs(log.topic_id):
                self.occupancy.topics += 1
            self.occupancy.logs += 1
            self.db.execute("UPDATE logs SET emptied = NULL WHERE id = ?", (log.id,))
            self._empty_logs -= 1
            log.is_live = True
        return log

    def _has_live_logs(self, topic_id: int) -> bool:
        return one(self.db, "SELECT 1 FROM logs WHERE topic = ? AND emptied IS NULL LIMIT 1", (topic_id,)) is not None

    def _advance(self, log: Log) -> None:
        """Moves the watermark over everything held directly above it. Each message is passed once in its life."""
        following = 0 if log.watermark is None else log.watermark + 1
        end = self._end_of_run(log, following) if following <= log.top else following
        if end > following:
            self._set_watermark(log, end - 1)

    def _set_watermark(self, log: Log, seq: int) -> None:
        log.watermark = seq
        self._pending.set_watermark(log.id, seq)

    def _end_of_run(self, log: Log, seq_from: int) -> int:
        """The lowest seq >= `seq_from` that is not held."""
        self._pending.flush()
        expected = seq_from - SEQ_OFFSET
        rows = self.db.execute("SELECT seq FROM messages WHERE log = ? AND seq >= ? ORDER BY seq", (log.id, expected))
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
                self.db, "SELECT min(seq) FROM messages WHERE log = ? AND seq >= ?", (log.id, ours + 1 - SEQ_OFFSET)
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
        due = self.db.execute(
            "SELECT log, seq, digest, first_stored, size, blob, source FROM messages INDEXED BY messages_age"
            " WHERE first_stored < ? ORDER BY first_stored, blob LIMIT ?",
            (alive_from_s, messages_max),
        ).fetchall()
        removed: list[StoredItem] = []
        for start in range(0, len(due), EXPIRY_SLICE_MESSAGES):
            removed += self.remove(due[start : start + EXPIRY_SLICE_MESSAGES], alive_from_s)
            if time.perf_counter() > deadline:
                break
        if self.shares.has_evicted:
            self.db.execute("DELETE FROM evicted WHERE first_stored < ?", (alive_from_s,))
            self.shares.has_evicted = one(self.db, "SELECT 1 FROM evicted LIMIT 1") is not None
        self.forget_empty_logs()
        return Change(removed=removed)

    def remove(self, rows: Sequence[Sequence[Any]], emptied_s: int) -> list[StoredItem]:
        """Removes messages (log, seq as stored, digest, first stored, size, blob, source); the logs that are empty then
        are remembered as being so since `emptied_s`."""
        logs: dict[int, tuple[int, LogName]] = {}
        removed: list[StoredItem] = []
        for log_id, seq, digest, first_stored_s, size, blob, source in rows:
            if log_id not in logs:
                logs[log_id] = self.topic_and_name(log_id)
            topic_id, name = logs[log_id]
            self._delete(log_id, seq + SEQ_OFFSET, digest)
            self._free_blob(blob, size)
            self.account(source, topic_id, -1, -size)
            removed.append(StoredItem(name, Item(seq + SEQ_OFFSET, digest, first_stored_s, size)))
        self.occupancy.messages -= len(removed)
        self.occupancy.bytes -= sum(stored.item.size for stored in removed)
        for log_id, (_, name) in logs.items():
            self._close_if_empty(log_id, name, emptied_s)
        return removed

    def topic_and_name(self, log_id: int) -> tuple[int, LogName]:
        """The id of a log's topic, and the log's name."""
        topic_id, topic, log = self.db.execute(
            "SELECT t.id, t.topic, l.log FROM logs l JOIN topics t ON t.id = l.topic WHERE l.id = ?", (log_id,)
        ).fetchone()
        return topic_id, LogName(topic, log)

    def _delete(self, log_id: int, seq: int, digest: bytes) -> None:
        self.db.execute(
            "DELETE FROM messages WHERE log = ? AND seq = ? AND digest = ?", (log_id, seq - SEQ_OFFSET, digest)
        )

    def _free_blob(self, first: int, size: int) -> None:
        """Removes a small blob now and leaves a large one to `reclaim`."""
        chunks = chunks_of(size)
        if chunks == 1:
            self.db.execute("DELETE FROM blobs WHERE id = ?", (first,))
        else:
            self.db.execute("INSERT INTO garbage VALUES (?, ?)", (first, first + chunks - 1))
            self.has_garbage = True

    def _close_if_empty(self, log_id: int, name: LogName, alive_from_s: int) -> None:
        if one(self.db, "SELECT 1 FROM messages WHERE log = ? LIMIT 1", (log_id,)) is not None:
            return
        log = self._find(name)
        assert log is not None
        self.occupancy.logs -= 1
        is_evicted = one(self.db, "SELECT 1 FROM evicted WHERE log = ? LIMIT 1", (log_id,)) is not None
        if log.watermark is None and not is_evicted:  # nothing worth remembering
            self._forget(log.id, log.topic_id, name)
        else:
            self.db.execute("UPDATE logs SET emptied = ? WHERE id = ?", (alive_from_s, log_id))
            self._empty_logs += 1
            log.is_live = False
        if not self._has_live_logs(log.topic_id):
            self.occupancy.topics -= 1

    def _forget(self, log_id: int, topic_id: int, name: LogName) -> None:
        self.db.execute("DELETE FROM logs WHERE id = ?", (log_id,))
        self.db.execute("DELETE FROM watermarks WHERE log = ?", (log_id,))
        self.db.execute("DELETE FROM evicted WHERE log = ?", (log_id,))
        if one(self.db, "SELECT 1 FROM logs WHERE topic = ? LIMIT 1", (topic_id,)) is None:
            self.db.execute("DELETE FROM topics WHERE id = ?", (topic_id,))
            self.shares.forget(topic_id)
        self._logs.pop(name, None)

    def forget_empty_logs(self) -> None:
        """Forgets some of the logs that have been empty for longest, if they are too many."""
        most = EMPTY_LOGS_MAX
        if self.budget.limit_bytes is not None:
            most = min(most, self.budget.limit_bytes // STORAGE_NAMES_PART // EMPTY_LOG_BYTES)
        for _ in range(min(self._empty_logs - most, EXPIRY_BATCH_MESSAGES)):
            log_id, topic_id = self.db.execute(
                "SELECT id, topic FROM logs WHERE emptied IS NOT NULL ORDER BY emptied, id LIMIT 1"
            ).fetchone()
            self._forget(log_id, topic_id, self.topic_and_name(log_id)[1])
            self._empty_logs -= 1

    def reclaim(self) -> None:
        """Removes a few pieces of large blobs that are not referred to any more."""
        row = self.db.execute("SELECT first, last FROM garbage LIMIT 1").fetchone()
        if row is None:
            self.has_garbage = False
            return
        first, last = row
        end = min(last, first + RECLAIM_BATCH_CHUNKS - 1)
        self.db.execute("DELETE FROM blobs WHERE id BETWEEN ? AND ?", (first, end))
        self.db.execute("DELETE FROM garbage WHERE first = ?", (first,))
        if end < last:
            self.db.execute("INSERT INTO garbage VALUES (?, ?)", (end + 1, last))
