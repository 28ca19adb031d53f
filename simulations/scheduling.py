"""Trio under a clock that jumps, and without chance: how a world runs, and what its tasks cost.

The loop is trio's own (of 0.35), with the same order of everything, less what a world has no use for: instruments,
being somebody's guest, and asking the kernel in every turn whether something has come from outside. It knows the alarms
of `runtime`.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, Final, TypeVar

import trio
from outcome import Error, Value
from trio._core import _run as scheduler
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled
from trio.testing import MockClock

from node.aside import inline
from simulations.runtime import Alarm, Timeline

__all__ = ["run_world"]

T = TypeVar("T")

_IDLE_S: Final = 1.0
_TURNS_WITHOUT_IO: Final = 256
"""From outside comes nothing but the wish to interrupt."""

_GARBAGE: Final = (10_000_000, 20, 100)
"""When to look for garbage (see `gc.set_threshold`). A world is millions of objects that stay, and to go through all of
them as often as Python does is nearly half of what a large one costs; even once is a second of a thousand mailboxes.
What goes does so by itself: only processes that end leave something for this, a few thousand objects each."""

_LARGE_OBJECTS: Final = 500_000
"""What a world with more objects leaves is not cleared away at once."""


class _Litter:
    """Of this process."""

    is_there = False
    """Whether what a large world has left still lies there."""


def run_world(main: Callable[[], Awaitable[T]], seed: int, timeline: Timeline) -> T:
    """Runs `main` and the events of `timeline` under a clock that jumps. What trio leaves to chance is `seed`'s."""
    with _little_garbage(), inline(), _in_place_of_trios(timeline, random.Random(seed)):
        return trio.run(main, clock=_clock(timeline))


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Within it garbage is hardly looked for. What a large world leaves is left for the next one to clear away: that
    takes two seconds of a thousand mailboxes, and mostly no other world follows."""
    if _Litter.is_there:
        gc.collect()
        _Litter.is_there = False
    thresholds = gc.get_threshold()
    gc.set_threshold(*_GARBAGE)
    try:
        yield
    finally:
        if gc.get_count()[0] > _LARGE_OBJECTS:
            _Litter.is_there = True
            gc.freeze()  # the two together have it counted as looked at
            gc.unfreeze()
        gc.set_threshold(*thresholds)


@contextmanager
def _in_place_of_trios(timeline: Timeline, chance: random.Random) -> Iterator[None]:
    """Within it trio has our loop, our time and our deadlines."""
    ours: list[tuple[Any, str, object]] = [
        (trio, "current_time", lambda: timeline.now_at),  # which the node asks a hundred times in each session
        (trio, "sleep", timeline.sleep),
        (scheduler, "unrolled_run", _loop(timeline, chance)),
        (trio.CancelScope, "deadline", property(_deadline, _set_deadline)),
        (trio.CancelScope, "_might_change_registered_deadline", _registering),
    ]
    before = [(owner, name, owner.__dict__[name]) for owner, name, _ in ours]
    for owner, name, own in ours:
        setattr(owner, name, own)
    try:
        yield
    finally:
        for owner, name, trios in before:
            setattr(owner, name, trios)


def _clock(timeline: Timeline) -> MockClock:
    clock = MockClock(rate=0.0)
    clock.current_time = lambda: timeline.now_at  # type: ignore[method-assign]
    return clock


# --- deadlines -------------------------------------------------------------------------------------------------------


def _deadline(scope: Any) -> float:
    deadline: float = scope._deadline
    return deadline


def _set_deadline(scope: Any, deadline: float) -> None:
    scope._deadline = float(deadline)
    _register(scope)


def _register(scope: Any) -> None:
    """Has the loop know the deadline that a scope has now."""
    before = scope._registered_deadline
    now = inf if scope._cancel_status is None or scope._cancel_called else scope._deadline
    if before != now:
        scope._registered_deadline = now
        deadlines = scheduler.GLOBAL_RUN_CONTEXT.runner.deadlines
        if before != inf:
            deadlines.remove(before, scope)
        if now != inf:
            deadlines.add(now, scope)


def _registering(scope: Any) -> _Registering:
    return _Registering(scope)


class _Registering:
    """The same behind what is done within it. Trio makes a generator for this, several times for each scope: a
    fortieth of what a world costs."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _register(self._scope)


# --- the loop --------------------------------------------------------------------------------------------------------


def _loop(timeline: Timeline, chance: random.Random) -> Callable[..., Generator[float, Any, None]]:
    """What trio calls `unrolled_run`."""

    def loop(runner: Any, async_fn: Any, args: Any, _: bool = False) -> Generator[float, Any, None]:
        runner.entry_queue.wakeup.wakeup_on_signals()
        try:
            runner.init_task = runner.spawn_impl(runner.init, (async_fn, args), None, "<init>", system_task=True)
            deadlines, queue, turns = runner.deadlines, runner.runq, 0
            while runner.tasks:
                turns += 1
                if not turns % _TURNS_WITHOUT_IO:
                    runner.io_manager.process_events((yield 0.0))
                    deadlines.expire(timeline.now_at)  # which also throws away what is stale
                elif deadlines._heap and deadlines._heap[0][0] <= timeline.now_at:
                    deadlines.expire(timeline.now_at)
                if not queue:
                    _jump(timeline, deadlines, queue)
                if not queue:  # what is waited for is not of this world: its end, an interrupt
                    runner.io_manager.process_events((yield _IDLE_S))
                batch = list(queue)
                queue.clear()
                if len(batch) > 1:
                    batch.sort(key=_number)
                    chance.shuffle(batch)
                while batch:
                    _step(runner, batch.pop())
        finally:
            runner.close()
            scheduler.GLOBAL_RUN_CONTEXT.__dict__.clear()
            if runner.ki_pending:
                runner.main_task_outcome = Error(KeyboardInterrupt())

    return loop


def _jump(timeline: Timeline, deadlines: Any, queue: Any) -> None:
    """On to the next deadline or to the next event of the timeline, until somebody has something to do."""
    while not queue:
        event_at = timeline.next_at()
        heap = deadlines._heap
        if heap and heap[0][0] < event_at and deadlines.next_deadline() < event_at:
            timeline.now_at = max(timeline.now_at, float(heap[0][0]))
            deadlines.expire(timeline.now_at)
        elif event_at < inf:
            timeline.call_next()
        else:
            return


def _number(task: Any) -> int:
    number: int = task._counter
    return number


def _step(runner: Any, task: Any) -> None:
    """One step of a task."""
    scheduler.GLOBAL_RUN_CONTEXT.task = task
    go_on, told = task._next_send_fn, task._next_send
    task._next_send_fn = task._next_send = None
    try:
        wish = task.context.run(go_on, told)
    except StopIteration as stop:
        outcome: Any = Value(stop.value)
    except BaseException as error:
        outcome = Error(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    else:
        task._schedule_points += 1
        if type(wish) is Alarm:
            wish.task, task._abort_func = task, wish.abort
        elif type(wish) is WaitTaskRescheduled:
            task._abort_func = wish.abort_func
        elif wish is CancelShieldedCheckpoint:
            runner.reschedule(task)
            return
        else:
            raise TypeError(f"a task of a simulated world waits for {wish!r}")
        task._cancel_points += 1
        if runner.ki_pending and task is runner.main_task:
            task._attempt_delivery_of_pending_ki()
        if task._cancel_status.effectively_cancelled:
            task._attempt_delivery_of_any_pending_cancel()
        return
    runner.task_exited(task, outcome)
