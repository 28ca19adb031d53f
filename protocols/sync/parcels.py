"""Messages on their way: a stream of parcels, each with the headers of some messages and a piece of all blobs.

The blobs follow one another in the order of the headers and are cut wherever a parcel is full. A sender may stop early
and say where; whoever asked goes on from there. Both sides work in portions, so that neither holds more than a page or
a batch (or one message that is larger), however much was asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    FRAME_BYTES_MAX,
    KIB,
    MESSAGES_PAGE_MAX,
    MIB,
    PARCEL_MESSAGES_MAX,
    SEQ_MAX,
    TRANSFER_BYTES_MAX,
    TRANSFER_MESSAGES_MAX,
    VARIANTS_MAX,
)
from protocols.model import Item, LogName, digest_of
from protocols.sync.codec import encode
from protocols.sync.common import Context, Steps, receive
from protocols.sync.effects import Commit, Delivery, Page, ReadMessages, ReadWatermarks, Send, Span
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

Header = tuple[int, int, int]


class _Packer:
    """Fills parcels."""

    def __init__(self) -> None:
        self._logs: list[ParcelLog] = []
        self._headers: list[Header] = []
        self._number = -1
        self._header_bytes = 0
        self._messages = 0
        self._data = bytearray()

    def add(self, number: int, watermark: int | None, item: Item, blob: bytes) -> list[Parcel]:
        """Takes one more message; returns the parcels that are full now."""
        if number != self._number:
            self._headers = []
            self._logs.append(ParcelLog(number, watermark, self._headers))
            self._number = number
            self._header_bytes += _LOG_HEADER_BYTES
        self._headers.append((item.seq, item.first_stored_s, item.size))
        self._header_bytes += _MESSAGE_HEADER_BYTES
        self._messages += 1
        self._data += blob
        full: list[Parcel] = []
        start = 0
        while len(self._data) - start > _DATA_BYTES:
            full.append(self._cut(bytes(memoryview(self._data)[start : start + _DATA_BYTES])))
            start += _DATA_BYTES
        if start:
            del self._data[:start]
        if self._header_bytes > _HEADER_BYTES or self._messages >= PARCEL_MESSAGES_MAX:
            full.append(self._cut(bytes(self._data)))
            self._data.clear()
        return full

    def _cut(self, data: bytes) -> Parcel:
        parcel = Parcel(self._logs, data)
        self._logs, self._number, self._header_bytes, self._messages = [], -1, 0, 0
        return parcel

    def last(self, stopped_at: tuple[int, int] | None) -> Parcel:
        """The end of the stream."""
        return Parcel(self._logs, bytes(self._data), is_last=True, stopped_at=stopped_at)


def send_messages(context: Context, spans: Sequence[tuple[int, Span]]) -> Steps[tuple[int, int] | None]:
    """Sends what we hold of these spans, each with the number of its log in the request (ascending), and stops after
    about TRANSFER_BYTES_MAX or TRANSFER_MESSAGES_MAX. Returns where it stopped: (number, seq)."""
    packer = _Packer()
    wanted = [span for _, span in spans]
    numbers = [number for number, _ in spans]
    present_s = context.peer.retention.stamp(context.peer.now_s)
    position: tuple[int, int] | None = None
    merges: list[tuple[LogName, Item]] = []
    sent = sent_bytes = 0
    while wanted:
        page: Page = yield ReadMessages(wanted, context.alive_from_s, _PAGE_BYTES, position)
        names = list(dict.fromkeys(wanted[index].name for index, _, _ in page.entries))
        watermarks: Sequence[int | None] = (yield ReadWatermarks(names)) if names else []
        known = dict(zip(names, watermarks, strict=True))
        for index, item, blob in page.entries:
            name = wanted[index].name
            for parcel in packer.add(numbers[index], known[name], item, blob):
                yield Send(encode(parcel))
            if context.alive_from_s <= present_s < item.first_stored_s:
                # The receiver brings a date in its future down to its present, so we do it too.
                merges.append((name, item._replace(first_stored_s=present_s)))
            sent_bytes += item.size
        sent += len(page.entries)
        context.result.sent += len(page.entries)
        context.result.sent_bytes += sum(item.size for _, item, _ in page.entries)
        position = page.after
        if position is None or sent_bytes >= TRANSFER_BYTES_MAX or sent >= TRANSFER_MESSAGES_MAX:
            break
    stopped_at = None if position is None else (numbers[position[0]], position[1])
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
        return list(spans_of(self.got))

    def missing(self) -> list[Seqs]:
        """What did not come."""
        return minus(self.spans, self.came())


class _Unpacker:
    """Puts messages together again and checks that they are what was asked for."""

    def __init__(self, expected: Sequence[Expected]) -> None:
        self._expected = expected
        self._headers: deque[tuple[int, Header]] = deque()
        self._data = bytearray()
        self._number = -1
        self._span = 0  # of those expected of the log: messages come in their order
        self._variants = 0
        self._missing_bytes = 0
        self._came = 0

    def take(self, parcel: Parcel) -> list[tuple[Expected, Header, bytes]]:
        """The messages that are complete now. Raises RemoteProtocolError."""
        if not (parcel.logs or parcel.data or parcel.is_last):
            raise RemoteProtocolError("empty", "a parcel that holds nothing")
        for log in parcel.logs:
            self._check(log)
            self._headers.extend(zip(repeat(log.number), log.headers))
            self._missing_bytes += sum([size for _, _, size in log.headers])
        self._missing_bytes -= len(parcel.data)
        if self._missing_bytes < 0:
            raise RemoteProtocolError("unrequested", "message bytes that belong to nothing")
        if parcel.is_last and self._missing_bytes:
            raise RemoteProtocolError("missing", "messages were promised and not sent")
        self._data += parcel.data
        done: list[tuple[Expected, Header, bytes]] = []
        start = 0
        view = memoryview(self._data)
        headers = self._headers
        while headers:
            number, header = headers[0]
            end = start + header[2]
            if end > len(view):
                break
            headers.popleft()
            done.append((self._expected[number], header, bytes(view[start:end])))
            start = end
        view.release()
        del self._data[:start]
        if len(self._headers) > 1:
            raise RemoteProtocolError("limit", "messages announced long before they come")
        self._came += len(done)
        if self._came > TRANSFER_MESSAGES_MAX + MESSAGES_PAGE_MAX:
            raise RemoteProtocolError("limit", f"more than {TRANSFER_MESSAGES_MAX} messages in one transfer")
        return done

    def _check(self, log: ParcelLog) -> None:
        if not self._number <= log.number < len(self._expected) or not log.headers:
            raise RemoteProtocolError("unrequested", "messages of a log that was not asked for, or out of order")
        expected = self._expected[log.number]
        if log.number > self._number:
            self._number = log.number
            self._span = self._variants = 0
        expected.watermark = log.watermark
        before = expected.got[-1] if expected.got else -1
        seqs = [seq for seq, _, _ in log.headers]
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
    kept: dict[int, int | None] = {}
    """By what a peer calls first stored, what we keep of it; None where our own rule lets it die."""
    batch: list[Delivery] = []
    batch_bytes = 0
    while True:
        parcel = yield from receive(Parcel)
        done = unpacker.take(parcel)
        context.result.received += len(done)
        context.result.received_bytes += sum([len(blob) for _, _, blob in done])
        for log, (seq, first_stored_s, _), blob in done:
            if first_stored_s not in kept:
                clamped_s = context.clamp(first_stored_s)
                kept[first_stored_s] = None if context.expired(clamped_s) else clamped_s
            kept_s = kept[first_stored_s]
            if kept_s is None:
                continue
            batch.append(Delivery(log.name, seq, blob, digest_of(blob), kept_s))
            batch_bytes += len(blob)
            if batch_bytes >= BATCH_BYTES_MAX or len(batch) >= BATCH_MESSAGES_MAX:
                yield Commit(batch)
                batch, batch_bytes = [], 0
        if parcel.is_last:
            break
    if batch:
        yield Commit(batch)
    stopped_at = parcel.stopped_at
    if stopped_at is not None and not (stopped_at[0] < len(expected) and stopped_at[1] <= SEQ_MAX):
        raise RemoteProtocolError("unrequested", "a stop at what was not asked for")
    return stopped_at
