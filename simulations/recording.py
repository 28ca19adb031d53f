"""What a run yields, simulated or real: enough to draw it, to judge it and to play it again.

It is JSON at heart: `as_json` gives plain values only. Times are seconds from the beginning of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "Glimpse",
    "Happening",
    "MailboxSample",
    "MailboxTotals",
    "MessageSpread",
    "Moment",
    "Recording",
    "Verdict",
    "Watch",
]


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing on the timeline: a fault, its end, a start, a violation. `kind` is a fault's name in lower case with
    hyphens, or `end-of-…`, `start`, `crash`, `violation`."""

    at_s: float
    kind: str
    who: Sequence[str]
    text: str


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A run in progress, at each sample: what the terminal shows meanwhile. `held_share` and `groups` are as in
    `Recording`; `mailboxes` says how many there are, `up` how many of them run, `messages` how many are alive,
    `happenings` what happened since the glimpse before."""

    at_s: float
    held_share: float
    groups: int
    up: int
    mailboxes: int
    messages: int
    happenings: Sequence[Happening] = ()


Watch: TypeAlias = Callable[[Glimpse], None]
"""Called at each sample of a run. It must not change the run; what it raises ends it."""


@dataclass(frozen=True, slots=True)
class MailboxSample:
    """One mailbox at one moment. `lan` is where it stands, `group` tells which hold the same (equal numbers hold equal
    sets)."""

    name: str
    lan: str
    is_up: bool
    messages: int
    group: int


@dataclass(frozen=True, slots=True)
class Moment:
    """The network at one moment that matters. `reachable` are pairs of mailboxes that are connected."""

    at_s: float
    title: str
    mailboxes: Sequence[MailboxSample]
    connected: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MessageSpread:
    """The way of one message: `written_s`, first acknowledgement (None: never), and when each mailbox came to hold it
    first, ascending."""

    written_s: float
    acknowledged_s: float | None
    held_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class MailboxTotals:
    """What a mailbox did in the whole run."""

    name: str
    behaviour: str
    sessions: int
    round_trips: int
    bytes_in: int
    bytes_out: int
    messages: int
    crashes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one invariant: how often it was checked; `counterexample` is None if it held, else a sentence with
    who, what and when."""

    name: str
    title: str
    checks: int
    counterexample: str | None = None

    @property
    def holds(self) -> bool:
        return self.counterexample is None


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run. `sampled_s` are the times of the series; at each of them, `held_share` is the mean over the messages
    alive of the share of running correct mailboxes that hold each, `groups` says how many different sets there are
    among them, `traffic_bytes` what mailboxes sent each other since the sample before."""

    scenario: str
    title: str
    seed: int
    world: str  # "simulated" or "real"
    simulated_s: float
    wall_s: float
    trace_hash: str
    happenings: Sequence[Happening] = ()
    sampled_s: Sequence[float] = ()
    held_share: Sequence[float] = ()
    groups: Sequence[int] = ()
    up: Sequence[int] = ()
    messages: Sequence[int] = ()
    traffic_bytes: Sequence[int] = ()
    moments: Sequence[Moment] = ()
    spreads: Sequence[MessageSpread] = ()
    totals: Sequence[MailboxTotals] = ()
    verdicts: Sequence[Verdict] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        return all(verdict.holds for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """The whole of it in plain values."""
        return asdict(self) | {"verdict": "pass" if self.passed else "fail"}
