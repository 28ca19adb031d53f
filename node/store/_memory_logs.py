"""What the store in memory holds of a log."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from node.store._evicted import EvictedSpan
from node.store._variants import rank
from node.store.api import ItemColumns
from protocols.limits.data import SEQ_MAX
from protocols.model import Item

__all__ = ["HeldLog", "HeldMessage", "HeldSnapshot", "columns"]


class HeldMessage(NamedTuple):
    """`genuine` is True only if that had to be known; `number` grows with each message that arrives."""

    first_stored_s: int
    blob: bytes
    source: int
    number: int
    genuine: bool = False


@dataclass(slots=True)
class HeldLog:
    """One log. `seqs` are the keys of `variants`, ascending; `variants` map digest to what is held; `evicted` is
    what was let go to make room."""

    watermark: int | None = None
    seqs: list[int] = field(default_factory=list)
    variants: dict[int, dict[bytes, HeldMessage]] = field(default_factory=dict)
    evicted: list[EvictedSpan] = field(default_factory=list)

    def advance(self) -> None:
        """Moves the watermark over everything held directly above it."""
        following = 0 if self.watermark is None else self.watermark + 1
        while following in self.variants:
            self.watermark = following
            following += 1

    def forget(self, removed: Sequence[tuple[int, bytes]]) -> None:
        for seq, digest in removed:
            del self.variants[seq][digest]
            if not self.variants[seq]:
                del self.variants[seq]
        self.seqs = [seq for seq in self.seqs if seq in self.variants]

    def between(self, seq_from: int, seq_to: int) -> list[int]:
        return self.seqs[bisect_left(self.seqs, seq_from) : bisect_right(self.seqs, seq_to)]

    def items(self, seq_from: int, seq_to: int) -> list[Item]:
        return [
            Item(seq, digest, held.first_stored_s, len(held.blob))
            for seq in self.between(seq_from, seq_to)
            for digest, held in sorted(self.variants[seq].items())
        ]


class HeldSnapshot:
    """Nothing changes while a page is put together, so the store itself is the snapshot."""

    def __init__(self, topics: Mapping[str, Mapping[str, HeldLog]], alive_from_s: int) -> None:
        self._topics = topics
        self._alive_from_s = alive_from_s

    def live_logs(self, topic: str, log_from: str) -> Iterator[tuple[str, HeldLog]]:
        for log, state in sorted(self._topics.get(topic, {}).items()):
            if log >= log_from and state.seqs:
                yield log, state

    def find(self, topic: str, log: str) -> HeldLog | None:
        return self._topics.get(topic, {}).get(log)

    def watermark(self, ref: HeldLog) -> int | None:
        return ref.watermark

    def top(self, ref: HeldLog) -> int | None:
        return ref.seqs[-1] if ref.seqs else None

    def evicted(self, ref: HeldLog) -> Sequence[EvictedSpan]:
        return ref.evicted

    def alive_seqs(self, ref: HeldLog, seq_from: int, seq_to: int) -> Iterator[int]:
        for index in range(bisect_left(ref.seqs, seq_from), len(ref.seqs)):
            seq = ref.seqs[index]
            if seq > seq_to:
                return
            if any(held.first_stored_s >= self._alive_from_s for held in ref.variants[seq].values()):
                yield seq

    def served(self, ref: HeldLog, seq_from: int) -> Iterator[tuple[int, bytes]]:
        for seq in self.alive_seqs(ref, seq_from, SEQ_MAX):
            _, blob = min(
                (rank(held.genuine, held.first_stored_s, digest), held.blob)
                for digest, held in ref.variants[seq].items()
                if held.first_stored_s >= self._alive_from_s
            )
            yield seq, blob


def columns(spans: Iterable[tuple[HeldLog | None, int, int]], alive_from_s: int) -> ItemColumns:
    """Everything in these spans of logs that is alive. Without an object for each message, as the index asks for a
    whole block whenever one has come."""
    counts: list[int] = []
    seqs: list[int] = []
    digests: list[bytes] = []
    ages_s: list[int] = []
    for log, low, high in spans:
        before = len(seqs)
        held = log or HeldLog()
        for seq in held.between(low, high):
            variants = held.variants[seq]
            for digest in variants if len(variants) == 1 else sorted(variants):
                first_stored_s = variants[digest].first_stored_s
                if first_stored_s >= alive_from_s:
                    seqs.append(seq)
                    digests.append(digest)
                    ages_s.append(first_stored_s)
        counts.append(len(seqs) - before)
    return ItemColumns(
        np.array(counts, np.int64), np.array(seqs, np.uint64), b"".join(digests), np.array(ages_s, np.int64)
    )
