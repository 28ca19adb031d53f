"""The data model that everything shares: ids, keys, digests, handles and the age of a message.

Source: the design's sections 2 and 3. `first stored` is kept in Unix seconds, rounded down to the retention's granule
(an hour; a second where the retention is below an hour, for tests and demonstrations).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import base58
from blake3 import blake3

from protocols.limits.data import (
    HANDLE_BYTES,
    ID_BYTES_MAX,
    MAILBOX_TEXTS_KEPT,
    RETENTION_DEFAULT_S,
    RETENTION_MAX_S,
    RETENTION_MIN_S,
    SEQ_MAX,
    TOPIC_HASH_BYTES,
)

__all__ = [
    "Item",
    "LogName",
    "MailboxId",
    "Retention",
    "check_id",
    "check_seq",
    "digest_of",
    "digests_of",
    "handle_of",
    "topic_hash_of",
]

# What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo. Source: RFC 8410, section 4.
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")

# libp2p's PeerId of an Ed25519 key: an identity multihash (0x00, length) of the protobuf {type: Ed25519, key}.
# Source: libp2p specs, peer-ids.
_PEER_ID_PREFIX: Final = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])


@dataclass(frozen=True, slots=True, order=True)
class MailboxId:
    """A mailbox's identity: its 32-byte Ed25519 public key, written as 43 characters of base64url without padding."""

    public_key: bytes

    def __post_init__(self) -> None:
        if len(self.public_key) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(self.public_key)}")

    def __hash__(self) -> int:
        return hash(self.public_key)  # bytes remember theirs

    def __str__(self) -> str:
        return _text_of(self.public_key)

    @property
    def short(self) -> str:
        """The first 8 characters, for people and logs."""
        return str(self)[:8]

    @property
    def base32(self) -> str:
        """52 characters of upper-case base32 without padding, the newer app generation's mDNS label."""
        return base64.b32encode(self.public_key).rstrip(b"=").decode("ascii")

    @property
    def key_pin(self) -> str:
        """The key as HTTPS clients pin it: SHA-256 over its SubjectPublicKeyInfo (RFC 7469), in curl's form."""
        return f"sha256//{base64.b64encode(hashlib.sha256(_SPKI_PREFIX + self.public_key).digest()).decode()}"

    @property
    def peer_id(self) -> str:
        """The libp2p PeerId of the same key, in base58 (`12D3Koo…`)."""
        text: bytes = base58.b58encode(_PEER_ID_PREFIX + self.public_key)
        return text.decode("ascii")

    @classmethod
    def parse(cls, text: str) -> MailboxId:
        """Reads the 43-character form. Raises ValueError, also for non-canonical spellings of the same key."""
        if len(text) != 43 or not text.isascii():
            raise ValueError(f"{text!r} is not a mailbox id (43 characters of base64url)")
        try:
            key = base64.b64decode(text + "=", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{text!r} is not a mailbox id (43 characters of base64url)") from None
        return cls._canonical(key, text, str)

    @classmethod
    def parse_base32(cls, text: str) -> MailboxId:
        """Reads the 52-character base32 form in either case. Raises ValueError."""
        if len(text) != 52 or not text.isascii():
            raise ValueError(f"{text!r} is not a base32 mailbox id (52 characters)")
        try:
            key = base64.b32decode(text.upper() + "====")
        except (binascii.Error, ValueError):
            raise ValueError(f"{text!r} is not a base32 mailbox id (52 characters)") from None
        return cls._canonical(key, text.upper(), lambda m: m.base32)

    @classmethod
    def from_peer_id(cls, peer_id: str) -> MailboxId:
        """Reads a libp2p PeerId. Raises ValueError if it is not that of an Ed25519 key."""
        try:
            raw: bytes = base58.b58decode(peer_id)
        except ValueError:
            raw = b""
        if len(raw) != len(_PEER_ID_PREFIX) + 32 or not raw.startswith(_PEER_ID_PREFIX):
            raise ValueError(f"{peer_id!r} is not the PeerId of an Ed25519 key (12D3Koo…)")
        return cls(raw[len(_PEER_ID_PREFIX) :])

    @classmethod
    def _canonical(cls, key: bytes, text: str, spell: Callable[[MailboxId], str]) -> MailboxId:
        mailbox_id = cls(key)
        if spell(mailbox_id) != text:
            raise ValueError(f"{text!r} is not the canonical spelling of a mailbox id")
        return mailbox_id


@lru_cache(maxsize=MAILBOX_TEXTS_KEPT)
def _text_of(public_key: bytes) -> str:
    return base64.urlsafe_b64encode(public_key).rstrip(b"=").decode("ascii")


class LogName(NamedTuple):
    """Which log: a topic and a log id within it (the app says author). Sorts by code point = UTF-8 bytes."""

    topic: str
    log: str


class Item(NamedTuple):
    """One stored message without its payload: what two mailboxes reconcile about it.

    `seq` is 0..2^64-1, `digest` the 32-byte BLAKE3 of the blob, `first_stored_s` Unix seconds, `size` the blob's bytes.
    """

    seq: int
    digest: bytes
    first_stored_s: int
    size: int


def check_id(what: str, text: str) -> str:
    """Returns `text` if it may be a topic or log id: 1 to 256 UTF-8 bytes without `:` or NUL. Raises ValueError."""
    if not text:
        raise ValueError(f"{what} is empty")
    if ":" in text or "\0" in text:
        raise ValueError(f"{what} contains ':' or NUL")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not valid Unicode") from None
    if size > ID_BYTES_MAX:
        raise ValueError(f"{what} is longer than {ID_BYTES_MAX} bytes")
    return text


def check_seq(seq: int) -> int:
    """Returns `seq` if it is an unsigned 64-bit integer. Raises ValueError."""
    if not 0 <= seq <= SEQ_MAX:
        raise ValueError(f"sequence number {seq} is outside 0..2^64-1")
    return seq


def digest_of(blob: bytes) -> bytes:
    """The 32-byte BLAKE3 digest by which a blob is known."""
    return blake3(blob).digest()


def digests_of(blobs: Iterable[bytes]) -> list[bytes]:
    """The same of many."""
    return [blake3(blob).digest() for blob in blobs]


def handle_of(name: LogName) -> bytes:
    """The 16-byte handle of a log: BLAKE3 over (topic length as 2 bytes big-endian, topic, log), truncated."""
    topic = name.topic.encode()
    return blake3(len(topic).to_bytes(2, "big") + topic + name.log.encode()).digest(length=HANDLE_BYTES)


def topic_hash_of(topic: str) -> bytes:
    """The 16-byte hash of a topic: BLAKE3 over (0xffff, topic), truncated. Never a handle: no topic is so long."""
    return blake3(b"\xff\xff" + topic.encode()).digest(length=TOPIC_HASH_BYTES)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long messages live, and to what `first stored` is rounded."""

    retention_s: int = RETENTION_DEFAULT_S

    def __post_init__(self) -> None:
        if not RETENTION_MIN_S <= self.retention_s <= RETENTION_MAX_S:
            raise ValueError(f"retention must be between {RETENTION_MIN_S} s and {RETENTION_MAX_S // 86400} d")

    @property
    def granule_s(self) -> int:
        """3600, or 1 where the retention is below an hour."""
        return 3600 if self.retention_s >= 3600 else 1

    def stamp(self, now_s: float) -> int:
        """`first stored` of a message that arrives now from a client."""
        return int(now_s) // self.granule_s * self.granule_s

    def clamp(self, first_stored_s: int, now_s: float) -> int:
        """A peer's `first stored` as we keep it: rounded down to our granule, never in our future."""
        return min(first_stored_s // self.granule_s * self.granule_s, self.stamp(now_s))

    def alive_from(self, now_s: float) -> int:
        """The smallest `first stored` that is alive now: a message is dead once now >= first stored + retention.

        Rounded up to the granule, as every first stored is a multiple of it: the same number for a whole hour, and on
        two mailboxes. Never below 0.
        """
        first_s, granule_s = int(now_s) - self.retention_s + 1, self.granule_s
        return max(0, -(-first_s // granule_s) * granule_s)
