"""The blobs of one fetch or offer as a stream of frames: one after the other, cut wherever a frame is full.

Both sides know which items were asked for and how long each is, so the stream needs no headers. An item that is no
longer there is named as gone before its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits import BATCH_ITEMS_MAX, FRAME_BYTES_MAX, KIB, MIB
from protocols.model import Item, LogName, digest_of
from protocols.sync.codec import encode
from protocols.sync.common import Steps, receive
from protocols.sync.effects import ReadBlobs, Send
from protocols.sync.messages import Blobs

__all__ = ["receive_blobs", "send_blobs"]

_FRAME_DATA_BYTES: Final = FRAME_BYTES_MAX - 8 * KIB
"""Leaves room for the indices of what is gone."""

_READ_BYTES: Final = MIB
"""Blob bytes read from the store at a time, unless a single one is larger."""

assert 4 * BATCH_ITEMS_MAX < 8 * KIB


def send_blobs(wanted: Sequence[tuple[LogName, Item]]) -> Steps[tuple[int, int]]:
    """Sends the blobs of `wanted`; returns how many messages and bytes they were."""
    pending = bytearray()
    gone: list[int] = []
    sent = sent_bytes = index = 0
    for name, items in _portions(wanted):
        blobs: Sequence[bytes | None] = yield ReadBlobs(name, [(item.seq, item.digest) for item in items])
        for item, blob in zip(items, blobs, strict=True):
            if blob is None or len(blob) != item.size:
                gone.append(index)
            else:
                pending += blob
                sent, sent_bytes = sent + 1, sent_bytes + item.size
            index += 1
        del blobs
        start = 0
        while len(pending) - start > _FRAME_DATA_BYTES:
            data = bytes(memoryview(pending)[start : start + _FRAME_DATA_BYTES])
            yield Send(encode(Blobs(data, gone, last=False)))
            start, gone = start + _FRAME_DATA_BYTES, []
        if start:
            del pending[:start]
    yield Send(encode(Blobs(bytes(pending), gone, last=True)))
    return sent, sent_bytes


def _portions(wanted: Sequence[tuple[LogName, Item]]) -> Iterator[tuple[LogName, list[Item]]]:
    """`wanted` in portions of one log and about _READ_BYTES."""
    portion: list[Item] = []
    portion_bytes = 0
    current: LogName | None = None
    for name, item in wanted:
        if current is not None and (name != current or portion_bytes + item.size > _READ_BYTES) and portion:
            yield current, portion
            portion, portion_bytes = [], 0
        current = name
        portion.append(item)
        portion_bytes += item.size
    if current is not None and portion:
        yield current, portion


def receive_blobs(wanted: Sequence[Item]) -> Steps[list[bytes | None]]:
    """Receives the blobs of `wanted`, None for those that are gone. Every digest has been verified.

    Raises RemoteProtocolError: "digest", "unrequested" (more than was asked for), "missing" (less), "empty".
    """
    blobs: list[bytes | None] = []
    gone: set[int] = set()
    pending = bytearray()
    expected_bytes = sum(item.size for item in wanted)
    received_bytes = 0
    while True:
        message = yield from receive(Blobs)
        _note_gone(message, gone, len(blobs), len(wanted), partial=bool(pending))
        received_bytes += len(message.data)
        if received_bytes > expected_bytes:
            raise RemoteProtocolError("unrequested", "more message bytes than were asked for")
        if not (message.data or message.gone or message.last):
            raise RemoteProtocolError("empty", "a frame of messages that holds nothing")
        pending += message.data
        _take(pending, wanted, gone, blobs)
        if message.last:
            break
    if len(blobs) != len(wanted):
        raise RemoteProtocolError("missing", "messages were promised and not sent")
    if pending:
        raise RemoteProtocolError("unrequested", "message bytes that belong to nothing asked for")
    return blobs


def _note_gone(message: Blobs, gone: set[int], done: int, count: int, *, partial: bool) -> None:
    for index in message.gone:
        if not done + partial <= index < count or index in gone:
            raise RemoteProtocolError("gone", "a message is gone that was sent, was gone before, or was not asked for")
        gone.add(index)


def _take(pending: bytearray, wanted: Sequence[Item], gone: set[int], blobs: list[bytes | None]) -> None:
    """Moves all complete blobs from `pending` to `blobs`."""
    start = 0
    while len(blobs) < len(wanted):
        if len(blobs) in gone:
            blobs.append(None)
            continue
        item = wanted[len(blobs)]
        if len(pending) - start < item.size:
            break
        blob = bytes(memoryview(pending)[start : start + item.size])
        if digest_of(blob) != item.digest:
            raise RemoteProtocolError("digest", "a message whose content is not what was announced")
        blobs.append(blob)
        start += item.size
    if start:
        del pending[:start]
