"""The index is provably equal to the store: whatever happens, its view equals one made anew from what is stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.api import Arrival, Change, StoredItem, StoreUnavailable
from node.store.memory import MemoryStore
from node.sync import index as index_module
from node.sync import index_blocks, index_boundaries, index_edit, index_leaf, index_load, index_log, index_reading
from node.sync.index import IndexView, LogIndex
from node.sync.index_blocks import ROW_BYTES, pairs
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import LOG_RUNS_MAX
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.effects import LogTable, Rows
from protocols.sync.interest import Interest
from protocols.sync.reconcile import live_fingerprint
from tests.node.sync.index_model import (
    BOUNDARIES,
    EXPIRE,
    LOGS,
    MERGE,
    PUT,
    TOPICS,
    Expected,
    MoodyStore,
    change,
    expected,
)

CALLS = st.integers(1, 12)

INTERESTS = st.one_of(st.none(), st.frozensets(st.sampled_from([*TOPICS, "other"]), max_size=2))
LOOK = st.tuples(st.just("look"), st.tuples(BOUNDARIES, INTERESTS))
TOGETHER = st.tuples(st.just("together"), st.lists(st.one_of(PUT, EXPIRE, MERGE, LOOK), min_size=2, max_size=6))
FAIL = st.tuples(st.just("fail"), st.tuples(BOUNDARIES, CALLS))
CANCEL = st.tuples(st.just("cancel"), st.tuples(BOUNDARIES, CALLS))
SILENT = st.tuples(st.just("silent"), st.lists(st.one_of(PUT, EXPIRE, LOOK), min_size=1, max_size=4))
RESTART = st.tuples(st.just("restart"), st.lists(st.one_of(PUT, EXPIRE, MERGE), max_size=3))
STEPS = st.lists(st.one_of(PUT, PUT, EXPIRE, MERGE, LOOK, LOOK, TOGETHER, FAIL, CANCEL, SILENT, RESTART), max_size=20)


def _runs(seqs: set[int]) -> list[tuple[int, int]]:
    """(first, last) of each run; none of a log with too many."""
    firsts = sorted(seq for seq in seqs if seq - 1 not in seqs)
    lasts = sorted(seq for seq in seqs if seq + 1 not in seqs)
    return list(zip(firsts, lasts, strict=True)) if len(firsts) <= LOG_RUNS_MAX else []


def _listed(table: LogTable, rows: Rows) -> list[list[tuple[int, int]]]:
    """`table.runs`, as a list for each of `rows`."""
    counts, firsts, lasts = table.runs(rows)
    assert [str(column.dtype) for column in (counts, firsts, lasts)] == ["int64", "uint64", "uint64"]
    flat = zip(firsts.tolist(), lasts.tolist(), strict=True)
    listed = [list(islice(flat, count)) for count in counts.tolist()]
    assert next(flat, None) is None
    return listed


def _check_table(table: LogTable, logs: dict[bytes, Expected]) -> None:
    handles = list(logs)
    assert len(table) == len(handles)
    assert table.prefixes.tolist() == [int.from_bytes(handle[:8], "big") for handle in handles]
    assert not table.prefixes.flags.writeable
    content = [handle + logs[handle].state for handle in handles]
    for lo, hi in {(0, len(handles)), (len(handles) // 3, len(handles) * 2 // 3), (1, 1), (0, 1)}:
        pieces = [bytes(piece) for piece in table.rows(lo, hi)]
        assert b"".join(pieces) == b"".join(content[lo:hi])
        assert all(len(piece) % 32 == 0 for piece in pieces)
    for row, (handle, log) in enumerate(logs.items()):
        assert table.find(handle) == row
        assert (table.handle_at(row), table.state_at(row), table.name_at(row)) == (handle, log.state, log.name)
        assert pairs(table.blocks_at(row)) == log.blocks
    for name in LOGS:
        assert (table.find(handle_of(name)) is None) == (handle_of(name) not in logs)
    for rows in (np.arange(len(handles)), np.arange(len(handles))[::2], np.arange(len(handles))[::-1]):
        assert _listed(table, rows) == [_runs(logs[handles[row]].seqs) for row in rows.tolist()]
    assert table.changed_since(table.serial).tolist() == []
    assert table.changed_since(0).tolist() == list(range(len(handles)))  # a serial of another process
    assert table.changed_since(2**60).tolist() == list(range(len(handles)))


async def _check(view: IndexView, store: MemoryStore, alive_from_s: int, topics: frozenset[str] | None = None) -> None:
    logs = await expected(store, alive_from_s, topics)
    _check_table(view, logs)
    states = [log.state for log in logs.values()]
    rows = range(len(view))
    assert [view.handle_at(row) for row in rows] == list(logs)
    assert [view.state_at(row) for row in rows] == states
    assert view.fingerprint == live_fingerprint(list(logs), states)
    assert list(view.names()) == [log.name for log in logs.values()]
    for name in LOGS:
        handle = handle_of(name)
        log = logs.get(handle)
        assert view.state(handle) == (log and log.state)
        row = view.find(handle)
        assert (row is None) == (log is None)
        if row is not None and log is not None:
            assert pairs(view.blocks_at(row)) == log.blocks
            assert view.name_at(row) == log.name


def _frozen(view: IndexView) -> tuple[object, ...]:
    """All that a view says."""
    rows = np.arange(len(view))
    return (
        view.serial,
        [bytes(piece) for piece in view.rows(0, len(view))],
        [(view.name_at(row), pairs(view.blocks_at(row))) for row in rows.tolist()],
        _listed(view, rows),
        view.fingerprint,
    )


def _states(view: IndexView) -> dict[bytes, bytes]:
    return {view.handle_at(row): view.state_at(row) for row in range(len(view))}


class Taken(NamedTuple):
    """A picture that was taken, and the handles of the logs that anything happened to since."""

    view: IndexView
    alive_from_s: int
    topics: frozenset[str] | None
    content: tuple[object, ...]
    touched: set[bytes]


class Play:
    """One index through all that happens to it, its old pictures kept to see that they never change."""

    def __init__(self, store: MoodyStore) -> None:
        self.store = store
        self.index = LogIndex(store)
        self.taken: list[Taken] = []
        self.taken_before: list[Taken] = []
        """By an index that is gone since."""
        store.subscribe(self._on_change)

    def _on_change(self, change: Change) -> None:
        for name, *_ in (*change.stored, *change.merged, *change.removed):
            for taken in self.taken:
                taken.touched.add(handle_of(name))

    async def view(self, alive_from_s: int, topics: frozenset[str] | None = None) -> IndexView:
        return await self.index.view(alive_from_s, None if topics is None else Interest.of(topics))

    async def look(self, alive_from_s: int, topics: frozenset[str] | None = None) -> None:
        view = await self.view(alive_from_s, topics)
        await _check(view, self.store, alive_from_s, topics)
        assert await self.view(alive_from_s, topics) is view  # nothing has changed
        if alive_from_s == 0 and topics is None:
            assert self.index.blocks_held() == sum(len(view.blocks_at(row)) // ROW_BYTES for row in range(len(view)))
        states = _states(view)
        for before in self.taken:
            changed = {view.handle_at(row) for row in view.changed_since(before.view.serial).tolist()}
            assert changed <= before.touched
            if (before.alive_from_s, before.topics) == (alive_from_s, topics):
                known = _states(before.view)
                assert changed >= {handle for handle in states if states[handle] != known.get(handle)}
        self.taken.append(Taken(view, alive_from_s, topics, _frozen(view), set()))

    async def step(self, kind: str, what: Any) -> None:
        if kind == "look":
            await self.look(*what)
        elif kind == "together":
            async with trio.open_nursery() as nursery:
                for inner, argument in what:
                    if inner == "look":
                        nursery.start_soon(self.view, *argument)
                    else:
                        nursery.start_soon(change, self.store, inner, argument)
        elif kind == "fail":
            alive_from_s, self.store.fails_in = what
            with contextlib.suppress(StoreUnavailable):
                await self.index.view(alive_from_s)
            self.store.fails_in = None
        elif kind == "cancel":
            alive_from_s, self.store.cancels_in = what
            with trio.CancelScope() as self.store.scope:
                await self.index.view(alive_from_s)
            self.store.cancels_in = None
        elif kind == "silent":
            self.store.silent = True
            for inner, argument in what:
                if inner == "look":
                    await self.view(*argument)
                else:
                    await change(self.store, inner, argument)
            self.store.speak()
        elif kind == "restart":
            self.taken_before += self.taken
            self.taken = []
            self.index = LogIndex(self.store)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.index.load)
                for inner, argument in what:
                    nursery.start_soon(change, self.store, inner, argument)
        else:
            await change(self.store, kind, what)


@pytest.fixture(params=["large", "tiny"], scope="module")
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """As it runs, and with bounds so small that a handful of logs fills many leaves and takes many slices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_boundaries, "INDEX_FOREIGN_VIEW_S", 1e-9)
        if request.param == "tiny":
            for module in (index_edit, index_load):
                patch.setattr(module, "SPLIT_LOGS", 2)
            for module in (index_leaf, index_log):
                patch.setattr(module, "INDEX_SHORT_BLOCKS_MAX", 1)
            patch.setattr(index_edit, "INDEX_LEAF_LOGS_MAX", 4)
            patch.setattr(index_edit, "_JOIN_LOGS_MAX", 2)
            patch.setattr(index_log, "INDEX_CHUNK_BLOCKS_MAX", 3)
            patch.setattr(index_boundaries, "INDEX_MARKS_MAX", 2)
            patch.setattr(index_module, "INDEX_PORTION_BLOCKS", 2)
            patch.setattr(index_module, "INDEX_SLICE_BLOCKS", 1)
            patch.setattr(index_reading, "INDEX_SLICE_BLOCKS", 1)
            patch.setattr(index_blocks, "_FEW_BLOCKS", 1)
        yield


@given(st.lists(PUT, max_size=2), STEPS)
@settings(deadline=None, max_examples=250)
def test_index_equals_a_rebuild(sizes: None, before: list[Any], steps: list[Any]) -> None:
    async def play() -> None:
        async with MoodyStore() as store:
            for kind, what in before:
                await change(store, kind, what)
            one = Play(store)
            await one.index.load()
            for kind, what in steps:
                await one.step(kind, what)
            for alive_from_s in (0, 3):
                await one.look(alive_from_s)
            for taken in one.taken_before + one.taken:
                assert _frozen(taken.view) == taken.content

    trio.run(play)


async def test_a_view_leaves_out_what_is_too_old_for_the_asker() -> None:
    async with MemoryStore() as old_and_new, MemoryStore() as new_only:
        name = LogName("t", "l")
        old = Arrival(name, 1, b"old", digest_of(b"old"), 100)
        new = Arrival(name, 2, b"new", digest_of(b"new"), 200)
        await old_and_new.put([old, new])
        await new_only.put([new])
        one, two = LogIndex(old_and_new), LogIndex(new_only)
        await one.load()
        await two.load()
        assert (await one.view(0)).fingerprint != (await two.view(0)).fingerprint
        assert (await one.view(150)).fingerprint == (await two.view(150)).fingerprint
        assert len(await one.view(300)) == 0


async def test_first_stored_is_part_of_the_fingerprint() -> None:
    async with MemoryStore() as early, MemoryStore() as late:
        name = LogName("t", "l")
        await early.put([Arrival(name, 1, b"x", digest_of(b"x"), 100)])
        await late.put([Arrival(name, 1, b"x", digest_of(b"x"), 200)])
        one, two = LogIndex(early), LogIndex(late)
        await one.load()
        await two.load()
        assert (await one.view(0)).fingerprint != (await two.view(0)).fingerprint
        await late.merge([StoredItem(name, Item(1, digest_of(b"x"), 100, 1))])
        assert (await one.view(0)).fingerprint == (await two.view(0)).fingerprint


async def test_a_log_with_too_many_gaps_has_no_runs_and_its_neighbours_have_theirs() -> None:
    async with MemoryStore() as store:
        ragged, gappy, whole = LOGS[:3]
        seqs = {ragged: range(0, 2 * LOG_RUNS_MAX + 1, 2), gappy: range(0, 2 * LOG_RUNS_MAX, 2), whole: range(50, 200)}
        await store.put([Arrival(n, seq, b"x", digest_of(b"x"), 1) for n in seqs for seq in seqs[n]])
        index = LogIndex(store)
        await index.load()
        await _check(await index.view(0), store, 0)


@pytest.mark.parametrize("then", ["look", "fail", "overflow"])
async def test_what_was_read_before_it_was_announced_is_not_built_upon(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MoodyStore() as store:
        name = LOGS[0]
        old, new, passing = (
            Arrival(name, seq, blob, digest_of(blob), age)
            for seq, blob, age in ((0, b"o", 1), (1, b"n", 4), (2, b"p", 2))
        )
        await store.put([old, new])
        play = Play(store)
        await play.index.load()
        store.silent = True
        await store.put([passing])
        await play.index.view(2)  # sees what passes, of which nobody has been told
        await store.expire(3, messages_max=9)
        await store.put([old])  # the block is what it was before
        if then == "overflow":
            monkeypatch.setattr(index_boundaries, "INDEX_MARKS_MAX", 0)
        store.speak()
        if then == "fail":
            await play.index.view(0)
            store.fails_in = 1
            with pytest.raises(StoreUnavailable):
                await play.index.view(2)
            store.fails_in = None
        await play.look(2)


async def test_a_change_between_the_whole_picture_and_the_part_of_it_is_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with MoodyStore() as store:
        await store.put(
            [Arrival(name, 0, b"", digest_of(b""), age) for name, age in zip(LOGS, range(99), strict=False)]
        )
        play = Play(store)
        await play.index.load()
        boundaries = play.index._boundaries
        view = boundaries.view
        await play.look(5)

        async def late(whole: IndexView, alive_from_s: int) -> IndexView:
            await store.put([Arrival(LOGS[7], 1, b"", digest_of(b""), 9), Arrival(LOGS[2], 1, b"", digest_of(b""), 9)])
            return await view(whole, alive_from_s)

        with monkeypatch.context() as patch:
            patch.setattr(boundaries, "view", late)
            await play.index.view(5)
        await play.look(5)


async def test_what_is_as_it_was_has_not_changed() -> None:
    async with MemoryStore() as store:
        arrivals = [Arrival(name, seq, b"", digest_of(b""), 1) for name in LOGS for seq in range(0, 3000, 50)]
        await store.put(arrivals)
        index = LogIndex(store)
        await index.load()
        before = await index.view(0)
        await store.put([Arrival(LOGS[0], 1, b"", digest_of(b""), 0)])
        await store.expire(1, messages_max=1)
        assert await index.view(0) is before
        await store.put([Arrival(LOGS[1], 1, b"", digest_of(b""), 0), Arrival(LOGS[2], 1, b"", digest_of(b""), 2)])
        await store.expire(1, messages_max=1)
        after = await index.view(0)
        assert after.changed_since(before.serial).tolist() == [after.find(handle_of(LOGS[2]))]


class Forgetful(MoodyStore):
    """Loses logs without regard to age."""

    def lose(self, name: LogName) -> None:
        items = self._topics[name.topic].pop(name.log).items(0, SEQ_MAX)
        self._announce(Change(removed=[StoredItem(name, item) for item in items]))


async def test_a_log_that_goes_before_older_ones_is_gone_from_every_picture() -> None:
    async with Forgetful() as store:
        await store.put([Arrival(name, 9, b"", digest_of(b""), age) for name in LOGS for age in (1,)])
        await store.put([Arrival(name, seq, b"", digest_of(b""), 5) for name in LOGS for seq in (1, 70)])
        play = Play(store)
        await play.index.load()
        for name in (LOGS[3], LOGS[9]):
            await play.look(3)
            store.lose(name)
        await play.look(3)
