"""The composition root: a real mailbox on real ports, from its start to its shutdown."""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import trio

from node.addresses import spell_out
from node.admission.files import load_admission
from node.admission.invitation import Inviter
from node.admission.office import AdmissionOffice
from node.admission.pairing import Pairing
from node.admission.pins import Pins
from node.clock import SystemClock
from node.config import HttpPeer, ListenAddress, OperatorLimits, RunConfig, SettingsFile
from node.core import VERSION, Core, supervise
from node.datadir import PINS_FILE, STORE_FILE, TOKEN_FILE, TOY_LEDGER_FILE, DataDir, NodeInfo
from node.discovery.api import Announcement, Discovery
from node.discovery.mdns import MdnsDiscovery
from node.discovery.none import NoDiscovery
from node.doors import Doors
from node.events import EventKind, Events
from node.feed import Feed
from node.happenings import tell_of
from node.history import History
from node.http.admin.admission import add_admission_routes
from node.http.admin.bundles import add_bundle_routes
from node.http.admin.dashboard import OPEN_PATHS, add_access, add_dashboard
from node.http.admin.live import Live
from node.http.admin.report import add_report_route
from node.http.admin.routes import admin_router
from node.http.admin.sessions import Sessions
from node.http.admin.token import load_or_create_token
from node.http.door import Door
from node.http.limits import HttpLimits
from node.http.server import HttpStatistics, Listener, open_listeners, serve_http
from node.http.tls import server_context
from node.http.toy import toy_router
from node.http.turnstile import Turnstile
from node.identity import Identity
from node.limits_in_use import LimitsInUse
from node.overview import Overview
from node.reach import Reach
from node.service.notify import notifier
from node.settings import Settings
from node.status import Administration
from node.store.sqlite import SqliteStore
from node.sync.peers import PeerState, SessionEnd
from node.sync.reports import Reports
from node.sync.toy_ledger import ToyLedger
from node.sync.toy_peer import ToyPeers
from node.transport.libp2p import Libp2pTransport
from protocols.addresses import PeerAddress
from protocols.limits.data import CLOCK_PLAUSIBLE_FROM_S
from protocols.limits.http import HTTP_REQUESTS_PER_CLIENT_BURST, HTTP_REQUESTS_PER_CLIENT_RATE
from protocols.limits.replication import GC_YOUNG_OBJECTS
from protocols.limits.store import THREAD_SWITCH_S
from protocols.limits.sync import SALT_BYTES, SYNC_VERSION_MAX
from protocols.model import MailboxId
from protocols.sync.interest import Interest

__all__ = ["run_mailbox"]

_ADMIN: Final = ListenAddress("127.0.0.1", 0)

log = logging.getLogger(__name__)


async def run_mailbox(
    config: RunConfig,
    *,
    on_ready: Callable[[NodeInfo], None] = lambda _info: None,
    settings_file: SettingsFile,
    keep_awake: Callable[[bool], None] = lambda _is_on: None,
) -> None:
    """Runs a mailbox until cancelled, then shuts it down in good order. `on_ready` is called once it can be used.
    `settings_file` is where the dashboard's settings are kept, `keep_awake` switches that on and off.

    Raises DataDirError, IdentityError, StoreError, AdminError or OSError if it can't start; the messages say what
    to do.
    """
    clock = SystemClock()
    if clock.now_s() < CLOCK_PLAUSIBLE_FROM_S:
        log.warning(
            "this machine's clock is wrong; set it soon, or what is stored until then will die at once when it is"
        )
    with ExitStack() as listening, DataDir.open(config.data_dir) as data_dir:
        admission = load_admission(data_dir.path, password_file=config.password_file, only_trusted=config.only_trusted)
        identity = Identity.load_or_create(data_dir.identity_path)
        token = load_or_create_token(data_dir.path / TOKEN_FILE)
        # Ports before the store: a taken port is told at once, not after a million messages have been read.
        phones = await _listen(config.http, listening)
        secure: list[Listener] = []
        if config.https:
            tls = server_context(identity.seed, identity.mailbox_id, data_dir.path)
            secure = await _listen(config.https, listening, tls=tls)
        admin = await _listen_for_administration(data_dir, listening)
        path = data_dir.path / STORE_FILE
        _tune_interpreter()
        async with SqliteStore.open(path, storage_limit_bytes=config.storage_limit_bytes) as store:
            transport = Libp2pTransport(
                signing_key_seed=identity.seed, listen=await _p2p_address(config, data_dir), network=config.network
            )
            core = Core.assemble(
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
            events, doors = Events(clock), Doors(is_open=not config.paused)
            tell_of(core, events)
            reach = Reach(transport, config.network, partial(_known_addresses, core))
            async with trio.open_nursery() as nursery:
                await nursery.start(core.run)
                p2p = transport.addresses()
                data_dir.save_p2p_port(p2p[0].port)
                statistics = HttpStatistics()
                door = Door(admission, own_token=token, now_s=clock.now_s)
                pairing = Pairing(
                    admission,
                    identity.mailbox_id,
                    clock,
                    on_paired=lambda device: events.tell(EventKind.ACCESS, f"the phone {device.name!r} was paired"),
                )
                routes = toy_router(core.mailbox, identity.mailbox_id, door, pairing)
                routes.guard = doors.guard(routes.guard)
                http_limits = _http_limits(config.limits)
                turnstile = Turnstile(http_limits)
                await nursery.start(
                    partial(
                        serve_http,
                        [*phones, *secure],
                        routes,
                        limits=http_limits,
                        statistics=statistics,
                        turnstile=turnstile,
                    )
                )
                pins = Pins(
                    data_dir.path / PINS_FILE,
                    admission,
                    is_connected=lambda mailbox_id: mailbox_id in transport.connected(),
                    told=partial(events.tell, EventKind.ACCESS),
                )
                core.engine.on_session(partial(_pin, core, pins))
                plain = _plain_peers(config, core, data_dir, pins)
                nursery.start_soon(supervise, "plain peers", plain.run)
                administration = Administration(
                    core,
                    plain=plain,
                    reach=reach,
                    ports=[listener.address.port for listener in (*phones, *secure)] + [p2p[0].port],
                    mailbox_id=identity.mailbox_id,
                    name=config.name,
                    events=events,
                    limits=LimitsInUse(core, config.limits, statistics=statistics, turnstile=turnstile),
                    doors=doors,
                    notice=pins.notice,
                )
                sessions = Sessions(identity.mailbox_id.short)
                desk = admin_router(administration, token, http=statistics, sessions=sessions, open_paths=OPEN_PATHS)
                tell_access = partial(events.tell, EventKind.ACCESS)
                office = AdmissionOffice(admission, last_seen=door.last_seen, told=tell_access)
                inviter = Inviter(pairing, identity.mailbox_id, lambda: [*_urls(secure), *_urls(phones)], clock)
                add_admission_routes(desk, office, inviter.invite)
                add_bundle_routes(desk, core.mailbox, network=config.network, interest=core.engine.interest)
                add_report_route(desk, core.engine, reports)
                overview = Overview(core, plain=plain, administration=administration, doors=doors)
                overview.urls = (*_urls(phones), *_urls(secure))
                history, live = History(clock, overview.reading), Live()
                add_dashboard(
                    desk,
                    sessions=sessions,
                    live=live,
                    settings=Settings(
                        settings_file,
                        config,
                        core=core,
                        plain=plain,
                        doors=doors,
                        events=events,
                        rename=administration.rename,
                        keep_awake=keep_awake,
                    ),
                    on_login=partial(events.tell, EventKind.ACCESS, "somebody signed in to the dashboard"),
                )
                add_access(desk, office, inviter.invite)
                feed = Feed(live, overview=overview, events=events, history=history, store=store)
                nursery.start_soon(supervise, "history", history.run)
                nursery.start_soon(supervise, "dashboard", feed.run)
                await nursery.start(serve_http, admin, desk)
                discovery: Discovery = MdnsDiscovery() if config.mdns else NoDiscovery()
                transport.on_connection(discovery.met)
                nursery.start_soon(
                    supervise,
                    "discovery",
                    partial(doors.while_so, partial(_discover, discovery, config, core, phones, p2p[0].port)),
                )
                info = NodeInfo(
                    pid=os.getpid(),
                    version=VERSION,
                    mailbox_id=str(identity.mailbox_id),
                    peer_id=identity.peer_id,
                    http=_urls(phones),
                    p2p=tuple(map(str, p2p)),
                    admin=_urls(admin)[0],
                    https=_urls(secure),
                )
                data_dir.publish(info)
                events.tell(EventKind.STARTED, f"this mailbox started, version {VERSION}")
                on_ready(info)
                manager = notifier()
                manager.tell("READY=1", f"STATUS=mailbox {identity.mailbox_id.short} serves phones at {info.http[0]}")
                nursery.start_soon(supervise, "watchdog", partial(manager.keep_alive, store))
                _freeze_what_is_loaded()


def _http_limits(operator: OperatorLimits) -> HttpLimits:
    burst_s = HTTP_REQUESTS_PER_CLIENT_BURST / HTTP_REQUESTS_PER_CLIENT_RATE
    return HttpLimits(
        connections_max=operator.connections,
        connections_per_client_max=operator.connections_per_client,
        requests_per_client_rate=float(operator.requests_per_client),
        requests_per_client_burst=int(burst_s * operator.requests_per_client),
        bodies_bytes_max=operator.bodies_bytes,
        trust_loopback=operator.trust_loopback,
    )


def _tune_interpreter() -> None:
    """Reading a million messages at the start makes no garbage in cycles, but looking for it took half of the time. Why
    threads switch often, see THREAD_SWITCH_S."""
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(THREAD_SWITCH_S)


def _freeze_what_is_loaded() -> None:
    """What is loaded by now stays: the collector need not look through it again and again (a full collection while a
    large store is decoded held everything up for 50 ms)."""
    gc.collect()
    gc.freeze()


async def _listen(
    addresses: Sequence[ListenAddress], listening: ExitStack, *, tls: ssl.SSLContext | None = None
) -> list[Listener]:
    listeners = await open_listeners(addresses, tls=tls)
    for listener in listeners:
        listening.callback(listener.close)
    return listeners


async def _listen_for_administration(data_dir: DataDir, listening: ExitStack) -> list[Listener]:
    """On the port of the last run, if it is still free: bookmarks and whoever reads the metrics come back to it."""
    kept = data_dir.saved_admin_port()
    try:
        listeners = await _listen([ListenAddress(_ADMIN.host, kept or 0)], listening)
    except OSError:
        log.info("port %s, at which the dashboard was, is taken by another program", kept)
        listeners = await _listen([_ADMIN], listening)
    data_dir.save_admin_port(listeners[0].address.port)
    return listeners


async def _p2p_address(config: RunConfig, data_dir: DataDir) -> ListenAddress:
    """Where to listen for mailboxes: port 0 means the port of the last run, so that addresses stay good."""
    kept = data_dir.saved_p2p_port()
    if config.p2p.port or kept is None:
        return config.p2p
    address = ListenAddress(config.p2p.host, kept)
    try:
        for listener in await open_listeners([address]):
            listener.close()
    except OSError:
        log.warning("port %d of the last run is taken by another program; other mailboxes have to find us anew", kept)
        return config.p2p
    return address


def _pin(core: Core, pins: Pins, end: SessionEnd) -> None:
    """Whoever was synced with is remembered by where it is."""
    peer = core.engine.table.get(end.peer)
    if end.error is None and peer is not None and peer.discovered:
        pins.met(end.peer, [(address.host, address.port) for address in sorted(peer.discovered)])


def _plain_peers(config: RunConfig, core: Core, data_dir: DataDir, pins: Pins) -> ToyPeers:
    def is_met(text: str) -> bool:
        try:
            return MailboxId.parse(text) in core.transport.connected()
        except ValueError:
            return False

    return ToyPeers(
        [peer.url for peer in config.peers if isinstance(peer, HttpPeer)],
        mailbox=core.mailbox,
        index=core.index,
        ledger=ToyLedger(data_dir.path / TOY_LEDGER_FILE),
        interval_s=config.sync_interval_s,
        jitter=random.Random(),
        own_id=str(core.transport.local),
        is_met=is_met,
        why_not=pins.why_not,
        only_topics=config.topics,
    )


async def _discover(
    discovery: Discovery, config: RunConfig, core: Core, phones: Sequence[Listener], p2p_port: int, announced: bool
) -> None:
    announcement = Announcement(
        mailbox_id=core.transport.local,
        http_port=phones[0].address.port,
        p2p_port=p2p_port,
        protocol_version=SYNC_VERSION_MAX,
        network=config.network,
        hosts=tuple(listener.address.host for listener in phones if listener.address.port == phones[0].address.port),
    )
    await discovery.run(announcement if announced else None, core.engine.report)


def _known_addresses(core: Core, mailbox_id: MailboxId) -> Sequence[PeerAddress]:
    """Where a neighbour is; nothing of one that is not let in, so that no stranger has us try addresses."""
    peer = core.engine.table.get(mailbox_id)
    is_in = core.doorkeeper.is_admitted(mailbox_id)
    return () if peer is None or peer.state is PeerState.REFUSED or not is_in else peer.addresses


def _urls(listeners: Sequence[Listener]) -> tuple[str, ...]:
    scheme = "https" if any(listener.tls for listener in listeners) else "http"
    bound = [(listener.address.host, listener.address.port) for listener in listeners]
    return tuple(f"{scheme}://{ListenAddress(host, port)}" for host, port in spell_out(bound))
