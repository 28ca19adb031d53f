"""Draws a random scenario from a seed: its size, its links, who is in it, and which kinds of faults befall it.

Each seed has a subset of its own of all kinds of trouble: a run with everything at once finds less, because one fault
hides another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

from protocols.limits.data import CLOCK_SKEW_MAX_S, RETENTION_DEFAULT_S
from protocols.limits.sync import SYNC_VERSION_MAX
from simulations.checking import check, names_of
from simulations.scenario import (
    PRESETS,
    Behaviour,
    Churn,
    ClockChange,
    Clog,
    Crash,
    Cut,
    DiskFull,
    Fault,
    Heal,
    Lan,
    Mailboxes,
    Pause,
    Phones,
    Reset,
    Route,
    Scenario,
    Start,
    Stop,
    Upgrade,
    Walk,
    WipeDisk,
)

__all__ = ["draw_scenario"]

# A run's size, so that it takes a second or two: many small runs find more than a few large ones.
_MAILBOX_HOURS: Final = 8.0
_SESSIONS: Final = 800.0
_MESSAGES: Final = 60.0
_HOURS: Final = (0.2, 0.5, 1, 2, 6, 24)
_SYNC_INTERVALS_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_LAN_LINKS: Final = {"ethernet": 2, "good-wifi": 5, "festival-wifi": 3}
_ROUTE_LINKS: Final = {"internet": 5, "slow-internet": 2, "satellite": 2}
_TROUBLE_CHANCE: Final = 0.4
_HOUR_S: Final = 3600.0


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed: the same on every machine."""
    chance = random.Random(f"swarm {seed}")
    hours = chance.choice(_HOURS)
    lans = _draw_lans(chance)
    mailboxes = _draw_mailboxes(chance, lans, hours)
    phones = _draw_phones(chance, lans, hours)
    settle_s = 1200.0 + 10 * max(mailbox.sync_interval_s for mailbox in mailboxes)
    calm_s = hours * _HOUR_S
    stage = _Stage(chance, calm_s, lans, mailboxes, phones)
    scenario = Scenario(
        name=f"swarm-{seed}",
        title=f"Drawn from seed {seed}",
        duration_s=calm_s + settle_s + 120.0,
        calm_from_s=calm_s,
        settle_s=settle_s,
        lans=lans,
        mailboxes=mailboxes,
        phones=phones,
        routes=[Route((one.name, other.name), PRESETS[_pick(chance, _ROUTE_LINKS)]) for one, other in pairwise(lans)],
        faults=sorted(stage.troubles(), key=lambda fault: fault.at_s),
    )
    check(scenario)
    return scenario


def _pick(chance: random.Random, weights: Mapping[str, int]) -> str:
    (name,) = chance.choices(list(weights), list(weights.values()))
    return name


def _draw_lans(chance: random.Random) -> list[Lan]:
    count = chance.choice([1, 1, 2, 2, 3])
    return [Lan(f"lan-{number}", PRESETS[_pick(chance, _LAN_LINKS)]) for number in range(1, count + 1)]


def _draw_mailboxes(chance: random.Random, lans: Sequence[Lan], hours: float) -> list[Mailboxes]:
    most = int(max(2 * len(lans), min(12, _MAILBOX_HOURS / hours)))
    total = chance.randint(max(2, len(lans)), most)
    retention_s = chance.choice([RETENTION_DEFAULT_S, RETENTION_DEFAULT_S, hours * _HOUR_S / 2])
    sessions_s = total * (total - 1) / 2 * hours * _HOUR_S  # between all pairs, if they compared every second
    sync_interval_s = next((s for s in _SYNC_INTERVALS_S if sessions_s / s < _SESSIONS), _SYNC_INTERVALS_S[-1])
    have_odd_clocks = chance.random() < _TROUBLE_CHANCE
    counts = [max(1, total // len(lans))] * len(lans)
    counts[0] += max(0, total - sum(counts))
    found = []
    for lan, count in zip(lans, counts, strict=True):
        found.append(
            Mailboxes(
                f"box-{lan.name}",
                lan.name,
                count,
                # Over routes nobody hears the others' multicast: they are named.
                peers=() if len(lans) == 1 else [f"box-{other.name}" for other in lans if other is not lan],
                sync_interval_s=sync_interval_s,
                retention_s=max(1800.0, float(int(retention_s))),
                fsync_s=chance.choice([0.001, 0.01, 0.2]),
                clock_offset_s=float(chance.randint(-200, 200)) if have_odd_clocks else 0.0,
                clock_drift_ppm=float(chance.randint(-50, 50)) if have_odd_clocks else 0.0,
            )
        )
    hostile = sum(counts) // 3
    if hostile and chance.random() < _TROUBLE_CHANCE:
        behaviour = chance.choice([behaviour for behaviour in Behaviour if behaviour is not Behaviour.HONEST])
        found.append(Mailboxes("liar", chance.choice(lans).name, chance.randint(1, hostile), behaviour))
    return found


def _draw_phones(chance: random.Random, lans: Sequence[Lan], hours: float) -> list[Phones]:
    counts = [chance.randint(0, 3) for _ in lans]
    counts[0] = counts[0] or 1
    topics = ["tea", "cake"][: chance.randint(1, 2)]
    writers = sum(counts) * len(topics)
    is_long = hours > 1  # nobody looks at a telephone for days on end
    rate = min(60.0, round(_MESSAGES * chance.random() / hours / writers, 2))
    return [
        Phones(
            f"phone-{lan.name}",
            lan.name,
            count,
            topics,
            messages_per_hour=rate,
            message_bytes=chance.choice([100, 300, 2000, 40_000]),
            policy=chance.choice(["round-robin", "each"]),
            writes_until_s=hours * _HOUR_S,
            open_s=300.0 if is_long else inf,
            closed_s=hours * 300.0 if is_long else 0.0,
        )
        for lan, count in zip(lans, counts, strict=True)
        if count
    ]


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a drawn scenario's faults need to know of it."""

    chance: random.Random
    calm_s: float
    lans: Sequence[Lan]
    mailboxes: Sequence[Mailboxes]
    phones: Sequence[Phones]

    def troubles(self) -> list[Fault]:
        """Some kinds of trouble, each some times."""
        kinds: list[Callable[[], list[Fault]]] = [
            self._cuts,
            self._cuts,
            self._clogs,
            self._resets,
            self._crashes,
            self._stops,
            self._pauses,
            self._full_disks,
            self._wiped_disks,
            self._clock_steps,
            self._walks,
            self._churn,
            self._upgrade,
        ]
        chosen = [kind for kind in kinds if self.chance.random() < _TROUBLE_CHANCE]
        return [fault for kind in chosen for _ in range(self.chance.randint(1, 3)) for fault in kind()]

    # --- when and who ----------------------------------------------------------------------------------------------

    def _time(self, first_s: float = 0.0, last_s: float = inf) -> float:
        return round(self.chance.uniform(first_s, min(last_s, self.calm_s)), 1)

    def _span(self) -> tuple[float, float]:
        """When it begins, and for how long."""
        at_s = self._time(0.0, self.calm_s * 0.9)
        longest_s = self.calm_s - at_s
        return at_s, round(min(longest_s, self.chance.choice([5.0, 60.0, 600.0, longest_s]) * self.chance.random()), 1)

    def _honest(self) -> list[str]:
        groups = [group for group in self.mailboxes if group.behaviour is Behaviour.HONEST]
        return [name for group in groups for name in names_of(group)]

    def _some(self, names: Sequence[str]) -> list[str]:
        most = max(1, len(names) // 2)
        return sorted(self.chance.sample(names, self.chance.randint(1, most)))

    def _two_sides(self) -> tuple[list[str], list[str]]:
        """Two sets of places or mailboxes."""
        names = [lan.name for lan in self.lans] if len(self.lans) > 1 and self.chance.random() < 0.6 else self._honest()
        names = self.chance.sample(names, len(names))
        at = self.chance.randint(1, len(names) - 1)
        return sorted(names[:at]), sorted(names[at:])

    # --- kinds of trouble ------------------------------------------------------------------------------------------

    def _cuts(self) -> list[Fault]:
        a, b = self._two_sides()
        at_s, for_s = self._span()
        one_way, silently = self.chance.random() < 0.3, self.chance.random() < 0.5
        if self.chance.random() < 0.3:
            return [Cut(at_s, a, b, one_way, silently), Heal(round(at_s + for_s, 1))]
        return [Cut(at_s, a, b, one_way, silently, for_s)]

    def _clogs(self) -> list[Fault]:
        a, b = self._two_sides()
        at_s, for_s = self._span()
        return [Clog(at_s, a, b, for_s)]

    def _resets(self) -> list[Fault]:
        return [Reset(self._time(), self._some(self._honest()))]

    def _crashes(self) -> list[Fault]:
        at_s, for_s = self._span()
        return [Crash(at_s, self._some(self._honest()), for_s)]

    def _stops(self) -> list[Fault]:
        at_s, for_s = self._span()
        who = self._some(self._honest())
        return [Stop(at_s, who), Start(round(at_s + for_s, 1), who)]

    def _pauses(self) -> list[Fault]:
        at_s, for_s = self._span()
        return [Pause(at_s, self._some(self._honest()), for_s)]

    def _full_disks(self) -> list[Fault]:
        at_s, for_s = self._span()
        return [DiskFull(at_s, self._some(self._honest()), for_s)]

    def _wiped_disks(self) -> list[Fault]:
        at_s, for_s = self._span()
        return [WipeDisk(at_s, self._some(self._honest())[:1], for_s)]

    def _clock_steps(self) -> list[Fault]:
        """A clock goes wrong and is set right again."""
        at_s, for_s = self._span()
        who = self._some(self._honest())
        size_s = self.chance.choice([30.0, CLOCK_SKEW_MAX_S, 7200.0, 40 * 86_400.0])
        step_s = round(self.chance.uniform(-size_s, size_s), 1)
        return [ClockChange(at_s, who, step_s), ClockChange(round(at_s + for_s, 1), who, -step_s)]

    def _walks(self) -> list[Fault]:
        walkers = [name for group in self.phones for name in names_of(group)]
        return [Walk(self._time(), self._some(walkers), self.chance.choice(self.lans).name)]

    def _churn(self) -> list[Fault]:
        at_s, for_s = self._span()
        up_s, down_s = (round(self.chance.uniform(30, 1800), 1) for _ in range(2))
        return [Churn(at_s, self._some(self._honest()), for_s, up_s, down_s)]

    def _upgrade(self) -> list[Fault]:
        group = self.chance.choice([group for group in self.mailboxes if group.behaviour is Behaviour.HONEST])
        at_s, for_s = self._span()
        every_s = round(for_s / group.count, 1) if group.count > 1 else 0.0
        every_s = min(every_s, for_s / max(1, group.count - 1))
        return [Upgrade(at_s, [group.name], every_s, SYNC_VERSION_MAX, SYNC_VERSION_MAX + 1)]
