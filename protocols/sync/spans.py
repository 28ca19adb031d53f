"""Spans of sequence numbers: lists of (first, last), both inclusive, ascending and disjoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from protocols.limits.data import SEQ_MAX
from protocols.model import LogName
from protocols.sync.effects import Span
from protocols.sync.messages import Seqs

__all__ = ["EVERYTHING", "UNKNOWN_SEQS", "after", "count", "minus", "spans_by_name", "spans_of", "union"]

EVERYTHING: Seqs = (0, SEQ_MAX)
"""All of a log of which nothing is known."""

UNKNOWN_SEQS = 1 << 40
"""A span of so many seqs says nothing about how many messages there are."""

_BEHIND_ALL: Seqs = (SEQ_MAX + 1, SEQ_MAX + 1)


def spans_by_name(spans: Iterable[Span]) -> dict[LogName, list[Seqs]]:
    """The spans of each log, in their order."""
    found: dict[LogName, list[Seqs]] = {}
    for name, first, last in spans:
        found.setdefault(name, []).append((first, last))
    return found


def count(spans: Iterable[Seqs]) -> int:
    """How many seqs there are in them."""
    return sum(last - first + 1 for first, last in spans)


def minus(spans: Iterable[Seqs], others: Sequence[Seqs]) -> list[Seqs]:
    """What of `spans` (ascending, disjoint) is not in `others` (likewise)."""
    if not others:
        return list(spans)
    left: list[Seqs] = []
    rest = iter(others)
    other_first, other_last = next(rest)
    for start, last in spans:
        first = start
        while first <= last:
            while other_last < first:
                other_first, other_last = next(rest, _BEHIND_ALL)
            if other_first > last:
                left.append((first, last))
                break
            if other_first > first:
                left.append((first, other_first - 1))
            first = other_last + 1
    return left


def union(spans: Iterable[Seqs], others: Iterable[Seqs]) -> list[Seqs]:
    """What is in one of them or in both."""
    joined: list[Seqs] = []
    for first, last in sorted((*spans, *others)):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def after(spans: Iterable[Seqs], seq: int) -> list[Seqs]:
    """What of `spans` is at `seq` or behind it."""
    return [(max(first, seq), last) for first, last in spans if last >= seq]


def spans_of(seqs: Iterable[int]) -> Iterator[Seqs]:
    """Ascending seqs (the same may stand there twice) as spans."""
    first = last = -2
    for seq in seqs:
        if seq <= last + 1 and first >= 0:
            last = seq
            continue
        if first >= 0:
            yield first, last
        first = last = seq
    if first >= 0:
        yield first, last
