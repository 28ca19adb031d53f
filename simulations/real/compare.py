"""A simulated run and a real one of the same scenario, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.recording import Recording
from simulations.report.beside import Figure, figures_beside
from simulations.terminal import typed

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both runs; None where a run did not yield it. For the units see `Figure`."""

    what: str
    unit: str
    simulated: float | None
    real: float | None

    @property
    def _figure(self) -> Figure:
        return Figure(self.what, self.unit, (self.simulated, self.real))

    @property
    def ratio(self) -> float | None:
        """Real by simulated."""
        return self._figure.ratio

    def texts(self) -> tuple[str, str, str, str]:
        """What, simulated, real and their ratio, for people."""
        figure = self._figure
        ratio = "–" if figure.ratio is None else f"{figure.ratio:.2f}"
        return self.what, typed(figure.text(self.simulated)), typed(figure.text(self.real)), ratio


def compare(simulated: Recording, real: Recording) -> list[Comparison]:
    """Time to converge, delays, bytes, sessions and round trips of both. Raises ValueError for different scenarios."""
    if simulated.scenario != real.scenario:
        raise ValueError(f"{simulated.scenario} and {real.scenario} are two scenarios: there is nothing to compare")
    return [Comparison(figure.name, figure.unit, *figure.values) for figure in figures_beside([simulated, real])]
