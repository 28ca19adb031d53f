"""What a mailbox takes of the messages that come with hints: as a session would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from node.admission.policy import Admission
from node.store.api import PutResult, Room, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from node.transport.api import Stream
from node.transport.memory import MemoryTransport
from protocols.limits.data import CLOCK_SKEW_MAX_S, VARIANTS_MAX
from protocols.limits.replication import COST_BYTE_S, COST_SESSION_S, REFUSED_PAUSE_S
from protocols.limits.sync import (
    HINTS_OF_ONE_WAITING_MAX,
    HINTS_WAITING_MAX,
)
from protocols.model import LogName, MailboxId, Retention, digest_of, handle_of
from protocols.sync.effects import Span
from protocols.sync.hints import HintedLog, HintedMessage, encode_hints
from protocols.sync.interest import Interest
from tests.memory_world import SimulatedMailbox, World
from tests.node.sync.hints_said import HOUR_S, LOG, held, met

NEWS = "/mailboxd/news/4/sim"
WEEK_S = Retention().retention_s


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery, seed=1)
        nursery.cancel_scope.cancel()


class Teller:
    """A mailbox that announces what it is told to, and hangs up on whoever asks."""

    def __init__(self, world: World, mailbox: SimulatedMailbox, number: int = 255) -> None:
        self.transport = MemoryTransport(world.network, MailboxId(bytes([number]) * 32))
        self.mailbox = mailbox
        self.asked = 0
        self.transport.serve("/mailboxd/sync/1", self._on_stream)

    async def _on_stream(self, stream: Stream) -> None:
        self.asked += 1
        await stream.abort()

    def now_s(self) -> float:
        return self.mailbox.clock.now_s()

    async def tell(self, *messages: HintedMessage, clock_s: float | None = None) -> int:
        """Announces these, and returns how often it was asked in the second that follows."""
        before = self.asked
        logs = {handle_of(one.name): HintedLog.of(one.name.topic, b"of theirs") for one in messages}
        clock_s = self.now_s() if clock_s is None else clock_s
        for data in encode_hints(logs, clock_s=int(clock_s), messages=messages):
            await self.transport.publish(NEWS, data)
        await trio.sleep(1)
        return self.asked - before

    def message(self, seq: int, blob: bytes, *, name: LogName = LOG, age_s: float = 0.0) -> HintedMessage:
        return HintedMessage(name, seq, int(self.now_s() - age_s), blob)


async def teller_of(world: World, nursery: trio.Nursery, **options: Any) -> Teller:
    mailbox = await world.start("honest", sync_interval_s=1e6, **options)
    return await introduced(Teller(world, mailbox), nursery)


async def introduced(teller: Teller, nursery: trio.Nursery) -> Teller:
    """A teller that its mailbox knows."""
    mailbox = teller.mailbox
    await nursery.start(teller.transport.run)
    await teller.transport.connect(mailbox.core.transport.addresses())
    await trio.sleep(5)
    # Its retries are over for the length of a test.
    peer = mailbox.core.engine.table.get(teller.transport.local)
    assert peer is not None
    peer.due_at = trio.current_time() + 1e5
    peer.rearm()
    return teller


async def first_stored(mailbox: SimulatedMailbox) -> list[int]:
    ((*items,),) = await mailbox.store.items_of([Span(LOG, 0, 100)])
    return [item.first_stored_s for item in items]


async def test_whoever_says_more_than_it_brings_is_asked(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    teller = await teller_of(world, nursery)
    assert await teller.tell(teller.message(0, b"zero")) == 1  # the state is another one than what came amounts to
    await teller.tell(teller.message(1, b"one"), teller.message(3, b"what lies between may be gone"))
    assert await held(teller.mailbox) == {0: b"zero"}


async def test_what_is_too_old_or_from_the_future(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    teller = await teller_of(world, nursery)
    young, old = teller.message(0, b"young", age_s=WEEK_S - 2 * HOUR_S), teller.message(2, b"old", age_s=WEEK_S)
    future = teller.message(1, b"future", age_s=-1000 * HOUR_S)
    await teller.tell(young, old, future)
    assert await held(teller.mailbox) == {0: b"young", 1: b"future"}
    stamps = await first_stored(teller.mailbox)
    assert all(stamp % HOUR_S == 0 and stamp <= teller.now_s() for stamp in stamps)


@pytest.mark.parametrize("error_s", [-CLOCK_SKEW_MAX_S - 5, CLOCK_SKEW_MAX_S + 5])
async def test_whoever_has_another_time_is_not_believed(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, error_s: float
) -> None:
    teller = await teller_of(world, nursery)
    assert await teller.tell(teller.message(0, b"zero"), clock_s=teller.now_s() + error_s) == 1  # which refuses it
    assert await held(teller.mailbox) == {}
    await teller.tell(teller.message(0, b"zero"), clock_s=teller.now_s() + error_s * 0.9)
    assert await held(teller.mailbox) == {0: b"zero"}


async def test_nobody_lives_longer_by_being_told_again(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    teller = await teller_of(world, nursery)
    await teller.tell(teller.message(0, b"zero", age_s=5 * HOUR_S))
    (before,) = await first_stored(teller.mailbox)
    for age_s in (0, 5 * HOUR_S, -1000 * HOUR_S):
        await teller.tell(teller.message(0, b"zero", age_s=age_s))
    assert await first_stored(teller.mailbox) == [before]


async def test_a_false_copy_does_not_keep_the_true_one_out(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Whoever is first says what it likes under a name; what others bring comes all the same, and a session's too."""
    teller = await teller_of(world, nursery)
    honest = await world.start("friend", peers=(teller.mailbox,), sync_interval_s=1e6)
    await met(honest, teller.mailbox)
    for seq in range(3):
        await teller.tell(teller.message(seq, b"false"))
    await honest.core.mailbox.deliver([(LOG, seq, b"true") for seq in range(3)])
    await trio.sleep(5)
    blobs = [[item.digest for item in items] for items in await teller.mailbox.store.items_of([Span(LOG, 0, 2)])]
    assert sorted(blobs[0]) == sorted([digest_of(b"false"), digest_of(b"true")] * 3)
    assert await honest.fingerprint() == await teller.mailbox.fingerprint()


async def test_what_is_nothing_new_does_not_have_sessions_leave_out_the_true_one(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """While a session looks for what to ask, somebody says something else under the name of what it would bring."""
    teller = await teller_of(world, nursery)
    claims = teller.mailbox.core.engine._claims
    lie, wanted = teller.message(0, b"false"), [Span(LOG, 0, 0)]
    for is_new in (True, False, False):
        session = claims.begin()
        await teller.tell(lie)
        assert claims.take(session, wanted) == ([] if is_new else wanted)
        claims.end(session, in_good_order=False)


async def test_more_of_one_message_than_is_kept(world: World, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """The same again in one hint is nothing more, and variants have their bound, with or without a session."""
    teller = await teller_of(world, nursery)
    again = teller.message(0, b"zero")
    await teller.tell(again, again, again._replace(first_stored_s=again.first_stored_s - HOUR_S))
    assert teller.mailbox.store.statistics().messages == 1
    assert await first_stored(teller.mailbox) == [again.first_stored_s // HOUR_S * HOUR_S - HOUR_S]
    for start in (0, 20):
        await teller.tell(*[teller.message(0, b"variant %d" % number) for number in range(start, start + 20)])
    assert teller.mailbox.store.statistics().messages == VARIANTS_MAX


async def test_topics_that_are_not_kept_are_not_taken(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    teller = await teller_of(world, nursery, interest=Interest.of(["wanted"]))
    wanted, other = LogName("wanted", "log"), LogName("unwanted", "log")
    await teller.tell(teller.message(0, b"yes", name=wanted), teller.message(0, b"no", name=other))
    assert await held(teller.mailbox, wanted) == {0: b"yes"}
    assert await held(teller.mailbox, other) == {}


async def test_what_must_be_signed(world: World, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    teller = await teller_of(world, nursery, require_signed=True)
    signed_only = teller.mailbox.core.mailbox.signed_only
    assert signed_only is not None
    name = LogName("topic", "ab" * 32)  # an author's, so that it might be
    await teller.tell(teller.message(0, b"unsigned", name=name))
    with trio.fail_after(1e6):
        while not signed_only.refused:  # noqa: ASYNC110 - by a thread, for which the clock does not wait
            await trio.sleep(1)
    assert await held(teller.mailbox, name) == {}
    assert signed_only.worth_asking([Span(name, 0, 0)]), "what nobody asked for keeps the true one out"


async def test_what_was_let_go_does_not_come_back(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store = MemoryStore(storage_limit_bytes=100_000)
    teller = await teller_of(world, nursery, store=store)
    lost = [teller.message(seq, bytes([seq]) * 1500) for seq in range(5)]
    for message in lost:
        await teller.tell(message)
    gone: set[int] = set()
    seq = 0
    while not gone:
        more = [LogName("topic", f"more {seq + n}") for n in range(5)]
        await teller.tell(*[teller.message(0, bytes(1500), name=name) for name in more])
        seq += 5
        gone = {message.seq for message in lost} - (await held(teller.mailbox)).keys()
    await teller.tell(*[message for message in lost if message.seq in gone])
    assert not gone & (await held(teller.mailbox)).keys()


async def test_a_full_disk_takes_nothing(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = await teller_of(world, nursery)
    with monkeypatch.context() as full:
        full.setattr(teller.mailbox.store, "rooms", lambda: [Room(0, 10**9, is_limit=False)])
        await teller.tell(teller.message(0, b"zero"))
        assert await held(teller.mailbox) == {}
    await teller.tell(teller.message(0, b"zero"))
    assert await held(teller.mailbox) == {0: b"zero"}


async def test_a_disk_that_fails_is_not_the_end(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = await teller_of(world, nursery)

    async def fail(*_: object, **__: object) -> PutResult:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("the disk is gone")

    for broken in (fail, lambda *_, **__: 1 / 0):
        with monkeypatch.context() as patch:
            patch.setattr(teller.mailbox.store, "put", broken)
            assert await teller.tell(teller.message(0, b"zero")) == 1
            assert await held(teller.mailbox) == {}
    await teller.tell(teller.message(0, b"zero"))
    assert await held(teller.mailbox) == {0: b"zero"}
    assert teller.mailbox.core.engine.counters.synced_in == 1


async def test_what_finds_no_room_is_left_alone_for_a_while_and_nobody_is_charged(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = await teller_of(world, nursery)
    budgets = teller.mailbox.core.engine.budgets
    charged: list[object] = []
    monkeypatch.setattr(budgets, "charge_hint", lambda *args, **_: charged.append(args))

    async def refuse(*_: object, **__: object) -> PutResult:
        await trio.lowlevel.checkpoint()
        raise StoreFull("there is no room")

    with monkeypatch.context() as patch:
        patch.setattr(teller.mailbox.store, "put", refuse)
        await teller.tell(teller.message(0, b"zero"))
    assert not charged
    await teller.tell(teller.message(0, b"zero"))
    assert await held(teller.mailbox) == {}
    await trio.sleep(REFUSED_PAUSE_S)
    await teller.tell(teller.message(0, b"zero"))
    assert await held(teller.mailbox) == {0: b"zero"}


async def test_saying_the_same_again_and_again_is_charged(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    teller = await teller_of(world, nursery)
    budgets = teller.mailbox.core.engine.budgets
    again = [teller.message(seq, bytes(400)) for seq in range(15)]
    used_s = budgets.used_s(teller.transport.local)
    await teller.tell(*again)
    assert budgets.used_s(teller.transport.local) < used_s + 0.01
    logs = {handle_of(LOG): HintedLog.of(LOG.topic, b"of theirs")}
    used_s = budgets.used_s(teller.transport.local)
    for _ in range(100):
        for data in encode_hints(logs, clock_s=int(teller.now_s()), messages=again):
            await teller.transport.publish(NEWS, data)
        await trio.sleep(0.001)
    assert budgets.used_s(teller.transport.local) > used_s + 100 * (COST_SESSION_S + 15 * 400 * COST_BYTE_S)
    budgets.charge_hint(teller.transport.local, messages=1, size=10**9, useful=0)
    await teller.tell(teller.message(15, b"not from you now"))
    assert 15 not in await held(teller.mailbox)


async def test_what_waits_of_somebody_who_is_not_let_in_any_more(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = Admission()
    teller = await teller_of(world, nursery, admission=admission)
    go_on = trio.Event()
    put = teller.mailbox.store.put

    async def wait(*args: Any, **options: Any) -> PutResult:
        await go_on.wait()
        return await put(*args, **options)

    monkeypatch.setattr(teller.mailbox.store, "put", wait)
    for seq in range(3):
        await teller.tell(teller.message(seq, b"%d" % seq))
    admission.distrust(teller.transport.local)
    go_on.set()
    await trio.sleep(1)
    assert await held(teller.mailbox) == {0: b"0"}  # which was on its way to the disk


async def test_what_waits_of_several_is_stored_together(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await teller_of(world, nursery)
    tellers = [await introduced(Teller(world, first.mailbox, number), nursery) for number in range(1, 7)]
    store, go_on = first.mailbox.store, trio.Event()
    put, under_way, most = store.put, 0, 0

    async def wait(*args: Any, **options: Any) -> PutResult:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await go_on.wait()
        result = await put(*args, **options)
        await trio.sleep(0.01)
        under_way -= 1
        return result

    monkeypatch.setattr(store, "put", wait)
    await first.tell(first.message(0, b"0"))
    for number, teller in enumerate(tellers, 1):
        log = LogName("topic", f"log {number}")
        await teller.tell(teller.message(0, b"first", name=log))
        await teller.tell(teller.message(1, b"second", name=log))
    assert most == 1
    go_on.set()
    await trio.sleep(1)
    assert most == len(tellers)  # of each its first; its second only then, as it follows it
    for number in range(1, 7):
        assert await held(first.mailbox, LogName("topic", f"log {number}")) == {0: b"first", 1: b"second"}


async def test_more_than_can_wait_is_asked_for(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all together, and sooner of one alone: it must not have the others wait for what it says without end."""
    first = await teller_of(world, nursery)
    count = HINTS_WAITING_MAX // HINTS_OF_ONE_WAITING_MAX
    tellers = [await introduced(Teller(world, first.mailbox, number), nursery) for number in range(1, count + 2)]
    go_on = trio.Event()
    put = first.mailbox.store.put

    async def wait(*args: Any, **options: Any) -> PutResult:
        await go_on.wait()
        return await put(*args, **options)

    monkeypatch.setattr(first.mailbox.store, "put", wait)
    await first.tell(first.message(0, b"on its way to the disk"))
    asked: list[bool] = []
    for number, teller in enumerate(tellers):
        for seq in range(HINTS_OF_ONE_WAITING_MAX + 1):
            log = LogName("topic", f"log {number}")
            asked.append(bool(await teller.tell(teller.message(seq, b"x", name=log))))
            peer = first.mailbox.core.engine.table.get(teller.transport.local)
            assert peer is not None
            peer.due_at = trio.current_time() + 1e5
    of_each = [False] * HINTS_OF_ONE_WAITING_MAX + [True]
    assert asked == of_each * count + [True] * (HINTS_OF_ONE_WAITING_MAX + 1)
    go_on.set()
    await trio.sleep(1)
    for number in range(count):
        assert len(await held(first.mailbox, LogName("topic", f"log {number}"))) == HINTS_OF_ONE_WAITING_MAX
    await tellers[0].tell(tellers[0].message(HINTS_OF_ONE_WAITING_MAX, b"later", name=LogName("topic", "log 0")))
    assert HINTS_OF_ONE_WAITING_MAX in await held(first.mailbox, LogName("topic", "log 0"))
