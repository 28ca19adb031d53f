"""The responder's side of the search: what there is to say to a question, told frame by frame.

What does not fit into one frame waits here; nothing is compared twice. All that waits is bounded by one question, since
the next one about ranges or logs is accepted only when everything has been told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    BLOCK_SEQS,
    FINGERPRINT_BYTES,
    HANDLE_BYTES,
    HASHES_MAX,
    RANGE_LEAF_ROWS,
    RANGE_PARTS_MAX,
    RANGES_MAX,
    RESPONDER_ROWS_MAX,
    SYNC_ENTRIES_MAX,
)
from protocols.model import Item, LogName
from protocols.sync.common import Context, Steps, read_blocks
from protocols.sync.effects import ReadWatermarks
from protocols.sync.messages import Ask, AskedLog, Tell, ToldLog, item_bytes
from protocols.sync.ranges import range_bytes
from protocols.sync.reconcile import BLOCK_KEY_BYTES, DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.search import BODY_BYTES

__all__ = ["Answers"]

_LISTED_ROWS_MAX: Final = 4 * RANGE_LEAF_ROWS
"""With more rows of our own in a range that the peer listed, the range is split instead."""

_READ_BLOCKS: Final = 16
"""Blocks read at a time while telling a log."""

_ENTRY_BYTES: Final = HANDLE_BYTES + 40
"""A told log without name, ranges and items."""


@dataclass(slots=True)
class _Telling:
    """A log that is being told: answers to block ranges first, then the items of `numbers`, block by block."""

    handle: bytes
    name: LogName | None
    named: bool
    ranges: list[Range] = field(default_factory=list)
    numbers: deque[int] = field(default_factory=deque)
    ready: deque[list[Item]] = field(default_factory=deque)  # blocks that have been read and not told

    @property
    def entry_bytes(self) -> int:
        name_bytes = len(self.name.topic.encode()) + len(self.name.log.encode()) if self.name and self.named else 0
        return _ENTRY_BYTES + name_bytes + sum(range_bytes(said, BLOCK_KEY_BYTES) for said in self.ranges)


@dataclass(slots=True)
class _Frame:
    """A Tell being filled."""

    room: int = BODY_BYTES
    ranges: list[Range] = field(default_factory=list)
    hashes: int = 0
    logs: list[ToldLog] = field(default_factory=list)
    full: bool = False


class Answers:
    """`accept` a question, then `tell` a frame at a time. Raises RemoteProtocolError for questions out of turn."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rows = context.log_rows()
        self._asked: deque[AskedLog] = deque()
        self._telling: _Telling | None = None
        self._whole: deque[Iterator[int]] = deque()  # rows of logs that are to be told whole
        self._ranges: deque[Range] = deque()
        self._listed: dict[bytes, int] = {}  # row behind each hash that we told since the last question about ranges
        self._asked_rows: set[int] = set()  # rows of logs asked about by handle since then

    @property
    def _pending(self) -> bool:
        return bool(self._asked or self._telling or self._whole or self._ranges)

    def accept(self, ask: Ask) -> None:
        """Takes a question."""
        if (ask.ranges or ask.logs) and self._pending:
            raise RemoteProtocolError("state", "a new question before the last one was answered")
        for log in ask.logs:
            row = bisect_left(self._rows.keys, log.handle)
            if row < len(self._rows.keys) and self._rows.keys[row] == log.handle:
                self._asked_rows.add(row)
        self._asked.extend(ask.logs)
        if ask.rows:
            rows = [self._row_of(said) for said in ask.rows]
            # A log whose state differs is asked about by its handle too, and that is the better question.
            self._tell_whole([row for row in rows if row not in self._asked_rows])
        if ask.ranges:
            self._listed.clear()
            self._asked_rows.clear()
            self._ranges.extend(ask.ranges)

    def _row_of(self, said: bytes) -> int:
        row = self._listed.pop(said, None)
        if row is None:
            raise RemoteProtocolError("unrequested", "a question about a row that was not listed")
        return row

    def _tell_whole(self, rows: Iterable[int]) -> None:
        self._whole.append(iter(rows))

    # --- telling -----------------------------------------------------------------------------------------------

    def tell(self) -> Steps[Tell]:
        """The next frame of the answer."""
        frame = _Frame()
        while not frame.full:
            if self._telling or self._next_log():
                yield from self._tell_log(frame)
            elif self._ranges:
                self._tell_range(frame)
            else:
                break
        names = [told.name or self._name(told.handle) for told in frame.logs]
        known = [name for name in names if name is not None]
        watermarks: Sequence[int | None] = (yield ReadWatermarks(known)) if known else []
        by_name = dict(zip(known, watermarks, strict=True))
        logs = [
            replace(told, watermark=by_name[name]) if name is not None else told
            for told, name in zip(frame.logs, names, strict=True)
        ]
        return Tell(frame.ranges, logs, self._pending)

    def _name(self, handle: bytes) -> LogName | None:
        return self._context.view.name(handle)

    def _next_log(self) -> bool:
        """Makes the next log that is to be told ready; False if there is none."""
        if self._asked:
            self._telling = self._answer(self._asked.popleft())
            return True
        while self._whole:
            row = next(self._whole[0], None)
            if row is None:
                self._whole.popleft()
            else:
                self._telling = self._whole_log(self._rows.keys[row])
                return True
        return False

    def _whole_log(self, handle: bytes) -> _Telling:
        numbers = deque(number for number, _ in self._context.view.blocks(handle))
        self._context.budget.spend(len(numbers))
        return _Telling(handle, self._name(handle), named=True, numbers=numbers)

    def _answer(self, asked: AskedLog) -> _Telling:
        """Compares the blocks of one log with what the initiator says about them."""
        if not asked.ranges:
            return self._whole_log(asked.handle)
        rows = self._context.block_rows(asked.handle)
        telling = _Telling(asked.handle, self._name(asked.handle), named=False)
        for said in asked.ranges:
            lo, hi = rows.bounds(said.lower, said.upper)
            if said.mode == FP and rows.matches(said):
                continue
            if lo == hi:
                if said.mode == FP or said.hashes:
                    telling.ranges.append(Range(said.lower, said.upper, NONE))
            elif said.mode == FP:
                telling.ranges.append(Range(said.lower, said.upper, DIFFERS))
            elif said.mode == LIST:
                mine, theirs = rows.difference(said)
                if theirs:
                    telling.ranges.append(Range(said.lower, said.upper, DIFF, hashes=tuple(theirs)))
                telling.numbers.extend(int.from_bytes(rows.keys[row], "big") for row in mine)
            else:
                raise RemoteProtocolError("ranges", "a mode that is no question")
        return telling

    def _tell_log(self, frame: _Frame) -> Steps[None]:
        telling = self._telling
        assert telling is not None
        room = frame.room - telling.entry_bytes
        if (room < 0 and frame.room < BODY_BYTES) or len(frame.logs) >= SYNC_ENTRIES_MAX:
            frame.full = True
            return
        items: list[Item] = []
        while telling.numbers or telling.ready:
            if not telling.ready:
                yield from self._read(telling)
                continue
            size = sum(item_bytes(item) for item in telling.ready[0])
            if size > room and (items or frame.room < BODY_BYTES):
                frame.full = True
                break
            room -= size
            items += telling.ready.popleft()
        last = not (telling.numbers or telling.ready)
        if items or telling.ranges or last:
            name = telling.name if telling.named else None
            frame.logs.append(ToldLog(telling.handle, name, telling.ranges, items, last))
            self._context.result.described += len(items)
            frame.room = room
        telling.ranges = []
        if last:
            self._telling = None

    def _read(self, telling: _Telling) -> Steps[None]:
        """Reads some blocks; what changed since the picture was taken is told as it is now."""
        numbers = [telling.numbers.popleft() for _ in range(min(_READ_BLOCKS, len(telling.numbers)))]
        if telling.name is None:
            return
        items = yield from read_blocks(self._context, telling.name, numbers)
        alive = (item for item in items if item.first_stored_s >= self._context.alive_from_s)
        telling.ready.extend(list(block) for _, block in groupby(alive, lambda item: item.seq // BLOCK_SEQS))

    def _tell_range(self, frame: _Frame) -> None:
        """Answers the next range about logs, or leaves it to the next frame."""
        said = self._ranges[0]
        worst_bytes = max(
            RANGE_PARTS_MAX * (2 * HANDLE_BYTES + 5 + FINGERPRINT_BYTES),
            FINGERPRINT_BYTES * (_LISTED_ROWS_MAX + len(said.hashes)),
        )
        if (
            frame.room < worst_bytes
            or frame.hashes + _LISTED_ROWS_MAX + len(said.hashes) > HASHES_MAX
            or 2 * len(frame.ranges) + RANGE_PARTS_MAX + 2 > RANGES_MAX
        ):
            if frame.ranges or frame.logs:
                frame.full = True
                return
            raise RemoteProtocolError("limit", "a list too long to be answered in one frame")
        self._ranges.popleft()
        for answer in self._answer_range(said):
            frame.ranges.append(answer)
            frame.hashes += len(answer.hashes)
            frame.room -= range_bytes(answer, HANDLE_BYTES)

    def _answer_range(self, said: Range) -> list[Range]:
        lo, hi = self._rows.bounds(said.lower, said.upper)
        if said.mode == FP:
            if self._rows.fingerprint(lo, hi) == said.fingerprint:
                return []
            refined = self._rows.refine(said.lower, said.upper)
            self._remember(refined)
            return refined
        if said.mode != LIST:
            raise RemoteProtocolError("ranges", "a mode that is no question")
        if not said.hashes:
            self._tell_whole(range(lo, hi))
            return []
        if hi - lo > _LISTED_ROWS_MAX:
            return self._rows.refine(said.lower, said.upper)
        mine, theirs = self._rows.difference(said)
        if not theirs:
            self._tell_whole(mine)
            return []
        hashes = [self._hash_and_remember(row) for row in mine]
        return [Range(said.lower, said.upper, DIFF, hashes=tuple(sorted(hashes + theirs)))]

    def _hash_and_remember(self, row: int) -> bytes:
        (said,) = self._rows.hashes(row, row + 1)
        self._note(said, row)
        return said

    def _remember(self, refined: Sequence[Range]) -> None:
        for said in refined:
            if said.mode == LIST:
                lo, _ = self._rows.bounds(said.lower, said.upper)
                for row, one in enumerate(said.hashes, lo):
                    self._note(one, row)

    def _note(self, said: bytes, row: int) -> None:
        self._listed[said] = row
        if len(self._listed) > RESPONDER_ROWS_MAX:
            raise RemoteProtocolError("limit", "a question that makes us list too much")
