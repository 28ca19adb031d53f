"""What an initiator has found and not transferred yet, in bounded portions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from protocols.limits.data import HANDLE_BYTES
from protocols.limits.sync import SESSION_WORK_LOGS, TRANSFER_LOGS_MAX, TRANSFER_SEQS_MAX, TRANSFER_SPANS_MAX
from protocols.limits.units import KIB
from protocols.model import Item, LogName
from protocols.sync.common import Context
from protocols.sync.compare import Comparison
from protocols.sync.listing import run_lists
from protocols.sync.messages import MergedLog, Seqs, item_bytes
from protocols.sync.spans import EVERYTHING, UNKNOWN_SEQS, minus, union

__all__ = ["DifferingLog", "Portion", "Work"]

_MERGE_BYTES: Final = 12 * KIB
_SHARED_BYTES: Final = 24 * KIB
"""Shares of one transfer frame (60 KiB together): merges, and a fetch and an offer."""

_SPAN_BYTES: Final = 18
_LOG_BYTES: Final = HANDLE_BYTES + 8

_ROWS_AT_ONCE: Final = 256
"""Whole logs of our own that are turned into offers at a time."""


@dataclass(slots=True, eq=False)
class DifferingLog:
    """A log in which the two sides differ. `needs` and `offers` are spans still to be moved; `has_failed` says that
    something of the log can't be had, so that the peer's watermark means nothing to us."""

    handle: bytes
    name: LogName
    needs: deque[Seqs] = field(default_factory=deque)
    offers: deque[Seqs] = field(default_factory=deque)
    has_failed: bool = False


class Portion:
    """Spans of several logs that go out in one message, up to its limits."""

    def __init__(self) -> None:
        self.logs: list[tuple[DifferingLog, list[Seqs]]] = []
        self._room_bytes = _SHARED_BYTES
        self._room_spans = TRANSFER_SPANS_MAX // 2
        self._room_seqs = TRANSFER_SEQS_MAX

    @property
    def has_room(self) -> bool:
        """Whether another log can be begun."""
        is_full = self._room_bytes <= 0 or self._room_spans <= 0 or self._room_seqs <= 0
        return not is_full and len(self.logs) < TRANSFER_LOGS_MAX // 2

    def fill(self, log: DifferingLog, spans: deque[Seqs], *, name_bytes: int = 0) -> None:
        """Takes spans of a log as far as there is room; the first one always finds some."""
        self._room_bytes -= _LOG_BYTES + name_bytes
        taken: list[Seqs] = []
        self.logs.append((log, taken))
        while spans and (not taken or self.has_room):
            first, last = spans.popleft()
            if self._room_seqs <= last - first < UNKNOWN_SEQS:
                spans.appendleft((first + self._room_seqs, last))
                last = first + self._room_seqs - 1
            self._room_seqs -= last - first + 1
            self._room_spans -= 1
            self._room_bytes -= _SPAN_BYTES
            taken.append((first, last))


class Work:
    """Differences found: needs, offers, and merges both ways."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.merges_mine: list[tuple[LogName, Item]] = []
        self.watermarks: list[tuple[LogName, int]] = []
        self._merges_theirs: deque[tuple[bytes, Item]] = deque()
        self._needs: deque[DifferingLog] = deque()
        self._offers: deque[DifferingLog] = deque()
        self._offer_rows: deque[Iterator[int]] = deque()
        self._logs: dict[bytes, DifferingLog] = {}  # all that are in one of the queues
        self.found = 0
        self.has_dropped = False
        """Whether something was found that can't be moved because one side has no room."""

    @property
    def due(self) -> bool:
        """Whether so much has been found that it should be transferred before searching on."""
        waiting = len(self._needs) + len(self._offers) + len(self._merges_theirs) + len(self.merges_mine)
        return waiting >= SESSION_WORK_LOGS

    @property
    def empty(self) -> bool:
        """Whether nothing is left to transfer or store."""
        return not (
            self._needs
            or self._offers
            or self._offer_rows
            or self._merges_theirs
            or self.merges_mine
            or self.watermarks
        )

    # --- what the search finds ---------------------------------------------------------------------------------

    def differs(self, handle: bytes, name: LogName, needs: Iterable[Seqs], offers: Iterable[Seqs]) -> None:
        """The peer has `needs` of a log that we lack, and lacks our `offers`."""
        self.found += 1
        needs, offers = minus(needs, self._context.died(handle)), list(offers)
        is_full, peer_is_full = self._context.config.is_full, self._context.peer.is_full
        self.has_dropped = self.has_dropped or bool(needs and is_full) or bool(offers and peer_is_full)
        log = self._logs.setdefault(handle, DifferingLog(handle, name))
        if needs and not is_full:
            self._context.result.expected += sum(
                last - first + 1 for first, last in needs if last - first < UNKNOWN_SEQS
            )
            self.needed_still(log, needs, first=False)
        if offers and not peer_is_full:
            self.offered_still(log, offers, first=False)
        self._forget(log)

    def _forget(self, log: DifferingLog) -> None:
        if not (log.needs or log.offers):
            self._logs.pop(log.handle, None)

    def drop(self, logs: int) -> None:
        """The peer has so many logs that we lack and have no room for."""
        self.found += logs
        self.has_dropped = self.has_dropped or bool(logs)

    def offer_rows(self, rows: Sequence[int]) -> None:
        """The peer does not have the logs in these rows of our table at all."""
        self.found += len(rows)
        if self._context.peer.is_full:
            self.has_dropped = True
        else:
            self._offer_rows.append(iter(rows))

    def add(self, handle: bytes, name: LogName, found: Comparison) -> None:
        """Takes what the comparison of items found."""
        self.merge_theirs(handle, found.merge_theirs)
        self.merges_mine.extend((name, item) for item in found.merge_mine)
        self.found += len(found.merge_theirs) + len(found.merge_mine)
        if found.need or found.have:
            self.differs(handle, name, found.need, found.have)

    def merge_theirs(self, handle: bytes, items: Iterable[Item]) -> None:
        """The peer holds these with a later date."""
        self._merges_theirs.extend((handle, item) for item in items)

    # --- what is transferred next ------------------------------------------------------------------------------

    def take_needs(self) -> Portion:
        """What to fetch next."""
        portion = Portion()
        while self._needs and portion.has_room:
            log = self._needs[0]
            portion.fill(log, log.needs)
            if not log.needs:
                self._needs.popleft()
                self._forget(log)
        return portion

    def needed_still(self, log: DifferingLog, spans: Sequence[Seqs], *, first: bool = True) -> None:
        """These are to be asked for, before everything else if the peer stopped in the middle of them."""
        if not log.needs:
            self._queue(self._needs, log, first=first)
        log.needs = deque(union(log.needs, spans) if log.needs else spans)

    def take_offers(self) -> Portion:
        """What to offer next."""
        portion = Portion()
        while portion.has_room and (self._offers or self._next_rows()):
            log = self._offers[0]
            portion.fill(log, log.offers, name_bytes=8 + len(log.name.topic.encode()) + len(log.name.log.encode()))
            if not log.offers:
                self._offers.popleft()
                self._forget(log)
        return portion

    def offered_still(self, log: DifferingLog, spans: Sequence[Seqs], *, first: bool = True) -> None:
        """These are to be offered, before everything else if we stopped in the middle of them."""
        if not log.offers:
            self._queue(self._offers, log, first=first)
        log.offers = deque(union(log.offers, spans) if log.offers else spans)

    def _queue(self, queue: deque[DifferingLog], log: DifferingLog, *, first: bool) -> None:
        self._logs[log.handle] = log
        if first:
            queue.appendleft(log)
        else:
            queue.append(log)

    def _next_rows(self) -> bool:
        """Turns some more rows of ours into offers; False if there are none."""
        while self._offer_rows:
            rows = list(islice(self._offer_rows[0], _ROWS_AT_ONCE))
            if not rows:
                self._offer_rows.popleft()
                continue
            table = self._context.view
            runs = run_lists(table.runs(np.array(rows, np.int64)), range(len(rows)))
            for row, spans in zip(rows, runs, strict=True):
                handle = table.handle_at(row)
                log = self._logs.get(handle) or DifferingLog(handle, table.name_at(row))
                self.offered_still(log, spans or [EVERYTHING], first=False)
            return True
        return False

    def take_merges(self) -> list[MergedLog]:
        """Earlier dates for what the peer holds."""
        room_bytes = _MERGE_BYTES
        merges: dict[bytes, dict[tuple[int, bytes], Item]] = {}
        while self._merges_theirs and room_bytes > 0 and len(merges) < TRANSFER_LOGS_MAX:
            handle, item = self._merges_theirs.popleft()
            room_bytes -= item_bytes(item) + (0 if handle in merges else _LOG_BYTES)
            merges.setdefault(handle, {})[item.seq, item.digest] = item
        return [MergedLog(handle, sorted(merges[handle].values())) for handle in sorted(merges)]
