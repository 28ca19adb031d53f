"""What a storage limit means for the files on the disk: the database and its write-ahead log share it."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.limits.store import (
    CHECKPOINT_PAGES,
    COMMIT_BATCH_BYTES,
    STORAGE_LIMIT_ON_DISK_MIN,
    STORAGE_WAL_BYTES_MAX,
    STORAGE_WAL_PART,
    STORE_PAGE_BYTES,
    WAL_BYTES_MAX,
)

__all__ = ["Budget"]


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit_bytes` None: there is no limit. `is_on_disk`: it holds for the files, not only for what is counted."""

    limit_bytes: int | None

    @property
    def is_on_disk(self) -> bool:
        """See above."""
        return self.limit_bytes is not None and self.limit_bytes >= STORAGE_LIMIT_ON_DISK_MIN

    @property
    def _log_bytes(self) -> int:
        """What is left to the write-ahead log."""
        if self.limit_bytes is None or not self.is_on_disk:
            return STORAGE_WAL_BYTES_MAX
        return min(STORAGE_WAL_BYTES_MAX, self.limit_bytes // STORAGE_WAL_PART)

    @property
    def database_bytes(self) -> int:
        """What the database may take."""
        return 0 if self.limit_bytes is None else self.limit_bytes - self._log_bytes

    @property
    def wal_bytes(self) -> int:
        """The length above which the write-ahead log is cut down."""
        return min(WAL_BYTES_MAX, self._log_bytes * 2 // 5) if self.is_on_disk else WAL_BYTES_MAX

    @property
    def batch_bytes(self) -> int:
        """What shares one commit."""
        return min(COMMIT_BATCH_BYTES, self._log_bytes // 4)

    @property
    def checkpoint_pages(self) -> int:
        """After so many pages the write-ahead log is copied into the database."""
        return min(CHECKPOINT_PAGES, self._log_bytes // 5 // STORE_PAGE_BYTES)
