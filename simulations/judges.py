"""Those who watch a world and say what did not hold: what invariants have in common, and what they need to know."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import trio

from node.store.api import StoredItem
from node.sync.peers import SessionEnd
from protocols.model import LogName, MailboxId
from simulations.machines import Host
from simulations.network import Network
from simulations.recorder import Recorder, Way
from simulations.recording import Verdict
from simulations.scenario import Scenario

__all__ = ["Invariant", "Judges"]


class Invariant:
    """One thing that must hold. The first time it does not is its counter-example."""

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, world: Judges) -> None:
        self.world = world
        self.checks = 0
        self.counterexample: str | None = None

    def broken(self, sentence: str) -> None:
        """It does not hold: who, what; the time is added."""
        if self.counterexample is None:
            self.counterexample = f"at {trio.current_time():.3f} s {sentence}"
            self.world.recorder.happened("violation", (), f"{self.name}: {sentence}")

    def verdict(self) -> Verdict:
        """What became of it."""
        return Verdict(self.name, self.title, self.checks, self.counterexample)

    # What it may look at; each does so where it matters to it.

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        """A session of a correct mailbox is over."""

    def started(self, host: Host) -> None:
        """A correct mailbox takes connections (again)."""

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        """A correct mailbox gave a phone a message."""

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        """A correct mailbox stored a message that `origin` brought (None: a phone); `again` if it held it already."""

    def evicted(self, host: Host, removed: Sequence[StoredItem]) -> None:
        """A correct mailbox let go of these to make room; they are gone from its store already."""

    def sampled(self) -> None:
        """From time to time."""

    def calm(self) -> None:
        """From time to time, when the world has been calm for long enough."""


class Errors(logging.Handler):
    """Collects what the node logs as an error: a fault of its own, survived."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """What was logged since the last call."""
        records, self._records = self._records, []
        return records


class Judges:
    """All invariants over one world, and what they ask of it."""

    def __init__(
        self, scenario: Scenario, recorder: Recorder, network: Network, kinds: Sequence[type[Invariant]]
    ) -> None:
        self.scenario = scenario
        self.recorder = recorder
        self.network = network
        self.errors = Errors()
        self.invariants = [kind(self) for kind in kinds]
        self._correct: set[MailboxId] = set()
        self._by_id: dict[MailboxId, Host] = {}
        self._groups: tuple[float, list[list[Host]]] | None = None
        self._sampled_hosts: Sequence[Host] | None = None
        """The same for all who look at one moment."""
        self._stored = self._overridden("stored")
        self._served = self._overridden("served")
        self._sessions = self._overridden("session_ended")

    def _overridden(self, what: str) -> list[Invariant]:
        return [one for one in self.invariants if getattr(type(one), what) is not getattr(Invariant, what)]

    def verdicts(self) -> list[Verdict]:
        """One of each invariant."""
        return [invariant.verdict() for invariant in self.invariants]

    # --- what happens ----------------------------------------------------------------------------------------------

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        """A session is over."""
        if host.is_correct:
            for invariant in self._sessions:
                invariant.session_ended(host, end)

    def started(self, host: Host) -> None:
        """A mailbox takes connections."""
        if host.is_correct:
            self._correct.add(host.mailbox_id)
            for invariant in self.invariants:
                invariant.started(host)

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        """A mailbox gave a phone a message."""
        if host.is_correct:
            for invariant in self._served:
                invariant.served(host, name, seq, blob)

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        """A mailbox stored a message."""
        if host.is_correct:
            for invariant in self._stored:
                invariant.stored(host, stored, origin, again=again)

    def evicted(self, host: Host, removed: Sequence[StoredItem]) -> None:
        """A mailbox let go of messages."""
        if host.is_correct:
            for invariant in self.invariants:
                invariant.evicted(host, removed)

    def sampled(self) -> None:
        """From time to time."""
        is_calm = trio.current_time() >= self.scenario.calm_from_s + self.scenario.settle_s
        self._sampled_hosts = self._find_correct_hosts()
        for invariant in self.invariants:
            invariant.sampled()
            if is_calm:
                invariant.calm()
        self._sampled_hosts = None

    # --- what they ask ---------------------------------------------------------------------------------------------

    def correct_hosts(self) -> Sequence[Host]:
        """Correct mailboxes that run, and know the date."""
        return self._find_correct_hosts() if self._sampled_hosts is None else self._sampled_hosts

    def _find_correct_hosts(self) -> Sequence[Host]:
        return [host for host in self.recorder.hosts.values() if host.is_correct and host.is_up and host.knows_the_date]

    def is_correct(self, mailbox_id: MailboxId) -> bool:
        """Whether that mailbox is an honest one."""
        return mailbox_id in self._correct

    def host_of(self, mailbox_id: MailboxId) -> Host:
        """The machine of a mailbox of this world."""
        if not self._by_id:
            self._by_id = {host.mailbox_id: host for host in self.recorder.hosts.values()}
        return self._by_id[mailbox_id]

    def way_of(self, name: LogName, seq: int) -> Way | None:
        """What is known of a message, if a phone of this world wrote it."""
        return self.recorder.ways.get((name, seq))

    def is_alive(self, host: Host, first_stored_s: int) -> bool:
        """Whether a message of that date still has some time before it, by a mailbox's own clock and retention."""
        return host.core is not None and first_stored_s > host.core.mailbox.alive_from_s() + 60

    def groups_in_reach(self) -> list[list[Host]]:
        """The correct mailboxes that run, grouped by who reaches whom: over a LAN, or by a named address."""
        if self._groups is None or self._groups[0] != trio.current_time():
            self._groups = (trio.current_time(), self._find_groups())
        return self._groups[1]

    def _find_groups(self) -> list[list[Host]]:
        hosts = {host.machine: host for host in self.correct_hosts()}
        by_lan: dict[str, dict[Host, None]] = {}
        named: dict[Host, list[Host]] = {host: [] for host in hosts.values()}
        for host in hosts.values():
            by_lan.setdefault(host.machine.lan, {})[host] = None
            for machine in host.peers:
                if machine in hosts:
                    named[host].append(hosts[machine])
                    named[hosts[machine]].append(host)
        groups: list[list[Host]] = []
        grouped: set[Host] = set()
        for host in hosts.values():
            if host in grouped:
                continue
            group = [host]
            grouped.add(host)
            del by_lan[host.machine.lan][host]
            for one in group:
                for other in [*by_lan[one.machine.lan], *named[one]]:
                    if other not in grouped and self._reach(one, other):
                        grouped.add(other)
                        del by_lan[other.machine.lan][other]
                        group.append(other)
            groups.append(group)
        return groups

    def _reach(self, one: Host, other: Host) -> bool:
        a, b = one.machine, other.machine
        return one.sync_version == other.sync_version and not (self.network.is_held(a, b) or self.network.is_held(b, a))
