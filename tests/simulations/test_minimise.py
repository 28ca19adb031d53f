"""Delta debugging on made-up failures: what is needed stays, all else goes; and drawn scenarios are all playable."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from protocols.client.policies import POLICIES as PHONE_POLICIES
from simulations.checking import POLICIES, check, names_of
from simulations.drawing import draw_scenario
from simulations.minimise import minimise, size_of
from simulations.scenario import Behaviour, Crash, Cut, Mailboxes, Scenario, WipeDisk


class Hunt:
    """Finds the first scenario that `fails`; counts how many it looked at."""

    def __init__(self, fails: Callable[[Scenario], bool]) -> None:
        self._fails = fails
        self.looked_at = 0

    def __call__(self, candidates: Iterable[Scenario]) -> Scenario | None:
        for candidate in candidates:
            check(candidate)
            self.looked_at += 1
            if self._fails(candidate):
                return candidate
        return None


def rich() -> Scenario:
    """A drawn scenario with much in it."""
    return max((draw_scenario(seed) for seed in range(200)), key=lambda scenario: len(scenario.faults))


def honest_names(scenario: Scenario) -> list[str]:
    groups = [group for group in scenario.mailboxes if group.behaviour is Behaviour.HONEST]
    return [name for group in groups for name in names_of(group)]


def test_what_fails_always_becomes_next_to_nothing() -> None:
    smallest = minimise(rich(), Hunt(lambda _: True))
    assert size_of(smallest).startswith("0 faults, 1 mailboxes, 0 phones, ")
    assert len(smallest.lans) == 1
    assert smallest.calm_from_s <= 60.0
    assert smallest.mailboxes == [
        Mailboxes(smallest.mailboxes[0].name, smallest.lans[0].name, peers=smallest.mailboxes[0].peers)
    ]


def test_what_is_needed_stays() -> None:
    """It fails if some mailbox crashes during a cut: both must be kept, and their times must still overlap."""

    def fails(scenario: Scenario) -> bool:
        cuts = [fault for fault in scenario.faults if isinstance(fault, Cut) and fault.for_s]
        crashes = [fault for fault in scenario.faults if isinstance(fault, Crash)]
        return any(cut.at_s < crash.at_s < cut.at_s + (cut.for_s or 0) for cut in cuts for crash in crashes)

    original = next(scenario for scenario in map(draw_scenario, range(2000)) if fails(scenario))
    smallest = minimise(original, Hunt(fails))
    assert fails(smallest)
    assert len(smallest.faults) == 2
    assert smallest.duration_s < original.duration_s
    assert all(
        len(names) == 1
        for fault in smallest.faults
        for names in (getattr(fault, "who", ["x"]), getattr(fault, "a", ["x"]))
    )


def test_a_number_of_mailboxes_is_kept() -> None:
    original = next(scenario for scenario in map(draw_scenario, range(2000)) if len(honest_names(scenario)) >= 6)
    smallest = minimise(original, Hunt(lambda scenario: len(honest_names(scenario)) >= 5))
    assert len(honest_names(smallest)) == 5


def test_what_came_after_the_failure_goes_first() -> None:
    original = next(
        scenario
        for scenario in map(draw_scenario, range(2000))
        if any(isinstance(fault, WipeDisk) and fault.at_s < scenario.calm_from_s / 4 for fault in scenario.faults)
    )
    first = min(fault.at_s for fault in original.faults if isinstance(fault, WipeDisk))
    looked_at: list[Scenario] = []

    def fails(scenario: Scenario) -> bool:
        looked_at.append(scenario)
        return any(isinstance(fault, WipeDisk) for fault in scenario.faults)

    minimise(original, Hunt(fails), failed_at_s=first + 1.0)
    assert looked_at[0].duration_s == pytest.approx(first + 2.0)
    assert all(fault.at_s <= first for fault in looked_at[0].faults)


def test_it_ends_soon() -> None:
    chance = random.Random(1)
    hunt = Hunt(lambda scenario: chance.random() < 0.5)
    minimise(rich(), hunt)
    assert hunt.looked_at < 5_000


def test_every_seed_draws_a_playable_scenario_of_its_own() -> None:
    drawn = [draw_scenario(seed) for seed in range(300)]  # checked as they are drawn
    assert drawn == [draw_scenario(seed) for seed in range(300)]
    kinds = {type(fault) for scenario in drawn for fault in scenario.faults}
    assert len(kinds) == 14
    assert {group.behaviour for scenario in drawn for group in scenario.mailboxes} == set(Behaviour)
    assert {len(scenario.lans) for scenario in drawn} == {1, 2, 3}
    assert any(not scenario.faults for scenario in drawn)


def test_the_policies_are_those_that_phones_know() -> None:
    assert set(POLICIES) == set(PHONE_POLICIES)
