"""Makes room in a SQLite store: removes the oldest messages of whoever has most, in short transactions, and records it.

Lives in the writer thread, as the ledger does. Who gives way is decided in `_shares`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from node.store._evicted import with_evicted
from node.store._ledger import Ledger
from node.store._logs import evicted_of
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

__all__ = ["Evictor", "RoomMade"]

_COLUMNS: Final = "m.log, m.seq, m.digest, m.first_stored, m.size, m.blob, m.source, l.topic"
_BY_AGE: Final = (
    f"SELECT {_COLUMNS} FROM messages m INDEXED BY messages_age CROSS JOIN logs l ON l.id = m.log"
    " WHERE (m.first_stored, m.blob) > (?, ?) AND m.blob < ? ORDER BY m.first_stored, m.blob LIMIT ?"
)
"""What is too young is passed over in the index, without a look at the message."""
_OF_TOPIC: Final = (
    f"SELECT {_COLUMNS} FROM logs l CROSS JOIN messages m ON m.log = l.id WHERE l.topic = ? AND m.source = ?"
    " ORDER BY m.first_stored, m.blob LIMIT ?"
)
_START: Final = (-SEQ_OFFSET, -1)
_ANY_AGE: Final = 2**63 - 1
_SMALL_PART: Final = 16  # a topic with less than this part of all bytes is read whole, which is quicker than by age
_PASSES_MAX: Final = 256

_Share = tuple[int, int | None]


@dataclass(slots=True)
class _Pass:
    """A look through all messages for those of one share, over as many steps as it takes."""

    begun_at: float
    at: tuple[int, int] = _START
    has_found: bool = False


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
        self._passes: dict[_Share, _Pass] = {}
        self._in_vain_until_at: dict[_Share, float] = {}

    def make_room(
        self, asked: Sequence[tuple[str, int]], origin: object, client: str, size: int
    ) -> tuple[RoomMade, Change]:
        """One step towards `size` bytes for a source that has `asked` for so many of them in topics."""
        ledger = self.ledger
        if ledger.has_garbage:  # what was let go before is room as soon as it has been cleared away
            for _ in range(_RECLAIMS):
                ledger.reclaim()
            return RoomMade(0, 0, goes_on=True), Change()
        known = [(one(ledger.db, "SELECT id FROM topics WHERE topic = ?", (topic,)), grown) for topic, grown in asked]
        victim = ledger.shares.victim(source_of(origin, client, ledger.salt), known, size)
        if victim is None:
            return RoomMade(0, 0, goes_on=False), Change()
        return self._evict(victim, min(size, victim.spare_bytes) if victim.spare_bytes else size)

    def _evict(self, victim: Victim[int], need_bytes: int) -> tuple[RoomMade, Change]:
        share = (victim.source, victim.topic)
        if not victim.young and time.monotonic() < self._in_vain_until_at.get(share, 0.0):
            return RoomMade(0, 0, goes_on=False), Change()
        if len(self._passes) > _PASSES_MAX:
            self._passes.clear()
        deadline = time.perf_counter() + EXPIRY_LOCK_S
        young_from = self.ledger.ages.young_from(self.ledger.next_blob)
        below = _ANY_AGE if victim.young else young_from
        chosen: list[Sequence[Any]] = []
        freed = 0
        goes_on = True
        while freed < need_bytes and len(chosen) < EXPIRY_SLICE_MESSAGES * 8:
            look = self._passes.setdefault(share, _Pass(time.monotonic()))
            rows, is_end = self._next(victim, look, below)
            for row in rows:
                _, _, _, first_stored_s, size, blob, source, topic_id = row
                look.at = (first_stored_s, blob)
                if source == victim.source and blob < below and self.ledger.shares.gives_way(victim, topic_id):
                    chosen.append(row[:7])
                    look.has_found = True
                    freed += size + MESSAGE_OVERHEAD_BYTES
                    if freed >= need_bytes:
                        break
            else:
                if is_end:
                    del self._passes[share]
                    if chosen:
                        break
                    # What was too young when a long pass began may not be so any more.
                    if not look.has_found and time.monotonic() - look.begun_at < EVICT_YOUNG_S:
                        goes_on = False
                        break
            if time.perf_counter() >= deadline:
                break
        if not goes_on:
            self._note_in_vain(share)
        removed_young = sum(row[5] >= young_from for row in chosen)
        return RoomMade(freed, removed_young, goes_on), self._remove(chosen)

    def _next(self, victim: Victim[int], look: _Pass, below: int) -> tuple[list[Any], bool]:
        """The next messages to be looked at, the oldest first, and whether they are the last. By age only those whose
        blobs have a number `below` this."""
        db = self.ledger.db
        if self._reads_whole(victim):
            return db.execute(_OF_TOPIC, (victim.topic, victim.source, EVICT_SCAN_MESSAGES)).fetchall(), True
        rows = db.execute(_BY_AGE, (*look.at, below, EVICT_SCAN_MESSAGES)).fetchall()
        return rows, len(rows) < EVICT_SCAN_MESSAGES

    def _reads_whole(self, victim: Victim[int]) -> bool:
        if victim.topic is None:
            return False
        return self.ledger.shares.held_in(victim.topic) * _SMALL_PART < self.ledger.occupancy.storage_bytes

    def _note_in_vain(self, share: _Share) -> None:
        """Nothing of this share is old enough: looking again at once would be looking through everything again."""
        if len(self._in_vain_until_at) >= _PASSES_MAX:
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
            spans = evicted_of(db, log_id)
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
