"""Looks at all mailboxes again and again while a play is on: by their own administration and their phones' door."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from simulations.real.ledger import Ledger
from simulations.real.mailboxes import RealMailbox
from simulations.real.network import Network
from simulations.recording import MailboxSample, MailboxTotals, Moment

__all__ = ["Observer", "Series", "components"]


_COUNTED: Final = ("count", "round_trips", "bytes_in", "bytes_out")


@dataclass(slots=True)
class Series:
    """What is sampled, as in `Recording`."""

    sampled_s: list[float] = field(default_factory=list)
    held_share: list[float] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    traffic_bytes: list[int] = field(default_factory=list)


class Observer:
    """Takes samples. Its questions go over each machine's own loopback, so they cost the network nothing."""

    def __init__(
        self, network: Network, mailboxes: Mapping[str, RealMailbox], ledger: Ledger, topics: Sequence[str]
    ) -> None:
        self._network = network
        self._mailboxes = mailboxes
        self._ledger = ledger
        self._topics = topics
        self._statuses: dict[str, dict[str, Any]] = {}
        self._sessions: defaultdict[str, dict[int, dict[str, int]]] = defaultdict(dict)
        """Mailbox -> which start of it -> its counters when they were last seen."""
        self._carried_bytes = 0
        self.series = Series()
        self.moments: list[Moment] = []

    async def sample(self, at_s: float, *, whole: bool = False) -> None:
        """Asks every mailbox that is up; `whole` reads everything that they hold, not only what is new."""
        self._statuses = {}
        async with trio.open_nursery() as nursery:
            for mailbox in self._mailboxes.values():
                nursery.start_soon(self._look_at, mailbox, at_s, whole)
        series = self.series
        series.sampled_s.append(at_s)
        series.held_share.append(self._ledger.held_share(self.answering, at_s))
        series.groups.append(len(self.groups_of(self.answering)))
        series.up.append(sum(mailbox.is_up and not mailbox.is_asleep for mailbox in self._mailboxes.values()))
        series.messages.append(sum(1 for _ in self._ledger.alive(at_s)))
        carried_bytes = sum(self._traffic().values())
        series.traffic_bytes.append(carried_bytes - self._carried_bytes)
        self._carried_bytes = carried_bytes

    async def _look_at(self, mailbox: RealMailbox, at_s: float, whole: bool) -> None:
        start = mailbox.starts
        status = await mailbox.status()
        if status is None:
            return
        self._statuses[mailbox.name] = status
        self._sessions[mailbox.name][start] = status["sessions"]
        heights = self._ledger.heights(mailbox.name, self._topics)
        answer = await mailbox.holds({topic: {} for topic in self._topics} if whole else heights)
        if answer is not None and mailbox.starts == start and mailbox.is_up:
            self._ledger.seen(mailbox.name, answer, at_s, whole=whole)

    @property
    def answering(self) -> list[str]:
        """The mailboxes that answered the last sample."""
        return [name for name in self._mailboxes if name in self._statuses]

    def groups_of(self, names: Sequence[str]) -> list[list[str]]:
        """Those among `names` that hold the same, the largest group first."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[self._statuses[name]["fingerprint"]].append(name)
        return sorted(groups.values(), key=lambda group: (-len(group), group))

    def moment(self, title: str) -> None:
        """Keeps the network as the last sample saw it."""
        answering = self.answering
        number = {name: index for index, group in enumerate(self.groups_of(answering)) for name in group}
        samples = [
            MailboxSample(
                name,
                mailbox.machine.lan,
                name in number,
                self._statuses[name]["messages"] if name in number else 0,
                number.get(name, -1),
            )
            for name, mailbox in self._mailboxes.items()
        ]
        at_s = self.series.sampled_s[-1]
        self.moments.append(Moment(at_s, title, samples, self._network.switch.connected(answering)))

    def totals(self) -> list[MailboxTotals]:
        """What each mailbox did. Bytes are those of its sync sessions."""
        counted = {
            name: {what: sum(one[what] for one in starts.values()) for what in _COUNTED}
            for name in self._mailboxes
            for starts in [self._sessions[name]]
        }
        return [
            MailboxTotals(
                name,
                mailbox.group.behaviour.value,
                counted[name]["count"],
                counted[name]["round_trips"],
                counted[name]["bytes_in"],
                counted[name]["bytes_out"],
                self._statuses[name]["messages"] if name in self._statuses else 0,
                mailbox.crashes,
            )
            for name, mailbox in self._mailboxes.items()
        ]

    def _traffic(self) -> dict[tuple[str, str], int]:
        return {
            (source, target): count
            for (source, target), count in self._network.switch.traffic().items()
            if source in self._mailboxes and target in self._mailboxes
        }


def components(names: Sequence[str], connected: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Those that can reach each other, be it through others."""
    left = set(names)
    neighbours: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in connected:
        neighbours[one].add(other)
        neighbours[other].add(one)
    found = []
    while left:
        reached, edge = set[str](), {min(left)}
        while edge:
            reached |= edge
            edge = {other for name in edge for other in neighbours[name]} & left - reached
        left -= reached
        found.append(sorted(reached))
    return found
