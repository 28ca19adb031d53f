"""How hard strangers press, and what is asked of them for it: a pace, and work. No clock, no I/O.

Theory of operation. The server looks twenty times a second how late it is. Being late means that every request waits,
several times. If it is late and strangers keep it busy, their connections have to wait between two requests: longer
with every look while the strain lasts, shorter with every look without it. From some pace on their stores need a proof
of work, and as proofs alone become too many, harder ones. So whoever floods is slowed down and pays, and whoever sends
a request now and then hardly notices. In quiet times pace and bits are zero.
"""

from __future__ import annotations

from protocols.limits.shedding import (
    CALM_S,
    CHALLENGE_BITS_FIRST,
    CHALLENGE_BITS_MAX,
    CHALLENGE_PROVEN_RATE,
    PACE_CHALLENGE_S,
    PACE_FIRST_S,
    PACE_MAX_S,
    PULSE_LATE_S,
    PULSE_SMOOTHING,
    STRAIN_STRANGERS_RATE,
)

__all__ = ["Pressure"]

_RISE = 1.5
_FALL = 0.8


class Pressure:
    """`pace_s` is how long a stranger's connection waits between two requests, `bits` how much work its stores take."""

    def __init__(self) -> None:
        self.pace_s = 0.0
        self.bits = 0
        self._late_s = 0.0
        self._strangers_rate = 0.0
        self._proven_rate = 0.0
        self._since_bits_s = 0.0
        self._calm_s = 0.0

    @property
    def strain(self) -> float:
        """How late the server is, on average; 1 is as late as it should be at the most."""
        return self._late_s / PULSE_LATE_S

    def look(self, *, elapsed_s: float, late_s: float, share: float, strangers: int, proven: int) -> None:
        """What happened in the last `elapsed_s`: how late the server was, what share of the places for stores was
        taken (0 to 1), how many requests of strangers were served, and how many of these brought a proof."""
        self._late_s += PULSE_SMOOTHING * (max(late_s, 2 * share * PULSE_LATE_S) - self._late_s)
        self._strangers_rate += PULSE_SMOOTHING * (strangers / elapsed_s - self._strangers_rate)
        self._proven_rate += PULSE_SMOOTHING * (proven / elapsed_s - self._proven_rate)
        is_strained = self.strain > 1
        if is_strained and (self._strangers_rate > STRAIN_STRANGERS_RATE or self.pace_s):
            self.pace_s = min(PACE_MAX_S, max(PACE_FIRST_S, _RISE * self.pace_s))
        elif self.strain < 0.5:
            self.pace_s = _FALL * self.pace_s if _FALL * self.pace_s >= PACE_FIRST_S else 0.0
        self._calm_s = 0.0 if is_strained else self._calm_s + elapsed_s
        self._adjust_bits(elapsed_s)

    def _adjust_bits(self, elapsed_s: float) -> None:
        self._since_bits_s += elapsed_s
        if not self.bits:
            if self.pace_s >= PACE_CHALLENGE_S:
                self._set_bits(CHALLENGE_BITS_FIRST)
        elif self._proven_rate > CHALLENGE_PROVEN_RATE:
            if self._since_bits_s >= 1.0:
                self._set_bits(min(self.bits + 1, CHALLENGE_BITS_MAX))
        elif self._calm_s >= CALM_S and self._since_bits_s >= CALM_S:
            self._set_bits(self.bits - 1 if self.bits > CHALLENGE_BITS_FIRST else 0)

    def _set_bits(self, bits: int) -> None:
        self.bits = bits
        self._since_bits_s = 0.0
