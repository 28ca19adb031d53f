"""Sealed files: what was written is read, whatever is torn off or changed is noticed, hostile bytes cost little."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.identity import Identity
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import SALT_BYTES, SEALED_HEAD_BYTES_MAX, SEALED_RECORD_BYTES_MIN, SYNC_ENTRIES_MAX
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sneakernet.bundle import BundleHead, BundleWriter, CarriedLog, read_logs
from protocols.sneakernet.seal import Kind, Origin, Record, SealReader, SealWriter
from protocols.sneakernet.want import WantHead, WantTable, WantWriter, tag_key, tags_of
from protocols.sync.interest import Interest
from protocols.sync.wire import pack

SEED = bytes(range(32))
MAKER = Identity.from_seed(SEED).mailbox_id
SALT = bytes(range(SALT_BYTES))
HOUR = 1_800_000_000 // 3600 * 3600
VECTOR = Path(__file__).parents[3] / "protocols" / "sneakernet" / "vectors.json"

Message = tuple[LogName, int, bytes, int]


def origin(fields: Sequence[Any]) -> Origin:
    return Origin(MAKER, HOUR + 5, "main", "mailboxd/test", fields)


def bundle_of(messages: Sequence[Message], dates: Sequence[tuple[LogName, Item]] = ()) -> bytes:
    """Messages of a log stand together, ascending."""
    writer = BundleWriter(SEED)
    out = writer.begin(origin(BundleHead(None, HOUR, 7 * 86400).fields()))
    for name, seq, blob, first_stored_s in messages:
        out += writer.message(name, Item(seq, digest_of(blob), first_stored_s, len(blob)), blob)
    for name, item in dates:
        out += writer.date(name, item)
    if messages:
        out += writer.watermark(messages[-1][0], 41)
    return out + writer.end()


def records_of(kind: Kind, data: bytes, *, piece: int = 1000) -> tuple[SealReader, list[Record]]:
    reader = SealReader(kind)
    records = []
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        while (record := reader.next_record()) is not None:
            records.append(record)
    return reader, records


def carried(records: Sequence[Record]) -> list[Message]:
    logs: list[CarriedLog] = [log for record in records for log in read_logs(record)]
    return [(log.name, item.seq, blob, item.first_stored_s) for log in logs for item, blob in log.messages]


def want_of(held: dict[LogName, list[tuple[int, bytes, int]]], interest: Interest | None = None) -> bytes:
    """(seq, digest, first stored) of each log."""
    writer = WantWriter(SEED)
    key = tag_key(MAKER, SALT)
    out = writer.begin(origin(WantHead(SALT, HOUR, interest).fields()))
    for name, messages in held.items():
        tags = tags_of(key, [digest for _, digest, _ in messages])
        out += writer.add(name, [(seq, date, tag) for (seq, _, date), tag in zip(messages, tags, strict=True)])
    return out + writer.end()


def table_of(data: bytes) -> tuple[SealReader, WantTable]:
    table = WantTable()
    reader, records = records_of(Kind.WANT, data, piece=10_000)
    for record in records:
        table.take(record)
    table.finish()
    return reader, table


names = st.builds(
    LogName, st.text("abcdefé", min_size=1, max_size=5), st.one_of(st.just("x" * 256), st.text("123", min_size=1))
)
seqs = st.one_of(st.integers(0, 300), st.integers(SEQ_MAX - 300, SEQ_MAX))
held_messages = st.dictionaries(
    names, st.sets(st.tuples(seqs, st.binary(min_size=0, max_size=20)), min_size=1, max_size=30), max_size=8
)


@given(held_messages, st.integers(1, 5000))
def test_a_bundle_brings_what_was_put_in(held: dict[LogName, set[tuple[int, bytes]]], piece: int) -> None:
    messages = [
        (name, seq, blob, HOUR - 3600 * (seq % 5))
        for name, found in held.items()
        for seq, blob in sorted(found, key=lambda one: (one[0], digest_of(one[1])))
    ]
    reader, records = records_of(Kind.BUNDLE, bundle_of(messages), piece=piece)
    assert carried(records) == messages
    assert reader.is_complete
    assert reader.origin == origin(BundleHead(None, HOUR, 7 * 86400).fields())
    marks = [log.watermark for record in records for log in read_logs(record) if log.watermark is not None]
    assert marks == ([41] if messages else [])


@given(held_messages)
def test_a_want_tells_what_was_put_in(held: dict[LogName, set[tuple[int, bytes]]]) -> None:
    told = {
        name: sorted((seq, digest_of(blob), HOUR + 3600 * (seq % 9)) for seq, blob in found)
        for name, found in held.items()
    }
    reader, table = table_of(want_of(told, Interest.of(["t"])))
    assert reader.is_complete
    assert reader.origin is not None
    assert WantHead.read(reader.origin) == WantHead(SALT, HOUR, Interest.of(["t"]))
    key = tag_key(MAKER, SALT)
    for name, messages in told.items():
        (found,) = table.held_of(name)
        assert found.seqs.tolist() == [seq for seq, _, _ in messages]
        assert found.first_stored_s.tolist() == [date for _, _, date in messages]
        assert found.tags == b"".join(tags_of(key, [digest for _, digest, _ in messages]))
    assert list(table.held_of(LogName("nobody", "has this"))) == []


def test_long_logs_and_large_messages_take_many_records() -> None:
    name, other = LogName("t", "long"), LogName("t", "large")
    many = [(name, seq, b"%d" % seq, HOUR) for seq in range(3 * SYNC_ENTRIES_MAX)]
    large = [(other, seq, bytes([seq]) * 700_000, HOUR) for seq in range(5)]
    dates = [(LogName("d", str(n)), Item(n, digest_of(b""), HOUR, 0)) for n in range(12_000)]
    _, records = records_of(Kind.BUNDLE, bundle_of([*many, *large], dates), piece=100_000)
    assert len(records) > 4
    assert carried(records) == [*many, *large]
    assert [(log.name, item) for record in records for log in read_logs(record) for item in log.dates] == dates


def test_a_want_of_many_short_and_one_long_log() -> None:
    short = {LogName("t", f"{n}"): [(n, digest_of(b"%d" % n), HOUR)] for n in range(9000)}
    long = {LogName("t", "long"): [(seq, digest_of(b""), HOUR) for seq in range(40_000)]}
    data = want_of(short | long)
    _, table = table_of(data)
    assert table.messages == 49_000
    assert sum(len(part.seqs) for part in table.held_of(LogName("t", "long"))) == 40_000
    assert all(next(table.held_of(name)).seqs.tolist() == [n] for n, name in enumerate(short))
    assert len(data) < 9000 * 27 + 40_000 * 7 + 2000


def test_a_torn_copy_is_good_as_far_as_it_goes() -> None:
    messages = [(LogName("t", "l"), seq, bytes([seq]) * 400_000, HOUR) for seq in range(12)]
    whole = bundle_of(messages)
    seen = set()
    for size in range(0, len(whole), 99_991):
        reader, records = records_of(Kind.BUNDLE, whole[:size], piece=10_000)
        found = carried(records)
        assert found == messages[: len(found)]
        assert not reader.is_complete
        seen.add(len(found))
    assert {0, 3, 6, 9} <= seen


@pytest.mark.parametrize("kind", [Kind.BUNDLE, Kind.WANT])
def test_any_changed_byte_is_noticed(kind: Kind) -> None:
    if kind is Kind.BUNDLE:
        data = bundle_of([(LogName("t", "l"), 0, b"blob", HOUR)])
    else:
        data = want_of({LogName("t", "l"): [(0, digest_of(b""), HOUR)]})
    for at in range(len(data)):
        for change in (1, 128):
            broken = bytearray(data)
            broken[at] ^= change
            with suppress(RemoteProtocolError):
                reader, _ = records_of(kind, bytes(broken))
                assert not reader.is_complete, at  # a length that claims more than there is


def test_records_cannot_be_moved_repeated_or_left_out() -> None:
    writer = SealWriter(Kind.BUNDLE, SEED)
    begin = writer.begin(origin([b"", HOUR, 1]))
    parts = [writer.record(3, [[]], bytes([n]) * SEALED_RECORD_BYTES_MIN) for n in range(3)]
    end = writer.end()
    assert records_of(Kind.BUNDLE, begin + b"".join(parts) + end)[0].is_complete
    for order in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [1, 2]):
        with pytest.raises(RemoteProtocolError, match="seal"):
            records_of(Kind.BUNDLE, begin + b"".join(parts[n] for n in order) + end)
    for trailing in (b"x", end, begin):
        with pytest.raises(RemoteProtocolError, match="behind its end"):
            records_of(Kind.BUNDLE, begin + b"".join(parts) + end + trailing)
    with pytest.raises(RemoteProtocolError, match="seal"):
        records_of(Kind.BUNDLE, begin + end)


def test_one_kind_is_not_taken_for_the_other() -> None:
    want, bundle = want_of({}), bundle_of([])
    with pytest.raises(RemoteProtocolError, match=r"this is a list of what a mailbox has .* where a bundle"):
        records_of(Kind.BUNDLE, want)
    with pytest.raises(RemoteProtocolError, match="this is no list"):
        records_of(Kind.WANT, b"PK\x03\x04" + bytes(100))
    with pytest.raises(RemoteProtocolError, match="seal"):
        records_of(Kind.WANT, Kind.WANT.value + bundle[len(Kind.WANT.value) :])


def test_a_maker_cannot_sign_for_another() -> None:
    with pytest.raises(LocalProtocolError):
        SealWriter(Kind.BUNDLE, bytes(32)).begin(origin([]))


def test_tiny_records_are_refused() -> None:
    writer = SealWriter(Kind.BUNDLE, SEED)
    data = writer.begin(origin([b"", HOUR, 1])) + b"".join(writer.record(3, [[]]) for _ in range(5)) + writer.end()
    with pytest.raises(RemoteProtocolError, match="small records"):
        records_of(Kind.BUNDLE, data)


def sealed(kind: Kind, fields: Sequence[Any], data: bytes = b"") -> Record:
    """A record as its maker, who may be hostile, signs it."""
    writer = SealWriter(kind, SEED)
    _, (record,) = records_of(kind, writer.begin(origin([])) + writer.record(3, fields, data) + writer.end())
    return record


X = digest_of(b"x")
ONE = [[0], X, [HOUR], [1]]
NONE: list[Any] = [[], b"", [], []]


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([], b""),
        ([[], []], b""),
        ([[["t", "l", 0, *ONE]]], b"x"),
        ([[["t", "l", 0, *ONE, *NONE]]], b"y"),
        ([[["t", "l", 0, *ONE, *NONE]]], b""),
        ([[["t", "l", 0, *ONE, *NONE]]], b"xx"),
        ([[["t:", "l", 0, *ONE, *NONE]]], b"x"),
        ([[["t", "", 0, *ONE, *NONE]]], b"x"),
        ([[["t", "l", -1, *ONE, *NONE]]], b"x"),
        ([[["t", "l", 0, [0, 0], 2 * X, [1, 1], [1, 1], *NONE]]], b"xx"),
        ([[["t", "l", 0, [SEQ_MAX, 1], 2 * X, [1, 1], [1, 1], *NONE]]], b"xx"),
        ([[["t", "l", 0, [0], X, [2**60], [1], *NONE]]], b"x"),
        ([[["t", "l", 0, [0], X, [1], [2**40], *NONE]]], b"x"),
    ],
)
def test_what_a_hostile_maker_signs_is_refused(fields: list[Any], data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_logs(sealed(Kind.BUNDLE, fields, data))


HANDLE = bytes(16)
HUGE = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"", b"", b"", b""],
        [b"", b"", b"", b"", b""],
        [HANDLE, b"\x00", b"", b"", b""],
        [HANDLE, b"\x01", b"\x01", b"\x02", bytes(3)],
        [HANDLE, b"\x01", b"\x01\x01", b"\x02", bytes(4)],
        [HANDLE, b"\x02", b"\x01", b"\x02", bytes(4)],
        [HANDLE[1:], b"\x01", b"\x01", b"\x02", bytes(4)],
        [HANDLE, b"\x01", b"\x01", b"\x02\x00", bytes(4)],
        [HANDLE, b"\x01", b"\x01", b"\x01", bytes(4)],  # a date of -1
        [HANDLE, b"\x01", b"\x01", HUGE, bytes(4)],
        [HANDLE, b"\x02", HUGE + b"\x01", b"\x00\x00", bytes(8)],
        [HANDLE, HUGE, b"\x01", b"\x00", bytes(4)],
    ],
)
def test_what_a_hostile_asker_signs_is_refused(fields: list[Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        WantTable().take(sealed(Kind.WANT, fields))


@pytest.mark.parametrize("fields", [[], [SALT, HOUR, 0], [b"", HOUR, 0, b""], [SALT, HOUR, 2, b""], [SALT, 1, 1, b"x"]])
def test_a_bad_beginning_is_refused(fields: list[Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        WantHead.read(origin(fields))
    with pytest.raises(RemoteProtocolError):
        BundleHead.read(origin([*fields, b"x", b"y"]))


wild = st.recursive(
    st.one_of(st.integers(0, SEQ_MAX), st.binary(max_size=40), st.text(max_size=10)),
    lambda inner: st.lists(inner, max_size=11),
    max_leaves=40,
)


@settings(max_examples=200)
@given(st.lists(wild, max_size=7), st.binary(max_size=50))
def test_wild_records_are_refused_and_nothing_else(fields: list[Any], data: bytes) -> None:
    for act in (read_logs, WantTable().take):
        with suppress(RemoteProtocolError):
            act(Record(3, fields, data))
            assert act is read_logs
            assert not fields[0]


@settings(max_examples=200)
@given(st.data())
def test_wild_bytes_are_refused_and_nothing_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(Kind))
    head = data.draw(st.one_of(wild.map(lambda value: pack([1, value])), st.binary(max_size=60)))
    rest = data.draw(st.binary(max_size=120))
    with suppress(RemoteProtocolError):
        reader, _ = records_of(kind, kind.value + len(head).to_bytes(4, "big") + bytes(4) + head + rest, piece=7)
        assert reader.origin is None


def test_a_hostile_head_costs_little_memory() -> None:
    """Half a megabyte of empty arrays, the dearest that msgpack has."""
    head = b"\xdd" + (SEALED_HEAD_BYTES_MAX - 5).to_bytes(4, "big") + b"\x90" * (SEALED_HEAD_BYTES_MAX - 5)
    reader = SealReader(Kind.BUNDLE)
    tracemalloc.start()
    try:
        reader.feed(Kind.BUNDLE.value + len(head).to_bytes(4, "big") + bytes(4) + head + bytes(64))
        with pytest.raises(RemoteProtocolError):
            reader.next_record()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * SEALED_HEAD_BYTES_MAX
    reader = SealReader(Kind.BUNDLE)
    reader.feed(Kind.BUNDLE.value + b"\xff" * 8)
    with pytest.raises(RemoteProtocolError, match="a record of"):
        reader.next_record()


def vector() -> dict[str, str]:
    """A want of one message and the bundle of another, in hex."""
    name = LogName("tea", "alice")
    item = Item(1, digest_of(b"hello"), HOUR, 5)
    return {
        "seed": SEED.hex(),
        "maker": str(MAKER),
        "handle": handle_of(name).hex(),
        "tag": tags_of(tag_key(MAKER, SALT), [digest_of(b"hi")])[0].hex(),
        "want": want_of({name: [(0, digest_of(b"hi"), HOUR)]}).hex(),
        "bundle": bundle_of([(name, 1, b"hello", HOUR)], [(name, item._replace(seq=0, size=0))]).hex(),
    }


def test_the_vector_is_what_the_code_makes() -> None:
    """After a change of the format that is meant: write `json.dumps(vector(), indent=1)` there."""
    assert json.loads(VECTOR.read_text()) == vector()
