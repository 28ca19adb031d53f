"""The mailbox itself: takes messages from clients and peers, answers reads, forgets what is too old.

Everything that enters or leaves the store passes here, so that age and clock rules stand in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import trio

from node.aside import aside
from node.clock import Clock, StepWatch
from node.signed import SignedOnly
from node.store.api import Arrival, Position, PutResult, ReadPage, Room, Store, StoreError
from protocols.limits.data import CLOCK_SETTLE_S
from protocols.limits.http import DIGEST_OFFLOAD_BYTES, DIGEST_OFFLOAD_MESSAGES
from protocols.limits.replication import SYNC_ROOM_BYTES
from protocols.limits.store import EXPIRY_BATCH_MESSAGES, EXPIRY_CHECK_INTERVAL_S, MISSING_MAX, READ_PAGE_BYTES
from protocols.model import LogName, Retention, digest_of

__all__ = ["Mailbox"]

log = logging.getLogger(__name__)


class Mailbox:
    """The core that HTTP and sync share. Its collaborators are ports; it does no I/O of its own."""

    def __init__(self, store: Store, *, clock: Clock, retention: Retention, require_signed: bool = False) -> None:
        self.store = store
        self.clock = clock
        self.retention = retention
        self._steps = StepWatch(settle_s=min(CLOCK_SETTLE_S, retention.retention_s))
        self.signed_only = SignedOnly() if require_signed else None
        """None if messages need not be signed."""
        self.stored = 0
        self.served = 0
        self._on_trouble: Callable[[StoreError], None] = lambda _error: None

    def on_trouble(self, watcher: Callable[[StoreError], None]) -> None:
        """`watcher` is told when the store could not take a client's messages, or not expire what is due. It must not
        block or raise."""
        self._on_trouble = watcher

    def alive_from_s(self) -> int:
        """The smallest first stored (Unix seconds) that is alive now."""
        return self.retention.alive_from(self.clock.now_s())

    @property
    def is_full(self) -> bool:
        """Whether there is too little room on the disk to take anything from other mailboxes: what they sent would be
        thrown away, and sent again at the next sync."""
        return any(_is_short(room) for room in self.store.rooms() if not room.is_limit)

    @property
    def is_at_limit(self) -> bool:
        """Whether the storage limit is near: what comes now has to push out something else."""
        return any(_is_short(room) for room in self.store.rooms() if room.is_limit)

    async def deliver(self, messages: Sequence[tuple[LogName, int, bytes]], *, client: str = "") -> PutResult:
        """Stores messages (log, seq, blob) that a client brings: all or none, durable on return. `client` says who it
        is (an address or a device), for fair shares of the room.

        Raises StoreFull or StoreUnavailable, or NotGenuine where messages must be signed; then nothing was stored.
        """
        if self.signed_only is not None:
            await self.signed_only.check(messages)
        stamp_s = self.retention.stamp(self.clock.now_s())
        if len(messages) > DIGEST_OFFLOAD_MESSAGES or sum(len(m[2]) for m in messages) > DIGEST_OFFLOAD_BYTES:
            arrivals = await aside(_arrivals, messages, stamp_s)
        else:
            arrivals = _arrivals(messages, stamp_s)
        try:
            result = await self.store.put(arrivals, client=client)
        except StoreError as error:
            self._on_trouble(error)
            raise
        self.stored += result.stored
        return result

    async def take(self, arrivals: Sequence[Arrival], *, origin: object = None, asked: bool = True) -> PutResult:
        """Stores what other mailboxes bring, `asked` or not; what must be signed and is not counts as dropped. Durable
        on return.

        Raises StoreFull or StoreUnavailable.
        """
        if self.signed_only is None:
            return await self.store.put(arrivals, origin=origin)
        genuine = await self.signed_only.genuine(arrivals, asked=asked)
        result = await self.store.put(genuine, origin=origin)
        return result._replace(dropped=result.dropped + len(arrivals) - len(genuine))

    async def read(
        self,
        query: Mapping[str, Mapping[str, int]],
        *,
        after: Position | None = None,
        page_bytes: int = READ_PAGE_BYTES,
    ) -> ReadPage:
        """One page of the answer to a client's `get`; see `Store.read`. Raises StoreUnavailable.

        Whoever sends its messages out counts them in `served`.
        """
        return await self.store.read(
            query,
            alive_from_s=self.alive_from_s(),
            missing_max=MISSING_MAX,
            after=after,
            page_bytes=page_bytes,
        )

    async def _expire_due(self) -> None:
        if not self._steps.trusted(self.clock.now_s(), trio.current_time()):
            return
        while await self.store.expire(self.alive_from_s(), messages_max=EXPIRY_BATCH_MESSAGES):
            await trio.lowlevel.checkpoint()  # between batches, stores come first

    async def expire_forever(self) -> None:
        """Removes what is too old, in small batches, for as long as the mailbox runs."""
        while True:
            try:
                await self._expire_due()
            except StoreError as error:
                self._on_trouble(error)
                log.warning("expiry will be tried again: %s", error)
            await trio.sleep(min(EXPIRY_CHECK_INTERVAL_S, self.retention.granule_s))


def _is_short(room: Room) -> bool:
    return room.free_bytes < min(SYNC_ROOM_BYTES, room.of_bytes // 16)


def _arrivals(messages: Sequence[tuple[LogName, int, bytes]], stamp_s: int) -> list[Arrival]:
    return [Arrival(name, seq, blob, digest_of(blob), stamp_s) for name, seq, blob in messages]
