"""Hints for gossip: "there is news in these logs". The spec is `hints.md`.

A hint names logs by handle, with the beginning of their state, so that whoever holds the same has nothing to do. It
makes a sync happen sooner and is never needed for one to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits import HANDLE_BYTES, HINT_BYTES_MAX, HINT_LOGS_MAX
from protocols.sync.wire import as_array, as_bytes, as_int, pack, unpack

__all__ = ["STATE_PREFIX_BYTES", "Hint", "decode_hint", "encode_hints"]

STATE_PREFIX_BYTES: Final = 8
"""Bytes of a log's state in a hint. Equal by chance once in 2^64; the next full sync would find it."""

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Hint:
    """`states` maps handles to the first STATE_PREFIX_BYTES of the publisher's state of the log. `overflow`: there is
    more news than is worth listing, so a full sync is in order."""

    states: Mapping[bytes, bytes] = field(default_factory=dict)
    overflow: bool = False


def encode_hints(states: Mapping[bytes, bytes], *, overflow: bool = False) -> list[bytes]:
    """As many announcements of at most HINT_BYTES_MAX as `states` (handle to state digest) needs; none for nothing."""
    if overflow:
        return [pack([_VERSION, 1, b"", b""])]
    handles = sorted(states)
    parts = [handles[start : start + HINT_LOGS_MAX] for start in range(0, len(handles), HINT_LOGS_MAX)]
    return [
        pack([_VERSION, 0, b"".join(part), b"".join([states[handle][:STATE_PREFIX_BYTES] for handle in part])])
        for part in parts
    ]


def decode_hint(data: bytes) -> Hint:
    """The hint in an announcement. Raises RemoteProtocolError."""
    if len(data) > HINT_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a hint of {len(data)} bytes")
    fields = unpack(data)
    if not fields or as_int(fields[0], "version", maximum=255) != _VERSION:
        raise RemoteProtocolError("version", "a hint of a version that we don't know")
    _, overflow, handles, prefixes = as_array(fields, "hint", length=4)
    handles = as_bytes(handles, "handles", length_max=HINT_LOGS_MAX * HANDLE_BYTES)
    if len(handles) % HANDLE_BYTES:
        raise RemoteProtocolError("malformed", "handles of a wrong length")
    count = len(handles) // HANDLE_BYTES
    prefixes = as_bytes(prefixes, "states", length=count * STATE_PREFIX_BYTES)
    split = [handles[at * HANDLE_BYTES : (at + 1) * HANDLE_BYTES] for at in range(count)]
    if any(one >= other for one, other in pairwise(split)):
        raise RemoteProtocolError("order", "handles are not strictly ascending")
    states = {
        handle: prefixes[at * STATE_PREFIX_BYTES : (at + 1) * STATE_PREFIX_BYTES] for at, handle in enumerate(split)
    }
    return Hint(states, as_int(overflow, "overflow", maximum=1) == 1)
