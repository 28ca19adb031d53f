"""The figures in which recordings of one scenario are compared: of the simulated world and of real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simulations.recording import Recording
from simulations.report.figures import correct_mailboxes, delays, in_step_again_s
from simulations.report.words import byte_text, duration, percent

__all__ = ["Figure", "figures_beside"]

_TEXTS: dict[str, Callable[[float], str]] = {
    "s": duration,
    "bytes": byte_text,
    "share": percent,
    "": lambda value: f"{value:,.0f}",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a value for each recording, None where it did not yield one. `unit` is `s`, `bytes`, `share`, or ""
    for plain numbers."""

    name: str
    unit: str
    values: Sequence[float | None]

    def text(self, value: float | None) -> str:
        """A value for people."""
        return "–" if value is None else _TEXTS[self.unit](value)

    @property
    def ratio(self) -> float | None:
        """Of two recordings: the second by the first."""
        first, second = self.values
        return None if not first or second is None else second / first


def figures_beside(recordings: Sequence[Recording]) -> Iterator[Figure]:
    """All of them, each with a value for each recording."""

    def each(name: str, unit: str, value: Callable[[Recording], float | None]) -> Figure:
        return Figure(name, unit, [value(recording) for recording in recordings])

    found = [delays(recording) for recording in recordings]
    yield each("In step again after the last fault", "s", in_step_again_s)
    for part, which in ((0.5, "Median"), (0.99, "99 %")):
        for index, whom in ((0, "half"), (-1, "all")):
            values = [one[index].percentile(part) if one[index].total else None for one in found]
            yield Figure(f"{which} until {whom} hold a message", "s", values)
    yield each("Bytes between mailboxes", "bytes", _sent_bytes)
    yield each("Of them in sync sessions", "bytes", lambda run: sum(total.bytes_out for total in run.totals))
    yield each("Bytes per message", "bytes", _bytes_each)
    yield each("Sessions", "", lambda run: sum(total.sessions for total in run.totals))
    yield each("Round trips", "", lambda run: sum(total.round_trips for total in run.totals))
    yield each("Messages", "", lambda run: len(run.spreads))
    yield each("Of them acknowledged", "", _acknowledged)
    yield each("Mailboxes that are correct", "", correct_mailboxes)
    yield each("Share held at the end", "share", lambda run: run.held_share[-1] if run.held_share else None)
    yield each("Time played", "s", lambda run: run.simulated_s)
    yield each("Time it took", "s", lambda run: run.wall_s)


def _sent_bytes(recording: Recording) -> float:
    return sum(recording.traffic_bytes) or sum(one.bytes_out for one in recording.totals)


def _bytes_each(recording: Recording) -> float | None:
    return _sent_bytes(recording) / len(recording.spreads) if recording.spreads else None


def _acknowledged(recording: Recording) -> float:
    return sum(spread.acknowledged_s is not None for spread in recording.spreads)
