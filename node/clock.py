"""The wall clock as a port. Durations are trio's business (`trio.current_time`); this is only for dates."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time of day. It may step in either direction at any moment: users' clocks do."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_s(self) -> float:
        return time.time()
