"""Which mailboxes are near: decides from sightings and probe results, without any I/O or clock of its own.

Theory of operation. A mailbox that was announced *waits* until a TCP connection to one of its addresses succeeds; then
it is *live* and reported as Found. It stays live while probes succeed, or while we have a connection to it, and is
reported as Lost when it says goodbye or when none has succeeded for a minute, whatever is announced meanwhile: an
announcement proves nothing. A lost mailbox waits again, is tried with growing pauses, and is forgotten some minutes
after its last announcement.

An announcement can be forged by anyone on the link, so it never displaces what works: a new port of a live mailbox
counts only once it answers and the old one does not, other changes and a goodbye only if they come from the mailbox's
own address.
Waiting mailboxes are bounded per source and in all, live ones are bounded and never evicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from node.discovery.api import Found, Lost, Neighbour
from node.discovery.packets import Sighting
from protocols.discovery import NETWORK_DEFAULT, Interface, PeerInfo, lan_targets
from protocols.limits.discovery import (
    GOODBYE_RECHECK_S,
    NEIGHBOUR_FORGET_AFTER_S,
    NEIGHBOUR_LOST_AFTER_S,
    NEIGHBOURS_LIVE_MAX,
    NEIGHBOURS_LIVE_PER_HOST_MAX,
    NEIGHBOURS_WAITING_MAX,
    PROBE_INTERVAL_S,
    PROBE_RETRY_MAX_S,
    PROBE_RETRY_S,
)
from protocols.model import MailboxId

__all__ = ["Endpoint", "Job", "NeighbourTable", "Timing"]

Endpoint: TypeAlias = tuple[str, int]
"""IP address and TCP port."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The table's time constants in seconds, so that tests need not wait. See protocols/limits for the reasons."""

    probe_interval_s: float = PROBE_INTERVAL_S
    probe_retry_s: float = PROBE_RETRY_S
    probe_retry_max_s: float = PROBE_RETRY_MAX_S
    lost_after_s: float = NEIGHBOUR_LOST_AFTER_S
    forget_after_s: float = NEIGHBOUR_FORGET_AFTER_S
    goodbye_recheck_s: float = GOODBYE_RECHECK_S


@dataclass(frozen=True, slots=True)
class Job:
    """A mailbox to try: all endpoints at the same time."""

    mailbox_id: MailboxId
    endpoints: tuple[Endpoint, ...]
    live: bool


@dataclass(frozen=True, slots=True)
class _Offer:
    """Where a mailbox is said to be, addresses already checked and ordered."""

    port: int
    peer: PeerInfo | None
    hosts: tuple[str, ...]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple((host, self.port) for host in self.hosts)


@dataclass(slots=True)
class _Entry:
    mailbox_id: MailboxId
    source: str
    announced: tuple[str, ...]
    offer: _Offer
    heard_at: float
    due_at: float
    current: _Offer | None = None  # what answered, if anything did
    offer_source: str = ""
    answered: dict[Endpoint, float] = field(default_factory=dict)
    reported: Neighbour | None = None
    probing: bool = False
    tried_at: float = float("-inf")
    failures: int = 0
    left_at: float = float("-inf")

    def says(self, port: int, peer: PeerInfo | None, announced: tuple[str, ...]) -> bool:
        """Whether this is what was announced last."""
        return self.announced == announced and self.offer.port == port and self.offer.peer == peer

    def is_at(self, source: str) -> bool:
        """Whether a packet from `source` comes from an address at which the mailbox is known to be. Over IPv6 packets
        come from link-local addresses, which can't be compared; that has to do for a mailbox without IPv4."""
        hosts = () if self.current is None else self.current.hosts
        if source.startswith("fe80:"):
            return all(":" in host for host in hosts)
        return source in hosts


class NeighbourTable:
    """All that is known of the mailboxes on the link. Times are seconds on any monotonic scale."""

    def __init__(self, own: MailboxId | None, *, network: str | None, timing: Timing) -> None:
        """`own` is never reported, in whichever spelling it comes back. `network` None reports every network."""
        self._own = None if own is None else str(own).lower()
        self._network = network
        self._timing = timing
        self._interfaces: tuple[Interface, ...] = ()
        self._own_hosts: frozenset[str] = frozenset()
        self._own_ports: frozenset[int] = frozenset()
        self._live: dict[MailboxId, _Entry] = {}
        self._waiting: dict[MailboxId, _Entry] = {}
        self._by_source: dict[str, dict[MailboxId, None]] = {}
        self._met: set[MailboxId] = set()
        self._events: list[Found | Lost] = []
        self.refused_full = 0
        self.evicted = 0

    # --- what happens ----------------------------------------------------------------------------------------------

    def network_changed(self, interfaces: Sequence[Interface], own_ports: Iterable[int], now_s: float) -> None:
        """Our addresses are now these. Everything is tried again at once: it may be reachable in another way, or not
        at all. `own_ports` are those on which we listen: at our own addresses they are nobody else's."""
        self._interfaces = tuple(interfaces)
        self._own_hosts = frozenset(str(i.ip) for i in interfaces)
        self._own_ports = frozenset(own_ports)
        for entry in [*self._live.values(), *self._waiting.values()]:
            entry.offer = self._offer(entry.offer.port, entry.offer.peer, entry.announced)
            entry.due_at = now_s
            entry.failures = 0

    def sighted(self, sighting: Sighting, now_s: float) -> None:
        """Takes in what a packet says of one mailbox."""
        entry = self._live.get(sighting.mailbox_id) or self._waiting.get(sighting.mailbox_id)
        if entry is None and str(sighting.mailbox_id).lower() == self._own:
            return
        if sighting.goodbye:
            if entry is not None:
                self._goodbye(entry, sighting.source, now_s)
            return
        if sighting.port is None:
            return
        peer = sighting.peer
        if entry is not None and not sighting.txt_heard and entry.offer.port == sighting.port:
            peer = entry.offer.peer  # a packet without TXT record takes nothing back
        if self._network is not None and _network_of(peer) != self._network:
            return
        announced = tuple(dict.fromkeys((*sighting.addresses, sighting.source)))
        if entry is not None and entry.says(sighting.port, peer, announced):
            offer = entry.offer  # as mostly
        else:
            offer = self._offer(sighting.port, peer, announced)
        if not offer.hosts:
            return
        if entry is None:
            entry = _Entry(sighting.mailbox_id, sighting.source, announced, offer, heard_at=now_s, due_at=now_s)
            self._admit(entry)
        else:
            self._heard_again(entry, announced, offer, now_s)
        entry.offer_source = sighting.source

    def _heard_again(self, entry: _Entry, announced: tuple[str, ...], offer: _Offer, now_s: float) -> None:
        entry.heard_at = now_s
        changed = offer != entry.offer
        entry.announced = announced
        entry.offer = offer
        if entry.reported is None:
            # Someone who comes back shall not wait for the pause that their silence earned.
            soonest = max(entry.tried_at + self._timing.probe_retry_s, entry.left_at + self._timing.probe_retry_s / 3)
            entry.due_at = min(entry.due_at, max(now_s, soonest))
        elif changed:
            entry.due_at = min(entry.due_at, max(now_s, entry.tried_at + self._timing.probe_retry_s / 3))

    def _goodbye(self, entry: _Entry, source: str, now_s: float) -> None:
        if entry.reported is None:
            return
        believed = entry.is_at(source) and now_s - entry.left_at >= self._timing.lost_after_s
        if not believed:
            entry.due_at = now_s  # perhaps it is gone; a look will tell
            return
        entry.left_at = now_s
        self._lose(entry, "it said goodbye")
        entry.due_at = now_s + self._timing.goodbye_recheck_s

    def named(self, mailbox_id: MailboxId) -> bool:
        """Whether a mailbox that was only named in a packet is known already and need not be asked about."""
        return str(mailbox_id).lower() == self._own or mailbox_id in self._live or mailbox_id in self._waiting

    def met(self, mailbox_id: MailboxId, now_s: float, *, up: bool) -> None:
        """We have a connection to a mailbox, whose id is proven by it, or have none any more. While there is one, a
        mailbox that is live needs no probing."""
        (self._met.add if up else self._met.discard)(mailbox_id)
        entry = self._live.get(mailbox_id)
        if entry is not None:
            entry.due_at = float("inf") if up else now_s
            entry.answered = dict.fromkeys(entry.answered, now_s)

    # --- probing ---------------------------------------------------------------------------------------------------

    def due(self, now_s: float, *, live_max: int, waiting_max: int) -> list[Job]:
        """What to try now, longest overdue first. Each job must come back through `probed` once or more and then
        `probe_ended`."""
        jobs: list[Job] = []
        for entries, most in ((self._live, live_max), (self._waiting, waiting_max)):
            ready = [entry for entry in entries.values() if entry.due_at <= now_s and not entry.probing]
            ready.sort(key=lambda entry: entry.due_at)
            for entry in ready[:most]:
                entry.probing = True
                entry.tried_at = now_s
                current = entry.current.endpoints if entry.current is not None else ()
                endpoints = tuple(dict.fromkeys(current + entry.offer.endpoints))
                jobs.append(Job(entry.mailbox_id, endpoints, entry.reported is not None))
        return jobs

    def next_due_s(self) -> float:
        """When `due` or `expire` will next have something to do; infinity if nothing is known."""
        times = [entry.due_at for entry in self._entries() if not entry.probing]
        times += [self._lost_at(entry) for entry in self._live.values()]
        return min(times, default=float("inf"))

    def probed(self, mailbox_id: MailboxId, answers: Sequence[Endpoint], now_s: float, *, final: bool) -> None:
        """The endpoints of a job that have accepted a connection so far; `final` when the others have had their time.
        A mailbox is reported at its first answer."""
        entry = self._live.get(mailbox_id) or self._waiting.get(mailbox_id)
        if entry is None:
            return
        for endpoint in answers:
            entry.answered.setdefault(endpoint, now_s)
        if answers:
            self._adopt(entry, set(answers))
        if not final:
            if entry.reported is None:
                self._report(entry, set(answers))
            return
        entry.probing = False
        entry.answered = dict.fromkeys(answers, now_s) or entry.answered
        if answers and entry.current is not None:
            entry.failures = 0
            is_met = entry.mailbox_id in self._met
            entry.due_at = float("inf") if is_met else now_s + self._timing.probe_interval_s
            self._report(entry, set(answers))
            return
        pause_s = self._timing.probe_retry_s * 2 ** min(entry.failures, 10)
        entry.failures += 1
        most_s = self._timing.probe_retry_max_s if entry.reported is None else self._timing.probe_interval_s / 3
        entry.due_at = now_s + min(pause_s, most_s)

    def _adopt(self, entry: _Entry, answers: set[Endpoint]) -> None:
        works = answers.intersection(entry.current.endpoints) if entry.current is not None else set()
        offered = answers.intersection(entry.offer.endpoints)
        if offered and (not works or (works & offered and entry.is_at(entry.offer_source))):
            entry.current = entry.offer

    def _report(self, entry: _Entry, answers: set[Endpoint]) -> None:
        current = entry.current
        if current is None:
            return
        hosts = tuple(host for host in current.hosts if (host, current.port) in answers)
        if not hosts or (entry.reported is None and not self._may_live(hosts)):
            return
        peer = current.peer
        neighbour = Neighbour(
            mailbox_id=entry.mailbox_id,
            hosts=hosts,
            http_port=current.port,
            p2p_port=None if peer is None else peer.p2p_port,
            protocol_version=0 if peer is None else peer.protocol_version,
            network=_network_of(peer),
        )
        if entry.reported is None:
            self._leave_waiting(entry)
            self._live[entry.mailbox_id] = entry
        if neighbour != entry.reported:
            entry.reported = neighbour
            self._events.append(Found(neighbour))

    def _may_live(self, hosts: tuple[str, ...]) -> bool:
        beside = sum(1 for e in self._live.values() if e.reported is not None and hosts[0] in e.reported.hosts)
        if len(self._live) < NEIGHBOURS_LIVE_MAX and beside < NEIGHBOURS_LIVE_PER_HOST_MAX:
            return True
        self.refused_full += 1
        return False

    # --- time ------------------------------------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Drops live mailboxes that have not answered for too long, and forgets waiting ones."""
        for entry in [e for e in self._live.values() if self._lost_at(e) <= now_s]:
            silent = f"it has not answered for {self._timing.lost_after_s:.0f} s"
            self._lose(entry, silent if entry.heard_at < self._lost_at(entry) else f"{silent}, though it is announced")
        for entry in [e for e in self._waiting.values() if now_s - e.heard_at > self._timing.forget_after_s]:
            self._leave_waiting(entry)

    def _lost_at(self, entry: _Entry) -> float:
        if entry.mailbox_id in self._met:
            return float("inf")
        return max(entry.answered.values(), default=float("-inf")) + self._timing.lost_after_s

    def _lose(self, entry: _Entry, reason: str) -> None:
        del self._live[entry.mailbox_id]
        entry.reported = None
        entry.current = None
        entry.answered.clear()
        self._admit(entry)
        self._events.append(Lost(entry.mailbox_id, reason))

    # --- what is known ---------------------------------------------------------------------------------------------

    def take_events(self) -> list[Found | Lost]:
        """What has changed since the last call, in order."""
        events, self._events = self._events, []
        return events

    def neighbours(self) -> list[Neighbour]:
        """The live mailboxes as last reported."""
        return [entry.reported for entry in self._live.values() if entry.reported is not None]

    @property
    def live(self) -> int:
        """How many mailboxes are live."""
        return len(self._live)

    def is_live(self, mailbox_id: MailboxId, host: str) -> bool:
        """Whether it is known to answer at this IP address."""
        entry = self._live.get(mailbox_id)
        return entry is not None and entry.reported is not None and host in entry.reported.hosts

    @property
    def waiting(self) -> int:
        """How many mailboxes are announced but do not answer (yet)."""
        return len(self._waiting)

    # --- bounds ----------------------------------------------------------------------------------------------------

    def _admit(self, entry: _Entry) -> None:
        if len(self._waiting) >= NEIGHBOURS_WAITING_MAX:
            crowd = max(self._by_source.values(), key=len)
            self._leave_waiting(self._waiting[next(iter(crowd))])
            self.evicted += 1
        self._waiting[entry.mailbox_id] = entry
        self._by_source.setdefault(entry.source, {})[entry.mailbox_id] = None

    def _leave_waiting(self, entry: _Entry) -> None:
        if self._waiting.pop(entry.mailbox_id, None) is None:
            return
        crowd = self._by_source[entry.source]
        del crowd[entry.mailbox_id]
        if not crowd:
            del self._by_source[entry.source]

    def _entries(self) -> Iterable[_Entry]:
        yield from self._live.values()
        yield from self._waiting.values()

    def _offer(self, port: int, peer: PeerInfo | None, announced: tuple[str, ...]) -> _Offer:
        hosts = lan_targets(announced, self._interfaces)
        if port in self._own_ports:
            hosts = tuple(host for host in hosts if host not in self._own_hosts)
        return _Offer(port, peer, hosts)


def _network_of(peer: PeerInfo | None) -> str:
    return NETWORK_DEFAULT if peer is None else peer.network
