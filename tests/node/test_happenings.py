"""What is told as events, in a world of mailboxes in memory."""

from __future__ import annotations

from dataclasses import replace

import trio
import trio.testing

from node.events import Event, EventKind, Events
from node.happenings import tell_of
from node.standing import is_strange, standing
from node.store.api import StoreFull
from node.sync.peers import Peer, PeerState
from protocols.addresses import PeerAddress
from protocols.model import LogName, MailboxId
from tests.memory_world import SimulatedMailbox, World

LOG = LogName("topic", "log")


def events_of(mailbox: SimulatedMailbox) -> Events:
    events = Events(mailbox.clock)
    tell_of(mailbox.core, events)
    return events


def of_kind(events: Events, kind: EventKind) -> list[Event]:
    return [event for event in events.recent(1000) if event.kind is kind]


async def test_syncs_add_up_to_one_event(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        a = await world.start("a")
        events = events_of(a)
        b = await world.start("b", peers=(a,))
        await trio.sleep(5)
        for seq in range(3):
            await b.core.mailbox.deliver([(LOG, seq, b"x")])
            await trio.sleep(5)
        synced = of_kind(events, EventKind.SYNCED)
        assert {event.mailbox_id for event in synced} == {b.mailbox_id}
        assert any("3 received" in event.text for event in synced)
        assert len(synced) <= 2
        await trio.sleep(600)
        await b.core.mailbox.deliver([(LOG, 3, b"x")])
        await trio.sleep(5)
        assert of_kind(events, EventKind.SYNCED)[0].text == "in step: 1 received"
        nursery.cancel_scope.cancel()


async def test_a_neighbour_that_goes_and_comes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        a = await world.start("a")
        events = events_of(a)
        b = await world.start("b", peers=(a,))
        await trio.sleep(5)
        world.network.isolate(b.mailbox_id)
        await trio.sleep(100)
        assert [event.mailbox_id for event in of_kind(events, EventKind.LOST)] == [b.mailbox_id]
        peer = a.core.engine.table.get(b.mailbox_id)
        assert peer is not None
        assert standing(peer) == "away"
        world.network.heal_all()
        await trio.sleep(100)
        assert [event.mailbox_id for event in of_kind(events, EventKind.MET)] == [b.mailbox_id]
        assert standing(peer) == "same"
        nursery.cancel_scope.cancel()


async def test_a_refusal_is_told_once_however_often_it_is_tried(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        a = await world.start("a")
        events = events_of(a)
        b = await world.start("b", peers=(a,))
        await trio.sleep(5)
        b.clock.error_s = 3600.0
        await trio.sleep(600)
        (refused,) = of_kind(events, EventKind.REFUSED)
        assert "clocks differ" in refused.text
        assert refused.times > 1
        peer = a.core.engine.table.get(b.mailbox_id)
        assert peer is not None
        assert standing(peer) == "clock"
        nursery.cancel_scope.cancel()


async def test_trouble_with_the_store(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        a = await World(nursery).start("a")
        events = events_of(a)
        await a.store.limit_storage(1000)
        for _ in range(5):
            try:
                await a.core.mailbox.deliver([(LOG, 0, b"x" * 100_000)])
            except StoreFull:
                await trio.sleep(1)
        (trouble,) = of_kind(events, EventKind.STORE)
        assert trouble.times == 5
        nursery.cancel_scope.cancel()


def test_whose_trouble_a_mailbox_is() -> None:
    """Named ones and those that were in step are the user's own; what a stranger's mailbox wants is not."""
    there = frozenset({PeerAddress("10.0.0.2", 4001, MailboxId(b"1" * 32))})
    stranger = Peer(MailboxId(b"1" * 32), state=PeerState.REFUSED, refusal="admission", discovered=there)
    assert is_strange(stranger)
    assert not is_strange(replace(stranger, fixed=there))
    assert not is_strange(replace(stranger, last_sync_s=1.0))
    assert not is_strange(replace(stranger, refusal="clock"))  # whose clock is wrong can't be told from here
    assert not is_strange(replace(stranger, state=PeerState.UNREACHABLE))  # it may be our firewall
    assert not is_strange(replace(stranger, state=PeerState.IN_SYNC))
