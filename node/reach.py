"""Asks neighbours whether they can connect to this mailbox, and does them the same favour.

The protocol is protocols/reach.md. Only what the doctor says depends on the answers.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import trio

from node.transport.api import Stream, StreamBroken, Transport, TransportError
from protocols.addresses import PeerAddress
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import PEERS_MAX
from protocols.limits.tools import REACH_FRAME_BYTES_MAX, REACH_HOSTS_MAX, REACH_INTERVAL_S, REACH_TIMEOUT_S
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

__all__ = ["Reach"]

log = logging.getLogger(__name__)

_EXCHANGE_S: Final = 2 * REACH_TIMEOUT_S  # the attempts, and as much for the way there and back


class Reach:
    """Both sides of the protocol over one transport. Make it before the transport runs.

    `addresses_of` tells by which addresses a mailbox is known here.
    """

    def __init__(
        self, transport: Transport, network: str, addresses_of: Callable[[MailboxId], Sequence[PeerAddress]]
    ) -> None:
        self._transport = transport
        self._protocol = protocol_id(network)
        self._addresses_of = addresses_of
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
        hosts = self._hosts(stream.peer) if self._is_due(stream.peer) else []
        try:
            with trio.move_on_after(_EXCHANGE_S):
                ports = decode_question(await _receive(stream))
                trials = await _try([(port, host) for port in ports for host in hosts])
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

    def _hosts(self, peer: MailboxId) -> list[str]:
        """The IP addresses by which `peer` is known; a host name may lead anywhere, and is left out."""
        hosts = dict.fromkeys(address.host for address in sorted(self._addresses_of(peer)))
        return [host for host in hosts if _is_ip(host)][:REACH_HOSTS_MAX]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
