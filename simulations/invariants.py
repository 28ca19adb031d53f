"""What must hold in every world, whatever happens to it: each a small class that says who broke it, how and when."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from operator import attrgetter
from typing import Final

import trio

from node.store.api import StoredItem
from node.sync.peers import SessionEnd
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.discovery import NEIGHBOURS_LIVE_MAX, NEIGHBOURS_WAITING_MAX
from protocols.limits.replication import (
    CLAIMS_MAX,
    HINT_HEARD_MAX,
    HINT_LOGS_PENDING_MAX,
    PEER_SESSIONS_MAX,
    PEERS_MAX,
    SYNC_CALM_DOUBLINGS_MAX,
)
from protocols.limits.store import MESSAGE_OVERHEAD_BYTES
from protocols.limits.sync import INSIDE_ROWS_MAX, SESSION_ROUNDS_MAX
from protocols.model import LogName, MailboxId
from simulations.convergence import Convergence
from simulations.judges import Invariant, Judges
from simulations.machines import Host
from simulations.recorder import Way
from simulations.runtime import EPOCH_S

__all__ = ["INVARIANTS"]

_ROUND_TRIPS: Final = 8 + 2 * SESSION_ROUNDS_MAX + 4
"""What a session takes at the most beside what it moves: two first questions, survey, names, rows, blocks, a farewell
and one to spare, in each round a question and a transfer, as something may come in during each, and for the look inside
at the end rows, blocks, items and a transfer."""

_MESSAGES_A_ROUND_TRIP: Final = 16
"""With so many messages moved one more is allowed: they lie in a few logs, of which each may be asked about."""

_SESSION_BYTES: Final = 6_000
"""A session's own bytes, for the few hundred logs that simulated mailboxes hold."""

_INSIDE_BYTES: Final = 24 * INSIDE_ROWS_MAX
"""What the rows take that such a look compares, and names that are offered in vain: of a session that had anything to
ask about."""

_SHORT_ROUND_TRIPS: Final = 2
"""A survey and a farewell: such a session had nothing to ask about. The farewell of whoever began is one for the other
side only."""

_MESSAGE_BYTES: Final = 500
"""What finding and moving one message costs beside its blob, at the most, when it is alone in its log."""

_IDLE_BYTES: Final = 900
"""Two hellos with news of a few logs in them, a survey of 16 parts where these turn out to be in vain (400 bytes both
ways), and a farewell."""

_LARGE_PART: Final = 16
"""A topic with this part of a disk is not small."""

_HINTED: Final = attrgetter("hinted")
_SESSIONS: Final = attrgetter("sessions")

_ABOUT_ITS_END_S: Final = 60.0
"""A session that began before a message's end may still bring it."""

_SETS_DATES_APART_S: Final = 2.0 * CLOCK_SKEW_MAX_S
"""One mailbox may have dated a message late and another may let go of it late, each by the allowed skew."""


class FairEviction(Invariant):
    name = "fair-eviction"
    title = "Where there is no room, the topic that has most gives way, and small ones keep everything"

    def __init__(self, world: Judges) -> None:
        super().__init__(world)
        self._doubts: dict[tuple[str, str], tuple[float, int, int]] = {}
        """(mailbox, topic) -> when it was let go of, its bytes and the largest topic's: not known yet for whom."""

    def evicted(self, host: Host, removed: Sequence[StoredItem]) -> None:
        """Those that give way may have been large a moment ago; a quarter of the largest is still large. So is a part
        of the whole: whoever brings most gives way before it is asked for which topic, and may have brought no larger.
        """
        large = (host.spec.storage_limit_bytes or 0) // _LARGE_PART
        sizes = host.disk.content.bytes_by_topic()
        largest = max(sizes.values(), default=0)
        gone: dict[str, int] = {}
        for name, item in removed:
            if self.world.way_of(name, item.seq) is not None:  # else nobody wrote it: a liar has made it up
                gone[name.topic] = gone.get(name.topic, 0) + item.size + MESSAGE_OVERHEAD_BYTES
        for topic, size in gone.items():
            self.checks += 1
            held = size + sizes.get(topic, 0)
            if _is_small(held, largest, large):
                self._doubts[host.name, topic] = trio.current_time(), held, largest

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        """What gave way to more of the same topic, which made it large, gave way to itself."""
        doubt = self._doubts.get((host.name, stored.name.topic)) if self._doubts else None
        if doubt is not None and doubt[0] == trio.current_time():
            sizes = host.disk.content.bytes_by_topic()
            large = (host.spec.storage_limit_bytes or 0) // _LARGE_PART
            if not _is_small(sizes.get(stored.name.topic, 0), max(sizes.values()), large):
                del self._doubts[host.name, stored.name.topic]

    def sampled(self) -> None:
        for (name, topic), (at, held, largest) in self._doubts.items():
            self.broken(f"{name} let go of {topic} at {at:.3f} s, which took {held} bytes, beside one of {largest}")
        self._doubts.clear()


def _is_small(held: int, largest: int, large: int) -> bool:
    return 4 * held < largest and held < large


class Durability(Invariant):
    name = "durability"
    title = "What a mailbox acknowledged survives its crashes until it expires"

    def started(self, host: Host) -> None:
        self._check(host)

    def calm(self) -> None:
        for host in self.world.correct_hosts():
            self._check(host)

    def _check(self, host: Host) -> None:
        holding = self.world.recorder.holding(host.name)
        self.checks += len(holding.promised)
        for key in [key for key in holding.promised if key not in holding.keys]:
            way = self.world.way_of(*key)
            if way is None or not _may_be_alive(way, host):
                del holding.promised[key]
                continue
            self.broken(f"{host.name} had acknowledged {key[0].topic}/{key[0].log}/{key[1]} and does not hold it")


def _may_be_alive(way: Way, host: Host) -> bool:
    """Whether a mailbox may still be expected to hold a message. Its clock may have stepped since, in both directions,
    so it is left out as soon as any clock could have called it dead."""
    if not way.is_dated_well or not host.knows_the_date or host.clock.has_stepped:
        return False
    if way.first_stored_s is None:  # nobody has ever stored it, whatever was promised
        return True
    return way.first_stored_s + host.retention.retention_s > EPOCH_S + trio.current_time() + _SETS_DATES_APART_S


def _has_surely_died(way: Way | None, host: Host) -> bool:
    """Whether no correct mailbox can call a message alive any more."""
    if way is None or not way.delivered_s or not way.is_dated_well or not host.knows_the_date:
        return False
    dead_from_s = way.delivered_s + host.retention.retention_s + _SETS_DATES_APART_S
    return trio.current_time() > dead_from_s


class Expiry(Invariant):
    name = "expiry"
    title = "Nothing is served after its expiry and the allowed skew"

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        self.checks += 1
        way = self.world.way_of(name, seq)
        if way is not None and _has_surely_died(way, host):
            age_s = trio.current_time() - way.delivered_s
            self.broken(f"{host.name} served {name.topic}/{name.log}/{seq}, {age_s:.0f} s old")


class Frugality(Invariant):
    name = "frugality"
    title = "Round trips and bytes of a sync stay within bounds"

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        if end.error is not None or not self.world.is_correct(end.peer):
            return
        self.checks += 1
        result = end.result
        moved = result.received + result.sent + result.merged
        most = _ROUND_TRIPS + moved // _MESSAGES_A_ROUND_TRIP
        if result.round_trips > most:
            self.broken(f"{host.name} took {result.round_trips} round trips to move {moved} messages (at most {most})")
        blobs = result.received_bytes + result.sent_bytes
        size = end.bytes_in + end.bytes_out
        # What was found may have come from a third one before it was this session's turn to move it.
        told = max(moved, result.described)
        short = _SHORT_ROUND_TRIPS if end.incoming else _SHORT_ROUND_TRIPS - 1
        inside = _INSIDE_BYTES if result.round_trips > short else 0
        if size > _SESSION_BYTES + inside + blobs + told * _MESSAGE_BYTES:
            self.broken(f"{host.name} took {size} bytes to tell {told} messages and move {moved} of {blobs} bytes")


class StoredOnce(Invariant):
    name = "stored-once"
    title = "Storing twice is storing once"

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        self.checks += 1
        if again:
            name, item = stored
            self.broken(f"{host.name} stored {name.topic}/{name.log}/{item.seq} a second time beside itself")

    def sampled(self) -> None:
        for host in self.world.correct_hosts():
            self.checks += 1
            items = self.world.recorder.holding(host.name).items
            counted = host.disk.content.messages_held
            if counted != len(items):
                self.broken(f"{host.name} counted {counted} messages and held {len(items)}")


class NoResurrection(Invariant):
    name = "no-resurrection"
    title = "What has expired never comes back from another mailbox, and nothing is fetched again and again"

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        if origin is None:
            return
        self.checks += 1
        name, item = stored
        where = f"{name.topic}/{name.log}/{item.seq}"
        way = self.world.way_of(name, item.seq)
        if _has_surely_died(way, host):
            self.broken(f"{host.name} took {where} from another mailbox after its end")
        if way is None:
            return
        fetched = way.fetched.get((host.name, item.digest), 0) + 1
        way.fetched[host.name, item.digest] = fetched
        # A mailbox whose date was beyond its end since it was written forgot it, and rightly takes it again; so may one
        # at the moment of its end.
        end_s = item.first_stored_s + host.retention.retention_s - _ABOUT_ITS_END_S
        is_excused = host.clock.has_shown(end_s, since=way.written_s)
        # With too early a date (a liar may tell one, or a clock that was behind) a message dies before it does with
        # others who were not told, and is taken again from them: once for each time.
        rightly = 1 + host.wipes + host.crashes + way.cut_short.get((host.name, item.digest), 0)
        if fetched > rightly and not is_excused:
            self.broken(f"{host.name} fetched {where} {fetched} times")


_MOST: Final = (
    ("peers", PEERS_MAX),
    ("hinted logs of one peer", HINT_LOGS_PENDING_MAX),
    ("sessions with one peer", PEER_SESSIONS_MAX + 1),
    ("logs with news of its own", HINT_LOGS_PENDING_MAX),
    ("announced states", HINT_HEARD_MAX),
    ("mailboxes told of a state", PEERS_MAX),
    ("spans claimed", CLAIMS_MAX),
    ("neighbours", NEIGHBOURS_LIVE_MAX),
    ("neighbours that did not answer", NEIGHBOURS_WAITING_MAX),
)


_MAILBOXES_A_SAMPLE: Final = 200
"""Whose queues are measured: larger crowds in turn, as to go through all peers of a thousand mailboxes at each sample
would be a tenth of what an hour of them costs."""


class Bounds(Invariant):
    name = "bounds"
    title = "Memory and queues for any peer stay below their bounds"

    def __init__(self, world: Judges) -> None:
        super().__init__(world)
        self._samples = 0

    def sampled(self) -> None:
        hosts = self.world.correct_hosts()
        turns = -(-len(hosts) // _MAILBOXES_A_SAMPLE)
        self._samples += 1
        for host in hosts[self._samples % turns :: turns] if turns else ():
            sizes = self._sizes(host)
            self.checks += len(sizes)
            for size, (what, most) in zip(sizes, _MOST, strict=True):
                if size > most:
                    self.broken(f"{host.name} had {size} {what} (at most {most})")

    @staticmethod
    def _sizes(host: Host) -> tuple[int, ...]:
        """In the order of `_MOST`."""
        assert host.core is not None
        assert host.discovery is not None
        engine = host.core.engine
        peers = engine.table.unordered()
        return (
            len(peers),
            max(map(len, map(_HINTED, peers)), default=0),
            max(map(_SESSIONS, peers), default=0),
            engine.news.logs_waiting,
            engine.news.states_remembered,
            engine.news.audience_remembered,
            engine.spans_claimed,
            *host.discovery.sizes(),
        )


class Progress(Invariant):
    name = "progress"
    title = "Honest mailboxes keep comparing beside hostile ones"

    def __init__(self, world: Judges) -> None:
        super().__init__(world)
        self._last: dict[str, float] = {}

    def started(self, host: Host) -> None:
        self._last[host.name] = trio.current_time()

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        if end.error is None and self.world.is_correct(end.peer):
            self._last[host.name] = trio.current_time()

    def calm(self) -> None:
        now = trio.current_time()
        for group in self.world.groups_in_reach():
            # Each pair compares once in as many intervals as there are peers, or once in eight times that where all is
            # calm; the pairs of one mailbox may all have done so just now.
            pause_s = max(host.spec.sync_interval_s for host in group) * len(self.world.recorder.hosts)
            patience_s = max(self.world.scenario.settle_s, 2.0**SYNC_CALM_DOUBLINGS_MAX * 1.5 * pause_s)
            for host in group if len(group) > 1 else ():
                self.checks += 1
                since = max(self._last.get(host.name, 0.0), self.world.scenario.calm_from_s)
                if now - since > patience_s:
                    self.broken(f"{host.name} has compared with no honest mailbox for {now - since:.0f} s")


class Silence(Invariant):
    name = "silence"
    title = "Mailboxes that hold the same exchange no more than the idle session"

    def __init__(self, world: Judges) -> None:
        super().__init__(world)
        self._equal: dict[tuple[MailboxId, MailboxId], tuple[float, float]] = {}
        """(mailbox, peer) -> when the session began and ended by which the former knows that they hold the same: the
        first since one of them last changed."""

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        result = end.result
        ways = ((host.mailbox_id, end.peer), (end.peer, host.mailbox_id))
        if end.error:  # to the other one it may have seemed to go well: what both know is from before or after that
            for way in ways:
                self._equal.pop(way, None)
        if end.error or not self.world.is_correct(end.peer) or not (result.equal and result.full):
            return
        other = self.world.host_of(end.peer)
        changed_at = max(self.world.recorder.holding(one.name).changed_at for one in (host, other))
        known = [self._equal.get(way, (-inf, -inf)) for way in ways]
        if known[0][0] <= changed_at < end.began_at:
            self._equal[ways[0]] = end.began_at, trio.current_time()
        # Both must know it from a session that took its pictures after the last change, and was over on both sides when
        # this one began. Of sessions that cross each other one may have news to tell of what another has just moved.
        is_told = all(began_at > changed_at and ended_at < end.began_at for began_at, ended_at in known)
        # A clock that steps may bring messages into the comparison that both had left out.
        if not is_told or any(one.clock.has_stepped_since(changed_at) for one in (host, other)):
            return
        self.checks += 1
        size = end.bytes_in + end.bytes_out
        # The farewell has no answer; whom it is told counts it all the same.
        most = 1 + end.incoming + self._may_be_asked_again(host, other)
        if size > _IDLE_BYTES or result.round_trips > most:
            self.broken(f"{host.name} took {size} bytes and {result.round_trips} round trips to find nothing new")

    @staticmethod
    def _may_be_asked_again(host: Host, other: Host) -> bool:
        """Whether the first question may have been in vain: of another version, or of another hour than the peer's."""
        since_s = trio.current_time() % host.retention.granule_s
        apart_s = 5 + abs(host.clock.error_s) + abs(other.clock.error_s)
        is_about_the_hour = min(since_s, host.retention.granule_s - since_s) < apart_s
        return is_about_the_hour or host.sync_version != other.sync_version

    def started(self, host: Host) -> None:
        # A mailbox that starts remembers no checkpoints, nor do others of it once they have met it again.
        for pair in list(self._equal):
            if host.mailbox_id in pair:
                del self._equal[pair]


class SameAfterRestart(Invariant):
    name = "same-after-restart"
    title = "What a mailbox holds after a restart is what was durable before it"

    def started(self, host: Host) -> None:
        self.checks += 1
        durable = host.disk.content.held()
        before = self.world.recorder.holding(host.name).items
        if durable.keys() != before.keys():
            self.broken(f"{host.name} holds {len(durable)} messages after its start, and {len(before)} before it")


class NoFaults(Invariant):
    name = "no-faults"
    title = "No exception is left unhandled"

    def sampled(self) -> None:
        self.checks += 1
        for record in self.world.errors.take():
            why = f": {record.exc_info[1]!r}" if record.exc_info and record.exc_info[1] is not None else ""
            self.broken(f"{record.name} logged: {record.getMessage()}{why}")


INVARIANTS: Final[Sequence[type[Invariant]]] = (
    Convergence,
    Durability,
    FairEviction,
    Expiry,
    Frugality,
    StoredOnce,
    NoResurrection,
    Bounds,
    Progress,
    Silence,
    SameAfterRestart,
    NoFaults,
)
