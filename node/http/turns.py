"""Strangers take turns: so many of their requests at a time, and pauses in between while others are about.

Theory of operation. Trio runs all tasks that have something to do, and then looks again: whoever comes meanwhile waits
for all of them. A thousand strangers with a request each would keep a phone waiting for all thousand, several times for
each request. So a stranger's request waits for its turn before it is read: a few at once are let in, and when these
have had theirs, the next. While paired phones or known clients are about, strangers pause after each turn for as long
as it took: so they have half of the time at most, and the store's threads come to theirs. What counts is the time for
which the server computed: other programs on the machine are not the strangers' fault. In quiet times nobody waits, and
nothing runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

import trio

from node.http.standing import Occupant
from protocols.limits.shedding import (
    COMPANY_S,
    TURN_PAUSE_MAX_S,
    TURN_S,
    TURNS_AT_ONCE_MAX,
    TURNS_WINDOW_S,
)

__all__ = ["Turns"]


class Turns:
    """One server's. `run` has to run while it serves. `taken` counts turns. `cpu_s` is for how long this thread has
    computed, in seconds."""

    def __init__(self, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self.taken = 0
        self._cpu_s = cpu_s
        self._busy_since_s = 0.0
        self._waiting: dict[Occupant, trio.lowlevel.Task] = {}  # first come, first served
        self._at_once = TURNS_AT_ONCE_MAX
        self._left = TURNS_AT_ONCE_MAX
        self._window_until_s = float("-inf")
        self._company_until_s = float("-inf")
        self._is_wanted = trio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def newest(self) -> Iterable[Occupant]:
        """Those who wait, whoever came last first."""
        return reversed(self._waiting)

    def busy_s(self, now_s: float) -> float:
        """For how long somebody has waited all the time."""
        return now_s - self._busy_since_s if self._waiting else 0.0

    def company(self, now_s: float) -> None:
        """Somebody who is no stranger is here."""
        self._company_until_s = now_s + COMPANY_S

    def take_nowait(self) -> bool:
        """Takes a turn if nobody waits and few have been taken just now; says whether."""
        if self._waiting:
            return False
        now_s = trio.current_time()
        if now_s >= self._window_until_s:
            self._window_until_s, self._left = now_s + TURNS_WINDOW_S, TURNS_AT_ONCE_MAX
        if not self._left:
            return False
        self._left -= 1
        self.taken += 1
        return True

    async def take(self, who: Occupant) -> None:
        """Waits for a turn; nobody waits for two."""
        if not self._waiting:
            self._busy_since_s = trio.current_time()
        self._waiting[who] = trio.lowlevel.current_task()
        self._is_wanted.set()

        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiting[who]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    async def run(self) -> None:
        """Gives turns, for ever."""
        while True:
            if not self._waiting:
                self._is_wanted = trio.Event()
                await self._is_wanted.wait()
            begun_s = self._cpu_s()
            for who in list(islice(self._waiting, self._at_once)):
                trio.lowlevel.reschedule(self._waiting.pop(who))
                self.taken += 1
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()  # after the first one not all of them need have had their turn
            took_s = self._cpu_s() - begun_s
            self._at_once = max(1, self._at_once // 2) if took_s > TURN_S else min(TURNS_AT_ONCE_MAX, self._at_once + 1)
            if trio.current_time() < self._company_until_s:
                await trio.sleep(min(took_s, TURN_PAUSE_MAX_S))
