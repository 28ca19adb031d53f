"""Bookkeeping of memory and rates."""

from __future__ import annotations

import pytest
import trio

from node.http.limits import HttpLimits, MemoryBudget, RateLimiter, is_loopback


def test_a_bucket_empties_and_fills_again() -> None:
    limiter = RateLimiter(rate=2, burst=3)
    assert [limiter.admit("a", 0) for _ in range(4)] == [True, True, True, False]
    assert limiter.admit("b", 0)
    assert [limiter.admit("a", 0.6) for _ in range(2)] == [True, False]
    assert [limiter.admit("a", 1000) for _ in range(4)] == [True, True, True, False]


def test_refusals_do_not_push_the_next_chance_away() -> None:
    limiter = RateLimiter(rate=1, burst=1)
    assert limiter.admit("a", 0)
    assert not any(limiter.admit("a", 0.1 * n) for n in range(1, 10))
    assert limiter.admit("a", 1.01)


def test_the_client_unseen_for_longest_is_forgotten() -> None:
    limiter = RateLimiter(rate=0.001, burst=1, clients_max=2)
    assert [limiter.admit(client, 0) for client in "abab"] == [True, True, False, False]
    assert limiter.admit("c", 0)
    assert not limiter.admit("b", 0)
    assert limiter.admit("a", 0)


def test_shares_of_a_budget() -> None:
    budget = MemoryBudget(100, share_bytes_max=50)
    assert budget.take_nowait(50, "a")
    assert not budget.take_nowait(1, "a")
    assert budget.take_nowait(50, "b")
    assert not budget.take_nowait(1)
    budget.give_back(50, "a")
    assert budget.take_nowait(50)
    assert budget.held_bytes == 100


async def test_waiting_for_memory_is_first_come_first_served(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(100)
    order: list[str] = []

    async def wait(name: str, size: int) -> None:
        await budget.take(size)
        order.append(name)

    assert await budget.take(1000) == 100  # never more than there is
    async with trio.open_nursery() as nursery:
        for name, size in (("large", 90), ("small", 5), ("other", 50)):
            nursery.start_soon(wait, name, size)
            await trio.testing.wait_all_tasks_blocked()
        budget.give_back(60)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []  # the small one does not overtake
        budget.give_back(40)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(order) == ["large", "small"]
        budget.give_back(95)
    assert order[2:] == ["other"]
    assert budget.held_bytes == 50


async def test_giving_up_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(100)
    await budget.take(100)
    with trio.move_on_after(1) as scope:
        await budget.take(80)
    assert scope.cancelled_caught
    budget.give_back(100)
    assert budget.held_bytes == 0
    assert await budget.take(100) == 100


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("x", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_deadlines_are_looked_at_often_enough() -> None:
    assert HttpLimits().tick_s <= 0.5
    assert HttpLimits(idle_timeout_s=0.2).tick_s <= 0.05
