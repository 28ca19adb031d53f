"""The node's transport over the simulated network: connections with streams that stall and break, and gossip.

It keeps the promises of `node.transport.api` and the limits of the real one (windows, streams, dial times); there are
no handshakes but the round trips that they take.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from node.transport.api import PeerUnreachable, Stream, StreamHandler, Transport
from node.transport.pipes import PipeStream, serve_stream
from protocols.addresses import PeerAddress
from protocols.limits.transport import (
    ANNOUNCEMENT_BYTES_MAX,
    DIAL_S,
    GOSSIP_PUBLISHER_MESSAGES_BURST,
    GOSSIP_PUBLISHER_MESSAGES_PER_S,
    OPEN_STREAM_S,
    STREAMS_PER_PEER_MAX,
)
from protocols.model import MailboxId
from simulations.network import Flow, Machine, Network
from simulations.pipes import Pipe
from simulations.runtime import YIELD_SHARE, Alarm, Trace

__all__ = ["P2P_PORT", "Exchange", "SimulatedTransport"]

log = logging.getLogger(__name__)

P2P_PORT: Final = 4001

_PACKET_BYTES: Final = 60
"""What a frame costs on top of its contents: Yamux, Noise, TCP and IP heads."""

_HANDSHAKE_ROUND_TRIPS: Final = 3
"""TCP, then Noise with the muxer's name in it."""


class Exchange:
    """What all transports of a world share: who listens where, and the gossip between them."""

    def __init__(self, network: Network, trace: Trace, *, hint_loss: float, chance: random.Random) -> None:
        self.network = network
        self.trace = trace
        self.bytes = 0
        """All that mailboxes have sent each other."""
        self._listening: dict[str, SimulatedTransport] = {}  # by IP address
        self._hint_loss = hint_loss
        self._chance = chance
        self._version = 0
        self._near: dict[SimulatedTransport, tuple[tuple[int, int], list[list[SimulatedTransport]]]] = {}

    def listen(self, transport: SimulatedTransport) -> str:
        address = self.network.address(transport.machine)
        if address in self._listening:
            raise OSError(f"{address} is taken: this mailbox runs already")
        self._listening[address] = transport
        return address

    def unlisten(self, address: str) -> None:
        del self._listening[address]

    def at(self, address: str) -> SimulatedTransport | None:
        """Who listens at an IP address, if anybody does."""
        return self._listening.get(address)

    def share(self) -> float:
        """Some part of a whole."""
        return self._chance.random()

    def connections_changed(self) -> None:
        """Who is connected with whom is another from now on."""
        self._version += 1

    def gossip(self, source: SimulatedTransport, channel: str, data: bytes) -> None:
        """Hands an announcement to all who are connected."""
        for near in self._neighbours(source):
            delay_s = 0.002 + self.network.latency_s(source.machine, near[0].machine) * 2 * self._chance.random()
            self.network.timeline.after(delay_s, partial(self._hand_out, near, channel, source, data))

    def _hand_out(
        self, near: Sequence[SimulatedTransport], channel: str, publisher: SimulatedTransport, data: bytes
    ) -> None:
        loss = self._hint_loss
        for transport in near:
            if (
                not transport.machine.asleep
                and publisher.hears(transport.local)
                and (not loss or self._chance.random() >= loss)
            ):
                self.bytes += len(data) + _PACKET_BYTES
                transport.hear(channel, publisher.local, data)

    def _neighbours(self, source: SimulatedTransport) -> Sequence[Sequence[SimulatedTransport]]:
        """Those who are connected with it, in groups that stand in one LAN."""
        version = (self._version, self.network.version)
        known = self._near.get(source)
        if known is None or known[0] != version:
            groups: dict[str, list[SimulatedTransport]] = {}
            for other in source.reaches():
                groups.setdefault(other.machine.lan, []).append(other)
            known = self._near[source] = (version, list(groups.values()))
        return known[1]


class _Connection:
    """Two flows between two running transports, and the streams in them."""

    def __init__(self, exchange: Exchange, dialer: SimulatedTransport, acceptor: SimulatedTransport) -> None:
        self._exchange = exchange
        self.ends = (dialer, acceptor)
        network = exchange.network
        there = Flow(network, dialer.machine, acceptor.machine, self.break_off)
        back = Flow(network, acceptor.machine, dialer.machine, self.break_off)
        self.flows = (there, back)
        self.is_up = True
        self.on_break: dict[Alarm, None] = {}
        self._streams: list[tuple[SimulatedTransport, Pipe, Pipe]] = []
        network.crossings[self] = None

    def other(self, end: SimulatedTransport) -> SimulatedTransport:
        a, b = self.ends
        return b if end is a else a

    async def turn(self) -> None:
        """Gives others their turn, now and then."""
        if self._exchange.share() < YIELD_SHARE:
            await trio.lowlevel.checkpoint()

    def send(self, flow: Flow, size: int, arrive: Callable[[], None]) -> None:
        """Sends a frame, of which so many bytes are the stream's."""
        size += _PACKET_BYTES
        self._exchange.bytes += size
        flow.send(size, partial(self._arrive, arrive))

    def _arrive(self, arrive: Callable[[], None]) -> None:
        if self.is_up:
            arrive()

    def open(self, opener: SimulatedTransport) -> tuple[PipeStream, PipeStream]:
        """The opener's and the acceptor's end of a new stream. Raises PeerUnreachable."""
        there, back = self.flows if opener is self.ends[0] else self.flows[::-1]
        acceptor = self.other(opener)
        self._streams = [one for one in self._streams if not (one[1].is_finished and one[2].is_finished)]
        if sum(one[0] is opener for one in self._streams) >= STREAMS_PER_PEER_MAX:
            raise PeerUnreachable(f"{acceptor.local.short} refused: {STREAMS_PER_PEER_MAX} streams are open already")
        out, into = Pipe(self, there), Pipe(self, back)
        self._streams.append((opener, out, into))
        return (
            PipeStream(acceptor.local, into, out),
            PipeStream(opener.local, out, into),
        )

    def break_off(self, reason: str) -> None:
        """The connection is gone, for both at the same moment, at whatever byte it was."""
        if not self.is_up:
            return
        self.is_up = False
        network = self._exchange.network
        del network.crossings[self]
        for _, out, into in self._streams:
            out.break_off(reason, self._exchange.share())
            into.break_off(reason, self._exchange.share())
        self._streams.clear()
        for alarm in self.on_break:
            alarm.ring()
        a, b = self.ends
        self._exchange.trace.note(f"broken {a.machine.name} {b.machine.name} {reason}")
        self._exchange.connections_changed()
        a.lost(self)
        b.lost(self)


class SimulatedTransport(Transport):
    """One start of one mailbox's transport."""

    def __init__(self, exchange: Exchange, machine: Machine, mailbox_id: MailboxId) -> None:
        self.local = mailbox_id
        self.machine = machine
        self._exchange = exchange
        self._address: str | None = None
        self._protocols: dict[str, StreamHandler] = {}
        self._channels: dict[str, Callable[[MailboxId, bytes], None]] = {}
        self._watchers: list[Callable[[MailboxId, bool], None]] = []
        self._connections: dict[MailboxId, _Connection] = {}
        self._connected: frozenset[MailboxId] | None = None
        """The same, until something changes."""
        self._nursery: trio.Nursery | None = None
        self._gossip_left = float(GOSSIP_PUBLISHER_MESSAGES_BURST)
        self._gossip_at = 0.0
        self.is_dead = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._address = self._exchange.listen(self)
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._exchange.unlisten(self._address)
                self._nursery = self._address = None
                self._drop_all("the mailbox was stopped")

    def die(self) -> None:
        """The process is gone from one instant to the next: nothing that its code still does is heard of."""
        self.is_dead = True
        self._drop_all("the connection was reset")

    def moved(self) -> None:
        """The machine is in another LAN: connections are lost, and it listens at another address."""
        if self._address is not None:
            self._exchange.unlisten(self._address)
            self._address = self._exchange.listen(self)
        self._drop_all("the machine went elsewhere")

    def break_all(self) -> None:
        """Breaks every connection at whatever byte it is."""
        self._drop_all("the connection was reset")

    def _drop_all(self, reason: str) -> None:
        for connection in list(self._connections.values()):
            connection.break_off(reason)

    @property
    def is_running(self) -> bool:
        return self._nursery is not None and not self.is_dead

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self._protocols[protocol] = handler

    def listen(self, channel: str, handler: Callable[[MailboxId, bytes], None]) -> None:
        self._channels[channel] = handler

    def on_connection(self, handler: Callable[[MailboxId, bool], None]) -> None:
        self._watchers.append(handler)

    def addresses(self) -> Sequence[PeerAddress]:
        return () if self._address is None else (PeerAddress(self._address, P2P_PORT, self.local),)

    def connected(self) -> frozenset[MailboxId]:
        if self._connected is None:
            self._connected = frozenset(self._connections)
        return self._connected

    def reaches(self) -> list[SimulatedTransport]:
        """The transports at the other ends of its connections that are not held up."""
        return [
            connection.other(self)
            for connection in self._connections.values()
            if not self._exchange.network.is_held(self.machine, connection.other(self).machine)
        ]

    async def connect(self, addresses: Sequence[PeerAddress]) -> None:
        await trio.lowlevel.checkpoint()
        if not self.is_running:
            raise PeerUnreachable("this mailbox's transport is not running")
        silent = False
        for address in addresses:
            if address.mailbox_id in self._connections:
                return
            other = self._exchange.at(address.host)
            silent = silent or other is None or not await self._dial(address, other)
            if address.mailbox_id in self._connections:
                return
        if silent:
            await trio.sleep(DIAL_S)
        raise PeerUnreachable(f"no answer at {', '.join(map(str, addresses)) or 'no address at all'}")

    async def _dial(self, address: PeerAddress, other: SimulatedTransport) -> bool:
        """Tries one address; whether anything came back from it."""
        network = self._exchange.network
        if (
            other is self
            or network.is_held(self.machine, other.machine)
            or network.is_held(other.machine, self.machine)
        ):
            return False
        if not await self._shake_hands(other):
            return False
        usable = self.is_running and other.is_running and other.local == address.mailbox_id
        cut = network.is_cut(self.machine, other.machine) or network.is_cut(other.machine, self.machine)
        if usable and not cut and other.local not in self._connections:
            connection = _Connection(self._exchange, self, other)
            self._exchange.trace.note(f"connected {self.machine.name} {other.machine.name}")
            self._exchange.connections_changed()
            self._up(other.local, connection)
            other._up(self.local, connection)
        return True

    async def _shake_hands(self, other: SimulatedTransport) -> bool:
        """Sends packets to and fro, each when the one before has come; whether all came through in time."""
        network, done = self._exchange.network, Alarm()
        ways = iter(((self.machine, other.machine), (other.machine, self.machine)) * _HANDSHAKE_ROUND_TRIPS)
        is_through = False

        def go_on() -> None:
            nonlocal is_through
            way = next(ways, None)
            if way is None:
                is_through = True
                done.ring()
                return
            at, stalled, breaks = network.passage(*way, 2 * _PACKET_BYTES)
            if stalled > DIAL_S or breaks:
                done.ring()
            else:
                network.timeline.at(at, go_on)

        go_on()
        await done.wait()
        return is_through

    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        connection = self._connections.get(peer)
        if connection is None:
            await trio.lowlevel.checkpoint()
            raise PeerUnreachable(f"{peer.short} is not connected")
        acceptor = connection.other(self)
        handler = acceptor._protocols.get(protocol)
        if handler is None:
            raise PeerUnreachable(f"{peer.short} does not speak {protocol}")
        ours, theirs = connection.open(self)
        answered = Alarm()
        is_answered = False
        there, back = connection.flows if self is connection.ends[0] else connection.flows[::-1]

        def answer() -> None:
            nonlocal is_answered
            is_answered = True
            answered.ring()

        def accept() -> None:
            if acceptor._nursery is not None:
                acceptor._nursery.start_soon(serve_stream, handler, theirs, protocol)
                connection.send(back, len(protocol), answer)

        connection.send(there, len(protocol), accept)
        connection.on_break[answered] = None
        self._exchange.network.timeline.after(OPEN_STREAM_S, answered.ring)
        try:
            await answered.wait()
        finally:
            connection.on_break.pop(answered, None)
        if not (is_answered and connection.is_up):
            await ours.abort()
            raise PeerUnreachable(f"{peer.short} did not answer")
        return ours

    async def publish(self, channel: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if len(data) > ANNOUNCEMENT_BYTES_MAX:
            log.error("an announcement of %d bytes on %s was not sent: it is too large", len(data), channel)
            return
        now = trio.current_time()
        grown = self._gossip_left + (now - self._gossip_at) * GOSSIP_PUBLISHER_MESSAGES_PER_S
        self._gossip_left, self._gossip_at = min(float(GOSSIP_PUBLISHER_MESSAGES_BURST), grown), now
        if self._gossip_left >= 1 and self.is_running and not self.machine.asleep:
            self._gossip_left -= 1
            self._exchange.trace.note(f"hint {self.machine.name} {len(data)}")
            self._exchange.gossip(self, channel, data)

    async def disconnect(self, peer: MailboxId) -> None:
        connection = self._connections.get(peer)
        if connection is not None:
            connection.break_off("the connection was closed")
        await trio.lowlevel.cancel_shielded_checkpoint()

    def hear(self, channel: str, publisher: MailboxId, data: bytes) -> None:
        """An announcement has come."""
        if self.is_running and channel in self._channels and self.hears(publisher):
            try:
                self._channels[channel](publisher, data)
            except Exception:
                log.exception("the handler of announcements on %s failed", channel)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        peer = connection.other(self).local
        if self._connections.get(peer) is connection:
            del self._connections[peer]
            self._connected = None
            self._tell(peer, False)

    def _up(self, peer: MailboxId, connection: _Connection) -> None:
        self._connections[peer] = connection
        self._connected = None
        self._tell(peer, True)

    def _tell(self, peer: MailboxId, up: bool) -> None:
        if self.is_dead:
            return
        for watcher in self._watchers:
            try:
                watcher(peer, up)
            except Exception:
                log.exception("a connection handler failed")
