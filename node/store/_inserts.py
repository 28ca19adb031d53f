"""Rows that wait for the end of a transaction and are then inserted many at a time.

Each statement that runs lets go of Python's lock and must get it back, which takes milliseconds while another thread
computes; and it costs as much as inserting a row does. So all requests that share a commit share their statements, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Final

from node.store._schema import SEQ_OFFSET
from node.store.api import Arrival
from protocols.limits import BLOB_CHUNK_BYTES, BLOBS_TOGETHER_BYTES, INSERT_ROWS

__all__ = ["PendingRows"]

_BLOB_COLUMNS: Final = 2
_MESSAGE_COLUMNS: Final = 8
_WATERMARK_COLUMNS: Final = 2


class PendingRows:
    """What is to be inserted. Not to be read back from the tables before `flush`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        # Column after column of row after row, as a statement takes them.
        self._blobs: list[int | bytes | memoryview] = []
        self._messages: list[int | bytes] = []
        self._watermarks: dict[int, int] = {}
        self._largest_bytes = 0

    def add(self, log: int, arrivals: Sequence[Arrival], blob_id: int, source: int, *, genuine: bool = False) -> int:
        """Messages of a log and their blobs, in rows from `blob_id` on; returns the id after the last. `genuine` if
        that is known of them, and matters; `source` is whoever brought them."""
        is_genuine = int(genuine)
        messages, blobs = self._messages, self._blobs
        for _, seq, blob, digest, first_stored_s in arrivals:
            size = len(blob)
            messages += (log, seq - SEQ_OFFSET, digest, first_stored_s, size, blob_id, is_genuine, source)
            if size > self._largest_bytes:
                self._largest_bytes = size
            if size <= BLOB_CHUNK_BYTES:
                blobs += (blob_id, blob)
                blob_id += 1
                continue
            view = memoryview(blob)
            for start in range(0, size, BLOB_CHUNK_BYTES):
                blobs += (blob_id, view[start : start + BLOB_CHUNK_BYTES])
                blob_id += 1
        return blob_id

    def set_watermark(self, log: int, seq: int) -> None:
        """The watermark of a log in place of the one it had."""
        self._watermarks[log] = seq - SEQ_OFFSET

    def clear(self) -> None:
        """Forgets everything."""
        self._blobs, self._messages, self._watermarks, self._largest_bytes = [], [], {}, 0

    def flush(self) -> None:
        """Inserts everything. Raises sqlite3.Error."""
        blobs, messages, watermarks = self._blobs, self._messages, self._watermarks
        rows_max = INSERT_ROWS if self._largest_bytes <= BLOBS_TOGETHER_BYTES else 1
        self.clear()
        if messages:
            self._insert("INTO blobs", blobs, _BLOB_COLUMNS, rows_max)
            self._insert("INTO messages", messages, _MESSAGE_COLUMNS)
        if watermarks:
            rows = list(chain.from_iterable(sorted(watermarks.items())))
            self._insert("OR REPLACE INTO watermarks", rows, _WATERMARK_COLUMNS)

    def _insert(self, into: str, values: Sequence[object], columns: int, rows_max: int = INSERT_ROWS) -> None:
        step = rows_max * columns
        for start in range(0, len(values), step):
            portion = values[start : start + step]
            self._db.execute(_statement(into, len(portion) // columns, columns), portion)


@cache
def _statement(into: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"INSERT {into} VALUES {', '.join([row] * rows)}"
