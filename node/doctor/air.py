"""Looks at the local network for some seconds: who speaks by multicast, which mailboxes are near, and whether they can
be reached. Announces nothing. What it means, `network` says."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import ifaddr
import trio

from node.aside import aside
from node.discovery.interfaces import Network, read_network
from node.discovery.packets import Sighting, query, read_packet, services
from node.discovery.sockets import MulticastSockets, receive
from protocols.discovery import lan_targets, on_link
from protocols.limits.discovery import PROBE_TIMEOUT_S
from protocols.limits.tools import DOCTOR_LISTEN_S, DOCTOR_NEIGHBOURS_MAX
from protocols.model import MailboxId
from protocols.reach import Outcome

__all__ = ["Air", "Near", "look_around"]

_HEAD_BYTES_MAX = 4096


@dataclass(slots=True)
class Near:
    """A mailbox that announces itself. `outcome` is what became of the attempt to connect to its HTTP port at `host`
    (None: not tried); `clock_off_s` how far its clock is ahead of ours, to a second or two (None: it did not say)."""

    mailbox_id: MailboxId
    sources: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    http_port: int | None = None
    network: str | None = None
    version: int | None = None
    host: str = ""
    outcome: Outcome | None = None
    clock_off_s: float | None = None


@dataclass(slots=True)
class Air:
    """What was there. `own` are all addresses of this machine, those of IPv6 links included. `echoes` are addresses of
    ours from which our own packets came back to us, `others` those of other devices that said anything; `fault` is why
    nothing could be sent at all."""

    network: Network
    own: frozenset[str]
    echoes: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    near: dict[MailboxId, Near] = field(default_factory=dict)
    fault: str = ""


async def look_around(*, listen_s: float = DOCTOR_LISTEN_S) -> Air:
    """Asks by multicast and listens for `listen_s`, then tries to reach whoever was found. Never raises because of the
    network."""
    air = Air(await read_network(), await aside(_own_addresses))
    if not air.network.links:
        return air
    try:
        with MulticastSockets(air.network) as sockets:
            with trio.move_on_after(listen_s):
                async with trio.open_nursery() as nursery:
                    sent: set[bytes] = set()
                    for reader in sockets.readers:
                        nursery.start_soon(_listen, reader, air, sent)
                    while True:
                        packets = [*query(()), *services()]
                        sent.update(packets)
                        sockets.send(packets)
                        await trio.sleep(listen_s / 3)
    except* OSError as group:
        air.fault = _reason(group)
    async with trio.open_nursery() as nursery:
        for near in [n for n in air.near.values() if not n.sources <= air.own][:DOCTOR_NEIGHBOURS_MAX]:
            nursery.start_soon(_reach, near, air.network)
    return air


def _own_addresses() -> frozenset[str]:
    try:
        ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    except OSError:
        return frozenset()
    return frozenset(ip if isinstance(ip, str) else ip[0].partition("%")[0] for ip in ips)


def _reason(group: BaseExceptionGroup[OSError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OSError)
    if error.errno == errno.EADDRINUSE:
        return "another program holds UDP port 5353 for itself"
    return error.strerror or str(error)


async def _listen(reader: trio.socket.SocketType, air: Air, sent: set[bytes]) -> None:
    interfaces = air.network.interfaces
    while True:
        data, source = await receive(reader)
        host = source[0]
        if host in air.own:
            if data in sent:
                air.echoes.add(host)
        elif on_link(host, interfaces):
            air.others.add(host)
        for sighting in read_packet(data, source, None).sightings:
            _note(sighting, air)


def _note(sighting: Sighting, air: Air) -> None:
    if sighting.goodbye:
        air.near.pop(sighting.mailbox_id, None)
        return
    near = air.near.setdefault(sighting.mailbox_id, Near(sighting.mailbox_id))
    near.sources.add(sighting.source)
    near.addresses.update(sighting.addresses)
    near.http_port = sighting.port or near.http_port
    if sighting.peer is not None:
        near.network, near.version = sighting.peer.network, sighting.peer.protocol_version


async def _reach(near: Near, network: Network) -> None:
    """Tries the announced addresses one after the other until one answers."""
    sources = [source for source in near.sources if not ip_address(source).is_link_local]
    hosts = lan_targets([*sorted(near.addresses), *sources], network.interfaces)
    if near.http_port is None or not hosts:
        return
    for host in hosts:
        outcome = await _ask(near, host, near.http_port)
        if near.outcome is None or outcome < near.outcome:
            near.outcome, near.host = outcome, host
        if outcome is Outcome.OPEN:
            break


async def _ask(near: Near, host: str, port: int) -> Outcome:
    try:
        with trio.fail_after(PROBE_TIMEOUT_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        refused = isinstance(error, OSError) and _is_refused(error)
        return Outcome.CLOSED if refused else Outcome.SILENT
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(PROBE_TIMEOUT_S):
            await stream.send_all(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            near.clock_off_s = _clock_off_s(await _head(stream))
    return Outcome.OPEN


def _is_refused(error: BaseException) -> bool:
    causes: Sequence[BaseException | None] = [error, error.__cause__]
    if isinstance(error.__cause__, BaseExceptionGroup):
        causes = error.__cause__.exceptions
    return any(isinstance(cause, ConnectionRefusedError) for cause in causes)


async def _head(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_MAX:
        data = await stream.receive_some(_HEAD_BYTES_MAX)
        if not data:
            break
        head += data
    return head


def _clock_off_s(head: bytes) -> float | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"date":
            try:
                return email.utils.parsedate_to_datetime(value.decode("ascii").strip()).timestamp() + 0.5 - time.time()
            except (ValueError, OverflowError):
                return None
    return None
