"""The one desk at which everything is written down and looked up, in order, off the event loop.

What waits there is done together in one transaction: while one is being written, the next fills up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import outcome
import trio

from node.client.store import ClientStore, ClientStoreError
from protocols.limits.client import CLIENT_COMMIT_WORKS_MAX

__all__ = ["Desk"]

_T = TypeVar("_T")


class _Work:
    __slots__ = ("call", "done", "durable", "result")

    def __init__(self, call: Callable[[], Any], *, durable: bool) -> None:
        self.call = call
        self.durable = durable
        self.done = trio.Event()
        self.result: outcome.Outcome[Any] | None = None


class Desk:
    """Does work with a ClientStore. `run` must run beside whoever uses it."""

    def __init__(self, store: ClientStore) -> None:
        self.store = store
        self._queue: deque[_Work] = deque()
        self._bell = trio.Event()
        self._failure: ClientStoreError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then what waits is still done. Raises ClientStoreError: nothing can be written any more."""
        task_status.started()
        try:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                await self._work_off()
        finally:
            with trio.CancelScope(shield=True):
                await self._work_off()

    async def do(self, call: Callable[[], _T], *, durable: bool = False) -> _T:
        """The result of `call`, once it is written down. Calls are done in the order in which they came, also those
        whose callers were cancelled. Raises ClientStoreError."""
        if self._failure is not None:
            raise self._failure
        work = _Work(call, durable=durable)
        self._queue.append(work)
        self._bell.set()
        await work.done.wait()
        assert work.result is not None
        result: _T = work.result.unwrap()
        return result

    async def _work_off(self) -> None:
        while self._queue and self._failure is None:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), CLIENT_COMMIT_WORKS_MAX))]
            durable = any(work.durable for work in batch)
            calls = [work.call for work in batch]
            try:
                results = await trio.to_thread.run_sync(lambda: self.store.together(calls, durable=durable))  # noqa: B023
            except ClientStoreError as error:
                self._failure = error
                for work in [*batch, *self._queue]:
                    work.result = outcome.Error(error)
                    work.done.set()
                self._queue.clear()
                raise
            for work, result in zip(batch, results, strict=True):
                work.result = outcome.Value(result)
                work.done.set()
