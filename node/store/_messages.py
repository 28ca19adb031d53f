"""Pages of whole messages for a transfer: see `Store.messages`.

Fetched row by row, every message would have the interpreter's lock let go and taken back, and whoever computes in
another thread would make each of these take 5 ms. So SQLite puts whole columns together itself, blobs too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from node.store._readers import blob_of
from node.store._schema import SEQ_OFFSET
from protocols.limits.data import DIGEST_BYTES, SEQ_MAX, VARIANTS_MAX
from protocols.limits.store import BLOB_CHUNK_BYTES, MESSAGES_PAGE_MAX
from protocols.sync.effects import Page, Span

__all__ = ["messages"]

_PORTION_SPANS: Final = 16
_PORTION_MESSAGES: Final = 128
_SPARE: Final = 1.05
"""More keys are read than will probably be needed: a few in vain cost less than asking once more."""

# The loops of a cross join are nested as they are written, and each runs in the order of its key.
_KEYS: Final = (
    "SELECT group_concat(span), group_concat(seq), group_concat(first_stored), group_concat(size), group_concat(blob),"
    " CAST(group_concat(digest, '') AS BLOB) FROM"
    " (SELECT j.key AS span, m.seq, m.digest, m.first_stored, m.size, m.blob FROM json_each(?) j"
    " CROSS JOIN topics t ON t.topic = json_extract(j.value, '$[0]')"
    " CROSS JOIN logs l ON l.topic = t.id AND l.log = json_extract(j.value, '$[1]')"
    " CROSS JOIN messages m ON m.log = l.id AND m.seq BETWEEN json_extract(j.value, '$[2]')"
    " AND json_extract(j.value, '$[3]') AND m.first_stored >= ? LIMIT ?)"
)
_BLOBS: Final = (
    "SELECT CAST(group_concat(b.data, '') AS BLOB) FROM json_each(?) j"
    " CROSS JOIN blobs b ON b.id BETWEEN json_extract(j.value, '$[0]') AND json_extract(j.value, '$[1]')"
)
_SCATTERED_BLOBS: Final = (
    "SELECT CAST(group_concat(b.data, '') AS BLOB) FROM json_each(?) j CROSS JOIN blobs b ON b.id = j.value"
)
"""The same for rows that don't stand together: a third less for each."""

_Numbers = npt.NDArray[np.int64]


class _Keys(NamedTuple):
    """What is known of messages without their blobs, column by column: `seqs` as stored, `blobs` their first rows."""

    spans: _Numbers
    seqs: _Numbers
    first_stored_s: _Numbers
    sizes: _Numbers
    blobs: _Numbers
    digests: bytes

    def first(self, count: int) -> _Keys:
        """The first `count` of them."""
        spans, seqs, first_stored_s, sizes, blobs = (column[:count] for column in self[:5])
        return _Keys(spans, seqs, first_stored_s, sizes, blobs, self.digests[: DIGEST_BYTES * count])


def messages(
    connection: sqlite3.Connection,
    wanted: Sequence[Span],
    alive_from_s: int,
    page_bytes: int,
    after: tuple[int, int] | None,
    message_bytes: float = 0.0,
) -> Page:
    """See `Store.messages`. `message_bytes` is how large messages mostly are, 0 if that is not known: keys read in vain
    cost time, and so does asking again. Raises sqlite3.DatabaseError if a blob is not whole."""
    taken: list[_Keys] = []
    data: list[bytes] = []
    count = 0
    position = after or (0, 0)
    left_bytes = max(1, page_bytes)
    spans_min = _PORTION_SPANS
    while position[0] < len(wanted):
        taken_bytes = page_bytes - left_bytes
        messages_max = _likely(count, left_bytes, taken_bytes / count if taken_bytes > 0 else message_bytes)
        portion = _portion(wanted, position, messages_max, spans_min)
        keys = _keys(connection, portion, position[0], alive_from_s, messages_max)
        end = _end(keys, messages_max, left_bytes)
        taken.append(keys.first(end))
        data += _blobs(connection, taken[-1])
        count += end
        left_bytes -= int(taken[-1].sizes.sum())
        if end < len(keys.spans):
            position = (int(keys.spans[end]), int(keys.seqs[end]) + SEQ_OFFSET)
            if left_bytes <= 0 or count >= MESSAGES_PAGE_MAX:
                return _page(taken, data, position)
        else:
            position = (position[0] + len(portion), 0)
            spans_min *= 4  # so that empty spans cost few queries
    return _page(taken, data, None)


def _page(keys: Sequence[_Keys], data: Sequence[bytes], after: tuple[int, int] | None) -> Page:
    if not keys:
        return Page.of([], after)
    spans, seqs, first_stored_s, sizes, _, digests = zip(*keys, strict=True)
    return Page(
        np.concatenate(spans),
        np.concatenate(seqs).view(np.uint64) ^ np.uint64(SEQ_OFFSET),
        b"".join(digests),
        np.concatenate(first_stored_s),
        np.concatenate(sizes),
        b"".join(data),
        after,
    )


def _likely(messages: int, left_bytes: int, message_bytes: float) -> int:
    """How many more messages fill a page that has some, if they are about as large as that."""
    left = MESSAGES_PAGE_MAX - messages
    if left <= 0 or left_bytes <= 0:
        return 0
    likely = int(left_bytes / message_bytes * _SPARE) + 1 if message_bytes > 0 else 0
    return min(left, max(likely, _PORTION_MESSAGES))


def _portion(
    wanted: Sequence[Span], position: tuple[int, int], messages_max: int, spans_min: int
) -> list[tuple[str, str, int, int]]:
    """Some spans as SQLite takes them, from `position` on: so many as hold `messages_max` messages if they are full."""
    index, seq_from = position
    portion: list[tuple[str, str, int, int]] = []
    width = 0
    for (topic, log), first, last in islice(wanted, index, index + max(spans_min, messages_max)):
        low, high = max(seq_from, first), min(last, SEQ_MAX)
        portion.append((topic, log, low - SEQ_OFFSET, high - SEQ_OFFSET))
        width += max(0, high - low + 1)
        seq_from = 0
        if width > messages_max and len(portion) >= spans_min:
            break
    return portion


def _keys(
    connection: sqlite3.Connection,
    portion: Sequence[tuple[str, str, int, int]],
    first_index: int,
    alive_from_s: int,
    messages_max: int,
) -> _Keys:
    # One more than may be taken, and all its variants, tell where to go on.
    limit = messages_max + VARIANTS_MAX
    row = connection.execute(_KEYS, (json.dumps(portion), alive_from_s, limit)).fetchone()
    spans, seqs, first_stored_s, sizes, blobs = (np.fromstring(text or "", np.int64, sep=",") for text in row[:5])
    digests = row[5] or b""
    if len(digests) != DIGEST_BYTES * len(spans):
        raise sqlite3.DatabaseError("a digest has the wrong length")
    return _Keys(spans + first_index, seqs, first_stored_s, sizes, blobs, digests)


def _end(keys: _Keys, messages_max: int, left_bytes: int) -> int:
    """How many of these messages the page takes: never a part of a seq's variants."""
    before = np.cumsum(keys.sizes) - keys.sizes
    is_beyond = (np.arange(len(before)) >= messages_max) | (before >= left_bytes)
    is_first = np.ones(len(before), np.bool_)
    is_first[1:] = (np.diff(keys.spans) != 0) | (np.diff(keys.seqs) != 0)
    ends = np.flatnonzero(is_beyond & is_first)
    return int(ends[0]) if len(ends) else len(before)


def _blobs(connection: sqlite3.Connection, keys: _Keys) -> list[bytes]:
    """The blobs of the keys one after the other, in pieces: small ones that stand together at once, large ones one by
    one."""
    is_small = keys.sizes <= BLOB_CHUNK_BYTES
    found: list[bytes] = []
    for stretch in np.split(np.arange(len(is_small)), np.flatnonzero(np.diff(is_small)) + 1):
        if not len(stretch):
            continue
        if is_small[stretch[0]]:
            found.append(_small_blobs(connection, keys.blobs[stretch]))
        else:
            found += [blob_of(connection, int(keys.blobs[at]), int(keys.sizes[at])) for at in stretch]
        if sum(map(len, found)) != keys.sizes[: stretch[-1] + 1].sum():
            raise sqlite3.DatabaseError("a piece of a message is missing")
    return found


def _small_blobs(connection: sqlite3.Connection, ids: _Numbers) -> bytes:
    """Blobs of one row each, one after the other; what was stored together is read as one range."""
    begins = np.flatnonzero(np.diff(ids, prepend=ids[0]) != 1)
    ends = np.append(begins[1:], len(ids)) - 1
    if len(begins) > len(ids) // 2:
        sql, rows = _SCATTERED_BLOBS, ids
    else:
        sql, rows = _BLOBS, np.column_stack((ids[begins], ids[ends]))
    data: bytes = connection.execute(sql, (json.dumps(rows.tolist()),)).fetchone()[0] or b""
    return data
