"""Rows that wait for the end of a transaction and are then inserted many at a time.

Each statement that runs lets go of Python's lock and must get it back, which takes milliseconds while another thread
computes; and it costs as much as inserting a row does. So all requests that share a commit share their statements, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, chain, repeat
from typing import Final

from node.store._schema import SEQ_OFFSET, chunks_of
from protocols.limits.store import BLOB_CHUNK_BYTES, BLOBS_TOGETHER_BYTES, INSERT_ROWS, INSERT_ROWS_MAX
from protocols.sync.deliveries import Stretch

__all__ = ["PendingRows"]

_BLOB_COLUMNS: Final = 2
_MESSAGE_COLUMNS: Final = 8
_WATERMARK_COLUMNS: Final = 2

_SIZES: Final = (INSERT_ROWS_MAX, INSERT_ROWS)
_ONE_BY_ONE: Final = (1,)
"""Rows in one statement: as many as there are of the first, then of the next, and at last what is left."""


class PendingRows:
    """What is to be inserted. Not to be read back from the tables before `flush`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        # Column after column of row after row, as a statement takes them.
        self._blobs: list[int | bytes | memoryview] = []
        self._messages: list[int | bytes] = []
        self._watermarks: dict[int, int] = {}
        self._largest_bytes = 0

    def add(self, log: int, arrivals: Stretch, blob_id: int, source: int, *, genuine: bool = False) -> int:
        """Messages of a log and their blobs, in rows from `blob_id` on; returns the id after the last. `genuine` if
        that is known of them, and matters; `source` is whoever brought them."""
        _, _, seqs, contents, digests, first_stored_s = arrivals
        if len(seqs) == 1 and (size := len(contents[0])) <= BLOB_CHUNK_BYTES:  # as most come that phones send
            self._largest_bytes = max(self._largest_bytes, size)
            self._blobs += (blob_id, contents[0])
            row = (log, seqs[0] - SEQ_OFFSET, digests[0], first_stored_s[0], size, blob_id, int(genuine), source)
            self._messages += row
            return blob_id + 1
        sizes = list(map(len, contents))
        self._largest_bytes = max(self._largest_bytes, *sizes)
        ids: Sequence[int] = range(blob_id, blob_id + len(sizes))
        if max(sizes) <= BLOB_CHUNK_BYTES:
            self._blobs += chain.from_iterable(zip(ids, contents, strict=True))
        else:
            ids = list(accumulate(map(chunks_of, sizes), initial=blob_id))[:-1]
            for first, blob in zip(ids, contents, strict=True):
                view = memoryview(blob)
                for at in range(chunks_of(len(blob))):
                    self._blobs += (first + at, view[at * BLOB_CHUNK_BYTES : (at + 1) * BLOB_CHUNK_BYTES])
        stored = [seq - SEQ_OFFSET for seq in seqs]
        self._messages += chain.from_iterable(
            zip(repeat(log), stored, digests, first_stored_s, sizes, ids, repeat(int(genuine)), repeat(source))
        )
        return ids[-1] + chunks_of(sizes[-1])

    def set_watermark(self, log: int, seq: int) -> None:
        """The watermark of a log in place of the one it had."""
        self._watermarks[log] = seq - SEQ_OFFSET

    def clear(self) -> None:
        """Forgets everything."""
        self._blobs, self._messages, self._watermarks, self._largest_bytes = [], [], {}, 0

    def flush(self) -> None:
        """Inserts everything. Raises sqlite3.Error."""
        blobs, messages, watermarks = self._blobs, self._messages, self._watermarks
        sizes = _SIZES if self._largest_bytes <= BLOBS_TOGETHER_BYTES else _ONE_BY_ONE
        self.clear()
        if messages:
            self._insert("INTO blobs", blobs, _BLOB_COLUMNS, sizes)
            self._insert("INTO messages", messages, _MESSAGE_COLUMNS)
        if watermarks:
            rows = list(chain.from_iterable(sorted(watermarks.items())))
            self._insert("OR REPLACE INTO watermarks", rows, _WATERMARK_COLUMNS)

    def _insert(self, into: str, values: Sequence[object], columns: int, sizes: Sequence[int] = _SIZES) -> None:
        start = 0
        for rows_max in sizes:
            step = rows_max * columns
            is_smallest = rows_max == sizes[-1]
            while len(values) - start >= step or (is_smallest and start < len(values)):
                portion = values[start : start + step]
                self._db.execute(_statement(into, len(portion) // columns, columns), portion)
                start += step


@cache
def _statement(into: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"INSERT {into} VALUES {', '.join([row] * rows)}"
