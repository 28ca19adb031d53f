"""How the messages of a sync session stand in frames, and how frames are read. The tables are in `sync.md`.

Decoding raises RemoteProtocolError and nothing else; what it returns is fully checked, so that the session code deals
only with meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits import (
    BATCH_ITEMS_MAX,
    BLOB_BYTES_MAX,
    CONTROL_FRAME_BYTES_MAX,
    DIGEST_BYTES,
    FINGERPRINT_BYTES,
    FRAME_BYTES_MAX,
    HANDLE_BYTES,
    HASHES_MAX,
    ID_BYTES_MAX,
    PEER_TEXT_BYTES_MAX,
    RETENTION_MAX_S,
    SALT_BYTES,
    SEQ_MAX,
    SYNC_ENTRIES_MAX,
)
from protocols.model import Item, LogName, check_id, handle_of
from protocols.sync.messages import (
    Ask,
    AskedLog,
    Blobs,
    Done,
    Hello,
    Message,
    Refuse,
    Tell,
    ToldLog,
    Transfer,
    TransferLog,
    Want,
)
from protocols.sync.ranges import pack_ranges, unpack_ranges
from protocols.sync.reconcile import BLOCK_KEY_BYTES
from protocols.sync.wire import as_array, as_bytes, as_int, as_ints, as_text, pack, unpack

__all__ = ["BLOBS", "REFUSE", "decode", "encode"]

HELLO: Final = 1
REFUSE: Final = 2
ASK: Final = 3
TELL: Final = 4
TRANSFER: Final = 5
WANT: Final = 6
BLOBS: Final = 7
DONE: Final = 8

TIME_MAX_S: Final = 2**53
"""Latest Unix time on the wire: exact in every language."""

_VERSION_MAX: Final = 255
_HELLO_ELEMENTS: Final = 10
_HELLO_ELEMENTS_MAX: Final = 32


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The frame (without prefix) of a message. Raises LocalProtocolError if it is too long."""
    match message:
        case Hello():
            frame = pack(_hello_fields(message))
        case Refuse():
            frame = pack([REFUSE, _cut(message.code, 32), _cut(message.text, PEER_TEXT_BYTES_MAX)])
        case Ask():
            logs = [[log.handle, pack_ranges(log.ranges, BLOCK_KEY_BYTES)] for log in message.logs]
            frame = pack([ASK, pack_ranges(message.ranges, HANDLE_BYTES), logs, b"".join(message.rows)])
        case Tell():
            told = [_told_fields(log) for log in message.logs]
            frame = pack([TELL, pack_ranges(message.ranges, HANDLE_BYTES), told, int(message.more)])
        case Transfer():
            offers = [_offer_fields(log) for log in message.offers]
            merges = [[log.handle, *_columns(log.items)] for log in message.merges]
            fetch = [[log.handle, *_columns(log.items)[:2]] for log in message.fetch]
            frame = pack([TRANSFER, offers, merges, fetch])
        case Want():
            indices = [index for index, _ in message.earlier]
            frame = pack([WANT, message.bitmap, indices, [stored_s for _, stored_s in message.earlier]])
        case Blobs():
            frame = pack([BLOBS, int(message.last), list(message.gone), message.data])
        case Done():
            frame = pack([DONE, int(message.complete), int(message.ack)])
    if len(frame) > (FRAME_BYTES_MAX if isinstance(message, Blobs) else CONTROL_FRAME_BYTES_MAX):
        raise LocalProtocolError(f"a {type(message).__name__} frame of {len(frame)} bytes")
    return frame


def _hello_fields(hello: Hello) -> list[Any]:
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
    ]


def _cut(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _columns(items: Sequence[Item]) -> list[Any]:
    """Seqs (each after the first as the distance to the one before), digests, first stored, sizes."""
    seqs: list[int] = []
    previous = 0
    for item in items:
        seqs.append(item.seq - previous)
        previous = item.seq
    return [
        seqs,
        b"".join([item.digest for item in items]),
        [item.first_stored_s for item in items],
        [item.size for item in items],
    ]


def _name_fields(name: LogName | None) -> list[str]:
    return ["", ""] if name is None else [name.topic, name.log]


def _watermark_field(watermark: int | None) -> int:
    return 0 if watermark is None else min(watermark + 1, SEQ_MAX)


def _told_fields(log: ToldLog) -> list[Any]:
    return [
        log.handle,
        *_name_fields(log.name),
        _watermark_field(log.watermark),
        pack_ranges(log.ranges, BLOCK_KEY_BYTES),
        *_columns(log.items),
        int(log.last),
    ]


def _offer_fields(log: TransferLog) -> list[Any]:
    return [log.handle, *_name_fields(log.name), _watermark_field(log.watermark), *_columns(log.items)]


# --- decoding --------------------------------------------------------------------------------------------------------


def decode(frame: bytes) -> Message:
    """The message in a frame (without prefix).

    Raises RemoteProtocolError: "malformed", "limit", "ranges", "order", "name", "type".
    """
    if len(frame) > FRAME_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a frame of {len(frame)} bytes")
    if len(frame) > CONTROL_FRAME_BYTES_MAX and frame[1] != BLOBS:
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
    if len(fields) < _HELLO_ELEMENTS:
        raise RemoteProtocolError("malformed", "a hello that is too short")
    _, low, high, network, now_s, retention_s, alive_from_s, software, salt, first = fields[:_HELLO_ELEMENTS]
    hello = Hello(
        version_min=as_int(low, "lowest version", maximum=_VERSION_MAX),
        version_max=as_int(high, "highest version", maximum=_VERSION_MAX),
        network=as_text(network, "network", bytes_max=PEER_TEXT_BYTES_MAX),
        now_s=as_int(now_s, "clock", maximum=TIME_MAX_S),
        retention_s=as_int(retention_s, "retention", maximum=RETENTION_MAX_S),
        alive_from_s=as_int(alive_from_s, "alive from", maximum=TIME_MAX_S),
        software=_printable(as_text(software, "software", bytes_max=PEER_TEXT_BYTES_MAX)),
        salt=as_bytes(salt, "salt", length_max=SALT_BYTES),
        first=as_bytes(first, "first message", length_max=CONTROL_FRAME_BYTES_MAX),
    )
    if hello.version_min > hello.version_max or hello.retention_s == 0:
        raise RemoteProtocolError("malformed", "a hello that contradicts itself")
    return hello


def _printable(text: str) -> str:
    """What goes into logs and terminals must not control them."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _refuse(message: list[Any]) -> Refuse:
    _, code, text = as_array(message, "message", length=3)
    return Refuse(_printable(as_text(code, "code", bytes_max=32)), _printable(as_text(text, "text", bytes_max=256)))


def _ask(message: list[Any]) -> Ask:
    _, ranges, logs, rows = as_array(message, "message", length=4)
    asked = []
    for log in as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX):
        handle, blocks = as_array(log, "log", length=2)
        asked.append(AskedLog(_handle(handle), unpack_ranges(blocks, BLOCK_KEY_BYTES)))
    _ascending([log.handle for log in asked], "handles")
    hashes = _split(as_bytes(rows, "rows", length_max=HASHES_MAX * FINGERPRINT_BYTES), FINGERPRINT_BYTES, "rows")
    _ascending(hashes, "rows")
    return Ask(unpack_ranges(ranges, HANDLE_BYTES), asked, hashes)


def _tell(message: list[Any]) -> Tell:
    _, ranges, logs, more = as_array(message, "message", length=4)
    told = []
    for log in as_array(logs, "logs", length_max=SYNC_ENTRIES_MAX):
        handle, topic, name, watermark, blocks, *columns, last = as_array(log, "log", length=10)
        handle = _handle(handle)
        told.append(
            ToldLog(
                handle,
                _name(handle, topic, name),
                unpack_ranges(blocks, BLOCK_KEY_BYTES),
                _items(columns),
                _flag(last, "last"),
                _watermark(watermark),
            )
        )
    return Tell(unpack_ranges(ranges, HANDLE_BYTES), told, _flag(more, "more"))


def _transfer(message: list[Any]) -> Transfer:
    _, offers, merges, fetch = as_array(message, "message", length=4)
    offered = []
    for log in as_array(offers, "offers", length_max=BATCH_ITEMS_MAX):
        handle, topic, name, watermark, *columns = as_array(log, "offer", length=8)
        handle = _handle(handle)
        items = _items(columns)
        offered.append(TransferLog(handle, items, _name(handle, topic, name), _watermark(watermark)))
    merged = []
    for log in as_array(merges, "merges", length_max=BATCH_ITEMS_MAX):
        handle, *columns = as_array(log, "merge", length=5)
        merged.append(TransferLog(_handle(handle), _items(columns)))
    fetched = []
    for log in as_array(fetch, "fetch", length_max=BATCH_ITEMS_MAX):
        handle, seqs, digests = as_array(log, "fetch", length=3)
        count = len(as_array(seqs, "seqs"))
        items = _items([seqs, digests, [0] * count, [0] * count])
        fetched.append(TransferLog(_handle(handle), items))
    for logs in (offered, merged, fetched):
        _ascending([log.handle for log in logs], "handles")
        if sum(len(log.items) for log in logs) > BATCH_ITEMS_MAX:
            raise RemoteProtocolError("limit", f"more than {BATCH_ITEMS_MAX} items in one transfer")
    return Transfer(offered, merged, fetched)


def _want(message: list[Any]) -> Want:
    _, bitmap, indices, dates = as_array(message, "message", length=4)
    bitmap = as_bytes(bitmap, "bitmap", length_max=BATCH_ITEMS_MAX // 8)
    _ascending(as_ints(indices, "indices", maximum=BATCH_ITEMS_MAX, length_max=BATCH_ITEMS_MAX), "indices")
    if len(as_ints(dates, "first stored", maximum=TIME_MAX_S, length_max=BATCH_ITEMS_MAX)) != len(indices):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    return Want(bitmap, list(zip(indices, dates, strict=True)))


def _blobs(message: list[Any]) -> Blobs:
    _, last, gone, data = as_array(message, "message", length=4)
    indices = as_ints(gone, "gone", maximum=BATCH_ITEMS_MAX, length_max=BATCH_ITEMS_MAX)
    _ascending(indices, "gone")
    return Blobs(as_bytes(data, "data"), indices, _flag(last, "last"))


def _done(message: list[Any]) -> Done:
    _, complete, ack = as_array(message, "message", length=3)
    return Done(_flag(complete, "complete"), _flag(ack, "ack"))


_DECODERS: Final[dict[int, Callable[[list[Any]], Message]]] = {
    HELLO: _hello,
    REFUSE: _refuse,
    ASK: _ask,
    TELL: _tell,
    TRANSFER: _transfer,
    WANT: _want,
    BLOBS: _blobs,
    DONE: _done,
}


def _handle(value: Any) -> bytes:
    return as_bytes(value, "handle", length=HANDLE_BYTES)


def _watermark(value: Any) -> int | None:
    number = as_int(value, "watermark", maximum=SEQ_MAX)
    return number - 1 if number else None


def _name(handle: bytes, topic: Any, log: Any) -> LogName | None:
    """The name in a message, verified against its handle; None if both parts are empty."""
    name = LogName(as_text(topic, "topic", bytes_max=ID_BYTES_MAX), as_text(log, "log", bytes_max=ID_BYTES_MAX))
    if not name.topic and not name.log:
        return None
    try:
        check_id("topic", name.topic)
        check_id("log", name.log)
    except ValueError as error:
        raise RemoteProtocolError("name", str(error)) from None
    if handle_of(name) != handle:
        raise RemoteProtocolError("name", "a name that does not belong to its handle")
    return name


def _ascending(values: Sequence[Any], what: str) -> None:
    if any(one >= other for one, other in pairwise(values)):
        raise RemoteProtocolError("order", f"{what} are not strictly ascending")


def _split(data: bytes, size: int, what: str) -> list[bytes]:
    if len(data) % size:
        raise RemoteProtocolError("malformed", f"{what} is not a multiple of {size} bytes")
    return [data[start : start + size] for start in range(0, len(data), size)]


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
