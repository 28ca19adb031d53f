"""What the layouts of messages have in common: their numbers, and the elements that several of them have.

Each element has a function that writes it and one that reads and checks it; readers raise RemoteProtocolError.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from protocols.errors import RemoteProtocolError
from protocols.limits.data import BLOB_BYTES_MAX, DIGEST_BYTES, HANDLE_BYTES, ID_BYTES_MAX, SEQ_MAX
from protocols.limits.sync import SYNC_ENTRIES_MAX, TRANSFER_SPANS_MAX
from protocols.model import Item, check_id
from protocols.sync.columns import unpack_varint_list
from protocols.sync.messages import Seqs
from protocols.sync.wire import as_bytes, as_int, as_ints, as_text

__all__ = [
    "ABOUT",
    "ASK",
    "DONE",
    "HELLO",
    "NAMED",
    "NAMES",
    "NEWS",
    "PARCEL",
    "REFUSE",
    "STANDING",
    "SURVEY",
    "SURVEYED",
    "TELL",
    "TIME_MAX_S",
    "TOPICS",
    "TRANSFER",
    "WANT",
    "check_ascending",
    "cut",
    "item_columns",
    "printable",
    "read_flag",
    "read_handle",
    "read_id",
    "read_items",
    "read_spans",
    "read_varints",
    "spans_field",
    "split",
]

HELLO: Final = 1
REFUSE: Final = 2
NEWS: Final = 3
ABOUT: Final = 4
STANDING: Final = 5
SURVEY: Final = 6
SURVEYED: Final = 7
NAMES: Final = 8
NAMED: Final = 9
ASK: Final = 10
TELL: Final = 11
TRANSFER: Final = 12
WANT: Final = 13
PARCEL: Final = 14
DONE: Final = 15
TOPICS: Final = 16

TIME_MAX_S: Final = 2**53
"""Latest Unix time on the wire: exact in every language."""


def cut(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def item_columns(items: Sequence[Item]) -> list[Any]:
    """Seqs (each after the first as the distance to the one before), digests, first stored, sizes."""
    return [
        [seq - before for before, seq in pairwise([0, *(item.seq for item in items)])],
        b"".join([item.digest for item in items]),
        [item.first_stored_s for item in items],
        [item.size for item in items],
    ]


def spans_field(spans: Sequence[Seqs]) -> list[int]:
    """First seq, how many follow it, distance from there to the next first seq, how many follow it, …"""
    field: list[int] = []
    end = 0
    for first, last in spans:
        field += (first - end, last - first)
        end = last
    return field


def read_flag(value: Any, what: str) -> bool:
    return as_int(value, what, maximum=1) == 1


def printable(text: str) -> str:
    """What goes into logs and terminals must not control them."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def read_handle(value: Any) -> bytes:
    return as_bytes(value, "handle", length=HANDLE_BYTES)


def read_id(value: Any, what: str) -> str:
    """A topic or a log."""
    text = as_text(value, what, bytes_max=ID_BYTES_MAX)
    try:
        check_id(what, text)
    except ValueError as error:
        raise RemoteProtocolError("name", str(error)) from None
    return text


def check_ascending(values: Sequence[Any], what: str) -> None:
    if any(one >= other for one, other in pairwise(values)):
        raise RemoteProtocolError("order", f"{what} are not strictly ascending")


def split(data: bytes, size: int, what: str) -> list[bytes]:
    if len(data) % size:
        raise RemoteProtocolError("malformed", f"{what} is not a multiple of {size} bytes")
    return [data[start : start + size] for start in range(0, len(data), size)]


def read_varints(value: Any, what: str, *, count_max: int) -> list[int]:
    numbers = unpack_varint_list(as_bytes(value, what), what)
    if len(numbers) > count_max:
        raise RemoteProtocolError("limit", f"more than {count_max} numbers in {what}")
    return numbers


def read_spans(value: Any) -> list[Seqs]:
    """Spans of seqs, ascending, one at least; see `spans_field`."""
    field = as_ints(value, "spans", maximum=SEQ_MAX, length_max=2 * TRANSFER_SPANS_MAX)
    if not field or len(field) % 2:
        raise RemoteProtocolError("malformed", "spans without an end")
    spans: list[Seqs] = []
    end = -1
    for gap, length in zip(field[0::2], field[1::2], strict=True):
        first = gap if not spans else end + gap
        if first <= end:
            raise RemoteProtocolError("order", "spans are not ascending")
        end = first + length
        spans.append((first, end))
    if end > SEQ_MAX:
        raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
    return spans


def read_items(columns: list[Any]) -> list[Item]:
    """Items from their columns; see `item_columns`."""
    deltas, packed, dates, sizes = columns
    count = len(as_ints(deltas, "seqs", maximum=SEQ_MAX, length_max=SYNC_ENTRIES_MAX))
    digests = split(as_bytes(packed, "digests", length=count * DIGEST_BYTES), DIGEST_BYTES, "digests")
    as_ints(dates, "first stored", maximum=TIME_MAX_S, length_max=count)
    as_ints(sizes, "sizes", maximum=BLOB_BYTES_MAX, length_max=count)
    if not count == len(dates) == len(sizes):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    items: list[Item] = []
    seq, digest = 0, b""
    for delta, next_digest, stored_s, size in zip(deltas, digests, dates, sizes, strict=True):
        if delta == 0 and next_digest <= digest:
            raise RemoteProtocolError("order", "items are not strictly ascending")
        seq, digest = seq + delta, next_digest
        items.append(Item(seq, digest, stored_s, size))
    if seq > SEQ_MAX:
        raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
    return items
