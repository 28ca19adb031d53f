"""The mailbox mode: whether phones are let in and told that there is a mailbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from node.http.head import Head
from node.http.messages import Guard, HttpError
from protocols.limits.shedding import PAUSED_RETRY_S

__all__ = ["Doors"]


class Doors:
    """Open or not. While they are closed phones are answered 503 and the mailbox is not announced; it keeps what it
    holds, and keeps in step with the mailboxes that it knows."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self._changed = trio.Event()

    def set(self, *, is_open: bool) -> None:
        """Opens or closes them."""
        if is_open != self.is_open:
            self.is_open = is_open
            self._changed.set()
            self._changed = trio.Event()

    def guard(self, inner: Guard | None) -> Guard:
        """A guard for the phones' routes, before `inner`."""

        def guard(head: Head, client: str) -> None:
            if not self.is_open:
                raise HttpError.busy(503, "This mailbox is switched off for now.", retry_after_s=PAUSED_RETRY_S)
            if inner is not None:
                inner(head, client)

        return guard

    async def while_so(self, run: Callable[[bool], Awaitable[None]]) -> None:
        """Runs `run(is_open)`, and again from its beginning whenever that changes. Raises what it raises."""
        while True:
            changed = self._changed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, self.is_open)
                await changed.wait()
                nursery.cancel_scope.cancel()
