"""Threads and processor time: a port, because a simulated world has neither. Work that would hold up the others is done
aside, in a thread."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple

import trio

__all__ = ["aside", "inline", "processor_s"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_is_inline: ContextVar[bool] = ContextVar("is_inline", default=False)


async def aside(work: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
    """The result of `work`, done in a worker thread."""
    if _is_inline.get():
        await trio.lowlevel.checkpoint()
        return work(*arguments)
    return await trio.to_thread.run_sync(work, *arguments)


if sys.platform == "linux":
    from resource import RUSAGE_THREAD, getrusage

    def _thread_s() -> float:
        # The precise clock (`time.thread_time`) has the kernel settle its accounts, and whoever has used up its slice
        # loses the processor on the spot, with Python's lock in its hands: asked at each turn of a session, that cost a
        # tenth of a bulk transfer. These figures are those of the last tick (4 ms, say).
        usage = getrusage(RUSAGE_THREAD)
        return usage.ru_utime + usage.ru_stime

else:
    _thread_s = time.thread_time


def processor_s() -> float:
    """Seconds of processor time that this thread has used so far; always 0 where nothing may depend on that. It grows
    by leaps of some milliseconds: what differences come to over many stretches of work is true, a short one by itself
    is mostly 0."""
    return 0.0 if _is_inline.get() else _thread_s()


@contextmanager
def inline() -> Iterator[None]:
    """Within it (and in tasks begun within it) work is done at once, by whoever asks: without threads a run can be
    repeated."""
    token = _is_inline.set(True)
    try:
        yield
    finally:
        _is_inline.reset(token)
