"""Pages of whole messages for a transfer: see `Store.messages`.

Fetched row by row, every message would have the interpreter's lock let go and taken back, and whoever computes in
another thread would make each of these take 5 ms. So SQLite puts whole columns together itself, blobs too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise, starmap
from typing import Final

import numpy as np
import numpy.typing as npt

from node.store._readers import blob_of
from node.store._schema import SEQ_OFFSET
from protocols.limits import BLOB_CHUNK_BYTES, DIGEST_BYTES, MESSAGES_PAGE_MAX, SEQ_MAX, VARIANTS_MAX
from protocols.model import Item
from protocols.sync.effects import Page, Span

__all__ = ["messages"]

_PORTION_SPANS: Final = 64

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

_Numbers = npt.NDArray[np.int64]


def messages(
    connection: sqlite3.Connection,
    wanted: Sequence[Span],
    alive_from_s: int,
    page_bytes: int,
    after: tuple[int, int] | None,
) -> Page:
    """See `Store.messages`. Raises sqlite3.DatabaseError if a blob is not whole."""
    entries: list[tuple[int, Item, bytes]] = []
    page_bytes = max(1, page_bytes)
    for first_index, portion in _portions(wanted, after):
        limit = MESSAGES_PAGE_MAX - len(entries)
        # One key more than the page may hold, and all its variants, tell where the next page begins.
        rows = connection.execute(_KEYS, (json.dumps(portion), alive_from_s, limit + VARIANTS_MAX)).fetchone()
        spans, seqs, first_stored_s, sizes, blobs = (np.fromstring(text or "", np.int64, sep=",") for text in rows[:5])
        digests = rows[5] or b""
        if len(digests) != DIGEST_BYTES * len(spans):
            raise sqlite3.DatabaseError("a digest has the wrong length")
        spans += first_index
        end = _end(spans, seqs, sizes, limit, page_bytes)
        items = starmap(
            Item,
            zip(
                (seqs[:end].view(np.uint64) ^ np.uint64(SEQ_OFFSET)).tolist(),
                [digests[at : at + DIGEST_BYTES] for at in range(0, DIGEST_BYTES * end, DIGEST_BYTES)],
                first_stored_s[:end].tolist(),
                sizes[:end].tolist(),
                strict=True,
            ),
        )
        entries += zip(spans[:end].tolist(), items, _blobs(connection, blobs[:end], sizes[:end]), strict=True)
        if end < len(spans):
            return Page(entries, (int(spans[end]), int(seqs[end]) + SEQ_OFFSET))
        page_bytes -= int(sizes.sum())
    return Page(entries, None)


def _portions(
    wanted: Sequence[Span], after: tuple[int, int] | None
) -> Iterator[tuple[int, list[tuple[str, str, int, int]]]]:
    """The spans as SQLite takes them, from `after` on: (index of the first, some of them). So many that full ones give
    about a page, and more each time, so that empty ones cost few queries."""
    index, seq_from = after or (0, 0)
    spans_min = _PORTION_SPANS
    while index < len(wanted):
        portion: list[tuple[str, str, int, int]] = []
        width = 0
        for (topic, log), first, last in islice(wanted, index, index + MESSAGES_PAGE_MAX):
            low, high = max(seq_from, first), min(last, SEQ_MAX)
            portion.append((topic, log, low - SEQ_OFFSET, high - SEQ_OFFSET))
            width += max(0, high - low + 1)
            seq_from = 0
            if width > MESSAGES_PAGE_MAX and len(portion) >= spans_min:
                break
        yield index, portion
        index += len(portion)
        spans_min *= 4


def _end(spans: _Numbers, seqs: _Numbers, sizes: _Numbers, messages_max: int, page_bytes: int) -> int:
    """How many of these messages the page takes."""
    before = np.cumsum(sizes) - sizes
    is_beyond = (np.arange(len(sizes)) >= messages_max) | (before >= page_bytes)
    is_key = np.ones(len(sizes), np.bool_)
    is_key[1:] = (np.diff(spans) != 0) | (np.diff(seqs) != 0)
    ends = np.flatnonzero(is_beyond & is_key)
    return int(ends[0]) if len(ends) else len(sizes)


def _blobs(connection: sqlite3.Connection, firsts: _Numbers, sizes: _Numbers) -> list[bytes]:
    """Each blob from its first row on: small ones all at once, large ones piece by piece."""
    is_small = sizes <= BLOB_CHUNK_BYTES
    small = iter(_small_blobs(connection, firsts[is_small], sizes[is_small]))
    found = []
    for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True):
        blob = next(small) if size <= BLOB_CHUNK_BYTES else blob_of(connection, first, size)
        if len(blob) != size:
            raise sqlite3.DatabaseError("a piece of a message is missing")
        found.append(blob)
    return found


def _small_blobs(connection: sqlite3.Connection, ids: _Numbers, sizes: _Numbers) -> list[bytes]:
    """Blobs of one row each; what was stored together is read as one range."""
    if not len(ids):
        return []
    begins = np.flatnonzero(np.diff(ids, prepend=ids[0]) != 1)
    ends = np.append(begins[1:], len(ids)) - 1
    runs = np.column_stack((ids[begins], ids[ends])).tolist()
    data: bytes = connection.execute(_BLOBS, (json.dumps(runs),)).fetchone()[0] or b""
    return [data[start:end] for start, end in pairwise(accumulate(sizes.tolist(), initial=0))]
