"""Whatever bytes come, decoders and sessions raise RemoteProtocolError and nothing else, at a cost that is bounded."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.data import ID_BYTES_MAX, SEQ_MAX
from protocols.limits.sync import (
    CONTROL_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
    HINT_AUDIENCE_MAX,
    HINT_BYTES_MAX,
    HINT_CONTENT_BYTES_MAX,
    HINT_LOGS_MAX,
    HINT_MESSAGES_MAX,
)
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Runs, SessionAborted
from protocols.sync.hints import (
    SHORT_ID_BYTES,
    HintedLog,
    HintedMessage,
    content_bytes,
    decode_hint,
    encode_hints,
    wanted,
)
from protocols.sync.interest import Interest
from protocols.sync.listing import Entries, Listing
from protocols.sync.messages import (
    About,
    Ask,
    AskedLog,
    Done,
    FetchedLog,
    Hello,
    MergedLog,
    Named,
    Names,
    News,
    OfferedLog,
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
from protocols.sync.reconcile import DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.regions import END, SHOW, Region
from protocols.sync.regions import LIST as LISTED
from protocols.sync.session import SessionRefused
from protocols.sync.wire import FrameDecoder, encode_frame, pack, pack_around, unpack
from tests.protocols.sync.parcel_logs import parcel_log
from tests.protocols.sync.test_properties import big_pair
from tests.protocols.sync.world import Box, name_of, sync

NAME = LogName("t" * 64, "l")
HANDLE = handle_of(NAME)
ITEMS = [Item(0, digest_of(b"a"), 3600, 1), Item(0, b"\xff" * 32, 7200, 2), Item(SEQ_MAX, digest_of(b"c"), 0, 0)]
SPANS = [(0, 0), (5, 9), (SEQ_MAX, SEQ_MAX)]


def numbers(*values: int) -> Any:
    return np.array(values, np.uint64)


ENTRIES = Entries(
    Runs(np.array([1, 1, 2, 0, 0], np.int64), numbers(0, 7, 3, 2**63), numbers(99, SEQ_MAX, 5, 2**63)),
    np.array([False, False, False, True, False]),
    b"h" * 8,
)
LISTING = Listing(20, numbers(1, 2, 3, 2**19, 2**20 - 1), ENTRIES)
REGIONS = [Region(0, 1 << 60, FP, b"f" * 8), Region(1 << 61, 3 << 60, SHOW), Region(3 << 60, END, FP, b"g" * 8)]
BLOCKS = [Range(bytes(8), b"\0" * 7 + b"\1", NONE), Range(b"\0" * 7 + b"\1", None, DIFF, hashes=(b"h" * 8,))]
MESSAGES = [
    Hello(2, 2, "main", 1_800_000_000, 604800, 1_799_000_000, "mailboxd/1", b"s" * 8, encode(Survey(REGIONS)), True),
    Hello(2, 2, "main", 1_800_000_000, 604800, 1, "m", b"s" * 8, b"", False, b"k" * 16, b"b" * 16, asks_topics=True),
    Topics(Interest.of(["one", "two"])),
    Refuse("clock", "set it"),
    News(LISTING, True),
    News(),
    About([b"a" * 16, b"b" * 16, b"c" * 16, b"d" * 16, b"e" * 16], ENTRIES, False),
    Standing([0, 1, 7, 8, 30], ENTRIES, LISTING, b"r" * 8),
    Standing(),
    Survey(REGIONS, True),
    Surveyed(
        [Region(0, 5 << 56, LISTED), Region(5 << 56, 6 << 56, FP, b"f" * 8), Region(8 << 56, END, LISTED)],
        [2, 3],
        LISTING,
        END,
    ),
    Surveyed([], [], until=1 << 63),
    Names(33, numbers(1, 2**33 - 1)),
    Named(3, [(0, NAME), (0, LogName("tö", "b")), (2, LogName("tö", "c"))]),
    Ask(None, [AskedLog(HANDLE, BLOCKS)]),
    Ask((0, 1 << 40)),
    Ask(),
    Tell([(b"a" * 16, b"h" * 8), (b"b" * 16, b"h" * 8)], 1 << 62),
    Tell([], END, [ToldLog(HANDLE, BLOCKS, ITEMS, False), ToldLog(b"\xff" * 16, [], [])], True),
    Transfer([FetchedLog(HANDLE, SPANS)], [OfferedLog(NAME, SPANS, True)], [MergedLog(HANDLE, ITEMS)]),
    Want([(0, SPANS), (7, [(1, 1)])], [(3, ITEMS)]),
    Parcel(
        [parcel_log(0, None, [(3, 7200, 10), (3, 3600, 0)]), parcel_log(9, SEQ_MAX - 1, [(SEQ_MAX, 9**9, 5)])],
        b"data" * 99,
    ),
    Parcel([], b"", True, (4, SEQ_MAX)),
    Done(False, True, True),
]


def same(one: Any, other: Any) -> bool:
    """Equality that looks into arrays; tuples and lists are alike."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and bool((one == other).all())
    if isinstance(one, (Entries, Listing, Runs)) or (is_dataclass(one) and type(one) is type(other)):
        names = one._fields if isinstance(one, Runs) else [field.name for field in fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were(message: Any) -> None:
    again = decode(encode(message))
    assert type(again) is type(message)
    assert same(again, message), again


def quietly(frame: bytes) -> Any:
    try:
        return decode(frame)
    except RemoteProtocolError:
        return None


values = st.recursive(
    st.one_of(
        st.integers(0, 9),
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=40),
        st.binary(min_size=16, max_size=16),
        st.text(max_size=10),
        st.floats(),
        st.none(),
        st.booleans(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=30,
)


@given(st.binary(max_size=200))
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\x92\x03")
@example(b"\x90")
def test_random_bytes(data: bytes) -> None:
    quietly(data)
    for decoder in (unpack, decode_hint):
        try:
            decoder(data)
        except RemoteProtocolError:
            continue


@given(st.integers(0, 16), st.lists(values, max_size=11))
@settings(max_examples=300, deadline=None)
def test_random_structures(kind: int, rest: list[Any]) -> None:
    data = msgpack.packb([kind, *rest])
    message = quietly(data)
    if message is not None and len(data) < 1000:
        encode(message)  # what we accept, we could have said
    with suppress(RemoteProtocolError):
        decode_hint(data)


@given(st.integers(0, len(MESSAGES) - 1), st.data())
@settings(max_examples=500, deadline=None)
def test_valid_messages_with_one_value_replaced(which: int, data: st.DataObject) -> None:
    whole = msgpack.unpackb(encode(MESSAGES[which]))
    here = whole
    while True:
        at = data.draw(st.integers(0, len(here) - 1))
        if isinstance(here[at], list) and here[at] and data.draw(st.booleans()):
            here = here[at]
            continue
        here[at] = data.draw(values)
        break
    quietly(msgpack.packb(whole))


@given(st.integers(0, len(MESSAGES) - 1), st.integers(0, 10**6), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_valid_messages_with_one_byte_changed(which: int, at: int, byte: int) -> None:
    frame = bytearray(encode(MESSAGES[which]))
    frame[at % len(frame)] = byte
    quietly(bytes(frame))
    quietly(bytes(frame[: at % len(frame)]))


@pytest.mark.parametrize(
    "value",
    [float("nan"), 1.0, None, True, {}, {1: 2}, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), -1, 2**64 - 1, "x", []],
    ids=str,
)
def test_values_that_are_not_ours(value: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([15, value, 0, 0]))


def test_deep_nesting_is_refused() -> None:
    for depth in (10, 600, 60_000):
        with pytest.raises(RemoteProtocolError):
            decode(b"\x93\x0f" + b"\x91" * depth + b"\x01\x00")


def test_claims_cost_nothing() -> None:
    tracemalloc.start()
    for claim in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(RemoteProtocolError):
            decode(b"\x93\x0f" + claim + b"\x00")
    frames = FrameDecoder()
    frames.feed(b"\xff\xff\xff\xff")
    with pytest.raises(RemoteProtocolError, match="4294967295"):
        frames.next_frame()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 200_000


def test_only_message_data_may_be_long() -> None:
    long = msgpack.packb([3, 0, b"x" * CONTROL_FRAME_BYTES_MAX])
    with pytest.raises(RemoteProtocolError, match="control frame"):
        decode(long)
    assert isinstance(decode(encode(Parcel((), b"x" * (FRAME_BYTES_MAX - 1000)))), Parcel)
    with pytest.raises(LocalProtocolError):
        encode(Parcel((), b"x" * FRAME_BYTES_MAX))


def packed_ranges(*fields: Any) -> bytes:
    return msgpack.packb([10, [], [[HANDLE, list(fields)]]])


@pytest.mark.parametrize(
    "fields",
    [
        (1, b"\x20\x10", b"\1\1\1", b"f" * 24, [], b""),  # unsorted
        (1, b"\x20\x20", b"\1\1\1", b"f" * 24, [], b""),  # an empty range
        (1, b"\x00", b"\1\1", b"f" * 16, [], b""),  # an empty first range
        (1, b"\x20", b"\1\1\1", b"f" * 24, [], b""),  # a bound is missing
        (9, b"\x20" * 9, b"\1\1", b"f" * 16, [], b""),  # a bound longer than a key
        (1, b"\x20", b"\1\1", b"f" * 8, [], b""),  # a fingerprint is missing
        (1, b"\x20", b"\1\6", b"f" * 8, [], b""),  # an unknown mode
        (0, b"", b"\2", b"", [2], b"a" * 16),  # a hash twice
        (0, b"", b"\2", b"", [2], b"a" * 8),  # a hash is missing
        (0, b"", b"\2", b"", [], b""),  # a count is missing
        (0, b"", b"", b"", [], b""),  # no range at all
        (0, b"", b"\2", b"", [4097], b"a" * 8),
        (2, b"".join(number.to_bytes(2, "big") for number in range(1, 1100)), b"\0" * 1100, b"", [], b""),
    ],
)
def test_bad_ranges(fields: tuple[Any, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(packed_ranges(*fields))


def told(items: list[Any]) -> bytes:
    return msgpack.packb([11, b"", b"", [[HANDLE, [], *items, 1]], 0])


@pytest.mark.parametrize(
    "items",
    [
        [[0, 0], b"b" * 32 + b"a" * 32, [0, 0], [0, 0]],  # out of order
        [[0, 0], b"a" * 64, [0, 0], [0, 0]],  # the same twice
        [[SEQ_MAX, 1], b"a" * 64, [0, 0], [0, 0]],  # beyond 2^64-1
        [[0], b"a" * 31, [0], [0]],
        [[0], b"a" * 32, [0], [48 * 1024 * 1024 + 1]],
        [[0], b"a" * 32, [2**60], [0]],
        [[0], b"a" * 32, [], [0]],
    ],
)
def test_bad_items(items: list[Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(told(items))


@pytest.mark.parametrize("name", [("", "l"), ("t:", "l"), ("t", "l\0"), ("t" * 257, "l")])
def test_names_are_checked(name: tuple[str, str]) -> None:
    topic, log = name
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([9, 1, [topic], [0], [0], [log]]))
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([12, [], [[topic, log, 1, [0, 0]]], []]))


@pytest.mark.parametrize(
    "regions",
    [
        [1, b"\x20\x10", b"", b"f" * 24],  # unsorted
        [1, b"\x20\x20", b"", b"f" * 24],  # an empty region
        [1, b"\x00", b"", b"f" * 16],  # an empty first region
        [1, b"\x20", b"\1\1\1", b"f" * 24],  # a bound is missing
        [9, b"\x20" * 9, b"\1\1", b"f" * 16],  # a bound longer than a place
        [1, b"\x20", b"", b"f" * 8],  # a fingerprint is missing
        [1, b"\x20", b"\1\3", b"f" * 8],  # a mode that is no question
        [2, b"".join(number.to_bytes(2, "big") for number in range(1, 1100)), b"\0" * 1100, b""],  # too many
        [2, b"".join(number.to_bytes(2, "big") for number in range(1, 1025)), b"", b"f" * 8 * 1025],  # without modes
        [],  # nothing is asked
    ],
)
def test_bad_regions(regions: list[Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([6, 0, regions]))


@pytest.mark.parametrize("spans", [[], [1], [0, 5, 0, 1], [2**64 - 1, 1], [0, 2**64 - 1, 1, 0], [-1, 0], [0, 0] * 5000])
def test_bad_spans(spans: list[int]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([12, [[HANDLE, spans]], [], []]))


@pytest.mark.parametrize(
    "listing",
    [
        [20, 1, b"\0\0\x10", b"", b"\5", b"", b"", 1],  # an element too many
        [0, 1, b"\x80", b"", b"\5", b"", b""],  # fragments without a width
        [65, 1, b"\0" * 9, b"", b"\5", b"", b""],
        [20, 10**9, b"\0\0\x10", b"", b"\5", b"", b""],  # a claim
        [20, 2, b"\0\0\x10", b"", b"\5\5", b"", b""],  # a fragment is missing
        [8, 1, b"\0\x80", b"", b"\x80\0", b"", b""],  # a number longer than needed
        [8, 1, b"\0\x80", b"", b"\xff" * 10, b"", b""],  # a number above 2^64-1
        [8, 1, b"\0\x80", b"", b"\x80", b"", b""],  # a number without an end
        [8, 1, b"\0\x80", b"\x40", b"\1", b"", b""],  # a run without its length
        [8, 1, b"\0\x80", b"\x80", b"\x41", b"\0\0" * 65, b""],  # more runs than there may be
        [8, 1, b"\0\x80", b"\xc0", b"\0", b"", b"short"],  # a hash is missing
        [8, 1, b"\0\x80", b"\xc0", b"\1", b"", b"h" * 8],  # a number that means nothing
        [8, 1, b"\0\x80", b"\x40", b"\1", b"\xff" * 9 + b"\1", b""],  # a run beyond 2^64-1
    ],
)
def test_bad_listings(listing: list[Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([3, 0, listing]))


def parcel(heads: bytes, seqs: bytes, dates: bytes, sizes: bytes, stopped: list[int]) -> bytes:
    return msgpack.packb([14, heads, seqs, dates, sizes, b"", 0, stopped])


@pytest.mark.parametrize(
    "frame",
    [
        parcel(b"\0\0\1", b"", b"\0", b"\0", []),
        parcel(b"\0\0", b"", b"", b"", []),
        parcel(b"\0\0\1", b"\0", b"\1", b"\0", []),  # before 1970
        parcel(b"\0\0\1", b"\0", b"\0", b"\xff" * 4 + b"\7", []),  # larger than any message
        parcel(b"\0\0\2", b"\xff" * 9 + b"\1\1", b"\0\0", b"\0\0", []),  # a seq beyond 2^64-1
        parcel(b"", b"", b"", b"", [1]),
        parcel(b"\0\0" + b"\xff\xff\x7f", b"\0" * (2**21 - 1), b"", b"", []),
    ],
)
def test_bad_parcels(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(frame)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_frames_in_pieces_of_any_size(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(frame) for frame in frames)
    decoder = FrameDecoder()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        decoder.feed(stream[:size])
        stream = stream[size:]
        while (frame := decoder.next_frame()) is not None:
            found.append(frame)
    assert found == frames
    assert decoder.at_boundary
    decoder.feed(b"\0")
    assert not decoder.at_boundary


def test_the_longest_frame_and_one_that_is_longer() -> None:
    decoder = FrameDecoder()
    decoder.feed(encode_frame(bytes(FRAME_BYTES_MAX)))
    assert decoder.next_frame() == bytes(FRAME_BYTES_MAX)
    with pytest.raises(LocalProtocolError):
        encode_frame(bytes(FRAME_BYTES_MAX + 1))
    decoder.feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError):
        decoder.next_frame()


def test_an_empty_frame_is_refused() -> None:
    decoder = FrameDecoder()
    decoder.feed(bytes(4))
    with pytest.raises(RemoteProtocolError):
        decoder.next_frame()


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), max_size=5))
def test_hints_come_back(states: dict[bytes, bytes]) -> None:
    logs = {handle: HintedLog.of("a topic", state) for handle, state in states.items()}
    hints = [decode_hint(data) for data in encode_hints(logs)]
    assert len(hints) == (1 if states else 0)
    for hint in hints:
        assert (dict(hint.logs), hint.overflow, hint.audience, hint.clock_s, list(hint.messages)) == (
            logs,
            False,
            frozenset(),
            0,
            [],
        )
        assert wanted(hint, None) == {handle: state[:8] for handle, state in states.items()}
        assert wanted(hint, Interest.of(["another", "a topic"])) == wanted(hint, None)
        assert wanted(hint, Interest.of(["another"])) == {}


def test_many_hints_are_split_and_too_many_collapse() -> None:
    logs = {digest_of(b"%d" % number)[:16]: HintedLog.of("topic", bytes(16)) for number in range(2000)}
    hints = encode_hints(logs)
    assert all(len(data) <= HINT_BYTES_MAX for data in hints)
    assert sum(len(decode_hint(data).logs) for data in hints) == 2000
    (much,) = [decode_hint(data) for data in encode_hints(logs, overflow=True)]
    assert much.overflow
    assert not much.logs


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=":\0"), min_size=1, max_size=20)
messages_of_hints = st.lists(
    st.builds(
        HintedMessage,
        st.builds(LogName, texts, texts),
        st.integers(0, SEQ_MAX),
        st.integers(0, 2**53),
        st.binary(max_size=200),
    ),
    max_size=HINT_MESSAGES_MAX,
)


@given(messages_of_hints, st.integers(0, 2**53), st.integers(0, 600))
def test_messages_come_with_their_hint(messages: list[HintedMessage], clock_s: int, others: int) -> None:
    assume(sum(content_bytes(one.name, one.blob) for one in messages) <= HINT_CONTENT_BYTES_MAX)
    logs = {handle_of(one.name): HintedLog.of(one.name.topic, bytes(8)) for one in messages}
    logs |= {digest_of(b"%d" % number)[:16]: HintedLog.of("topic", bytes(16)) for number in range(others)}
    encoded = encode_hints(logs, clock_s=clock_s, messages=messages, audience=[bytes([n]) * 32 for n in range(200)])
    hints = [decode_hint(data) for data in encoded]
    assert all(len(data) <= HINT_BYTES_MAX for data in encoded)
    assert sum(len(hint.logs) for hint in hints) == len(logs)
    assert {handle for hint in hints for handle in hint.logs} == logs.keys()
    assert [one for hint in hints for one in hint.messages] == messages
    if messages:
        assert hints[0].clock_s == clock_s
        assert not any(hint.messages or hint.clock_s for hint in hints[1:])


def test_the_largest_messages_leave_room_for_many_logs() -> None:
    name = LogName("t" * ID_BYTES_MAX, "l" * ID_BYTES_MAX)
    blob = bytes(HINT_CONTENT_BYTES_MAX - content_bytes(name, b""))
    logs = {digest_of(b"%d" % number)[:16]: HintedLog.of("topic", bytes(16)) for number in range(HINT_LOGS_MAX)}
    logs[handle_of(name)] = HintedLog.of(name.topic, bytes(16))
    ids = [digest_of(b"%d" % number) for number in range(HINT_AUDIENCE_MAX)]
    first, second = encode_hints(logs, audience=ids, clock_s=1, messages=[HintedMessage(name, SEQ_MAX, 2**53, blob)])
    assert max(len(first), len(second)) <= HINT_BYTES_MAX
    assert len(decode_hint(first).logs) > 200


def _hint_with(*rows: list[object]) -> bytes:
    packed: bytes = msgpack.packb([4, 0, handle_of(LogName("t", "l")), bytes(8), bytes(4), b"", 1, list(rows)])
    return packed


def test_messages_of_hints_that_are_refused() -> None:
    assert len(decode_hint(_hint_with(["t", "l", 0, 1, b"x"])).messages) == 1
    for wrong in (
        ["t", "other", 0, 1, b"x"],
        ["t", "l", -1, 1, b"x"],
        ["t", "l", 0, 2**53 + 1, b"x"],
        ["t", "l", 0, 1, "x"],
        ["t", "l", 0, 1, bytes(HINT_CONTENT_BYTES_MAX + 1)],
        ["t", "l", 0, 1],
        ["t" * (ID_BYTES_MAX + 1), "l", 0, 1, b"x"],
    ):
        with pytest.raises(RemoteProtocolError):
            decode_hint(_hint_with(wrong))
    with pytest.raises(RemoteProtocolError, match="overflow"):
        decode_hint(msgpack.packb([4, 1, handle_of(LogName("t", "l")), bytes(8), bytes(4), b"", 1, []]))
    with pytest.raises(RemoteProtocolError, match="not about"):
        decode_hint(msgpack.packb([4, 1, b"", b"", b"", b"", 1, [["t", "l", 0, 1, b"x"]]]))
    with pytest.raises(RemoteProtocolError, match="allowed"):
        decode_hint(_hint_with(*[["t", "l", seq, 1, b""] for seq in range(HINT_MESSAGES_MAX + 1)]))


def test_hints_of_another_version_or_too_long() -> None:
    with pytest.raises(RemoteProtocolError, match="version"):
        decode_hint(msgpack.packb([3, "anything"]))
    with pytest.raises(RemoteProtocolError):
        decode_hint(bytes(HINT_BYTES_MAX + 1))
    with pytest.raises(RemoteProtocolError):
        decode_hint(msgpack.packb([4, 0, b"b" * 16 + b"a" * 16, bytes(16), bytes(8), b"", 0, []]))
    with pytest.raises(RemoteProtocolError):
        decode_hint(msgpack.packb([4, 0, b"", b"", b"", b"abc", 0, []]))


def test_a_hint_names_whom_it_reaches_unless_they_are_too_many() -> None:
    ids = [digest_of(b"%d" % number) for number in range(HINT_AUDIENCE_MAX + 1)]
    logs = {digest_of(b"%d" % number)[:16]: HintedLog(bytes(8), bytes(4)) for number in range(HINT_LOGS_MAX)}
    (data,) = encode_hints(logs, audience=ids[1:])
    assert len(data) <= HINT_BYTES_MAX
    assert decode_hint(data).audience == {one[:SHORT_ID_BYTES] for one in ids[1:]}
    (data,) = encode_hints(logs, audience=ids)
    assert decode_hint(data).audience == frozenset()


@given(seed=st.integers(0, 2**32), at=st.integers(1, 30), kind=st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_a_session_in_which_one_frame_is_damaged(seed: int, at: int, kind: int) -> None:
    """A frame is replaced or damaged; both sides end with a clear error or in good order, and store only what is true
    (the world checks every digest)."""
    rng = random.Random(seed)
    one, other = small_pair(rng)

    def damage(count: int, frame: bytes) -> bytes:
        if count != at:
            return frame
        changed = bytearray(frame)
        if kind == 0:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[rng.randrange(len(changed)) :]
        elif kind == 2:
            changed = bytearray(encode(rng.choice(MESSAGES)))
        elif kind == 3:
            for _ in range(5):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        else:
            changed = changed + changed
        return bytes(changed) or b"\0"

    outcome = sync(one, other, on_frame=damage)
    for side in (outcome.initiator, outcome.responder):
        if side.error is not None and not isinstance(side.error, (RemoteProtocolError, SessionRefused, SessionAborted)):
            raise side.error


def small_pair(rng: random.Random) -> tuple[Box, Box]:
    one, other = Box(), Box()
    for log in range(rng.choice([2, 30])):
        for seq in range(rng.choice([1, 70])):
            for box in (one, other):
                if rng.random() < 0.9:
                    box.put(name_of(log), seq, b"%d" % seq)
    return one, other


def test_the_large_pairs_are_what_they_say() -> None:
    one, other = big_pair(1)
    assert one.alive(0) != other.alive(0)


def test_modes_have_their_numbers() -> None:
    assert (FP, LIST, DIFF, DIFFERS, NONE) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 200_000])
def test_data_is_packed_as_anything_else(size: int) -> None:
    data = bytes(size)
    for given_as in (data, memoryview(b"x" + data)[1:]):
        assert pack_around([1, b"2", [3]], given_as, [4, []]) == pack([1, b"2", [3], data, 4, []])
