"""How the messages of a sync session stand in frames, and how frames are read. The tables are in `sync.md`.

Decoding raises RemoteProtocolError and nothing else; what it returns is fully checked, so that the session code deals
only with meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES, RETENTION_MAX_S, TOPIC_HASH_BYTES
from protocols.limits.sync import (
    ABOUT_LOGS_MAX,
    CONTROL_FRAME_BYTES_MAX,
    FINGERPRINT_BYTES,
    FRAME_BYTES_MAX,
    INTEREST_ID_BYTES,
    INTEREST_TOPICS_MAX,
    LISTED_LOGS_MAX,
    PEER_TEXT_BYTES_MAX,
    RANGES_MAX,
    REFUSAL_PAUSE_MAX_S,
    SYNC_ENTRIES_MAX,
)
from protocols.model import LogName
from protocols.sync.codec_transfer import pack_parcel, read_parcel, read_transfer, read_want, transfer_fields
from protocols.sync.columns import pack_ascending, pack_varints, unpack_ascending, unpack_varints
from protocols.sync.fields import (
    ABOUT,
    ASK,
    DONE,
    HELLO,
    NAMED,
    NAMES,
    NEWS,
    PARCEL,
    REFUSE,
    STANDING,
    SURVEY,
    SURVEYED,
    TELL,
    TIME_MAX_S,
    TOPICS,
    TRANSFER,
    WANT,
    check_ascending,
    cut,
    item_columns,
    printable,
    read_flag,
    read_handle,
    read_id,
    read_items,
    split,
)
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
    Hello,
    Message,
    Named,
    Names,
    News,
    Parcel,
    Refuse,
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

__all__ = ["decode", "encode"]

_VERSION_MAX: Final = 255
_SALT_BYTES_MAX: Final = 32  # of any version; the session wants its own
_HELLO_ELEMENTS_MIN: Final = 10  # of version 1, which is refused in words
_HELLO_LATER: Final = [0, [b"", b"", 0]]  # full, interest: what is meant where they are left out
_HELLO_ELEMENTS: Final = _HELLO_ELEMENTS_MIN + len(_HELLO_LATER)
_HELLO_ELEMENTS_MAX: Final = 32
_FEW_BITS: Final = 64
"""So many are looked at one by one sooner than numpy is set up."""

_ROW_BYTES: Final = HANDLE_BYTES + FINGERPRINT_BYTES

_Comparing: TypeAlias = News | About | Standing | Survey | Surveyed | Names | Named | Ask | Tell


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The frame (without prefix) of a message. Raises LocalProtocolError if it is too long."""
    if isinstance(message, Parcel):
        frame, bytes_max = pack_parcel(message), FRAME_BYTES_MAX
    else:
        frame, bytes_max = pack(_fields(message)), CONTROL_FRAME_BYTES_MAX
    if len(frame) > bytes_max:
        raise LocalProtocolError(f"a {type(message).__name__} frame of {len(frame)} bytes")
    return frame


def _fields(message: _Comparing | Hello | Refuse | Topics | Transfer | Want | Done) -> list[Any]:
    match message:
        case Hello():
            return _hello_fields(message)
        case Refuse():
            pause = [min(message.pause_s, REFUSAL_PAUSE_MAX_S)] if message.pause_s else []
            return [REFUSE, cut(message.code, 32), cut(message.text, PEER_TEXT_BYTES_MAX), *pause]
        case Topics():
            return [TOPICS, message.interest.packed]
        case Transfer() | Want():
            return transfer_fields(message)
        case Done():
            return [DONE, int(message.is_complete), int(message.is_equal), int(message.ack)]
        case _:
            return _comparing_fields(message)


def _comparing_fields(message: _Comparing) -> list[Any]:
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
        cut(hello.network, PEER_TEXT_BYTES_MAX),
        hello.now_s,
        hello.retention_s,
        hello.alive_from_s,
        cut(hello.software, PEER_TEXT_BYTES_MAX),
        hello.salt,
        hello.first,
        int(hello.is_full),
        *([interest] if has_interest else []),
    ]


def _entries_fields(entries: Entries) -> list[Any]:
    return pack_entries(entries) if len(entries) else []


def _bitmap(indices: Sequence[int]) -> bytes:
    """Bit i (the lowest of a byte first) is 1 if i is among the ascending indices; ends with the last 1."""
    if not indices:
        return b""
    if indices[-1] < _FEW_BITS:
        return sum([1 << index for index in indices]).to_bytes(indices[-1] // 8 + 1, "little")
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
        [log.handle, pack_ranges(log.ranges, BLOCK_KEY_BYTES), *item_columns(log.items), int(log.last)]
        for log in message.logs
    ]
    return [TELL, rows, pack_place(message.until), logs, int(message.more)]


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
        software=printable(as_text(software, "software", bytes_max=PEER_TEXT_BYTES_MAX)),
        salt=as_bytes(salt, "salt", length_max=_SALT_BYTES_MAX),
        first=as_bytes(first, "first message", length_max=CONTROL_FRAME_BYTES_MAX),
        is_full=read_flag(is_full, "full"),
        keeps=_interest_id(keeps),
        believes=_interest_id(believes),
        asks_topics=read_flag(asks_topics, "asks topics"),
    )
    if hello.version_min > hello.version_max or hello.retention_s == 0:
        raise RemoteProtocolError("malformed", "a hello that contradicts itself")
    return hello


def _interest_id(value: Any) -> bytes:
    return EVERYTHING_ID if value == EVERYTHING_ID else as_bytes(value, "interest id", length=INTEREST_ID_BYTES)


def _topics(message: list[Any]) -> Topics:
    _, packed = as_array(message, "message", length=2)
    hashes = split(as_bytes(packed, "topics"), TOPIC_HASH_BYTES, "topics")
    if len(hashes) > INTEREST_TOPICS_MAX:
        raise RemoteProtocolError("limit", f"more than {INTEREST_TOPICS_MAX} topics")
    check_ascending(hashes, "topics")
    return Topics(Interest(packed))


def _refuse(message: list[Any]) -> Refuse:
    _, code, text, *pause = as_array(message, "message", length=4 if len(message) == 4 else 3)
    return Refuse(
        printable(as_text(code, "code", bytes_max=32)),
        printable(as_text(text, "text", bytes_max=256)),
        as_int(pause[0], "pause", maximum=REFUSAL_PAUSE_MAX_S) if pause else 0,
    )


def _news(message: list[Any]) -> News:
    _, again, listing = as_array(message, "message", length=3)
    return News(unpack_listing(listing), read_flag(again, "again"))


def _about(message: list[Any]) -> About:
    _, again, packed, *entries = as_array(message, "message", length=7)
    handles = split(as_bytes(packed, "handles", length_max=ABOUT_LOGS_MAX * HANDLE_BYTES), HANDLE_BYTES, "handles")
    check_ascending(handles, "handles")
    return About(handles, unpack_entries(entries, len(handles)), read_flag(again, "again"))


def _standing(message: list[Any]) -> Standing:
    _, bitmap, entries, listing, rest = as_array(message, "message", length=5)
    differing = _indices(as_bytes(bitmap, "bitmap", length_max=LISTED_LOGS_MAX // 8))
    fields = as_array(entries, "entries", length=4) if entries or differing else []
    if rest != b"":
        as_bytes(rest, "rest", length=FINGERPRINT_BYTES)
    known = unpack_entries(fields, len(differing)) if fields else NO_ENTRIES
    return Standing(differing, known, unpack_listing(listing), rest)


def _indices(bitmap: bytes) -> list[int]:
    """The inverse of `_bitmap`."""
    if 8 * len(bitmap) <= _FEW_BITS:
        bits = int.from_bytes(bitmap, "little")
        return [index for index in range(bits.bit_length()) if bits >> index & 1]
    found: list[int] = np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")).tolist()
    return found


def _survey(message: list[Any]) -> Survey:
    _, again, packed = as_array(message, "message", length=3)
    regions = unpack_regions(packed, {FP, SHOW})
    if not regions:
        raise RemoteProtocolError("ranges", "a survey of nothing")
    return Survey(regions, read_flag(again, "again"))


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
    texts = [read_id(topic, "topic") for topic in as_array(topics, "topics", length_max=SYNC_ENTRIES_MAX)]
    as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX)
    as_ints(indices, "indices", maximum=max(0, answered - 1), length_max=len(logs))
    as_ints(numbers, "topic numbers", maximum=max(0, len(texts) - 1), length_max=len(logs))
    if not len(indices) == len(numbers) == len(logs) or (logs and not texts):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    if any(one > other for one, other in pairwise(indices)):
        raise RemoteProtocolError("order", "indices are not ascending")
    names = [LogName(texts[number], read_id(one, "log")) for number, one in zip(numbers, logs, strict=True)]
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
        asked.append(AskedLog(read_handle(handle), unpack_ranges(blocks, BLOCK_KEY_BYTES)))
    check_ascending([log.handle for log in asked], "handles")
    return Ask(bounds, asked)


def _tell(message: list[Any]) -> Tell:
    _, packed, until, logs, more = as_array(message, "message", length=5)
    rows = [(row[:HANDLE_BYTES], row[HANDLE_BYTES:]) for row in split(as_bytes(packed, "rows"), _ROW_BYTES, "rows")]
    check_ascending([handle for handle, _ in rows], "rows")
    told = []
    for log in as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX):
        handle, blocks, *columns, last = as_array(log, "log", length=7)
        ranges = unpack_ranges(blocks, BLOCK_KEY_BYTES)
        told.append(ToldLog(read_handle(handle), ranges, read_items(columns), read_flag(last, "last")))
    return Tell(rows, unpack_place(until), told, read_flag(more, "more"))


def _done(message: list[Any]) -> Done:
    _, is_complete, is_equal, ack = as_array(message, "message", length=4)
    return Done(read_flag(is_complete, "complete"), read_flag(is_equal, "equal"), read_flag(ack, "ack"))


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
    TRANSFER: read_transfer,
    WANT: read_want,
    PARCEL: read_parcel,
    DONE: _done,
}
