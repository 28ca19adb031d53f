"""Of which topics a mailbox keeps what others have: a set of topic hashes, known to peers by a short id.

A session covers what both sides keep. None stands for everything, which is what most mailboxes keep.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from blake3 import blake3

from protocols.limits.data import TOPIC_HASH_BYTES
from protocols.limits.sync import INTEREST_ID_BYTES
from protocols.model import topic_hash_of

__all__ = ["EVERYTHING_ID", "Interest", "common", "id_of", "is_within"]

EVERYTHING_ID: Final = b""
"""The id of no interest at all: everything is kept."""

_CONTEXT: Final = "mailboxd sync interest 1"


@dataclass(frozen=True)
class Interest:
    """A set of topics: their hashes (`topic_hash_of`) ascending, one after the other; perhaps none."""

    packed: bytes

    @classmethod
    def of(cls, topics: Iterable[str]) -> Interest:
        """That of these topics."""
        return cls(b"".join(sorted(set(map(topic_hash_of, topics)))))

    @cached_property
    def id(self) -> bytes:
        """INTEREST_ID_BYTES that stand for the set: nobody finds two sets with the same."""
        return blake3(self.packed, derive_key_context=_CONTEXT).digest(length=INTEREST_ID_BYTES)

    @cached_property
    def hashes(self) -> frozenset[bytes]:
        """The hashes one by one."""
        starts = range(0, len(self.packed), TOPIC_HASH_BYTES)
        return frozenset(self.packed[start : start + TOPIC_HASH_BYTES] for start in starts)

    def __len__(self) -> int:
        return len(self.packed) // TOPIC_HASH_BYTES

    def covers(self, topic: str) -> bool:
        """Whether a topic belongs to it."""
        return topic_hash_of(topic) in self.hashes


def is_within(packed: bytes, topic: str) -> bool:
    """The same of an interest's `packed`, without unpacking it."""
    places = range(0, len(packed), TOPIC_HASH_BYTES)
    wanted = topic_hash_of(topic)
    place = bisect_left(places, wanted, key=lambda start: packed[start : start + TOPIC_HASH_BYTES])
    return packed.startswith(wanted, TOPIC_HASH_BYTES * place)


def id_of(interest: Interest | None) -> bytes:
    """The id of an interest; EVERYTHING_ID for None."""
    return EVERYTHING_ID if interest is None else interest.id


def common(one: Interest | None, other: Interest | None) -> Interest | None:
    """What both keep."""
    if one is None or other is None:
        return other if one is None else one
    return one if one == other else Interest(b"".join(sorted(one.hashes & other.hashes)))
