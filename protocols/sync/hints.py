"""Hints for gossip: "there is news in these logs". The spec is `hints.md`.

A hint names logs by handle, with the beginning of their state, so that whoever holds the same has nothing to do, and of
their topic's hash, so that whoever keeps other topics has neither. It makes a sync happen sooner and is never needed
for one to be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES
from protocols.limits.sync import HINT_AUDIENCE_MAX, HINT_BYTES_MAX, HINT_LOGS_MAX
from protocols.model import topic_hash_of
from protocols.sync.interest import Interest
from protocols.sync.wire import as_array, as_bytes, as_int, pack, unpack

__all__ = [
    "SHORT_ID_BYTES",
    "STATE_PREFIX_BYTES",
    "TOPIC_PREFIX_BYTES",
    "Hint",
    "HintedLog",
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

_VERSION: Final = 3


class HintedLog(NamedTuple):
    """The beginnings of a log's state (STATE_PREFIX_BYTES) and of its topic's hash (TOPIC_PREFIX_BYTES)."""

    state: bytes
    topic: bytes

    @classmethod
    def of(cls, topic: str, state: bytes) -> HintedLog:
        """That of a log of `topic` in this whole state."""
        return cls(state[:STATE_PREFIX_BYTES], topic_hash_of(topic)[:TOPIC_PREFIX_BYTES])


@dataclass(frozen=True, slots=True)
class Hint:
    """`logs` are those that have changed, by handle. `overflow`: there is more news than is worth listing, so a full
    sync is in order. `audience` are the beginnings of the ids of those with whom the publisher is connected: they need
    not be told again."""

    logs: Mapping[bytes, HintedLog] = field(default_factory=dict)
    overflow: bool = False
    audience: frozenset[bytes] = frozenset()


def encode_hints(
    logs: Mapping[bytes, HintedLog], *, overflow: bool = False, audience: Iterable[bytes] = ()
) -> list[bytes]:
    """As many announcements of at most HINT_BYTES_MAX as `logs` (by handle) need; none for nothing. `audience` are
    public keys; of more than HINT_AUDIENCE_MAX none is told."""
    short = sorted({one[:SHORT_ID_BYTES] for one in audience})
    told = b"".join(short) if len(short) <= HINT_AUDIENCE_MAX else b""
    if overflow:
        return [pack([_VERSION, 1, b"", b"", b"", told])]
    handles = sorted(logs)
    parts = [handles[start : start + HINT_LOGS_MAX] for start in range(0, len(handles), HINT_LOGS_MAX)]
    return [
        pack(
            [
                _VERSION,
                0,
                b"".join(part),
                *(b"".join(column) for column in zip(*map(logs.get, part), strict=True)),
                told,
            ]
        )
        for part in parts
    ]


def decode_hint(data: bytes) -> Hint:
    """The hint in an announcement. Raises RemoteProtocolError."""
    if len(data) > HINT_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a hint of {len(data)} bytes")
    fields = unpack(data)
    if not fields or as_int(fields[0], "version", maximum=255) != _VERSION:
        raise RemoteProtocolError("version", "a hint of a version that we don't know")
    _, overflow, packed, states, topics, audience = as_array(fields, "hint", length=6)
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
    return Hint(logs, as_int(overflow, "overflow", maximum=1) == 1, frozenset(_split(near, SHORT_ID_BYTES)))


def wanted(hint: Hint, interest: Interest | None) -> dict[bytes, bytes]:
    """The logs of a hint (handle to state) that may be of a topic that we keep."""
    if interest is None:
        return {handle: log.state for handle, log in hint.logs.items()}
    topics = {topic[:TOPIC_PREFIX_BYTES] for topic in interest.hashes}
    return {handle: log.state for handle, log in hint.logs.items() if log.topic in topics}


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]
