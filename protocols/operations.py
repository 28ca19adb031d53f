"""The app's messages as signed p2panda operations: who wrote a blob, and whether that is proven.

A mailbox can't read a message, but the app wraps each in an operation whose header names its author, position and
payload, and is signed. `operations.md` has the layout and what exactly is checked. A blob that is no such operation is
as welcome as ever; it only gives way, for one and the same key, to one that is (see `node.store`).

    blob    {"header": header, "body": payload or null}
    header  [1, author, signature, payload size, payload hash?, time?, seq, backlink?, previous?, extensions?]

The reader is a strict one of its own: the signature covers the header's bytes as they stand, without the signature, so
what counts is where each field begins and ends. Everything has one spelling only (lengths in their shortest form, no
indefinite ones, nothing behind the end), so that nobody can make a second genuine blob from another one's operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from protocols.limits.data import OPERATION_DEPTH_MAX, OPERATION_FIELDS_MAX, OPERATION_HEADER_BYTES_MAX
from protocols.model import LogName

__all__ = ["NotGenuine", "Operation", "check_operation", "is_genuine", "may_be_genuine", "read_operation"]

_VERSION: Final = 1
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_HASH_BYTES: Final = 32

_KEY_NAME: Final = re.compile(r"[0-9a-f]{64}")

_UINT, _BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE = 0, 2, 3, 4, 5, 7
_START: Final = b"\xa2\x66header"
_BODY: Final = b"\x64body"
_NULL: Final = 0xF6


class NotGenuine(Exception):
    """A blob is no operation, or one that proves nothing for the key it stands under. The message says why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a blob says of itself; nothing of it is proven. `signed` are the bytes that the signature is over, `topic`
    the topic that the extensions name, if they name one."""

    author: bytes
    signature: bytes
    signed: bytes
    seq: int
    payload_hash: bytes | None
    payload: bytes | None
    topic: bytes | None


def may_be_genuine(name: LogName) -> bool:
    """Whether the log is named by a key at all, in the one spelling that counts."""
    return _KEY_NAME.fullmatch(name.log) is not None


def is_genuine(name: LogName, seq: int, blob: bytes) -> bool:
    """Whether `blob` is an operation that its author signed for exactly this log and position."""
    try:
        check_operation(name, seq, blob)
    except NotGenuine:
        return False
    return True


def check_operation(name: LogName, seq: int, blob: bytes) -> None:
    """Raises NotGenuine unless `is_genuine`. What costs most comes last: a mismatch costs microseconds."""
    if not may_be_genuine(name):
        raise NotGenuine("the log is not named by its author's key")
    operation = read_operation(blob)
    if operation.author.hex() != name.log:
        raise NotGenuine("the author is not the one that the log is named by")
    if operation.seq != seq:
        raise NotGenuine(f"the operation's own sequence number is {operation.seq}")
    if operation.topic is not None and operation.topic.hex() != name.topic:
        raise NotGenuine("the operation belongs to another topic")
    if operation.payload is not None and blake3(operation.payload).digest() != operation.payload_hash:
        raise NotGenuine("the payload is not the one that was signed")
    try:
        VerifyKey(operation.author).verify(operation.signed, operation.signature)
    except (CryptoError, ValueError):
        raise NotGenuine("the signature does not hold") from None


def read_operation(blob: bytes) -> Operation:
    """Reads a blob as an operation. Raises NotGenuine."""
    if not blob.startswith(_START):
        raise NotGenuine("it is not an operation")
    reader = _Reader(blob, len(_START))
    major, size = reader.head()
    if major == _BYTES:
        header = reader.take(size)
    elif major == _ARRAY:
        start = len(_START)
        reader.skip_fields(size)
        header = blob[start : reader.at]
    else:
        raise NotGenuine("its header is neither a list nor bytes")
    if reader.take(len(_BODY)) != _BODY:
        raise NotGenuine("it has no body field where one belongs")
    payload = _payload(reader)
    if reader.at != len(blob):
        raise NotGenuine("something follows the operation")
    return _read_header(header, payload, is_inline=major == _ARRAY)


def _payload(reader: _Reader) -> bytes | None:
    if reader.peek() == _NULL:
        reader.take(1)
        return None
    return reader.bytes_field("body", None)


def _read_header(header: bytes, payload: bytes | None, *, is_inline: bool) -> Operation:
    if len(header) > OPERATION_HEADER_BYTES_MAX:
        raise NotGenuine("its header is too long")
    reader = _Reader(header, 0)
    major, fields = reader.head()
    if major != _ARRAY:
        raise NotGenuine("its header is not a list")
    fields_at = reader.at
    if reader.uint("version") != _VERSION:
        raise NotGenuine("it is of an unknown version")
    author = reader.bytes_field("author", _KEY_BYTES)
    signature_at = reader.at
    signature = reader.bytes_field("signature", _SIGNATURE_BYTES)
    rest_at = reader.at
    payload_size = reader.uint("payload size")
    payload_hash = reader.bytes_field("payload hash", _HASH_BYTES) if payload_size else None
    # Its absence would be another spelling of the same operation, and one that is worth nothing to anybody.
    if payload_size != (0 if payload is None else len(payload)) or (payload is not None and not payload):
        raise NotGenuine("the payload's size is not the one that was signed")
    seq = reader.uint("sequence number")
    is_dated = reader.peek() >> 5 == _UINT if reader.at < len(header) else False
    if is_dated:  # the older generation has a time before the sequence number
        seq = reader.uint("sequence number")
    if is_dated != is_inline:  # each generation in the form that it is sent in, or one could be made from the other
        raise NotGenuine("its header is in the form of another generation")
    if seq:
        reader.bytes_field("backlink", _HASH_BYTES)
    done = 5 + bool(payload_size) + is_dated + bool(seq)
    topic = None
    if not 0 <= fields - done <= (2 if is_dated else 1):
        raise NotGenuine("its header has too few or too many fields")
    for _ in range(fields - done):
        topic = _topic(reader) or topic
    if reader.at != len(header):
        raise NotGenuine("something follows its header")
    signed = _array_head(fields - 1) + header[fields_at:signature_at] + header[rest_at:]
    return Operation(author, signature, signed, seq, payload_hash, payload, topic)


def _array_head(count: int) -> bytes:
    # There are 12 fields at the most, so the head is one byte.
    return bytes([_ARRAY << 5 | count])


def _topic(reader: _Reader) -> bytes | None:
    """Reads a field; the topic in it if it is a map that names one, as 32 bytes or as a list of 32 numbers."""
    start = reader.at
    major, count = reader.head()
    if major != _MAP:
        reader.at = start
        reader.skip_fields(1)
        return None
    topic = None
    for _ in range(count):
        key_at = reader.at
        reader.skip_fields(1)
        if reader.since(key_at) != b"\x65topic":
            reader.skip_fields(1)
        else:
            topic = reader.id_field()
    return topic


class _Reader:
    """Reads CBOR (RFC 8949) item by item. Everything raises NotGenuine."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def since(self, start: int) -> bytes:
        """The bytes from `start` to here."""
        return self._data[start : self.at]

    def peek(self) -> int:
        """The next byte."""
        if self.at >= len(self._data):
            raise NotGenuine("it ends too early")
        return self._data[self.at]

    def take(self, size: int) -> bytes:
        """The next `size` bytes; a claim costs nothing before they are there."""
        taken = self._data[self.at : self.at + size]
        if len(taken) != size:
            raise NotGenuine("it ends too early")
        self.at += size
        return taken

    def head(self) -> tuple[int, int]:
        """The next item's major type and its number: value, length, or count."""
        first = self.peek()
        self.at += 1
        major, short = first >> 5, first & 31
        if short < 24:
            return major, short
        if short > 27:
            raise NotGenuine("it has an item of indefinite or unknown length")
        size = 1 << (short - 24)
        number = int.from_bytes(self.take(size))
        if major != _SIMPLE and number < (24 if size == 1 else 1 << (4 * size)):
            raise NotGenuine("a length or number in it is not in its shortest form")
        return major, number

    def uint(self, what: str) -> int:
        """A whole number."""
        major, number = self.head()
        if major != _UINT:
            raise NotGenuine(f"its {what} is not a number")
        return number

    def bytes_field(self, what: str, size: int | None) -> bytes:
        """Bytes, `size` of them unless that is None."""
        major, length = self.head()
        if major != _BYTES or size not in (None, length):
            raise NotGenuine(f"its {what} is not bytes of the right length")
        return self.take(length)

    def id_field(self) -> bytes | None:
        """A topic's id: 32 bytes, or a list of 32 numbers. None for anything else."""
        start = self.at
        major, count = self.head()
        if major == _BYTES and count == _KEY_BYTES:
            return self.take(count)
        if major == _ARRAY and count == _KEY_BYTES:
            numbers = [self.head() for _ in range(count)]
            if all(kind == _UINT and number < 256 for kind, number in numbers):
                return bytes(number for _, number in numbers)
        self.at = start
        self.skip_fields(1)
        return None

    def skip_fields(self, count: int) -> None:
        """Passes over `count` items and all that is in them, without recursion and within bounds."""
        open_items = [count]
        for _ in self._steps():
            while open_items and not open_items[-1]:
                open_items.pop()
            if not open_items:
                return
            open_items[-1] -= 1
            major, number = self.head()
            if major in (_BYTES, _TEXT):
                self.take(number)
            elif major in (_ARRAY, _MAP):
                open_items.append(number * (2 if major == _MAP else 1))
            elif major == 6:  # a tag: one item belongs to it
                open_items.append(1)
            if len(open_items) > OPERATION_DEPTH_MAX:
                raise NotGenuine("it is nested too deeply")

    def _steps(self) -> Iterator[None]:
        for _ in range(OPERATION_FIELDS_MAX):
            yield None
        raise NotGenuine("its header has too many items")
