"""How the messages of a sync session stand in frames, and how frames are read. The tables are in `sync.md`.

Decoding raises RemoteProtocolError and nothing else; what it returns is fully checked, so that the session code deals
only with meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits import (
    BLOB_BYTES_MAX,
    CONTROL_FRAME_BYTES_MAX,
    DIGEST_BYTES,
    FINGERPRINT_BYTES,
    FRAME_BYTES_MAX,
    HANDLE_BYTES,
    ID_BYTES_MAX,
    INTEREST_ID_BYTES,
    INTEREST_TOPICS_MAX,
    LISTED_LOGS_MAX,
    PARCEL_MESSAGES_MAX,
    PEER_TEXT_BYTES_MAX,
    RANGES_MAX,
    RETENTION_MAX_S,
    SEQ_MAX,
    SYNC_ENTRIES_MAX,
    TOPIC_HASH_BYTES,
    TRANSFER_LOGS_MAX,
    TRANSFER_SPANS_MAX,
)
from protocols.model import Item, LogName, check_id
from protocols.sync.columns import pack_ascending, pack_varints, unpack_ascending, unpack_varints
from protocols.sync.interest import EVERYTHING_ID, Interest
from protocols.sync.listing import (
    FRAGMENT_BITS_MAX,
    NO_ENTRIES,
    Entries,
    pack_entries,
    pack_listing,
    unpack_entries,
    unpack_listing,
)
from protocols.sync.messages import (
    About,
    Ask,
    AskedLog,
    Done,
    FetchedLog,
    Hello,
    MergedLog,
    Message,
    Named,
    Names,
    News,
    OfferedLog,
    Parcel,
    ParcelLog,
    Refuse,
    Seqs,
    Standing,
    Survey,
    Surveyed,
    Tell,
    ToldLog,
    Topics,
    Transfer,
    Want,
)
from protocols.sync.ranges import pack_ranges, unpack_ranges
from protocols.sync.reconcile import BLOCK_KEY_BYTES
from protocols.sync.regions import END, FP, LIST, SHOW, pack_place, pack_regions, unpack_place, unpack_regions
from protocols.sync.wire import as_array, as_bytes, as_int, as_ints, as_text, pack, unpack

__all__ = ["PARCEL", "REFUSE", "decode", "encode"]

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

_VERSION_MAX: Final = 255
_SALT_BYTES_MAX: Final = 32  # of any version; the session wants its own
_HELLO_ELEMENTS_MIN: Final = 10  # of version 1, which is refused in words
_HELLO_LATER: Final = [0, [b"", b"", 0]]  # full, interest: what is meant where they are left out
_HELLO_ELEMENTS: Final = _HELLO_ELEMENTS_MIN + len(_HELLO_LATER)
_HELLO_ELEMENTS_MAX: Final = 32
_ROW_BYTES: Final = HANDLE_BYTES + FINGERPRINT_BYTES


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The frame (without prefix) of a message. Raises LocalProtocolError if it is too long."""
    frame = pack(_fields(message))
    if len(frame) > (FRAME_BYTES_MAX if isinstance(message, Parcel) else CONTROL_FRAME_BYTES_MAX):
        raise LocalProtocolError(f"a {type(message).__name__} frame of {len(frame)} bytes")
    return frame


def _fields(message: Message) -> list[Any]:
    match message:
        case Hello():
            return _hello_fields(message)
        case Refuse():
            return [REFUSE, _cut(message.code, 32), _cut(message.text, PEER_TEXT_BYTES_MAX)]
        case Topics():
            return [TOPICS, message.interest.packed]
        case Transfer() | Want() | Parcel():
            return _transfer_fields(message)
        case Done():
            return [DONE, int(message.is_complete), int(message.is_equal), int(message.ack)]
        case _:
            return _comparing_fields(message)


def _comparing_fields(message: News | About | Standing | Survey | Surveyed | Names | Named | Ask | Tell) -> list[Any]:
    match message:
        case News():
            return [NEWS, int(message.again), pack_listing(message.listing)]
        case About():
            return [ABOUT, int(message.again), b"".join(message.handles), *pack_entries(message.entries)]
        case Standing():
            listing, entries = pack_listing(message.listing), _entries_fields(message.entries)
            return [STANDING, _bitmap(message.differing), entries, listing, message.rest]
        case Survey():
            return [SURVEY, int(message.again), pack_regions(message.regions)]
        case Surveyed():
            counts = pack_varints(np.array(message.counts, np.uint64))
            regions, listing = pack_regions(message.regions), pack_listing(message.listing)
            return [SURVEYED, regions, counts, listing, pack_place(message.until)]
        case Names():
            packed = pack_ascending(message.fragments, message.width)
            return [NAMES, message.width, len(message.fragments), packed]
        case Named():
            return _named_fields(message)
        case Ask() | Tell():
            return _inspection_fields(message)


def _hello_fields(hello: Hello) -> list[Any]:
    interest = [hello.keeps, hello.believes, int(hello.asks_topics)]
    has_interest = hello.keeps or hello.believes or hello.asks_topics  # seldom: left out, it costs nothing
    return [
        HELLO,
        hello.version_min,
        hello.version_max,
        _cut(hello.network, PEER_TEXT_BYTES_MAX),
        hello.now_s,
        hello.retention_s,
        hello.alive_from_s,
        _cut(hello.software, PEER_TEXT_BYTES_MAX),
        hello.salt,
        hello.first,
        int(hello.is_full),
        *([interest] if has_interest else []),
    ]


def _cut(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _entries_fields(entries: Entries) -> list[Any]:
    return pack_entries(entries) if len(entries) else []


def _bitmap(indices: Sequence[int]) -> bytes:
    """Bit i (the lowest of a byte first) is 1 if i is among the ascending indices; ends with the last 1."""
    if not indices:
        return b""
    bits = np.zeros(indices[-1] + 1, np.uint8)
    bits[list(indices)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def _named_fields(named: Named) -> list[Any]:
    topics = sorted({name.topic for _, name in named.names})
    numbers = {topic: number for number, topic in enumerate(topics)}
    return [
        NAMED,
        named.answered,
        topics,
        [index for index, _ in named.names],
        [numbers[name.topic] for _, name in named.names],
        [name.log for _, name in named.names],
    ]


def _inspection_fields(message: Ask | Tell) -> list[Any]:
    if isinstance(message, Ask):
        region = [pack_place(place) for place in message.region] if message.region else []
        return [ASK, region, [[log.handle, pack_ranges(log.ranges, BLOCK_KEY_BYTES)] for log in message.logs]]
    rows = b"".join([part for row in message.rows for part in row])
    logs = [
        [log.handle, pack_ranges(log.ranges, BLOCK_KEY_BYTES), *_columns(log.items), int(log.last)]
        for log in message.logs
    ]
    return [TELL, rows, pack_place(message.until), logs, int(message.more)]


def _transfer_fields(message: Transfer | Want | Parcel) -> list[Any]:
    match message:
        case Transfer():
            fetch = [[log.handle, _spans_field(log.spans)] for log in message.fetch]
            offers = [[*log.name, int(log.is_last), _spans_field(log.spans)] for log in message.offers]
            merges = [[log.handle, *_columns(log.items)] for log in message.merges]
            return [TRANSFER, fetch, offers, merges]
        case Want():
            wanted = [[index, _spans_field(spans)] for index, spans in message.offers]
            return [WANT, wanted, [[index, *_columns(items)] for index, items in message.earlier]]
        case Parcel():
            stopped = [] if message.stopped_at is None else list(message.stopped_at)
            return [PARCEL, *_parcel_columns(message.logs), message.data, int(message.is_last), stopped]


def _columns(items: Sequence[Item]) -> list[Any]:
    """Seqs (each after the first as the distance to the one before), digests, first stored, sizes."""
    return [
        [seq - before for before, seq in pairwise([0, *(item.seq for item in items)])],
        b"".join([item.digest for item in items]),
        [item.first_stored_s for item in items],
        [item.size for item in items],
    ]


def _spans_field(spans: Sequence[Seqs]) -> list[int]:
    """First seq, how many follow it, distance from there to the next first seq, how many follow it, …"""
    field: list[int] = []
    end = 0
    for first, last in spans:
        field += (first - end, last - first)
        end = last
    return field


def _parcel_columns(logs: Sequence[ParcelLog]) -> list[bytes]:
    """Varints: (number, watermark, count) of each log; seqs, the first of a log whole, then the distance to the one
    before; first stored as the distance to the one before in the frame, 0, -1, 1, -2 … as 0, 1, 2, 3 …; sizes."""
    heads: list[int] = []
    seqs: list[int] = []
    dates: list[int] = []
    sizes: list[int] = []
    for log in logs:
        heads += (log.number, _watermark_field(log.watermark), len(log.headers))
        before = 0
        for seq, first_stored_s, size in log.headers:
            seqs.append(seq - before)
            dates.append(first_stored_s)
            sizes.append(size)
            before = seq
    steps = (after - before for before, after in pairwise([0, *dates]))
    zigzag = [2 * step if step >= 0 else -2 * step - 1 for step in steps]
    return [pack_varints(np.array(column, np.uint64)) for column in (heads, seqs, zigzag, sizes)]


def _watermark_field(watermark: int | None) -> int:
    return 0 if watermark is None else min(watermark + 1, SEQ_MAX)


# --- decoding --------------------------------------------------------------------------------------------------------


def decode(frame: bytes) -> Message:
    """The message in a frame (without prefix).

    Raises RemoteProtocolError: "malformed", "limit", "ranges", "order", "name", "type".
    """
    if len(frame) > FRAME_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a frame of {len(frame)} bytes")
    if len(frame) > CONTROL_FRAME_BYTES_MAX and frame[1] != PARCEL:
        # An array of up to 15 elements is one byte, a type another: looked at before 256 KiB are decoded.
        raise RemoteProtocolError("limit", f"a control frame of {len(frame)} bytes")
    fields = unpack(frame)
    kind = fields[0] if fields else None
    decoder = _DECODERS.get(kind) if type(kind) is int else None
    if decoder is None:
        raise RemoteProtocolError("type", "a message of an unknown type")
    return decoder(fields)


def _flag(value: Any, what: str) -> bool:
    return as_int(value, what, maximum=1) == 1


def _hello(message: list[Any]) -> Hello:
    fields = as_array(message, "hello", length_max=_HELLO_ELEMENTS_MAX)
    if len(fields) < _HELLO_ELEMENTS_MIN:
        raise RemoteProtocolError("malformed", "a hello that is too short")
    fields += _HELLO_LATER[len(fields) - _HELLO_ELEMENTS_MIN :]
    _, low, high, network, now_s, retention_s, alive_from_s, software, salt, first, is_full, interest = fields[
        :_HELLO_ELEMENTS
    ]
    keeps, believes, asks_topics = as_array(interest, "interest", length=3)
    hello = Hello(
        version_min=as_int(low, "lowest version", maximum=_VERSION_MAX),
        version_max=as_int(high, "highest version", maximum=_VERSION_MAX),
        network=as_text(network, "network", bytes_max=PEER_TEXT_BYTES_MAX),
        now_s=as_int(now_s, "clock", maximum=TIME_MAX_S),
        retention_s=as_int(retention_s, "retention", maximum=RETENTION_MAX_S),
        alive_from_s=as_int(alive_from_s, "alive from", maximum=TIME_MAX_S),
        software=_printable(as_text(software, "software", bytes_max=PEER_TEXT_BYTES_MAX)),
        salt=as_bytes(salt, "salt", length_max=_SALT_BYTES_MAX),
        first=as_bytes(first, "first message", length_max=CONTROL_FRAME_BYTES_MAX),
        is_full=_flag(is_full, "full"),
        keeps=_interest_id(keeps),
        believes=_interest_id(believes),
        asks_topics=_flag(asks_topics, "asks topics"),
    )
    if hello.version_min > hello.version_max or hello.retention_s == 0:
        raise RemoteProtocolError("malformed", "a hello that contradicts itself")
    return hello


def _interest_id(value: Any) -> bytes:
    return EVERYTHING_ID if value == EVERYTHING_ID else as_bytes(value, "interest id", length=INTEREST_ID_BYTES)


def _topics(message: list[Any]) -> Topics:
    _, packed = as_array(message, "message", length=2)
    hashes = _split(as_bytes(packed, "topics"), TOPIC_HASH_BYTES, "topics")
    if len(hashes) > INTEREST_TOPICS_MAX:
        raise RemoteProtocolError("limit", f"more than {INTEREST_TOPICS_MAX} topics")
    _ascending(hashes, "topics")
    return Topics(Interest(packed))


def _printable(text: str) -> str:
    """What goes into logs and terminals must not control them."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _refuse(message: list[Any]) -> Refuse:
    _, code, text = as_array(message, "message", length=3)
    return Refuse(_printable(as_text(code, "code", bytes_max=32)), _printable(as_text(text, "text", bytes_max=256)))


def _news(message: list[Any]) -> News:
    _, again, listing = as_array(message, "message", length=3)
    return News(unpack_listing(listing), _flag(again, "again"))


def _about(message: list[Any]) -> About:
    _, again, packed, *entries = as_array(message, "message", length=7)
    handles = _split(as_bytes(packed, "handles"), HANDLE_BYTES, "handles")
    _ascending(handles, "handles")
    return About(handles, unpack_entries(entries, len(handles)), _flag(again, "again"))


def _standing(message: list[Any]) -> Standing:
    _, bitmap, entries, listing, rest = as_array(message, "message", length=5)
    packed = np.frombuffer(as_bytes(bitmap, "bitmap", length_max=LISTED_LOGS_MAX // 8), np.uint8)
    differing = np.flatnonzero(np.unpackbits(packed, bitorder="little")).tolist()
    fields = as_array(entries, "entries", length=4) if entries or differing else []
    if rest != b"":
        as_bytes(rest, "rest", length=FINGERPRINT_BYTES)
    known = unpack_entries(fields, len(differing)) if fields else NO_ENTRIES
    return Standing(differing, known, unpack_listing(listing), rest)


def _survey(message: list[Any]) -> Survey:
    _, again, packed = as_array(message, "message", length=3)
    regions = unpack_regions(packed, {FP, SHOW})
    if not regions:
        raise RemoteProtocolError("ranges", "a survey of nothing")
    return Survey(regions, _flag(again, "again"))


def _surveyed(message: list[Any]) -> Surveyed:
    _, packed, counts, listing, until = as_array(message, "message", length=5)
    regions = unpack_regions(packed, {FP, LIST})
    numbers = unpack_varints(as_bytes(counts, "counts", length_max=3 * RANGES_MAX), "counts").tolist()
    listed = unpack_listing(listing)
    if len(numbers) != sum(region.mode == LIST for region in regions) or sum(numbers) != len(listed):
        raise RemoteProtocolError("ranges", "listed logs do not belong to the regions")
    return Surveyed(regions, numbers, listed, unpack_place(until))


def _names(message: list[Any]) -> Names:
    _, width, count, packed = as_array(message, "message", length=4)
    width = as_int(width, "width of fragments", maximum=FRAGMENT_BITS_MAX)
    count = as_int(count, "number of fragments", maximum=LISTED_LOGS_MAX)
    if not width or not count:
        raise RemoteProtocolError("malformed", "a question about no names")
    return Names(width, unpack_ascending(as_bytes(packed, "fragments"), count, width, "fragments"))


def _named(message: list[Any]) -> Named:
    _, answered, topics, indices, numbers, logs = as_array(message, "message", length=6)
    answered = as_int(answered, "number of fragments", maximum=LISTED_LOGS_MAX)
    texts = [_id(topic, "topic") for topic in as_array(topics, "topics", length_max=SYNC_ENTRIES_MAX)]
    as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX)
    as_ints(indices, "indices", maximum=max(0, answered - 1), length_max=len(logs))
    as_ints(numbers, "topic numbers", maximum=max(0, len(texts) - 1), length_max=len(logs))
    if not len(indices) == len(numbers) == len(logs) or (logs and not texts):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    if any(one > other for one, other in pairwise(indices)):
        raise RemoteProtocolError("order", "indices are not ascending")
    names = [LogName(texts[number], _id(one, "log")) for number, one in zip(numbers, logs, strict=True)]
    return Named(answered, list(zip(indices, names, strict=True)))


def _ask(message: list[Any]) -> Ask:
    _, region, logs = as_array(message, "message", length=3)
    places = [unpack_place(place) for place in as_array(region, "region", length_max=2)]
    bounds = None
    if places:
        bounds = (places[0] % END, places[-1])
        if len(places) != 2 or bounds[0] >= bounds[1]:
            raise RemoteProtocolError("ranges", "a region that is none")
    asked = []
    for log in as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX):
        handle, blocks = as_array(log, "log", length=2)
        asked.append(AskedLog(_handle(handle), unpack_ranges(blocks, BLOCK_KEY_BYTES)))
    _ascending([log.handle for log in asked], "handles")
    return Ask(bounds, asked)


def _tell(message: list[Any]) -> Tell:
    _, packed, until, logs, more = as_array(message, "message", length=5)
    rows = [(row[:HANDLE_BYTES], row[HANDLE_BYTES:]) for row in _split(as_bytes(packed, "rows"), _ROW_BYTES, "rows")]
    _ascending([handle for handle, _ in rows], "rows")
    told = []
    for log in as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX):
        handle, blocks, *columns, last = as_array(log, "log", length=7)
        ranges = unpack_ranges(blocks, BLOCK_KEY_BYTES)
        told.append(ToldLog(_handle(handle), ranges, _items(columns), _flag(last, "last")))
    return Tell(rows, unpack_place(until), told, _flag(more, "more"))


def _transfer(message: list[Any]) -> Transfer:
    _, fetch, offers, merges = as_array(message, "message", length=4)
    fetched = []
    for log in as_array(fetch, "fetch", length_max=TRANSFER_LOGS_MAX):
        handle, spans = as_array(log, "fetch", length=2)
        fetched.append(FetchedLog(_handle(handle), _spans(spans)))
    offered = []
    for log in as_array(offers, "offers", length_max=TRANSFER_LOGS_MAX):
        topic, name, is_last, spans = as_array(log, "offer", length=4)
        known = LogName(_id(topic, "topic"), _id(name, "log"))
        offered.append(OfferedLog(known, _spans(spans), _flag(is_last, "last")))
    merged = []
    for log in as_array(merges, "merges", length_max=TRANSFER_LOGS_MAX):
        handle, *columns = as_array(log, "merge", length=5)
        merged.append(MergedLog(_handle(handle), _items(columns)))
    _ascending([log.handle for log in fetched], "handles")
    _ascending([log.handle for log in merged], "handles")
    if len({log.name for log in offered}) < len(offered):
        raise RemoteProtocolError("order", "a log is offered twice")
    if sum(len(log.spans) for log in fetched) + sum(len(log.spans) for log in offered) > TRANSFER_SPANS_MAX:
        raise RemoteProtocolError("limit", f"more than {TRANSFER_SPANS_MAX} spans in one transfer")
    return Transfer(fetched, offered, merged)


def _want(message: list[Any]) -> Want:
    _, wanted, earlier = as_array(message, "message", length=3)
    offers: list[tuple[int, Sequence[Seqs]]] = []
    for one in as_array(wanted, "wishes", length_max=TRANSFER_LOGS_MAX):
        index, spans = as_array(one, "wish", length=2)
        offers.append((as_int(index, "index", maximum=TRANSFER_LOGS_MAX), _spans(spans)))
    _ascending([index for index, _ in offers], "indices")
    dated: list[tuple[int, Sequence[Item]]] = []
    for one in as_array(earlier, "dates", length_max=TRANSFER_LOGS_MAX):
        index, *columns = as_array(one, "date", length=5)
        dated.append((as_int(index, "index", maximum=TRANSFER_LOGS_MAX), _items(columns)))
    return Want(offers, dated)


def _parcel(message: list[Any]) -> Parcel:
    _, heads, seqs, dates, sizes, data, is_last, stopped = as_array(message, "message", length=8)
    counts = _varints(heads, "logs", count_max=3 * PARCEL_MESSAGES_MAX)
    columns = [_varints(column, "headers", count_max=PARCEL_MESSAGES_MAX) for column in (seqs, dates, sizes)]
    total = sum(counts[2::3])
    if len(counts) % 3 or any(len(column) != total for column in columns):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    logs = _parcel_logs(counts, columns)
    position = as_ints(stopped, "position", maximum=SEQ_MAX, length_max=2)
    if len(position) == 1:
        raise RemoteProtocolError("malformed", "half a position")
    at = (position[0], position[1]) if position else None
    return Parcel(logs, as_bytes(data, "data"), _flag(is_last, "last"), at)


def _parcel_logs(counts: list[int], columns: list[list[int]]) -> list[ParcelLog]:
    steps, zigzag, sizes = columns
    dates = list(accumulate(code >> 1 ^ -(code & 1) for code in zigzag))
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
        headers = list(zip(seqs, dates[start:end], sizes[start:end], strict=True))
        logs.append(ParcelLog(number, watermark - 1 if watermark else None, headers))
        start = end
    return logs


def _done(message: list[Any]) -> Done:
    _, is_complete, is_equal, ack = as_array(message, "message", length=4)
    return Done(_flag(is_complete, "complete"), _flag(is_equal, "equal"), _flag(ack, "ack"))


_DECODERS: Final[dict[int, Callable[[list[Any]], Message]]] = {
    HELLO: _hello,
    REFUSE: _refuse,
    TOPICS: _topics,
    NEWS: _news,
    ABOUT: _about,
    STANDING: _standing,
    SURVEY: _survey,
    SURVEYED: _surveyed,
    NAMES: _names,
    NAMED: _named,
    ASK: _ask,
    TELL: _tell,
    TRANSFER: _transfer,
    WANT: _want,
    PARCEL: _parcel,
    DONE: _done,
}


def _handle(value: Any) -> bytes:
    return as_bytes(value, "handle", length=HANDLE_BYTES)


def _id(value: Any, what: str) -> str:
    """A topic or a log."""
    text = as_text(value, what, bytes_max=ID_BYTES_MAX)
    try:
        check_id(what, text)
    except ValueError as error:
        raise RemoteProtocolError("name", str(error)) from None
    return text


def _ascending(values: Sequence[Any], what: str) -> None:
    if any(one >= other for one, other in pairwise(values)):
        raise RemoteProtocolError("order", f"{what} are not strictly ascending")


def _split(data: bytes, size: int, what: str) -> list[bytes]:
    if len(data) % size:
        raise RemoteProtocolError("malformed", f"{what} is not a multiple of {size} bytes")
    return [data[start : start + size] for start in range(0, len(data), size)]


def _varints(value: Any, what: str, *, count_max: int) -> list[int]:
    numbers: list[int] = unpack_varints(as_bytes(value, what), what).tolist()
    if len(numbers) > count_max:
        raise RemoteProtocolError("limit", f"more than {count_max} numbers in {what}")
    return numbers


def _spans(value: Any) -> list[Seqs]:
    """Spans of seqs, ascending, one at least; see `_spans_field`."""
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


def _items(columns: list[Any]) -> list[Item]:
    """Items from their columns; see `_columns`."""
    deltas, packed, dates, sizes = columns
    count = len(as_ints(deltas, "seqs", maximum=SEQ_MAX, length_max=SYNC_ENTRIES_MAX))
    digests = _split(as_bytes(packed, "digests", length=count * DIGEST_BYTES), DIGEST_BYTES, "digests")
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
