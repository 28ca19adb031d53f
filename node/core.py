"""The mailbox put together over its ports: what the program and the simulator have in common."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from node.admission.doorkeeper import Doorkeeper
from node.admission.policy import Admission
from node.clock import Clock
from node.mailbox import Mailbox
from node.store.api import Store
from node.sync.audit import Audit
from node.sync.engine import SyncEngine
from node.sync.index import LogIndex
from node.sync.pause import Pause
from node.transport.api import Transport
from protocols.addresses import PeerAddress
from protocols.limits.replication import (
    INDEX_SERIAL_BITS,
    SUPERVISE_PAUSE_FIRST_S,
    SUPERVISE_PAUSE_MAX_S,
    SYNC_SESSIONS_IN_MAX,
)
from protocols.limits.sync import SALT_BYTES, SYNC_VERSION_MAX, SYNC_VERSION_MIN
from protocols.model import Retention
from protocols.sync.interest import Interest

__all__ = ["VERSION", "Core", "supervise"]

VERSION = "0.1.0"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Core:
    """A mailbox without its doors (HTTP, discovery): store, index and its audit, sync, and the transport of sync."""

    mailbox: Mailbox
    index: LogIndex
    audit: Audit
    engine: SyncEngine
    transport: Transport
    doorkeeper: Doorkeeper

    @classmethod
    def assemble(
        cls,
        *,
        store: Store,
        transport: Transport,
        clock: Clock,
        retention: Retention,
        network: str,
        sync_interval_s: float,
        fixed_peers: Sequence[PeerAddress] = (),
        jitter: random.Random,
        salt: Callable[[], bytes],
        interest: Interest | None = None,
        admission: Admission | None = None,
        require_signed: bool = False,
        sessions_in_max: int = SYNC_SESSIONS_IN_MAX,
        versions: tuple[int, int] = (SYNC_VERSION_MIN, SYNC_VERSION_MAX),
        pause: Callable[[], Pause] = Pause,
    ) -> Core:
        """Joins the parts. `jitter` spreads timers, `salt` gives SALT_BYTES fresh random bytes, for each session
        and for what must differ from one start to the next. `interest` limits syncs to some topics. `admission`
        says who is let in (by default all). With `require_signed` only what its author signed is
        taken. `sessions_in_max` bounds the sessions that others open at once. `versions` are the lowest and the highest
        version of the sync protocol that it speaks. `pause` makes the pauses of its tasks."""
        mailbox = Mailbox(store, clock=clock, retention=retention, require_signed=require_signed)
        serial = int.from_bytes(salt()) & ((1 << INDEX_SERIAL_BITS) - 1)
        index = LogIndex(store, own_boundary=mailbox.alive_from_s, serial=serial)
        doorkeeper = Doorkeeper(admission or Admission(), transport, network=network, entropy=partial(_enough, salt))
        engine = SyncEngine(
            mailbox=mailbox,
            index=index,
            transport=transport,
            doorkeeper=doorkeeper,
            network=network,
            software=f"mailboxd/{VERSION}",
            interval_s=sync_interval_s,
            fixed_peers=fixed_peers,
            jitter=jitter,
            salt=salt,
            interest=interest,
            sessions_in_max=sessions_in_max,
            versions=versions,
            pause=pause,
        )
        return cls(mailbox, index, Audit(store, index, clock), engine, transport, doorkeeper)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; `started` once the index is ready and the transport listens.

        Raises StoreUnavailable or OSError if it can't even start.
        """
        await self.index.load()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.transport.run)
            nursery.start_soon(supervise, "sync", self.engine.run)
            nursery.start_soon(supervise, "expiry", self.mailbox.expire_forever)
            nursery.start_soon(supervise, "index", self.index.keep_up)
            nursery.start_soon(supervise, "audit", self.audit.run)
            task_status.started()


def _enough(salt: Callable[[], bytes], size: int) -> bytes:
    """`size` random bytes, from a source that gives a few at a time."""
    return b"".join(salt() for _ in range(-(-size // SALT_BYTES)))[:size]


async def supervise(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Runs a part for ever: if it fails in spite of all, that is logged and it is started again after a pause."""
    pause_s = SUPERVISE_PAUSE_FIRST_S
    while True:
        begun = trio.current_time()
        try:
            await run()
        except Exception:
            log.exception("%s failed; it is started again in %.0f s", what, pause_s)
        else:
            log.error("%s ended; it is started again in %.0f s", what, pause_s)
        if trio.current_time() - begun > SUPERVISE_PAUSE_MAX_S:
            pause_s = SUPERVISE_PAUSE_FIRST_S
        await trio.sleep(pause_s)
        pause_s = min(SUPERVISE_PAUSE_MAX_S, 2 * pause_s)
