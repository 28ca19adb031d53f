"""The initiator's search for differences: what it asks next, and what the answers mean. The spec is `reconcile.md`.

The search goes depth first. Logs known to differ are asked about before more ranges are, so what is pending stays small
whatever the size of the set, and transfers can happen in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    BLOCK_SEQS,
    CONTROL_FRAME_BYTES_MAX,
    FINGERPRINT_BYTES,
    FRUITLESS_TURNS_MAX,
    HANDLE_BYTES,
    HASHES_MAX,
    KIB,
    RANGE_LEAF_ROWS,
    RANGE_PARTS_MAX,
    SYNC_ENTRIES_MAX,
)
from protocols.model import Item, LogName
from protocols.sync.common import Context, Steps, read_blocks
from protocols.sync.compare import compare_items
from protocols.sync.messages import Ask, AskedLog, Tell, ToldLog
from protocols.sync.ranges import range_bytes
from protocols.sync.reconcile import BLOCK_KEY_BYTES, DIFF, DIFFERS, FP, LIST, NONE, Range, Rows
from protocols.sync.work import DifferingLog, Work

__all__ = ["Search"]

BODY_BYTES: Final = CONTROL_FRAME_BYTES_MAX - 4 * KIB
"""What fills a frame; the rest is for the array around it and for a hello."""

_ASKED_RANGES_MAX: Final = 128
"""Ranges about logs in one question: each may come back in RANGE_PARTS_MAX parts, which the responder keeps until we
have fetched them."""

_LOG_RANGES_MAX: Final = 128
_LOG_QUESTION_BYTES: Final = 16 * KIB
"""What one question says about one log, before the last range that is refined."""

_OWN_ROWS_MAX: Final = 4 * RANGE_LEAF_ROWS
"""With more rows of our own in a range that the peer listed, the range is split on."""

Bounds = tuple[bytes, bytes | None]


@dataclass(slots=True)
class _Question:
    """The last thing asked about ranges: their modes, and the row behind each hash listed."""

    asked: list[Range] = field(default_factory=list)
    rows: dict[bytes, int] = field(default_factory=dict)
    at: int = 0
    told_until: bytes | None = b""

    def asked_around(self, said: Range) -> Range:
        """The asked range in which an answer lies. Answers come in ascending order, in however many frames."""
        if self.told_until is None or said.lower < self.told_until:
            raise RemoteProtocolError("ranges", "a range is answered twice or out of order")
        self.told_until = said.upper
        while self.at < len(self.asked) and not _ends_within(said, self.asked[self.at]):
            self.at += 1
        if self.at == len(self.asked) or said.lower < self.asked[self.at].lower:
            raise RemoteProtocolError("ranges", "an answer to what was not asked")
        return self.asked[self.at]


def _ends_within(said: Range, asked: Range) -> bool:
    return asked.upper is None or (said.upper is not None and said.upper <= asked.upper)


class Search:
    """One initiator's search. `next_ask`, send it, give the answer to `take`; until `next_ask` returns None."""

    def __init__(self, context: Context, work: Work, *, only: Sequence[bytes] | None) -> None:
        self._context = context
        self._work = work
        self._rows = context.log_rows()
        self._opening = only is None
        self._ranges: list[Bounds] = []  # differ and are to be refined; the last one first
        self._logs: deque[DifferingLog] = deque()
        self._asked_logs: dict[bytes, DifferingLog] = {}
        self._told: set[bytes] = set()
        self._unknown_rows: set[bytes] = set()
        self._question = _Question()
        self._more = False
        self._fruitless = 0
        for handle in sorted(set(only or ())):
            log = DifferingLog(handle, context.view.name(handle))
            log.to_ask = [None]
            self._logs.append(log)

    # --- asking ------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to ask."""
        return not (self._more or self._opening or self._ranges or self._logs or self._unknown_rows)

    def next_ask(self) -> Ask:
        """What to ask now. An Ask without content lets the responder go on telling."""
        room = BODY_BYTES
        logs: list[AskedLog] = []
        if not self._more:
            self._asked_logs.clear()
            room -= self._ask_logs(logs, room)
        rows: list[bytes] = []
        if not self._logs:
            rows = sorted(self._unknown_rows)[: min(HASHES_MAX, room // FINGERPRINT_BYTES)]
            self._unknown_rows.difference_update(rows)
            room -= FINGERPRINT_BYTES * len(rows)
        ranges: list[Range] = []
        if not (self._more or self._logs or self._unknown_rows):
            ranges = self._ask_ranges(room)
        return Ask(ranges, sorted(logs, key=lambda log: log.handle), rows)

    def _ask_logs(self, asked: list[AskedLog], room: int) -> int:
        used = 0
        while self._logs and len(asked) < SYNC_ENTRIES_MAX:
            log = self._logs[0]
            ranges = log.question or self._log_question(log)
            size = HANDLE_BYTES + 16 + sum(range_bytes(said, BLOCK_KEY_BYTES) for said in ranges)
            if used + size > room and asked:
                log.question = ranges  # computed already: it opens the next question
                break
            self._logs.popleft()
            log.question = []
            log.asked = {(said.lower, said.upper): said.mode for said in ranges}
            log.told_block = -1
            self._asked_logs[log.handle] = log
            asked.append(AskedLog(log.handle, ranges))
            used += size
        return used

    def _log_question(self, log: DifferingLog) -> list[Range]:
        """What to say about the blocks of a log: nothing if we don't have it."""
        rows = self._context.block_rows(log.handle)
        if not rows.keys:
            log.to_ask, log.listed = [], {}
            return []
        ranges: list[Range] = []
        used = 0
        while log.to_ask and len(ranges) < _LOG_RANGES_MAX and used < _LOG_QUESTION_BYTES:
            bounds = log.to_ask.pop()
            refined = rows.tail_opening() if bounds is None else rows.refine(*bounds)
            used += sum(range_bytes(said, BLOCK_KEY_BYTES) for said in refined)
            ranges += refined
        ranges.sort(key=lambda said: said.lower)
        log.listed = {
            row: int.from_bytes(rows.keys[at], "big")
            for said in ranges
            if said.mode == LIST
            for at, row in enumerate(said.hashes, rows.bounds(said.lower, said.upper)[0])
        }
        return ranges

    def _ask_ranges(self, room: int) -> list[Range]:
        ranges: list[Range] = []
        hashes = 0
        if self._opening:
            self._opening = False
            ranges = self._rows.opening()
        piece = RANGE_PARTS_MAX * (2 * HANDLE_BYTES + FINGERPRINT_BYTES + 5)
        while (
            self._ranges
            and len(ranges) < _ASKED_RANGES_MAX
            and hashes + RANGE_LEAF_ROWS <= HASHES_MAX
            and room - sum(range_bytes(said, HANDLE_BYTES) for said in ranges) > piece
        ):
            refined = self._rows.refine(*self._ranges.pop())
            hashes += sum(len(said.hashes) for said in refined)
            ranges += refined
        if ranges:
            ranges.sort(key=lambda said: said.lower)
            self._question = _Question(ranges, _row_numbers(self._rows, ranges))
        return ranges

    # --- understanding the answers -----------------------------------------------------------------------------

    def take(self, tell: Tell) -> Steps[None]:
        """Takes the answer to the last question. Raises RemoteProtocolError."""
        self._more = tell.more
        for said in tell.ranges:
            self._take_range(said)
        for told in tell.logs:
            yield from self._take_log(told)
        if not self._more and self._asked_logs:
            raise RemoteProtocolError("unanswered", "a question about a log was not answered")
        fruitful = any(told.items for told in tell.logs) or any(said.hashes for said in tell.ranges)
        self._fruitless = 0 if fruitful else self._fruitless + 1
        if self._fruitless > FRUITLESS_TURNS_MAX:
            raise RemoteProtocolError("no-progress", f"{FRUITLESS_TURNS_MAX} answers in a row that tell nothing")

    def _take_range(self, said: Range) -> None:
        asked = self._question.asked_around(said)
        if said.mode == FP:
            if (said.lower, said.upper) == (asked.lower, asked.upper):
                raise RemoteProtocolError("ranges", "a range was not split")
            if not self._rows.matches(said):
                self._ranges.append((said.lower, said.upper))
        elif said.mode == LIST and asked.mode == FP:
            self._take_list(said)
        elif said.mode == DIFF and asked.mode == LIST:
            mine = [self._question.rows[row] for row in said.hashes if row in self._question.rows]
            self._differ(mine, [row for row in said.hashes if row not in self._question.rows])
        else:
            raise RemoteProtocolError("ranges", "an answer that does not fit the question")

    def _take_list(self, said: Range) -> None:
        lo, hi = self._rows.bounds(said.lower, said.upper)
        if not said.hashes:
            self._work.offer_rows(range(lo, hi))
        elif hi - lo > _OWN_ROWS_MAX:
            self._ranges.append((said.lower, said.upper))
        else:
            self._differ(*self._rows.difference(said))

    def _differ(self, mine: list[int], theirs: list[bytes]) -> None:
        """Rows of one range that only one side has. If only we have any, the peer lacks these logs altogether; if both
        do, they may be different states of the same log."""
        if not theirs:
            self._work.offer_rows(mine)
            return
        self._unknown_rows.update(theirs)
        for row in mine:
            handle = self._rows.keys[row]
            log = DifferingLog(handle, self._context.view.name(handle))
            log.to_ask = [None]
            self._logs.append(log)

    def _take_log(self, told: ToldLog) -> Steps[None]:
        log = self._asked_logs.get(told.handle)
        if log is None:
            log = self._log_told_unasked(told)
        name = log.name or told.name
        if name is None:
            if told.items or not told.last:
                raise RemoteProtocolError("name", "items of a log whose name is not known")
            self._close(log)
            return
        log.name = name
        if told.watermark is not None:
            log.peer_watermark = told.watermark
        for said in told.ranges:
            self._take_blocks(log, said)
        if told.items:
            yield from self._take_items(log, name, told.items)
        if told.last:
            self._end(log)

    def _log_told_unasked(self, told: ToldLog) -> DifferingLog:
        """A log that the peer tells of because we don't have it, or because we asked for its row."""
        if told.ranges or told.handle in self._told:
            raise RemoteProtocolError("unrequested", "a log is told twice")
        log = DifferingLog(told.handle, told.name, peer_knows=True)
        self._asked_logs[told.handle] = log
        return log

    def _take_blocks(self, log: DifferingLog, said: Range) -> None:
        mode = log.asked.pop((said.lower, said.upper), None)
        if said.mode == NONE and mode in (FP, LIST):
            rows = self._context.block_rows(log.handle)
            lo, hi = rows.bounds(said.lower, said.upper)
            log.unmatched.update(int.from_bytes(key, "big") for key in rows.keys[lo:hi])
            return
        log.peer_knows = True
        if said.mode == DIFFERS and mode == FP:
            log.to_ask.append((said.lower, said.upper))
        elif said.mode == DIFF and mode == LIST:
            for row in said.hashes:
                if row not in log.listed:
                    raise RemoteProtocolError("ranges", "a difference in what was not listed")
                log.unmatched.add(log.listed[row])
        else:
            raise RemoteProtocolError("ranges", "an answer that does not fit the question")

    def _take_items(self, log: DifferingLog, name: LogName, items: Sequence[Item]) -> Steps[None]:
        log.peer_knows = True
        numbers = [number for number, _ in groupby(items, lambda item: item.seq // BLOCK_SEQS)]
        if numbers[0] <= log.told_block:
            raise RemoteProtocolError("order", "a block is told twice")
        log.told_block = numbers[-1]
        self._context.result.described += len(items)
        mine = yield from read_blocks(self._context, name, numbers)
        self._work.add(log, compare_items(self._context, items, mine))
        log.unmatched.difference_update(numbers)

    def _end(self, log: DifferingLog) -> None:
        """The peer has told all that it has to say to our question about this log."""
        if log.unmatched:
            self._work.offer_blocks(log, sorted(log.unmatched))
            log.unmatched = set()
        if log.to_ask:
            del self._asked_logs[log.handle]
            self._logs.append(log)
        else:
            self._close(log)

    def _close(self, log: DifferingLog) -> None:
        del self._asked_logs[log.handle]
        self._told.add(log.handle)
        log.listed = {}
        self._work.close(log)


def _row_numbers(rows: Rows, ranges: Sequence[Range]) -> dict[bytes, int]:
    """The row behind each hash of the LIST ranges."""
    return {
        row: at
        for said in ranges
        if said.mode == LIST
        for at, row in enumerate(said.hashes, rows.bounds(said.lower, said.upper)[0])
    }
