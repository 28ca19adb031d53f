"""Runs in processes of their own, several at a time: a run that hangs or dies takes nothing with it."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final

from protocols.limits.simulation import SWARM_PLAY_MAX_S
from simulations.play import play
from simulations.scenario import Scenario

__all__ = ["Outcome", "Workers", "outcome_of"]

DIED: Final = "no-death"
HANGS: Final = "no-hang"
RAISED: Final = "no-exception"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `broken` has the invariants that did not hold with their counter-examples, `failed_at_s` when
    the first of them was found. A run that raised, hung or died broke one of its own; the hash is empty then."""

    seed: int
    broken: tuple[tuple[str, str], ...]
    trace_hash: str
    simulated_s: float
    wall_s: float
    failed_at_s: float | None = None

    @property
    def passed(self) -> bool:
        return not self.broken


def outcome_of(scenario: Scenario, seed: int) -> Outcome:
    """Plays it in this process."""
    begun_s = time.monotonic()
    try:
        recording = play(scenario, seed)
    except Exception:
        return _no_end(seed, RAISED, traceback.format_exc(), time.monotonic() - begun_s)
    broken = ((v.name, v.counterexample) for v in recording.verdicts if v.counterexample is not None)
    times = (happening.at_s for happening in recording.happenings if happening.kind == "violation")
    return Outcome(
        seed, tuple(broken), recording.trace_hash, recording.simulated_s, recording.wall_s, min(times, default=None)
    )


def _no_end(seed: int, name: str, why: str, wall_s: float) -> Outcome:
    return Outcome(seed, ((name, why),), "", 0.0, wall_s)


class _Worker:
    """One process that plays one run after the other."""

    def __init__(self) -> None:
        # Spawned, not forked: what this process has loaded and opened must not change a run.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        resource_tracker.ensure_running()  # its start would end what follows
        # Inherited: Ctrl-C is its parent's business. Here one that comes meanwhile is only put off.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.task: tuple[int, int] | None = None
        self.begun_s = 0.0

    def begin(self, number: int, scenario: Scenario, seed: int) -> None:
        self.task, self.begun_s = (number, seed), time.monotonic()
        with suppress(OSError):  # it is dead: that shows when the outcome is awaited
            self.connection.send((scenario, seed))

    def collect(self) -> tuple[int, Outcome]:
        """What became of its task: raises EOFError if its process is gone."""
        assert self.task is not None
        outcome: Outcome = self.connection.recv()
        (number, _), self.task = self.task, None
        return number, outcome

    def end(self, *, patience_s: float = 0.0) -> int | None:
        """Kills it; returns the exit code if it ended by itself before."""
        self._process.join(patience_s)
        code = self._process.exitcode
        self._process.kill()
        self._process.join()
        self.connection.close()
        return code


class Workers:
    """`jobs` processes, started when there is something to do. As a context it ends them."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in (*self._idle, *self._busy):
            worker.end()

    def run(self, tasks: Iterable[tuple[Scenario, int]]) -> Generator[tuple[int, Outcome], None, None]:
        """The outcomes of runs (scenario, seed) as they come, with their place in `tasks`, which are drawn as they are
        needed. Closing this iterator breaks off what still runs."""
        waiting = enumerate(tasks)
        results: deque[tuple[int, Outcome]] = deque()
        try:
            while True:
                while len(self._busy) < self._jobs and (task := next(waiting, None)) is not None:
                    self._begin(*task)
                if not self._busy:
                    return
                self._await_some(results)
                while results:
                    yield results.popleft()
        finally:
            for worker in self._busy:
                worker.end()
            self._busy.clear()

    def _begin(self, number: int, task: tuple[Scenario, int]) -> None:
        worker = self._idle.pop() if self._idle else _Worker()
        worker.begin(number, *task)
        self._busy.append(worker)

    def _await_some(self, results: deque[tuple[int, Outcome]]) -> None:
        first_s = min(worker.begun_s for worker in self._busy)
        ready = wait(
            [worker.connection for worker in self._busy],
            timeout=max(0.0, first_s + SWARM_PLAY_MAX_S - time.monotonic()),
        )
        for worker in list(self._busy):
            if worker.connection in ready:
                results.append(self._collect(worker))
            elif time.monotonic() - worker.begun_s >= SWARM_PLAY_MAX_S:
                results.append(self._give_up(worker, HANGS, f"it did not end in {SWARM_PLAY_MAX_S:.0f} s"))

    def _collect(self, worker: _Worker) -> tuple[int, Outcome]:
        try:
            result = worker.collect()
        except (EOFError, OSError):
            return self._give_up(worker, DIED, "its process ended", patience_s=5.0)
        self._busy.remove(worker)
        self._idle.append(worker)
        return result

    def _give_up(self, worker: _Worker, name: str, why: str, *, patience_s: float = 0.0) -> tuple[int, Outcome]:
        assert worker.task is not None
        number, seed = worker.task
        self._busy.remove(worker)
        code = worker.end(patience_s=patience_s)
        text = why if code is None else f"{why} with exit code {code}"
        return number, _no_end(seed, name, text, time.monotonic() - worker.begun_s)


def _work(connection: Connection) -> None:
    """A worker's life: when its parent is gone, so is the worker."""
    try:
        while True:
            scenario, seed = connection.recv()
            connection.send(outcome_of(scenario, seed))
    except (EOFError, OSError):
        return
