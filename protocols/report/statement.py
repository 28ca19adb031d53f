"""What a mailbox signs: a digest of each topic, at a boundary, within a span of its own time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import nacl.exceptions
import nacl.signing
import numpy as np
from blake3 import blake3

from protocols.errors import RemoteProtocolError
from protocols.limits.data import TOPIC_HASH_BYTES
from protocols.limits.discovery import NETWORK_TAG_CHARS_MAX
from protocols.limits.sync import REPORT_NONCE_BYTES, REPORT_STATEMENT_BYTES_MAX, REPORT_TOPICS_MAX
from protocols.model import MailboxId
from protocols.sync.columns import pack_varints
from protocols.sync.fields import TIME_MAX_S, check_ascending, printable, read_varints, split
from protocols.sync.wire import as_array, as_bytes, as_int, as_text, pack, unpack

__all__ = ["Meeting", "Signed", "Statement", "TopicDigest", "digest_of_rows"]

VERSION: Final = 1
DIGEST_BYTES: Final = 16
_CONTEXT: Final = "mailboxd report topic 1"
_SIGNED_PREFIX: Final = b"mailboxd report 1\n"
_SIGNATURE_BYTES: Final = 64


class TopicDigest(NamedTuple):
    """One topic: its hash, how many logs of it there are, and a digest over their rows."""

    topic_hash: bytes
    logs: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Meeting:
    """What both agree upon before they state anything. Messages with a first stored below `boundary_s` are left out;
    `scope` is the id of the topics that both keep (empty: all)."""

    asker: MailboxId
    answerer: MailboxId
    nonces: bytes
    network: str
    boundary_s: int
    scope: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """`signer` held exactly this from `from_s` to `to_s` (Unix seconds by its own clock). Topics ascend by hash."""

    meeting: Meeting
    signer: MailboxId
    from_s: int
    to_s: int
    topics: Sequence[TopicDigest]

    def sign(self, seed: bytes) -> Signed:
        """Signed with the signer's secret (32 bytes)."""
        met = self.meeting
        body = pack(
            [
                VERSION,
                met.asker.public_key,
                met.answerer.public_key,
                met.nonces,
                met.network,
                met.boundary_s,
                met.scope,
                int(self.signer == met.answerer),
                self.from_s,
                self.to_s,
                b"".join([topic.topic_hash for topic in self.topics]),
                pack_varints(np.array([topic.logs for topic in self.topics], np.uint64)),
                b"".join([topic.digest for topic in self.topics]),
            ]
        )
        return Signed(body, bytes(nacl.signing.SigningKey(seed).sign(_SIGNED_PREFIX + body).signature))


class Signed(NamedTuple):
    """A statement as it travels and is kept."""

    body: bytes
    signature: bytes

    def read(self) -> Statement:
        """The statement, if its signature is good. Raises RemoteProtocolError and nothing else."""
        if len(self.body) > REPORT_STATEMENT_BYTES_MAX:
            raise RemoteProtocolError("limit", f"a statement of {len(self.body)} bytes")
        version, asker, answerer, nonces, network, boundary_s, scope, who, from_s, to_s, *columns = as_array(
            unpack(self.body), "statement", length=13
        )
        if as_int(version, "version", maximum=255) != VERSION:
            raise RemoteProtocolError("version", f"a statement of version {version}; a newer mailboxd is needed")
        meeting = Meeting(
            asker=MailboxId(as_bytes(asker, "asker", length=32)),
            answerer=MailboxId(as_bytes(answerer, "answerer", length=32)),
            nonces=as_bytes(nonces, "nonces", length=2 * REPORT_NONCE_BYTES),
            network=printable(as_text(network, "network", bytes_max=NETWORK_TAG_CHARS_MAX)),
            boundary_s=as_int(boundary_s, "boundary", maximum=TIME_MAX_S),
            scope=as_bytes(scope, "scope", length_max=16),
        )
        signer = meeting.answerer if as_int(who, "signer", maximum=1) else meeting.asker
        self._check(signer)
        begun_s, ended_s = as_int(from_s, "beginning", maximum=TIME_MAX_S), as_int(to_s, "end", maximum=TIME_MAX_S)
        if begun_s > ended_s:
            raise RemoteProtocolError("order", "a statement that ends before it begins")
        return Statement(meeting, signer, begun_s, ended_s, _topics(*columns))

    def _check(self, signer: MailboxId) -> None:
        try:
            nacl.signing.VerifyKey(signer.public_key).verify(_SIGNED_PREFIX + self.body, self.signature)
        except (nacl.exceptions.CryptoError, ValueError, TypeError):
            raise RemoteProtocolError("signature", f"the signature is not that of mailbox {signer}") from None


def _topics(hashes: object, logs: object, digests: object) -> list[TopicDigest]:
    packed = as_bytes(hashes, "topics", length_max=REPORT_TOPICS_MAX * TOPIC_HASH_BYTES)
    names = split(packed, TOPIC_HASH_BYTES, "topics")
    check_ascending(names, "topics")
    counts = read_varints(logs, "logs", count_max=REPORT_TOPICS_MAX)
    sums = split(as_bytes(digests, "digests", length=len(names) * DIGEST_BYTES), DIGEST_BYTES, "digests")
    if len(counts) != len(names):
        raise RemoteProtocolError("malformed", "columns of different lengths")
    return [TopicDigest(*one) for one in zip(names, counts, sums, strict=True)]


def digest_of_rows(rows: Iterable[bytes]) -> bytes:
    """A topic's digest: over the rows (handle, state) of its logs, ascending."""
    hasher = blake3(derive_key_context=_CONTEXT)
    for row in rows:
        hasher.update(row)
    return hasher.digest(length=DIGEST_BYTES)
