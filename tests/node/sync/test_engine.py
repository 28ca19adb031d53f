"""Whole mailboxes on a network in memory, under a clock that jumps: they come to hold the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from node.store.api import PutResult
from node.store.memory import MemoryStore
from node.sync.peers import Peer, PeerState, SyncProgress, SyncReport
from node.transport.api import PeerUnreachable, Stream, StreamBroken
from node.transport.memory import MemoryTransport
from protocols.limits.data import SEQ_MAX
from protocols.limits.replication import CLAIM_PATIENCE_S, HINT_PAUSE_MAX_S, HINTS_VAIN_MAX, PEER_DIAL_GRACE_S
from protocols.limits.sync import HINT_CONTENT_BYTES_MAX
from protocols.model import LogName, MailboxId, Retention, handle_of
from protocols.sync.codec import encode
from protocols.sync.hints import HintedLog, encode_hints
from protocols.sync.messages import Hello, OfferedLog, Transfer
from protocols.sync.wire import encode_frame
from tests.memory_world import SimulatedMailbox, World

NAME = LogName("topic", "log")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery, seed=1)
        nursery.cancel_scope.cancel()


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(seconds):
        while not await condition():  # noqa: ASYNC110 - a state, not an event
            await trio.sleep(0.01)


async def equal(*mailboxes: SimulatedMailbox) -> bool:
    return len({await mailbox.fingerprint() for mailbox in mailboxes}) == 1


async def holds(mailbox: SimulatedMailbox, name: LogName, seq: int, blob: bytes) -> bool:
    page = await mailbox.core.mailbox.read({name.topic: {}})
    return any(entry.name == name and (seq, blob) in entry.messages for entry in page.entries)


async def test_a_message_is_at_the_neighbour_within_a_second(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    b = await world.start("b", peers=(a,))
    await within(5, lambda: connected(a, b))
    await a.core.mailbox.deliver([(NAME, 0, b"from a")])
    await within(1, lambda: holds(b, NAME, 0, b"from a"))
    await b.core.mailbox.deliver([(NAME, 1, b"from b")])
    await within(1, lambda: holds(a, NAME, 1, b"from b"))
    assert await equal(a, b)


async def test_what_came_from_the_only_neighbour_is_not_announced_to_it(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.start("a")
    b = await world.start("b", peers=(a,))
    await within(5, lambda: connected(a, b))
    said: list[bytes] = []
    publish = b.core.transport.publish

    async def note(channel: str, data: bytes) -> None:
        said.append(data)
        await publish(channel, data)

    monkeypatch.setattr(b.core.transport, "publish", note)
    await a.core.mailbox.deliver([(NAME, 0, b"from a")])
    await within(1, lambda: holds(b, NAME, 0, b"from a"))
    await trio.sleep(5)
    assert said == []
    await b.core.mailbox.deliver([(NAME, 1, b"from b")])
    await within(1, lambda: holds(a, NAME, 1, b"from b"))
    assert len(said) == 1


async def connected(a: SimulatedMailbox, b: SimulatedMailbox) -> bool:
    peer = a.core.engine.table.get(b.mailbox_id)
    other = b.core.engine.table.get(a.mailbox_id)
    return bool(peer and other and peer.state is other.state is PeerState.IN_SYNC)


async def test_what_was_there_before_they_met_is_exchanged_both_ways(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    await a.core.mailbox.deliver([(LogName("t", "only a"), seq, b"a%d" % seq) for seq in range(300)])
    store = MemoryStore()
    b = await world.start("b", store=store)
    await b.core.mailbox.deliver([(LogName("t", "only b"), seq, b"b%d" % seq) for seq in (3, 9, 2**64 - 1)])
    b.scope.cancel()
    b = await world.start("b", store=store, peers=(a,))
    await within(10, lambda: equal(a, b))
    assert a.store.statistics().messages == b.store.statistics().messages == 303


async def test_a_partition_heals(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    b = await world.start("b", peers=(a,))
    c = await world.start("c", peers=(a, b))
    await within(5, lambda: connected(a, c))
    world.network.isolate(c.mailbox_id)
    await a.core.mailbox.deliver([(NAME, 0, b"a")])
    await c.core.mailbox.deliver([(NAME, 1, b"c")])
    await trio.sleep(100)
    assert not await equal(a, c)
    peer = a.core.engine.table.get(c.mailbox_id)
    assert peer and peer.state is PeerState.UNREACHABLE
    assert peer.reason
    world.network.heal_all()
    await within(35, lambda: equal(a, b, c))
    assert await holds(a, NAME, 1, b"c")
    assert await holds(c, NAME, 0, b"a")


async def test_news_travel_along_a_chain(world: World, autojump_clock: MockClock) -> None:
    chain = [await world.start("0")]
    for i in range(1, 5):
        chain.append(await world.start(str(i), peers=(chain[-1],)))
    for left, right in pairwise(chain):
        await within(10, lambda left=left, right=right: connected(left, right))  # type: ignore[misc]
    await chain[0].core.mailbox.deliver([(NAME, 0, b"news")])
    await within(3, lambda: holds(chain[-1], NAME, 0, b"news"))


async def test_whom_the_user_named_is_compared_with_in_every_interval(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a mailbox that has many neighbours: nobody else may bring what a lost hint was about."""
    hub = await world.start("hub")
    gateway = await world.start("gateway", peers=(hub,))
    for number in range(6):
        await world.start(f"at the hub {number}", peers=(hub,))
        await world.start(f"at the gateway {number}", peers=(gateway,))
    await trio.sleep(3600)

    async def lose(channel: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(hub.core.transport, "publish", lose)
    await hub.core.mailbox.deliver([(NAME, 0, b"news")])
    await within(40, lambda: holds(gateway, NAME, 0, b"news"))


async def test_for_whom_there_is_no_room_is_not_connected_either(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would count on being told, and others on its being told by us."""
    monkeypatch.setattr("node.sync.peers.PEERS_MAX", 3)
    crowded = await world.start("crowded")
    around = [await world.start(str(number), peers=(crowded,)) for number in range(5)]
    await trio.sleep(60)
    known = {peer.mailbox_id for peer in crowded.core.engine.table.all()}
    assert len(known) == 3
    assert crowded.core.transport.connected() == known
    for mailbox in around:
        peer = mailbox.core.engine.table.get(crowded.mailbox_id)
        is_known = mailbox.mailbox_id in known
        assert peer and peer.state is (PeerState.IN_SYNC if is_known else PeerState.UNREACHABLE)


async def test_replication_does_not_lengthen_a_life(world: World, autojump_clock: MockClock) -> None:
    """a stores; b learns of it six days later, c still later: all forget it at the same hour."""
    a = await world.start("a")
    await a.core.mailbox.deliver([(NAME, 0, b"mortal")])
    await trio.sleep(6 * 86400)
    b = await world.start("b", peers=(a,))
    await within(60, lambda: holds(b, NAME, 0, b"mortal"))
    a.scope.cancel()
    await trio.sleep(86400 - 7200)
    c = await world.start("c", peers=(b,))
    await within(60, lambda: holds(c, NAME, 0, b"mortal"))
    await trio.sleep(7200)
    for mailbox in (b, c):
        assert not await holds(mailbox, NAME, 0, b"mortal")
        assert mailbox.store.statistics().messages == 0
    # A late comer does not ask phones for it either.
    assert (await c.core.mailbox.read({"topic": {"log": 0}})).entries == []


async def test_an_expired_message_is_not_brought_back(world: World, autojump_clock: MockClock) -> None:
    week, day = Retention(), Retention(86400)
    a = await world.start("a", retention=week, sync_interval_s=600)
    b = await world.start("b", retention=day, peers=(a,), sync_interval_s=600)
    await a.core.mailbox.deliver([(NAME, 0, b"x")])
    await within(60, lambda: holds(b, NAME, 0, b"x"))
    await trio.sleep(2 * 86400)
    assert await holds(a, NAME, 0, b"x")
    assert not await holds(b, NAME, 0, b"x")
    assert b.core.engine.counters.synced_in == 1
    assert await connected(a, b)  # what one drops by its own rule is no difference


async def test_a_wrong_clock_is_told_and_refused(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    c = await world.start("c")
    c.clock.error_s = 86400.0
    await c.core.mailbox.deliver([(NAME, 0, b"from tomorrow")])
    d = await world.start("d", peers=(a, c))
    await trio.sleep(60)
    peer, back = d.core.engine.table.get(c.mailbox_id), c.core.engine.table.get(d.mailbox_id)
    assert peer and back
    assert peer.state is back.state is PeerState.REFUSED
    assert "clock" in peer.reason
    assert await connected(a, d)
    assert not await holds(d, NAME, 0, b"from tomorrow")
    c.clock.error_s = 0.0
    await within(60, lambda: connected(c, d))


async def test_other_networks_are_left_alone(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a", network="red")
    await a.core.mailbox.deliver([(NAME, 0, b"red")])
    b = await world.start("b", network="blue", peers=(a,))
    await trio.sleep(60)
    assert not await holds(b, NAME, 0, b"red")


async def test_storage_limit_stops_what_comes_and_says_so(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    await a.core.mailbox.deliver([(NAME, seq, bytes(1000)) for seq in range(10)])
    b = await world.start("b", store=MemoryStore(storage_limit_bytes=100), peers=(a,))
    await trio.sleep(100)
    peer = b.core.engine.table.get(a.mailbox_id)
    assert peer and peer.state is PeerState.BEHIND
    assert "storage limit" in peer.reason
    assert b.store.statistics().messages == 0


async def test_a_sync_on_demand_waits_for_a_full_comparison(world: World, autojump_clock: MockClock) -> None:
    """A neighbour that fetches news of ours at the same moment is no answer to it."""
    a = await world.start("a")
    b = await world.start("b", peers=(a,), sync_interval_s=10_000)
    await within(5, lambda: connected(a, b))
    engine = b.core.engine
    peer = engine.table.get(a.mailbox_id)
    assert peer
    send, receive = trio.open_memory_channel[SyncReport](2)
    peer.waiting.append(send)  # as `sync_now` does, but without waking the peer's task
    await b.core.mailbox.deliver([(NAME, 0, b"news")])
    await within(2, lambda: holds(a, NAME, 0, b"news"))
    while peer.sessions:  # noqa: ASYNC110 - a state, not an event
        await trio.sleep(0.01)
    assert receive.statistics().current_buffer_used == 0
    peer.poke()
    with trio.fail_after(5):
        assert (await receive.receive()).error is None


async def test_sync_on_demand_reports_what_happened(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    b = await world.start("b", peers=(a,), sync_interval_s=10_000)
    await within(5, lambda: connected(a, b))
    reports = await b.core.engine.sync_now()
    assert [(r.mailbox_id, r.error) for r in reports] == [(a.mailbox_id, None)]
    world.network.isolate(a.mailbox_id)
    assert (await b.core.engine.sync_now(a.mailbox_id))[0].error


async def test_a_long_sync_shows_how_far_it_is(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a")
    for number in range(20):
        name = LogName("topic", f"log {number}")
        await a.core.mailbox.deliver([(name, seq, b"x" * 100_000) for seq in range(20)])
    b = await world.start("b", peers=(a,))
    seen: list[SyncProgress | None] = []

    def b_peer() -> Peer | None:
        return b.core.engine.table.get(a.mailbox_id)

    b.core.mailbox.store.subscribe(lambda change: seen.append(peer.progress if (peer := b_peer()) else None))
    await within(60, lambda: connected(a, b))
    told = [progress for progress in seen if progress is not None]
    assert len(told) > 5
    # The first log may have come by a session of the other's, who met us at the same moment.
    assert {progress.expected for progress in told} in ({400}, {380})
    assert [progress.received for progress in told] == sorted(progress.received for progress in told)
    assert 0 < told[0].received < 400
    peer = b_peer()
    assert peer and peer.progress is None


@pytest.mark.parametrize("asked", [False, True])
async def test_while_one_side_compares_the_other_does_not_begin_to(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """Not even after the time in which it would step in; but it does if its user asks."""
    a = await world.start("a", sync_interval_s=1e6)
    for number in range(20):
        name = LogName("topic", f"log {number}")
        await a.core.mailbox.deliver([(name, seq, b"x" * 100_000) for seq in range(20)])
    b = await world.start("b", sync_interval_s=1e6)
    put = b.store.put

    async def slowly(*args: Any, **options: Any) -> PutResult:
        await trio.sleep(5 * PEER_DIAL_GRACE_S)
        return await put(*args, **options)

    monkeypatch.setattr(b.store, "put", slowly)
    begun_at: list[float] = []
    for mailbox in (a, b):
        mailbox.core.engine.on_session(lambda end: None if end.incoming else begun_at.append(end.began_at))
    await b.core.transport.connect(a.core.transport.addresses())
    met_at = trio.current_time()
    if asked:
        await trio.sleep(2 * PEER_DIAL_GRACE_S)
        await a.core.engine.sync_now(b.mailbox_id)
    await within(100, lambda: equal(a, b))
    assert trio.current_time() >= met_at + 5 * PEER_DIAL_GRACE_S
    assert b.core.engine.counters.synced_in == 400
    await trio.sleep(100)
    assert len(begun_at) == 1 + asked


async def test_several_mailboxes_are_asked_for_different_parts(world: World, autojump_clock: MockClock) -> None:
    holders = [await world.start(name) for name in "abc"]
    for number in range(600):
        message = (LogName("topic", f"log {number}"), 0, b"%d" % number * 1000)
        for holder in holders:
            await holder.core.mailbox.deliver([message])
    fresh = await world.start("d", peers=tuple(holders), sync_interval_s=10)
    await within(60, lambda: equal(fresh, *holders))
    assert fresh.core.engine.counters.synced_in == 600  # nothing came twice
    assert sum(holder.core.engine.counters.synced_out > 0 for holder in holders) > 1
    for holder in holders:
        await within(60, lambda holder=holder: connected(fresh, holder))


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[MailboxId]:
    """Who announces news, in their order. Nobody repeats what everybody near has heard."""
    publishers: list[MailboxId] = []

    async def publish(self: MemoryTransport, channel: str, data: bytes) -> None:
        publishers.append(self.local)
        await original(self, channel, data)

    original = MemoryTransport.publish
    monkeypatch.setattr(MemoryTransport, "publish", publish)
    monkeypatch.setattr("node.sync.news.HINT_ECHOES", -1)
    return publishers


async def test_among_mailboxes_that_are_all_connected_one_hint_is_enough(
    world: World, hints: list[MailboxId], autojump_clock: MockClock
) -> None:
    mailboxes: list[SimulatedMailbox] = []
    for name in "abcdef":
        mailboxes.append(await world.start(name, peers=tuple(mailboxes)))
    for one, other in pairwise(mailboxes):
        await within(20, partial(connected, one, other))
    await trio.sleep(20)
    hints.clear()
    await mailboxes[0].core.mailbox.deliver([(NAME, 0, b"news")])
    await within(2, lambda: equal(*mailboxes))
    await trio.sleep(2)
    assert hints == [mailboxes[0].mailbox_id]


async def test_whoever_is_behind_a_mailbox_is_told_by_it(
    world: World, hints: list[MailboxId], autojump_clock: MockClock
) -> None:
    a = await world.start("a")
    b = await world.start("b", peers=(a,))
    c = await world.start("c", peers=(b,))
    await within(20, lambda: connected(a, b))
    await within(20, lambda: connected(b, c))
    await trio.sleep(20)
    hints.clear()
    await a.core.mailbox.deliver([(NAME, 0, b"news")])
    await within(2, lambda: equal(a, b, c))
    assert hints[:2] == [a.mailbox_id, b.mailbox_id]


async def test_hints_that_bring_nothing_are_followed_less_and_less(world: World, autojump_clock: MockClock) -> None:
    victim = await world.start("victim")
    liar = MemoryTransport(world.network, MailboxId(bytes(32)))
    asked: list[float] = []

    async def hang_up(stream: Stream) -> None:
        asked.append(trio.current_time())
        await stream.abort()

    liar.serve("/mailboxd/sync/1", hang_up)
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.run)
        await liar.connect(victim.core.transport.addresses())
        for number in range(600):
            logs = {handle_of(NAME): HintedLog.of(NAME.topic, number.to_bytes(16, "big"))}
            (lie,) = encode_hints(logs, overflow=number % 2 == 1)
            await liar.publish("/mailboxd/news/4/sim", lie)
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert HINTS_VAIN_MAX < len(asked) < HINTS_VAIN_MAX + 60 / HINT_PAUSE_MAX_S + 20
    # Whoever is believed is so at once.
    honest = await world.start("honest", peers=(victim,))
    await within(5, lambda: connected(victim, honest))
    await honest.core.mailbox.deliver([(NAME, 0, b"news")])
    await within(1, lambda: holds(victim, NAME, 0, b"news"))


async def test_claims_that_are_not_redeemed_hold_nobody_up(world: World, autojump_clock: MockClock) -> None:
    victim = await world.start("victim")
    honest = await world.start("honest", peers=(victim,))
    await within(5, lambda: connected(victim, honest))
    liar = MemoryTransport(world.network, MailboxId(bytes(32)))

    async def claim_and_wait() -> None:
        stream = await liar.open_stream(victim.mailbox_id, "/mailboxd/sync/1")
        offer = Transfer(offers=[OfferedLog(NAME, [(0, SEQ_MAX)], True)])
        retention, now_s = Retention(), int(victim.clock.now_s())
        alive_from_s = retention.alive_from(now_s)
        hello = Hello(2, 2, "sim", now_s, retention.retention_s, alive_from_s, "liar", bytes(8), b"")
        for message in (hello, offer):
            await stream.send_all(encode_frame(encode(message)))
        while await stream.receive_some(65_536):
            pass
        await stream.abort()

    async def claim_for_ever() -> None:
        while True:
            with suppress(StreamBroken, PeerUnreachable):
                await claim_and_wait()
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        await nursery.start(liar.run)
        await liar.connect(victim.core.transport.addresses())
        for _ in range(3):
            nursery.start_soon(claim_for_ever)
        await trio.sleep(1)
        large = bytes(HINT_CONTENT_BYTES_MAX)
        await honest.core.mailbox.deliver([(NAME, 0, large)])
        await within(CLAIM_PATIENCE_S + 5, lambda: holds(victim, NAME, 0, large))
        # What comes with its hint is there: whoever claims to bring it can't keep it out at all.
        await honest.core.mailbox.deliver([(NAME, 1, b"news")])
        await within(1, lambda: holds(victim, NAME, 1, b"news"))
        nursery.cancel_scope.cancel()


async def test_the_same_failure_of_many_sessions_is_told_once(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    victim = await world.start("victim")
    liar = MemoryTransport(world.network, MailboxId(bytes(32)))
    caplog.set_level("INFO")

    async def be_refused() -> None:
        for _ in range(20):
            with suppress(StreamBroken):
                stream = await liar.open_stream(victim.mailbox_id, "/mailboxd/sync/1")
                await trio.sleep(0.01)
                hello = Hello(2, 2, "another", int(victim.clock.now_s()), 3600, 0, "liar", bytes(8), b"")
                await stream.send_all(encode_frame(encode(hello)))
                while await stream.receive_some(65_536):
                    pass

    async with trio.open_nursery() as nursery:
        await nursery.start(liar.run)
        await liar.connect(victim.core.transport.addresses())
        async with trio.open_nursery() as sessions:
            for _ in range(3):
                sessions.start_soon(be_refused)
        nursery.cancel_scope.cancel()
    assert len([line for line in caplog.messages if "different networks" in line]) == 1
