"""One page of a phone's answer, over whatever snapshot a store can offer.

The rules of `Store.read` stand here once; a store brings a `Snapshot`, which only knows how to look things up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from node.store._evicted import EvictedSpan, minus_spans
from node.store.api import LogEntries, Position, ReadPage
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import READ_MESSAGE_OVERHEAD_BYTES
from protocols.model import LogName

__all__ = ["Snapshot", "gaps", "read_page"]

Ref = TypeVar("Ref")


class Snapshot(Protocol[Ref]):
    """The store at one moment, reduced to what is alive. A `Ref` is how the store itself names a log."""

    def live_logs(self, topic: str, log_from: str) -> Iterator[tuple[str, Ref]]:
        """The logs of a topic that hold messages, from `log_from` on, ascending."""
        ...

    def find(self, topic: str, log: str) -> Ref | None:
        """A log by its name, also one of which only the watermark is left; None if it is not known."""
        ...

    def watermark(self, ref: Ref) -> int | None:
        """See `Store.watermarks`."""
        ...

    def top(self, ref: Ref) -> int | None:
        """The highest seq that is held, alive or not; None if there is none."""
        ...

    def evicted(self, ref: Ref) -> Sequence[EvictedSpan]:
        """What was let go of a log to make room, ascending: nobody is asked for it."""
        ...

    def alive_seqs(self, ref: Ref, seq_from: int, seq_to: int) -> Iterator[int]:
        """The seqs in seq_from..seq_to that are held alive, ascending, each once."""
        ...

    def served(self, ref: Ref, seq_from: int) -> Iterator[tuple[int, bytes]]:
        """(seq, blob) of the served variant of each alive seq from `seq_from` on, ascending; read as it is consumed."""
        ...


def gaps(held: Iterable[int], seq_from: int, seq_to: int, gaps_max: int) -> list[int]:
    """The lowest `gaps_max` numbers of seq_from..seq_to that are not in `held` (ascending, within that range).

    Costs the numbers returned and the held ones passed, whatever the width of the range.
    """
    found: list[int] = []
    expected = seq_from
    for seq in held:
        found.extend(range(expected, min(seq, expected + gaps_max - len(found))))
        if len(found) >= gaps_max:
            return found
        expected = seq + 1
    found.extend(range(expected, min(seq_to + 1, expected + gaps_max - len(found))))
    return found


def read_page(
    snapshot: Snapshot[Ref],
    query: Mapping[str, Mapping[str, int]],
    *,
    missing_max: int,
    after: Position | None,
    page_bytes: int,
) -> ReadPage:
    """See `Store.read`."""
    return _PageReader(snapshot, missing_max, page_bytes).read(query, after)


class _PageReader(Generic[Ref]):
    def __init__(self, snapshot: Snapshot[Ref], missing_max: int, page_bytes: int) -> None:
        self._snapshot = snapshot
        self._missing_max = missing_max
        self._missing_left = missing_max
        self._bytes_left = page_bytes
        self._entries: list[LogEntries] = []

    def read(self, query: Mapping[str, Mapping[str, int]], after: Position | None) -> ReadPage:
        first_topic = "" if after is None else after.topic
        for topic in sorted(topic for topic in query if topic >= first_topic):
            resume = after if after is not None and after.topic == topic else None
            stop = self._read_topic(topic, query[topic], resume)
            if stop is not None:
                return ReadPage(self._entries, stop)
        return ReadPage(self._entries, None)

    def _read_topic(self, topic: str, heights: Mapping[str, int], resume: Position | None) -> Position | None:
        for log, ref in self._logs(topic, heights, "" if resume is None else resume.log):
            seq_from = resume.seq if resume is not None and resume.log == log else None
            stop = self._read_log(LogName(topic, log), ref, heights.get(log), seq_from)
            if stop is not None:
                return stop
        return None

    def _logs(self, topic: str, heights: Mapping[str, int], log_from: str) -> Iterator[tuple[str, Ref | None]]:
        """Both the logs that the query lists and those that are live, each once, ascending."""
        listed = sorted((log for log in heights if log >= log_from), reverse=True)
        for log, ref in self._snapshot.live_logs(topic, log_from):
            while listed and listed[-1] < log:
                name = listed.pop()
                yield name, self._snapshot.find(topic, name)
            if listed and listed[-1] == log:
                listed.pop()
            yield log, ref
        while listed:
            name = listed.pop()
            yield name, self._snapshot.find(topic, name)

    def _read_log(self, name: LogName, ref: Ref | None, height: int | None, seq_from: int | None) -> Position | None:
        """Adds what the page still has room for; returns where the next page begins if something is left."""
        if height is not None:
            height = min(max(height, -1), SEQ_MAX)
        start = 0 if height is None else min(height + 1, SEQ_MAX)
        nothing_above = ref is None or (height is not None and height >= SEQ_MAX)
        # A page that ends before a log points at `start`, one that ends within it points above: so the next page knows
        # whether `missing` has been said.
        is_first_part = seq_from is None or seq_from <= start
        seq_from = start if seq_from is None else max(seq_from, start)
        is_full = self._bytes_left <= 0
        missing = self._missing(ref, height, 1 if is_full else max(1, self._missing_left)) if is_first_part else []
        if is_full:
            if missing or (not nothing_above and self._next_seq(ref, seq_from) is not None):
                return Position(name.topic, name.log, seq_from)
            return None
        self._missing_left -= len(missing)
        messages = [] if nothing_above else self._take(ref, seq_from)
        if messages or missing:
            self._entries.append(LogEntries(name, messages, missing))
        if self._bytes_left > 0 or not messages or messages[-1][0] >= SEQ_MAX:
            return None
        following = self._next_seq(ref, messages[-1][0] + 1)
        return None if following is None else Position(name.topic, name.log, following)

    def _take(self, ref: Ref | None, seq_from: int) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        top = None if ref is None else self._snapshot.top(ref)
        if ref is not None and top is not None and top >= seq_from:
            for message in self._snapshot.served(ref, seq_from):
                messages.append(message)
                self._bytes_left -= len(message[1]) + READ_MESSAGE_OVERHEAD_BYTES
                if self._bytes_left <= 0:
                    break
        return messages

    def _next_seq(self, ref: Ref | None, seq_from: int) -> int | None:
        return None if ref is None else next(self._snapshot.alive_seqs(ref, seq_from, SEQ_MAX), None)

    def _missing(self, ref: Ref | None, height: int | None, gaps_max: int) -> Sequence[int]:
        if height is None or self._missing_max <= 0:
            return []
        watermark = None if ref is None else self._snapshot.watermark(ref)
        seq_from = 0 if watermark is None else watermark + 1
        if seq_from > height:
            return []
        if ref is None:
            return gaps((), seq_from, height, gaps_max)
        missing: list[int] = []
        for first, last in minus_spans(seq_from, height, self._snapshot.evicted(ref)):
            missing += gaps(self._snapshot.alive_seqs(ref, first, last), first, last, gaps_max - len(missing))
            if len(missing) >= gaps_max:
                break
        return missing
