"""Messages on their way: a stream of parcels, each with the headers of some messages and a piece of all blobs.

The blobs follow one another in the order of the headers and are cut wherever a parcel is full. A sender may stop early
and say where; whoever asked goes on from there. Both sides work in portions, so that neither holds more than a page or
a batch (or one message that is larger), however much was asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX, VARIANTS_MAX
from protocols.limits.store import MESSAGES_PAGE_MAX
from protocols.limits.sync import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    FRAME_BYTES_MAX,
    PARCEL_MESSAGES_MAX,
    TRANSFER_BYTES_MAX,
    TRANSFER_MESSAGES_MAX,
)
from protocols.limits.units import KIB, MIB
from protocols.model import Item, LogName, digests_of
from protocols.sync.codec import encode
from protocols.sync.common import Context, Steps, receive
from protocols.sync.deliveries import Deliveries, Stretch
from protocols.sync.effects import Commit, Page, ReadMessages, ReadWatermarks, Send, Span
from protocols.sync.messages import Parcel, ParcelLog, Seqs
from protocols.sync.spans import minus, spans_of

__all__ = ["Expected", "receive_messages", "send_messages"]

_PAGE_BYTES: Final = MIB
"""Blob bytes read from the store at a time, unless a single message is larger."""

_DATA_BYTES: Final = FRAME_BYTES_MAX - 64 * KIB
_HEADER_BYTES: Final = 56 * KIB
"""What a parcel may hold of blobs and of headers; the rest is for what is around them."""

_LOG_HEADER_BYTES: Final = 20
_MESSAGE_HEADER_BYTES: Final = 24
_HEADERS_MAX: Final = min(PARCEL_MESSAGES_MAX, _HEADER_BYTES // (_LOG_HEADER_BYTES + _MESSAGE_HEADER_BYTES))


class _Packer:
    """Fills parcels. Works on whole columns: a message costs less than its copies."""

    def __init__(self, watermarks: Mapping[int, int | None]) -> None:
        self._watermarks = watermarks
        self._columns: tuple[npt.NDArray[np.integer[Any]], ...] = (np.zeros(0, np.int64),) * 4
        """Number of the log, seq, first stored, size of the messages whose headers wait for the next parcel."""
        self._data = b""

    def add(self, numbers: npt.NDArray[np.int64], page: Page) -> Iterator[Parcel]:
        """Takes a page and yields the parcels that are full now. `numbers` are those of the messages' logs."""
        columns: tuple[npt.NDArray[np.integer[Any]], ...] = (numbers, page.seqs, page.first_stored_s, page.sizes)
        if len(self._columns[0]):
            columns = tuple(map(np.concatenate, zip(self._columns, columns, strict=True)))
        self._columns = columns
        rest, data = self._data, memoryview(page.data)
        length = len(rest) + len(data)
        ends = columns[3].cumsum()
        ends += length - (int(ends[-1]) if len(ends) else 0)
        start = first = 0
        while True:
            end = start + _DATA_BYTES
            last = int(ends.searchsorted(end, "right"))
            if length > end:
                last = min(last + 1, len(ends))  # the one that is cut
            if last - first > _HEADERS_MAX:
                last = first + _HEADERS_MAX
                end = int(ends[last - 1])
            elif length <= end:
                break
            yield Parcel(self._logs(first, last), _between(rest, data, start, end))
            start, first = end, last
        self._columns = tuple(column[first:] for column in columns)
        self._data = bytes(_between(rest, data, start, length))

    def _logs(self, first: int, last: int) -> list[ParcelLog]:
        numbers, *columns = [column[first:last].tolist() for column in self._columns]
        seqs, first_stored_s, sizes = columns
        begins = [0] if numbers else []
        if numbers and numbers[0] != numbers[-1]:
            column = self._columns[0][first:last]
            begins += (np.flatnonzero(column[1:] != column[:-1]) + 1).tolist()
        return [
            ParcelLog(
                numbers[begin],
                self._watermarks[numbers[begin]],
                seqs[begin:end],
                first_stored_s[begin:end],
                sizes[begin:end],
            )
            for begin, end in pairwise((*begins, len(numbers)))
        ]

    def last(self, stopped_at: tuple[int, int] | None) -> Parcel:
        """The end of the stream."""
        return Parcel(self._logs(0, len(self._columns[0])), self._data, is_last=True, stopped_at=stopped_at)


def _between(rest: bytes, data: memoryview, start: int, end: int) -> bytes | memoryview:
    """The bytes start..end-1 of both as if they stood one behind the other; not copied if they are of one."""
    if start >= len(rest):
        return data[start - len(rest) : end - len(rest)]
    return b"".join((rest[start:end], data[: max(0, end - len(rest))]))


def send_messages(context: Context, spans: Sequence[tuple[int, Span]]) -> Steps[tuple[int, int] | None]:
    """Sends what we hold of these spans, each with the number of its log in the request (ascending), and stops after
    about TRANSFER_BYTES_MAX or TRANSFER_MESSAGES_MAX. Returns where it stopped: (number, seq)."""
    wanted = [span for _, span in spans]
    numbers = np.array([number for number, _ in spans], np.int64)
    present_s = context.peer.retention.stamp(context.peer.now_s)
    position: tuple[int, int] | None = None
    merges: list[tuple[LogName, Item]] = []
    sent = sent_bytes = 0
    # Of all logs at once, and before their messages: it may fall behind these, never be ahead of them.
    names = {number: span.name for number, span in spans}
    watermarks: Sequence[int | None] = (yield ReadWatermarks(list(names.values()))) if names else []
    packer = _Packer(dict(zip(names, watermarks, strict=True)))
    while wanted:
        page: Page = yield ReadMessages(wanted, context.alive_from_s, _PAGE_BYTES, position)
        for parcel in packer.add(numbers[page.spans], page):
            yield Send(encode(parcel))
        if context.alive_from_s <= present_s:
            # The receiver brings a date in its future down to its present, so we do it too.
            for at in (page.first_stored_s > present_s).nonzero()[0].tolist():
                name = wanted[int(page.spans[at])].name
                merges.append((name, page.item(at)._replace(first_stored_s=present_s)))
        sent += len(page)
        sent_bytes += len(page.data)
        context.result.sent += len(page)
        context.result.sent_bytes += len(page.data)
        position = page.after
        if position is None or sent_bytes >= TRANSFER_BYTES_MAX or sent >= TRANSFER_MESSAGES_MAX:
            break
    stopped_at = None if position is None else (spans[position[0]][0], position[1])
    yield Send(encode(packer.last(stopped_at)))
    if merges:
        context.result.merged += len(merges)
        yield Commit((), merges)
    return stopped_at


@dataclass(slots=True)
class Expected:
    """A log of which messages are to come: `got` are the seqs that came, ascending."""

    name: LogName
    spans: Sequence[Seqs]
    got: list[int] = field(default_factory=list)
    watermark: int | None = None

    def came(self) -> list[Seqs]:
        """`got` as spans."""
        got = self.got
        if got and got[-1] - got[0] == len(got) - 1 == len(set(got)) - 1:  # as is usual
            return [(got[0], got[-1])]
        return list(spans_of(got))

    def missing(self) -> list[Seqs]:
        """What did not come."""
        return minus(self.spans, self.came())


class _Came(NamedTuple):
    """Messages of a log that are complete, column by column."""

    log: Expected
    size: int
    seqs: Sequence[int]
    first_stored_s: Sequence[int]
    blobs: Sequence[bytes]


class _Unpacker:
    """Puts messages together again and checks that they are what was asked for."""

    def __init__(self, expected: Sequence[Expected]) -> None:
        self._expected = expected
        self._cut: tuple[Expected, int, int, int] | None = None
        """Log, seq, first stored and size of the message of which `_part` is the beginning."""
        self._part = bytearray()
        self._number = -1
        self._span = 0  # of those expected of the log: messages come in their order
        self._variants = 0
        self._missing_bytes = 0
        self._came = 0

    def take(self, parcel: Parcel) -> list[_Came]:
        """The messages that are complete now. Raises RemoteProtocolError."""
        data = parcel.data
        assert isinstance(data, bytes), "it was received"
        if not (parcel.logs or data or parcel.is_last):
            raise RemoteProtocolError("empty", "a parcel that holds nothing")
        for log in parcel.logs:
            self._check(log)
            self._missing_bytes += sum(log.sizes)
        self._missing_bytes -= len(data)
        if self._missing_bytes < 0:
            raise RemoteProtocolError("unrequested", "message bytes that belong to nothing")
        if parcel.is_last and self._missing_bytes:
            raise RemoteProtocolError("missing", "messages were promised and not sent")
        done: list[_Came] = []
        start = self._go_on(data, done)
        for log in parcel.logs:
            if self._cut is not None:
                raise RemoteProtocolError("limit", "messages announced long before they come")
            start = self._split(log, data, start, done)
        self._came += sum([len(came.seqs) for came in done])
        if self._came > TRANSFER_MESSAGES_MAX + MESSAGES_PAGE_MAX:
            raise RemoteProtocolError("limit", f"more than {TRANSFER_MESSAGES_MAX} messages in one transfer")
        return done

    def _go_on(self, data: bytes, done: list[_Came]) -> int:
        """Takes what `data` has of the message that was cut; returns where the rest begins."""
        if self._cut is None:
            return 0
        log, seq, first_stored_s, size = self._cut
        missing = size - len(self._part)
        self._part += data[:missing]
        if len(data) >= missing:
            done.append(_Came(log, size, [seq], [first_stored_s], [bytes(self._part)]))
            self._cut, self._part = None, bytearray()
        return missing

    def _split(self, log: ParcelLog, data: bytes, start: int, done: list[_Came]) -> int:
        """Cuts the messages of a log out of `data`; returns where the rest begins."""
        expected = self._expected[log.number]
        ends = list(accumulate(log.sizes, initial=start))
        whole = len(log.seqs)
        if ends[-1] > len(data):
            whole = bisect_right(ends, len(data)) - 1
            if whole < len(log.seqs) - 1:
                raise RemoteProtocolError("limit", "messages announced long before they come")
            self._cut = (expected, log.seqs[whole], log.first_stored_s[whole], log.sizes[whole])
            self._part += data[ends[whole] :]
        if whole:
            blobs = [data[begin:end] for begin, end in pairwise(ends[: whole + 1])]
            size = ends[whole] - start
            done.append(_Came(expected, size, log.seqs[:whole], log.first_stored_s[:whole], blobs))
        return ends[-1]

    def _check(self, log: ParcelLog) -> None:
        if not self._number <= log.number < len(self._expected) or not log.seqs:
            raise RemoteProtocolError("unrequested", "messages of a log that was not asked for, or out of order")
        expected = self._expected[log.number]
        if log.number > self._number:
            self._number = log.number
            self._span = self._variants = 0
        expected.watermark = log.watermark
        before = expected.got[-1] if expected.got else -1
        seqs = log.seqs
        span = self._span_at(expected.spans, seqs[0])
        if span and span[0] <= seqs[0] and seqs[-1] <= span[1] and before < seqs[0] and _is_ascending(seqs):
            self._variants = 1  # as is usual
        else:
            self._check_each(expected.spans, before, seqs)
        expected.got += seqs

    def _check_each(self, spans: Sequence[Seqs], before: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._variants = self._variants + 1 if seq == before else 1
            span = self._span_at(spans, seq)
            if seq < before or self._variants > VARIANTS_MAX or not span or seq < span[0]:
                raise RemoteProtocolError("unrequested", "a message that was not asked for, or out of order")
            before = seq

    def _span_at(self, spans: Sequence[Seqs], seq: int) -> Seqs | None:
        """The first span that does not end before a seq: a look at each span, as messages come in their order."""
        while self._span < len(spans) and spans[self._span][1] < seq:
            self._span += 1
        return spans[self._span] if self._span < len(spans) else None


def _is_ascending(seqs: list[int]) -> bool:
    """Without repetitions."""
    return len(set(seqs)) == len(seqs) and sorted(seqs) == seqs


def receive_messages(context: Context, expected: Sequence[Expected]) -> Steps[tuple[int, int] | None]:
    """Receives what is expected and has it stored in batches as it comes; returns where the sender stopped."""
    unpacker = _Unpacker(expected)
    batch = _Batch()
    while True:
        parcel = yield from receive(Parcel)
        for came in unpacker.take(parcel):
            context.result.received += len(came.seqs)
            context.result.received_bytes += came.size
            stretch = _stretch(context, came)
            if stretch is not None:
                batch.add(stretch)
                while batch.is_full:
                    yield Commit(batch.take())
        if parcel.is_last:
            break
    if batch.messages:
        yield Commit(batch.take())
    stopped_at = parcel.stopped_at
    if stopped_at is not None and not (stopped_at[0] < len(expected) and stopped_at[1] <= SEQ_MAX):
        raise RemoteProtocolError("unrequested", "a stop at what was not asked for")
    return stopped_at


class _Batch:
    """What will be committed together."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []
        self.messages = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self.messages >= BATCH_MESSAGES_MAX or (self._bytes >= BATCH_BYTES_MAX and self.messages > 0)

    def add(self, stretch: Stretch) -> None:
        """Some more."""
        before = self._stretches[-1] if self._stretches else None
        if before is not None and before.name == stretch.name:
            self._stretches[-1] = before.followed_by(stretch)
        else:
            self._stretches.append(stretch)
        self.messages += len(stretch.seqs)
        self._bytes += stretch.size

    def take(self) -> Deliveries:
        """As much of it as makes one commit."""
        stretches, left = self._stretches, BATCH_MESSAGES_MAX
        self._stretches, self.messages, self._bytes = [], 0, 0
        taken: list[Stretch] = []
        for stretch in stretches:
            count = min(left, len(stretch.seqs))
            left -= count
            if count == len(stretch.seqs):
                taken.append(stretch)
                continue
            if count:
                taken.append(stretch.part(0, count))
            self.add(stretch.part(count, len(stretch.seqs)))
        return Deliveries(taken)


def _stretch(context: Context, came: _Came) -> Stretch | None:
    """What is to be stored of messages that came: not what our own rule lets die."""
    kept_s = {stored_s: context.clamp(stored_s) for stored_s in set(came.first_stored_s)}
    dates = list(map(kept_s.__getitem__, came.first_stored_s))
    stretch = Stretch(came.log.name, came.size, came.seqs, came.blobs, digests_of(came.blobs), dates)
    if any(map(context.expired, kept_s.values())):
        alive = [one for one in stretch.deliveries() if not context.expired(one.first_stored_s)]
        return Stretch.of(alive) if alive else None
    return stretch
