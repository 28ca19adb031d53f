"""Whatever bytes come, decoders and sessions raise RemoteProtocolError and nothing else, at a cost that is bounded."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress
from dataclasses import fields
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits import CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HINT_BYTES_MAX, SEQ_MAX
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.effects import SessionAborted
from protocols.sync.hints import Hint, decode_hint, encode_hints
from protocols.sync.messages import (
    Ask,
    AskedLog,
    Blobs,
    Done,
    Hello,
    Refuse,
    Tell,
    ToldLog,
    Transfer,
    TransferLog,
    Want,
)
from protocols.sync.reconcile import DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.session import SessionRefused
from protocols.sync.wire import FrameDecoder, encode_frame, unpack
from tests.protocols.sync.test_properties import big_pair
from tests.protocols.sync.world import Box, name_of, sync

NAME = LogName("t" * 64, "l")
HANDLE = handle_of(NAME)
ITEMS = [Item(0, digest_of(b"a"), 3600, 1), Item(0, b"\xff" * 32, 7200, 2), Item(SEQ_MAX, digest_of(b"c"), 0, 0)]
LOWER, MIDDLE = bytes(16), b"\x80" + bytes(15)
RANGES = [
    Range(LOWER, MIDDLE, FP, b"f" * 8),
    Range(MIDDLE, b"\x90" + bytes(15), LIST, hashes=(b"h" * 8, b"a" * 8)),
    Range(b"\x91" + bytes(14) + b"\1", None, LIST),
]
BLOCKS = [Range(bytes(8), b"\0" * 7 + b"\1", NONE), Range(b"\0" * 7 + b"\1", None, DIFF, hashes=(b"h" * 8,))]
MESSAGES = [
    Hello(1, 1, "main", 1_800_000_000, 604800, 1_799_000_000, "mailboxd/1", b"s" * 16, encode(Ask(RANGES))),
    Refuse("clock", "set it"),
    Ask(RANGES, [AskedLog(HANDLE, BLOCKS)], [b"a" * 8, b"b" * 8]),
    Ask(),
    Tell(RANGES, [ToldLog(HANDLE, NAME, BLOCKS, ITEMS, False, SEQ_MAX - 1), ToldLog(b"\xff" * 16, None, [], [])], True),
    Transfer([TransferLog(HANDLE, ITEMS, NAME, 7)], [TransferLog(HANDLE, ITEMS)], []),
    Want(b"\x05", [(0, 3600), (2, 0)]),
    Blobs(b"data" * 1000, [0, 5], False),
    Done(False, True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were(message: Any) -> None:
    again = decode(encode(message))
    assert type(again) is type(message)
    for field in fields(message):
        value, was = getattr(again, field.name), getattr(message, field.name)
        assert value == (list(was) if isinstance(was, tuple) else was)


def test_a_fetch_carries_only_keys() -> None:
    fetch = decode(encode(Transfer([], [], [TransferLog(HANDLE, ITEMS)])))
    assert isinstance(fetch, Transfer)
    assert [(item.seq, item.digest) for item in fetch.fetch[0].items] == [(item.seq, item.digest) for item in ITEMS]


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


@given(st.integers(0, 9), st.lists(values, max_size=10))
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
        decode(msgpack.packb([8, value, 0]))


def test_deep_nesting_is_refused() -> None:
    for depth in (10, 600, 60_000):
        with pytest.raises(RemoteProtocolError):
            decode(b"\x93\x08" + b"\x91" * depth + b"\x01\x00")


def test_claims_cost_nothing() -> None:
    tracemalloc.start()
    for claim in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(RemoteProtocolError):
            decode(b"\x93\x08" + claim + b"\x00")
    frames = FrameDecoder()
    frames.feed(b"\xff\xff\xff\xff")
    with pytest.raises(RemoteProtocolError, match="4294967295"):
        frames.next_frame()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 200_000


def test_only_message_data_may_be_long() -> None:
    long = msgpack.packb([3, [], [], b"x" * CONTROL_FRAME_BYTES_MAX])
    with pytest.raises(RemoteProtocolError, match="control frame"):
        decode(long)
    assert isinstance(decode(encode(Blobs(b"x" * (FRAME_BYTES_MAX - 1000)))), Blobs)
    with pytest.raises(LocalProtocolError):
        encode(Blobs(b"x" * FRAME_BYTES_MAX))


def packed_ranges(*fields: Any) -> bytes:
    return msgpack.packb([3, list(fields), [], b""])


@pytest.mark.parametrize(
    "fields",
    [
        (1, b"\x20\x10", b"\1\1\1", b"f" * 24, [], b""),  # unsorted
        (1, b"\x20\x20", b"\1\1\1", b"f" * 24, [], b""),  # an empty range
        (1, b"\x00", b"\1\1", b"f" * 16, [], b""),  # an empty first range
        (1, b"\x20", b"\1\1\1", b"f" * 24, [], b""),  # a bound is missing
        (17, b"\x20" * 17, b"\1\1", b"f" * 16, [], b""),  # a bound longer than a key
        (1, b"\x20", b"\1\1", b"f" * 8, [], b""),  # a fingerprint is missing
        (1, b"\x20", b"\1\6", b"f" * 8, [], b""),  # an unknown mode
        (0, b"", b"\2", b"", [2], b"a" * 16),  # a hash twice
        (0, b"", b"\2", b"", [2], b"a" * 8),  # a hash is missing
        (0, b"", b"\2", b"", [], b""),  # a count is missing
        (0, b"", b"", b"", [], b""),  # no range at all
        (0, b"", b"\2", b"", [4097], b"a" * 8),
        (2, b"".join(number.to_bytes(2, "big") for number in range(1, 600)), b"\0" * 600, b"", [], b""),
    ],
)
def test_bad_ranges(fields: tuple[Any, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(packed_ranges(*fields))


def told(items: list[Any]) -> bytes:
    return msgpack.packb([4, [], [[HANDLE, NAME.topic, NAME.log, 0, [], *items, 1]], 0])


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


@pytest.mark.parametrize("name", [("t", "x"), ("", "l"), ("t:", "l"), ("t" * 64, "l\0"), ("t" * 257, "l")])
def test_a_name_must_belong_to_its_handle(name: tuple[str, str]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([4, [], [[HANDLE, *name, 0, [], [], b"", [], [], 1]], 0]))


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


def test_an_empty_frame_is_refused() -> None:
    decoder = FrameDecoder()
    decoder.feed(bytes(4))
    with pytest.raises(RemoteProtocolError):
        decoder.next_frame()


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), max_size=5))
def test_hints_come_back(states: dict[bytes, bytes]) -> None:
    hints = [decode_hint(data) for data in encode_hints(states)]
    assert len(hints) == (1 if states else 0)
    for hint in hints:
        assert hint == Hint({handle: state[:8] for handle, state in states.items()})


def test_many_hints_are_split_and_too_many_collapse() -> None:
    states = {digest_of(b"%d" % number)[:16]: bytes(16) for number in range(2000)}
    hints = encode_hints(states)
    assert all(len(data) <= HINT_BYTES_MAX for data in hints)
    assert sum(len(decode_hint(data).states) for data in hints) == 2000
    assert [decode_hint(data) for data in encode_hints(states, overflow=True)] == [Hint({}, overflow=True)]


def test_hints_of_another_version_or_too_long() -> None:
    with pytest.raises(RemoteProtocolError, match="version"):
        decode_hint(msgpack.packb([2, "anything"]))
    with pytest.raises(RemoteProtocolError):
        decode_hint(bytes(HINT_BYTES_MAX + 1))
    with pytest.raises(RemoteProtocolError):
        decode_hint(msgpack.packb([1, 0, b"b" * 16 + b"a" * 16, bytes(16)]))


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
