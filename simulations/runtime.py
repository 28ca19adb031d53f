"""What makes a run repeatable: one clock, one order of tasks, one source of randomness, one hash over all that happens.

Nothing in the simulated world may ask the wall clock, start a thread or iterate over a set of strings; what the node
needs of the kind comes through its ports. Then the same seed gives the same trace in every process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from heapq import heapify, heappop, heappush
from math import inf
from types import coroutine
from typing import Any, Final, TypeAlias

import trio
from blake3 import blake3
from trio._core import _run as scheduler

from node.sync.pause import Pause

__all__ = ["EPOCH_S", "YIELD_SHARE", "Alarm", "SimulatedPause", "Timeline", "Trace", "draw"]

YIELD_SHARE: Final = 0.15
"""How often a port that need not wait gives others their turn nevertheless."""

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
    """Wakes the one task that waits for it, once: a quarter of what `trio.Event` costs, as the loop of `scheduling`
    knows it."""

    __slots__ = ("has_rung", "task")

    def __init__(self) -> None:
        self.has_rung = False
        self.task: Any = None
        """Trio's task that waits, if one does."""

    def ring(self) -> None:
        """Wakes it."""
        self.has_rung = True
        task = self.task
        if task is not None:  # as `trio.lowlevel.reschedule`, with nothing to be told
            self.task = task._abort_func = None
            task._next_send_fn = task.coro.send
            task._runner.runq.append(task)

    async def wait(self) -> None:
        """Until it has rung."""
        if self.has_rung:
            await trio.lowlevel.checkpoint()
        else:
            await _until(self)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Trio wakes the task for another reason."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


@coroutine
def _until(alarm: Alarm) -> Generator[Alarm, Any, None]:
    why = yield alarm
    if why is not None:  # it has not rung: the task is cancelled
        why.unwrap()


_Entry: TypeAlias = tuple[float, int, Callable[[], None]]
"""When, in which order among those of the same time, and what."""


class Timeline:
    """Calls functions at their times, in the order in which they were given: what packets, disks and faults are made
    of. A task for each of them would cost twenty times as much.

    They are called when every task waits, by the clock that would jump otherwise.

    What is due soon lies in a heap, the rest by the second, unsorted until it is near: most of it are pauses and time
    limits of a whole crowd, and a heap with all of them in it was a twentieth of what a large world costs.
    """

    def __init__(self) -> None:
        self.now_at = 0.0
        """Trio's time, from the clock itself."""
        self._soon: list[_Entry] = []
        self._later: dict[int, list[_Entry]] = {}
        self._seconds: list[int] = []
        """A heap of the keys of `_later`."""
        self._later_from = 0.0
        """What is due from then on lies in `_later`."""
        self._count = 0
        self._task: trio.lowlevel.Task | None = None

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Calls `action` at trio's time `when`; soon if that is past, but never within this call, and never
        if that is infinite."""
        self._count += 1
        if when < self._later_from:
            heappush(self._soon, (when, self._count, action))
        elif when < inf:
            second = int(when)
            entries = self._later.get(second)
            if entries is None:
                self._later[second] = [(when, self._count, action)]
                heappush(self._seconds, second)
            else:
                entries.append((when, self._count, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Calls `action` so many seconds from now."""
        self.at(self.now_at + delay_s, action)

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

    @property
    def waiting(self) -> int:
        """How many are yet to be called."""
        return len(self._soon) + sum(map(len, self._later.values()))

    def next_at(self) -> float:
        """When the next one is due."""
        if not self._soon:
            if not self._seconds:
                return inf
            second = heappop(self._seconds)
            self._soon = self._later.pop(second)
            heapify(self._soon)
            self._later_from = second + 1.0
        return inf if self._task is None else self._soon[0][0]

    def call_next(self) -> None:
        """Calls the next one, as if the task of `run` did so; it is that one's time now. Ask `next_at` first."""
        at, _, action = heappop(self._soon)
        if at > self.now_at:
            self.now_at = float(at)
        scheduler.GLOBAL_RUN_CONTEXT.task = self._task  # type: ignore[assignment]
        action()


class SimulatedPause(Pause):
    """As the node's own, out of entries in a timeline: a quarter of the cost."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._alarm: Alarm | None = None
        self._is_poked = False
        self._ends_at = self._looks_at = inf
        """When the pause ends, and when that is looked at: no later."""

    async def take(self, ends_at: float = inf) -> None:
        if self._is_poked or ends_at <= self._timeline.now_at:
            await trio.lowlevel.checkpoint()
        else:
            self._alarm = Alarm()
            self.move(ends_at)
            try:
                await self._alarm.wait()
            finally:
                self._alarm = None
        self._is_poked = False

    def move(self, ends_at: float) -> None:
        self._ends_at = ends_at
        if self._alarm is not None and ends_at < self._looks_at:
            self._looks_at = ends_at
            self._timeline.at(ends_at, self._look)

    def poke(self) -> None:
        self._is_poked = True
        if self._alarm is not None:
            self._alarm.ring()

    def _look(self) -> None:
        if self._timeline.now_at < self._looks_at:
            return  # an earlier look has put off this one
        self._looks_at = inf
        if self._alarm is not None and self._ends_at > self._timeline.now_at:
            self.move(self._ends_at)
        elif self._alarm is not None:
            self._alarm.ring()


def draw(seed: int, *what: object) -> random.Random:
    """A source of randomness of its own for one purpose, so that one more draw here moves nothing there."""
    return random.Random(repr((seed, *what)))
