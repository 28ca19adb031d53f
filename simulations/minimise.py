"""Makes a failing scenario small: fewer faults, fewer machines, shorter, plainer, as long as it still fails.

Delta debugging: each step has candidates in which something is missing, and the first that still fails takes the
scenario's place. It ends when no candidate fails any more, so that nothing in the result is there without need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from simulations.checking import check, end_of, names_of, targets_of
from simulations.scenario import PRESETS, Fault, Scenario, Walk
from simulations.schema import ScenarioError, keys_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["FirstFailing", "minimise", "size_of"]

FirstFailing: TypeAlias = Callable[[Iterable[Scenario]], Scenario | None]
"""Plays scenarios in this order and returns the first that fails (in the same way), None if none does or the time for
it is over."""

T = TypeVar("T", bound="DataclassInstance")

_SHORTEST_S: Final = 60.0


def minimise(scenario: Scenario, first_failing: FirstFailing, *, failed_at_s: float | None = None) -> Scenario:
    """The smallest scenario found that still fails; `scenario` is known to, at `failed_at_s` if that is given."""
    steps: Sequence[Callable[[Scenario], Iterable[Scenario]]] = (
        _without_a_group,
        _with_fewer_faults,
        _with_smaller_groups,
        _without_a_place,
        _shorter,
        _plainer,
    )
    if failed_at_s is not None and failed_at_s < scenario.calm_from_s:
        # What came later did no harm, and all that follows is the quicker without it.
        scenario = first_failing(_playable([_ended_at(scenario, failed_at_s + 1.0)])) or scenario
    while True:
        before = scenario
        for step in steps:
            while (smaller := first_failing(_playable(step(scenario)))) is not None:
                scenario = smaller
        if scenario == before:
            return scenario


def size_of(scenario: Scenario) -> str:
    """What minimising makes smaller, in words."""
    mailboxes = sum(group.count for group in scenario.mailboxes)
    phones = sum(group.count for group in scenario.phones)
    return f"{len(scenario.faults)} faults, {mailboxes} mailboxes, {phones} phones, {scenario.duration_s:.0f} s"


def _with(value: T, changes: dict[str, Any]) -> T:
    return replace(value, **changes)


def _playable(candidates: Iterable[Scenario]) -> Iterator[Scenario]:
    for candidate in candidates:
        try:
            check(candidate)
        except ScenarioError:
            continue
        yield candidate


# --- faults --------------------------------------------------------------------------------------------------------


def _with_fewer_faults(scenario: Scenario) -> Iterator[Scenario]:
    """Only a part of the faults, or all but a part: halves first, single ones last. Then with fewer victims."""
    faults = list(scenario.faults)
    if faults:
        yield scenario.with_faults([])
    parts = 2
    while parts <= len(faults):
        bounds = [round(number * len(faults) / parts) for number in range(parts + 1)]
        if parts == 2:
            yield from (scenario.with_faults(faults[a:b]) for a, b in pairwise(bounds))
        else:
            for a, b in pairwise(bounds):
                yield scenario.with_faults([*faults[:a], *faults[b:]])
        parts = len(faults) if parts < len(faults) < 2 * parts else 2 * parts
    for number, fault in enumerate(faults):
        for key, names in targets_of(fault).items():
            for name in names if len(names) > 1 else ():
                fewer = _with(fault, {key: [other for other in names if other != name]})
                yield scenario.with_faults([*faults[:number], fewer, *faults[number + 1 :]])


# --- machines ------------------------------------------------------------------------------------------------------


def _without_a_group(scenario: Scenario) -> Iterator[Scenario]:
    for part in ("phones", "mailboxes"):
        for group in getattr(scenario, part):
            rest = [other for other in getattr(scenario, part) if other is not group]
            yield _without_names(_with(scenario, {part: rest}), {group.name, *names_of(group)})


def _with_smaller_groups(scenario: Scenario) -> Iterator[Scenario]:
    """Half of a group, then one less."""
    for part in ("mailboxes", "phones"):
        for number, group in enumerate(getattr(scenario, part)):
            for count in dict.fromkeys((group.count // 2, group.count - 1)):
                if count < 1:
                    continue
                smaller = replace(group, count=count)
                rows = list(getattr(scenario, part))
                rows[number] = smaller
                gone = {*names_of(group)} - {*names_of(smaller)}
                renamed = {f"{group.name}-1": group.name} if count == 1 else {}
                yield _without_names(_with(scenario, {part: rows}), gone, renamed)


def _without_a_place(scenario: Scenario) -> Iterator[Scenario]:
    """Without a LAN, its people moved to another one; then without a route."""
    for lan in scenario.lans if len(scenario.lans) > 1 else ():
        rest = [other for other in scenario.lans if other is not lan]
        other = rest[0].name
        moved = replace(
            scenario,
            lans=rest,
            routes=[route for route in scenario.routes if lan.name not in route.lans],
            mailboxes=[replace(one, lan=other) if one.lan == lan.name else one for one in scenario.mailboxes],
            phones=[replace(one, lan=other) if one.lan == lan.name else one for one in scenario.phones],
            faults=[fault for fault in scenario.faults if not (isinstance(fault, Walk) and fault.to_lan == lan.name)],
        )
        yield _without_names(moved, {lan.name})
    for route in scenario.routes:
        yield replace(scenario, routes=[other for other in scenario.routes if other is not route])


def _without_names(scenario: Scenario, gone: set[str], renamed: dict[str, str] | None = None) -> Scenario:
    """Nobody speaks of them any more; what befell only them does not happen."""
    new_names = renamed or {}

    def left(names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(new_names.get(name, name) for name in names if name in new_names or name not in gone))

    faults: list[Fault] = []
    for fault in scenario.faults:
        targets = {key: left(names) for key, names in targets_of(fault).items()}
        if all(targets.values()):
            faults.append(_with(fault, targets))
    mailboxes = [replace(group, peers=left(group.peers)) for group in scenario.mailboxes]
    return replace(scenario, mailboxes=mailboxes, faults=faults)


# --- time ----------------------------------------------------------------------------------------------------------


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    """Less time at the end, then before the first fault and between two, each time a half."""
    last_s = max([*(end_of(scenario, fault) for fault in scenario.faults), _SHORTEST_S])
    for calm_s in dict.fromkeys((last_s, (last_s + scenario.calm_from_s) / 2)):
        yield from _if_shorter(scenario, _cut_out(scenario, calm_s, scenario.calm_from_s))
    yield from _if_shorter(scenario, replace(scenario, duration_s=scenario.calm_from_s + scenario.settle_s))
    times = sorted({0.0, *(moment for fault in scenario.faults for moment in (fault.at_s, end_of(scenario, fault)))})
    for begin_s, end_s in pairwise(times):
        for left_s in (0.0, (end_s - begin_s) / 2):
            yield from _if_shorter(scenario, _cut_out(scenario, begin_s + left_s, end_s))


def _ended_at(scenario: Scenario, end_s: float) -> Scenario:
    """Only what happens before `end_s`, with no quiet time after it."""
    faults = [fault for fault in scenario.faults if fault.at_s < end_s]
    shorter = _cut_out(scenario.with_faults(faults), end_s, scenario.duration_s)
    return replace(shorter, duration_s=end_s, calm_from_s=end_s, settle_s=0.0)


def _if_shorter(scenario: Scenario, other: Scenario) -> Iterator[Scenario]:
    if other.duration_s < scenario.duration_s - 1.0:
        yield other


def _cut_out(scenario: Scenario, begin_s: float, end_s: float) -> Scenario:
    """Without the time from `begin_s` to `end_s`: what comes later comes earlier, what lasted is shorter by it."""

    def moved(at_s: float) -> float:
        if at_s == inf:
            return at_s
        return round(at_s if at_s <= begin_s else max(begin_s, at_s - (end_s - begin_s)), 3)

    def moved_fault(fault: Fault) -> Fault:
        changes = {"at_s": moved(fault.at_s)}
        for attribute in ("for_s", "restart_after_s"):
            span_s = getattr(fault, attribute, None)
            if span_s is not None:
                changes[attribute] = round(moved(fault.at_s + span_s) - changes["at_s"], 3)
        return _with(fault, changes)

    return replace(
        scenario,
        duration_s=moved(scenario.duration_s),
        calm_from_s=moved(scenario.calm_from_s),
        mailboxes=[replace(group, starts_at_s=moved(group.starts_at_s)) for group in scenario.mailboxes],
        phones=[
            replace(group, writes_from_s=moved(group.writes_from_s), writes_until_s=moved(group.writes_until_s))
            for group in scenario.phones
        ],
        faults=[moved_fault(fault) for fault in scenario.faults],
    )


# --- details -------------------------------------------------------------------------------------------------------


def _plainer(scenario: Scenario) -> Iterator[Scenario]:
    """Everything as it is by default, and on cables, one thing at a time."""
    for part in ("mailboxes", "phones", "lans", "routes"):
        rows = list(getattr(scenario, part))
        for number, row in enumerate(rows):
            for key in keys_of(type(row)).values():
                plain = PRESETS["ethernet"] if key.kind == "link" else key.default
                if not key.is_required and key.name != "count" and getattr(row, key.attribute) != plain:
                    plainer = _with(row, {key.attribute: plain})
                    yield _with(scenario, {part: [*rows[:number], plainer, *rows[number + 1 :]]})
