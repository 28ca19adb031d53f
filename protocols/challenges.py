"""Proof of work for writers that nobody knows, asked for only while a mailbox is flooded. `challenges.md` is the spec.

The mailbox keeps nothing of what it asked: a challenge's nonce is signed by a key of its own, for one client and one
half minute. A client that wants to be served at once searches for a number such that the hash of nonce and number
begins with enough zero bits. Looking at a proof costs a hash if it is wrong, and a second one if it is right.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import Counter, deque
from itertools import count
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits.shedding import (
    CHALLENGE_BITS_MAX,
    CHALLENGE_BUCKET_S,
    CHALLENGE_KEY_BYTES,
    CHALLENGE_PROOFS_MAX,
    CHALLENGE_PROOFS_PER_CLIENT_MAX,
    CHALLENGE_SLACK_BITS,
)

__all__ = ["CHALLENGE_HEADER", "PROOF_HEADER", "Challenger", "read_challenge", "solve"]

CHALLENGE_HEADER: Final = "mailbox-challenge"
PROOF_HEADER: Final = "mailbox-proof"

_VERSION: Final = 1
_MAC_BYTES: Final = 16
_NUMBER_BYTES: Final = 5
_NONCE: Final = r"[A-Za-z0-9_-]{36}"
_PROOF: Final = re.compile(rf"({_NONCE})\.(0|[1-9][0-9]{{0,18}})")
_CHALLENGE: Final = re.compile(rf"bits=([0-9]{{1,3}}), nonce=({_NONCE})")


class Challenger:
    """The mailbox's side. `key` are CHALLENGE_KEY_BYTES random bytes, fresh at each start."""

    def __init__(self, key: bytes) -> None:
        if len(key) != CHALLENGE_KEY_BYTES:
            raise ValueError(f"a key has {CHALLENGE_KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._given = 0
        self._spent: deque[tuple[int, set[bytes]]] = deque()
        self._taken_of: Counter[tuple[int, str]] = Counter()  # by half minute and client

    @property
    def spent(self) -> int:
        """How many proofs are remembered so that they are not taken twice."""
        return sum(len(proofs) for _, proofs in self._spent)

    def challenge(self, client: str, bits: int, now_s: float) -> str:
        """The value of Mailbox-Challenge for a client, at `now_s` (any clock that only the mailbox reads). No two are
        equal, so that a client that begins anew finds another proof."""
        self._given = (self._given + 1) % (1 << 8 * _NUMBER_BYTES)
        return f"bits={bits}, nonce={self._nonce(client, bits, _bucket(now_s), self._given)}"

    def take(self, proof: str, client: str, bits: int, now_s: float) -> None:
        """Takes a value of Mailbox-Proof, once, while `bits` are asked for. Raises RemoteProtocolError."""
        match = _PROOF.fullmatch(proof)
        if match is None:
            raise RemoteProtocolError("proof", "the proof is not a nonce, a dot and a number")
        digest = hashlib.sha256(proof.encode("ascii")).digest()
        nonce = match[1]
        raw = base64.urlsafe_b64decode(nonce)
        offered_bits, bucket, number = raw[1], int.from_bytes(raw[2:6]), int.from_bytes(raw[6:11])
        if offered_bits < bits - CHALLENGE_SLACK_BITS:
            raise RemoteProtocolError("proof", "more work is asked for by now")
        if _zero_bits(digest) < offered_bits:
            raise RemoteProtocolError("proof", "the proof lacks the work")
        if not hmac.compare_digest(nonce, self._nonce(client, offered_bits, bucket, number)):
            raise RemoteProtocolError("proof", "the nonce was not given to you")
        now_bucket = _bucket(now_s)
        if bucket not in (now_bucket, now_bucket - 1):
            raise RemoteProtocolError("proof", "the proof came too late")
        self._spend(digest, client, bucket, now_bucket)

    def _spend(self, digest: bytes, client: str, bucket: int, now_bucket: int) -> None:
        while self._spent and self._spent[0][0] < now_bucket - 1:
            self._spent.popleft()
            self._taken_of = Counter({one: count for one, count in self._taken_of.items() if one[0] >= now_bucket - 1})
        proofs = next((proofs for of, proofs in self._spent if of == bucket), None)
        if proofs is None:
            proofs = set()
            self._spent.append((bucket, proofs))
            self._spent = deque(sorted(self._spent, key=lambda one: one[0]))
        if digest in proofs:
            raise RemoteProtocolError("proof", "the proof was used already")
        if self.spent >= CHALLENGE_PROOFS_MAX:
            raise RemoteProtocolError("proof", "too many proofs came in this minute")
        if self._taken_of[bucket, client] >= CHALLENGE_PROOFS_PER_CLIENT_MAX:
            raise RemoteProtocolError("proof", "too many proofs came from you in this minute")
        proofs.add(digest)
        self._taken_of[bucket, client] += 1

    def _nonce(self, client: str, bits: int, bucket: int, number: int) -> str:
        said = bytes([_VERSION, bits]) + bucket.to_bytes(4) + number.to_bytes(_NUMBER_BYTES)
        mac = hmac.digest(self._key, b"mailbox-challenge" + said + client.encode(), "sha256")
        return base64.urlsafe_b64encode(said + mac[:_MAC_BYTES]).decode("ascii")


def read_challenge(value: str) -> tuple[int, str]:
    """The client's side: (bits, nonce) of a Mailbox-Challenge. Raises RemoteProtocolError, also if it asks for more
    work than anybody should do."""
    match = _CHALLENGE.fullmatch(value)
    if match is None or not 0 < int(match[1]) <= CHALLENGE_BITS_MAX:
        raise RemoteProtocolError("challenge", "the challenge is not understood")
    return int(match[1]), match[2]


def solve(value: str, *, first: int = 0) -> str:
    """The Mailbox-Proof for a Mailbox-Challenge: takes 2^bits hashes on average, about a microsecond each. `first` is
    where the search begins; another one gives another proof. Raises RemoteProtocolError."""
    bits, nonce = read_challenge(value)
    begun = hashlib.sha256(f"{nonce}.".encode("ascii"))
    for number in count(first):
        tried = begun.copy()
        tried.update(b"%d" % number)
        if _zero_bits(tried.digest()) >= bits:
            return f"{nonce}.{number}"
    raise AssertionError("unreachable")


def _bucket(now_s: float) -> int:
    return int(now_s // CHALLENGE_BUCKET_S) & 0xFFFFFFFF


def _zero_bits(digest: bytes) -> int:
    return 8 * len(digest) - int.from_bytes(digest).bit_length()
