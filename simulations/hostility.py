"""Hostile mailboxes: the honest node's code on a transport that lies, or beside it one who stalls, floods, replays, or
fills the disks of all others.

They know everything that a mailbox of the network knows, and keep to no limit but those that others enforce.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Final, TypeAlias

import trio

from node.discovery.packets import Sighting
from node.store.api import StoreError
from node.sync.engine import SYNC_PROTOCOL
from node.transport.api import PeerUnreachable, Stream, StreamBroken, StreamHandler
from protocols.discovery import PeerInfo
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import SYNC_RECEIVE_BYTES
from protocols.limits.sync import FRAME_BYTES_MAX
from protocols.model import LogName, MailboxId, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.hints import HintedLog, HintedMessage, decode_hint, encode_hints
from protocols.sync.messages import Parcel
from protocols.sync.wire import FrameDecoder, encode_frame
from simulations.multicast import Multicast
from simulations.network import Machine
from simulations.runtime import EPOCH_S, draw
from simulations.scenario import Behaviour
from simulations.transport import P2P_PORT, Exchange, SimulatedTransport

__all__ = ["Deliver", "misbehave", "transport_of"]

Deliver: TypeAlias = Callable[[Sequence[tuple[LogName, int, bytes]]], Awaitable[object]]
"""Has a mailbox's own store take messages as if a phone had brought them."""

_NEWS: Final = "/mailboxd/news/4/sim"

_LIE_SHARE: Final = 0.3
"""The share of a liar's frames that are not true: so that many sessions get far before they meet one."""

_CLOCK_LIE_S: Final = 86_400
"""By so much a liar's announcements are off."""

_PAUSE_S: Final = 2.0
"""How long a hostile mailbox rests between two attacks on one peer; a faster one only gets shunned sooner."""

_REMEMBERED_FRAMES: Final = 64

_NOBODIES: Final = 8
"""Names of mailboxes that do not exist. Those who believe in them dial each for ever, which is what takes the time of a
run; that their number is bounded, the tests of discovery show."""

_CRAM_PAUSE_S: Final = 600.0
_CRAM_LOGS: Final = 16
_CRAM_MESSAGES: Final = 4
_CRAM_BYTES: Final = 2048
"""What one who fills disks brings at a time: new logs with so many messages of so many bytes, 128 KiB together. In an
hour that is more than the small disks of simulated mailboxes hold."""


def transport_of(
    behaviour: Behaviour, exchange: Exchange, machine: Machine, mailbox_id: MailboxId
) -> SimulatedTransport:
    """The transport for a mailbox of this behaviour."""
    if behaviour in (Behaviour.LIES, Behaviour.WITHHOLDS):
        return _LyingTransport(behaviour, exchange, machine, mailbox_id)
    if behaviour is Behaviour.REPLAYS:
        return _ListeningTransport(exchange, machine, mailbox_id)
    return SimulatedTransport(exchange, machine, mailbox_id)


async def misbehave(
    behaviour: Behaviour,
    transport: SimulatedTransport,
    multicast: Multicast,
    chance: random.Random,
    deliver: Deliver,
) -> None:
    """What a hostile mailbox does of its own accord, until cancelled. `deliver` is its own."""
    while True:
        await trio.sleep(_PAUSE_S * chance.uniform(0.5, 1.5))
        peers = sorted(transport.connected())
        match behaviour:
            case Behaviour.STALLS if peers:
                await _stall(transport, chance.choice(peers))
            case Behaviour.FLOODS:
                _announce_nobodies(transport, multicast, chance)
                if peers:
                    await _flood(transport, chance.choice(peers), chance)
            case Behaviour.REPLAYS if peers and isinstance(transport, _ListeningTransport):
                await _replay(transport, chance.choice(peers), chance)
            case Behaviour.CRAMS:
                await _cram(transport.machine.name, chance, deliver)
                await trio.sleep(_CRAM_PAUSE_S * chance.uniform(0.5, 1.5))
            case _:
                pass


# --- lies -----------------------------------------------------------------------------------------------------------


class _LyingTransport(SimulatedTransport):
    """Changes what the honest code says of itself on its way out."""

    def __init__(self, behaviour: Behaviour, exchange: Exchange, machine: Machine, mailbox_id: MailboxId) -> None:
        super().__init__(exchange, machine, mailbox_id)
        self._behaviour = behaviour
        self._chance = draw(exchange.network.seed, "lies", machine.name)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        async def lying(stream: Stream) -> None:
            await handler(_LyingStream(stream, self._behaviour, self._chance))

        super().serve(protocol, lying)

    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        return _LyingStream(await super().open_stream(peer, protocol), self._behaviour, self._chance)

    async def publish(self, channel: str, data: bytes) -> None:
        for said in self._announced(data):
            await super().publish(channel, said)

    def _announced(self, data: bytes) -> Sequence[bytes]:
        """What becomes of a hint: who withholds brings nothing along, who lies brings something else."""
        is_silent = self._behaviour is Behaviour.WITHHOLDS
        if not is_silent and self._chance.random() > _LIE_SHARE:
            return [data]
        hint = decode_hint(data)
        messages = [] if is_silent else [self._untrue(one) for one in hint.messages]
        clock_s = hint.clock_s + self._chance.choice((0, 0, 0, -_CLOCK_LIE_S, _CLOCK_LIE_S))
        return encode_hints(
            hint.logs, overflow=hint.overflow, audience=hint.audience, clock_s=clock_s, messages=messages
        )

    def _untrue(self, message: HintedMessage) -> HintedMessage:
        """The same message with something in it that is not so."""
        match self._chance.randrange(3):
            case 0:  # it is older, by a second or a week: a later date is what any client could give it
                older_s = self._chance.randrange(1 << self._chance.randint(1, 20))
                return message._replace(first_stored_s=message.first_stored_s - older_s)
            case 1:
                return message._replace(blob=self._chance.randbytes(len(message.blob)))
            case _:
                return message._replace(seq=message.seq + self._chance.randint(1, 3))


class _LyingStream(Stream):
    """A stream whose sender says otherwise than it knows."""

    def __init__(self, inner: Stream, behaviour: Behaviour, chance: random.Random) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._behaviour = behaviour
        self._chance = chance

    async def send_all(self, data: bytes) -> None:
        decoder = FrameDecoder()
        decoder.feed(data)
        while (frame := decoder.next_frame()) is not None:
            await self._inner.send_all(encode_frame(self._changed(frame)))

    def _changed(self, frame: bytes) -> bytes:
        message = decode(frame)
        if self._behaviour is Behaviour.WITHHOLDS:
            return encode(Parcel([], b"")) if isinstance(message, Parcel) else frame
        if self._chance.random() > _LIE_SHARE:
            return frame
        if self._chance.random() < 0.3:  # nothing that could be meant
            at = self._chance.randrange(len(frame))
            return frame[:at] + self._chance.randbytes(1) + frame[at + 1 :]
        try:
            return encode(self._untrue(message))
        except (RemoteProtocolError, ValueError, TypeError, OverflowError):
            return frame

    def _untrue(self, message: Any) -> Any:
        """The same message with something in it that is not so."""
        changes: dict[str, Any] = {}
        for field in fields(message):
            value = getattr(message, field.name)
            if isinstance(value, bool):
                changes[field.name] = not value
            elif isinstance(value, bytes) and value:
                changes[field.name] = self._chance.randbytes(len(value))
        chosen = self._chance.sample(sorted(changes), min(1, len(changes)))
        return replace(message, **{name: changes[name] for name in chosen})

    async def receive_some(self, max_bytes: int) -> bytes:
        return await self._inner.receive_some(max_bytes)

    async def close(self) -> None:
        await self._inner.close()

    async def abort(self) -> None:
        await self._inner.abort()


# --- stalls and floods ----------------------------------------------------------------------------------------------


async def _stall(transport: SimulatedTransport, peer: MailboxId) -> None:
    """Opens a session, says half of a frame, and waits for the other to give up."""
    try:
        stream = await transport.open_stream(peer, SYNC_PROTOCOL)
        await stream.send_all((100).to_bytes(4) + b"half")
        with trio.move_on_after(60):
            while await stream.receive_some(1):  # noqa: ASYNC110  # a slow reader
                await trio.sleep(5)
        await stream.abort()
    except (PeerUnreachable, StreamBroken):
        pass


async def _flood(transport: SimulatedTransport, peer: MailboxId, chance: random.Random) -> None:
    """Sessions with nonsense in them, hints about logs that nobody has, or with their ends, as fast as one can."""
    logs = {chance.randbytes(16): HintedLog(chance.randbytes(8), chance.randbytes(4)) for _ in range(40)}
    now_s = int(EPOCH_S + trio.current_time())
    ends = [HintedMessage(LogName("nobody's", chance.randbytes(8).hex()), 100, now_s, bytes(100)) for _ in range(20)]
    theirs = {handle_of(one.name): HintedLog.of(one.name.topic, chance.randbytes(8)) for one in ends}
    for data in [*encode_hints(logs), *encode_hints(theirs, clock_s=now_s, messages=ends)]:
        await transport.publish(_NEWS, data)
    for _ in range(6):
        try:
            stream = await transport.open_stream(peer, SYNC_PROTOCOL)
            size = chance.choice([FRAME_BYTES_MAX, FRAME_BYTES_MAX, 500])  # the rest never comes, or it is nonsense
            await stream.send_all(size.to_bytes(4) + chance.randbytes(500))
        except (PeerUnreachable, StreamBroken):
            return


async def _cram(name: str, chance: random.Random, deliver: Deliver) -> None:
    """Masses of messages in logs that nobody has seen, in a topic of its own, for all others to fetch."""
    for _ in range(_CRAM_LOGS):
        log = LogName(f"{name}'s own", chance.randbytes(8).hex())
        with suppress(StoreError):
            await deliver([(log, seq, chance.randbytes(_CRAM_BYTES)) for seq in range(_CRAM_MESSAGES)])


def _announce_nobodies(transport: SimulatedTransport, multicast: Multicast, chance: random.Random) -> None:
    """Mailboxes that do not exist, at an address where somebody answers; a few names again and again."""
    address = multicast.network.address(transport.machine)
    nobody = MailboxId(hashlib.blake2b(b"%d" % chance.randrange(_NOBODIES), digest_size=32).digest())
    info = PeerInfo(P2P_PORT, 2, "sim")
    multicast.say(transport.machine, Sighting(nobody, address, 3411, (address,), info, True, False))


# --- replays --------------------------------------------------------------------------------------------------------


class _ListeningTransport(SimulatedTransport):
    """Remembers what others said in sessions, and what they announced."""

    def __init__(self, exchange: Exchange, machine: Machine, mailbox_id: MailboxId) -> None:
        super().__init__(exchange, machine, mailbox_id)
        self.heard: list[bytes] = []
        self.announced: list[bytes] = []

    def listen(self, channel: str, handler: Callable[[MailboxId, bytes], None]) -> None:
        def listening(publisher: MailboxId, data: bytes) -> None:
            self.announced.append(data)
            del self.announced[:-_REMEMBERED_FRAMES]
            handler(publisher, data)

        super().listen(channel, listening)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        async def listening(stream: Stream) -> None:
            await handler(_ListeningStream(stream, self.heard))

        super().serve(protocol, listening)

    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        return _ListeningStream(await super().open_stream(peer, protocol), self.heard)


class _ListeningStream(Stream):
    """A stream that keeps the last frames."""

    def __init__(self, inner: Stream, heard: list[bytes]) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._heard = heard
        self._decoder = FrameDecoder()

    async def send_all(self, data: bytes) -> None:
        await self._inner.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes:
        data = await self._inner.receive_some(max_bytes)
        self._decoder.feed(data)
        while (frame := self._decoder.next_frame()) is not None:
            self._heard.append(frame)
        del self._heard[:-_REMEMBERED_FRAMES]
        return data

    async def close(self) -> None:
        await self._inner.close()

    async def abort(self) -> None:
        await self._inner.abort()


async def _replay(transport: _ListeningTransport, peer: MailboxId, chance: random.Random) -> None:
    """What others said before: announcements, as if they were of now, and a session."""
    if transport.announced:
        hint = decode_hint(chance.choice(transport.announced))
        clock_s = int(EPOCH_S + trio.current_time())
        for data in encode_hints(hint.logs, audience=hint.audience, clock_s=clock_s, messages=hint.messages):
            await transport.publish(_NEWS, data)
    if not transport.heard:
        return
    start = chance.randrange(len(transport.heard))
    try:
        stream = await SimulatedTransport.open_stream(transport, peer, SYNC_PROTOCOL)
        for frame in transport.heard[start : start + 6]:
            await stream.send_all(encode_frame(frame))
            with trio.move_on_after(5):
                await stream.receive_some(SYNC_RECEIVE_BYTES)
        await stream.close()
    except (PeerUnreachable, StreamBroken):
        pass
