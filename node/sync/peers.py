"""The mailboxes that we know: where they are, how we stand with them, and when to talk to them next."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

import trio

from node.sync.pause import Pause
from node.sync.refusals import put_off
from protocols.addresses import PeerAddress
from protocols.limits.replication import (
    HINT_COALESCE_S,
    HINT_PAUSE_MAX_S,
    HINT_SPREAD_S,
    HINTS_VAIN_MAX,
    PEER_DIAL_GRACE_S,
    PEER_IDLE_DOUBLINGS_MAX,
    PEER_SHUN_FIRST_S,
    PEER_SHUN_MAX_S,
    PEERS_MAX,
    SYNC_CALM_DOUBLINGS_MAX,
    SYNC_FEW_PEERS,
    SYNC_SESSIONS_IN_MAX,
)
from protocols.model import MailboxId
from protocols.sync.interest import is_within
from protocols.sync.session import Checkpoint, SessionRefused, SessionResult

__all__ = [
    "NO_ROOM_HERE",
    "NO_ROOM_THERE",
    "EngineCounters",
    "Peer",
    "PeerState",
    "PeerTable",
    "SessionEnd",
    "SyncProgress",
    "SyncReport",
    "sync_with",
]


NO_ROOM_HERE: Final = "this mailbox has no room left: its disk is full, or its storage limit is reached"
NO_ROOM_THERE: Final = "it has no room left"
"""Two of the reasons for which a peer is behind, which people can do something about."""


class PeerState(enum.Enum):
    """How we stand with a peer; the values are those of `status --json`."""

    IN_SYNC = "in-sync"
    SYNCING = "syncing"
    BEHIND = "behind"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


@dataclass(slots=True)
class EngineCounters:
    """Messages that came in from, and went out to, other mailboxes since the start, in sessions or with hints (they
    count for each who lacked them as far as is known), and what the sessions took. A session and its round trips
    count on both sides, whoever opened it, also if it broke."""

    synced_in: int = 0
    synced_out: int = 0
    sessions: int = 0
    round_trips: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How one attempt to sync with a peer ended. `error` is None if both hold the same now."""

    mailbox_id: MailboxId
    received: int = 0
    sent: int = 0
    bytes: int = 0
    round_trips: int = 0
    error: str | None = None


class SessionEnd(NamedTuple):
    """One session that is over. `began_at` is trio's clock, `result` what it did until then; `error` says why it
    failed, None if it did not."""

    peer: MailboxId
    incoming: bool
    began_at: float
    result: SessionResult
    bytes_in: int
    bytes_out: int
    error: str | None


class SyncProgress(NamedTuple):
    """Messages moved so far. `expected` are those that are known to be missing here (more may be found)."""

    received: int
    received_bytes: int
    expected: int
    sent: int


@dataclass(slots=True)
class Peer:
    """One other mailbox. Times named `_at` are trio's clock, times named `_s` Unix seconds."""

    mailbox_id: MailboxId
    fixed: frozenset[PeerAddress] = frozenset()
    discovered: frozenset[PeerAddress] = frozenset()
    state: PeerState = PeerState.BEHIND
    reason: str = "not met yet"
    refusal: str = ""
    """The code with which one of the two refused the last session, as in the sync spec; empty if that is not why."""
    settled: PeerState = PeerState.BEHIND
    """The last state but `SYNCING`: several sessions at once don't make the same state news."""
    last_sync_s: float | None = None
    last_sync_bytes: int = 0
    last_sync_round_trips: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    """Over all sessions since the start, whoever opened them, and all hints."""
    software: str = ""
    due_at: float = 0.0
    failures: int = 0
    strikes: int = 0
    proven: bool = False
    """Whether the last session with it went well."""
    shunned_until_at: float = 0.0
    asks_until_at: float = 0.0
    """Until then it has asked not to be asked."""
    last_seen_at: float = 0.0
    sessions: int = 0
    idle_syncs: int = 0
    """Full syncs in a row that found differences and could move nothing."""
    calm_syncs: int = 0
    """Full syncs in a row that found both equal."""
    checkpoint: Checkpoint | None = None
    """A picture of ours from when the two held the same; news since then are all that need be told."""
    interest: bytes | None = None
    """The topics that it keeps in step, as of the last session (`Interest.packed`, to save memory); None: all."""
    topics_shared: int | None = None
    """How many topics the last session covered; None: all."""
    under_way: list[SessionResult] = field(default_factory=list)
    """What the sessions that are running have done so far."""
    hinted: dict[bytes, bytes] = field(default_factory=dict)
    """Handle -> state prefix of logs in which the peer has announced news."""
    ask_at: float = 0.0
    """When to ask for what is hinted."""
    session_s: float = math.inf
    """How long the quickest session took in which it gave us news; infinite before there was one."""
    told_of_much: bool = False
    """Whether it has announced more than can be listed, and has not been synced with since."""
    vain_hints: int = 0
    """Sessions in a row that followed its hints and brought nothing."""
    pause: Pause = field(default_factory=Pause)
    """That of the peer's task, while there is nothing to do with it."""
    waiting: list[trio.MemorySendChannel[SyncReport]] = field(default_factory=list)

    @property
    def progress(self) -> SyncProgress | None:
        """What the sessions under way have moved so far, None if there are none."""
        if not self.under_way:
            return None
        return SyncProgress(
            received=sum(result.received for result in self.under_way),
            received_bytes=sum(result.received_bytes for result in self.under_way),
            expected=sum(max(result.expected, result.received) for result in self.under_way),
            sent=sum(result.sent for result in self.under_way),
        )

    @property
    def addresses(self) -> list[PeerAddress]:
        """Every address that we know, the user's own first."""
        return [*sorted(self.fixed), *sorted(self.discovered - self.fixed)]

    @property
    def turn_s(self) -> float:
        """How far apart those should ask who are told its news: so far that half of its seats suffice."""
        return (
            HINT_SPREAD_S
            if math.isinf(self.session_s)
            else max(HINT_SPREAD_S, 2 * self.session_s / SYNC_SESSIONS_IN_MAX)
        )

    @property
    def trusted(self) -> bool:
        """Whether it keeps in step, as far as we know, or is the user's own choice."""
        return self.proven or bool(self.fixed)

    @property
    def hint_pause_s(self) -> float:
        """How long to wait before following its hints: longer if they have brought nothing lately."""
        doublings = self.vain_hints - HINTS_VAIN_MAX
        return min(HINT_PAUSE_MAX_S, HINT_COALESCE_S * 2.0**doublings) if doublings > 0 else 0.0

    def intervals_to_next(self, connected: int) -> float:
        """How many sync intervals after a sync the next one is due, give or take a fifth: one; more in a crowd (so many
        are connected), where hints bring everything, and where the two differ in what neither can help (one has no
        room). With whom the user named there is no taking turns: nobody else may bring what a lost hint was about."""
        crowd, doublings = 1, min(self.idle_syncs, PEER_IDLE_DOUBLINGS_MAX)
        if connected > SYNC_FEW_PEERS and not self.fixed:
            crowd, doublings = connected, max(doublings, min(self.calm_syncs, SYNC_CALM_DOUBLINGS_MAX))
        return crowd * 2.0**doublings

    def keeps(self, topic: str) -> bool:
        """Whether it keeps a topic, as far as is known."""
        return self.interest is None or is_within(self.interest, topic)

    def agreed(self, checkpoint: Checkpoint) -> None:
        """Takes what a session left. Of two that crossed the one that began first may end last: its picture is older,
        and what changed between the two would be told once more."""
        known = self.checkpoint
        if known is None or known.interest_id != checkpoint.interest_id or known.serial < checkpoint.serial:
            self.checkpoint = checkpoint

    def forget_hints(self) -> None:
        """Forgets what it has announced."""
        self.hinted.clear()
        self.told_of_much = False

    def has_followed_hint(self, result: SessionResult) -> None:
        """Notes what a session brought that followed its hint."""
        has_brought = result.received or result.merged or result.skipped
        self.vain_hints = 0 if has_brought else min(self.vain_hints + 1, 2 * HINTS_VAIN_MAX)

    def waits(self, busy: SessionRefused) -> str:
        """One of the two has too much to do; returns what people are told of it."""
        if not busy.by_peer:
            return put_off(busy.pause_s)
        self.asks_until_at = trio.current_time() + busy.pause_s
        return busy.text

    def shun(self) -> None:
        """It has broken the protocol, and is left alone for a while; longer, if it does so time after time."""
        self.strikes += 1
        shun_s = min(PEER_SHUN_MAX_S, PEER_SHUN_FIRST_S * 2.0 ** min(self.strikes - 1, 10))
        self.shunned_until_at = trio.current_time() + shun_s

    @property
    def next_at(self) -> float:
        """When there is something to do with it."""
        return min(self.due_at, self.ask_at) if self.hinted else self.due_at

    def is_due(self, now_at: float) -> bool:
        """Whether a full sync is to begin. Not while one is under way that the other side has begun, unless somebody
        waits for it: it counts for both, and a second one would have all compared again in the middle of a transfer."""
        if now_at >= self.due_at and any(one.full for one in self.under_way):
            self.due_at = now_at + PEER_DIAL_GRACE_S
        return bool(self.waiting) or now_at >= self.due_at

    def poke(self) -> None:
        """Has the peer's task look at once whether there is something to do."""
        self.pause.poke()

    def rearm(self) -> None:
        """Has the peer's task look when there is something to do: that is another time now."""
        self.pause.move(self.next_at)

    def stand(self, state: PeerState, reason: str, refusal: str = "") -> bool:
        """Notes how we stand; returns whether the state is another one now (the reason's figures may change always).
        While a peer is shunned it stays refused: why is worth more than what its other sessions or its connection do.
        """
        if trio.current_time() < self.shunned_until_at and state is not PeerState.REFUSED:
            return False
        self.state, self.reason = state, reason
        if state is PeerState.SYNCING:
            return False
        if state is not PeerState.REFUSED or refusal:  # what is only restored keeps it
            self.refusal = refusal
        news, self.settled = state is not self.settled, state
        return news

    def answer(self, report: SyncReport) -> None:
        """Tells everyone who waits for a sync with this peer."""
        waiting, self.waiting = self.waiting, []
        for channel in waiting:
            with suppress(trio.WouldBlock, trio.BrokenResourceError):  # whoever asked may have gone away
                channel.send_nowait(report)


class PeerTable:
    """All peers, at most PEERS_MAX: a flood of names can't push out those that the user named or that are connected."""

    def __init__(self, *, pause: Callable[[], Pause] = Pause) -> None:
        self._pause = pause
        self._peers: dict[MailboxId, Peer] = {}

    def get(self, mailbox_id: MailboxId) -> Peer | None:
        return self._peers.get(mailbox_id)

    def is_named(self, mailbox_id: MailboxId) -> bool:
        """Whether the user has named this mailbox."""
        peer = self._peers.get(mailbox_id)
        return peer is not None and bool(peer.fixed)

    def keeps(self, mailbox_id: MailboxId, topic: str) -> bool:
        """Whether a mailbox keeps a topic, as far as is known."""
        peer = self._peers.get(mailbox_id)
        return peer is None or peer.keeps(topic)

    def count(self, mailbox_id: MailboxId, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Notes what came from a mailbox or went to it outside of sessions."""
        if peer := self._peers.get(mailbox_id):
            peer.bytes_in += bytes_in
            peer.bytes_out += bytes_out

    def all(self) -> list[Peer]:
        """In the order of their ids."""
        return sorted(self._peers.values(), key=attrgetter("mailbox_id.public_key"))

    def unordered(self) -> Collection[Peer]:
        """In any order, without a copy."""
        return self._peers.values()

    def add(self, mailbox_id: MailboxId, *, now_at: float) -> tuple[Peer, list[Peer]] | None:
        """The peer of that id (made if it is new) and those that had to go for it; None if there is no room."""
        peer = self._peers.get(mailbox_id)
        if peer is not None:
            return peer, []
        gone: list[Peer] = []
        if len(self._peers) >= PEERS_MAX:
            useless = (PeerState.UNREACHABLE, PeerState.REFUSED)
            unused = [p for p in self._peers.values() if not p.fixed and not p.sessions and p.state in useless]
            if not unused:
                return None
            oldest = min(unused, key=lambda p: p.last_seen_at)
            self.remove(oldest)
            gone.append(oldest)
        peer = self._peers[mailbox_id] = Peer(mailbox_id, last_seen_at=now_at, pause=self._pause())
        return peer, gone

    def remove(self, peer: Peer) -> None:
        self._peers.pop(peer.mailbox_id, None)

    def name(self, addresses: Sequence[PeerAddress]) -> tuple[list[Peer], list[Peer]]:
        """Makes these the addresses that the user names. Returns the peers that have others than before, and those that
        nobody knows of any more, which are removed."""
        named: dict[MailboxId, frozenset[PeerAddress]] = {}
        for address in addresses:
            named[address.mailbox_id] = named.get(address.mailbox_id, frozenset()) | {address}
        changed = [peer for peer in self.all() if peer.fixed != named.get(peer.mailbox_id, frozenset())]
        for peer in changed:
            peer.fixed = named.get(peer.mailbox_id, frozenset())
        gone = [peer for peer in changed if not peer.addresses]
        for peer in gone:
            self.remove(peer)
        return [peer for peer in changed if peer.addresses], gone


async def sync_with(peers: Sequence[Peer]) -> list[SyncReport]:
    """Has each peer's task sync at once, and returns how it went."""
    send, receive = trio.open_memory_channel[SyncReport](len(peers))
    reports: list[SyncReport] = []
    async with send, receive:
        for peer in peers:
            peer.waiting.append(send)
            peer.poke()
        with suppress(trio.EndOfChannel):
            while len(reports) < len(peers):
                reports.append(await receive.receive())
    return sorted(reports, key=lambda report: report.mailbox_id)
