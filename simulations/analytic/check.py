"""The model beside the simulator: the same plan, reckoned and played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, nan
from statistics import median
from typing import Final

from simulations.analytic import costs
from simulations.analytic.costs import SIMULATED
from simulations.analytic.flows import Flow, comparisons, flows_of
from simulations.analytic.model import hint_bytes_per_s, session_bytes_per_s, spread_to_all_s
from simulations.analytic.plan import Network, Plan
from simulations.play import play
from simulations.recording import Recording
from simulations.scenario import PRESETS, Lan, Mailboxes, Phones, Route, Scenario

__all__ = ["Comparison", "compare", "played", "scenario_of"]

_DAY_S: Final = 86_400.0
_QUIET_FROM_S: Final = 60.0
"""By then all have met."""

_QUIET_UNTIL_S: Final = 90.0
"""Before the end: what was written last has time to spread."""

_NEARLY_ALL: Final = 0.95
"""The simulator loses one hint in a hundred, which the model does not; the next comparison finds what it was about."""

_LAN_PHONES: Final = 4
"""Phones in each LAN."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure, for each mailbox or for each message."""

    what: str
    model: float
    simulated: float

    @property
    def ratio(self) -> float:
        """Model ÷ simulated."""
        return self.model / self.simulated if self.simulated else nan


def scenario_of(plan: Plan, duration_s: float) -> Scenario:
    """The plan as a scenario: every LAN with good Wi-Fi, its gateway and some phones, and the tree in the internet."""
    network = Network.of(plan)
    lans = [Lan(f"lan-{number}") for number in range(network.lans)]
    mailboxes: list[Mailboxes] = []
    phones: list[Phones] = []
    routes: list[Route] = []
    left = plan.mailboxes
    for number, lan in enumerate(lans):
        count = left // (network.lans - number)
        left -= count
        if network.levels:
            above = _internet(0, number // plan.branch)
            mailboxes.append(Mailboxes(f"gateway-{number}", lan.name, peers=(above,)))
            routes.append(Route((lan.name, above)))
        if others := count - bool(network.levels):
            mailboxes.append(Mailboxes(f"in-{lan.name}", lan.name, others))
        phones.append(
            Phones(
                f"phones-{number}",
                lan.name,
                _LAN_PHONES,
                messages_per_hour=plan.messages_per_day / 24 * count / _LAN_PHONES,
                message_bytes=plan.message_bytes,
                writes_from_s=_QUIET_FROM_S,
                writes_until_s=duration_s - _QUIET_UNTIL_S,
            )
        )
    for level, count in enumerate(network.levels):
        for number in range(count):
            name, above = _internet(level, number), _internet(level + 1, number // plan.branch)
            is_top = level + 1 == len(network.levels)
            lans.append(Lan(name, PRESETS["ethernet"]))
            mailboxes.append(Mailboxes(name, name, peers=() if is_top else (above,)))
            if not is_top:
                routes.append(Route((name, above)))
    return Scenario(
        name="plan",
        title=f"{plan.mailboxes} mailboxes in {network.lans} LANs",
        duration_s=duration_s,
        calm_from_s=duration_s - _QUIET_UNTIL_S,
        settle_s=_QUIET_UNTIL_S / 2,
        lans=lans,
        mailboxes=mailboxes,
        phones=phones,
        routes=routes,
    )


def _internet(level: int, number: int) -> str:
    return f"internet-{level + 1}-{number}"


def played(plan: Plan, duration_s: float, *, seed: int = 1) -> tuple[Recording, list[Comparison]]:
    """Plays the plan and holds the model against it."""
    recording = play(scenario_of(plan, duration_s), seed)
    return recording, compare(plan, recording)


def compare(plan: Plan, recording: Recording) -> list[Comparison]:
    """The model of what was played: with as many messages as came about, and everybody new to each other at first."""
    duration_s = recording.simulated_s
    writing_s = duration_s - _QUIET_FROM_S - _QUIET_UNTIL_S
    written = len(recording.spreads)
    plan = replace(plan, messages_per_day=written / plan.mailboxes / writing_s * _DAY_S)
    network = Network.of(plan)
    flows = flows_of(plan, network)
    mailboxes = sum(flow.mailboxes for flow in flows)

    def each(figure: Callable[[Flow], float]) -> float:
        return sum(flow.mailboxes * figure(flow) for flow in flows) / mailboxes

    compared = each(lambda flow: sum(link.count * comparisons(flow, link, duration_s) for link in flow.links))
    frames = compared * costs.IDLE_SESSION_BYTES + writing_s * each(
        lambda flow: (
            session_bytes_per_s(flow, replace(SIMULATED, news_session_bytes=0))
            + flow.moved_in_sessions * plan.message_bytes
        )
    )
    news = writing_s * each(lambda flow: flow.asked + flow.served)
    around = compared * SIMULATED.idle_session_bytes + news * SIMULATED.news_session_bytes
    hints = writing_s * each(
        lambda flow: hint_bytes_per_s(flow, SIMULATED) + flow.moved_with_hints * plan.message_bytes
    )
    nearly_all = ceil(_NEARLY_ALL * mailboxes)
    spreads = [one.held_s for one in recording.spreads if len(one.held_s) >= nearly_all]
    spread_s = median(held_s[nearly_all - 1] - held_s[0] for held_s in spreads) if spreads else nan
    return [
        Comparison("sessions of a mailbox", compared + news, sum(one.sessions for one in recording.totals) / mailboxes),
        Comparison(
            "their bytes",
            frames,
            sum(one.bytes_in + one.bytes_out for one in recording.totals) / mailboxes,
        ),
        # Each byte has two ends; the recording counts it once.
        Comparison("all bytes on the way", frames + around + hints, 2 * sum(recording.traffic_bytes) / mailboxes),
        Comparison("seconds until 95 % hold it", spread_to_all_s(plan, network), spread_s),
    ]
