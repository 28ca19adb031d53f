"""How the messages that move messages stand in frames: Transfer, Want and Parcel. The tables are in `sync.md`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import sub
from typing import Any

from protocols.errors import RemoteProtocolError
from protocols.limits.data import BLOB_BYTES_MAX, SEQ_MAX
from protocols.limits.sync import PARCEL_MESSAGES_MAX, TRANSFER_LOGS_MAX, TRANSFER_SPANS_MAX
from protocols.model import Item, LogName
from protocols.sync.columns import pack_varint_list
from protocols.sync.fields import (
    PARCEL,
    TIME_MAX_S,
    TRANSFER,
    WANT,
    check_ascending,
    item_columns,
    read_flag,
    read_handle,
    read_id,
    read_items,
    read_spans,
    read_varints,
    spans_field,
)
from protocols.sync.messages import FetchedLog, MergedLog, OfferedLog, Parcel, ParcelLog, Seqs, Transfer, Want
from protocols.sync.wire import as_array, as_bytes, as_int, as_ints, pack_around

__all__ = ["pack_parcel", "read_parcel", "read_transfer", "read_want", "transfer_fields"]


def transfer_fields(message: Transfer | Want) -> list[Any]:
    match message:
        case Transfer():
            fetch = [[log.handle, spans_field(log.spans)] for log in message.fetch]
            offers = [[*log.name, int(log.is_last), spans_field(log.spans)] for log in message.offers]
            merges = [[log.handle, *item_columns(log.items)] for log in message.merges]
            return [TRANSFER, fetch, offers, merges]
        case Want():
            wanted = [[index, spans_field(spans)] for index, spans in message.offers]
            return [WANT, wanted, [[index, *item_columns(items)] for index, items in message.earlier]]


def pack_parcel(message: Parcel) -> bytes:
    """The frame of a parcel."""
    stopped = [] if message.stopped_at is None else list(message.stopped_at)
    return pack_around([PARCEL, *_parcel_columns(message.logs)], message.data, [int(message.is_last), stopped])


def _parcel_columns(logs: Sequence[ParcelLog]) -> list[bytes]:
    """Varints: (number, watermark, count) of each log; seqs, the first of a log whole, then the distance to the one
    before; first stored as the distance to the one before in the frame, 0, -1, 1, -2 … as 0, 1, 2, 3 …; sizes."""
    heads: list[int] = []
    steps: list[int] = []
    dates: list[int] = []
    sizes: list[int] = []
    for log in logs:
        heads += (log.number, _watermark_field(log.watermark), len(log.seqs))
        steps += log.seqs[:1]
        steps += map(sub, log.seqs[1:], log.seqs)
        dates += log.first_stored_s
        sizes += log.sizes
    if dates and dates.count(dates[0]) == len(dates):  # as is usual: those of an hour
        zigzag = [2 * dates[0]] + [0] * (len(dates) - 1)
    else:
        zigzag = [2 * step if step >= 0 else -2 * step - 1 for step in map(sub, dates, (0, *dates))]
    return [pack_varint_list(column) for column in (heads, steps, zigzag, sizes)]


def _watermark_field(watermark: int | None) -> int:
    return 0 if watermark is None else min(watermark + 1, SEQ_MAX)


def read_transfer(message: list[Any]) -> Transfer:
    _, fetch, offers, merges = as_array(message, "message", length=4)
    fetched = []
    for log in as_array(fetch, "fetch", length_max=TRANSFER_LOGS_MAX):
        handle, spans = as_array(log, "fetch", length=2)
        fetched.append(FetchedLog(read_handle(handle), read_spans(spans)))
    offered = []
    for log in as_array(offers, "offers", length_max=TRANSFER_LOGS_MAX):
        topic, name, is_last, spans = as_array(log, "offer", length=4)
        known = LogName(read_id(topic, "topic"), read_id(name, "log"))
        offered.append(OfferedLog(known, read_spans(spans), read_flag(is_last, "last")))
    merged = []
    for log in as_array(merges, "merges", length_max=TRANSFER_LOGS_MAX):
        handle, *columns = as_array(log, "merge", length=5)
        merged.append(MergedLog(read_handle(handle), read_items(columns)))
    check_ascending([log.handle for log in fetched], "handles")
    check_ascending([log.handle for log in merged], "handles")
    if len({log.name for log in offered}) < len(offered):
        raise RemoteProtocolError("order", "a log is offered twice")
    if sum(len(log.spans) for log in fetched) + sum(len(log.spans) for log in offered) > TRANSFER_SPANS_MAX:
        raise RemoteProtocolError("limit", f"more than {TRANSFER_SPANS_MAX} spans in one transfer")
    return Transfer(fetched, offered, merged)


def read_want(message: list[Any]) -> Want:
    _, wanted, earlier = as_array(message, "message", length=3)
    offers: list[tuple[int, Sequence[Seqs]]] = []
    for one in as_array(wanted, "wishes", length_max=TRANSFER_LOGS_MAX):
        index, spans = as_array(one, "wish", length=2)
        offers.append((as_int(index, "index", maximum=TRANSFER_LOGS_MAX), read_spans(spans)))
    check_ascending([index for index, _ in offers], "indices")
    dated: list[tuple[int, Sequence[Item]]] = []
    for one in as_array(earlier, "dates", length_max=TRANSFER_LOGS_MAX):
        index, *columns = as_array(one, "date", length=5)
        dated.append((as_int(index, "index", maximum=TRANSFER_LOGS_MAX), read_items(columns)))
    return Want(offers, dated)


def read_parcel(message: list[Any]) -> Parcel:
    _, heads, seqs, dates, sizes, data, is_last, stopped = as_array(message, "message", length=8)
    counts = read_varints(heads, "logs", count_max=3 * TRANSFER_LOGS_MAX)
    columns = [read_varints(column, "headers", count_max=PARCEL_MESSAGES_MAX) for column in (seqs, dates, sizes)]
    total = sum(counts[2::3])
    if len(counts) % 3 or any(len(column) != total for column in columns):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    check_ascending(counts[0::3], "logs")
    logs = _parcel_logs(counts, columns)
    position = as_ints(stopped, "position", maximum=SEQ_MAX, length_max=2)
    if len(position) == 1:
        raise RemoteProtocolError("malformed", "half a position")
    at = (position[0], position[1]) if position else None
    return Parcel(logs, as_bytes(data, "data"), read_flag(is_last, "last"), at)


def _parcel_logs(counts: list[int], columns: list[list[int]]) -> list[ParcelLog]:
    steps, zigzag, sizes = columns
    if any(zigzag[1:]):
        dates = list(accumulate([code >> 1 ^ -(code & 1) for code in zigzag]))
    else:  # as is usual: all of an hour
        dates = [code >> 1 ^ -(code & 1) for code in zigzag[:1]] * len(zigzag)
    if dates and not 0 <= min(dates) <= max(dates) <= TIME_MAX_S:
        raise RemoteProtocolError("malformed", "a date beyond all times")
    if max(sizes, default=0) > BLOB_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a message of more than {BLOB_BYTES_MAX} bytes")
    logs: list[ParcelLog] = []
    start = 0
    for number, watermark, count in zip(counts[0::3], counts[1::3], counts[2::3], strict=True):
        end = start + count
        seqs = list(accumulate(steps[start:end]))
        if seqs and seqs[-1] > SEQ_MAX:
            raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
        known = watermark - 1 if watermark else None
        logs.append(ParcelLog(number, known, seqs, dates[start:end], sizes[start:end]))
        start = end
    return logs
