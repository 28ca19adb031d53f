"""The reading side of the SQLite store: a few read-only connections in worker threads, never held up by the writer."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import outcome
import trio

from node.store._health import HealthWatch
from node.store._schema import connect_reader, translate
from node.store.api import StoreUnavailable
from protocols.limits.store import READERS_MAX, SHORT_READ_S

__all__ = ["Readers"]

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Read:
    """One read that waits for its thread, is carried out there, or is done."""

    work: Callable[[sqlite3.Connection], Any]
    task: trio.lowlevel.Task
    outcome: outcome.Outcome[Any] | None = None


class Readers:
    """A pool of connections. Each read is one short transaction: a snapshot that does not hold the log for long.

    A thread for each read would cost more than a short read does, and with many of them under way their threads would
    fight for Python's lock. So those that are mostly short (`run_short`) share one: it takes what waits, one after the
    other, and hands back what is done together. Only where one of them takes long a second thread helps.
    """

    def __init__(self, path: Path, health: HealthWatch) -> None:
        self._path = path
        self._health = health
        self._generation = 0
        self._limiter = trio.CapacityLimiter(READERS_MAX)
        self._idle: queue.SimpleQueue[tuple[int, sqlite3.Connection]] = queue.SimpleQueue()
        self._running = 0
        self._is_closed = False
        self._quiet = trio.Event()
        self._gathered: list[_Read] = []
        # Shared with the threads of short reads, under the lock:
        self._lock = threading.Lock()
        self._waiting: deque[_Read] = deque()
        self._done: list[_Read] = []
        self._took_at_s: dict[object, float] = {}
        """Since when each thread that is awake has been at its read."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`'s result, carried out over one snapshot. Raises StoreUnavailable."""
        with self._counted():
            return await trio.to_thread.run_sync(self._in_thread, work, limiter=self._limiter)

    async def run_short(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for what mostly takes less than a millisecond."""
        with self._counted():
            read = _Read(work, trio.lowlevel.current_task())
            self._gathered.append(read)
            if len(self._gathered) == 1:
                # As in `Writer.do`: the thread is woken when all who have their turn now have added theirs.
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._hand_over()
            await trio.lowlevel.wait_task_rescheduled(lambda _raise_cancel: trio.lowlevel.Abort.FAILED)
            assert read.outcome is not None
            result: T = read.outcome.unwrap()
            return result

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        self._running += 1
        try:
            yield
        except sqlite3.Error as error:
            failure = translate(error, self._path)
            self._health.failed(failure)
            raise failure from error
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    def _hand_over(self) -> None:
        thread, now_s = object(), time.monotonic()
        with self._lock:
            self._waiting.extend(self._gathered)
            newest_s = max(self._took_at_s.values(), default=float("-inf"))
            is_wanted = now_s > newest_s + SHORT_READ_S and len(self._took_at_s) < READERS_MAX
            if is_wanted:
                self._took_at_s[thread] = now_s
        self._gathered.clear()
        if is_wanted:
            token = trio.lowlevel.current_trio_token()
            try:
                trio.lowlevel.start_thread_soon(partial(self._carry_out, thread, token), _forget)
            except RuntimeError as error:  # the system has no thread left for us
                self._refuse(thread, f"the store can't be read now: {error}")

    def _refuse(self, thread: object, why: str) -> None:
        with self._lock:
            del self._took_at_s[thread]
            refused = [] if self._took_at_s else list(self._waiting)
            for read in refused:
                read.outcome = outcome.Error(StoreUnavailable(why))
                self._waiting.popleft()
            self._done += refused
        trio.lowlevel.current_trio_token().run_sync_soon(self._deliver)

    def _carry_out(self, thread: object, token: trio.lowlevel.TrioToken) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    del self._took_at_s[thread]
                    return
                read = self._waiting.popleft()
                self._took_at_s[thread] = time.monotonic()
            read.outcome = outcome.capture(self._in_thread, read.work)
            with self._lock:
                self._done.append(read)
                is_first = len(self._done) == 1
            if is_first:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for read in done:
            trio.lowlevel.reschedule(read.task)

    def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            generation, connection = self._idle.get_nowait()
            if generation != self._generation:
                connection.close()
                raise queue.Empty
        except queue.Empty:
            generation, connection = self._generation, connect_reader(self._path)
        try:
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._idle.put((generation, connection))
        return result

    def renew(self) -> None:
        """The file is another one from now on: what is open is opened anew."""
        self._generation += 1

    async def close(self) -> None:
        """Waits for the reads under way and closes the connections."""
        self._is_closed = True
        self._quiet = trio.Event()
        if self._running:
            with trio.CancelScope(shield=True):
                await self._quiet.wait()
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()


def _forget(_outcome: object) -> None:
    """A thread of short reads has nothing to say at its end."""
