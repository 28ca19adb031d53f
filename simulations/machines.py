"""A machine that runs a mailbox: the node's own core on a simulated transport, disk, clock and discovery.

A crash takes it away between two instants: its ports are dead before its code hears of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from node.core import Core, supervise
from node.discovery.api import Announcement
from node.discovery.table import Timing
from node.http.messages import HttpError, Request, Router
from node.http.toy import toy_router
from node.store.api import StoreError
from node.sync.peers import SessionEnd
from protocols.addresses import PeerAddress
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import SALT_BYTES, SYNC_VERSION_MAX, SYNC_VERSION_MIN
from protocols.model import LogName, MailboxId, Retention
from simulations.disk import Disk, SimulatedStore
from simulations.hostility import misbehave, transport_of
from simulations.multicast import Multicast, SimulatedDiscovery
from simulations.network import Machine, Network
from simulations.runtime import EPOCH_S, SimulatedPause, Timeline, Trace, draw
from simulations.scenario import Behaviour, Mailboxes
from simulations.transport import P2P_PORT, Exchange, SimulatedTransport

__all__ = ["Host", "SimulatedClock", "Surroundings"]

log = logging.getLogger(__name__)

_HTTP_PORT: Final = 3411
_NETWORK: Final = "sim"


class SimulatedClock:
    """A wall clock with an error of its own. `drift_ppm` makes it gain (or lose) so many microseconds a second."""

    def __init__(self, timeline: Timeline, *, offset_s: float = 0.0, drift_ppm: float = 0.0) -> None:
        self._timeline = timeline
        self._error_s = offset_s
        self._drift_ppm = drift_ppm
        self._since = timeline.now_at
        self._shown: list[tuple[float, float]] = []
        """(when, the date just before) of each step."""

    @property
    def error_s(self) -> float:
        """By how much it is ahead of the world's time."""
        return self._error_s + (self._timeline.now_at - self._since) * self._drift_ppm / 1e6

    def now_s(self) -> float:
        now_at = self._timeline.now_at
        return EPOCH_S + now_at + self._error_s + (now_at - self._since) * self._drift_ppm / 1e6

    @property
    def has_stepped(self) -> bool:
        """Whether it ever did."""
        return bool(self._shown)

    def has_stepped_since(self, at: float) -> bool:
        """Whether it did since then (the world's time)."""
        return bool(self._shown) and self._shown[-1][0] >= at

    def has_shown(self, date_s: float, *, since: float) -> bool:
        """Whether it showed this date or a later one at any time since then (the world's)."""
        # Between two steps it only goes forward.
        return self.now_s() >= date_s or any(shown_s >= date_s for at, shown_s in self._shown if at >= since)

    def change(self, *, step_s: float, drift_ppm: float | None) -> None:
        """Steps it, and has it drift otherwise from now on (None: as before)."""
        if step_s:
            self._shown.append((self._timeline.now_at, self.now_s()))
        self._error_s = self.error_s + step_s
        self._since = self._timeline.now_at
        if drift_ppm is not None:
            self._drift_ppm = drift_ppm


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all machines of a world share. `on_store` is told of each new process's store before it is used, `on_wrote`
    of what a hostile mailbox writes itself."""

    seed: int
    network: Network
    exchange: Exchange
    multicast: Multicast
    trace: Trace
    nursery: trio.Nursery
    on_store: Callable[[Host, SimulatedStore], None]
    on_started: Callable[[Host], None]
    on_session: Callable[[Host, SessionEnd], None]
    on_wrote: Callable[[str, LogName, int], None]


class Host:
    """One mailbox's machine, through all its starts."""

    def __init__(self, spec: Mailboxes, machine: Machine, around: Surroundings, peers: list[Machine]) -> None:
        self.spec = spec
        self.machine = machine
        self.name = machine.name
        self.mailbox_id = identity_of(machine.name)
        self.retention = Retention(int(spec.retention_s))
        self.is_correct = spec.behaviour is Behaviour.HONEST
        self.crashes = 0
        self.starts = 0
        self.wipes = 0
        self.sync_version = SYNC_VERSION_MAX
        self.sessions = self.round_trips = self.bytes_in = self.bytes_out = 0
        self.peers = peers
        self._around = around
        self._random = draw(around.seed, "host", machine.name)
        self.disk = Disk(
            around.network.timeline,
            fsync_s=spec.fsync_s,
            storage_limit_bytes=spec.storage_limit_bytes,
            chance=self._random,
        )
        self.clock = SimulatedClock(
            around.network.timeline, offset_s=spec.clock_offset_s, drift_ppm=spec.clock_drift_ppm
        )
        self.core: Core | None = None
        self.transport: SimulatedTransport | None = None
        self.discovery: SimulatedDiscovery | None = None
        self.is_wanted = False
        """Whether it is to run: it may be between a crash and the restart."""
        self._router: Router | None = None
        self._scope: trio.CancelScope | None = None
        self._requests: dict[trio.CancelScope, None] = {}

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self._router is not None

    @property
    def knows_the_date(self) -> bool:
        """Whether its clock is as right as mailboxes ask of each other."""
        return abs(self.clock.error_s) <= CLOCK_SKEW_MAX_S / 2

    # --- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the process unless it runs."""
        self.is_wanted = True
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._around.nursery.start_soon(self._run, self._scope)

    def stop(self) -> None:
        """An orderly end."""
        self.is_wanted = False
        self._end("stop")

    def crash(self) -> None:
        """An end from one instant to the next."""
        if self._scope is None:
            return
        self.crashes += 1
        if self.transport is not None:
            self.transport.die()
        if self.discovery is not None:
            self.discovery.is_dead = True
        self.disk.content.close()
        self._end("crash")

    def wipe(self) -> None:
        """Its disk is empty from now on. Crash it first."""
        self.wipes += 1
        self.disk.wipe()

    def _end(self, how: str) -> None:
        if self._scope is not None:
            self._around.trace.note(f"{how} {self.name}")
            self._scope.cancel()
            self._scope = None
            self._router = None
            for scope in self._requests:
                scope.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._process()
            except* (StoreError, OSError) as group:
                log.error("mailbox %s could not start: %s", self.name, group.exceptions[0])

    async def _process(self) -> None:
        around = self._around
        self.starts += 1
        around.trace.note(f"start {self.name}")
        store = self.disk.open()
        around.on_store(self, store)
        self.transport = transport = transport_of(self.spec.behaviour, around.exchange, self.machine, self.mailbox_id)
        self.discovery = SimulatedDiscovery(around.multicast, self.machine, self.mailbox_id, Timing())
        network = around.network
        self.core = core = Core.assemble(
            store=store,
            transport=transport,
            clock=self.clock,
            retention=self.retention,
            network=_NETWORK,
            sync_interval_s=self.spec.sync_interval_s,
            fixed_peers=[PeerAddress(network.address(peer), P2P_PORT, identity_of(peer.name)) for peer in self.peers],
            jitter=draw(around.seed, "jitter", self.name, self.starts),
            salt=partial(self._random.randbytes, SALT_BYTES),
            versions=(min(self.sync_version, SYNC_VERSION_MIN), self.sync_version),
            pause=partial(SimulatedPause, network.timeline),
        )
        core.engine.on_session(self._session_ended)
        transport.on_connection(self.discovery.met)
        announcement = Announcement(self.mailbox_id, _HTTP_PORT, P2P_PORT, SYNC_VERSION_MAX, _NETWORK)
        async with trio.open_nursery() as nursery:
            await nursery.start(core.run)
            self._router = toy_router(core.mailbox, self.mailbox_id)
            around.on_started(self)
            nursery.start_soon(supervise, "discovery", partial(self.discovery.run, announcement, core.engine.report))
            if not self.is_correct:
                nursery.start_soon(
                    misbehave, self.spec.behaviour, transport, around.multicast, self._random, self._deliver
                )

    async def _deliver(self, messages: Sequence[tuple[LogName, int, bytes]]) -> None:
        """Stores what the mailbox has made itself. Raises StoreError."""
        assert self.core is not None
        for name, seq, _ in messages:
            self._around.on_wrote(self.name, name, seq)
        await self.core.mailbox.deliver(messages)

    def _session_ended(self, end: SessionEnd) -> None:
        self.sessions += 1
        self.round_trips += end.result.round_trips
        self.bytes_in += end.bytes_in
        self.bytes_out += end.bytes_out
        self._around.on_session(self, end)

    def moved(self) -> None:
        """The machine stands in another LAN now."""
        if self.transport is not None and self._scope is not None:
            self.transport.moved()
        if self.discovery is not None and self._scope is not None:
            self.discovery.moved()

    def sleep(self, *, asleep: bool) -> None:
        """Nothing enters or leaves while the machine is asleep."""
        self.machine.asleep = asleep
        self.disk.is_held = asleep
        if not asleep:
            self.disk.freed.set()
            self.disk.freed = trio.Event()
        self._around.network.changed()

    # --- for phones ------------------------------------------------------------------------------------------------

    async def serve(self, path: str, body: bytes, *, client: str, scope: trio.CancelScope) -> tuple[int, bytes]:
        """The node's answer to a POST: status and body. Raises ConnectionResetError if nobody listens. `scope` is the
        client's, of its request: that is cancelled if the node ends meanwhile."""
        router = self._router
        if router is None:
            raise ConnectionResetError("nobody listens")
        request = Request("POST", path, "", {"content-type": "application/json"}, body, client)
        self._requests[scope] = None
        try:
            return await _answer(router, request)
        finally:
            del self._requests[scope]


async def _answer(router: Router, request: Request) -> tuple[int, bytes]:
    try:
        response = await router.routes[request.path]["POST"].handler(request)
    except HttpError as error:
        return error.status, error.text.encode()
    if isinstance(response.body, bytes):
        return response.status, response.body
    pieces = [piece async for piece in response.body]
    return response.status, b"".join(pieces)


def identity_of(name: str) -> MailboxId:
    """The same name has the same identity."""
    return MailboxId(hashlib.blake2b(name.encode(), digest_size=32).digest())
