"""What a mailbox announces: small messages come with the hint about them, and the rest is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from trio.testing import MockClock

from node.store.api import Arrival
from protocols.limits.replication import HINT_COALESCE_S
from protocols.limits.sync import (
    HINT_CONTENT_BYTES_MAX,
    HINT_MESSAGES_MAX,
)
from protocols.model import LogName, Retention, digest_of
from protocols.sync.interest import Interest
from tests.memory_world import World
from tests.node.sync.hints_said import HOUR_S, LOG, held, met, said_by, sessions


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery, seed=1)
        nursery.cancel_scope.cancel()


async def test_a_small_message_needs_no_session(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    c = await world.start("c", peers=(a, b), sync_interval_s=1e6)
    await met(a, b, c)
    before = sessions(a, b, c)
    told, heard = a.core.engine.table.get(b.mailbox_id), b.core.engine.table.get(a.mailbox_id)
    assert told and heard
    bytes_before = (told.bytes_out, heard.bytes_in)
    await a.core.mailbox.deliver([(LOG, 0, b"zero"), (LOG, 1, b"one")])
    await trio.sleep(2 * HINT_COALESCE_S)
    for other in (b, c):
        assert await held(other) == {0: b"zero", 1: b"one"}
        assert await other.fingerprint() == await a.fingerprint()
        assert other.core.engine.counters.synced_in == 2
    await trio.sleep(100)
    assert sessions(a, b, c) == before
    assert a.core.engine.counters.synced_out == 4
    assert b.core.engine.counters.synced_out == 0
    # Their bytes count on both sides, with those of sessions.
    assert told.bytes_out - bytes_before[0] == heard.bytes_in - bytes_before[1] > len(b"zeroone")


@pytest.mark.parametrize(
    "messages",
    [
        [(LOG, 0, bytes(HINT_CONTENT_BYTES_MAX))],
        [(LOG, seq, b"%d" % seq) for seq in range(HINT_MESSAGES_MAX + 1)],
        [(LOG, seq, bytes(HINT_CONTENT_BYTES_MAX // 3)) for seq in range(3)],
    ],
    ids=["large", "many", "some of it would"],
)
async def test_what_does_not_fit_takes_a_session(
    world: World,
    autojump_clock: MockClock,
    messages: Sequence[tuple[LogName, int, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    await met(a, b)
    said, before = said_by(a, monkeypatch), sessions(b)
    other = LogName("topic", "other")
    for message in messages:
        await a.core.mailbox.deliver([message])
    await a.core.mailbox.deliver([(other, seq, bytes(1000)) for seq in range(7)])
    await trio.sleep(2)
    assert [[one.name for one in hint.messages] for hint in said] == [[other] * 7]
    assert await held(b) == {seq: blob for _, seq, blob in messages}
    assert len(await held(b, other)) == 7
    assert b.core.engine.counters.synced_in == len(messages) + 7  # nothing came twice
    assert sessions(b) == before + 1


async def test_while_nothing_can_be_announced_no_more_than_its_bound_waits(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.sync.news.HINT_LOGS_PENDING_MAX", 10)
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    await met(a, b)
    go_on = trio.Event()
    publish = a.core.transport.publish

    async def wait(channel: str, data: bytes) -> None:
        await go_on.wait()
        await publish(channel, data)

    monkeypatch.setattr(a.core.transport, "publish", wait)
    for number in range(100):
        await a.core.mailbox.deliver([(LogName("topic", f"log {number}"), 0, b"news")])
        await trio.sleep(HINT_COALESCE_S / 10)
        assert a.core.engine.news.logs_waiting <= 10
    go_on.set()
    await trio.sleep(5)
    assert await b.fingerprint() == await a.fingerprint()


async def test_what_is_missing_before_it_is_asked_for(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    await met(a, b)

    async def lose(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    with monkeypatch.context() as lossy:
        lossy.setattr(a.core.transport, "publish", lose)
        await a.core.mailbox.deliver([(LOG, 0, b"zero")])
        await trio.sleep(1)
        assert await held(b) == {}
    before = sessions(b)
    await a.core.mailbox.deliver([(LOG, 1, b"one")])
    await trio.sleep(1)
    assert await held(b) == {0: b"zero", 1: b"one"}
    assert b.core.engine.counters.synced_in == 2
    assert sessions(b) == before + 1


async def test_phones_are_not_asked_for_what_died_before_the_log_was_met(
    world: World, autojump_clock: MockClock
) -> None:
    """The watermark comes with a session, and with the hints only what begins right above it."""
    retention = Retention(2 * HOUR_S)
    a = await world.start("a", sync_interval_s=1e6, retention=retention)
    await a.core.mailbox.deliver([(LOG, seq, b"%d" % seq) for seq in range(3)])
    await trio.sleep(4 * HOUR_S)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6, retention=retention)
    await met(a, b)
    for seq, asked in ((3, 1), (4, 0)):
        before = sessions(b)
        await a.core.mailbox.deliver([(LOG, seq, b"news")])
        await trio.sleep(2)
        assert await held(b) == dict.fromkeys(range(3, seq + 1), b"news")
        page = await b.core.mailbox.read({LOG.topic: {LOG.log: seq}})
        assert [entry.missing for entry in page.entries] in ([], [[]])
        assert sessions(b) == before + asked
    await trio.sleep(4 * HOUR_S)
    before = sessions(b)
    await a.core.mailbox.deliver([(LOG, 5, b"news")])
    await trio.sleep(2)
    assert await held(b) == {5: b"news"}
    assert sessions(b) == before  # nothing is held of the log, but everything was


async def test_phones_are_not_asked_for_what_is_gone_where_it_was(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    await met(a, b)
    await a.core.mailbox.deliver([(LOG, 0, b"zero")])
    await trio.sleep(2)

    async def lose(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    with monkeypatch.context() as lossy:
        lossy.setattr(a.core.transport, "publish", lose)
        old_s = a.core.mailbox.alive_from_s() + HOUR_S
        await a.store.put([Arrival(LOG, 1, b"one", digest_of(b"one"), old_s)])
        await trio.sleep(2)
    await a.store.expire(old_s + 1, messages_max=10)
    for seq in (2, 3):
        await a.core.mailbox.deliver([(LOG, seq, b"news")])
        await trio.sleep(2)
    assert await held(b) == {0: b"zero", 2: b"news", 3: b"news"}
    page = await b.core.mailbox.read({LOG.topic: {LOG.log: 3}})
    assert [entry.missing for entry in page.entries] in ([], [[]])


async def test_of_those_who_were_given_the_same_mostly_one_speaks(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone gives its message to all mailboxes that it sees."""
    crowd = [await world.start("0", sync_interval_s=1e6)]
    for number in range(1, 10):
        crowd.append(await world.start(f"{number}", peers=tuple(crowd), sync_interval_s=1e6))
    await met(*crowd)
    said = [hint for mailbox in crowd for hint in [said_by(mailbox, monkeypatch)]]
    before = sessions(*crowd)
    for seq in range(20):
        for mailbox in crowd:
            await mailbox.core.mailbox.deliver([(LOG, seq, b"%d" % seq)])
        await trio.sleep(1)
    assert sum(bool(hint.messages) for hints in said for hint in hints) <= 2 * 20
    assert sessions(*crowd) == before


async def test_where_most_have_it_the_others_ask(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LAN of three, one of which has a neighbour elsewhere: that one is told, the others get nothing twice."""
    a = await world.start("a", sync_interval_s=1e6)
    b = await world.start("b", peers=(a,), sync_interval_s=1e6)
    gate = await world.start("gate", peers=(a, b), sync_interval_s=1e6)
    await met(a, b, gate)
    far = await world.start("far", peers=(gate,), sync_interval_s=1e6)
    await met(gate, far)
    said = said_by(gate, monkeypatch)
    await a.core.mailbox.deliver([(LOG, 0, b"news")])
    await trio.sleep(2)
    assert await held(far) == {0: b"news"}
    assert [len(hint.messages) for hint in said] == [0]


async def test_what_others_do_not_keep_is_not_sent_to_them(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.start("a", sync_interval_s=1e6)
    picky = await world.start("picky", peers=(a,), sync_interval_s=1e6, interest=Interest.of(["wanted"]))
    await met(a, picky)
    said = said_by(a, monkeypatch)
    for topic in ("wanted", "unwanted"):
        await a.core.mailbox.deliver([(LogName(topic, "log"), 0, b"news")])
        await trio.sleep(2)
    assert [[one.name.topic for one in hint.messages] for hint in said] == [["wanted"], []]
    assert await held(picky, LogName("wanted", "log")) == {0: b"news"}
    assert await held(picky, LogName("unwanted", "log")) == {}
