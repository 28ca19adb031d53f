"""Samples over an hour and a week: how much things grew, bounded, whatever the clock does."""

from __future__ import annotations

import trio
import trio.testing

from node.history import History, Reading, Ring
from protocols.limits.tools import HISTORY_SAMPLES_MAX


class VirtualClock:
    def __init__(self) -> None:
        self.offset_s = 1_800_000_000.0

    def now_s(self) -> float:
        return trio.current_time() + self.offset_s


async def test_an_hour_and_a_week(autojump_clock: trio.testing.MockClock) -> None:
    clock, stored = VirtualClock(), 0

    def read() -> Reading:
        nonlocal stored
        stored += 3
        return Reading(stored=stored, messages=stored)

    history = History(clock, read)
    with trio.move_on_after(8 * 86400):
        await history.run()
    hour, week = history.to_dict()["hour"], history.to_dict()["week"]
    assert len(hour["time_s"]) in (360, 361)
    assert set(hour["stored"]) == {3}
    assert len(week["time_s"]) in (672, 673)
    assert set(week["stored"]) == {3 * 90}
    assert week["messages"][-1] - week["messages"][0] == 3 * 90 * (len(week["time_s"]) - 1)
    assert clock.now_s() - hour["time_s"][0] <= 3600 + 20
    assert hour["served"] == [0] * len(hour["time_s"])


def test_the_first_sample_does_not_count_what_was_before() -> None:
    ring = Ring(step_s=10, span_s=3600)
    ring.add(0, Reading(stored=1_000_000))
    ring.add(10, Reading(stored=1_000_001))
    assert ring.to_dict()["stored"] == [0, 1]


def test_a_clock_that_steps_back_leaves_no_future() -> None:
    ring = Ring(step_s=10, span_s=3600)
    for at in range(100):
        ring.add(1_000_000 + 10 * at, Reading(stored=at))
    ring.add(1_000_200, Reading(stored=100))
    times = ring.to_dict()["time_s"]
    assert times == sorted(times)
    assert times[-1] == 1_000_200
    ring.add(9_000_000, Reading(stored=101))
    assert ring.to_dict()["time_s"] == [9_000_000]


def test_it_is_bounded_even_if_the_clock_stands_still_nearly() -> None:
    ring = Ring(step_s=10, span_s=3600)
    for at in range(2 * HISTORY_SAMPLES_MAX):
        ring.add(at / 1000, Reading())
    assert len(ring.to_dict()["time_s"]) == HISTORY_SAMPLES_MAX
