"""What is played: LANs and the links between them, mailboxes, phones, traffic, and a timeline of faults.

Pure data without behaviour: `simulations.files` reads it from TOML, `simulations.swarm` draws it from a seed, the
simulated world and the real one (processes in network namespaces) both play it. Times are seconds of simulated time
from the beginning of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, TypeAlias

__all__ = [
    "PRESETS",
    "Behaviour",
    "Churn",
    "ClockChange",
    "Clog",
    "Crash",
    "Cut",
    "DiskFull",
    "Fault",
    "Heal",
    "Lan",
    "Link",
    "Mailboxes",
    "Pause",
    "Phones",
    "Reset",
    "Route",
    "Scenario",
    "Start",
    "Stop",
    "Upgrade",
    "Walk",
    "WipeDisk",
]


@dataclass(frozen=True, slots=True)
class Link:
    """What one direction between two machines is like. Loss is felt as stalls (TCP repeats what is lost) and, when it
    lasts, as broken streams: bytes never vanish from the middle of a stream. Bursts follow Gilbert and Elliott: the
    link turns bad once in `good_s` on the average and stays so for `bad_s`; each time it breaks its streams with a
    chance of `break_chance`."""

    latency_s: float = 0.001
    jitter_s: float = 0.0
    bandwidth_bytes_per_s: float = 12_500_000.0
    good_s: float = float("inf")
    bad_s: float = 0.0
    break_chance: float = 0.0
    multicast_loss: float = 0.0
    """The share of multicast packets (mDNS) that is lost."""


PRESETS: Final[Mapping[str, Link]] = {
    "ethernet": Link(0.0005, 0.0001, 117e6),
    "good-wifi": Link(0.003, 0.002, 6e6, good_s=600, bad_s=0.3, multicast_loss=0.01),
    "festival-wifi": Link(0.04, 0.06, 120e3, good_s=20, bad_s=4, break_chance=0.15, multicast_loss=0.3),
    "internet": Link(0.03, 0.005, 1.25e6, good_s=3600, bad_s=1),
    "slow-internet": Link(0.15, 0.05, 16e3, good_s=120, bad_s=5, break_chance=0.05),
    "satellite": Link(0.3, 0.02, 250e3, good_s=900, bad_s=3),
    "lora": Link(1.5, 0.5, 100, good_s=300, bad_s=30, break_chance=0.1, multicast_loss=0.5),
}
"""Named links, from what such links are known to do. `lora` is a long-range radio at a few hundred bits a second."""


@dataclass(frozen=True, slots=True)
class Lan:
    """Machines that hear each other's multicast, joined by one kind of link."""

    name: str
    link: Link = PRESETS["good-wifi"]


@dataclass(frozen=True, slots=True)
class Route:
    """A way between two LANs. No multicast crosses it: mailboxes find each other over it only by `Mailboxes.peers`."""

    lans: tuple[str, str]
    link: Link = PRESETS["internet"]


class Behaviour(StrEnum):
    """What a mailbox does to others. All but `HONEST` run the honest node's code with a lie in it, or none of it."""

    HONEST = "honest"
    LIES = "lies"  # fingerprints and claims that are not true, digests that do not match
    STALLS = "stalls"  # opens sessions and goes silent, reads slowly
    FLOODS = "floods"  # sessions, hints and announcements without end
    REPLAYS = "replays"  # sends again what it once heard
    WITHHOLDS = "withholds"  # advertises and never delivers
    CRAMS = "crams"  # brings masses of messages of its own, for others to fetch and keep


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """`count` mailboxes of one kind: `name` alone if it is one, else `name-1`, `name-2`, …"""

    name: str
    lan: str
    count: int = 1
    behaviour: Behaviour = Behaviour.HONEST
    peers: Sequence[str] = ()
    """Names of mailboxes or groups whose addresses they are given (`--peer`)."""
    sync_interval_s: float = 30.0
    retention_s: float = 7 * 86_400.0
    storage_limit_bytes: int | None = None
    clock_offset_s: float = 0.0
    clock_drift_ppm: float = 0.0
    starts_at_s: float = 0.0
    fsync_s: float = 0.01
    """How long the disk takes to make something durable."""


@dataclass(frozen=True, slots=True)
class Phones:
    """`count` phones with the app's client policies. Each writes one log in each topic and reads them all."""

    name: str
    lan: str
    count: int = 1
    topics: Sequence[str] = ("chat",)
    messages_per_hour: float = 6.0
    message_bytes: int = 300
    policy: str = "round-robin"
    """`round-robin` (the first app: one mailbox a turn) or `each` (later ones: every mailbox on a clock of its own)."""
    writes_from_s: float = 0.0
    writes_until_s: float = float("inf")
    open_s: float = float("inf")
    closed_s: float = 0.0
    """The app is open for `open_s` on average, then closed for `closed_s`: it doesn't poll until it is opened again, at
    the latest to write."""


# --- Faults. `who` names mailboxes, phones or groups of them; `at_s` says when. ---------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing passes from `a` to `b`, nor back unless `one_way`. Each is a LAN, a mailbox, a group or a phone; all
    connections between them break (`silently`: they only stall). Undone by `Heal` or after `for_s`."""

    at_s: float
    a: Sequence[str]
    b: Sequence[str]
    one_way: bool = False
    silently: bool = True
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Heal:
    """Ends all cuts and clogs."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Clog:
    """What is sent from `a` to `b` meanwhile arrives when it is over."""

    at_s: float
    a: Sequence[str]
    b: Sequence[str]
    for_s: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Breaks every stream of `who` at whatever byte it is."""

    at_s: float
    who: Sequence[str]


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies at any await, what was not yet durable is lost; it starts again after `restart_after_s` (None:
    never)."""

    at_s: float
    who: Sequence[str]
    restart_after_s: float | None = 5.0


@dataclass(frozen=True, slots=True)
class Stop:
    """An orderly end, for good or until `Start`."""

    at_s: float
    who: Sequence[str]


@dataclass(frozen=True, slots=True)
class Start:
    """Starts what was stopped or crashed, with the disk as it was."""

    at_s: float
    who: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pause:
    """The machine sleeps: nothing runs, connections stall, and its clocks go on."""

    at_s: float
    who: Sequence[str]
    for_s: float


@dataclass(frozen=True, slots=True)
class DiskFull:
    """Nothing can be written for `for_s`."""

    at_s: float
    who: Sequence[str]
    for_s: float


@dataclass(frozen=True, slots=True)
class WipeDisk:
    """The mailbox crashes and comes back with the same identity and an empty store."""

    at_s: float
    who: Sequence[str]
    restart_after_s: float = 5.0


@dataclass(frozen=True, slots=True)
class ClockChange:
    """The wall clock steps by `step_s`, and drifts by `drift_ppm` from now on (None: as before)."""

    at_s: float
    who: Sequence[str]
    step_s: float = 0.0
    drift_ppm: float | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """Phones or mailboxes move to another LAN with all that they hold."""

    at_s: float
    who: Sequence[str]
    to_lan: str


@dataclass(frozen=True, slots=True)
class Churn:
    """From `at_s` on for `for_s` each of `who` crashes and comes back: up for `up_s` on average, down for `down_s`."""

    at_s: float
    who: Sequence[str]
    for_s: float
    up_s: float
    down_s: float


@dataclass(frozen=True, slots=True)
class Upgrade:
    """They are stopped one after the other, `every_s` apart, and start again speaking the sync version `to_version`.
    Before it they speak `from_version`."""

    at_s: float
    who: Sequence[str]
    every_s: float
    from_version: int
    to_version: int


Fault: TypeAlias = (
    Cut
    | Heal
    | Clog
    | Reset
    | Crash
    | Stop
    | Start
    | Pause
    | DiskFull
    | WipeDisk
    | ClockChange
    | Walk
    | Churn
    | Upgrade
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole play. `duration_s` includes the quiet time at its end: all faults are over at `calm_from_s`, and from
    `calm_from_s` + `settle_s` on all correct mailboxes that can reach each other must hold the same."""

    name: str
    title: str
    duration_s: float
    calm_from_s: float
    settle_s: float
    lans: Sequence[Lan]
    mailboxes: Sequence[Mailboxes]
    phones: Sequence[Phones] = ()
    routes: Sequence[Route] = ()
    faults: Sequence[Fault] = ()
    description: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def with_faults(self, faults: Sequence[Fault]) -> Scenario:
        """The same with another timeline."""
        return replace(self, faults=tuple(faults))
