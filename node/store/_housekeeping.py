"""What the SQLite store's writer does beside storing: frees, copies, shrinks, and watches how full the disk is."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.store._ledger import Ledger
from node.store._schema import one, translate
from node.store.api import Room, StoreFull, Trouble
from protocols.limits.store import (
    DISK_LOOK_S,
    DISK_RESERVE_BYTES,
    STORE_BUSY_TIMEOUT_S,
    STORE_PAGE_BYTES,
    VACUUM_FREE_PAGES_MIN,
    VACUUM_STEP_PAGES,
    WAL_READERS_WAIT_S,
)

__all__ = ["Housekeeping", "disk_room"]

log = logging.getLogger(__name__)

_PAGES_PER_MESSAGE: Final = (0.1, 3.0)  # of the key table, the expiry index and the watermarks: together, scattered
_RECLAIM_EVERY: Final = 8  # batches between two steps while there is no pause


def disk_room(path: Path) -> Room | None:
    """What the disk that holds `path` has left for messages; None if it does not tell."""
    try:
        free_bytes, reserve_bytes, size_bytes = _disk(path)
    except OSError:
        return None
    return Room(free_bytes - reserve_bytes, size_bytes)


def _disk(path: Path) -> tuple[int, int, int]:
    """Of the disk that holds `path`: bytes that are free, that must stay so, and all. Raises OSError."""
    disk = os.statvfs(path)
    size_bytes = disk.f_blocks * disk.f_frsize
    return disk.f_bavail * disk.f_frsize, min(DISK_RESERVE_BYTES, size_bytes // 20), size_bytes


class Housekeeping:
    """What the writer does between batches, in steps of a few milliseconds."""

    def __init__(self, path: Path, connection: sqlite3.Connection, ledger: Ledger) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._db = connection
        self._ledger = ledger
        # Estimated, as SQLite tells the length of the log only when it copies it; what it told says how much a message
        # takes now. Where that changes suddenly, SQLite's own limit steps in.
        self._wal_pages = 0.0
        self._pages_per_message = _PAGES_PER_MESSAGE[1]
        self._messages = 0  # since the last copy
        self._granted_bytes = 0
        self._look_again_at = 0.0
        self._batches = 0
        self._may_vacuum = True

    @property
    def is_due(self) -> bool:
        """Whether there is something to do in a pause."""
        return self._ledger.has_garbage or self._may_vacuum

    def after_batch(self, *, messages: int, size: int, has_removed: bool) -> None:
        """Does what should not wait for a pause. `messages` and `size` (bytes) say how much was asked of the batch."""
        self._batches += 1
        if self._batches % _RECLAIM_EVERY == 0 and self._ledger.has_garbage:
            self.step()
        self._may_vacuum = self._may_vacuum or has_removed
        self._messages += messages
        self._wal_pages += size / STORE_PAGE_BYTES + messages * self._pages_per_message
        if self._wal_pages >= self._ledger.budget.checkpoint_pages or self._is_wal_too_long():
            self._guard(self._checkpoint)

    def _is_wal_too_long(self) -> bool:
        """An estimate is not enough where a storage limit must hold."""
        budget = self._ledger.budget
        try:
            return budget.is_on_disk and self._wal.stat().st_size > budget.wal_bytes
        except OSError:
            return False

    def refuse(self, size: int) -> StoreFull | None:
        """What to answer if `size` more bytes would fill the disk to the brim: expiry must write before it can free.

        They are needed twice: in the write-ahead log, and in the database when the log is copied there, as is all that
        the log already holds.
        """
        now = time.monotonic()
        if not size or (size <= self._granted_bytes and now < self._look_again_at):
            self._granted_bytes -= size
            return None
        try:
            free, reserve, _ = _disk(self._path)
            wal_bytes = self._wal.stat().st_size if self._wal.exists() else 0
            left = free - 2 * size - wal_bytes - reserve
            if left >= 0:
                # Looking takes longer than storing a message. Half of what is left is ours for a moment.
                self._granted_bytes, self._look_again_at = left // 4, now + DISK_LOOK_S
                return None
            # Short of space: make the most of what there is.
            self._guard(self._empty_wal)
            free, reserve, _ = _disk(self._path)
            reusable = one(self._db, "PRAGMA freelist_count") * STORE_PAGE_BYTES
        except (OSError, sqlite3.Error):
            return None  # then the transaction will tell
        if free - size - max(0, size - reusable) >= reserve:
            return None
        text = f"the disk that holds {self._path} is full ({reserve >> 10} KiB are kept free for expiry)"
        return StoreFull(text, 0, Trouble.FULL)

    def step(self) -> None:
        """One small step."""
        if self._ledger.has_garbage:
            if not self._guard(self._reclaim):
                self._ledger.has_garbage = False  # until something is removed again or the store is opened again
        elif not self._guard(self._vacuum):
            self._may_vacuum = False

    def _guard(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except (sqlite3.Error, OSError) as error:
            log.warning("housekeeping: %s", translate(error, self._path))
            return False
        return True

    def _reclaim(self) -> None:
        with self._ledger.transaction():
            self._ledger.reclaim()
        self._may_vacuum = True

    def _vacuum(self) -> None:
        free, pages = one(self._db, "PRAGMA freelist_count"), one(self._db, "PRAGMA page_count")
        budget = self._ledger.budget
        is_above_limit = free > 0 and budget.is_on_disk and pages * STORE_PAGE_BYTES > budget.database_bytes
        if not is_above_limit and (free < VACUUM_FREE_PAGES_MIN or free * 4 < pages):
            self._may_vacuum = False
            return
        # Only `executescript` runs the pragma to its end; `execute` frees a single page.
        self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_STEP_PAGES})")
        self._wal_pages += VACUUM_STEP_PAGES
        if self._wal_pages >= self._ledger.budget.checkpoint_pages:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Copies the write-ahead log into the database, so that it starts again from its beginning."""
        _, pages, _ = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._messages:
            least, most = _PAGES_PER_MESSAGE
            too_many = (self._wal_pages - pages) / self._messages / 2  # half of it: loads come in waves
            self._pages_per_message = min(most, max(least, self._pages_per_message - too_many))
        self._wal_pages, self._messages = 0.0, 0
        if self._wal.stat().st_size > self._ledger.budget.wal_bytes:
            # Readers that overlap without a gap keep it from starting again: wait for those there are now.
            self._empty_wal()

    def _empty_wal(self) -> None:
        self._wal_pages, self._messages = 0.0, 0
        self._db.execute(f"PRAGMA busy_timeout = {int(WAL_READERS_WAIT_S * 1000)}")
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(STORE_BUSY_TIMEOUT_S * 1000)}")
