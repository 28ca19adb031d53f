"""Work that would hold up the others is done aside, in a thread: a port, because a simulated world has no threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple

import trio

__all__ = ["aside", "inline"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_is_inline: ContextVar[bool] = ContextVar("is_inline", default=False)


async def aside(work: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
    """The result of `work`, done in a worker thread."""
    if _is_inline.get():
        await trio.lowlevel.checkpoint()
        return work(*arguments)
    return await trio.to_thread.run_sync(work, *arguments)


@contextmanager
def inline() -> Iterator[None]:
    """Within it (and in tasks begun within it) work is done at once, by whoever asks: without threads a run can be
    repeated."""
    token = _is_inline.set(True)
    try:
        yield
    finally:
        _is_inline.reset(token)
