"""Pauses: those of a running mailbox and those of a simulated one keep the same promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf

import pytest
import trio
from trio.testing import MockClock

from node.sync.pause import Pause
from simulations.runtime import SimulatedPause, Timeline
from simulations.scheduling import run_world

Act = Callable[[Pause], Awaitable[None]]


def under_a_mock_clock(act: Act) -> None:
    async def main() -> None:
        await act(Pause())

    trio.run(main, clock=MockClock(autojump_threshold=0))


def in_a_world(act: Act) -> None:
    timeline = Timeline()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timeline.run)
            await act(SimulatedPause(timeline))
            nursery.cancel_scope.cancel()

    run_world(main, 1, timeline)


everywhere = pytest.mark.parametrize("play", [under_a_mock_clock, in_a_world])
Play = Callable[[Act], None]


async def after(seconds: float, act: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    act()


@everywhere
def test_a_pause_ends_at_its_time(play: Play) -> None:
    async def act(pause: Pause) -> None:
        begun_at = trio.current_time()
        await pause.take(begun_at + 5)
        await pause.take(begun_at + 7)
        assert trio.current_time() == begun_at + 7
        await pause.take(begun_at + 6)  # that is past
        assert trio.current_time() == begun_at + 7

    play(act)


@everywhere
@pytest.mark.parametrize(
    "moves", [[(1, 20)], [(1, 3)], [(1, 3), (2, 20)], [(1, inf), (2, 4)], [(1, 20), (6, 8), (7, 9)]]
)
def test_its_end_can_be_moved_to_and_fro(play: Play, moves: list[tuple[float, float]]) -> None:
    async def act(pause: Pause) -> None:
        begun_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for at, to in moves:
                nursery.start_soon(after, at, lambda to=to: pause.move(begun_at + to))
            await pause.take(begun_at + 10)
            assert trio.current_time() == begun_at + moves[-1][1]

    play(act)


@everywhere
def test_who_pokes_ends_it_at_once_or_the_next_one(play: Play) -> None:
    async def act(pause: Pause) -> None:
        begun_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(after, 3, pause.poke)
            await pause.take()
            assert trio.current_time() == begun_at + 3
        pause.poke()
        pause.poke()
        await pause.take()
        assert trio.current_time() == begun_at + 3
        await pause.take(begun_at + 4)  # once is enough
        assert trio.current_time() == begun_at + 4

    play(act)


@everywhere
def test_a_move_between_two_pauses_is_of_no_account(play: Play) -> None:
    async def act(pause: Pause) -> None:
        begun_at = trio.current_time()
        await pause.take(begun_at + 1)
        pause.move(begun_at + 2)
        await pause.take(begun_at + 5)
        assert trio.current_time() == begun_at + 5

    play(act)


@everywhere
def test_a_pause_can_be_cancelled_and_taken_anew(play: Play) -> None:
    async def act(pause: Pause) -> None:
        begun_at = trio.current_time()
        with trio.move_on_after(2):
            await pause.take(begun_at + 50)
        assert trio.current_time() == begun_at + 2
        await pause.take(begun_at + 60)
        assert trio.current_time() == begun_at + 60

    play(act)


def test_many_moves_leave_nothing_behind_in_a_world() -> None:
    timeline = Timeline()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timeline.run)
            pause = SimulatedPause(timeline)
            nursery.start_soon(pause.take, 10.0)
            await wait_until_paused()
            for number in range(1000):
                pause.move(20.0 + number)
            assert timeline.waiting < 5
            nursery.cancel_scope.cancel()

    async def wait_until_paused() -> None:
        await trio.sleep(0.1)

    run_world(main, 1, timeline)
