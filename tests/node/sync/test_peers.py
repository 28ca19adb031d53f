"""The peer table: bounded, and strangers can't push out those who count."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from node.sync.peers import Peer, PeerState, PeerTable, SyncReport
from protocols.addresses import PeerAddress
from protocols.limits.replication import PEERS_MAX
from protocols.model import MailboxId
from protocols.sync.session import Checkpoint


def identity(number: int) -> MailboxId:
    return MailboxId(number.to_bytes(32, "big"))


def full_table(state: PeerState) -> PeerTable:
    table = PeerTable()
    for number in range(PEERS_MAX):
        added = table.add(identity(number), now_at=float(number))
        assert added and not added[1]
        added[0].state = state
    return table


def test_the_same_mailbox_stands_there_once() -> None:
    table = PeerTable()
    first, again = table.add(identity(1), now_at=1.0), table.add(identity(1), now_at=2.0)
    assert first and again and first[0] is again[0]
    assert again[0].last_seen_at == 1.0
    assert table.all() == [first[0]]


@pytest.mark.parametrize("state", [PeerState.UNREACHABLE, PeerState.REFUSED])
def test_a_new_one_takes_the_place_of_the_useless_one_unseen_for_longest(state: PeerState) -> None:
    table = full_table(state)
    seen = table.get(identity(0))
    assert seen
    seen.last_seen_at = 1e6
    added = table.add(identity(PEERS_MAX), now_at=1e6)
    assert added
    assert [peer.mailbox_id for peer in added[1]] == [identity(1)]
    assert table.get(identity(1)) is None
    assert table.get(identity(PEERS_MAX)) is added[0]
    assert len(table.all()) == PEERS_MAX


@pytest.mark.parametrize("state", [PeerState.IN_SYNC, PeerState.SYNCING, PeerState.BEHIND])
def test_those_we_are_in_touch_with_stay(state: PeerState) -> None:
    table = full_table(state)
    assert table.add(identity(PEERS_MAX), now_at=1e6) is None
    assert table.get(identity(PEERS_MAX)) is None
    assert len(table.all()) == PEERS_MAX


def test_the_users_own_and_those_in_a_session_stay() -> None:
    table = full_table(PeerState.UNREACHABLE)
    for number, peer in enumerate(table.all()):
        if number % 2:
            peer.fixed = frozenset({PeerAddress("192.0.2.1", 4001, peer.mailbox_id)})
        else:
            peer.sessions = 1
    assert table.add(identity(PEERS_MAX), now_at=1e6) is None


async def test_while_it_is_shunned_it_stays_refused(autojump_clock: MockClock) -> None:
    peer = Peer(identity(1))
    peer.shunned_until_at = trio.current_time() + 60
    assert peer.stand(PeerState.REFUSED, "it lied")
    assert not peer.stand(PeerState.UNREACHABLE, "the connection was lost")
    assert (peer.state, peer.reason) == (PeerState.REFUSED, "it lied")
    await trio.sleep(61)
    assert peer.stand(PeerState.IN_SYNC, "")
    assert not peer.stand(PeerState.IN_SYNC, "as before")


async def test_whoever_waits_is_answered_once_and_may_be_gone() -> None:
    peer = Peer(identity(1))
    send, receive = trio.open_memory_channel[SyncReport](1)
    gone, nobody = trio.open_memory_channel[SyncReport](1)
    nobody.close()
    peer.waiting = [gone, send]
    peer.answer(SyncReport(peer.mailbox_id))
    peer.answer(SyncReport(peer.mailbox_id, error="a second answer"))
    assert receive.receive_nowait().error is None
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()


def test_an_older_picture_does_not_replace_a_newer_one() -> None:
    peer = Peer(MailboxId(bytes(32)))
    for serial in (3, 5, 4):
        peer.agreed(Checkpoint(serial))
    assert peer.checkpoint == Checkpoint(5)
    peer.agreed(Checkpoint(4, b"other topics"))
    assert peer.checkpoint == Checkpoint(4, b"other topics")


def address(number: int, port: int = 4001) -> PeerAddress:
    return PeerAddress("192.0.2.1", port, identity(number))


def test_who_is_named_no_longer_goes_unless_discovery_knows_it() -> None:
    table = PeerTable()
    for number in (1, 2, 3):
        table.add(identity(number), now_at=0.0)
    changed, gone = table.name([address(1), address(1, 4002), address(2)])
    assert [peer.mailbox_id for peer in changed] == [identity(1), identity(2)]
    assert gone == []
    assert changed[0].addresses == [address(1), address(1, 4002)]
    changed[1].discovered = frozenset({address(2, 5000)})
    changed, gone = table.name([address(3)])
    assert [peer.mailbox_id for peer in changed] == [identity(2), identity(3)]
    assert [peer.mailbox_id for peer in gone] == [identity(1)]
    assert table.get(identity(1)) is None
    assert table.name([address(3)]) == ([], [])
