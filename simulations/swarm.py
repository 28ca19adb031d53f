"""Many runs in parallel, up to the first that fails; then that one made small."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from protocols.limits.simulation import MINIMISE_MAX_S, MINIMISE_PLAYS_MAX
from simulations.files import to_toml
from simulations.minimise import minimise, size_of
from simulations.scenario import Scenario
from simulations.schema import kind_of
from simulations.workers import Outcome, Workers

__all__ = ["Failure", "Progress", "Swarm"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed: what was played, what came of it, and where it comes from."""

    scenario: Scenario
    outcome: Outcome
    origin: str

    @property
    def name(self) -> str:
        """The first invariant that broke."""
        return self.outcome.broken[0][0]

    @property
    def why(self) -> str:
        return self.outcome.broken[0][1]

    @property
    def size(self) -> str:
        return size_of(self.scenario)


@dataclass(slots=True)
class Progress:
    """How far a swarm is. While it makes a failure smaller, `shrinking` says how small it is by now."""

    count: int
    done: int = 0
    plays: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    shrinking: str | None = None


class Swarm:
    """Plays what `scenario_of` says for each seed. `watch` is told after each run."""

    def __init__(
        self, workers: Workers, scenario_of: Callable[[int], Scenario], watch: Callable[[Progress], None]
    ) -> None:
        self._workers = workers
        self._scenario_of = scenario_of
        self._watch = watch

    def play(self, first_seed: int, count: int) -> tuple[Progress, Failure | None]:
        """Plays `count` seeds from `first_seed` on, and stops at the first failure that it meets."""
        progress = Progress(count)
        begun_s = time.monotonic()
        tasks = ((self._scenario_of(seed), seed) for seed in range(first_seed, first_seed + count))
        with closing(self._workers.run(tasks)) as outcomes:
            for _, outcome in outcomes:
                scenario = self._scenario_of(outcome.seed)
                progress.done += 1
                progress.simulated_s += outcome.simulated_s
                progress.wall_s = time.monotonic() - begun_s
                progress.faults.update(kind_of(fault) for fault in scenario.faults)
                self._watch(progress)
                if not outcome.passed:
                    return progress, Failure(scenario, outcome, f"{scenario.name}, seed {outcome.seed}")
        return progress, None

    def minimised(self, failure: Failure) -> Failure:
        """The smallest found that breaks the same invariant with the same seed."""
        hunt = _Hunt(self._workers, failure, self._watch)
        minimise(failure.scenario, hunt.first_failing, failed_at_s=failure.outcome.failed_at_s)
        return hunt.smallest


class _Hunt:
    """Remembers what was tried, and how long it takes."""

    def __init__(self, workers: Workers, failure: Failure, watch: Callable[[Progress], None]) -> None:
        self.smallest = failure
        self._workers = workers
        self._watch = watch
        self._tried: set[str] = set()
        self._plays = 0
        self._until_s = time.monotonic() + MINIMISE_MAX_S

    def first_failing(self, candidates: Iterable[Scenario]) -> Scenario | None:
        """See `minimise`: of several that play at once the first in order wins, whichever ends first."""
        began: list[Scenario] = []

        def tasks() -> Iterator[tuple[Scenario, int]]:
            for candidate in candidates:
                if self._is_over():
                    return
                text = to_toml(candidate)
                if text not in self._tried:
                    self._tried.add(text)
                    began.append(candidate)
                    yield candidate, self.smallest.outcome.seed

        ended: dict[int, Outcome] = {}
        first = 0
        with closing(self._workers.run(tasks())) as outcomes:
            for number, outcome in outcomes:
                self._plays += 1
                self._watch(Progress(0, plays=self._plays, shrinking=self.smallest.size))
                ended[number] = outcome
                while first in ended:
                    if self._is_the_same(ended[first]):
                        self.smallest = replace(
                            self.smallest, scenario=began[first], outcome=_ordered(ended[first], self.smallest.name)
                        )
                        return began[first]
                    first += 1
        return None

    def _is_over(self) -> bool:
        return self._plays >= MINIMISE_PLAYS_MAX or time.monotonic() >= self._until_s

    def _is_the_same(self, outcome: Outcome) -> bool:
        return any(name == self.smallest.name for name, _ in outcome.broken)


def _ordered(outcome: Outcome, name: str) -> Outcome:
    """With the invariant `name` in front."""
    return replace(outcome, broken=tuple(sorted(outcome.broken, key=lambda broken: broken[0] != name)))
