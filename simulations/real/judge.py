"""Whether real mailboxes did what they promise, as far as can be seen from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from protocols.model import Retention
from simulations.real.ledger import EXPIRY_SLACK_S, Ledger, Written
from simulations.real.mailboxes import RealMailbox
from simulations.real.network import Network
from simulations.real.observer import Observer, components
from simulations.recording import Verdict
from simulations.scenario import Scenario

__all__ = ["Judge"]

_SHOWN_MAX: Final = 3


class Judge:
    """Looks at each sample; the last one decides what only the end can tell."""

    def __init__(
        self,
        scenario: Scenario,
        mailboxes: Mapping[str, RealMailbox],
        ledger: Ledger,
        observer: Observer,
        network: Network,
    ) -> None:
        self._scenario = scenario
        self._mailboxes = mailboxes
        self._ledger = ledger
        self._observer = observer
        self._network = network
        self._samples = 0
        self._converged_checks = 0
        self._apart: str | None = None
        self._deaths: list[str] = []

    def died(self, name: str, at_s: float, words: str) -> None:
        """A mailbox ended that nobody told to."""
        self._deaths.append(f"{name} ended at {at_s:.1f} s: {words}")

    def look(self, at_s: float) -> None:
        """Judges the sample just taken."""
        self._samples += 1
        settled_s = self._scenario.calm_from_s + self._scenario.settle_s
        if at_s < settled_s:
            return
        names = self._observer.answering
        settled = [
            key
            for key, message in self._ledger.alive(at_s)
            if message.acknowledged_s is not None and message.acknowledged_s <= at_s - self._scenario.settle_s
        ]
        for part in components(names, self._in_reach(names)):
            self._converged_checks += 1
            held = [self._ledger.held[name] for name in part]
            for key in settled:
                lacking = [name for name, keys in zip(part, held, strict=True) if key not in keys]
                if lacking and len(lacking) < len(part) and self._apart is None:
                    self._apart = (
                        f"at {at_s:.1f} s {', '.join(lacking[:_SHOWN_MAX])} lacks {key.topic}/{key.log}/{key.seq}, "
                        f"which others that it reaches hold"
                    )

    def _in_reach(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs that are connected and know of each other: by multicast on one LAN, or by a given address."""
        return [
            (one, other)
            for one, other in self._network.switch.connected(names)
            if self._mailboxes[one].machine.lan == self._mailboxes[other].machine.lan
            or self._is_told_of(one, other)
            or self._is_told_of(other, one)
        ]

    def _is_told_of(self, one: str, other: str) -> bool:
        return self._mailboxes[other].machine.is_one_of(self._mailboxes[one].group.peers)

    def verdicts(self) -> list[Verdict]:
        """The verdicts on the whole play."""
        return [
            Verdict(
                "convergence",
                "After a heal and a while, mailboxes that reach each other hold the same",
                self._converged_checks,
                self._apart if self._converged_checks else "the play ended before anything could be seen",
            ),
            self._durability(),
            self._expiry(),
            self._no_faults(),
        ]

    def _durability(self) -> Verdict:
        at_s = self._observer.series.sampled_s[-1]
        answering = set(self._observer.answering)
        checks = 0
        lost: list[str] = []
        for key, message in self._ledger.alive(at_s):
            for name in sorted(message.acknowledged_by & answering):
                checks += 1
                if key not in self._ledger.held[name] and not self._just_expired(message, at_s):
                    lost.append(f"{name} acknowledged {key.topic}/{key.log}/{key.seq} and does not hold it at the end")
        return Verdict(
            "durability", "What a mailbox acknowledged survives its crashes until it expires", checks, _first(lost)
        )

    def _just_expired(self, message: Written, at_s: float) -> bool:
        """First stored is rounded down to the hour, or to the second where messages live for less than an hour."""
        granule_s = Retention(int(self._ledger.retention_s)).granule_s
        return at_s > self._ledger.expires_s(message) - granule_s - EXPIRY_SLACK_S

    def _expiry(self) -> Verdict:
        late = [
            f"{name} served {key.topic}/{key.log}/{key.seq} at {at_s:.1f} s, after its expiry"
            for (name, key), at_s in self._ledger.late.items()
        ]
        return Verdict("expiry", "Nothing is served after its expiry", self._samples, _first(late))

    def _no_faults(self) -> Verdict:
        faults = list(self._deaths)
        for name, mailbox in self._mailboxes.items():
            log = mailbox.process.log_path.read_text(errors="replace")
            if "Traceback (most recent call last)" in log:
                last = log.partition("Traceback (most recent call last)")[2].strip().splitlines()
                faults.append(f"{name} logged an exception: {next((x for x in last if x and x[0] != ' '), '?')}")
        return Verdict("no-faults", "No mailbox ends or logs an exception", len(self._mailboxes), _first(faults))


def _first(faults: Sequence[str]) -> str | None:
    if not faults:
        return None
    more = len(faults) - 1
    return faults[0] + (f" (and {more} more)" if more else "")
