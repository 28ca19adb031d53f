"""A bundle: messages that one mailbox brings another by foot, in records of about a megabyte.

A record names logs; of each it has messages (with their blobs), dates (of messages that the other one has with a later
first stored), and, behind the last message of a log, its watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import BUNDLE_RECORD_BYTES, SEALED_HEAD_BYTES_MAX, SYNC_ENTRIES_MAX
from protocols.model import Item, LogName, MailboxId, digest_of
from protocols.sneakernet.seal import FIRST_TYPE, Kind, Origin, Record, SealWriter
from protocols.sync.fields import TIME_MAX_S, item_columns, read_id, read_items
from protocols.sync.wire import as_array, as_bytes, as_int

__all__ = ["BundleHead", "BundleWriter", "CarriedLog", "read_logs"]

_LOGS: Final = FIRST_TYPE
_LOG_BYTES: Final = 64
"""What a log takes beside its names and its items, at the most."""
_ITEM_BYTES: Final = 32 + 9 + 9 + 5
_HEAD_BYTES: Final = SEALED_HEAD_BYTES_MAX - 64


@dataclass(frozen=True, slots=True)
class BundleHead:
    """What stands in the beginning of the file beside its origin. It has everything that its maker held with a first
    stored of `alive_from_s` or later and `recipient` lacked (None: that anybody could lack). `retention_s` is the
    maker's."""

    recipient: MailboxId | None
    alive_from_s: int
    retention_s: int

    def fields(self) -> list[Any]:
        return [b"" if self.recipient is None else self.recipient.public_key, self.alive_from_s, self.retention_s]

    @classmethod
    def read(cls, origin: Origin) -> BundleHead:
        """Raises RemoteProtocolError."""
        recipient, alive_from_s, retention_s = as_array(list(origin.extra), "fields of a bundle", length=3)
        return cls(
            MailboxId(as_bytes(recipient, "recipient", length=32)) if recipient != b"" else None,
            as_int(alive_from_s, "boundary", maximum=TIME_MAX_S),
            as_int(retention_s, "retention", maximum=TIME_MAX_S),
        )


class CarriedLog(NamedTuple):
    """What a record brings of a log: messages with their verified blobs, dates without, and perhaps the watermark."""

    name: LogName
    messages: Sequence[tuple[Item, bytes]]
    dates: Sequence[Item]
    watermark: int | None


@dataclass(slots=True)
class _Part:
    """A log in the record that is being made."""

    name: LogName
    messages: list[Item] = field(default_factory=list)
    dates: list[Item] = field(default_factory=list)
    watermark: int | None = None

    def fields(self) -> list[Any]:
        mark = 0 if self.watermark is None else min(self.watermark + 1, SEQ_MAX)
        return [*self.name, mark, *item_columns(self.messages), *item_columns(self.dates)]


class BundleWriter:
    """Makes the file. Every call gives the bytes to be written next, mostly none; it holds one record."""

    def __init__(self, seed: bytes) -> None:
        self._seal = SealWriter(Kind.BUNDLE, seed)
        self._parts: list[_Part] = []
        self._blobs: list[bytes] = []
        self._data_bytes = 0
        self._head_bytes = 0

    def begin(self, origin: Origin) -> bytes:
        """The beginning; the extra fields of `origin` are those of a BundleHead."""
        return self._seal.begin(origin)

    def message(self, name: LogName, item: Item, blob: bytes) -> bytes:
        """A message; those of a log come in order of (seq, digest)."""
        out = self._make_room(name)
        self._part(name, lambda part: part.messages, item).messages.append(item)
        self._blobs.append(blob)
        self._data_bytes += len(blob)
        self._head_bytes += _ITEM_BYTES
        return out if self._data_bytes < BUNDLE_RECORD_BYTES else out + self._flush()

    def date(self, name: LogName, item: Item) -> bytes:
        """The first stored of a message that the other one has; in order of (seq, digest), too."""
        out = self._make_room(name)
        self._part(name, lambda part: part.dates, item).dates.append(item)
        self._head_bytes += _ITEM_BYTES
        return out

    def watermark(self, name: LogName, watermark: int) -> bytes:
        """The watermark of a log of which everything has been added."""
        out = self._make_room(name)
        self._part(name, lambda _: []).watermark = watermark
        return out

    def end(self) -> bytes:
        """What is left, and the end of the file."""
        return self._flush() + self._seal.end()

    def _make_room(self, name: LogName) -> bytes:
        """Closes the record if its head could become too long."""
        added = _LOG_BYTES + _ITEM_BYTES + len(name.topic.encode()) + len(name.log.encode())
        return self._flush() if self._head_bytes + added > _HEAD_BYTES else b""

    def _part(self, name: LogName, column: Callable[[_Part], list[Item]], item: Item | None = None) -> _Part:
        """Where something about a log belongs. Items ascend within a part: else, or if it is full, another begins."""
        if self._parts and self._parts[-1].name == name:
            part = self._parts[-1]
            items = column(part)
            if item is None or not items or (len(items) < SYNC_ENTRIES_MAX and items[-1][:2] < item[:2]):
                return part
        part = _Part(name)
        self._parts.append(part)
        self._head_bytes += _LOG_BYTES + len(name.topic.encode()) + len(name.log.encode())
        return part

    def _flush(self) -> bytes:
        if not self._parts:
            return b""
        record = self._seal.record(_LOGS, [[part.fields() for part in self._parts]], b"".join(self._blobs))
        self._parts, self._blobs = [], []
        self._data_bytes = self._head_bytes = 0
        return record


def read_logs(record: Record) -> list[CarriedLog]:
    """What a record brings, every blob checked against its digest. Raises RemoteProtocolError."""
    if record.type != _LOGS:
        raise RemoteProtocolError("type", f"a record of type {record.type}; perhaps a newer mailboxd made it")
    (logs,) = as_array(list(record.fields), "record", length=1)
    carried: list[CarriedLog] = []
    at = 0
    for log in as_array(logs, "logs"):
        topic, name, mark, *columns = as_array(log, "log", length=11)
        messages, dates = read_items(columns[:4]), read_items(columns[4:])
        sizes = [item.size for item in messages]
        ends = list(accumulate(sizes, initial=at))
        if ends[-1] > len(record.data):
            raise RemoteProtocolError("malformed", "blobs are missing")
        blobs = [record.data[lo:hi] for lo, hi in pairwise(ends)]
        at = ends[-1]
        for item, blob in zip(messages, blobs, strict=True):
            if digest_of(blob) != item.digest:
                raise RemoteProtocolError("digest", f"message {item.seq} of a log is not what its digest says")
        watermark = as_int(mark, "watermark", maximum=SEQ_MAX)
        carried.append(
            CarriedLog(
                LogName(read_id(topic, "topic"), read_id(name, "log")),
                list(zip(messages, blobs, strict=True)),
                dates,
                watermark - 1 if watermark else None,
            )
        )
    if at != len(record.data):
        raise RemoteProtocolError("malformed", "bytes that belong to no message")
    return carried
