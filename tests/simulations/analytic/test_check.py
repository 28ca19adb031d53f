"""The model is held against the simulator, which runs the node's own code."""

from __future__ import annotations

import pytest

from simulations.analytic.check import played
from simulations.analytic.plan import Plan

FACTOR = 1.5
"""By which the model may be off, either way. Over many runs it is off by a fifth at most; few messages make chance."""


def hold_against_each_other(plan: Plan, duration_s: float) -> None:
    recording, comparisons = played(plan, duration_s)
    assert recording.passed, [verdict for verdict in recording.verdicts if not verdict.holds]
    assert len(recording.spreads) >= 5
    for one in comparisons:
        print(f"{plan.mailboxes:5} {one.what:24} {one.model:12.2f} {one.simulated:12.2f} {one.ratio:6.2f}")
    off = {one.what: one.ratio for one in comparisons if not 1 / FACTOR < one.ratio < FACTOR}
    assert not off


@pytest.mark.parametrize(
    "plan",
    [
        Plan(10, lan_mailboxes=10, messages_per_day=600),
        Plan(18, lan_mailboxes=6, messages_per_day=300),
        Plan(40, lan_mailboxes=1, messages_per_day=200),
    ],
    ids=["one LAN", "three LANs", "a star"],
)
def test_small_networks(plan: Plan) -> None:
    hold_against_each_other(plan, 240)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "duration_s"),
    [
        (Plan(50, messages_per_day=60), 600),
        (Plan(200, messages_per_day=30), 400),
        (Plan(1_000, messages_per_day=8), 240),
    ],
    ids=["50", "200", "1000"],
)
def test_large_networks(plan: Plan, duration_s: float) -> None:
    hold_against_each_other(plan, duration_s)
