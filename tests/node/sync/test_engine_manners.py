"""How the engine treats those who misbehave, who can't be reached, and who have nothing to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from node.discovery.api import Found, Neighbour
from node.store.api import Arrival, PutResult, StoreFull
from node.store.memory import MemoryStore
from node.sync.engine import SessionEnd
from node.sync.peers import PeerState
from node.transport.api import PeerUnreachable, Stream, StreamBroken
from node.transport.memory import MemoryTransport
from protocols.limits.replication import (
    HINT_LOGS_PENDING_MAX,
    PEER_RETRY_MAX_S,
    PEER_SHUN_FIRST_S,
    PEER_SHUN_MAX_S,
    REFUSED_PAUSE_S,
)
from protocols.limits.sync import HINT_AUDIENCE_MAX, HINT_LOGS_MAX
from protocols.model import LogName, MailboxId, handle_of
from protocols.sync.codec import decode
from protocols.sync.hints import HintedLog, encode_hints
from protocols.sync.messages import About, Hello
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.memory_world import SimulatedMailbox, World

SYNC, NEWS = "/mailboxd/sync/1", "/mailboxd/news/4/sim"
STRANGER = MailboxId(b"\xff" * 32)
LOG = LogName("t", "l")
HOUR_S = 3600


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery, seed=1)
        nursery.cancel_scope.cancel()


class Liar:
    """A mailbox that says what it is told to say, and notes what it hears and when."""

    def __init__(self, world: World, mailbox: SimulatedMailbox) -> None:
        self.transport = MemoryTransport(world.network, STRANGER)
        self.mailbox = mailbox
        self.answer = b"\xc1"
        self.heard_at: list[float] = []
        self.heard: list[Any] = []
        self.transport.serve(SYNC, self._on_stream)
        self.transport.listen(NEWS, lambda *_: None)

    async def meet(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.transport.run)
        await self.transport.connect(self.mailbox.core.transport.addresses())

    async def _on_stream(self, stream: Stream) -> None:
        self.heard_at.append(trio.current_time())
        decoder = FrameDecoder()
        decoder.feed(await stream.receive_some(100_000))
        self.heard.append(decode(decoder.next_frame() or b""))
        await stream.send_all(encode_frame(self.answer))
        await stream.receive_some(1000)

    async def lie(self) -> bytes:
        """Opens a session with garbage; returns what is said to that, nothing if the stream is thrown away."""
        try:
            stream = await self.transport.open_stream(self.mailbox.mailbox_id, SYNC)
            await stream.send_all(encode_frame(b"\xc1"))
            return await stream.receive_some(1000)
        except StreamBroken:
            return b""

    async def hint(self, *logs: LogName, overflow: bool = False, audience: int = 0) -> None:
        hinted = {handle_of(name): HintedLog.of(name.topic, b"a state of theirs") for name in logs}
        near = [number.to_bytes(4, "big") for number in range(audience)]
        for data in encode_hints(hinted, overflow=overflow, audience=near):
            await self.transport.publish(NEWS, data)
        await trio.sleep(1)


@pytest.fixture
async def liar(world: World) -> AsyncIterator[Liar]:
    mailbox = await world.start("honest", sync_interval_s=100_000.0)
    liar = Liar(world, mailbox)
    async with trio.open_nursery() as nursery:
        await liar.meet(nursery)
        yield liar
        nursery.cancel_scope.cancel()


async def test_who_breaks_the_protocol_is_shunned_longer_each_time(liar: Liar, autojump_clock: MockClock) -> None:
    peer = liar.mailbox.core.engine.table.get(STRANGER)
    assert peer
    await trio.sleep(10 * PEER_SHUN_MAX_S)
    pauses_s = [after - before for before, after in pairwise(liar.heard_at)]
    assert len(pauses_s) >= 10
    for strike, pause_s in enumerate(pauses_s):
        assert pause_s >= min(PEER_SHUN_MAX_S, PEER_SHUN_FIRST_S * 2**strike)
    assert pauses_s[-1] < 1.2 * PEER_SHUN_MAX_S
    assert peer.state is PeerState.REFUSED
    assert "broke the protocol" in peer.reason


async def test_who_is_shunned_is_not_listened_to(liar: Liar, autojump_clock: MockClock) -> None:
    peer = liar.mailbox.core.engine.table.get(STRANGER)
    await trio.sleep(5)
    assert peer
    assert (len(liar.heard), peer.strikes) == (1, 1)
    shunned_until_at = peer.shunned_until_at
    assert await liar.lie() == b""
    await liar.hint(LOG)
    await liar.hint(overflow=True)
    for nonsense in (b"", b"\xc1", b"x" * 100):
        await liar.transport.publish(NEWS, nonsense)
    await trio.sleep(10)
    assert (len(liar.heard), peer.strikes, peer.shunned_until_at) == (1, 1, shunned_until_at)
    await trio.sleep(PEER_SHUN_FIRST_S)
    assert (len(liar.heard), peer.strikes) == (2, 2)


async def in_good_standing(liar: Liar) -> None:
    """The liar has done a whole session once: it took back its lies."""
    peer = liar.mailbox.core.engine.table.get(STRANGER)
    assert peer
    await trio.sleep(5)
    peer.shunned_until_at = 0.0
    peer.strikes = 0
    peer.stand(PeerState.IN_SYNC, "")
    peer.due_at = trio.current_time() + 1e6
    liar.heard.clear()
    liar.heard_at.clear()


async def test_a_hint_is_followed_by_a_question_about_its_logs(liar: Liar, autojump_clock: MockClock) -> None:
    await in_good_standing(liar)
    await liar.hint(LOG, LogName("t", "other"))
    (hello,) = liar.heard
    assert isinstance(hello, Hello)
    question = decode(hello.first)
    assert isinstance(question, About)
    assert question.handles == sorted(map(handle_of, (LOG, LogName("t", "other"))))


async def test_a_hint_of_what_is_held_is_not_followed(liar: Liar, autojump_clock: MockClock) -> None:
    mailbox = liar.mailbox.core
    await mailbox.mailbox.deliver([(LOG, 0, b"held")])
    await in_good_standing(liar)
    view = await mailbox.index.view(0)
    state = view.state(handle_of(LOG))
    assert state
    for data in encode_hints({handle_of(LOG): HintedLog.of("t", state)}):
        await liar.transport.publish(NEWS, data)
    await trio.sleep(10)
    assert not liar.heard
    await liar.hint(LOG)
    assert len(liar.heard) == 1


async def test_who_is_said_to_know_is_forgotten_unless_near(liar: Liar, autojump_clock: MockClock) -> None:
    """The same news with other names each time: that must not fill the memory."""
    await in_good_standing(liar)
    logs = {handle_of(LogName("t", f"{number}")): HintedLog.of("t", b"s" * 32) for number in range(HINT_LOGS_MAX)}
    news = liar.mailbox.core.engine.news
    for step in range(20):
        others = [(step * HINT_AUDIENCE_MAX + number).to_bytes(4) + bytes(28) for number in range(HINT_AUDIENCE_MAX)]
        for data in encode_hints(logs, audience=others):
            await liar.transport.publish(NEWS, data)
        await trio.sleep(1)
    assert news.states_remembered == HINT_LOGS_MAX
    assert news.audience_remembered == 1, "the one that told it"


@pytest.mark.parametrize("overflow", [True, False])
async def test_too_many_hints_are_one_full_sync(liar: Liar, overflow: bool, autojump_clock: MockClock) -> None:
    await in_good_standing(liar)
    if overflow:
        await liar.hint(overflow=True)
    else:
        logs = [LogName("t", f"{number}") for number in range(HINT_LOGS_PENDING_MAX + HINT_LOGS_MAX)]
        await liar.hint(*logs, audience=HINT_AUDIENCE_MAX)  # among so many, nobody asks at once
    first = decode(liar.heard[0].first)
    assert not isinstance(first, About)
    assert len(liar.heard) == 1


async def test_other_networks_and_what_speaks_no_sync_are_not_met(world: World, autojump_clock: MockClock) -> None:
    mailbox = await world.start("honest")
    engine = mailbox.core.engine
    for number, (network, port) in enumerate((("other", 4001), ("sim", None), ("sim", 4001))):
        neighbour = Neighbour(MailboxId(bytes([number]) * 32), ("192.0.2.1",), 3411, port, 1, network)
        engine.report(Found(neighbour))
    assert [peer.mailbox_id for peer in engine.table.all()] == [MailboxId(bytes([2]) * 32)]


async def test_who_can_not_be_reached_is_tried_rarer_and_rarer(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await world.start("gone")
    address = gone
    mailbox = await world.start("honest", peers=(address,), sync_interval_s=1000.0)
    tried_at: list[float] = []

    async def connect(addresses: Any) -> None:
        await trio.lowlevel.checkpoint()
        tried_at.append(trio.current_time())
        raise PeerUnreachable("nobody is there")

    await trio.sleep(5)
    monkeypatch.setattr(mailbox.core.transport, "connect", connect)
    gone.scope.cancel()
    await trio.sleep(20 * PEER_RETRY_MAX_S)
    pauses_s = [after - before for before, after in pairwise(tried_at)]
    assert 20 <= len(pauses_s) <= 40
    assert pauses_s[0] < 3
    assert all(other > 1.2 * one for one, other in pairwise(pauses_s[:4]))
    assert all(0.7 * PEER_RETRY_MAX_S < pause_s < 1.3 * PEER_RETRY_MAX_S for pause_s in pauses_s[8:])


async def test_who_is_named_again_while_it_is_still_dialled_is_tended(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await world.start("other")
    mailbox = await world.start("honest")
    engine = mailbox.core.engine
    connect = mailbox.core.transport.connect
    dials = 0

    async def slowly(addresses: Any) -> None:
        nonlocal dials
        dials += 1
        if dials == 1:
            await trio.sleep(60)
            raise PeerUnreachable("it takes nothing")
        await connect(addresses)

    monkeypatch.setattr(mailbox.core.transport, "connect", slowly)
    engine.name_peers(other.core.transport.addresses())
    await trio.sleep(1)
    engine.name_peers([])
    engine.name_peers(other.core.transport.addresses())
    with trio.fail_after(300):
        (report,) = await engine.sync_now(other.mailbox_id)
    assert report.error is None


async def test_where_nothing_happens_sessions_are_short(world: World, autojump_clock: MockClock) -> None:
    """Each of them is short, as both remember."""
    a = await world.start("a")
    await a.core.mailbox.deliver([(LogName("t", f"{number}"), 0, b"x" * 100) for number in range(1000)])
    ends: list[tuple[float, SessionEnd]] = []
    a.core.engine.on_session(lambda end: ends.append((trio.current_time(), end)))
    await world.start("b", peers=(a,))
    await trio.sleep(3600)
    calm = [end for at, end in ends if at > 1800]
    assert 50 <= len(calm) <= 75
    assert {(end.result.received, end.result.sent, end.result.equal) for end in calm} == {(0, 0, True)}
    assert max(end.bytes_in + end.bytes_out for end in calm) < 250, "a survey, though both remember"


class Crowded(MemoryStore):
    """Has no room for large messages, though it is not full."""

    has_room = False
    attempts = 0

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        is_large = any(len(arrival.blob) > 1000 for arrival in arrivals)
        self.attempts += is_large
        if is_large and not self.has_room:
            raise StoreFull("a large message does not fit")
        return await super().put(arrivals, origin=origin, client=client)


@pytest.mark.parametrize("taker_dials", [True, False])
async def test_what_does_not_fit_is_seldom_asked_for(
    world: World, taker_dials: bool, autojump_clock: MockClock
) -> None:
    """Neither of the two makes more sessions because of it than the interval has, and the rest comes at once."""
    store = Crowded()
    if taker_dials:
        giver = await world.start("a")
        taker = await world.start("b", store=store, peers=(giver,))
    else:
        taker = await world.start("b", store=store)
        giver = await world.start("a", peers=(taker,))
    blobs = [bytes(2000 if seq % 10 == 4 else 10) + b"%d" % seq for seq in range(20)]
    await giver.core.mailbox.deliver([(LOG, seq, blob) for seq, blob in enumerate(blobs)])
    await trio.sleep(HOUR_S)
    assert store.statistics().messages == 18
    assert store.attempts <= 2 * 2 * (HOUR_S / REFUSED_PAUSE_S + 1)
    assert giver.core.engine.counters.sessions <= 2 * HOUR_S / 30
    peer = taker.core.engine.table.get(giver.mailbox_id)
    assert peer is not None and "no room" in peer.reason
    store.has_room = True
    await trio.sleep(REFUSED_PAUSE_S + 2 * HOUR_S / 10)
    assert await taker.fingerprint() == await giver.fingerprint()
