"""What was let go to make room, as spans of a log: merged, and few for each log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from node.store.api import Admission, StoredItem
from protocols.limits.store import EVICTED_GAP_MAX, EVICTED_SPANS_MAX
from protocols.model import LogName
from protocols.sync.effects import Span

__all__ = ["EvictedSpan", "Identity", "divide", "identity_of", "is_within", "minus_spans", "with_evicted"]

Identity: TypeAlias = tuple[LogName, int, bytes]
"""Log, seq and digest of a message."""


class EvictedSpan(NamedTuple):
    """The seqs first..last, of which the youngest was first stored at `first_stored_s`: then the record ends, too."""

    first: int
    last: int
    first_stored_s: int


def with_evicted(spans: Iterable[EvictedSpan], gone: Iterable[tuple[int, int]]) -> list[EvictedSpan]:
    """`spans` of a log together with `gone` messages, (seq, first stored) each. Beyond EVICTED_SPANS_MAX the closest
    are joined if they are near: what lies between them is not wanted from other mailboxes either, while phones may
    still bring it. Otherwise the shortest is forgotten: who scatters a few messages must not hide all between them."""
    joined: list[EvictedSpan] = []
    for span in sorted([*spans, *(EvictedSpan(seq, seq, first_stored_s) for seq, first_stored_s in gone)]):
        if joined and span.first <= joined[-1].last + 1:
            joined[-1] = _join(joined[-1], span)
        else:
            joined.append(span)
    while len(joined) > EVICTED_SPANS_MAX:
        gap, at = min((joined[i + 1].first - joined[i].last - 1, i) for i in range(len(joined) - 1))
        if gap <= EVICTED_GAP_MAX:
            joined[at : at + 2] = [_join(joined[at], joined[at + 1])]
        else:
            joined.remove(min(joined, key=lambda span: (span.last - span.first, span.first_stored_s)))
    return joined


def _join(one: EvictedSpan, other: EvictedSpan) -> EvictedSpan:
    return EvictedSpan(one.first, max(one.last, other.last), max(one.first_stored_s, other.first_stored_s))


def minus_spans(first: int, last: int, evicted: Sequence[EvictedSpan]) -> list[tuple[int, int]]:
    """The parts of first..last that are in none of `evicted` (ascending, disjoint)."""
    parts: list[tuple[int, int]] = []
    for span in evicted:
        if span.last < first:
            continue
        if span.first > last:
            break
        if span.first > first:
            parts.append((first, span.first - 1))
        first = span.last + 1
    if first <= last:
        parts.append((first, last))
    return parts


def is_within(seq: int, evicted: Iterable[EvictedSpan]) -> bool:
    """Whether one of `evicted` covers `seq`."""
    return any(span.first <= seq <= span.last for span in evicted)


def identity_of(stored: StoredItem) -> Identity:
    """What tells a message from all others."""
    return stored.name, stored.item.seq, stored.item.digest


def divide(found: Admission, spans: Sequence[Span], evicted: Sequence[EvictedSpan], *, has_room: bool) -> None:
    """Adds to the lists of `found` what becomes of `spans` of one log."""
    kept = found.wanted if has_room else found.refused
    for name, first, last in spans:
        wanted = minus_spans(first, last, evicted)
        kept.extend(Span(name, *part) for part in wanted)
        found.evicted.extend(Span(name, *part) for part in minus_spans(first, last, _whole(wanted)))


def _whole(parts: Sequence[tuple[int, int]]) -> list[EvictedSpan]:
    return [EvictedSpan(first, last, 0) for first, last in parts]
