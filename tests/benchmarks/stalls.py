"""How long everything else was held up while something was done."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["Stall", "stalls"]


class Stall:
    """The longest so far, in seconds."""

    longest_s = 0.0


@asynccontextmanager
async def stalls() -> AsyncIterator[Stall]:
    """Watches, with a task that wants to run every millisecond."""
    stall = Stall()

    async def watch() -> None:
        last_s = time.perf_counter()
        while True:
            await trio.sleep(0.001)
            now_s = time.perf_counter()
            stall.longest_s = max(stall.longest_s, now_s - last_s - 0.001)
            last_s = now_s

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.lowlevel.checkpoint()
        yield stall
        nursery.cancel_scope.cancel()
