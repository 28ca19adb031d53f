"""The writer of the SQLite store: one thread, one connection, group commit.

Requests go through a queue, those of one round of trio's tasks together. The thread takes all that wait (up to a
bound), carries them out in one transaction, makes it durable with one fsync, and hands all results back to trio in one
hop. So a commit costs 64 clients what it costs one and no delay window is needed: while one batch is being committed
the next one gathers.

If a transaction fails (the disk is full, say), its requests are tried again one by one, so that only those that can't
be carried out fail. Between batches the thread does housekeeping in small steps: it frees large removed blobs, copies
the write-ahead log into the database, and gives free pages back to the file system.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import outcome
import trio

from node.store._budget import Budget
from node.store._health import FileWatch, HealthWatch
from node.store._housekeeping import Housekeeping
from node.store._ledger import Ledger
from node.store._schema import connect_writer, replace_file, translate
from node.store._shares import Shares
from node.store._variants import Occupancy
from node.store.api import Change, StoreError, StoreFull, StoreUnavailable, Trouble
from protocols.limits.store import COMMIT_BATCH_MESSAGES, FILE_LOOK_S, STORE_PAGE_BYTES, STORE_QUEUE_BYTES

__all__ = ["Job", "Writer"]

log = logging.getLogger(__name__)

_NO_CHANGE: Final = Change()


@dataclass(eq=False, slots=True)
class Job:
    """One request. `work` runs in the writer thread inside a transaction and returns its result and what changed.

    `grows` says whether it needs room on the disk for good. `bytes` is what it holds in memory while it waits. One
    that `is_alone` shares its transaction with no other: it bounds its own time.
    """

    work: Callable[[Ledger], tuple[Any, Change]]
    messages: int
    bytes: int = 0
    grows: bool = False
    is_alone: bool = False
    done: trio.Event = field(default_factory=trio.Event)
    outcome: outcome.Outcome[Any] | None = None
    change: Change = _NO_CHANGE
    is_abandoned: bool = False


class Writer:
    """Owns the writer thread. `changes` counts the requests that changed something; `renewed` is called when the store
    has had to be written into a new file."""

    def __init__(
        self,
        path: Path,
        *,
        budget: Budget,
        health: HealthWatch,
        renewed: Callable[[], None],
        requests_per_commit_max: int | None = None,
    ) -> None:
        self._path = path
        self.budget = budget
        self._health = health
        self._renewed = renewed
        self._watch: FileWatch | None = None  # the thread's own
        self._requests_per_commit_max = requests_per_commit_max
        self._announce: Callable[[Change], None] = lambda change: None
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_closed = True
        self._ended = trio.Event()
        # Shared with the thread:
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._held_back: Job | None = None  # the thread's own: taken from the queue, but too much for the last batch
        self._is_stopping = False  # the thread's own
        # The trio thread's own:
        self._gathered: list[Job] = []
        self._queued_bytes = 0
        self._admission: deque[tuple[int, trio.Event]] = deque()
        self.occupancy = Occupancy()
        self.changes = 0
        self.shares: Shares[int] = Shares(time.time)
        """The thread's own: others may look at it, and see the one moment or the next."""
        self.salt = b""

    # --- in the trio thread ----------------------------------------------------------------------------------------

    async def start(self, announce: Callable[[Change], None]) -> None:
        """Opens the connection and reads the totals. `announce` is called in the trio thread for every committed
        change, in commit order. Raises StoreError."""
        self._announce = announce
        self._token = trio.lowlevel.current_trio_token()
        try:
            ledger, connection = await trio.to_thread.run_sync(self._open)
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self._path) from error
        self.occupancy = ledger.occupancy.copy()
        self.shares, self.salt = ledger.shares, ledger.salt
        self._is_closed = False
        threading.Thread(target=self._run, args=(ledger, connection), name="store-writer", daemon=True).start()

    async def close(self) -> None:
        """Carries out what is queued and closes the connection."""
        if self._is_closed:
            return
        self._is_closed = True
        for _, admitted in self._admission:
            admitted.set()
        self._hand_over()
        self._queue.put(None)
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def do(self, job: Job) -> Any:
        """Queues `job` and returns its result once it is durable. Raises StoreError."""
        await self._admit(job.bytes)
        self._gathered.append(job)
        if len(self._gathered) == 1:
            # The thread is woken when all who have their turn now have added theirs: it would compete with them for
            # Python's lock and find little to do.
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._hand_over()
        try:
            await job.done.wait()
        except trio.Cancelled:
            job.is_abandoned = True  # spares the work if it has not begun
            raise
        assert job.outcome is not None
        return job.outcome.unwrap()

    def _hand_over(self) -> None:
        for job in self._gathered:
            self._queue.put(job)
        self._gathered.clear()

    async def _admit(self, size: int) -> None:
        """Waits, first come first served, until the queue has room for `size` bytes (or is empty), and takes it."""
        if self._admission or not self._has_room(size):
            ticket = (size, trio.Event())
            self._admission.append(ticket)
            try:
                await ticket[1].wait()
            except trio.Cancelled:
                self._admission.remove(ticket)
                self._admit_next()
                raise
            self._admission.remove(ticket)
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        self._queued_bytes += size
        self._admit_next()

    def _has_room(self, size: int) -> bool:
        return self._queued_bytes == 0 or self._queued_bytes + size <= STORE_QUEUE_BYTES

    def _admit_next(self) -> None:
        if self._admission and self._has_room(self._admission[0][0]):
            self._admission[0][1].set()

    def _deliver(self, jobs: list[Job], occupancy: Occupancy) -> None:
        self.occupancy = occupancy
        for job in jobs:
            self._queued_bytes -= job.bytes
            self.changes += bool(job.change.stored or job.change.merged or job.change.removed)
            self._announce(job.change)
            job.done.set()
        self._admit_next()

    # --- in the writer thread --------------------------------------------------------------------------------------

    def _open(self) -> tuple[Ledger, sqlite3.Connection]:
        connection = connect_writer(self._path, wal_bytes_max=self.budget.wal_bytes)
        try:
            self._watch = FileWatch.of(self._path)
            return Ledger(connection, budget=self.budget), connection
        except BaseException:
            connection.close()
            raise

    def _run(self, ledger: Ledger, connection: sqlite3.Connection) -> None:
        housekeeping = Housekeeping(self._path, connection, ledger)
        while not self._is_stopping or self._held_back is not None:
            jobs = self._collect(wait=not housekeeping.is_due)
            ledger, housekeeping = self._look_at_file(ledger, housekeeping)
            if not jobs:
                if housekeeping.is_due:
                    housekeeping.step()
                self._probe(ledger, housekeeping)
                continue
            try:
                self._check_file()
                growth = sum(job.bytes for job in jobs if job.grows and not job.is_abandoned)
                self._commit(ledger, jobs, housekeeping.refuse(growth))
            except Exception as error:  # whoever waits must not wait for ever
                if not isinstance(error, StoreError):
                    log.exception("the store's writer failed")
                for job in jobs:
                    job.outcome = job.outcome or outcome.Error(self._failed(error))
            self._hop(self._deliver, jobs, ledger.occupancy.copy())
            housekeeping.after_batch(
                messages=sum(job.messages for job in jobs),
                size=sum(job.bytes for job in jobs),
                has_removed=any(job.change.removed for job in jobs),
            )
        try:
            ledger.db.close()  # also copies the write-ahead log into the database
        except sqlite3.Error as error:
            log.warning("closing the store: %s", translate(error, self._path))
        self._hop(self._ended.set)

    # --- when the disk is not as it should be ------------------------------------------------------------------------

    def _look_at_file(self, ledger: Ledger, housekeeping: Housekeeping) -> tuple[Ledger, Housekeeping]:
        """If the file has been deleted, what it holds is still there as long as it is open: writes it into a new one
        under its name. Otherwise it would all be gone at the end, acknowledged or not."""
        if self._watch is None or self._watch.look() is not Trouble.FAILING:
            return ledger, housekeeping
        try:
            replace_file(ledger.db, self._path)
            renewed, connection = self._open()
        except (sqlite3.Error, OSError) as error:
            self._health.failed(translate(error, self._path))
            return ledger, housekeeping
        log.warning("the store %s had been deleted: everything in it was written again into a new file", self._path)
        self.shares, self.salt = renewed.shares, renewed.salt
        self._renewed()
        return renewed, Housekeeping(self._path, connection, renewed)

    def _check_file(self) -> None:
        """Raises StoreUnavailable if what is written now would be gone at the end."""
        trouble = Trouble.NONE if self._watch is None else self._watch.look()
        if trouble is not Trouble.NONE:
            raise StoreUnavailable(f"the store {self._path} was deleted or replaced while it was open", trouble)

    def _probe(self, ledger: Ledger, housekeeping: Housekeeping) -> None:
        """If the disk was not well when last seen, sees whether it is again."""
        if self._health.pause_s != 0.0:
            return
        self._health.probed()
        full = housekeeping.refuse(STORE_PAGE_BYTES)
        try:
            self._check_file()
            if full is not None:
                raise full
            with ledger.transaction():
                ledger.db.execute("INSERT OR REPLACE INTO notes VALUES ('probe', ?)", (os.urandom(8),))
        except (StoreError, sqlite3.Error, OSError) as error:
            self._health.failed(translate(error, self._path))
        else:
            self._health.wrote()
            log.info("the store %s can be written again", self._path)

    def _hop(self, function: Callable[..., object], *arguments: object) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(function, *arguments)
        except trio.RunFinishedError:  # nobody is left to hear it; what was committed is committed
            self._is_stopping = True

    def _collect(self, *, wait: bool) -> list[Job]:
        """All requests that wait, as far as they fit into one batch; [] if there are none or the store is closing."""
        jobs: list[Job] = []
        messages = size = 0
        while not self._is_stopping or self._held_back is not None:
            job = self._take(wait=wait and not jobs)
            if job is None:
                break
            messages += job.messages
            size += job.bytes
            if jobs and (job.is_alone or messages > COMMIT_BATCH_MESSAGES or size > self.budget.batch_bytes):
                self._held_back = job
                break
            jobs.append(job)
            if job.is_alone or len(jobs) == self._requests_per_commit_max:
                break
        return jobs

    def _take(self, *, wait: bool) -> Job | None:
        job, self._held_back = self._held_back, None
        if job is not None:
            return job
        try:
            pause_s = self._health.pause_s
            job = self._queue.get(block=wait, timeout=FILE_LOOK_S if pause_s is None else min(FILE_LOOK_S, pause_s))
        except queue.Empty:
            return None
        if job is None:  # the last thing in the queue
            self._is_stopping = True
        return job

    def _commit(self, ledger: Ledger, jobs: list[Job], no_room: StoreFull | None) -> None:
        """Gives every job its outcome; with `no_room` those that need room get that one."""
        todo = [job for job in jobs if not job.is_abandoned]
        try:
            with ledger.transaction():
                for job in todo:
                    try:
                        if job.grows and no_room is not None:
                            self._health.failed(no_room)
                            raise no_room
                        result, job.change = job.work(ledger)
                        job.outcome = outcome.Value(result)
                    except StoreError as error:  # refused before anything was written
                        job.outcome = outcome.Error(type(error)(*error.args))
            if any(job.change is not _NO_CHANGE and job.change.stored for job in todo):
                self._health.wrote()
        except Exception as error:
            for job in todo:
                job.change = _NO_CHANGE
                job.outcome = outcome.Error(self._failed(error))
            if len(todo) > 1:
                for job in todo:
                    self._commit(ledger, [job], no_room)

    def _failed(self, error: Exception) -> StoreError:
        if not isinstance(error, sqlite3.Error):
            log.error("the store could not carry out a request", exc_info=error)
        failure = translate(error, self._path)
        self._health.failed(failure)
        return failure
