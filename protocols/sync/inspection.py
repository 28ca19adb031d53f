"""The initiator's second question: in which messages do these logs differ? The spec is `reconcile.md`.

Asked where runs of seqs don't tell: they are the same and yet the logs differ (another date, another content under the
same seq), or there are too many of them; or what they show can't be moved, and there may be more. Rows of a small
region are compared by their hashes, then logs by hashes of their blocks, and of differing blocks the responder tells
every item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES, SEQ_MAX
from protocols.limits.sync import BLOCK_SEQS, CONTROL_BODY_BYTES, FRUITLESS_TURNS_MAX, SYNC_ENTRIES_MAX
from protocols.limits.units import KIB
from protocols.model import Item, LogName
from protocols.sync.common import Context, Steps, read_blocks
from protocols.sync.compare import compare_items
from protocols.sync.messages import Ask, AskedLog, Seqs, Tell, ToldLog
from protocols.sync.ranges import range_bytes
from protocols.sync.reconcile import BLOCK_KEY_BYTES, DIFF, DIFFERS, FP, LIST, NONE, Range, block_key
from protocols.sync.spans import minus, union
from protocols.sync.work import Work

__all__ = ["Inspection"]

_LOG_RANGES_MAX: Final = 128
_LOG_QUESTION_BYTES: Final = 16 * KIB
"""What one question says about one log, before the last range that is refined."""


@dataclass(slots=True)
class _Log:
    """A log that is being inspected.

    `to_ask` are block ranges to refine (None: the whole log), of which those in `together` have not been asked about by
    one fingerprint yet, `question` what is said about them next, `asked` what awaits an answer, `listed` the block
    behind each hash listed, `unmatched` our blocks that the peer does not have like that. Of the seqs `apart` it is
    known that only one side has them.
    """

    handle: bytes
    name: LogName
    to_ask: list[tuple[bytes, bytes | None] | None] = field(default_factory=lambda: [None])
    question: list[Range] = field(default_factory=list)
    asked: dict[tuple[bytes, bytes | None], int] = field(default_factory=dict)
    listed: dict[bytes, int] = field(default_factory=dict)
    unmatched: set[int] = field(default_factory=set)
    told_block: int = -1
    together: set[tuple[bytes, bytes | None]] = field(default_factory=set)
    apart: Sequence[Seqs] = ()


class Inspection:
    """One initiator's. `add` and `add_region`, then `next_ask`, send it, give the answer to `take`, until `finished`.

    `found_unknown` is told the handles of logs that only the peer has.
    """

    def __init__(self, context: Context, work: Work, found_unknown: Callable[[bytes], None]) -> None:
        self._context = context
        self._work = work
        self._found_unknown = found_unknown
        self._regions: deque[tuple[int, int]] = deque()
        self._asked_region: tuple[int, int] | None = None
        self._left_out: Set[bytes] | None = None
        self._logs: deque[_Log] = deque()
        self._asked: dict[bytes, _Log] = {}
        self._seen: set[bytes] = set()
        self._more = False
        self._fruitless = 0

    def add(self, handle: bytes, name: LogName) -> None:
        """A log of ours that differs in what its runs don't show. Each is inspected once."""
        if handle not in self._seen:
            self._seen.add(handle)
            self._logs.append(_Log(handle, name))

    def add_common(self, handle: bytes, name: LogName, both: Sequence[Seqs], apart: Sequence[Seqs]) -> None:
        """A log of ours of which both sides have the seqs `both`, which may differ, and one side those `apart`, which
        is known. Blocks without these are asked about by one fingerprint: mostly they are the same."""
        if handle in self._seen:
            return
        self._seen.add(handle)
        blocks = _blocks_of(both)
        alike = minus(blocks, _blocks_of(apart))
        log = _Log(handle, name, apart=apart)
        log.together = {_bounds(span) for span in alike}
        log.to_ask = [_bounds(span) for span in sorted([*alike, *minus(blocks, alike)], reverse=True)]
        self._logs.append(log)

    def add_region(self, lower: int, upper: int) -> None:
        """A small region in which some log differs, though all runs are the same."""
        self._regions.append((lower, upper))

    def add_rest(self, lower: int, upper: int, others: Set[bytes]) -> None:
        """A region of which all is known that only one side has: logs, and messages of those with the handles `others`.
        The last one."""
        self._left_out = others
        self._regions.append((lower, upper))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to ask."""
        return not (self._more or self._regions or self._logs)

    def next_ask(self) -> Ask:
        """What to ask now. An Ask without content lets the responder go on telling."""
        if self._more:
            return Ask()
        self._asked.clear()
        if self._regions:
            self._asked_region = self._regions.popleft()
            return Ask(self._asked_region)
        logs: list[AskedLog] = []
        room = CONTROL_BODY_BYTES
        while self._logs and len(logs) < SYNC_ENTRIES_MAX:
            log = self._logs[0]
            ranges = log.question or self._question(log)
            size = HANDLE_BYTES + 16 + sum(range_bytes(said, BLOCK_KEY_BYTES) for said in ranges)
            if size > room and logs:
                log.question = ranges  # computed already: it opens the next question
                break
            self._logs.popleft()
            log.question = []
            log.asked = {(said.lower, said.upper): said.mode for said in ranges}
            log.told_block = -1
            self._asked[log.handle] = log
            logs.append(AskedLog(log.handle, ranges))
            room -= size
        return Ask(None, sorted(logs, key=lambda log: log.handle))

    def _question(self, log: _Log) -> list[Range]:
        """What to say about the blocks of a log: nothing if we don't have it any more."""
        rows = self._context.block_rows(log.handle)
        if not len(rows):
            log.to_ask, log.listed = [], {}
            return []
        ranges: list[Range] = []
        used = 0
        while log.to_ask and len(ranges) < _LOG_RANGES_MAX and used < _LOG_QUESTION_BYTES:
            bounds = log.to_ask.pop()
            if bounds is None:
                refined = rows.tail_opening()
            elif bounds in log.together:
                log.together.remove(bounds)
                refined = [rows.whole(*bounds)]
            else:
                refined = rows.refine(*bounds)
            used += sum(range_bytes(said, BLOCK_KEY_BYTES) for said in refined)
            ranges += refined
        ranges.sort(key=lambda said: said.lower)
        log.listed = {
            row: int(rows.numbers[at])
            for said in ranges
            if said.mode == LIST
            for at, row in enumerate(said.hashes, rows.bounds(said.lower, said.upper)[0])
        }
        return ranges

    # --- understanding the answers -----------------------------------------------------------------------------

    def take(self, tell: Tell) -> Steps[None]:
        """Takes the answer to the last question. Raises RemoteProtocolError."""
        self._more = tell.more
        region, self._asked_region = self._asked_region, None
        if region is not None:
            self._take_rows(region, tell)
        elif tell.rows:
            raise RemoteProtocolError("unrequested", "rows that were not asked for")
        for told in tell.logs:
            yield from self._take_log(told)
        if not self._more and self._asked:
            raise RemoteProtocolError("unanswered", "a question about a log was not answered")
        fruitful = region is not None or any(told.items or told.ranges or told.last for told in tell.logs)
        self._fruitless = 0 if fruitful else self._fruitless + 1
        if self._fruitless > FRUITLESS_TURNS_MAX:
            raise RemoteProtocolError("no-progress", f"{FRUITLESS_TURNS_MAX} answers in a row that tell nothing")

    def _take_rows(self, region: tuple[int, int], tell: Tell) -> None:
        lower, upper = region
        until = min(upper, tell.until)
        if until <= lower:
            raise RemoteProtocolError("no-progress", "an answer about nothing")
        if until < upper:
            self._regions.appendleft((until, upper))
        table = self._context.table
        lo, hi = table.bounds(lower, until)
        mine = {table.table.handle_at(row): row for row in range(lo, hi)}
        for handle, said in tell.rows:
            if not lower <= int.from_bytes(handle[:8], "big") < until:
                raise RemoteProtocolError("unrequested", "a row outside of what was asked for")
            row = mine.pop(handle, None)
            if row is None:
                if self._left_out is None:
                    self._found_unknown(handle)
            elif (self._left_out is None or handle not in self._left_out) and table.row_hashes([row]) != said:
                self.add(handle, table.table.name_at(row))
        if self._left_out is None:
            self._work.offer_rows(sorted(mine.values()))

    def _take_log(self, told: ToldLog) -> Steps[None]:
        log = self._asked.get(told.handle)
        if log is None:
            raise RemoteProtocolError("unrequested", "a log that was not asked about, or told twice")
        for said in told.ranges:
            self._take_blocks(log, said)
        if told.items:
            yield from self._take_items(log, told.items)
        if told.last:
            self._end(log)

    def _take_blocks(self, log: _Log, said: Range) -> None:
        mode = log.asked.pop((said.lower, said.upper), None)
        if said.mode == NONE and mode in (FP, LIST):
            rows = self._context.block_rows(log.handle)
            lo, hi = rows.bounds(said.lower, said.upper)
            log.unmatched.update(rows.numbers[lo:hi].tolist())
        elif said.mode == DIFFERS and mode == FP:
            log.to_ask.append((said.lower, said.upper))
        elif said.mode == DIFF and mode == LIST:
            for row in said.hashes:
                if row not in log.listed:
                    raise RemoteProtocolError("ranges", "a difference in what was not listed")
                log.unmatched.add(log.listed[row])
        else:
            raise RemoteProtocolError("ranges", "an answer that does not fit the question")

    def _take_items(self, log: _Log, items: Sequence[Item]) -> Steps[None]:
        numbers = [number for number, _ in groupby(items, lambda item: item.seq // BLOCK_SEQS)]
        if numbers[0] <= log.told_block:
            raise RemoteProtocolError("order", "a block is told twice")
        log.told_block = numbers[-1]
        self._context.result.described += len(items)
        mine = yield from read_blocks(self._context, log.name, numbers)
        found = compare_items(self._context, log.name, items, mine)
        found.need, found.have = minus(found.need, log.apart), minus(found.have, log.apart)
        self._work.add(log.handle, log.name, found)
        log.unmatched.difference_update(numbers)

    def _end(self, log: _Log) -> None:
        """The peer has told all that it has to say to our question about this log."""
        if log.unmatched:
            blocks: list[Seqs] = [
                (number * BLOCK_SEQS, min(number * BLOCK_SEQS + BLOCK_SEQS - 1, SEQ_MAX))
                for number in sorted(log.unmatched)
            ]
            self._work.differs(log.handle, log.name, (), blocks)
            log.unmatched = set()
        del self._asked[log.handle]
        log.listed = {}
        if log.to_ask:
            self._logs.append(log)


def _blocks_of(seqs: Sequence[Seqs]) -> list[Seqs]:
    """The numbers of the blocks in which there are some of these seqs, as spans."""
    return union(((first // BLOCK_SEQS, last // BLOCK_SEQS) for first, last in seqs), ())


def _bounds(blocks: Seqs) -> tuple[bytes, bytes | None]:
    """A span of block numbers as bounds of a range."""
    return block_key(blocks[0]), block_key(blocks[1] + 1)
