"""Which of the blobs that claim one key are kept: the first ones, so that every mailbox keeps the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from protocols.limits import LOG_OVERHEAD_BYTES, MESSAGE_OVERHEAD_BYTES, VARIANTS_MAX

__all__ = ["Occupancy", "settle"]


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
