"""A simulated run and a real one of the same scenario, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulations.recording import Recording
from simulations.report.figures import delays, in_step_again_s
from simulations.report.words import byte_text, duration
from simulations.terminal import typed

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both runs; None where a run did not yield it. `unit` is `s`, `bytes` or "" for plain numbers."""

    what: str
    unit: str
    simulated: float | None
    real: float | None

    @property
    def ratio(self) -> float | None:
        """Real by simulated."""
        return None if not self.simulated or self.real is None else self.real / self.simulated

    def texts(self) -> tuple[str, str, str, str]:
        """What, simulated, real and their ratio, for people."""
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, self._text(self.simulated), self._text(self.real), ratio

    def _text(self, value: float | None) -> str:
        if value is None:
            return "–"
        if self.unit == "":
            return f"{value:,.0f}"
        return typed(duration(value) if self.unit == "s" else byte_text(value))


def compare(simulated: Recording, real: Recording) -> list[Comparison]:
    """Time to converge, delays, bytes, sessions and round trips of both. Raises ValueError for different scenarios."""
    if simulated.scenario != real.scenario:
        raise ValueError(f"{simulated.scenario} and {real.scenario} are two scenarios: there is nothing to compare")
    ours, theirs = dict(_figures(simulated)), dict(_figures(real))
    return [Comparison(what, unit, value, theirs[what, unit]) for (what, unit), value in ours.items()]


def _figures(run: Recording) -> Iterator[tuple[tuple[str, str], float | None]]:
    messages = sum(spread.acknowledged_s is not None for spread in run.spreads)
    carried_bytes = sum(run.traffic_bytes)
    sessions_bytes = sum(total.bytes_out for total in run.totals)
    yield ("messages acknowledged", ""), messages
    yield ("in step again after the last fault", "s"), in_step_again_s(run)
    for one in delays(run):
        if one.share in (0.5, 1.0):
            yield (f"a message reaches {one.share:.0%} of the mailboxes, median", "s"), one.percentile(0.5)
    yield ("bytes in sync sessions", "bytes"), sessions_bytes
    yield ("bytes between mailboxes, hints and heads included", "bytes"), carried_bytes
    yield ("the same by message", "bytes"), carried_bytes / messages if messages else None
    yield ("sessions", ""), sum(total.sessions for total in run.totals)
    yield ("round trips", ""), sum(total.round_trips for total in run.totals)
