"""The index compared with the store itself, block by block, all the time and slowly.

The index follows what the store announces. Should that ever fail - a fault of ours, a bit that flipped, somebody else
writing into the file - it would go on telling neighbours something untrue, and nobody would notice. So the audit reads
everything again and again, so that no difference lives longer than AUDIT_PASS_S: first the store in its own order,
against the index; then the logs of the index that the store does not have.

The store goes on changing meanwhile, and a commit can be read a moment before it is announced. So what seems to differ
is looked at several times; only what stays the same on both sides, and different, is a difference.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import trio

from node.clock import Clock
from node.store.api import Store, StoreError
from node.sync.index import LogIndex
from node.sync.index_blocks import ROW_BYTES, TAIL_BYTES, numbers, unpack
from node.sync.index_leaf import Leaf
from node.sync.index_log import all_rows, between, taken
from node.sync.index_reading import BlockPage, Pace, read_blocks, scan_blocks
from protocols.limits.data import SEQ_MAX
from protocols.limits.replication import AUDIT_DOUBT_S, AUDIT_LOOKS, AUDIT_PASS_S, AUDIT_PAUSE_S
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import LogName, handle_of

__all__ = ["Audit", "AuditReport"]

log = logging.getLogger(__name__)

_PLANNED_S: Final = 0.4 * AUDIT_PASS_S
"""For one pass: what goes wrong behind it is met by the next, and the store may grow by a quarter meanwhile."""

_LAST_BLOCK: Final = SEQ_MAX // BLOCK_SEQS

_Suspects: TypeAlias = Mapping[LogName, Iterable[int]]
_Differences: TypeAlias = dict[tuple[LogName, int], tuple[bytes, bytes]]
"""(log, block number) -> its row in the index and in the store; empty where the block is not there."""


class AuditReport(NamedTuple):
    """What a whole pass has found: so many blocks compared, so many that differed (and were mended)."""

    blocks: int
    differences: int


class Audit:
    """Compares the index with the store. `checked` are blocks compared in the pass under way, `found` are differences
    since the start, `last_pass_s` is when the last pass ended (Unix seconds)."""

    def __init__(self, store: Store, index: LogIndex, clock: Clock) -> None:
        self._store = store
        self._index = index
        self._clock = clock
        self.checked = 0
        self.found = 0
        self.last_pass_s: float | None = None

    async def run(self) -> None:
        """Pass after pass until cancelled, two within AUDIT_PASS_S."""
        while True:
            try:
                await self._run_once()
            except StoreError as error:
                log.warning("the index could not be compared with the store: %s", error)
            await trio.sleep(AUDIT_PAUSE_S)

    async def _run_once(self) -> None:
        begun_at, done = trio.current_time(), 0
        every = 1 + self._index.blocks_held() + self._store.statistics().logs
        self.checked = 0

        async def rest(blocks: int, logs: int) -> None:
            nonlocal done
            done += blocks + logs
            self.checked += blocks
            due_at = begun_at + _PLANNED_S * done / every
            await trio.sleep(max(due_at - trio.current_time(), 0.0))

        await self._pass(rest)
        self.last_pass_s = self._clock.now_s()

    async def check_now(self) -> AuditReport:
        """A pass of its own without pauses. Raises StoreUnavailable."""
        total = 0

        async def go_on(blocks: int, _logs: int) -> None:
            nonlocal total
            total += blocks
            await trio.lowlevel.checkpoint()

        return AuditReport(differences=await self._pass(go_on), blocks=total)

    async def _pass(self, rest: Callable[[int, int], Awaitable[None]]) -> int:
        """Compares everything, and tells `rest` after every few milliseconds how many blocks it was, or how many logs
        were looked for. Returns how many blocks differed."""
        found = 0
        seen = array("q")
        async with aclosing(scan_blocks(self._store, Pace())) as pages:
            first = 0
            async for page in pages:
                found += await self._confirm(await self._compare(page, first, seen))
                first = page.goes_on_at or 0
                await rest(len(page.blocks.rows) // ROW_BYTES, 0)
        in_order = np.sort(np.frombuffer(seen, np.int64))
        for leaf in (await self._index.view(0)).leaves:
            found += await self._confirm(await self._missing(leaf, in_order))
            found += self._check_states(leaf)
            await rest(0, len(leaf))
        return found

    async def _compare(self, page: BlockPage, first: int, seen: array[int]) -> _Suspects:
        """Blocks of the page that the index has otherwise, and blocks that it has where the page has none. `first` is
        the lowest number that the page tells of its first log. Hashes of the handles are added to `seen`."""
        view = await self._index.view(0)
        suspects: dict[LogName, set[int]] = {}
        at = 0
        for position, (name, count) in enumerate(zip(page.names, page.blocks.counts.tolist(), strict=True)):
            rows = page.blocks.rows[ROW_BYTES * at : ROW_BYTES * (at + count)]
            stored = rows + page.blocks.tails[TAIL_BYTES * at : TAIL_BYTES * (at + count)]
            at += count
            goes_on = position == len(page.names) - 1 and page.goes_on_at is not None
            last = (page.goes_on_at or 0) - 1 if goes_on else _LAST_BLOCK
            handle = handle_of(name)
            seen.append(hash(handle))
            known = view.log(handle)
            if known != stored and between(known, first, last) != stored:
                different = set(unpack(between(known, first, last))).symmetric_difference(unpack(stored))
                suspects.setdefault(name, set()).update(number for number, _ in different)
            first = 0
        return suspects

    async def _missing(self, leaf: Leaf, seen: npt.NDArray[np.int64]) -> _Suspects:
        """The blocks of the logs of a leaf that have not been seen in the store, unless they have come since."""
        hashes = np.array([hash(handle) for handle in leaf.handles()])
        places = np.searchsorted(seen, hashes)
        unseen = np.flatnonzero(np.append(seen, 0)[places] != hashes)
        logs = {leaf.name(index): leaf.log(index) for index in unseen.tolist()}
        return {name: numbers(all_rows(held)).tolist() for name, held in logs.items()}

    def _check_states(self, leaf: Leaf) -> int:
        """Marks the logs whose states do not follow from their blocks; returns how many."""
        states = leaf.states_anew()
        wrong = [index for index, state in enumerate(states) if state != leaf.state(index)]
        for index in wrong:
            name = leaf.name(index)
            log.error("the state of a log was wrong in the index and is mended")
            log.debug("it was log %s in topic %s", name.log, name.topic)
            self._index.mark(name, int(numbers(all_rows(leaf.log(index)))[0]))
        self.found += len(wrong)
        return len(wrong)

    async def _confirm(self, suspects: _Suspects) -> int:
        """Looks at suspects again and again; what differs in truth is told, marked to be read anew, and counted."""
        found = await self._look(suspects) if suspects else {}
        for _ in range(AUDIT_LOOKS - 1):
            if found:
                await trio.sleep(AUDIT_DOUBT_S)
                again = await self._look(_by_log(found))
                found = {key: rows for key, rows in found.items() if again.get(key) == rows}
        if found:
            self.found += len(found)
            (name, number), _ = next(iter(found.items()))
            where = f"block {number} of log {name.log} in topic {name.topic}"
            log.error(
                "the index differed from the store in %d blocks and is mended; the first was %s", len(found), where
            )
            for name, number in found:
                self._index.mark(name, number)
        return len(found)

    async def _look(self, suspects: _Suspects) -> _Differences:
        """Which of these blocks are otherwise in the index than in the store just now."""
        view = await self._index.view(0)
        logs = {name: view.log(handle_of(name)) for name in suspects}
        found: _Differences = {}
        wanted = {name: sorted(numbers) for name, numbers in suspects.items()}
        async for read in read_blocks(self._store, wanted):
            for name, number, stored in ((name, *block) for name, blocks in read for block in blocks):
                held = taken(logs[name], number)
                if held != stored:
                    found[name, number] = (held.row if held else b"", stored.row if stored else b"")
        return found


def _by_log(keys: Iterable[tuple[LogName, int]]) -> _Suspects:
    grouped: dict[LogName, list[int]] = {}
    for name, number in keys:
        grouped.setdefault(name, []).append(number)
    return grouped
