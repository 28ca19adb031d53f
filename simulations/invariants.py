"""What must hold in every world, whatever happens to it: each a small class that says who broke it, how and when."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

import trio

from node.sync.engine import SessionEnd
from protocols.limits import CLOCK_SKEW_MAX_S
from protocols.model import LogName
from simulations.machines import Host
from simulations.network import Network
from simulations.recorder import Recorder
from simulations.recording import Verdict
from simulations.scenario import Scenario

__all__ = ["Invariant", "Judges"]

_FRESH_S: Final = 60.0
"""How old a message must be, beyond the time to settle, to be missed."""


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
        """A mailbox gave a phone a message."""

    def sampled(self) -> None:
        """From time to time."""

    def at_the_end(self) -> None:
        """The world was calm for long enough."""


class Convergence(Invariant):
    name = "convergence"
    title = "After a heal and a while, correct mailboxes that reach each other hold the same"

    def at_the_end(self) -> None:
        old_enough_s = trio.current_time() - self.world.scenario.settle_s
        for group in self.world.groups_in_reach():
            self.checks += 1
            expected = {
                key
                for host in group
                for key in self.world.recorder.holding(host.name).items
                if self._since(key[0], key[1], group) <= old_enough_s and self.world.is_alive(host, key)
            }
            for host in group:
                held = self.world.recorder.holding(host.name).items
                missing = sorted(key for key in expected if key not in held)
                if missing and not self._is_excused(host):
                    name, seq, _ = missing[0]
                    self.broken(
                        f"{host.name} lacked {len(missing)} of {len(expected)} messages that others in reach had held "
                        f"for {self.world.scenario.settle_s:.0f} s, the first {name.topic}/{name.log}/{seq}"
                    )

    def _since(self, name: LogName, seq: int, group: Sequence[Host]) -> float:
        way = self.world.recorder.ways.get((name, seq))
        return 0.0 if way is None else min((way.by[host.name] for host in group if host.name in way.by), default=0.0)

    @staticmethod
    def _is_excused(host: Host) -> bool:
        return host.core is not None and host.core.mailbox.is_full


class Durability(Invariant):
    name = "durability"
    title = "What a mailbox acknowledged survives its crashes until it expires"

    def started(self, host: Host) -> None:
        self._check(host)

    def at_the_end(self) -> None:
        for host in self.world.correct_hosts():
            self._check(host)

    def _check(self, host: Host) -> None:
        holding = self.world.recorder.holding(host.name)
        held = {(name, seq) for name, seq, _ in holding.items}
        alive_from_s = host.core.mailbox.alive_from_s() if host.core is not None else 0
        for key in list(holding.promised):
            self.checks += 1
            if key in held:
                continue
            way = self.world.recorder.ways.get(key)
            if way is None or way.first_stored_s is None or way.first_stored_s < alive_from_s:
                del holding.promised[key]
                continue
            self.broken(f"{host.name} had acknowledged {key[0].topic}/{key[0].log}/{key[1]} and does not hold it")


class NoFaults(Invariant):
    name = "no-faults"
    title = "No exception is left unhandled"

    def sampled(self) -> None:
        self.checks += 1
        for record in self.world.errors.take():
            why = f": {record.exc_info[1]!r}" if record.exc_info and record.exc_info[1] is not None else ""
            self.broken(f"{record.name} logged: {record.getMessage()}{why}")

    def at_the_end(self) -> None:
        self.sampled()


class _Errors(logging.Handler):
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


_ALL: Final[Sequence[type[Invariant]]] = (Convergence, Durability, NoFaults)


class Judges:
    """All invariants over one world, and what they need to know of it."""

    def __init__(self, scenario: Scenario, recorder: Recorder, network: Network) -> None:
        self.scenario = scenario
        self.recorder = recorder
        self.network = network
        self.errors = _Errors()
        self.invariants = [kind(self) for kind in _ALL]

    def verdicts(self) -> list[Verdict]:
        """One of each invariant."""
        return [invariant.verdict() for invariant in self.invariants]

    # --- what happens ----------------------------------------------------------------------------------------------

    def session_ended(self, host: Host, end: SessionEnd) -> None:
        """A session is over."""
        if host.is_correct:
            for invariant in self.invariants:
                invariant.session_ended(host, end)

    def started(self, host: Host) -> None:
        """A mailbox takes connections."""
        if host.is_correct:
            for invariant in self.invariants:
                invariant.started(host)

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        """A mailbox gave a phone a message."""
        if host.is_correct:
            for invariant in self.invariants:
                invariant.served(host, name, seq, blob)

    def sampled(self) -> None:
        """From time to time."""
        for invariant in self.invariants:
            invariant.sampled()

    def at_the_end(self) -> None:
        """The run is over."""
        for invariant in self.invariants:
            invariant.at_the_end()

    # --- what they ask ---------------------------------------------------------------------------------------------

    def correct_hosts(self) -> list[Host]:
        """Correct mailboxes that run, and whose clocks are near enough to the true time."""
        return [
            host
            for host in self.recorder.hosts.values()
            if host.is_correct and host.is_up and abs(host.clock.error_s) < CLOCK_SKEW_MAX_S / 2
        ]

    def is_alive(self, host: Host, key: tuple[LogName, int, bytes]) -> bool:
        """Whether a message that a mailbox holds is still far from its end."""
        first_stored_s = self.recorder.holding(host.name).items[key]
        return host.core is not None and first_stored_s >= host.core.mailbox.alive_from_s() + _FRESH_S

    def groups_in_reach(self) -> list[list[Host]]:
        """The correct mailboxes that run, grouped by who reaches whom: over a LAN, or by a named address."""
        hosts = self.correct_hosts()
        groups: list[list[Host]] = []
        left = dict.fromkeys(hosts)
        while left:
            group = [next(iter(left))]
            del left[group[0]]
            for one in group:
                for other in [other for other in left if self._reach(one, other)]:
                    del left[other]
                    group.append(other)
            groups.append(group)
        return groups

    def _reach(self, one: Host, other: Host) -> bool:
        a, b = one.machine, other.machine
        if self.network.is_held(a, b) or self.network.is_held(b, a):
            return False
        return a.lan == b.lan or b in one.peers or a in other.peers


def sentence_of(names: Iterable[str]) -> str:
    """Names for a sentence, cut if they are many."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
