"""A mailbox's parts, joined but not yet running: the core, and what phones and the administration need."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from node.admission.pairing import Pairing
from node.admission.pins import Pins
from node.admission.policy import Admission
from node.clock import Clock
from node.config import HttpPeer, OperatorLimits, RunConfig
from node.core import Core
from node.datadir import PINS_FILE, TOY_LEDGER_FILE
from node.doors import Doors
from node.events import EventKind, Events
from node.happenings import tell_of
from node.http.door import Door
from node.http.limits import HttpLimits
from node.http.messages import Router
from node.http.server import HttpStatistics
from node.http.toy import toy_router
from node.http.turnstile import Turnstile
from node.identity import Identity
from node.reach import Reach, Whereabouts
from node.store.api import Store
from node.sync.peers import PeerState, SessionEnd
from node.sync.reports import Reports
from node.sync.toy_ledger import ToyLedger
from node.sync.toy_peer import ToyPeers
from node.transport.api import Transport
from protocols.addresses import PeerAddress
from protocols.limits.http import HTTP_REQUESTS_PER_CLIENT_BURST, HTTP_REQUESTS_PER_CLIENT_RATE
from protocols.limits.sync import SALT_BYTES
from protocols.model import MailboxId
from protocols.sync.interest import Interest

__all__ = ["Parts", "Phones", "http_limits", "whereabouts"]


@dataclass(frozen=True, slots=True)
class Phones:
    """What serves phones: the routes, who is who at them, and the bounds with what is used of them."""

    routes: Router
    door: Door
    pairing: Pairing
    limits: HttpLimits
    turnstile: Turnstile
    statistics: HttpStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """See `join`."""

    identity: Identity
    core: Core
    admission: Admission
    events: Events
    doors: Doors
    phones: Phones
    pins: Pins
    plain: ToyPeers
    reach: Reach
    reports: Reports

    @classmethod
    def join(
        cls,
        config: RunConfig,
        *,
        folder: Path,
        identity: Identity,
        admission: Admission,
        admin_token: str,
        store: Store,
        transport: Transport,
        clock: Clock,
    ) -> Parts:
        """Joins the parts, before `transport` runs: what answers other mailboxes must be there when it does. Files are
        kept in `folder`; who has `admin_token` may do what phones may."""
        core = _core(config, store=store, transport=transport, clock=clock, admission=admission)
        events, doors = Events(clock), Doors(is_open=not config.paused)
        tell_of(core, events)
        reports = Reports(
            identity=identity,
            mailbox=core.mailbox,
            index=core.index,
            transport=transport,
            doorkeeper=core.doorkeeper,
            network=config.network,
            interest=core.engine.interest,
            entropy=secrets.token_bytes,
        )
        pins = Pins(
            folder / PINS_FILE,
            admission,
            is_connected=lambda mailbox_id: mailbox_id in transport.connected(),
            told=partial(events.tell, EventKind.ACCESS),
        )
        core.engine.on_session(partial(_pin, core, pins))
        return cls(
            identity=identity,
            core=core,
            admission=admission,
            events=events,
            doors=doors,
            phones=_phones(config, core, admission, identity, admin_token=admin_token, doors=doors, events=events),
            pins=pins,
            plain=_plain_peers(config, core, pins, folder=folder),
            reach=Reach(transport, config.network, partial(whereabouts, core)),
            reports=reports,
        )


def _core(config: RunConfig, *, store: Store, transport: Transport, clock: Clock, admission: Admission) -> Core:
    return Core.assemble(
        store=store,
        transport=transport,
        clock=clock,
        retention=config.retention,
        network=config.network,
        sync_interval_s=config.sync_interval_s,
        fixed_peers=[peer for peer in config.peers if isinstance(peer, PeerAddress)],
        jitter=random.Random(),
        salt=partial(secrets.token_bytes, SALT_BYTES),
        interest=Interest.of(config.topics) if config.topics else None,
        admission=admission,
        require_signed=config.require_signed,
        sessions_in_max=config.limits.sync_sessions,
    )


def _phones(
    config: RunConfig,
    core: Core,
    admission: Admission,
    identity: Identity,
    *,
    admin_token: str,
    doors: Doors,
    events: Events,
) -> Phones:
    clock = core.mailbox.clock
    door = Door(admission, own_token=admin_token, now_s=clock.now_s)
    pairing = Pairing(
        admission,
        identity.mailbox_id,
        clock,
        on_paired=lambda device: events.tell(EventKind.ACCESS, f"the phone {device.name!r} was paired"),
    )
    routes = toy_router(core.mailbox, identity.mailbox_id, door, pairing)
    routes.guard = doors.guard(routes.guard)
    limits = http_limits(config.limits)
    return Phones(routes, door, pairing, limits, Turnstile(limits), HttpStatistics())


def http_limits(operator: OperatorLimits) -> HttpLimits:
    """The HTTP server's bounds as the operator wants them. A burst lasts as long at every rate."""
    burst_s = HTTP_REQUESTS_PER_CLIENT_BURST / HTTP_REQUESTS_PER_CLIENT_RATE
    return HttpLimits(
        connections_max=operator.connections,
        connections_per_client_max=operator.connections_per_client,
        requests_per_client_rate=float(operator.requests_per_client),
        requests_per_client_burst=int(burst_s * operator.requests_per_client),
        bodies_bytes_max=operator.bodies_bytes,
        trust_loopback=operator.trust_loopback,
    )


def _plain_peers(config: RunConfig, core: Core, pins: Pins, *, folder: Path) -> ToyPeers:
    def is_met(text: str) -> bool:
        try:
            return MailboxId.parse(text) in core.transport.connected()
        except ValueError:
            return False

    return ToyPeers(
        [peer.url for peer in config.peers if isinstance(peer, HttpPeer)],
        mailbox=core.mailbox,
        index=core.index,
        ledger=ToyLedger(folder / TOY_LEDGER_FILE),
        interval_s=config.sync_interval_s,
        jitter=random.Random(),
        own_id=str(core.transport.local),
        is_met=is_met,
        why_not=pins.why_not,
        only_topics=config.topics,
    )


def _pin(core: Core, pins: Pins, end: SessionEnd) -> None:
    """Whoever was synced with is remembered by where it is."""
    peer = core.engine.table.get(end.peer)
    if end.error is None and peer is not None and peer.discovered:
        pins.met(end.peer, [(address.host, address.port) for address in sorted(peer.discovered)])


def whereabouts(core: Core, mailbox_id: MailboxId) -> Whereabouts:
    """Where a neighbour is; nothing of one that is not let in, so that no stranger has us try addresses."""
    peer = core.engine.table.get(mailbox_id)
    is_in = core.doorkeeper.is_admitted(mailbox_id)
    if peer is None or peer.state is PeerState.REFUSED or not is_in:
        return Whereabouts()
    named = tuple(address.host for address in sorted(peer.fixed))
    return Whereabouts(named, tuple(address.host for address in sorted(peer.discovered)))
