"""Commands that run for a while and end in good order when they are told to stop."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import trio

__all__ = ["until_signal"]

T = TypeVar("T")


async def until_signal(work: Callable[[], Awaitable[T]], *, note: str) -> T:
    """`work`'s result. SIGINT, SIGTERM and SIGHUP cancel it, say `note` on stderr and raise KeyboardInterrupt.

    Errors come in exception groups. Run with `restrict_keyboard_interrupt_to_checkpoints`.
    """

    async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                click.echo(f"\n{note}", err=True)
                raise KeyboardInterrupt

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        result = await work()
        nursery.cancel_scope.cancel()
    return result
