"""Traffic over time: samples of the mailbox's counters in two small rings, for the last hour and the last week."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from node.clock import Clock
from protocols.limits.tools import HISTORY_HOUR_STEP_S, HISTORY_SAMPLES_MAX, HISTORY_WEEK_STEP_S

__all__ = ["History", "Reading", "Ring"]


class Reading(NamedTuple):
    """The counters since the start (messages, and bytes to and from other mailboxes), and what is held now."""

    stored: int = 0
    served: int = 0
    synced_in: int = 0
    synced_out: int = 0
    messages: int = 0
    bytes: int = 0


_COUNTERS = 4
"""So many fields of a reading are counters: of these a sample holds how much they grew."""


class Ring:
    """Samples of about `step_s` each, of `span_s` in all."""

    def __init__(self, *, step_s: float, span_s: float) -> None:
        self.step_s = step_s
        self.span_s = span_s
        self._samples: deque[tuple[float, Reading]] = deque(maxlen=HISTORY_SAMPLES_MAX)
        self._last: Reading | None = None

    def add(self, time_s: float, reading: Reading) -> None:
        """A sample at `time_s` (Unix seconds): what happened since the one before. After a step of the clock backwards
        the samples that lie in the future are gone."""
        grown = [now - then for now, then in zip(reading, self._last or reading, strict=True)][:_COUNTERS]
        self._last = reading
        while self._samples and not time_s - self.span_s <= self._samples[0][0]:
            self._samples.popleft()
        while self._samples and self._samples[-1][0] >= time_s:
            self._samples.pop()
        self._samples.append((time_s, Reading(*grown, *reading[_COUNTERS:])))

    def to_dict(self) -> dict[str, Any]:
        """Columns of plain JSON values: `time_s`, and one for each field of a reading."""
        columns: dict[str, Any] = {
            field: [sample[at] for _, sample in self._samples] for at, field in enumerate(Reading._fields)
        }
        return {"step_s": self.step_s, "span_s": self.span_s, "time_s": [t for t, _ in self._samples], **columns}


class History:
    """Both rings, and what fills them: `read` gives the counters."""

    def __init__(self, clock: Clock, read: Callable[[], Reading]) -> None:
        self._clock = clock
        self._read = read
        self.hour = Ring(step_s=HISTORY_HOUR_STEP_S, span_s=3600.0)
        self.week = Ring(step_s=HISTORY_WEEK_STEP_S, span_s=7 * 86400.0)
        self.revision = 0

    async def run(self) -> None:
        """Takes samples until cancelled."""
        steps_a_week_sample = round(HISTORY_WEEK_STEP_S / HISTORY_HOUR_STEP_S)
        step = 0
        while True:
            reading, now_s = self._read(), self._clock.now_s()
            self.hour.add(now_s, reading)
            if step % steps_a_week_sample == 0:
                self.week.add(now_s, reading)
            step += 1
            self.revision += 1
            await trio.sleep(HISTORY_HOUR_STEP_S)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"hour": self.hour.to_dict(), "week": self.week.to_dict()}
