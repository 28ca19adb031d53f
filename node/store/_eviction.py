"""Makes room in a SQLite store: removes the oldest messages of whoever has most, in short transactions, and records it.

Lives in the writer thread, as the ledger does. Who gives way is decided in `_shares`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from node.store._evicted import EvictedSpan, with_evicted
from node.store._ledger import Ledger
from node.store._schema import SEQ_OFFSET, one
from node.store._shares import Victim, source_of
from node.store.api import Change
from protocols.limits.store import (
    EVICT_SCAN_MESSAGES,
    EVICT_YOUNG_S,
    EXPIRY_LOCK_S,
    EXPIRY_SLICE_MESSAGES,
    MESSAGE_OVERHEAD_BYTES,
)
from protocols.model import LogName

__all__ = ["Evictor", "RoomMade"]

_COLUMNS: Final = "m.log, m.seq, m.digest, m.first_stored, m.size, m.blob, m.source, l.topic"
_BY_AGE: Final = (
    f"SELECT {_COLUMNS} FROM messages m INDEXED BY messages_age CROSS JOIN logs l ON l.id = m.log"
    " WHERE (m.first_stored, m.blob) > (?, ?) ORDER BY m.first_stored, m.blob LIMIT ?"
)
_OF_TOPIC: Final = (
    f"SELECT {_COLUMNS} FROM logs l CROSS JOIN messages m ON m.log = l.id WHERE l.topic = ? AND m.source = ?"
    " ORDER BY m.first_stored, m.blob LIMIT ?"
)
_START: Final = (-SEQ_OFFSET, -1)
_SMALL_PART: Final = 16  # a topic with less than this part of all bytes is read whole, which is quicker than by age
_CURSORS_MAX: Final = 256

_Share = tuple[int, int | None]


class RoomMade(NamedTuple):
    """What one step did: bytes that were let go, messages of them just acknowledged, and whether another step may
    find more."""

    bytes: int
    young: int
    goes_on: bool


class Evictor:
    """What is remembered between two steps: how far each share has been looked through."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._cursors: dict[_Share, tuple[int, int]] = {}
        self._in_vain_until_at: dict[_Share, float] = {}

    def make_room(self, name: LogName, origin: object, client: str, size: int) -> tuple[RoomMade, Change]:
        """One step towards `size` bytes for the log `name` that a source brings."""
        ledger = self.ledger
        if ledger.has_garbage:  # what was let go before is room as soon as it has been cleared away
            for _ in range(_RECLAIMS):
                ledger.reclaim()
            return RoomMade(0, 0, goes_on=True), Change()
        topic_id = one(ledger.db, "SELECT id FROM topics WHERE topic = ?", (name.topic,))
        victim = ledger.shares.victim(source_of(origin, client, ledger.salt), topic_id, size)
        if victim is None:
            return RoomMade(0, 0, goes_on=False), Change()
        return self._evict(victim, min(size, victim.spare_bytes) if victim.spare_bytes else size)

    def _evict(self, victim: Victim[int], need_bytes: int) -> tuple[RoomMade, Change]:
        share = (victim.source, victim.topic)
        if not victim.young and time.monotonic() < self._in_vain_until_at.get(share, 0.0):
            return RoomMade(0, 0, goes_on=False), Change()
        deadline = time.perf_counter() + EXPIRY_LOCK_S
        young_from = self.ledger.ages.young_from(self.ledger.next_blob)
        chosen: list[Sequence[Any]] = []
        freed = 0
        goes_on = True
        passes = 0
        while freed < need_bytes and len(chosen) < EXPIRY_SLICE_MESSAGES * 8 and time.perf_counter() < deadline:
            rows, is_end = self._next(victim)
            for row in rows:
                _, _, _, first_stored_s, size, blob, source, topic_id = row
                self._cursors[share] = (first_stored_s, blob)
                if (
                    source == victim.source
                    and (self.ledger.shares.is_new(topic_id) if victim.topic is None else topic_id == victim.topic)
                    and (victim.young or blob < young_from)
                ):
                    chosen.append(row[:7])
                    freed += size + MESSAGE_OVERHEAD_BYTES
                    if freed >= need_bytes:
                        break
            else:
                if is_end:
                    self._cursors.pop(share, None)
                    passes += 1
                    if chosen:
                        break
                    if passes > 1 or self._reads_whole(victim):
                        goes_on = False
                        break
        if not goes_on:
            self._note_in_vain(share)
        removed_young = sum(row[5] >= young_from for row in chosen)
        return RoomMade(freed, removed_young, goes_on), self._remove(chosen)

    def _next(self, victim: Victim[int]) -> tuple[list[Any], bool]:
        """The next messages to be looked at, the oldest first, and whether they are the last."""
        ledger = self.ledger
        if self._reads_whole(victim):
            rows = ledger.db.execute(_OF_TOPIC, (victim.topic, victim.source, EVICT_SCAN_MESSAGES)).fetchall()
            return rows, True
        after = self._cursors.get((victim.source, victim.topic), _START)
        if len(self._cursors) > _CURSORS_MAX:
            self._cursors.clear()
        rows = ledger.db.execute(_BY_AGE, (*after, EVICT_SCAN_MESSAGES)).fetchall()
        return rows, len(rows) < EVICT_SCAN_MESSAGES

    def _reads_whole(self, victim: Victim[int]) -> bool:
        if victim.topic is None:
            return False
        return self.ledger.shares.held_in(victim.topic) * _SMALL_PART < self.ledger.occupancy.storage_bytes

    def _note_in_vain(self, share: _Share) -> None:
        """Nothing of this share is old enough: looking again at once would be looking through everything again."""
        if len(self._in_vain_until_at) >= _CURSORS_MAX:
            self._in_vain_until_at.clear()
        self._in_vain_until_at[share] = time.monotonic() + EVICT_YOUNG_S / 10

    def _remove(self, rows: Sequence[Sequence[Any]]) -> Change:
        """Records that these are let go, and removes them."""
        if not rows:
            return Change()
        gone: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for row in rows:
            gone[row[0]].append((row[1] + SEQ_OFFSET, row[3]))
        db = self.ledger.db
        for log_id, messages in gone.items():
            spans = [
                EvictedSpan(first + SEQ_OFFSET, last + SEQ_OFFSET, first_stored_s)
                for first, last, first_stored_s in db.execute(
                    "SELECT first, last, first_stored FROM evicted WHERE log = ? ORDER BY first", (log_id,)
                )
            ]
            db.execute("DELETE FROM evicted WHERE log = ?", (log_id,))
            db.executemany(
                "INSERT INTO evicted VALUES (?, ?, ?, ?)",
                [
                    (log_id, first - SEQ_OFFSET, last - SEQ_OFFSET, first_stored_s)
                    for first, last, first_stored_s in with_evicted(spans, messages)
                ],
            )
        self.ledger.shares.has_evicted = True
        removed = self.ledger.remove(rows, int(time.time()))
        self.ledger.forget_empty_logs()
        return Change(removed=removed, is_eviction=True)


_RECLAIMS: Final = 4
