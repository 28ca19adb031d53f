"""Mailboxes in one process, for tests and simulations: no sockets, no wall clock, no randomness.

A `MemoryNetwork` is the world that its transports share. Everything has the limits of the real thing: streams block
their sender when the receiver is slow, announcements are dropped when nobody takes them, a peer may open only so many
streams. `cut` and `heal` play a network that breaks.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from node.transport.api import PeerUnreachable, Stream, StreamBroken, StreamHandler, Transport
from node.transport.pipes import PipeStream, serve_stream
from protocols.addresses import PeerAddress
from protocols.limits.transport import (
    ANNOUNCEMENT_BYTES_MAX,
    ANNOUNCEMENT_QUEUE_MAX,
    STREAM_WINDOW_BYTES,
    STREAMS_PER_PEER_MAX,
)
from protocols.model import MailboxId

__all__ = ["MemoryNetwork", "MemoryTransport"]

log = logging.getLogger(__name__)

_FIRST_PORT: Final = 4001


class MemoryNetwork:
    """The world that memory transports share: who can reach whom.

    `cut` and `heal` act at once: streams over a cut break, connections end, new ones fail until it is healed.
    """

    def __init__(self) -> None:
        self._running: dict[PeerAddress, MemoryTransport] = {}
        self._cuts: set[frozenset[MailboxId]] = set()
        self._ports = itertools.count(_FIRST_PORT)

    def cut(self, a: MailboxId, b: MailboxId) -> None:
        """Separates two mailboxes."""
        self._cuts.add(frozenset((a, b)))
        for transport in list(self._running.values()):
            if transport.local == a:
                transport._drop(b)

    def heal(self, a: MailboxId, b: MailboxId) -> None:
        """Lets two mailboxes reach each other again. They have to connect anew."""
        self._cuts.discard(frozenset((a, b)))

    def isolate(self, mailbox_id: MailboxId) -> None:
        """Separates one mailbox from all that run now."""
        for other in {transport.local for transport in self._running.values()} - {mailbox_id}:
            self.cut(mailbox_id, other)

    def heal_all(self) -> None:
        """Undoes every cut."""
        self._cuts.clear()

    def _find(self, address: PeerAddress, caller: MailboxId) -> MemoryTransport | None:
        if frozenset((address.mailbox_id, caller)) in self._cuts:
            return None
        return self._running.get(address)


class _Pipe:
    """One direction of a stream: a bounded buffer with one sender and one receiver."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self._broken: str | None = None
        self._changed = trio.lowlevel.ParkingLot()

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            if self._broken is not None:
                raise StreamBroken(self._broken)
            if self._ended:
                raise StreamBroken("the stream was closed by us")
            room = STREAM_WINDOW_BYTES - len(self._buffer)
            if room:
                self._buffer += view[:room]
                view = view[room:]
                self._changed.unpark_all()
            else:
                await self._changed.park()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._broken is not None:
                raise StreamBroken(self._broken)
            if self._ended:
                return b""
            await self._changed.park()
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._changed.unpark_all()
        return data

    def end(self) -> None:
        self._ended = True
        self._changed.unpark_all()

    def break_off(self, reason: str) -> None:
        # What is buffered is lost, as it is when a connection goes.
        if self._broken is None:
            self._broken = reason
            self._buffer.clear()
            self._changed.unpark_all()

    @property
    def finished(self) -> bool:
        return self._ended or self._broken is not None


class _Link:
    """A connection between two running transports, with its streams."""

    def __init__(self, a: MemoryTransport, b: MemoryTransport) -> None:
        self._ends = (a, b)
        self._streams: list[tuple[MailboxId, _Pipe, _Pipe]] = []  # (opener, towards acceptor, towards opener)

    def other(self, end: MemoryTransport) -> MemoryTransport:
        a, b = self._ends
        return b if end is a else a

    def forget_finished(self) -> None:
        self._streams = [entry for entry in self._streams if not (entry[1].finished and entry[2].finished)]

    def open(self, opener: MemoryTransport) -> tuple[PipeStream, PipeStream]:
        """The opener's and the acceptor's end of a new stream. Raises PeerUnreachable."""
        acceptor = self.other(opener)
        self.forget_finished()
        if sum(1 for entry in self._streams if entry[0] == opener.local) >= STREAMS_PER_PEER_MAX:
            raise PeerUnreachable(f"{acceptor.local.short} refused: {STREAMS_PER_PEER_MAX} streams are open already")
        there, back = _Pipe(), _Pipe()
        self._streams.append((opener.local, there, back))
        return (
            PipeStream(acceptor.local, back, there, on_end=self.forget_finished),
            PipeStream(opener.local, there, back, on_end=self.forget_finished),
        )

    def break_off(self) -> None:
        for _, there, back in self._streams:
            there.break_off("the connection was lost")
            back.break_off("the connection was lost")
        self._streams.clear()


class MemoryTransport(Transport):
    """A transport within a `MemoryNetwork`. It may run again after it was cancelled, at the same address."""

    def __init__(self, network: MemoryNetwork, mailbox_id: MailboxId) -> None:
        self.local = mailbox_id
        self._network = network
        self._address = PeerAddress("127.0.0.1", next(network._ports), mailbox_id)
        self._protocols: dict[str, StreamHandler] = {}
        self._channels: dict[str, Callable[[MailboxId, bytes], None]] = {}
        self._watchers: list[Callable[[MailboxId, bool], None]] = []
        self._links: dict[MailboxId, _Link] = {}
        self._nursery: trio.Nursery | None = None
        self._announcements: trio.MemorySendChannel[tuple[str, MailboxId, bytes]] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self._nursery is not None or self._address in self._network._running:
            raise OSError(f"{self._address} is taken: this mailbox runs already")
        send, receive = trio.open_memory_channel[tuple[str, MailboxId, bytes]](ANNOUNCEMENT_QUEUE_MAX)
        async with trio.open_nursery() as nursery:
            self._nursery, self._announcements = nursery, send
            self._network._running[self._address] = self
            try:
                task_status.started()
                await self._hand_out(receive)
            finally:
                del self._network._running[self._address]
                self._nursery = self._announcements = None
                for peer in list(self._links):
                    self._drop(peer)

    async def _hand_out(self, announcements: trio.MemoryReceiveChannel[tuple[str, MailboxId, bytes]]) -> None:
        async for channel, publisher, data in announcements:
            try:
                self._channels[channel](publisher, data)
            except Exception:
                log.exception("the handler of announcements on %s failed", channel)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self._protocols[protocol] = handler

    def listen(self, channel: str, handler: Callable[[MailboxId, bytes], None]) -> None:
        self._channels[channel] = handler

    def on_connection(self, handler: Callable[[MailboxId, bool], None]) -> None:
        self._watchers.append(handler)

    def addresses(self) -> Sequence[PeerAddress]:
        return () if self._nursery is None else (self._address,)

    def connected(self) -> frozenset[MailboxId]:
        return frozenset(self._links)

    async def connect(self, addresses: Sequence[PeerAddress]) -> None:
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            raise PeerUnreachable("this mailbox's transport is not running")
        for address in addresses:
            if address.mailbox_id in self._links:
                return
            other = self._network._find(address, self.local)
            if other is not None and other is not self:
                link = _Link(self, other)
                self._up(other.local, link)
                other._up(self.local, link)
                return
        raise PeerUnreachable(f"no answer at {', '.join(map(str, addresses)) or 'no address at all'}")

    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        await trio.lowlevel.checkpoint()
        link = self._links.get(peer)
        if link is None:
            raise PeerUnreachable(f"{peer.short} is not connected")
        acceptor = link.other(self)
        handler = acceptor._protocols.get(protocol)
        if handler is None or acceptor._nursery is None:
            raise PeerUnreachable(f"{peer.short} does not speak {protocol}")
        ours, theirs = link.open(self)
        acceptor._nursery.start_soon(serve_stream, handler, theirs, protocol)
        return ours

    async def publish(self, channel: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if len(data) > ANNOUNCEMENT_BYTES_MAX:
            log.error("an announcement of %d bytes on %s was not sent: it is too large", len(data), channel)
            return
        for link in list(self._links.values()):
            other = link.other(self)
            if channel in other._channels and self.hears(other.local):
                other._announce(channel, self.local, data)

    async def disconnect(self, peer: MailboxId) -> None:
        self._drop(peer)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _announce(self, channel: str, publisher: MailboxId, data: bytes) -> None:
        if self._announcements is not None and self.hears(publisher):
            try:
                self._announcements.send_nowait((channel, publisher, data))
            except trio.WouldBlock:
                log.debug("an announcement on %s was dropped: too many are waiting", channel)

    def _up(self, peer: MailboxId, link: _Link) -> None:
        self._links[peer] = link
        self._tell(peer, True)

    def _drop(self, peer: MailboxId) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            link.break_off()
            other = link.other(self)
            other._links.pop(self.local, None)
            self._tell(peer, False)
            other._tell(self.local, False)

    def _tell(self, peer: MailboxId, up: bool) -> None:
        for watcher in self._watchers:
            try:
                watcher(peer, up)
            except Exception:
                log.exception("a connection handler failed")
