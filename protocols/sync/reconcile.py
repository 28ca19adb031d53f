"""Which rows differ: range-based set reconciliation over sorted (key, digest) rows. The spec is `reconcile.md`.

The same code serves two levels: the logs of a mailbox (key = 16-byte handle) and the blocks of a log (key = block
number in 8 bytes). It is pure: rows and ranges in, ranges out. What is said when is the session's business.

A range [lower, upper) is answered by comparing keyed fingerprints over the concatenated rows. Sums and XOR of row
hashes would be cheaper to maintain, but a publisher can craft messages that cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from blake3 import blake3

from protocols.errors import RemoteProtocolError
from protocols.limits.sync import (
    BLOCK_SEQS,
    DIGEST_STATE_BYTES,
    FINGERPRINT_BYTES,
    RANGE_FIRST_PARTS,
    RANGE_LEAF_ROWS,
    RANGE_PARTS_MAX,
    SESSION_ROWS_MAX,
)
from protocols.model import Item

__all__ = [
    "BLOCK_KEY_BYTES",
    "BLOCK_ROW_BYTES",
    "BLOCK_SEQS",
    "DIFF",
    "DIFFERS",
    "FP",
    "LIST",
    "NONE",
    "SKIP",
    "BlockRows",
    "Budget",
    "Range",
    "block_digest",
    "block_key",
    "live_fingerprint",
    "log_state",
    "session_key",
]

BLOCK_KEY_BYTES: Final = 8
BLOCK_ROW_BYTES: Final = BLOCK_KEY_BYTES + DIGEST_STATE_BYTES

SKIP: Final = 0  # nothing is said about this range
FP: Final = 1  # the sender's fingerprint of the range
LIST: Final = 2  # hashes of all rows that the sender has in the range
DIFF: Final = 3  # answer to LIST: hashes of rows that only one side has (blocks: only those that the asker has)
DIFFERS: Final = 4  # answer to FP (blocks only): it differs, say more
NONE: Final = 5  # answer to FP or LIST (blocks only): I have nothing in this range


_EACH_ROWS: Final = 8
"""What a row costs that is hashed, read or looked up by itself, in rows that are hashed together."""


def block_digest(items: Iterable[Item]) -> bytes:
    """16 bytes over all variants of one block, in ascending order of (seq, digest).

    BLAKE3 over seq (8 bytes), digest (32) and first stored in Unix seconds (8, signed) of each, all big-endian.
    """
    parts: list[bytes] = []
    for item in items:
        parts += (
            item.seq.to_bytes(8, "big"),
            item.digest,
            item.first_stored_s.to_bytes(8, "big", signed=True),
        )
    return blake3(b"".join(parts)).digest(length=DIGEST_STATE_BYTES)


def log_state(blocks: Sequence[tuple[int, bytes]]) -> bytes:
    """16 bytes over a log's (block number, block digest) pairs in ascending order."""
    parts = [part for number, digest in blocks for part in (number.to_bytes(BLOCK_KEY_BYTES, "big"), digest)]
    return blake3(b"".join(parts)).digest(length=DIGEST_STATE_BYTES)


def live_fingerprint(handles: Sequence[bytes], states: Sequence[bytes]) -> str:
    """64 hex digits over all (handle, state) rows in ascending order: equal on two mailboxes that hold the same."""
    hasher = blake3()
    for handle, state in zip(handles, states, strict=True):
        hasher.update(handle + state)
    return hasher.hexdigest()


def block_key(number: int) -> bytes:
    """A block number as the key of a row: 8 bytes, so that keys sort like numbers."""
    return number.to_bytes(BLOCK_KEY_BYTES, "big")


def session_key(salt: bytes, alive_from_s: int) -> bytes:
    """The 32-byte key of all hashes of one session."""
    return blake3(salt + alive_from_s.to_bytes(8, "big", signed=True), derive_key_context="mailboxd sync 2").digest()


class Budget:
    """How many rows a session may still hash. Spending more than there is raises RemoteProtocolError("budget")."""

    def __init__(self, rows: int = SESSION_ROWS_MAX) -> None:
        self.rows_left = rows

    def spend(self, rows: int, *, each: bool = False) -> None:
        """Pays for rows that are hashed together, or for `each` by itself, which costs several times as much."""
        self.rows_left -= _EACH_ROWS * rows if each else rows
        if self.rows_left < 0:
            raise RemoteProtocolError("budget", "this session asks for more hashing than any honest one")


@dataclass(frozen=True, slots=True)
class Range:
    """What is said about the keys in [lower, upper); `upper` None means to the end of the key space.

    `fingerprint` belongs to FP; `hashes` (FINGERPRINT_BYTES each) to LIST and DIFF.
    """

    lower: bytes
    upper: bytes | None
    mode: int
    fingerprint: bytes = b""
    hashes: tuple[bytes, ...] = ()


class BlockRows:
    """Blocks of one log in one session, as rows of BLOCK_ROW_BYTES: number (8 bytes) and digest, ascending.

    `domain` keeps rows of different levels and logs apart: it is hashed in front of everything.
    """

    def __init__(self, rows: bytes, *, key: bytes, domain: bytes, budget: Budget) -> None:
        self._rows = memoryview(rows)
        self.numbers = np.frombuffer(rows, ">u8")[:: BLOCK_ROW_BYTES // BLOCK_KEY_BYTES].astype(np.uint64)
        self._key = key
        self._domain = domain
        self._budget = budget

    def __len__(self) -> int:
        return len(self.numbers)

    def bounds(self, lower: bytes, upper: bytes | None) -> tuple[int, int]:
        """Indices of the rows in [lower, upper)."""
        lo = self._index(lower)
        return lo, len(self) if upper is None else max(lo, self._index(upper))

    def _index(self, bound: bytes) -> int:
        return int(self.numbers.searchsorted(np.uint64(int.from_bytes(bound, "big"))))

    def fingerprint(self, lo: int, hi: int) -> bytes:
        """Keyed hash over the rows lo..hi-1."""
        self._budget.spend(hi - lo)
        hasher = blake3(self._domain + b"R", key=self._key)
        hasher.update(self._rows[BLOCK_ROW_BYTES * lo : BLOCK_ROW_BYTES * hi])
        return hasher.digest(length=FINGERPRINT_BYTES)

    def hashes(self, lo: int, hi: int) -> list[bytes]:
        """Keyed hash of each of the rows lo..hi-1."""
        self._budget.spend(hi - lo, each=True)
        head, key, rows = self._domain + b"I", self._key, self._rows
        return [
            blake3(head + rows[at : at + BLOCK_ROW_BYTES], key=key).digest(length=FINGERPRINT_BYTES)
            for at in range(BLOCK_ROW_BYTES * lo, BLOCK_ROW_BYTES * hi, BLOCK_ROW_BYTES)
        ]

    def matches(self, said: Range) -> bool:
        """Whether what a peer's FP range covers is the same here."""
        return self.fingerprint(*self.bounds(said.lower, said.upper)) == said.fingerprint

    def separator(self, index: int) -> bytes:
        """The shortest bound between rows index-1 and index, padded with zeros: above the one, not above the other."""
        before, after = (block_key(int(number)) for number in self.numbers[index - 1 : index + 1])
        same = next(i for i in range(len(after)) if before[i] != after[i])
        return after[: same + 1].ljust(len(after), b"\0")

    def listed(self, lower: bytes, upper: bytes | None) -> Range:
        """All rows of [lower, upper) as a LIST range."""
        return Range(lower, upper, LIST, hashes=tuple(self.hashes(*self.bounds(lower, upper))))

    def parts(self, lower: bytes, upper: bytes | None, cuts: Sequence[int]) -> list[Range]:
        """[lower, upper) as FP ranges cut before the rows `cuts` (ascending, none of them the range's first row)."""
        lo, hi = self.bounds(lower, upper)
        bounds = [lower, *(self.separator(cut) for cut in cuts)]
        indices = [lo, *cuts, hi]
        return [
            Range(bound, after, FP, self.fingerprint(start, end))
            for bound, after, start, end in zip(bounds, [*bounds[1:], upper], indices[:-1], indices[1:], strict=True)
        ]

    def tail_opening(self) -> list[Range]:
        """The first thing said about the blocks of one log, where most news are at the end: the last blocks are
        listed, and before them each range is four times as long as the one behind it."""
        count = len(self)
        if count <= RANGE_LEAF_ROWS:
            return [Range(bytes(BLOCK_KEY_BYTES), None, LIST, hashes=tuple(self.hashes(0, count)))]
        cuts, size = [count - RANGE_FIRST_PARTS], RANGE_FIRST_PARTS
        while cuts[0] > size:
            cuts.insert(0, cuts[0] - size)
            size *= 4
        ranges = self.parts(bytes(BLOCK_KEY_BYTES), None, cuts)
        return [*ranges[:-1], self.listed(ranges[-1].lower, None)]

    def whole(self, lower: bytes, upper: bytes | None) -> Range:
        """All rows of [lower, upper) as one FP range."""
        return Range(lower, upper, FP, self.fingerprint(*self.bounds(lower, upper)))

    def refine(self, lower: bytes, upper: bytes | None) -> list[Range]:
        """What is said next about a range that differs: listed if there are few rows, else split.

        Each part has at most half of the rows (there are at least two, all of them non-empty), which is why
        reconciliation ends.
        """
        lo, hi = self.bounds(lower, upper)
        count = hi - lo
        if count <= RANGE_LEAF_ROWS:
            return [Range(lower, upper, LIST, hashes=tuple(self.hashes(lo, hi)))]
        parts = min(RANGE_PARTS_MAX, max(RANGE_FIRST_PARTS, -(-count // (RANGE_LEAF_ROWS // 2))))
        return self.parts(lower, upper, [lo + count * part // parts for part in range(1, parts)])
