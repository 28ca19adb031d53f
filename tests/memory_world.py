"""Mailboxes in one process for tests of the engine: stores on disks or in memory, a network in memory, one clock.

Everything between the ports is the node's own code (`node.core.Core`). The simulator has harsher worlds.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Final

import trio

from node.admission.policy import Admission
from node.core import Core
from node.store.api import Store
from node.store.memory import MemoryStore
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.limits.sync import SALT_BYTES
from protocols.model import MailboxId, Retention
from protocols.sync.interest import Interest

__all__ = ["SimulatedClock", "SimulatedMailbox", "World"]


_BEGINNING_S: Final = 1_767_225_600.0
"""The date at which every world begins: 2026-01-01."""


class SimulatedClock:
    """A wall clock that follows trio's with an error of its own. `epoch_s` is the date at trio's time 0."""

    def __init__(self, *, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self.error_s = 0.0

    def now_s(self) -> float:
        return trio.current_time() + self._epoch_s + self.error_s


@dataclass(frozen=True, slots=True)
class SimulatedMailbox:
    """One mailbox of the world. `scope` ends it (a crash that loses nothing: its store can be given to another)."""

    mailbox_id: MailboxId
    core: Core
    store: Store
    clock: SimulatedClock
    scope: trio.CancelScope

    async def fingerprint(self) -> str:
        """Over everything that it holds alive; equal on two mailboxes exactly if they hold the same."""
        view = await self.core.index.view(self.core.mailbox.alive_from_s())
        return view.fingerprint


class World:
    """Mailboxes that know each other by their addresses. All randomness comes from `seed`."""

    def __init__(self, nursery: trio.Nursery, *, seed: int = 0) -> None:
        self._nursery = nursery
        self._random = random.Random(seed)
        self.network = MemoryNetwork()
        self._epoch_s = _BEGINNING_S - trio.current_time()

    async def start(
        self,
        name: str,
        *,
        peers: tuple[SimulatedMailbox, ...] = (),
        store: Store | None = None,
        retention: Retention | None = None,
        sync_interval_s: float = 30.0,
        network: str = "sim",
        admission: Admission | None = None,
        require_signed: bool = False,
        interest: Interest | None = None,
    ) -> SimulatedMailbox:
        """A running mailbox. The same name has the same identity."""
        mailbox_id = MailboxId(hashlib.blake2b(name.encode(), digest_size=32).digest())
        transport = MemoryTransport(self.network, mailbox_id)
        clock = SimulatedClock(epoch_s=self._epoch_s)
        store = store or MemoryStore()
        core = Core.assemble(
            store=store,
            transport=transport,
            clock=clock,
            retention=retention or Retention(),
            network=network,
            sync_interval_s=sync_interval_s,
            fixed_peers=[address for peer in peers for address in peer.core.transport.addresses()],
            jitter=random.Random(self._random.random()),
            salt=lambda: self._random.randbytes(SALT_BYTES),
            admission=admission,
            require_signed=require_signed,
            interest=interest,
        )
        scope = trio.CancelScope()
        await self._nursery.start(_run, core, scope)
        return SimulatedMailbox(mailbox_id, core, store, clock, scope)


async def _run(core: Core, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with scope:
        await core.run(task_status=task_status)
