"""Strangers take turns: nobody waits in quiet times, few are let in at once, and company makes them pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
import trio
import trio.testing

from node.http.turns import Turns
from protocols.limits.shedding import COMPANY_S, TURN_PAUSE_MAX_S, TURN_S, TURNS_AT_ONCE_MAX, TURNS_WINDOW_S


@dataclass(eq=False)
class Stranger:
    number: int


async def crowd(
    turns: Turns, nursery: trio.Nursery, size: int, *, works: Callable[[], None] = lambda: None
) -> list[int]:
    """Strangers who all want a turn and do something in it; returns who had one so far."""
    had: list[int] = []

    async def one(stranger: Stranger) -> None:
        await turns.take(stranger)
        works()
        had.append(stranger.number)

    for number in range(size):
        nursery.start_soon(one, Stranger(number))
        await trio.testing.wait_all_tasks_blocked()
    return had


async def test_in_quiet_times_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    for _ in range(100):
        assert turns.take_nowait()
        await trio.sleep(TURNS_WINDOW_S / TURNS_AT_ONCE_MAX * 1.01)
    assert turns.taken == 100


async def test_of_those_who_come_at_once_few_are_let_in(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    assert [turns.take_nowait() for _ in range(TURNS_AT_ONCE_MAX + 3)].count(True) == TURNS_AT_ONCE_MAX
    await trio.sleep(TURNS_WINDOW_S)
    assert turns.take_nowait()


async def test_the_queue_is_served_in_order_and_few_at_once(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    async with trio.open_nursery() as nursery:
        had = await crowd(turns, nursery, 50)
        assert (len(turns), had) == (50, [])
        assert not turns.take_nowait(), "nobody goes past those who wait"
        await trio.sleep(1.0)
        assert turns.busy_s(trio.current_time()) == pytest.approx(1.0)
        assert [one.number for one in turns.newest] == list(reversed(range(50)))
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert len(had) <= 2 * TURNS_AT_ONCE_MAX
        await trio.sleep(1.0)
        assert sorted(had) == list(range(50))
        # Trio runs those who are let in together in any order.
        assert all(abs(place - number) < TURNS_AT_ONCE_MAX for place, number in enumerate(had))
        assert (turns.taken, turns.busy_s(trio.current_time())) == (50, 0.0)
        nursery.cancel_scope.cancel()


async def test_who_leaves_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    async with trio.open_nursery() as nursery:
        had = await crowd(turns, nursery, 5)
        nursery.cancel_scope.cancel()
    assert (len(turns), had) == (0, [])


@pytest.mark.parametrize("has_company", [False, True])
async def test_in_company_strangers_pause_for_as_long_as_they_took(
    autojump_clock: trio.testing.MockClock, has_company: bool
) -> None:
    turns = Turns(trio.current_time)
    async with trio.open_nursery() as nursery:
        had = await crowd(turns, nursery, 40, works=lambda: autojump_clock.jump(TURN_S / 16))
        begun_s = trio.current_time()
        if has_company:
            turns.company(begun_s)
        nursery.start_soon(turns.run)
        await until_all(had, 40)
        took_s = trio.current_time() - begun_s
        nursery.cancel_scope.cancel()
    work_s = 40 * TURN_S / 16
    assert took_s == pytest.approx(work_s * (2 if has_company else 1), rel=0.25)


async def test_who_takes_long_has_shorter_turns(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    async with trio.open_nursery() as nursery:
        at_s: list[float] = []

        def work() -> None:
            autojump_clock.jump(2 * TURN_S)
            at_s.append(trio.current_time())

        had = await crowd(turns, nursery, 40, works=work)
        turns.company(trio.current_time())
        nursery.start_soon(turns.run)
        await until_all(had, 40)
        nursery.cancel_scope.cancel()
    pauses = [after - before - 2 * TURN_S for before, after in pairwise(at_s)]
    assert all(pause > TURN_S for pause in pauses[-20:]), "one at a time, and a pause after each"
    assert max(pauses) <= TURN_PAUSE_MAX_S + 1e-9


async def test_company_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(trio.current_time)
    turns.company(trio.current_time())
    async with trio.open_nursery() as nursery:
        had = await crowd(turns, nursery, 40, works=lambda: autojump_clock.jump(TURN_S / 16))
        await trio.sleep(COMPANY_S + 1)
        begun_s = trio.current_time()
        nursery.start_soon(turns.run)
        await until_all(had, 40)
        assert trio.current_time() - begun_s == pytest.approx(40 * TURN_S / 16)
        nursery.cancel_scope.cancel()


async def until_all(had: list[int], size: int) -> None:
    while len(had) < size:
        await trio.lowlevel.checkpoint()
        if len(had) < size:
            await trio.sleep(1e-6)
