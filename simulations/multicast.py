"""Discovery over simulated multicast: who hears whose announcements, and the node's own table and prober behind it.

Packets are not encoded: a hearer gets what `node.discovery.packets` would have made of one. Announcements that would
tell a hearer nothing new are left out, as a hundred mailboxes that know each other say the same for days.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from functools import partial
from ipaddress import IPv4Interface
from typing import Final, Generic, Protocol, TypeVar

import trio

from node.discovery.api import Announcement, Discovery, Found, Lost, Report
from node.discovery.packets import Sighting
from node.discovery.prober import Prober
from node.discovery.table import Endpoint, NeighbourTable, Timing
from protocols.discovery import PeerInfo
from protocols.limits.discovery import (
    MDNS_KNOWN_ANSWERS_MAX,
    MDNS_QUERY_INTERVAL_MAX_S,
    MDNS_QUERY_INTERVAL_S,
    MDNS_REPEAT_S,
    PROBE_TIMEOUT_S,
)
from protocols.model import MailboxId
from simulations.network import Machine, Network

__all__ = ["Hearer", "Multicast", "SimulatedDiscovery"]

_FIRST_QUESTIONS: Final = 2

_DELAY_S: Final = 0.12
"""Answers to a question are spread over so long, so that they don't come at once."""


class Hearer(Protocol):
    """Whoever listens to announcements."""

    machine: Machine

    def knows(self, mailbox_id: MailboxId, address: str) -> bool:
        """Whether another announcement of this mailbox at this address would change nothing."""
        ...

    def still_there(self, mailbox_id: MailboxId) -> None:
        """An announcement has come of which that is all that is new."""
        ...

    def hear(self, sighting: Sighting) -> None:
        """An announcement has come."""
        ...


class _Placed(Protocol):
    @property
    def machine(self) -> Machine: ...


P = TypeVar("P", bound=_Placed)


class _Crowd(Generic[P]):
    """Some that stand in LANs, in the order in which they came."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._members: dict[P, None] = {}
        self._by_lan: dict[str, dict[P, None]] = {}
        self._version = network.version

    def add(self, member: P) -> None:
        self._members[member] = None
        self._by_lan.setdefault(member.machine.lan, {})[member] = None

    def remove(self, member: P) -> None:
        del self._members[member]
        for crowd in self._by_lan.values():
            crowd.pop(member, None)

    def at(self, lan: str) -> Collection[P]:
        """Those who stand in a LAN."""
        if self._version != self._network.version:  # somebody may have moved
            self._version = self._network.version
            self._by_lan = {}
            for member in self._members:
                self._by_lan.setdefault(member.machine.lan, {})[member] = None
        return self._by_lan.get(lan, {})


class Multicast:
    """All LANs' multicast: what is said in one is heard by those who are there."""

    def __init__(self, network: Network, chance: random.Random, accepts: Callable[[str], Machine | None]) -> None:
        """`accepts` tells whose machine takes connections at an address, if any does."""
        self.network = network
        self.chance = chance
        self._accepts = accepts
        self._hearers: _Crowd[Hearer] = _Crowd(network)
        self._speakers: _Crowd[SimulatedDiscovery] = _Crowd(network)
        self.silent: dict[SimulatedDiscovery, None] = {}
        """Those who know everybody, and ask again only when somebody may have come."""
        network.on_change.append(self.changed)

    def listen(self, hearer: Hearer) -> None:
        """From now on it hears what is said where it is."""
        self._hearers.add(hearer)

    def join(self, discovery: SimulatedDiscovery) -> None:
        """From now on it hears and answers."""
        self._hearers.add(discovery)
        self._speakers.add(discovery)
        self.changed()

    def leave(self, discovery: SimulatedDiscovery) -> None:
        """It does so no more."""
        self._hearers.remove(discovery)
        self._speakers.remove(discovery)
        self.silent.pop(discovery, None)
        self.changed()

    def changed(self) -> None:
        """Somebody may have come or gone, or be heard where they were not."""
        silent, self.silent = self.silent, {}
        for discovery in silent:
            discovery.ask_again()

    def say(self, source: Machine, sighting: Sighting) -> None:
        """Everybody in the LAN who is not cut off hears it, but for those whom the air fails."""
        loss = self.network.multicast_loss(source)
        for hearer in self._hearers.at(source.lan):
            if hearer.machine is source:
                continue
            if not sighting.goodbye and hearer.knows(sighting.mailbox_id, sighting.source):
                continue
            if self._is_heard(source, hearer.machine, loss):
                self.network.timeline.after(0.01 + _DELAY_S * self.chance.random(), partial(hearer.hear, sighting))

    def ask(self, source: Machine, hearer: Hearer) -> bool:
        """Those whom `hearer` does not know answer, to all. Whether it knows everybody in the LAN."""
        loss = self.network.multicast_loss(source)
        are_known = True
        for speaker in self._speakers.at(source.lan):
            if speaker.machine is source:
                continue
            knows = hearer.knows(speaker.mailbox_id, self.network.address(speaker.machine))
            are_known = are_known and knows
            if not self._is_heard(source, speaker.machine, loss):
                continue
            if knows:
                hearer.still_there(speaker.mailbox_id)
            else:
                speaker.asked()
        return are_known

    def _is_heard(self, source: Machine, target: Machine, loss: float) -> bool:
        return not self.network.is_held(source, target) and (not loss or self.chance.random() >= loss)

    async def probe(
        self,
        source: Machine,
        endpoints: Sequence[Endpoint],
        *,
        timeout_s: float,
        on_answer: Callable[[Endpoint], None],
    ) -> tuple[Endpoint, ...]:
        """As `node.discovery.probe.probe`, from `source`."""
        answered: list[Endpoint] = []
        latest_at = trio.current_time() + timeout_s
        for endpoint in endpoints:
            target = self._accepts(endpoint[0])
            if target is None:
                continue
            if self.network.is_held(source, target) or self.network.is_held(target, source):
                await trio.sleep_until(latest_at)
                continue
            at, stalled, breaks = self.network.passage(source, target, 60)
            at += self.network.latency_s(target, source)
            if stalled or breaks or at > latest_at:
                continue
            await self.network.timeline.wait_until(at)
            answered.append(endpoint)
            on_answer(endpoint)
        return tuple(answered)


class SimulatedDiscovery(Discovery):
    """One start of one mailbox's discovery."""

    def __init__(self, multicast: Multicast, machine: Machine, mailbox_id: MailboxId, timing: Timing) -> None:
        self.machine = machine
        self.mailbox_id = mailbox_id
        self._multicast = multicast
        self._timing = timing
        self._announcement: Announcement | None = None
        self._table: NeighbourTable | None = None
        self._prober: Prober | None = None
        self._met: set[MailboxId] = set()
        self._spoke_at = float("-inf")
        self._is_due = False
        self._is_running = False
        self.is_dead = False

    async def run(
        self,
        announcement: Announcement | None,
        report: Report,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        assert announcement is not None
        multicast = self._multicast
        self._announcement = announcement
        self._table = NeighbourTable(self.mailbox_id, network=announcement.network, timing=self._timing)
        for mailbox_id in sorted(self._met):
            self._table.met(mailbox_id, trio.current_time(), up=True)
        probe = partial(multicast.probe, self.machine)

        def found_or_lost(event: Found | Lost) -> None:
            report(event)
            if self in multicast.silent:
                del multicast.silent[self]
                self.ask_again()

        self._prober = Prober(self._table, found_or_lost, probe, timeout_s=PROBE_TIMEOUT_S)
        self.moved()
        multicast.join(self)
        self._is_running = True
        multicast.network.timeline.after(multicast.chance.uniform(0.02, 0.12), partial(self._ask, 0))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._prober.run)
                task_status.started()
                for pause_s in (0.0, MDNS_REPEAT_S, 2 * MDNS_REPEAT_S):
                    await trio.sleep(pause_s)
                    self._speak()
                await trio.sleep_forever()
        finally:
            self._is_running = False
            multicast.leave(self)
            self._speak(goodbye=True)

    def met(self, mailbox_id: MailboxId, up: bool) -> None:
        (self._met.add if up else self._met.discard)(mailbox_id)
        if self._table is not None and self._prober is not None:
            self._table.met(mailbox_id, trio.current_time(), up=up)
            if not up:
                self._prober.wake()

    def sizes(self) -> tuple[int, int]:
        """How many mailboxes it knows to be there, and how many that have not answered."""
        return (0, 0) if self._table is None else (self._table.live, self._table.waiting)

    def moved(self) -> None:
        """The machine has another address, or its first."""
        announcement, table = self._announcement, self._table
        if announcement is None or table is None or self._prober is None:
            return
        subnet = IPv4Interface(self._multicast.network.subnet(self.machine))
        ports = (announcement.http_port, announcement.p2p_port)
        table.network_changed((subnet,), ports, trio.current_time())
        self._prober.wake()
        self._speak()

    def asked(self) -> None:
        """Somebody wants to know who is there. One answer a second serves all who ask."""
        if not self._is_due:
            self._is_due = True
            at = max(trio.current_time() + _DELAY_S * self._multicast.chance.random(), self._spoke_at + MDNS_REPEAT_S)
            self._multicast.network.timeline.at(at, self._speak)

    def knows(self, mailbox_id: MailboxId, address: str) -> bool:
        return self._table is not None and self._table.is_live(mailbox_id, address)

    def still_there(self, mailbox_id: MailboxId) -> None:
        """The table does not need to be told: it tries for itself."""

    def hear(self, sighting: Sighting) -> None:
        if self._table is None or self._prober is None or self.is_dead or self.machine.asleep:
            return
        self._table.sighted(sighting, trio.current_time())
        self._prober.wake()

    def _ask(self, number: int) -> None:
        """As `node.discovery.mdns` does: often at first, then the less often the more are known."""
        table = self._table
        if table is None or not self._is_running or self.is_dead:
            return
        if number < _FIRST_QUESTIONS:
            self._multicast.ask(self.machine, self)
            self._ask_in(MDNS_REPEAT_S * 2**number, number + 1)
        elif self._multicast.ask(self.machine, self):
            self._multicast.silent[self] = None  # until something changes there is nobody to answer
        else:
            self._ask_in(self._pause_s() * self._multicast.chance.uniform(0.9, 1.1), number + 1)

    def ask_again(self) -> None:
        """Whoever was silent asks when it would have done so anyway."""
        self._ask_in(self._pause_s() * self._multicast.chance.random(), _FIRST_QUESTIONS)

    def _pause_s(self) -> float:
        crowd = 0.0 if self._table is None else 2 * self._table.live / MDNS_KNOWN_ANSWERS_MAX
        return min(MDNS_QUERY_INTERVAL_S * max(1.0, crowd), MDNS_QUERY_INTERVAL_MAX_S)

    def _ask_in(self, pause_s: float, number: int) -> None:
        self._multicast.network.timeline.after(pause_s, partial(self._ask, number))

    def _speak(self, *, goodbye: bool = False) -> None:
        self._is_due = False
        announcement = self._announcement
        if announcement is None or self.is_dead or self.machine.asleep:
            return
        self._spoke_at = trio.current_time()
        address = self._multicast.network.address(self.machine)
        info = PeerInfo(announcement.p2p_port, announcement.protocol_version, announcement.network)
        sighting = Sighting(self.mailbox_id, address, announcement.http_port, (address,), info, True, goodbye)
        self._multicast.say(self.machine, sighting)
