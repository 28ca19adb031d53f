"""How hard strangers press, and how much work is asked of them for it. No clock, no I/O.

Theory of operation. The server looks twenty times a second whether strangers wait for their turn without a break, and
how full their places for stores are. Either means that there are more of them than it can serve. If that lasts, their
stores need a proof of work, and as proofs alone become too many, harder ones. So whoever floods pays. That the server
is late says nothing: it may be other programs' doing. In quiet times no bits are asked for.
"""

from __future__ import annotations

from protocols.limits.shedding import (
    CALM_S,
    CHALLENGE_BITS_FIRST,
    CHALLENGE_BITS_MAX,
    CHALLENGE_PROVEN_RATE,
    KNOCKS_RATE,
    PULSE_SMOOTHING,
    STRAIN_CHALLENGE_S,
    STRAIN_MAX,
    STRANGERS_BUSY_S,
)

__all__ = ["Pressure"]


class Pressure:
    """`bits` is how much work strangers' stores take, `busy_s` for how long strangers have waited without a break.
    `is_high` from the first strain, or too many connections, until there is none and no work is asked for."""

    def __init__(self) -> None:
        self.bits = 0
        self.busy_s = 0.0
        self.strain = 0.0
        """On average; 1 is as much as there should be at the most."""
        self.is_high = False
        self._knocks_rate = 0.0
        self._proven_rate = 0.0
        self._since_bits_s = 0.0
        self._strained_s = 0.0
        self._calm_s = 0.0

    def look(self, *, elapsed_s: float, busy_s: float, share: float, knocks: int, proven: int) -> None:
        """What happened in the last `elapsed_s`: for how long strangers have waited without a break, what share of the
        places for stores was taken (0 to 1), how many connections of strangers were accepted, and how many of their
        requests brought a proof."""
        strain = min(max(busy_s / STRANGERS_BUSY_S, 2 * share), STRAIN_MAX)
        self.strain += PULSE_SMOOTHING * (strain - self.strain)
        self.busy_s = busy_s
        self._knocks_rate += PULSE_SMOOTHING * (knocks / elapsed_s - self._knocks_rate)
        self._proven_rate += PULSE_SMOOTHING * (proven / elapsed_s - self._proven_rate)
        is_strained = self.strain > 1
        if is_strained or self._knocks_rate > KNOCKS_RATE:
            self.is_high = True
        elif self.strain < 0.5 and self._knocks_rate < KNOCKS_RATE / 2:
            self.is_high = self.bits > 0
        self._strained_s = self._strained_s + elapsed_s if is_strained else 0.0
        self._calm_s = 0.0 if is_strained else self._calm_s + elapsed_s
        self._adjust_bits(elapsed_s)

    def _adjust_bits(self, elapsed_s: float) -> None:
        self._since_bits_s += elapsed_s
        if not self.bits:
            if self._strained_s >= STRAIN_CHALLENGE_S:
                self._set_bits(CHALLENGE_BITS_FIRST)
        elif self._proven_rate > CHALLENGE_PROVEN_RATE:
            if self._since_bits_s >= 1.0:
                self._set_bits(min(self.bits + 1, CHALLENGE_BITS_MAX))
        elif self._calm_s >= CALM_S and self._since_bits_s >= CALM_S:
            self._set_bits(self.bits - 1 if self.bits > CHALLENGE_BITS_FIRST else 0)

    def _set_bits(self, bits: int) -> None:
        self.bits = bits
        self._since_bits_s = 0.0
        self._strained_s = 0.0
