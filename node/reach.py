"""Asks neighbours whether they can connect to this mailbox, and does them the same favour.

The protocol is protocols/reach.md. Only what the doctor says depends on the answers.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import trio

from node.discovery.interfaces import Link, Network, read_network
from node.transport.api import Stream, StreamBroken, Transport, TransportError
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import PEERS_MAX
from protocols.limits.tools import (
    REACH_FRAME_BYTES_MAX,
    REACH_HOSTS_MAX,
    REACH_INTERVAL_S,
    REACH_TIMEOUT_S,
    REACH_TRIALS_MAX,
)
from protocols.model import MailboxId
from protocols.reach import (
    Outcome,
    Trial,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    protocol_id,
)
from protocols.sync.wire import FrameDecoder, encode_frame

__all__ = ["Reach", "Whereabouts", "where_it_may_be"]

log = logging.getLogger(__name__)

_EXCHANGE_S: Final = 2 * REACH_TIMEOUT_S  # the attempts, and as much for the way there and back


class Whereabouts(NamedTuple):
    """Hosts of a mailbox: those that the user `named`, and those that it `announced` itself."""

    named: Sequence[str] = ()
    announced: Sequence[str] = ()


class Reach:
    """Both sides of the protocol over one transport. Make it before the transport runs.

    `whereabouts` tells by which hosts a mailbox is known here.
    """

    def __init__(self, transport: Transport, network: str, whereabouts: Callable[[MailboxId], Whereabouts]) -> None:
        self._transport = transport
        self._protocol = protocol_id(network)
        self._whereabouts = whereabouts
        self._trying = 0
        self._asked_at: OrderedDict[MailboxId, float] = OrderedDict()
        transport.serve(self._protocol, self._answer)

    async def ask(self, peer: MailboxId, ports: Sequence[int]) -> list[Trial]:
        """What a connected mailbox says of the reachability of `ports` on this machine; empty if it knows no
        address, or was asked a moment ago.

        Raises TransportError or RemoteProtocolError, also if it doesn't answer in time.
        """
        with trio.move_on_after(_EXCHANGE_S):
            stream = await self._transport.open_stream(peer, self._protocol)
            try:
                await stream.send_all(encode_frame(encode_question(ports)))
                return decode_answer(await _receive(stream), ports)
            finally:
                await stream.abort()
        raise StreamBroken("it did not answer in time")

    async def _answer(self, stream: Stream) -> None:
        try:
            with trio.move_on_after(_EXCHANGE_S):
                ports = decode_question(await _receive(stream))
                is_due = self._trying < REACH_TRIALS_MAX and self._is_due(stream.peer)
                trials = await self._try(stream.peer, ports) if is_due else []
                await stream.send_all(encode_frame(encode_answer(trials)))
        except (TransportError, RemoteProtocolError) as error:
            log.debug("%s asked whether it can be reached: %s", stream.peer, error)
            await stream.abort()

    def _is_due(self, peer: MailboxId) -> bool:
        now = trio.current_time()
        if now - self._asked_at.get(peer, float("-inf")) < REACH_INTERVAL_S:
            return False
        self._asked_at[peer] = now
        self._asked_at.move_to_end(peer)
        if len(self._asked_at) > PEERS_MAX:
            self._asked_at.popitem(last=False)
        return True

    async def _try(self, peer: MailboxId, ports: Sequence[int]) -> list[Trial]:
        self._trying += 1
        try:
            hosts = where_it_may_be(self._whereabouts(peer), self._transport.hosts_of(peer), await read_network())
            return await _try([(port, host) for port in ports for host in hosts])
        finally:
            self._trying -= 1


def where_it_may_be(known: Whereabouts, ends: Collection[str], network: Network) -> list[str]:
    """The IP addresses at which a mailbox may be tried, at most REACH_HOSTS_MAX: those that the user named, those that
    it connects from (`ends`), and of those that it announces the ones on a link by which it connects: nothing that it
    could not try itself. A host name may lead anywhere, and is left out."""
    ends_ips = [ip for end in ends if (ip := _ip(end)) is not None]
    is_here = any(end.is_loopback for end in ends_ips)
    near = [link for link in network.links if any(_is_on(link, end) for end in ends_ips)]
    hosts: list[str] = [host for host in known.named if _ip(host) is not None]
    for host in known.announced:
        ip = _ip(host)
        if ip is None:
            continue
        is_ours = is_here and any(ip == interface.ip for interface in network.interfaces)
        if ip in ends_ips or is_ours or any(_is_on(link, ip) for link in near):
            hosts.append(host)
    return [*dict.fromkeys(hosts)][:REACH_HOSTS_MAX]


def _is_on(link: Link, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(ip in interface.network for interface in link.interfaces)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _receive(stream: Stream) -> bytes:
    decoder = FrameDecoder()
    received = 0
    while (frame := decoder.next_frame()) is None:
        data = await stream.receive_some(REACH_FRAME_BYTES_MAX)
        received += len(data)
        if not data or received > 2 * REACH_FRAME_BYTES_MAX:
            raise RemoteProtocolError("frame-size", "no whole message, or too much")
        decoder.feed(data)
    return frame


async def _try(targets: Sequence[tuple[int, str]]) -> list[Trial]:
    outcomes = dict.fromkeys(targets, Outcome.SILENT)

    async def attempt(port: int, host: str) -> None:
        family = trio.socket.AF_INET if ipaddress.ip_address(host).version == 4 else trio.socket.AF_INET6
        try:
            with trio.socket.socket(family, trio.socket.SOCK_STREAM) as sock:
                await sock.connect((host, port))
                outcomes[port, host] = Outcome.OPEN
        except ConnectionRefusedError:
            outcomes[port, host] = Outcome.CLOSED
        except OSError:
            pass  # no route, a firewall that says so: silent is what it means for a phone

    with trio.move_on_after(REACH_TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            for port, host in targets:
                nursery.start_soon(attempt, port, host)
    return [Trial(port, host, outcome) for (port, host), outcome in outcomes.items()]
