"""The composition root: a real mailbox on real ports, from its start to its shutdown.

It starts in stages; one that fails ends the start, and what was there by then is given back in the opposite order.

1. **The ground** (`_ground`): the data directory is taken, so that no second mailbox writes there; who this mailbox is
   and whom it lets in is read; the ports for HTTP are opened.
2. **The store** is opened, checked, and mended if it has to be.
3. **The parts** (`node.parts`) are joined. Nothing runs yet.
4. **Other mailboxes** can connect: the index is read and libp2p listens (`node.core`).
5. **Phones** are served.
6. **The administration** is (`node.administration`).
7. **The network is told**: mDNS announces it, `node.json` appears, and systemd hears that we are ready.

It stops when it is cancelled, all parts at once: HTTP finishes what it is at (`node.http.server`), mDNS says goodbye,
sync sessions end where they are, for they resume. Then the store is closed, which commits what was acknowledged;
`node.json` goes, the ports close, and the data directory is free.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from node.administration import Desk
from node.admission.files import load_admission
from node.admission.policy import Admission
from node.clock import SystemClock
from node.config import RunConfig, SettingsFile
from node.core import VERSION, supervise
from node.datadir import STORE_FILE, TOKEN_FILE, DataDir, NodeInfo
from node.discovery.api import Announcement, Discovery
from node.discovery.mdns import MdnsDiscovery
from node.discovery.none import NoDiscovery
from node.events import EventKind
from node.heap import keep_freed_memory
from node.http.admin.token import load_or_create_token
from node.http.server import serve_http
from node.http.tls import server_context
from node.identity import Identity
from node.parts import Parts
from node.ports import Ports, open_ports, urls_of
from node.service.notify import notifier
from node.store.sqlite import SqliteStore
from node.transport.libp2p import Libp2pTransport
from protocols.limits.data import CLOCK_PLAUSIBLE_FROM_S
from protocols.limits.replication import GC_MIDDLE_LOOKS, GC_YOUNG_OBJECTS
from protocols.limits.store import THREAD_SWITCH_S
from protocols.limits.sync import SYNC_VERSION_MAX

__all__ = ["run_mailbox"]

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
    async with _ground(config) as ground:
        _tune_interpreter()
        path = ground.data_dir.path
        async with SqliteStore.open(path / STORE_FILE, storage_limit_bytes=config.storage_limit_bytes) as store:
            parts = Parts.join(
                config,
                folder=path,
                identity=ground.identity,
                admission=ground.admission,
                admin_token=ground.token,
                store=store,
                transport=Libp2pTransport(
                    signing_key_seed=ground.identity.seed, listen=ground.ports.p2p, network=config.network
                ),
                clock=clock,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(parts.core.run)
                p2p_port = _keep_p2p_port(parts, ground)
                await nursery.start(_serve_phones, parts, ground.ports)
                nursery.start_soon(supervise, "plain peers", parts.plain.run)
                nursery.start_soon(supervise, "pins", parts.pins.keep_up)
                desk = Desk(
                    parts,
                    config,
                    ground.ports,
                    token=ground.token,
                    p2p_port=p2p_port,
                    settings_file=settings_file,
                    keep_awake=keep_awake,
                )
                await nursery.start(desk.run, ground.ports.admin)
                _freeze_what_is_loaded()  # before anybody counts on us: nothing else is done meanwhile
                _announce(nursery, parts, config, ground.ports, p2p_port=p2p_port)
                info = _publish(parts, ground)
                on_ready(info)
                manager = notifier()
                manager.tell(
                    "READY=1", f"STATUS=mailbox {parts.identity.mailbox_id.short} serves phones at {info.http[0]}"
                )
                nursery.start_soon(supervise, "watchdog", partial(manager.keep_alive, store))


# --- the ground -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What a mailbox has before it opens its store."""

    data_dir: DataDir
    identity: Identity
    admission: Admission
    token: str
    ports: Ports


@asynccontextmanager
async def _ground(config: RunConfig) -> AsyncIterator[_Ground]:
    with DataDir.open(config.data_dir) as data_dir:
        admission = load_admission(data_dir.path, password_file=config.password_file, only_trusted=config.only_trusted)
        identity = Identity.load_or_create(data_dir.identity_path)
        token = load_or_create_token(data_dir.path / TOKEN_FILE)
        tls = server_context(identity.seed, identity.mailbox_id, data_dir.path) if config.https else None
        async with open_ports(config, data_dir, tls=tls) as ports:
            yield _Ground(data_dir=data_dir, identity=identity, admission=admission, token=token, ports=ports)


def _tune_interpreter() -> None:
    """Reading a million messages at the start makes no garbage in cycles, but looking for it took half of the time. Why
    threads switch often, see THREAD_SWITCH_S."""
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_MIDDLE_LOOKS, 50)
    sys.setswitchinterval(THREAD_SWITCH_S)
    keep_freed_memory()


def _freeze_what_is_loaded() -> None:
    """What is loaded by now stays: the collector need not look through it again and again (a full collection while a
    large store is decoded held everything up for 50 ms)."""
    gc.collect()
    gc.freeze()


# --- doors ------------------------------------------------------------------------------------------------------------


def _keep_p2p_port(parts: Parts, ground: _Ground) -> int:
    """The port on which other mailboxes reach this one; the next start comes back to it."""
    port = parts.core.transport.addresses()[0].port
    ground.data_dir.save_p2p_port(port)
    return port


async def _serve_phones(
    parts: Parts, ports: Ports, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    phones = parts.phones
    await serve_http(
        ports.serving,
        phones.routes,
        limits=phones.limits,
        statistics=phones.statistics,
        turnstile=phones.turnstile,
        task_status=task_status,
    )


def _announce(nursery: trio.Nursery, parts: Parts, config: RunConfig, ports: Ports, *, p2p_port: int) -> None:
    """Starts to look for other mailboxes and, while the doors are open, to announce this one."""
    discovery: Discovery = MdnsDiscovery() if config.mdns else NoDiscovery()
    http_port = ports.phones[0].address.port
    announcement = Announcement(
        mailbox_id=parts.identity.mailbox_id,
        http_port=http_port,
        p2p_port=p2p_port,
        protocol_version=SYNC_VERSION_MAX,
        network=config.network,
        hosts=tuple(listener.address.host for listener in ports.phones if listener.address.port == http_port),
    )

    async def discover(is_announced: bool) -> None:
        await discovery.run(announcement if is_announced else None, parts.core.engine.report)

    parts.core.transport.on_connection(discovery.met)
    nursery.start_soon(supervise, "discovery", partial(parts.doors.while_so, discover))


def _publish(parts: Parts, ground: _Ground) -> NodeInfo:
    """From now on the commands find this mailbox."""
    info = NodeInfo(
        pid=os.getpid(),
        version=VERSION,
        mailbox_id=str(parts.identity.mailbox_id),
        peer_id=parts.identity.peer_id,
        http=urls_of(ground.ports.phones),
        p2p=tuple(map(str, parts.core.transport.addresses())),
        admin=urls_of(ground.ports.admin)[0],
        https=urls_of(ground.ports.secure),
    )
    ground.data_dir.publish(info)
    parts.events.tell(EventKind.STARTED, f"this mailbox started, version {VERSION}")
    return info
