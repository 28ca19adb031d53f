"""Threads and processor time: a port, because a simulated world has neither. Work that would hold up the others is done
aside, in a thread."""

from __future__ import annotations

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


def processor_s() -> float:
    """Seconds of processor time that this thread has used so far; always 0 where nothing may depend on that."""
    return 0.0 if _is_inline.get() else time.thread_time()


@contextmanager
def inline() -> Iterator[None]:
    """Within it (and in tasks begun within it) work is done at once, by whoever asks: without threads a run can be
    repeated."""
    token = _is_inline.set(True)
    try:
        yield
    finally:
        _is_inline.reset(token)
