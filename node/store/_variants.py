"""What a put comes to: which blobs of a key are kept (the first, so that every mailbox keeps the same), and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from node.store.api import Arrival
from protocols.limits import LOG_OVERHEAD_BYTES, MESSAGE_OVERHEAD_BYTES, VARIANTS_MAX

__all__ = ["Key", "Occupancy", "Row", "count", "growth_by", "keys_of", "settle"]


def settle(held: Mapping[bytes, int], arriving: Mapping[bytes, int]) -> dict[bytes, int]:
    """The variants of a key after `arriving` joined `held`; both map digest to first stored (Unix seconds).

    First stored merges by minimum; the first `VARIANTS_MAX` by (first stored, digest) stay. The outcome depends only
    on what arrived, never on the order: dropping early what would be dropped in the end changes nothing.
    """
    merged = dict(held)
    for digest, first_stored_s in arriving.items():
        known_s = merged.get(digest)
        if known_s is None or first_stored_s < known_s:
            merged[digest] = first_stored_s
    if len(merged) <= VARIANTS_MAX:
        return merged
    kept = sorted((first_stored_s, digest) for digest, first_stored_s in merged.items())[:VARIANTS_MAX]
    return {digest: first_stored_s for first_stored_s, digest in kept}


@dataclass(slots=True)
class Occupancy:
    """What a store holds, or by how much a request changes that: counts, and `bytes` of blobs."""

    messages: int = 0
    bytes: int = 0
    logs: int = 0
    topics: int = 0

    def copy(self) -> Occupancy:
        """An independent copy."""
        return replace(self)

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(
            self.messages + other.messages,
            self.bytes + other.bytes,
            self.logs + other.logs,
            self.topics + other.topics,
        )

    @property
    def storage_bytes(self) -> int:
        """What counts against the storage limit: blobs and an allowance for what we keep beside them."""
        return self.bytes + self.messages * MESSAGE_OVERHEAD_BYTES + self.logs * LOG_OVERHEAD_BYTES

    def exceeds(self, limit_bytes: int | None, change: Occupancy) -> bool:
        """Whether `change` must be refused: it grows the store beyond the limit. What doesn't grow it is welcome even
        above the limit (which may have been lowered)."""
        if limit_bytes is None or change.storage_bytes <= 0:
            return False
        return (self + change).storage_bytes > limit_bytes


@dataclass(slots=True)
class Row:
    """One variant as it stands in the table."""

    first_stored_s: int
    size: int
    blob: int


@dataclass(slots=True)
class Key:
    """What a request does to one (log, seq): what it brings, what was held, and what will be."""

    arriving: dict[bytes, int]
    held: Mapping[bytes, Row]
    kept: Mapping[bytes, int]


def keys_of(arrivals: Sequence[Arrival], held: Mapping[int, Mapping[bytes, Row]]) -> dict[int, Key]:
    """What `arrivals` of one log do to each seq, ascending; `held` has what is held of these."""
    keys: dict[int, Key] = {}
    for arrival in sorted(arrivals, key=itemgetter(1)):
        key = keys.get(arrival.seq)
        if key is None:
            key = keys[arrival.seq] = Key({}, held.get(arrival.seq, {}), {})
        known_s = key.arriving.get(arrival.digest)
        if known_s is None or arrival.first_stored_s < known_s:
            key.arriving[arrival.digest] = arrival.first_stored_s
    for key in keys.values():
        key.kept = settle({digest: row.first_stored_s for digest, row in key.held.items()}, key.arriving)
    return keys


def growth_by(keys: Mapping[int, Key], blobs: Mapping[bytes, bytes]) -> Occupancy:
    """By how much messages and bytes grow; `blobs` has by digest those that arrive."""
    growth = Occupancy()
    for key in keys.values():
        growth.messages += len(key.kept) - len(key.held)
        growth.bytes += sum(len(blobs[digest]) for digest in key.kept if digest not in key.held)
        growth.bytes -= sum(row.size for digest, row in key.held.items() if digest not in key.kept)
    return growth


def count(arrivals: Sequence[Arrival], keys: Mapping[int, Key]) -> tuple[int, int]:
    """(stored, dropped) of the arrivals of one log, given what they do to each seq; the rest is known, as is a
    repetition."""
    stored = sum(digest in key.kept and digest not in key.held for key in keys.values() for digest in key.arriving)
    return stored, sum(arrival.digest not in keys[arrival.seq].kept for arrival in arrivals)
