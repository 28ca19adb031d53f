"""A sealed file: records in a fixed order, each signed by the one who made the file, so that a torn copy is good as
far as it goes.

Every signature covers everything from the beginning of the file up to it (a chain of BLAKE3). So nothing can be
changed, left out, put in or moved without being noticed, whoever reads needs one record at a time, and a file that ends
too early is known to be whole up to its last complete record.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import nacl.exceptions
import nacl.signing
from blake3 import blake3

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.discovery import NETWORK_TAG_CHARS_MAX
from protocols.limits.sync import (
    PEER_TEXT_BYTES_MAX,
    SEALED_DATA_BYTES_MAX,
    SEALED_HEAD_BYTES_MAX,
    SEALED_RECORD_BYTES_MIN,
)
from protocols.model import MailboxId
from protocols.sync.fields import TIME_MAX_S, printable
from protocols.sync.wire import as_array, as_bytes, as_int, as_text, pack, unpack

__all__ = ["Kind", "Origin", "Record", "SealReader", "SealWriter"]

VERSION: Final = 1

_ORIGIN: Final = 1
_END: Final = 2
FIRST_TYPE: Final = 3
"""The lowest type of the records that a kind of file has of its own."""

_CONTEXT: Final = "mailboxd sealed file 1"
_SIGNED_PREFIX: Final = b"mailboxd sealed file 1\n"
_LENGTHS: Final = struct.Struct(">II")
_SIGNATURE_BYTES: Final = 64


class Kind(enum.Enum):
    """What a sealed file is; the value is its first 16 bytes."""

    WANT = b"mailboxd want 1\n"
    BUNDLE = b"mailboxd bndl 1\n"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a file and when, by the maker's clock (Unix seconds). `extra` are the fields of its kind."""

    maker: MailboxId
    made_s: int
    network: str
    software: str
    extra: Sequence[Any]


class Record(NamedTuple):
    """One record of a kind's own: its type, the other elements of its head, and its data."""

    type: int
    fields: Sequence[Any]
    data: bytes


class SealWriter:
    """Makes a sealed file out of records. `seed` is the maker's secret (32 bytes)."""

    def __init__(self, kind: Kind, seed: bytes) -> None:
        self._kind = kind
        self._key = nacl.signing.SigningKey(seed)
        self._chain = _first_link(kind)

    def begin(self, origin: Origin) -> bytes:
        """The beginning of the file. Raises LocalProtocolError if the origin names another maker."""
        if origin.maker.public_key != bytes(self._key.verify_key):
            raise LocalProtocolError("a file is sealed by the one who made it")
        fields = [_ORIGIN, VERSION, origin.maker.public_key, origin.made_s, origin.network, origin.software]
        return self._kind.value + self._sealed(pack([*fields, list(origin.extra)]), b"")

    def record(self, kind: int, fields: Sequence[Any], data: bytes = b"") -> bytes:
        """The next record. Its head may have SEALED_HEAD_BYTES_MAX bytes and its data SEALED_DATA_BYTES_MAX."""
        head = pack([kind, *fields])
        if kind < FIRST_TYPE or len(head) > SEALED_HEAD_BYTES_MAX or len(data) > SEALED_DATA_BYTES_MAX:
            raise LocalProtocolError(f"a record of type {kind} with {len(head)} and {len(data)} bytes")
        return self._sealed(head, data)

    def end(self) -> bytes:
        """The end of the file: it is whole."""
        return self._sealed(pack([_END]), b"")

    def _sealed(self, head: bytes, data: bytes) -> bytes:
        body = _LENGTHS.pack(len(head), len(data)) + head + data
        self._chain = _link(self._chain, body)
        signature: bytes = self._key.sign(_SIGNED_PREFIX + self._chain).signature
        return body + signature


class SealReader:
    """Reads a sealed file as its bytes come, and lets nothing out that is not signed by its maker.

    Holds one record and what was fed beyond it. Hostile bytes raise RemoteProtocolError and nothing else.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._buffer = bytearray()
        self._chain = _first_link(kind)
        self._key: nacl.signing.VerifyKey | None = None
        self._was_small = False
        self._has_begun = False
        self.origin: Origin | None = None
        self.is_complete = False
        """Whether the end has been read: nothing is missing."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the file, in pieces of any size."""
        self._buffer += data

    def next_record(self) -> Record | None:
        """The next whole record with a true signature; None if more bytes are needed, or at the end.

        `origin` is known once the first record has been read; it is not handed out.
        """
        while (body := self._next_body()) is not None:
            if self.origin is not None:  # before anything is decoded: what is damaged is told to be
                self._check(body)
            head_bytes, data_bytes = _LENGTHS.unpack_from(body)
            head = unpack(body[_LENGTHS.size : _LENGTHS.size + head_bytes])
            kind = as_int(head[0] if head else None, "record type", maximum=255)
            if self.origin is None:
                origin = self._read_origin(head, data_bytes)
                self._check(body)
                self.origin = origin
                continue
            if kind == _END:
                if len(head) > 1 or data_bytes:
                    raise RemoteProtocolError("malformed", "an end with something in it")
                self.is_complete = True
                continue
            if kind < FIRST_TYPE:
                raise RemoteProtocolError("state", "a second beginning")
            # Each costs a signature to be checked: a file of tiny records would cost hours.
            if self._was_small:
                raise RemoteProtocolError("limit", "small records in the middle of the file")
            self._was_small = len(body) < SEALED_RECORD_BYTES_MIN
            return Record(kind, head[1:], body[_LENGTHS.size + head_bytes :])
        return None

    def _next_body(self) -> bytes | None:
        """The next record but for its signature, which stays in front of the buffer."""
        if not self._has_begun:
            magic = self._kind.value
            if bytes(self._buffer[: len(magic)]) != magic[: len(self._buffer)]:
                raise RemoteProtocolError("kind", _not_one(self._kind, bytes(self._buffer[: len(magic)])))
            if len(self._buffer) < len(magic):
                return None
            del self._buffer[: len(magic)]
            self._has_begun = True
        if self.is_complete and self._buffer:
            raise RemoteProtocolError("trailing", "the file goes on behind its end")
        if len(self._buffer) < _LENGTHS.size:
            return None
        head_bytes, data_bytes = _LENGTHS.unpack_from(self._buffer)
        if not 0 < head_bytes <= SEALED_HEAD_BYTES_MAX or data_bytes > SEALED_DATA_BYTES_MAX:
            raise RemoteProtocolError("limit", f"a record of {head_bytes} and {data_bytes} bytes")
        size = _LENGTHS.size + head_bytes + data_bytes
        if len(self._buffer) < size + _SIGNATURE_BYTES:
            return None
        body = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return body

    def _check(self, body: bytes) -> None:
        signature = bytes(self._buffer[:_SIGNATURE_BYTES])
        del self._buffer[:_SIGNATURE_BYTES]
        self._chain = _link(self._chain, body)
        assert self._key is not None
        try:
            self._key.verify(_SIGNED_PREFIX + self._chain, signature)
        except (nacl.exceptions.BadSignatureError, ValueError):
            raise RemoteProtocolError("seal", "the seal is broken: the file was changed or damaged") from None

    def _read_origin(self, head: list[Any], data_bytes: int) -> Origin:
        kind, version, maker, made_s, network, software, extra = as_array(head, "beginning", length=7)
        if kind != _ORIGIN or data_bytes:
            raise RemoteProtocolError("malformed", "the file does not begin with its origin")
        if as_int(version, "version", maximum=255) != VERSION:
            raise RemoteProtocolError("version", f"the file has version {version}; a newer mailboxd is needed")
        key = as_bytes(maker, "maker", length=32)
        try:
            self._key = nacl.signing.VerifyKey(key)
        except (nacl.exceptions.CryptoError, ValueError, TypeError):
            raise RemoteProtocolError("malformed", "the maker's key is none") from None
        return Origin(
            maker=MailboxId(key),
            made_s=as_int(made_s, "date", maximum=TIME_MAX_S),
            network=printable(as_text(network, "network", bytes_max=NETWORK_TAG_CHARS_MAX)),
            software=printable(as_text(software, "software", bytes_max=PEER_TEXT_BYTES_MAX)),
            extra=as_array(extra, "extra fields"),
        )


def _first_link(kind: Kind) -> bytes:
    return blake3(kind.value, derive_key_context=_CONTEXT).digest()


def _link(chain: bytes, body: bytes) -> bytes:
    return blake3(chain + body, derive_key_context=_CONTEXT).digest()


def _not_one(kind: Kind, start: bytes) -> str:
    names = {Kind.WANT: "list of what a mailbox has (`mailboxd want`)", Kind.BUNDLE: "bundle (`mailboxd export`)"}
    for other in Kind:
        if start == other.value:
            return f"this is a {names[other]}, where a {names[kind]} is needed"
    return f"this is no {names[kind]}"
