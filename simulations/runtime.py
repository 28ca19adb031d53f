"""What makes a run repeatable: one clock, one order of tasks, one source of randomness, one hash over all that happens.

Nothing in the simulated world may ask the wall clock, start a thread or iterate over a set of strings; what the node
needs of the kind comes through its ports. Then the same seed gives the same trace in every process.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, MutableSequence
from heapq import heappop, heappush
from math import inf
from typing import Any, Final, TypeVar

import trio
from blake3 import blake3
from trio._core import _run as scheduler
from trio.testing import MockClock

from node.aside import inline

__all__ = ["EPOCH_S", "YIELD_SHARE", "Alarm", "Timeline", "Trace", "draw", "run_world"]

T = TypeVar("T")

YIELD_SHARE: Final = 0.15
"""How often a port that need not wait gives others their turn nevertheless."""

_PASSES_WITHOUT_IO: Final = 256

_GARBAGE: Final = (1_000_000, 20, 100)
"""When to look for garbage (see `gc.set_threshold`). A world is millions of objects that stay, and to go through all of
them as often as Python does is nearly half of what a large one costs. Nearly all that goes does so by itself: less than
100,000 objects are left for this in three hours of fifty mailboxes."""

EPOCH_S: Final = 1_798_761_600.0
"""The date at which every world begins (2027-01-01), as Unix seconds."""


class Trace:
    """A running hash over every event. Two runs with the same hash did the same."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._hasher = blake3()
        self._lines: list[str] = []
        self.events = 0

    def note(self, what: str) -> None:
        """Takes in one event, with its time."""
        self.events += 1
        self._lines.append(f"{self._timeline.now_at!r} {what}")
        if len(self._lines) >= 1024:
            self._flush()

    def digest(self) -> str:
        """Hex over all events so far."""
        self._flush()
        return self._hasher.hexdigest()

    def _flush(self) -> None:
        self._hasher.update("\n".join(self._lines).encode())
        self._lines.clear()


class Alarm:
    """Wakes the one task that waits for it, once. Less than half of what `trio.Event` costs."""

    __slots__ = ("_task", "has_rung")

    def __init__(self) -> None:
        self.has_rung = False
        self._task: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wakes it."""
        self.has_rung = True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Until it has rung."""
        if self.has_rung:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Timeline:
    """Calls functions at their times, in the order in which they were given: what packets, disks and faults are made
    of. A task for each of them would cost twenty times as much.

    They are called when every task waits, by the clock that would jump otherwise.
    """

    def __init__(self) -> None:
        self.now_at = 0.0
        """Trio's time, from the clock itself."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._task: trio.lowlevel.Task | None = None

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Calls `action` at trio's time `when`; soon if that is past, but never within this call."""
        self._count += 1
        heappush(self._heap, (when, self._count, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Calls `action` so many seconds from now."""
        self._count += 1
        heappush(self._heap, (self.now_at + delay_s, self._count, action))

    async def wait_until(self, when: float) -> None:
        """As `trio.sleep_until`, without the scope and the exception of which that is made: a third of the cost."""
        if when <= self.now_at:
            await trio.lowlevel.checkpoint()
            return
        alarm = Alarm()
        self.at(when, alarm.ring)
        await alarm.wait()

    async def sleep(self, seconds: float) -> None:
        """As `trio.sleep`."""
        await self.wait_until(self.now_at + seconds)

    async def run(self) -> None:
        """Until cancelled. What an action raises ends the world: it is a fault of the simulator."""
        self._task = trio.lowlevel.current_task()
        try:
            await trio.sleep_forever()
        finally:
            self._task = None

    def next_at(self) -> float:
        """When the next one is due."""
        return self._heap[0][0] if self._heap and self._task is not None else inf

    def call_next(self) -> None:
        """Calls the next one, as if the task of `run` did so."""
        task = self._task
        assert task is not None
        action = heappop(self._heap)[2]
        context = scheduler.GLOBAL_RUN_CONTEXT
        context.task = task
        try:
            task.context.run(action)
        finally:
            del context.task


def _jumping_clock(timeline: Timeline) -> MockClock:
    """A clock that stands still while anybody has something to do, then jumps to the next deadline or to the next event
    of the timeline: trio's own, without what that needs to run at other speeds."""
    clock = MockClock(rate=0.0, autojump_threshold=0.0)

    def jump() -> None:
        runner = scheduler.GLOBAL_RUN_CONTEXT.runner
        while not runner.runq:
            deadline, event_at = runner.deadlines.next_deadline(), timeline.next_at()
            at = min(deadline, event_at)
            if timeline.now_at < at < inf:
                timeline.now_at = float(at)  # which of two equal deadlines it was is left to chance
            if event_at > deadline or event_at == inf:
                return
            timeline.call_next()

    clock.current_time = lambda: timeline.now_at  # type: ignore[method-assign]
    clock.deadline_to_sleep_time = lambda deadline: 0.0 if deadline <= timeline.now_at else 1e9  # type: ignore[method-assign]
    clock._autojump = jump  # type: ignore[method-assign]
    return clock


class _Outside:
    """Trio's I/O where nothing comes from outside but the wish to interrupt: asking the kernel in every pass would be a
    tenth of what a quiet world costs."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._passes = 0

    def get_events(self, timeout: float) -> Any:
        self._passes += 1
        return () if self._passes % _PASSES_WITHOUT_IO else self._manager.get_events(0)

    def process_events(self, events: Any) -> None:
        if events:
            self._manager.process_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


class _Order(random.Random):
    """Trio's source of chance, which it asks for the order of what is mostly one task."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:
            super().shuffle(x)


def run_world(main: Callable[[], Awaitable[T]], seed: int, timeline: Timeline) -> T:
    """Runs `main` and the events of `timeline` under a clock that jumps. What trio leaves to chance is `seed`'s."""
    was_deterministic = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    order = scheduler._r
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r = _Order(seed)

    async def deterministic() -> T:
        runner: Any = scheduler.GLOBAL_RUN_CONTEXT.runner
        runner.io_manager = _Outside(runner.io_manager)
        runner.instruments = {}  # there are none, and a plain dict says so sooner
        with inline():
            return await main()

    thresholds = gc.get_threshold()
    gc.set_threshold(*_GARBAGE)
    before = trio.current_time, trio.sleep
    trio.current_time = lambda: timeline.now_at  # which the node asks a hundred times in each session
    trio.sleep = timeline.sleep
    try:
        return trio.run(deterministic, clock=_jumping_clock(timeline))
    finally:
        gc.set_threshold(*thresholds)
        trio.current_time, trio.sleep = before
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic  # type: ignore[misc]
        scheduler._r = order


def draw(seed: int, *what: object) -> random.Random:
    """A source of randomness of its own for one purpose, so that one more draw here moves nothing there."""
    return random.Random(repr((seed, *what)))
