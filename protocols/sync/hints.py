"""Hints for gossip: "there is news in these logs". The spec is `hints.md`.

A hint names logs by handle, with the beginning of their state, so that whoever holds the same has nothing to do, and of
their topic's hash, so that whoever keeps other topics has neither. Small messages come with it. It makes a sync happen
sooner, or needless, and is never needed for one to be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES, SEQ_MAX
from protocols.limits.sync import (
    HINT_AUDIENCE_MAX,
    HINT_BYTES_MAX,
    HINT_CONTENT_BYTES_MAX,
    HINT_LOGS_MAX,
    HINT_MESSAGES_MAX,
)
from protocols.model import LogName, handle_of, topic_hash_of
from protocols.sync.fields import TIME_MAX_S, read_id
from protocols.sync.interest import Interest
from protocols.sync.wire import as_array, as_bytes, as_int, pack, unpack

__all__ = [
    "SHORT_ID_BYTES",
    "STATE_PREFIX_BYTES",
    "TOPIC_PREFIX_BYTES",
    "Hint",
    "HintedLog",
    "HintedMessage",
    "content_bytes",
    "decode_hint",
    "encode_hints",
    "wanted",
]

STATE_PREFIX_BYTES: Final = 8
"""Bytes of a log's state in a hint. Equal by chance once in 2^64; the next full sync would find it."""

TOPIC_PREFIX_BYTES: Final = 4
"""Bytes of a topic's hash in a hint: one in 2^20 of other topics' hints is followed in vain by whoever keeps 4,000."""

SHORT_ID_BYTES: Final = 4
"""Bytes of a mailbox id in a hint. Two ids that begin alike cost a mailbox one hint at worst."""

_VERSION: Final = 4

_MESSAGE_BYTES: Final = 40
"""What lies around a message's names and its blob, and more."""

_LOG_BYTES: Final = HANDLE_BYTES + STATE_PREFIX_BYTES + TOPIC_PREFIX_BYTES

_REST_BYTES: Final = SHORT_ID_BYTES * HINT_AUDIENCE_MAX + 64
"""What a hint has beside its logs and its messages, and more."""


class HintedLog(NamedTuple):
    """The beginnings of a log's state (STATE_PREFIX_BYTES) and of its topic's hash (TOPIC_PREFIX_BYTES)."""

    state: bytes
    topic: bytes

    @classmethod
    def of(cls, topic: str, state: bytes) -> HintedLog:
        """That of a log of `topic` in this whole state."""
        return cls(state[:STATE_PREFIX_BYTES], topic_hash_of(topic)[:TOPIC_PREFIX_BYTES])


class HintedMessage(NamedTuple):
    """A message that comes with its hint. `first_stored_s` is the publisher's."""

    name: LogName
    seq: int
    first_stored_s: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Hint:
    """`logs` are those that have changed, by handle. `overflow`: there is more news than is worth listing, so a full
    sync is in order. `audience` are the beginnings of the ids of those with whom the publisher is connected: they need
    not be told again. `messages` are some of those that are new, all of `logs`, and `clock_s` the publisher's clock
    (Unix seconds; 0 where no message comes along)."""

    logs: Mapping[bytes, HintedLog] = field(default_factory=dict)
    overflow: bool = False
    audience: frozenset[bytes] = frozenset()
    clock_s: int = 0
    messages: Sequence[HintedMessage] = ()


def content_bytes(name: LogName, blob: bytes) -> int:
    """What a message adds to a hint, or a little more. HINT_CONTENT_BYTES_MAX is the most for all messages of one."""
    return len(name.topic.encode()) + len(name.log.encode()) + len(blob) + _MESSAGE_BYTES


def encode_hints(
    logs: Mapping[bytes, HintedLog],
    *,
    overflow: bool = False,
    audience: Iterable[bytes] = (),
    clock_s: int = 0,
    messages: Sequence[HintedMessage] = (),
) -> list[bytes]:
    """As many announcements of at most HINT_BYTES_MAX as `logs` (by handle) need; none for nothing. `audience` are
    public keys; of more than HINT_AUDIENCE_MAX none is told. All `messages` come with the first announcement: they are
    HINT_MESSAGES_MAX at the most, of HINT_CONTENT_BYTES_MAX, and of `logs`."""
    short = sorted({one[:SHORT_ID_BYTES] for one in audience})
    told = b"".join(short) if len(short) <= HINT_AUDIENCE_MAX else b""
    if overflow:
        return [_pack(logs, (), told, 0, (), overflow=True)]
    if not messages:
        return [_pack(logs, part, told, 0, ()) for part in _parts(sorted(logs))]
    theirs = {handle_of(one.name) for one in messages}
    room_bytes = HINT_BYTES_MAX - _REST_BYTES - sum(content_bytes(one.name, one.blob) for one in messages)
    others = sorted(logs.keys() - theirs)
    beside = max(0, min(room_bytes // _LOG_BYTES, HINT_LOGS_MAX) - len(theirs))
    first = _pack(logs, sorted([*theirs, *others[:beside]]), told, clock_s, messages)
    return [first, *(_pack(logs, part, told, 0, ()) for part in _parts(others[beside:]))]


def _parts(handles: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(handles), HINT_LOGS_MAX):
        yield handles[start : start + HINT_LOGS_MAX]


def _pack(
    logs: Mapping[bytes, HintedLog],
    handles: Sequence[bytes],
    told: bytes,
    clock_s: int,
    messages: Sequence[HintedMessage],
    *,
    overflow: bool = False,
) -> bytes:
    some = [logs[handle] for handle in handles]
    states, topics = b"".join([log.state for log in some]), b"".join([log.topic for log in some])
    rows = [[name.topic, name.log, seq, first_stored_s, blob] for name, seq, first_stored_s, blob in messages]
    return pack([_VERSION, int(overflow), b"".join(handles), states, topics, told, clock_s, rows])


def decode_hint(data: bytes) -> Hint:
    """The hint in an announcement. Raises RemoteProtocolError."""
    if len(data) > HINT_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a hint of {len(data)} bytes")
    fields = unpack(data)
    if not fields or as_int(fields[0], "version", maximum=255) != _VERSION:
        raise RemoteProtocolError("version", "a hint of a version that we don't know")
    _, overflow, packed, states, topics, audience, clock_s, messages = as_array(fields, "hint", length=8)
    packed = as_bytes(packed, "handles", length_max=HINT_LOGS_MAX * HANDLE_BYTES)
    if len(packed) % HANDLE_BYTES:
        raise RemoteProtocolError("malformed", "handles of a wrong length")
    handles = _split(packed, HANDLE_BYTES)
    if any(one >= other for one, other in pairwise(handles)):
        raise RemoteProtocolError("order", "handles are not strictly ascending")
    columns = (
        _split(as_bytes(states, "states", length=len(handles) * STATE_PREFIX_BYTES), STATE_PREFIX_BYTES),
        _split(as_bytes(topics, "topics", length=len(handles) * TOPIC_PREFIX_BYTES), TOPIC_PREFIX_BYTES),
    )
    logs = dict(zip(handles, map(HintedLog, *columns), strict=True))
    near = as_bytes(audience, "audience", length_max=HINT_AUDIENCE_MAX * SHORT_ID_BYTES)
    if len(near) % SHORT_ID_BYTES:
        raise RemoteProtocolError("malformed", "ids of a wrong length")
    is_overflow = as_int(overflow, "overflow", maximum=1) == 1
    if is_overflow and logs:
        raise RemoteProtocolError("malformed", "an overflow that lists logs")
    return Hint(
        logs,
        is_overflow,
        frozenset(_split(near, SHORT_ID_BYTES)),
        as_int(clock_s, "clock", maximum=TIME_MAX_S),
        _messages(messages, logs),
    )


def _messages(rows: Any, logs: Mapping[bytes, HintedLog]) -> list[HintedMessage]:
    messages: list[HintedMessage] = []
    for row in as_array(rows, "messages", length_max=HINT_MESSAGES_MAX):
        topic, log, seq, first_stored_s, blob = as_array(row, "message", length=5)
        name = LogName(read_id(topic, "topic"), read_id(log, "log"))
        if handle_of(name) not in logs:
            raise RemoteProtocolError("unrequested", "a message of a log that the hint is not about")
        seq = as_int(seq, "seq", maximum=SEQ_MAX)
        stored_s = as_int(first_stored_s, "first stored", maximum=TIME_MAX_S)
        messages.append(HintedMessage(name, seq, stored_s, as_bytes(blob, "blob", length_max=HINT_CONTENT_BYTES_MAX)))
    return messages


def wanted(hint: Hint, interest: Interest | None) -> dict[bytes, bytes]:
    """The logs of a hint (handle to state) that may be of a topic that we keep."""
    if interest is None:
        return {handle: log.state for handle, log in hint.logs.items()}
    topics = {topic[:TOPIC_PREFIX_BYTES] for topic in interest.hashes}
    return {handle: log.state for handle, log in hint.logs.items() if log.topic in topics}


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]
