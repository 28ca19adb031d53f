"""A disk on which nothing is durable at once: what a store writes counts when the disk has had its time.

The store is the node's own in memory; a crash takes away what waits, and what is durable comes back at the next start.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from node.store._evicted import minus_spans
from node.store._shares import source_of
from node.store.api import Arrival, PutResult, Room, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from protocols.model import LogName, MailboxId
from simulations.runtime import YIELD_SHARE, Timeline

__all__ = ["Disk", "SimulatedStore"]


_DISK_BYTES: Final = 1 << 40
_ROOM: Final = Room(_DISK_BYTES, _DISK_BYTES)
_NO_ROOM: Final = Room(0, _DISK_BYTES)


class Disk:
    """One machine's. It outlives the processes that use it."""

    def __init__(
        self, timeline: Timeline, *, fsync_s: float, storage_limit_bytes: int | None, chance: random.Random
    ) -> None:
        self._timeline = timeline
        self._fsync_s = fsync_s
        self._limit_bytes = storage_limit_bytes
        self.chance = chance
        self._batch_at = 0.0
        self.is_full = False
        self.is_held = False
        """While the machine sleeps."""
        self.freed = trio.Event()
        self._store = SimulatedStore(self, storage_limit_bytes)

    def open(self) -> SimulatedStore:
        """What is durable, for a new process; the one before has lost its hold of it."""
        before = self._store
        self._store = SimulatedStore(self, self._limit_bytes)
        self._store.take_over(before)
        return self._store

    def wipe(self) -> None:
        """Everything is gone."""
        self._store.close()
        self._store = SimulatedStore(self, self._limit_bytes)

    @property
    def content(self) -> SimulatedStore:
        """What is durable now."""
        return self._store

    async def sync(self) -> None:
        """Waits until what was written before this call is durable. Whoever comes while the disk is at work shares its
        next turn."""
        now = trio.current_time()
        if now >= self._batch_at - self._fsync_s:  # the turn that is to come has begun
            self._batch_at = max(now, self._batch_at) + self._fsync_s * self.chance.uniform(0.5, 1.5)
        await self._timeline.wait_until(self._batch_at)
        while self.is_held:
            await self.freed.wait()


class SimulatedStore(MemoryStore):
    """One process's view of its disk."""

    def __init__(self, disk: Disk, storage_limit_bytes: int | None) -> None:
        super().__init__(storage_limit_bytes=storage_limit_bytes)
        self._disk = disk

    def held(self) -> dict[tuple[LogName, int, bytes], int]:
        """All that is durable: log, seq and digest -> first stored."""
        return {key: first_stored_s for first_stored_s, age in sorted(self._ages.items()) for key in age}

    @property
    def messages_held(self) -> int:
        """How many messages there are."""
        return self._occupancy.messages

    def bytes_by_topic(self) -> dict[str, int]:
        """What each topic takes."""
        return self._shares.by_topic()

    def has_let_go(self, name: LogName, seq: int) -> bool:
        """Whether that is recorded as let go to make room."""
        log = self._find(name)
        return log is not None and not minus_spans(seq, seq, log.evicted)

    def has_room(self, topic: str, size: int, origins: Iterable[MailboxId]) -> bool:
        """Whether messages that take `size` bytes find room, if need be at the expense of somebody who has more,
        whichever of these mailboxes brings them."""
        if size <= min(room.free_bytes for room in self.rooms()):
            return True
        known = topic if topic in self._topics else None
        found = [self._shares.victim(source_of(origin, "", b""), [(known, size)], size) for origin in origins]
        return all(victim is not None and victim.young for victim in found)

    def size_of(self, name: LogName, seq: int, digest: bytes) -> int:
        """Bytes of a blob that is held."""
        return len(self._topics[name.topic][name.log].variants[seq][digest].blob)

    def close(self) -> None:
        """Whoever still uses it gets StoreUnavailable."""
        self._is_closed = True

    def take_over(self, before: SimulatedStore) -> None:
        """The durable state of another, which is closed."""
        before.close()
        self._topics = before._topics
        self._ages = before._ages
        self._live_logs = before._live_logs
        self._occupancy = before._occupancy
        self._shares = before._shares
        self._number = before._number

    def rooms(self) -> Sequence[Room]:
        return [*super().rooms(), _NO_ROOM if self._disk.is_full else _ROOM]

    async def _turn(self) -> None:
        # Now and then is enough for others to come in between; each time would be a third of what a run costs.
        if self._disk.chance.random() < YIELD_SHARE:
            await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise StoreUnavailable("the store is closed")

    async def _commit(self) -> None:
        await self._turn()
        if self._disk.is_full:
            raise StoreFull("the disk is full")
        await self._disk.sync()
        if self._is_closed:
            raise StoreUnavailable("the store is closed")

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        result = await super().put(arrivals, origin=origin, client=client)
        # Durable, but not yet acknowledged: a crash may come in between.
        if self._disk.chance.random() < YIELD_SHARE:
            await trio.lowlevel.checkpoint()
        return result
