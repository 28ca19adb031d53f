"""Sessions that are each within their bounds, one after the other without end: a share for each, and then a pause."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress

import pytest
import trio
from trio.testing import MockClock

from node.aside import inline
from node.store.memory import MemoryStore
from node.sync import budgets
from node.sync.budgets import Budgets
from node.sync.claims import Claims
from node.sync.driver import SessionTraffic, run_session
from node.sync.engine import SYNC_PROTOCOL
from node.sync.index import LogIndex
from node.sync.peers import PeerState
from node.transport.api import PeerUnreachable, StreamBroken
from node.transport.memory import MemoryTransport
from protocols.limits.replication import PEER_BUDGET_S, PEER_RESUME_S, PEER_SHARE
from protocols.limits.sync import SALT_BYTES
from protocols.limits.units import KIB, MIB
from protocols.model import LogName, MailboxId, Retention
from protocols.sync.codec import encode
from protocols.sync.messages import Hello
from protocols.sync.session import SessionConfig, SessionRefused, SessionResult, initiate
from protocols.sync.wire import encode_frame
from tests.memory_world import SimulatedMailbox, World

BLOB_BYTES = 256 * KIB
COPY_BYTES = 4 * MIB


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with inline():  # what sessions cost is then an estimate, by what they move
        async with trio.open_nursery() as nursery:
            yield World(nursery, seed=1)
            nursery.cancel_scope.cancel()


class Wasteful:
    """A mailbox that loses everything after each session, and begins anew at once."""

    def __init__(self, world: World, mailbox: SimulatedMailbox, number: int = 255) -> None:
        self.transport = MemoryTransport(world.network, MailboxId(bytes(31) + bytes([number])))
        self.mailbox = mailbox
        self.received_bytes = 0
        self.refused: list[SessionRefused] = []
        self.salt = random.Random(number)

    async def meet(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.transport.run)
        await self.transport.connect(self.mailbox.core.transport.addresses())

    async def fetch(self) -> None:
        """One session."""
        config = SessionConfig(
            now_s=self.mailbox.clock.now_s(),
            retention=Retention(),
            network="sim",
            software="wasteful/1",
            salt=self.salt.randbytes(SALT_BYTES),
        )
        progress = SessionResult()
        async with MemoryStore() as store:
            stream = await self.transport.open_stream(self.mailbox.mailbox_id, SYNC_PROTOCOL)
            index = LogIndex(store)
            await index.load()
            try:
                await run_session(
                    initiate(config, progress),
                    stream,
                    store=store,
                    index=index,
                    claims=Claims(),
                    traffic=SessionTraffic(),
                    is_full=lambda: False,
                    turns=trio.Lock(),
                )
            except SessionRefused as error:
                self.refused.append(error)
            finally:
                self.received_bytes += progress.received_bytes
                with suppress(StreamBroken):
                    await stream.close()


async def fill(mailbox: SimulatedMailbox) -> None:
    blobs = random.Random(7)
    messages = [(LogName("t", "l"), seq, blobs.randbytes(BLOB_BYTES)) for seq in range(COPY_BYTES // BLOB_BYTES)]
    await mailbox.core.mailbox.deliver(messages)


async def test_the_same_messages_time_after_time(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Two copies are for nothing; then they count, and in the end it has to wait; and so it goes on."""
    monkeypatch.setattr(budgets, "NEWCOMERS_BUDGET_S", 20.0)
    mailbox = await world.start("mailbox", sync_interval_s=100_000.0)
    await fill(mailbox)
    wasteful = Wasteful(world, mailbox)
    async with trio.open_nursery() as nursery:
        await wasteful.meet(nursery)
        while not wasteful.refused:
            await wasteful.fetch()
        begun_with_bytes = 2.0 / budgets.COST_BYTE_S
        assert 2 * COPY_BYTES + begun_with_bytes / 2 < wasteful.received_bytes < 3 * COPY_BYTES + begun_with_bytes
        assert wasteful.refused[-1].by_peer
        assert 1 <= wasteful.refused[-1].pause_s <= 60
        await wasteful.fetch()
        peer = mailbox.core.engine.table.get(wasteful.transport.local)
        assert peer is not None
        assert peer.state is PeerState.BEHIND
        assert "used up its share" in peer.reason
        so_far_bytes, begun_at = wasteful.received_bytes, trio.current_time()
        while trio.current_time() < begun_at + 200:
            await wasteful.fetch()
            await trio.sleep(wasteful.refused[-1].pause_s)
        share_bytes = 260 * PEER_SHARE / budgets.COST_BYTE_S
        assert wasteful.received_bytes - so_far_bytes < share_bytes
        nursery.cancel_scope.cancel()


async def test_who_is_told_to_wait_does(world: World, autojump_clock: MockClock) -> None:
    """An honest mailbox that was put off asks again when it may, and not before."""
    one = await world.start("one", sync_interval_s=1.0)
    other = await world.start("other", peers=(one,), sync_interval_s=1.0)
    await trio.sleep(5)
    account = one.core.engine.budgets._account(other.mailbox_id)
    one.core.engine.budgets.charge(account, 2 * PEER_BUDGET_S)
    sessions = other.core.engine.counters.sessions
    await trio.sleep(60)
    at_other, at_one = other.core.engine.table.get(one.mailbox_id), one.core.engine.table.get(other.mailbox_id)
    assert at_one is not None and at_other is not None
    assert (at_one.state, at_other.state) == (PeerState.BEHIND, PeerState.BEHIND)
    assert "is put off for" in at_one.reason
    assert "come back when" in at_other.reason
    assert other.core.engine.counters.sessions <= sessions + 3
    await other.core.mailbox.deliver([(LogName("t", "l"), 0, b"news")])
    await trio.sleep((PEER_BUDGET_S + PEER_RESUME_S) / PEER_SHARE + 60)
    assert await one.fingerprint() == await other.fingerprint()
    assert (at_one.state, at_other.state) == (PeerState.IN_SYNC, PeerState.IN_SYNC)


@pytest.mark.parametrize("measured", [False, True])
async def test_a_bulk_of_new_messages_is_worth_what_it_costs(
    measured: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Two strangers who have next to no budget move as much as there is, both ways."""
    monkeypatch.setattr(budgets, "NEWCOMERS_BUDGET_S", 0.0)
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed=1)
        with nullcontext() if measured else inline():
            one = await world.start("one", sync_interval_s=100_000.0)
            other = await world.start("other", sync_interval_s=100_000.0)
            for mailbox, log in ((one, "a"), (other, "b")):
                for part in range(4):
                    messages = [(LogName(f"t{part}", log), seq, b"%d %d" % (part, seq)) for seq in range(1000)]
                    await mailbox.core.mailbox.deliver(messages)
            await other.core.transport.connect(one.core.transport.addresses())
            await trio.sleep(60)
            assert await one.fingerprint() == await other.fingerprint()
        for here, there in ((one, other), (other, one)):
            assert here.core.engine.counters.synced_in == 4_000
            assert here.core.engine.budgets.used_s(there.mailbox_id) <= PEER_BUDGET_S
            assert not here.core.engine.budgets.pause_s(there.mailbox_id)
        nursery.cancel_scope.cancel()


async def test_many_strangers_have_one_share_together(world: World, autojump_clock: MockClock) -> None:
    """However many identities: what is left for one in need is a part of what is for all; a friend has its own."""
    async with MemoryStore() as store:
        friend = MailboxId(bytes(32))
        accounts = Budgets(store, has_own_share=lambda mailbox_id: mailbox_id == friend)
        strangers = [MailboxId(number.to_bytes(32, "big")) for number in range(1, 201)]
        for mailbox_id in (friend, *strangers):
            accounts.charge(accounts._account(mailbox_id), 2 * PEER_BUDGET_S)
        await trio.sleep(20)
        assert accounts.pause_s(friend) < PEER_BUDGET_S / PEER_SHARE
        before_s = sum(accounts.used_s(mailbox_id) for mailbox_id in strangers)
        await trio.sleep(100)
        filled_s = before_s - sum(accounts.used_s(mailbox_id) for mailbox_id in strangers)
        assert 45 < filled_s < 51
        begins_with_s = [PEER_BUDGET_S - accounts.used_s(mailbox_id) for mailbox_id in _new(accounts, 100)]
        assert sum(begins_with_s) < 20


def _new(accounts: Budgets, how_many: int) -> list[MailboxId]:
    new = [MailboxId(b"\xff" * 30 + number.to_bytes(2, "big")) for number in range(how_many)]
    for mailbox_id in new:
        accounts.begin(mailbox_id, SessionTraffic(), SessionResult())
    return new


async def test_sessions_for_nothing_end_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Hellos without end: little each time, and no more than a share of it together; others notice nothing."""
    monkeypatch.setattr(budgets, "NEWCOMERS_BUDGET_S", 10.0)
    mailbox = await world.start("mailbox", sync_interval_s=100_000.0)
    friend = await world.start("friend", peers=(mailbox,))
    hello = Hello(2, 2, "another", 0, 3600, 0, "liar", bytes(SALT_BYTES), b"")
    liar = MemoryTransport(world.network, MailboxId(bytes(32)))
    answers: list[bytes] = []

    async def ask_for_ever() -> None:
        while not answers or b"share of this mailbox" not in answers[-1]:
            with suppress(StreamBroken, PeerUnreachable):
                stream = await liar.open_stream(mailbox.mailbox_id, SYNC_PROTOCOL)
                await stream.send_all(encode_frame(encode(hello)))
                answers.append(await stream.receive_some(1000))
                await stream.abort()

    async with trio.open_nursery() as nursery:
        await nursery.start(liar.run)
        await liar.connect(mailbox.core.transport.addresses())
        with trio.fail_after(PEER_BUDGET_S):
            async with trio.open_nursery() as attackers:
                for _ in range(4):
                    attackers.start_soon(ask_for_ever)
        assert b"networks" in answers[0]
        assert len(answers) > 100
        await friend.core.mailbox.deliver([(LogName("t", "l"), 0, b"news")])
        await trio.sleep(2)
        assert await friend.fingerprint() == await mailbox.fingerprint()
        nursery.cancel_scope.cancel()
