"""The responder's side of an inspection: what there is to say about logs, told frame by frame.

What does not fit into one frame waits here; nothing is compared twice. All that waits is bounded by one question, since
the next one is accepted only when everything has been told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES
from protocols.limits.sync import BLOCK_SEQS, CONTROL_BODY_BYTES, FINGERPRINT_BYTES, SYNC_ENTRIES_MAX
from protocols.model import Item, LogName
from protocols.sync.common import Context, Steps, read_blocks
from protocols.sync.messages import Ask, AskedLog, Tell, ToldLog, item_bytes
from protocols.sync.ranges import range_bytes
from protocols.sync.reconcile import BLOCK_KEY_BYTES, DIFF, DIFFERS, FP, LIST, NONE, BlockRows, Range
from protocols.sync.regions import END

__all__ = ["Telling"]

_READ_BLOCKS: Final = 16
"""Blocks read at a time while telling a log."""

_COMPARED_BLOCKS: Final = 1024
"""Blocks hashed one by one before others get a turn."""

_ENTRY_BYTES: Final = HANDLE_BYTES + 40
"""A told log without ranges and items."""

_ROWS_MAX: Final = CONTROL_BODY_BYTES // (HANDLE_BYTES + FINGERPRINT_BYTES)


@dataclass(slots=True)
class _Log:
    """A log that is being told: answers to block ranges first, then the items of `numbers`, block by block."""

    handle: bytes
    name: LogName | None
    ranges: list[Range] = field(default_factory=list)
    numbers: deque[int] = field(default_factory=deque)
    ready: deque[list[Item]] = field(default_factory=deque)  # blocks that have been read and not told

    @property
    def entry_bytes(self) -> int:
        return _ENTRY_BYTES + sum(range_bytes(said, BLOCK_KEY_BYTES) for said in self.ranges)


@dataclass(slots=True)
class _Frame:
    """A Tell being filled."""

    room: int = CONTROL_BODY_BYTES
    logs: list[ToldLog] = field(default_factory=list)
    full: bool = False


class Telling:
    """`accept` a question, then `tell` a frame at a time. Raises RemoteProtocolError for questions out of turn."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: deque[AskedLog] = deque()
        self._telling: _Log | None = None

    @property
    def pending(self) -> bool:
        """Whether there is more to tell."""
        return bool(self._asked or self._telling)

    def accept(self, ask: Ask) -> None:
        """Takes a question about logs."""
        if ask.logs and self.pending:
            raise RemoteProtocolError("state", "a new question before the last one was answered")
        self._asked.extend(ask.logs)

    def rows(self, lower: int, upper: int) -> Tell:
        """The rows of a region, as far as they fit."""
        table = self._context.table
        lo, hi = table.bounds(lower, upper)
        until = upper
        if hi - lo > _ROWS_MAX:
            hi = lo + _ROWS_MAX
            prefixes = table.table.prefixes
            while hi > lo + 1 and prefixes[hi] == prefixes[hi - 1]:
                hi -= 1  # a place is not cut
            until = int(prefixes[hi])
        hashes = table.row_hashes(range(lo, hi))
        rows = [
            (table.table.handle_at(row), hashes[at : at + FINGERPRINT_BYTES])
            for row, at in zip(range(lo, hi), range(0, len(hashes), FINGERPRINT_BYTES), strict=True)
        ]
        return Tell(rows, until)

    def tell(self) -> Steps[Tell]:
        """The next frame of the answer."""
        frame = _Frame()
        while not frame.full and (self._telling or self._asked):
            if self._telling is None:
                self._telling = yield from self._answer(self._asked.popleft())
            yield from self._context.give_way()
            yield from self._tell_log(frame, self._telling)
        return Tell((), END, frame.logs, self.pending)

    def _answer(self, asked: AskedLog) -> Steps[_Log]:
        """Compares the blocks of one log with what the initiator says about them."""
        rows = self._context.block_rows(asked.handle)
        telling = _Log(asked.handle, self._context.name(asked.handle))
        if not asked.ranges:
            telling.numbers.extend(rows.numbers.tolist())
        for said in asked.ranges:
            yield from self._context.give_way()
            lo, hi = rows.bounds(said.lower, said.upper)
            if said.mode == FP and rows.matches(said):
                continue
            if lo == hi:
                if said.mode == FP or said.hashes:
                    telling.ranges.append(Range(said.lower, said.upper, NONE))
            elif said.mode == FP:
                telling.ranges.append(Range(said.lower, said.upper, DIFFERS))
            elif said.mode == LIST:
                yield from self._tell_difference(telling, rows, said, lo, hi)
            else:
                raise RemoteProtocolError("ranges", "a mode that is no question")
        return telling

    def _tell_difference(self, telling: _Log, rows: BlockRows, said: Range, lo: int, hi: int) -> Steps[None]:
        """What only one side has of a range that the initiator listed; we may have far more of it."""
        theirs = set(said.hashes)
        for start in range(lo, hi, _COMPARED_BLOCKS):
            end = min(start + _COMPARED_BLOCKS, hi)
            for number, mine in zip(rows.numbers[start:end].tolist(), rows.hashes(start, end), strict=True):
                if mine in theirs:
                    theirs.remove(mine)
                else:
                    telling.numbers.append(number)
            yield from self._context.give_way()
        if theirs:
            telling.ranges.append(Range(said.lower, said.upper, DIFF, hashes=tuple(sorted(theirs))))

    def _tell_log(self, frame: _Frame, telling: _Log) -> Steps[None]:
        room = frame.room - telling.entry_bytes
        if (room < 0 and frame.room < CONTROL_BODY_BYTES) or len(frame.logs) >= SYNC_ENTRIES_MAX:
            frame.full = True
            return
        items: list[Item] = []
        while telling.numbers or telling.ready:
            if not telling.ready:
                yield from self._read(telling)
                continue
            size = sum(item_bytes(item) for item in telling.ready[0])
            if size > room and (items or frame.room < CONTROL_BODY_BYTES):
                frame.full = True
                break
            room -= size
            items += telling.ready.popleft()
        is_last = not (telling.numbers or telling.ready)
        if items or telling.ranges or is_last:
            frame.logs.append(ToldLog(telling.handle, telling.ranges, items, is_last))
            self._context.result.described += len(items)
            frame.room = room
        telling.ranges = []
        if is_last:
            self._telling = None

    def _read(self, telling: _Log) -> Steps[None]:
        """Reads some blocks; what changed since the picture was taken is told as it is now."""
        numbers = [telling.numbers.popleft() for _ in range(min(_READ_BLOCKS, len(telling.numbers)))]
        if telling.name is None:
            return
        items = yield from read_blocks(self._context, telling.name, numbers)
        alive = (item for item in items if item.first_stored_s >= self._context.alive_from_s)
        telling.ready.extend(list(block) for _, block in groupby(alive, lambda item: item.seq // BLOCK_SEQS))
