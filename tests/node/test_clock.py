"""The wall clock may step: nothing is removed for good on the word of a clock that has just jumped."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from node.clock import StepWatch
from node.mailbox import Mailbox
from node.store.memory import MemoryStore
from protocols.model import LogName, Retention

DAY = 86_400.0
NAME = LogName("topic", "log")


class JumpyClock:
    def __init__(self) -> None:
        self.error_s = 0.0

    def now_s(self) -> float:
        return 1_800_000_000.0 + trio.current_time() + self.error_s


@pytest.mark.parametrize("step_s", [-10 * DAY, -61.0, 61.0, 10 * DAY])
def test_a_step_is_not_trusted_until_it_has_settled(step_s: float) -> None:
    watch = StepWatch(settle_s=900)
    assert watch.trusted(1000.0, 0.0)
    assert watch.trusted(1030.0, 30.0)
    assert not watch.trusted(1060.0 + step_s, 60.0)
    assert not watch.trusted(1900.0 + step_s, 900.0)
    assert watch.trusted(1961.0 + step_s, 961.0)


def test_slow_drift_is_no_step() -> None:
    watch = StepWatch(settle_s=900)
    assert all(watch.trusted(1000.0 + 1.001 * at, float(at)) for at in range(0, 100_000, 30))


async def test_a_clock_that_runs_ahead_for_a_while_costs_no_message(autojump_clock: MockClock) -> None:
    clock = JumpyClock()
    async with MemoryStore() as store, trio.open_nursery() as nursery:
        mailbox = Mailbox(store, clock=clock, retention=Retention())
        nursery.start_soon(mailbox.expire_forever)
        await mailbox.deliver([(NAME, 0, b"precious")])
        await trio.sleep(100)
        clock.error_s = 20 * 365 * DAY
        await trio.sleep(300)
        assert (await mailbox.read({"topic": {}})).entries == []
        clock.error_s = 0.0
        await trio.sleep(2000)
        assert [entry.messages for entry in (await mailbox.read({"topic": {}})).entries] == [[(0, b"precious")]]
        clock.error_s = 8 * DAY
        await trio.sleep(1500)
        assert store.statistics().messages == 0
        nursery.cancel_scope.cancel()


async def test_a_clock_set_back_keeps_everything(autojump_clock: MockClock) -> None:
    clock = JumpyClock()
    async with MemoryStore() as store, trio.open_nursery() as nursery:
        mailbox = Mailbox(store, clock=clock, retention=Retention())
        nursery.start_soon(mailbox.expire_forever)
        await mailbox.deliver([(NAME, 0, b"precious")])
        await trio.sleep(1)  # the first look is over: one that is under way goes by the date on which it began
        clock.error_s = -30 * DAY
        await mailbox.deliver([(NAME, 1, b"stored in the past")])
        await trio.sleep(3600)
        assert store.statistics().messages == 2
        nursery.cancel_scope.cancel()
