"""What a put comes to: which blobs of a key are kept (the same ones on every mailbox), and counts.

Genuine blobs (`protocols.operations`) come before all others. Whether one is genuine matters only where there are
several under its key, so it is found out only then, and not here: `unjudged` says what must be known first, and whoever
owns the store has it looked at beside its other work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeAlias

from node.store.api import Arrival, StoreError, StoreFull
from protocols.limits.data import VARIANTS_MAX
from protocols.limits.store import LOG_OVERHEAD_BYTES, MESSAGE_OVERHEAD_BYTES
from protocols.model import LogName
from protocols.operations import may_be_genuine

__all__ = [
    "Judged",
    "Key",
    "NeedsRoom",
    "Occupancy",
    "Row",
    "Unjudged",
    "count",
    "growth_by",
    "keys_of",
    "rank",
    "settle",
    "unjudged",
]

Judged: TypeAlias = Mapping[tuple[LogName, int, bytes], bool]
"""Whether the blob with that (log, seq, digest) is genuine."""


class Unjudged(StoreError):
    """Nothing was done: first it must be known which of these blobs are genuine. It never leaves the store."""

    def __init__(self, wanted: Sequence[tuple[LogName, int, bytes]]) -> None:
        super().__init__("it must be known first what is genuine")
        self.args = (wanted,)
        self.wanted = wanted


class NeedsRoom(StoreFull):
    """The storage limit is reached: `asked` are the topics that the request makes grow most, and by how many bytes."""

    def __init__(self, text: str, need_bytes: int, asked: Sequence[tuple[str, int]]) -> None:
        super().__init__(text, need_bytes)
        self.args = (text, need_bytes, asked)
        self.asked = asked


def rank(is_genuine: bool, first_stored_s: int, digest: bytes) -> tuple[bool, int, bytes]:
    """By which the variants of a key are ordered: the smallest is served."""
    return not is_genuine, first_stored_s, digest


def settle(held: Mapping[bytes, int], arriving: Mapping[bytes, int], genuine: Set[bytes]) -> dict[bytes, int]:
    """The variants of a key after `arriving` joined `held`; both map digest to first stored (Unix seconds).

    First stored merges by minimum; the first `VARIANTS_MAX` by `rank` stay. The outcome depends only on what arrived,
    never on the order: dropping early what would be dropped in the end changes nothing.
    """
    merged = dict(held)
    for digest, first_stored_s in arriving.items():
        known_s = merged.get(digest)
        if known_s is None or first_stored_s < known_s:
            merged[digest] = first_stored_s
    if len(merged) <= VARIANTS_MAX:
        return merged
    kept = sorted(merged, key=lambda digest: rank(digest in genuine, merged[digest], digest))[:VARIANTS_MAX]
    return {digest: merged[digest] for digest in kept}


@dataclass(slots=True)
class Occupancy:
    """What a store holds, or by how much a request changes that: counts, and `bytes` of blobs. `used_bytes` is what
    that took on the disk when it was last measured."""

    messages: int = 0
    bytes: int = 0
    logs: int = 0
    topics: int = 0
    used_bytes: int = 0

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


@dataclass(slots=True)
class Row:
    """One variant as it stands in the table. `genuine` is True only if that had to be known."""

    first_stored_s: int
    size: int
    blob: int
    genuine: bool
    source: int


@dataclass(slots=True)
class Key:
    """What a request does to one (log, seq): what it brings, what was held, and what will be. `genuine` are those of
    them that are known to be."""

    arriving: dict[bytes, int]
    held: Mapping[bytes, Row]
    kept: Mapping[bytes, int]
    genuine: Set[bytes] = frozenset()

    @property
    def is_contested(self) -> bool:
        """Whether there is more than one blob."""
        return len(self.arriving.keys() | self.held.keys()) > 1


def unjudged(name: LogName, keys: Mapping[int, Key], judged: Judged) -> Iterator[tuple[LogName, int, bytes]]:
    """The (log, seq, digest) of blobs of which it must be known first whether they are genuine. Where several are held
    already it was known when they came."""
    if not may_be_genuine(name):
        return
    for seq, key in keys.items():
        if key.is_contested:
            known = key.held.keys() if len(key.held) > 1 else ()
            for digest in key.arriving.keys() | key.held.keys():
                if digest not in known and (name, seq, digest) not in judged:
                    yield name, seq, digest


def keys_of(
    name: LogName, arrivals: Sequence[Arrival], held: Mapping[int, Mapping[bytes, Row]], judged: Judged
) -> dict[int, Key]:
    """What `arrivals` of one log do to each seq, ascending; `held` has what is held of these. What is neither judged
    nor held as genuine counts as not genuine."""
    keys: dict[int, Key] = {}
    for arrival in sorted(arrivals, key=itemgetter(1)):
        key = keys.get(arrival.seq)
        if key is None:
            key = keys[arrival.seq] = Key({}, held.get(arrival.seq, {}), {})
        known_s = key.arriving.get(arrival.digest)
        if known_s is None or arrival.first_stored_s < known_s:
            key.arriving[arrival.digest] = arrival.first_stored_s
    for seq, key in keys.items():
        if judged:
            key.genuine = {
                digest for digest in key.arriving.keys() | key.held.keys() if judged.get((name, seq, digest), False)
            }
        key.genuine |= {digest for digest, row in key.held.items() if row.genuine}
        key.kept = settle({digest: row.first_stored_s for digest, row in key.held.items()}, key.arriving, key.genuine)
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
