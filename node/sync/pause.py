"""Pauses that end at a time which may be moved meanwhile: a port, because where there are thousands of them a simulated
world has a cheaper way."""

from __future__ import annotations

import math

import trio

__all__ = ["Pause"]


class Pause:
    """One task's pauses, one after the other."""

    def __init__(self) -> None:
        self._poked = trio.Event()
        self._scope: trio.CancelScope | None = None

    async def take(self, ends_at: float = math.inf) -> None:
        """Until then (trio's clock), or until somebody has poked since the last pause."""
        with trio.CancelScope(deadline=ends_at) as self._scope:
            await self._poked.wait()
        self._scope = None
        self._poked = trio.Event()

    def move(self, ends_at: float) -> None:
        """The pause that is being made, if one is, ends then."""
        if self._scope is not None:
            self._scope.deadline = ends_at

    def poke(self) -> None:
        """Ends the pause that is being made, or else the next one as soon as it begins."""
        self._poked.set()
