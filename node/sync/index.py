"""The index: for every log its blocks' digests and its state, kept equal to the store.

It holds no message: a change only marks the blocks it touched, and whoever needs a picture has the marked blocks read
again from the store. So it can't drift, whatever order changes are told in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import trio

from node.store.api import Change, LogItems, Store
from protocols.limits import BLOCK_SEQS, INDEX_SLICE_BLOCKS, INDEX_VIEWS_MAX, SEQ_MAX
from protocols.model import Item, LogName, handle_of
from protocols.sync.reconcile import block_digest, live_fingerprint, log_state

__all__ = ["IndexView", "LogIndex"]


@dataclass(slots=True)
class _Block:
    """What the index keeps of one block: its digest, the earliest and latest `first stored` in it (Unix seconds)."""

    digest: bytes
    oldest_s: int
    newest_s: int

    @classmethod
    def of(cls, items: Sequence[Item]) -> _Block:
        ages = [item.first_stored_s for item in items]
        return cls(block_digest(items), min(ages), max(ages))


class _Row(NamedTuple):
    """What is derived from a log's blocks: state, (block number, digest) ascending, earliest `first stored`."""

    state: bytes
    blocks: tuple[tuple[int, bytes], ...]
    oldest_s: int


@dataclass(slots=True)
class _Log:
    name: LogName
    blocks: dict[int, _Block] = field(default_factory=dict)
    _row: _Row | None = None

    def put(self, number: int, block: _Block | None) -> None:
        self._row = None
        if block is None:
            self.blocks.pop(number, None)
        else:
            self.blocks[number] = block

    @property
    def row(self) -> _Row:
        """Computed when it is asked for: a burst of changes costs one computation."""
        if self._row is None:
            digests = tuple((number, self.blocks[number].digest) for number in sorted(self.blocks))
            self._row = _Row(log_state(digests), digests, min(block.oldest_s for block in self.blocks.values()))
        return self._row


@dataclass(frozen=True, slots=True)
class IndexView:
    """An immutable picture of the live logs; implements `protocols.sync.effects.LogView`."""

    handles: Sequence[bytes]
    states: Sequence[bytes]
    names: Mapping[bytes, LogName]
    block_digests: Mapping[bytes, tuple[tuple[int, bytes], ...]]

    def name(self, handle: bytes) -> LogName | None:
        return self.names.get(handle)

    def blocks(self, handle: bytes) -> Sequence[tuple[int, bytes]]:
        return self.block_digests.get(handle, ())

    def state(self, handle: bytes) -> bytes | None:
        """The state of a log, None if the view does not have it."""
        at = bisect_left(self.handles, handle)
        return self.states[at] if at < len(self.handles) and self.handles[at] == handle else None

    @property
    def fingerprint(self) -> str:
        """Hex over the whole view: equal on two mailboxes exactly if they hold the same."""
        return live_fingerprint(self.handles, self.states)


class LogIndex:
    """Follows a store. `load` once at the start, then `view` whenever a picture is needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._logs: dict[bytes, _Log] = {}
        self._handles: dict[LogName, bytes] = {}
        self._stale: dict[LogName, set[int]] = {}
        self._lock = trio.Lock()
        self._views: OrderedDict[int, IndexView] = OrderedDict()
        """The last pictures by their boundary, of the present version."""
        store.subscribe(self._on_change)

    async def load(self) -> None:
        """Reads the whole store. Changes that come in meanwhile are not lost. Raises StoreUnavailable."""
        async with self._lock:
            async for name, number, items in _blocks_of(self._store.scan()):
                self._replace(name, number, items)

    async def view(self, alive_from_s: int) -> IndexView:
        """A picture of all messages with first stored >= `alive_from_s` as they are now. Raises StoreUnavailable."""
        async with self._lock:
            await self._refresh()
            view = self._views.get(alive_from_s)
            if view is None:
                view = self._views[alive_from_s] = await self._picture(alive_from_s)
                if len(self._views) > INDEX_VIEWS_MAX:
                    self._views.popitem(last=False)
            self._views.move_to_end(alive_from_s)
            return view

    def _on_change(self, change: Change) -> None:
        for group in (change.stored, change.merged, change.removed):
            for name, item in group:
                self._stale.setdefault(name, set()).add(item.seq // BLOCK_SEQS)

    async def _refresh(self) -> None:
        # Unmarked before the read: what changes while we read marks its block again, for the next time.
        stale, self._stale = self._stale, {}
        try:
            for name, numbers in stale.items():
                for first, last in _runs(sorted(numbers)):
                    await self._reread(name, first, last)
                    numbers.difference_update(range(first, last + 1))
        finally:
            for name, numbers in stale.items():  # the store failed or we were cancelled: still to be done
                if numbers:
                    self._stale.setdefault(name, set()).update(numbers)

    async def _reread(self, name: LogName, first: int, last: int) -> None:
        items = await self._store.items(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX))
        by_number = {number: list(group) for number, group in groupby(items, lambda item: item.seq // BLOCK_SEQS)}
        for number in range(first, last + 1):
            self._replace(name, number, by_number.get(number, ()))

    def _replace(self, name: LogName, number: int, items: Sequence[Item]) -> None:
        """Makes a block what `items` say; without items it goes, and a log without blocks goes too."""
        handle = self._handles.get(name)
        if handle is None:
            if not items:
                return
            handle = self._handles[name] = handle_of(name)
            self._logs[handle] = _Log(name)
        log = self._logs[handle]
        log.put(number, _Block.of(items) if items else None)
        if not log.blocks:
            del self._logs[handle], self._handles[name]
        self._views.clear()

    async def _picture(self, alive_from_s: int) -> IndexView:
        handles: list[bytes] = []
        states: list[bytes] = []
        names: dict[bytes, LogName] = {}
        digests: dict[bytes, tuple[tuple[int, bytes], ...]] = {}
        for count, handle in enumerate(sorted(self._logs)):
            log = self._logs[handle]
            state, blocks, oldest_s = log.row
            if oldest_s < alive_from_s:
                blocks = await self._alive_blocks(log, alive_from_s)
                state = log_state(blocks)
            if blocks:
                handles.append(handle)
                states.append(state)
                names[handle] = log.name
                digests[handle] = blocks
            if count % INDEX_SLICE_BLOCKS == INDEX_SLICE_BLOCKS - 1:
                await trio.lowlevel.checkpoint()
        return IndexView(handles, states, names, digests)

    async def _alive_blocks(self, log: _Log, alive_from_s: int) -> tuple[tuple[int, bytes], ...]:
        """The blocks of a log as if what is too old (by our rule or a stricter peer's) were removed already."""
        alive: list[tuple[int, bytes]] = []
        for number, digest in log.row.blocks:
            block = log.blocks[number]
            if block.oldest_s >= alive_from_s:
                alive.append((number, digest))
                continue
            if block.newest_s < alive_from_s:
                continue
            items = await self._store.items(log.name, number * BLOCK_SEQS, (number + 1) * BLOCK_SEQS - 1)
            kept = [item for item in items if item.first_stored_s >= alive_from_s]
            if kept:
                alive.append((number, block_digest(kept)))
        return tuple(alive)


def _runs(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Ascending numbers as (first, last) runs without gaps, none longer than INDEX_SLICE_BLOCKS."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1 and number - first < INDEX_SLICE_BLOCKS:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


async def _blocks_of(parts: AsyncIterator[LogItems]) -> AsyncIterator[tuple[LogName, int, list[Item]]]:
    """Whole blocks from a scan whose parts may end in the middle of one."""
    open_name: LogName | None = None
    open_number = 0
    open_items: list[Item] = []
    async for part in parts:
        for number, group in groupby(part.items, lambda item: item.seq // BLOCK_SEQS):
            if open_items and open_name is not None and (part.name, number) != (open_name, open_number):
                yield open_name, open_number, open_items
                open_items = []
            open_name, open_number = part.name, number
            open_items.extend(group)
    if open_items and open_name is not None:
        yield open_name, open_number, open_items
