"""The wall clock as a port. Durations are trio's business (`trio.current_time`); this is only for dates."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from protocols.limits.data import CLOCK_SETTLE_S, CLOCK_STEP_S

__all__ = ["Clock", "StepWatch", "SystemClock"]

log = logging.getLogger(__name__)


class Clock(Protocol):
    """Tells the time of day. It may step in either direction at any moment: users' clocks do."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_s(self) -> float:
        return time.time()


class StepWatch:
    """Tells whether the date can be trusted with removing messages for good.

    A board without a clock battery may wake in the wrong year, and a wrong date that is far ahead would expire
    everything. So after a step forward nothing is removed for a while; if it was an error, it will have been mended.
    """

    def __init__(self, *, settle_s: float = CLOCK_SETTLE_S) -> None:
        self._settle_s = settle_s
        self._last: tuple[float, float] | None = None
        self._settled_at = 0.0

    def trusted(self, now_s: float, elapsed_s: float) -> bool:
        """`now_s` is the date, `elapsed_s` any steady clock (seconds). Call it regularly, before every removal."""
        if self._last is not None:
            step_s = (now_s - self._last[0]) - (elapsed_s - self._last[1])
            if abs(step_s) > CLOCK_STEP_S:
                log.warning("the clock stepped by %+.0f s; expiry waits for %.0f s", step_s, self._settle_s)
                self._settled_at = elapsed_s + self._settle_s
        self._last = (now_s, elapsed_s)
        return elapsed_s >= self._settled_at
