"""The same scenario in less time: real time can't be made to jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any, Final, TypeVar

from protocols.limits.data import RETENTION_MIN_S
from protocols.limits.simulation import REAL_SETTLE_MIN_S
from protocols.limits.tools import SYNC_INTERVAL_MIN_S
from simulations.scenario import ClockChange, Mailboxes, Phones, Scenario

__all__ = ["faster"]

_TIMES: Final = frozenset(
    [
        "at_s",
        "for_s",
        "restart_after_s",
        "up_s",
        "down_s",
        "every_s",
        "starts_at_s",
        "writes_from_s",
        "writes_until_s",
        "open_s",
        "closed_s",
    ]
)
"""The fields of faults, mailboxes and phones that are times of the play."""

Part = TypeVar("Part")


def faster(scenario: Scenario, speed: float) -> Scenario:
    """The same play in a `speed`th of its time: the timeline, retention and sync intervals are that much shorter, and
    phones write that much more often, so that there are as many messages. Play it simulated, too, to compare.

    What is physics stays: links, disks, by how much clocks are wrong. So do the node's and the app's own constants, for
    instance how long an unreachable neighbour is left alone; therefore `settle_s` is never made shorter than
    REAL_SETTLE_MIN_S. Raises ValueError for a speed of zero or less.
    """
    if not speed > 0:
        raise ValueError(f"a speed of {speed:g} makes no sense; give a number above 0, for example 60")
    if speed == 1:
        return scenario
    calm_from_s = scenario.calm_from_s / speed
    settle_s = max(scenario.settle_s / speed, min(scenario.settle_s, REAL_SETTLE_MIN_S))
    return replace(
        scenario,
        duration_s=max(scenario.duration_s / speed, calm_from_s + settle_s),
        calm_from_s=calm_from_s,
        settle_s=settle_s,
        mailboxes=[_mailboxes(part, speed) for part in scenario.mailboxes],
        phones=[_phones(part, speed) for part in scenario.phones],
        faults=_faults(scenario, speed),
    )


def _timed(part: Part, speed: float) -> Part:
    fields: Sequence[str] = [name for name in _TIMES if getattr(part, name, None) is not None]
    changes: dict[str, Any] = {name: getattr(part, name) / speed for name in fields}
    return replace(part, **changes)  # type: ignore[type-var]


def _mailboxes(part: Mailboxes, speed: float) -> Mailboxes:
    return replace(
        _timed(part, speed),
        sync_interval_s=max(part.sync_interval_s / speed, min(part.sync_interval_s, SYNC_INTERVAL_MIN_S)),
        retention_s=max(ceil(part.retention_s / speed), RETENTION_MIN_S),
        clock_drift_ppm=part.clock_drift_ppm * speed,
    )


def _phones(part: Phones, speed: float) -> Phones:
    return replace(_timed(part, speed), messages_per_hour=part.messages_per_hour * speed)


def _faults(scenario: Scenario, speed: float) -> list[Any]:
    faults = [_timed(fault, speed) for fault in scenario.faults]
    return [
        replace(fault, drift_ppm=fault.drift_ppm * speed)
        if isinstance(fault, ClockChange) and fault.drift_ppm is not None
        else fault
        for fault in faults
    ]
