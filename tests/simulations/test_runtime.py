"""The timeline of a simulated world."""

from __future__ import annotations

import random
from math import inf

import trio

from simulations.runtime import Timeline
from simulations.scheduling import run_world


def test_actions_are_called_at_their_times_in_the_order_in_which_they_were_given() -> None:
    timeline, chance = Timeline(), random.Random(1)
    planned: list[tuple[float, int]] = []
    called: list[tuple[float, int]] = []

    def plan(at: float) -> None:
        number = len(planned)
        planned.append((at, number))
        timeline.at(at, lambda: act(at, number))

    def act(at: float, number: int) -> None:
        assert timeline.now_at == at
        called.append((at, number))
        if len(planned) < 900:
            delay_s = chance.choice((0.0, 0.001, 0.3, 1.0, 7.5, 400.0))
            plan(timeline.now_at + delay_s)

    async def world() -> None:
        for _ in range(300):
            plan(chance.choice((0.5, 0.999, 1.0, 3600.25, 10 * chance.random())))
        timeline.at(inf, lambda: called.append((inf, -1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timeline.run)
            await trio.sleep(80_000)
            nursery.cancel_scope.cancel()

    run_world(world, 1, timeline)
    assert len(called) == len(planned) == 900
    assert called == sorted(planned)
