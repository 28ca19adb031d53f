"""What reads of the SQLite store do, each over one snapshot; `_reader_pool` carries them out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from node.store._evicted import EvictedSpan, divide
from node.store._logs import evicted_of
from node.store._schema import SEQ_OFFSET, chunks_of, one
from node.store.api import Admission, ItemColumns, ScanPage
from protocols.limits.data import DIGEST_BYTES, SEQ_MAX
from protocols.limits.store import SCAN_PAGE_MESSAGES
from protocols.model import Item, LogName
from protocols.operations import is_genuine
from protocols.sync.effects import Span

__all__ = [
    "KeyPage",
    "SqliteSnapshot",
    "admit",
    "blob_of",
    "blobs",
    "columns_of",
    "items",
    "judge",
    "scan_page",
    "watermarks",
]

_WATERMARKS: Final = (
    "SELECT json_group_array(json_array(j.key, w.seq)) FROM json_each(?) j"
    " CROSS JOIN topics t ON t.topic = json_extract(j.value, '$[0]')"
    " CROSS JOIN logs l ON l.topic = t.id AND l.log = json_extract(j.value, '$[1]')"
    " CROSS JOIN watermarks w ON w.log = l.id"
)
"""In one row: each would have the interpreter's lock let go and taken back."""

_FIND_LOG: Final = "SELECT id FROM logs WHERE topic = (SELECT id FROM topics WHERE topic = ?) AND log = ?"


class _Log(NamedTuple):
    """How a snapshot knows a log. `watermark` and `top` (the highest seq held, alive or not) as they are stored."""

    id: int
    watermark: int | None
    top: int | None


_LOG: Final = "l.id, (SELECT seq FROM watermarks WHERE log = l.id), (SELECT max(seq) FROM messages WHERE log = l.id)"


class SqliteSnapshot:
    """See `_paging.Snapshot`. Lives within one read transaction."""

    def __init__(self, connection: sqlite3.Connection, alive_from_s: int) -> None:
        self._db = connection
        self._alive_from_s = alive_from_s

    def live_logs(self, topic: str, log_from: str) -> Iterator[tuple[str, _Log]]:
        rows = self._db.execute(
            f"SELECT l.log, {_LOG} FROM logs l INDEXED BY logs_live WHERE l.topic ="
            " (SELECT id FROM topics WHERE topic = ?) AND l.log >= ? AND l.emptied IS NULL ORDER BY l.log",
            (topic, log_from),
        )
        return ((log, _Log(*columns)) for log, *columns in rows)

    def find(self, topic: str, log: str) -> _Log | None:
        row = self._db.execute(
            f"SELECT {_LOG} FROM logs l WHERE l.topic = (SELECT id FROM topics WHERE topic = ?) AND l.log = ?",
            (topic, log),
        ).fetchone()
        return None if row is None else _Log(*row)

    def watermark(self, ref: _Log) -> int | None:
        return None if ref.watermark is None else ref.watermark + SEQ_OFFSET

    def top(self, ref: _Log) -> int | None:
        return None if ref.top is None else ref.top + SEQ_OFFSET

    def evicted(self, ref: _Log) -> list[EvictedSpan]:
        return evicted_of(self._db, ref.id)

    def alive_seqs(self, ref: _Log, seq_from: int, seq_to: int) -> Iterator[int]:
        rows = self._db.execute(
            "SELECT seq FROM messages WHERE log = ? AND seq BETWEEN ? AND ? AND first_stored >= ? ORDER BY seq",
            (ref.id, seq_from - SEQ_OFFSET, min(seq_to, SEQ_MAX) - SEQ_OFFSET, self._alive_from_s),
        )
        last = None
        for (seq,) in rows:
            if seq != last:
                last = seq
                yield seq + SEQ_OFFSET

    def served(self, ref: _Log, seq_from: int) -> Iterator[tuple[int, bytes]]:
        rows = self._db.execute(
            "SELECT m.seq, m.size, m.blob, b.data FROM messages m CROSS JOIN blobs b ON b.id = m.blob"
            " WHERE m.log = ?1 AND m.seq >= ?2 AND m.first_stored >= ?3 AND NOT EXISTS (SELECT 1 FROM messages v"
            " WHERE v.log = ?1 AND v.seq = m.seq AND v.first_stored >= ?3"
            " AND (-v.genuine, v.first_stored, v.digest) < (-m.genuine, m.first_stored, m.digest)) ORDER BY m.seq",
            (ref.id, seq_from - SEQ_OFFSET, self._alive_from_s),
        )
        for seq, size, blob, data in rows:
            yield seq + SEQ_OFFSET, data if chunks_of(size) == 1 else blob_of(self._db, blob, size)


def blob_of(connection: sqlite3.Connection, first: int, size: int) -> bytes:
    """A blob put together from its rows; shorter than `size` if some are lost."""
    rows = connection.execute(
        "SELECT data FROM blobs WHERE id BETWEEN ? AND ? ORDER BY id", (first, first + chunks_of(size) - 1)
    )
    return b"".join(data for (data,) in rows)


def items(connection: sqlite3.Connection, name: LogName, seq_from: int, seq_to: int) -> list[Item]:
    """See `Store.items`."""
    log_id = one(connection, _FIND_LOG, name)
    rows = connection.execute(
        "SELECT seq, digest, first_stored, size FROM messages WHERE log = ? AND seq BETWEEN ? AND ?"
        " ORDER BY seq, digest",
        (log_id, seq_from - SEQ_OFFSET, seq_to - SEQ_OFFSET),
    )
    return [Item(seq + SEQ_OFFSET, digest, first_stored_s, size) for seq, digest, first_stored_s, size in rows]


def blobs(connection: sqlite3.Connection, name: LogName, wanted: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
    """See `Store.blobs`."""
    log_id = one(connection, _FIND_LOG, name)
    found: list[bytes | None] = []
    for seq, digest in wanted:
        if not 0 <= seq <= SEQ_MAX:
            found.append(None)
            continue
        row = connection.execute(
            "SELECT blob, size FROM messages WHERE log = ? AND seq = ? AND digest = ?",
            (log_id, seq - SEQ_OFFSET, digest),
        ).fetchone()
        found.append(None if row is None else blob_of(connection, *row))
    return found


def judge(
    connection: sqlite3.Connection,
    wanted: Sequence[tuple[LogName, int, bytes]],
    arriving: Mapping[tuple[LogName, int, bytes], bytes],
) -> dict[tuple[LogName, int, bytes], bool]:
    """Which of the blobs (log, seq, digest) are genuine; those that do not arrive are held, or left out."""
    judged: dict[tuple[LogName, int, bytes], bool] = {}
    for key in wanted:
        name, seq, digest = key
        blob = arriving[key] if key in arriving else blobs(connection, name, [(seq, digest)])[0]
        if blob is not None:
            judged[key] = is_genuine(name, seq, blob)
    return judged


def admit(connection: sqlite3.Connection, spans: Sequence[Span], takes: Callable[[int | None], bool]) -> Admission:
    """See `Store.admit`. `takes` says whether there is room for a topic, known by its id or (None) new here."""
    found = Admission([], [], [])
    for name, group in groupby(spans, key=itemgetter(0)):
        topic_id = one(connection, "SELECT id FROM topics WHERE topic = ?", (name.topic,))
        log_id = one(connection, "SELECT id FROM logs WHERE topic = ? AND log = ?", (topic_id, name.log))
        divide(found, list(group), evicted_of(connection, log_id), has_room=takes(topic_id))
    return found


def watermarks(connection: sqlite3.Connection, names: Sequence[LogName]) -> Mapping[LogName, int | None]:
    """See `Store.watermarks`."""
    found: dict[LogName, int | None] = dict.fromkeys(names)
    for at, stored in json.loads(one(connection, _WATERMARKS, (json.dumps(names),))):
        found[names[at]] = stored + SEQ_OFFSET
    return found


# SQLite puts whole columns together itself, with the interpreter's lock released: three times as fast as rows, and
# nobody else waits. The loops of a cross join are nested as they are written, and each runs in the order of its key.
_COLUMNS: Final = (
    "group_concat(grp), group_concat(seq), CAST(group_concat(digest, '') AS BLOB), group_concat(first_stored)"
)
_SPANS: Final = (
    f"SELECT {_COLUMNS} FROM (SELECT j.key AS grp, m.seq, m.digest, m.first_stored FROM json_each(?) j"
    " CROSS JOIN topics t ON t.topic = json_extract(j.value, '$[0]')"
    " CROSS JOIN logs l ON l.topic = t.id AND l.log = json_extract(j.value, '$[1]')"
    " CROSS JOIN messages m ON m.log = l.id AND m.seq BETWEEN json_extract(j.value, '$[2]')"
    " AND json_extract(j.value, '$[3]') AND m.first_stored >= ?)"
)
_PAGE: Final = (
    f"SELECT {_COLUMNS} FROM (SELECT log AS grp, seq, digest, first_stored FROM messages"
    " WHERE (log, seq, digest) > (?, ?, ?) ORDER BY log, seq, digest LIMIT ?)"
)
_NAMES: Final = (
    "SELECT t.topic, l.log FROM json_each(?) j"
    " CROSS JOIN logs l ON l.id = j.value CROSS JOIN topics t ON t.id = l.topic"
)

_Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], bytes, npt.NDArray[np.int64]]


def _columns(row: tuple[str | None, str | None, bytes | None, str | None]) -> _Columns:
    """(group, stored seq, digest, first stored) of all rows. Raises sqlite3.DatabaseError if a digest is cut off."""
    groups, seqs, first_stored_s = (np.fromstring(text or "", np.int64, sep=",") for text in (row[0], row[1], row[3]))
    digests = row[2] or b""
    if len(digests) != DIGEST_BYTES * len(groups):
        raise sqlite3.DatabaseError("a digest has the wrong length")
    return groups, seqs, digests, first_stored_s


def _seqs(stored: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    return stored.view(np.uint64) ^ np.uint64(SEQ_OFFSET)


def columns_of(
    connection: sqlite3.Connection, spans: Sequence[tuple[LogName, int, int]], alive_from_s: int
) -> ItemColumns:
    """See `Store.columns_of`."""
    wanted = [
        (name.topic, name.log, max(0, low) - SEQ_OFFSET, min(high, SEQ_MAX) - SEQ_OFFSET) for name, low, high in spans
    ]
    row = connection.execute(_SPANS, (json.dumps(wanted), alive_from_s)).fetchone()
    groups, seqs, digests, first_stored_s = _columns(row)
    return ItemColumns(np.bincount(groups, minlength=len(spans)), _seqs(seqs), digests, first_stored_s)


class KeyPage(NamedTuple):
    """A page of a scan. `after` is the key (log id, stored seq, digest) after which to go on; None at the end."""

    page: ScanPage
    after: tuple[int, int, bytes] | None


def scan_page(connection: sqlite3.Connection, after: tuple[int, int, bytes] | None) -> KeyPage:
    """The next messages in the order of their keys."""
    start = after or (0, -SEQ_OFFSET, b"")
    groups, seqs, digests, first_stored_s = _columns(connection.execute(_PAGE, (*start, SCAN_PAGE_MESSAGES)).fetchone())
    log_ids, counts = np.unique(groups, return_counts=True)
    names = [LogName(*row) for row in connection.execute(_NAMES, (json.dumps(log_ids.tolist()),))]
    if len(names) != len(log_ids):
        raise sqlite3.DatabaseError("messages belong to no log")
    is_last = len(groups) < SCAN_PAGE_MESSAGES
    return KeyPage(
        ScanPage(names, ItemColumns(counts.astype(np.int64), _seqs(seqs), digests, first_stored_s)),
        None if is_last else (int(groups[-1]), int(seqs[-1]), digests[-DIGEST_BYTES:]),
    )
