"""The parts of the index by themselves: names, long logs, the first picture, and what bounds the pictures kept."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from node.store import _readers
from node.store.api import Arrival, ScanPage, StoreUnavailable
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from node.sync import index as index_module
from node.sync import index_boundaries, index_load, index_log
from node.sync.index import IndexView, LogIndex
from node.sync.index_blocks import AGE_MAX_S, ROW_BYTES, Block, blocks_of, pairs
from node.sync.index_log import Log, LongLog, all_rows, between, length_of, restricted, spliced, state_of_log, taken
from node.sync.index_names import Names, pack_id, pack_name
from protocols.limits.replication import (
    INDEX_FOREIGN_VIEW_S,
    INDEX_FOREIGN_VIEWS_BURST,
    INDEX_INTERESTS_LOGS_MAX,
    INDEX_INTERESTS_MAX,
    INDEX_KEPT_S,
    INDEX_VIEWS_MAX,
)
from protocols.limits.sync import BLOCK_SEQS, LOG_RUNS_MAX
from protocols.model import LogName, digest_of, handle_of
from protocols.sync.interest import Interest
from protocols.sync.reconcile import log_state
from tests.node.sync.index_model import LOGS, PUT, change, expected

IDS = st.one_of(
    st.text("0123456789abcdefAB é\x01", min_size=1, max_size=70),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.binary(min_size=32, max_size=32).map(lambda raw: raw.hex().upper()),
)


@given(st.lists(st.builds(LogName, st.one_of(IDS, st.sampled_from(["t", "0" * 64])), IDS), max_size=20))
def test_names_come_out_as_they_went_in(names: list[LogName]) -> None:
    packed = Names(map(pack_name, names))
    assert packed.all() == [packed.at(index) for index in range(len(names))] == names
    assert Names(packed.packed()).all() == names
    some = np.arange(len(names))[::2]
    assert packed.pick(some).all() == names[::2]
    topics = {name.topic for name in names[::3]}
    for _ in range(2):  # the second time from what is remembered
        chosen = packed.of_interest(Interest.of(topics)).tolist()
        assert chosen == [index for index, name in enumerate(names) if name.topic in topics]


def test_an_id_of_hexadecimal_digits_takes_half_its_length() -> None:
    assert len(pack_id("0123456789abcdef" * 4)) == 33


# --- long logs -------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 40)
BLOCKS = st.builds(
    lambda seqs, ages: (sorted(seqs), ages),
    st.sets(st.integers(0, BLOCK_SEQS - 1), min_size=1, max_size=3),
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
)


async def block_of(number: int, what: Any) -> Block:
    seqs, ages = what
    async with MemoryStore() as store:
        name = LogName("t", "l")
        arrivals = [
            Arrival(name, number * BLOCK_SEQS + seq, b"%d" % seq, digest_of(b"%d" % seq), ages[at])
            for at, seq in enumerate(seqs)
        ]
        await store.put(arrivals)
        return next(blocks_of(await store.columns_of([(name, 0, 2**64 - 1)])).each())[0][1]


def check_log(log: Log, blocks: dict[int, Block]) -> None:
    rows = [(number, block.row[8:]) for number, block in sorted(blocks.items())]
    assert (length_of(log), isinstance(log, LongLog)) == (len(rows), len(rows) > 2)
    assert pairs(all_rows(log)) == rows
    if log:
        assert state_of_log(log) == log_state(rows)
    for number in range(42):
        assert taken(log, number) == blocks.get(number)
    for first, last in ((0, 2**58 - 1), (7, 20), (20, 7), (30, 41)):
        kept = [block for number, block in sorted(blocks.items()) if first <= number <= last]
        assert between(log, first, last) == b"".join([b.row for b in kept] + [b.tail for b in kept])


@given(st.lists(st.dictionaries(NUMBERS, st.one_of(st.none(), BLOCKS), min_size=1, max_size=8), max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_log_in_chunks_holds_what_a_dictionary_does(steps: list[dict[int, Any]]) -> None:
    async def play() -> None:
        log: Log = b""
        blocks: dict[int, Block] = {}
        before: list[tuple[Log, dict[int, Block]]] = []
        for step in steps:
            before.append((log, dict(blocks)))
            changes = [(n, None if what is None else await block_of(n, what)) for n, what in sorted(step.items())]
            log = spliced(log, changes)
            for number, block in changes:
                if block is None:
                    blocks.pop(number, None)
                else:
                    blocks[number] = block
            check_log(log, blocks)
        for old, held in before:
            check_log(old, held)

    with (
        mock.patch.object(index_log, "INDEX_SHORT_BLOCKS_MAX", 2),
        mock.patch.object(index_log, "INDEX_CHUNK_BLOCKS_MAX", 4),
    ):
        trio.run(play)


async def test_a_very_long_log(tmp_path: Path) -> None:
    name, blob = LogName("t", "l"), b"x"
    digest = digest_of(blob)
    async with SqliteStore.open(tmp_path / "store.db") as store:
        await store.put([Arrival(name, seq, blob, digest, 1 + (seq > 300_000)) for seq in range(0, 700_000, 70)])
        index = LogIndex(store)
        await index.load()

        async def check() -> IndexView:
            view = await index.view(0)
            items = await store.items(name, 0, 2**64 - 1)
            numbers = sorted({item.seq // BLOCK_SEQS for item in items})
            assert [number for number, _ in pairs(view.blocks_at(0))] == numbers
            fresh = LogIndex(store)
            await fresh.load()
            assert view.state_at(0) == (await fresh.view(0)).state_at(0) == log_state(pairs(view.blocks_at(0)))
            assert view.runs(np.array([0])).counts.tolist() == [0]
            return view

        view = await check()
        for seqs in ([0, 1], [350_001], [700_001, 10**12], range(64, 64 * 5000, 64)):
            await store.put([Arrival(name, seq, b"y", digest_of(b"y"), 5) for seq in seqs])
            await check()
        while await store.expire(2, messages_max=500):
            pass
        await check()
        assert len(view.blocks_at(0)) == 10_000 * ROW_BYTES  # as it was


async def test_runs_go_over_chunks() -> None:
    whole = LogName("t", "whole")
    async with MemoryStore() as store:
        with mock.patch.object(index_log, "INDEX_CHUNK_BLOCKS_MAX", 8):
            seqs = [*range(5, 3000), *range(3001, 6000)]
            await store.put([Arrival(whole, seq, b"", digest_of(b""), 1) for seq in seqs])
            await store.put([Arrival(LOGS[0], 9, b"", digest_of(b""), 1), Arrival(LOGS[1], 1, b"", digest_of(b""), 1)])
            index = LogIndex(store)
            await index.load()
            view = await index.view(0)
        row = view.find(handle_of(whole))
        assert row is not None
        runs = view.runs(np.array([row, (row + 1) % 3, row]))
        assert runs.counts.tolist() == [2, 1, 2]
        assert runs.firsts.tolist()[:2] == runs.firsts.tolist()[3:] == [5, 3001]
        assert runs.lasts.tolist()[:2] == runs.lasts.tolist()[3:] == [2999, 5999]


async def test_runs_stand_in_the_order_in_which_rows_are_asked_for() -> None:
    names = [LogName("t", f"log {number}") for number in range(60)]
    rng = random.Random(1)
    async with MemoryStore() as store:
        for number, name in enumerate(names):
            seqs = range(0, 9000, 7) if number % 20 == 0 else rng.sample(range(300), rng.randrange(1, 9))
            await store.put([Arrival(name, seq, b"", digest_of(b""), 1) for seq in seqs])
        with (
            mock.patch.object(index_log, "INDEX_SHORT_BLOCKS_MAX", 8),
            mock.patch.object(index_load, "SPLIT_LOGS", 16),
        ):
            index = LogIndex(store)
            await index.load()
            view = await index.view(0)
        assert len(view.leaves) > 2
        each = [[column.tolist() for column in view.runs(np.array([row]))] for row in range(len(view))]
        for rows in (list(range(60)), rng.sample(range(60), 60), [rng.randrange(60) for _ in range(200)]):
            counts, firsts, lasts = view.runs(np.array(rows))
            assert counts.tolist() == [count for row in rows for count in each[row][0]]
            assert firsts.tolist() == [first for row in rows for first in each[row][1]]
            assert lasts.tolist() == [last for row in rows for last in each[row][2]]


@pytest.mark.parametrize(("gaps", "told"), [(LOG_RUNS_MAX - 1, LOG_RUNS_MAX), (LOG_RUNS_MAX, 0)])
async def test_a_long_log_has_runs_up_to_the_bound(gaps: int, told: int) -> None:
    async with MemoryStore() as store:
        missing = set(range(100, 100 + 90 * gaps, 90))
        seqs = [seq for seq in range(9000) if seq not in missing]
        await store.put([Arrival(LOGS[0], seq, b"", digest_of(b""), 1) for seq in seqs])
        with mock.patch.object(index_log, "INDEX_CHUNK_BLOCKS_MAX", 50):
            index = LogIndex(store)
            await index.load()
        runs = (await index.view(0)).runs(np.array([0]))
        assert (runs.counts.tolist(), len(runs.firsts), len(runs.lasts)) == ([told], told, told)


def test_restricting_a_long_log_keeps_chunks_that_are_alive() -> None:
    async def play() -> None:
        young = [(number, await block_of(number, ([1], [5]))) for number in range(20, 40)]
        old = [(number, await block_of(number, ([1, 2], [1, number % 3]))) for number in range(20)]
        log = spliced(b"", old + young)
        alive, partly = restricted(log, 2)
        assert (pairs(all_rows(alive)), partly) == ([(n, b.row[8:]) for n, b in young], [2, 5, 8, 11, 14, 17])

    trio.run(play)


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("boundary_s", [0, 1, AGE_MAX_S - 1, AGE_MAX_S, AGE_MAX_S + 1, 2**53])
async def test_ages_are_bounds_where_they_do_not_fit(count: int, boundary_s: int) -> None:
    ages = [0, AGE_MAX_S - 2, AGE_MAX_S - 1, AGE_MAX_S, AGE_MAX_S + 1, 2**53, 2**53 + 1]
    old_and_new = [(old, new) for old in ages for new in ages if old <= new]
    for start in range(0, len(old_and_new), count):
        some = old_and_new[start : start + count]
        blocks = [(n, await block_of(n, ([1, 2], [old, new]))) for n, (old, new) in enumerate(some)]
        alive, partly = restricted(spliced(b"", blocks), boundary_s)
        kept = [number for number, _ in pairs(all_rows(alive))]
        assert set(kept) <= {n for n, (old, _) in enumerate(some) if old >= boundary_s}
        assert {n for n, (_, new) in enumerate(some) if new >= boundary_s} <= {*kept, *partly}
        if boundary_s < AGE_MAX_S:
            assert partly == [n for n, (old, new) in enumerate(some) if old < boundary_s <= new]


# --- the first picture -----------------------------------------------------------------------------------------------


@given(st.lists(PUT, max_size=4), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_pages_may_end_anywhere(puts: list[Any], page_messages: int) -> None:
    async def play(path: Path) -> None:
        async with SqliteStore.open(path) as store, MemoryStore() as model:
            for kind, what in puts:
                await change(model, kind, what)
                await store.put([Arrival(n, s, b, digest_of(b), a) for n, s, b, a in what])
            with mock.patch.object(_readers, "SCAN_PAGE_MESSAGES", page_messages):
                index = LogIndex(store)
                await index.load()
            view = await index.view(0)
            rows = b"".join(handle + log.state for handle, log in (await expected(model, 0)).items())
            assert b"".join(map(bytes, view.rows(0, len(view)))) == rows

    with tempfile.TemporaryDirectory() as directory:
        trio.run(play, Path(directory) / "store.db")


class Twice(MemoryStore):
    """Empties some logs and fills them again while they are scanned: they come twice, first as they were."""

    names: Sequence[LogName] = ()
    next_seq = 0

    async def scan(self) -> AsyncGenerator[ScanPage, None]:
        pages = [page async for page in super().scan()]
        for page in pages:
            yield page
        await self.expire(10, messages_max=1000)
        await self.put([Arrival(name, self.next_seq, b"new", digest_of(b"new"), 20) for name in self.names])
        async for page in super().scan():
            yield page


@pytest.mark.parametrize("names", [LOGS, LOGS[:1]])
@pytest.mark.parametrize("next_seq", [70, 310, 400])
async def test_a_log_that_comes_twice_is_as_it_was_the_last_time(names: Sequence[LogName], next_seq: int) -> None:
    async with Twice() as store:
        store.names, store.next_seq = names, next_seq
        await store.put([Arrival(name, seq, b"", digest_of(b""), 1) for name in names for seq in (0, 100, 200, 300)])
        index = LogIndex(store)
        await index.load()
        view = await index.view(0)
        rows = b"".join(handle + log.state for handle, log in (await expected(store, 0)).items())
        assert b"".join(map(bytes, view.rows(0, len(view)))) == rows


async def test_serials_of_two_indices_are_far_apart() -> None:
    async with MemoryStore() as store:
        serials = {(await LogIndex(store).view(0)).serial for _ in range(20)}
        assert len(serials) == 20
        assert max(serials) < 2**48


# --- what bounds it --------------------------------------------------------------------------------------------------


async def stored(store: MemoryStore) -> LogIndex:
    await store.put([Arrival(name, seq, b"", digest_of(b""), seq) for name in LOGS for seq in range(500)])
    index = LogIndex(store, own_boundary=lambda: 3)
    await index.load()
    return index


async def test_boundaries_of_others_are_rationed_and_our_own_is_not(autojump_clock: MockClock) -> None:
    async with MemoryStore() as store:
        index = await stored(store)
        own = await index.view(3)
        for foreign in range(100, 100 + INDEX_FOREIGN_VIEWS_BURST):
            await index.view(foreign)
        with pytest.raises(StoreUnavailable, match="retention"):
            await index.view(400)
        assert await index.view(99 + INDEX_FOREIGN_VIEWS_BURST)  # is kept
        assert await index.view(3) is own  # is never dropped
        assert len(index._boundaries._kept) == INDEX_VIEWS_MAX
        await trio.sleep(INDEX_FOREIGN_VIEW_S)
        assert len(await index.view(400)) == len(LOGS)
        with pytest.raises(StoreUnavailable, match="retention"):
            await index.view(401)


async def test_pictures_that_leave_out_nothing_any_more_are_dropped() -> None:
    async with MemoryStore() as store:
        index = await stored(store)
        await index.view(3)
        while await store.expire(5, messages_max=100):
            pass
        assert await index.view(3) is await index.view(0)
        assert not index._boundaries._kept


async def test_pictures_of_few_topics_are_bounded() -> None:
    async with MemoryStore() as store:
        index = await stored(store)
        kept = [await index.view(0, Interest.of([str(other)])) for other in range(INDEX_INTERESTS_MAX)]
        assert await index.view(0, Interest.of(["0"])) is kept[0]
        await index.view(0, Interest.of(["one more"]))
        assert len(index._interests._kept) == INDEX_INTERESTS_MAX
        assert await index.view(0, Interest.of(["0"])) is kept[0]
        assert await index.view(0, Interest.of(["1"])) is not kept[1]


async def test_pictures_of_few_topics_copy_not_much_more_than_the_index() -> None:
    async with MemoryStore() as store:
        index = await stored(store)
        whole = await index.view(0)
        topics = {name.topic for name in whole.names()}
        assert (await index.view(0, Interest.of(topics))).leaves == whole.leaves
        most = sorted(topics)[1:]
        for other in range(INDEX_INTERESTS_MAX):
            view = await index.view(0, Interest.of([*most, str(other)]))
            assert {name.topic for name in view.names()} == set(most)
            copied = sum(limited.copied for limited in index._interests._kept.values())
            assert len(view) <= copied <= INDEX_INTERESTS_LOGS_MAX * len(whole)


async def test_pictures_that_nobody_asks_for_are_dropped(autojump_clock: MockClock) -> None:
    async with MemoryStore() as store:
        index = await stored(store)
        topics = Interest.of([LOGS[0].topic])
        other, few = await index.view(77), await index.view(3, topics)
        own = await index.view(3)
        for _ in range(3):
            await trio.sleep(0.6 * INDEX_KEPT_S)
            assert await index.view(3) is own
        assert list(index._boundaries._kept) == [3]
        assert not index._interests._kept
        assert await index.view(77) is not other
        assert await index.view(3, topics) is not few


async def test_changes_are_read_even_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "INDEX_MARKS_MAX", 50)
    async with MemoryStore() as store:
        index = await stored(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(index.keep_up)
            await store.put([Arrival(LOGS[0], seq * 64, b"a", digest_of(b"a"), 1) for seq in range(49)])
            await trio.testing.wait_all_tasks_blocked()
            assert index.blocks_held() == 8 * len(LOGS)
            await store.put([Arrival(LOGS[1], seq * 64, b"a", digest_of(b"a"), 1) for seq in range(9)])
            await trio.testing.wait_all_tasks_blocked()
            assert index.blocks_held() == 8 * len(LOGS) + 41 + 1
            nursery.cancel_scope.cancel()


async def test_a_storm_over_a_store_with_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_boundaries, "INDEX_FOREIGN_VIEWS_BURST", 1000)  # nobody is to be put off here
    rng = random.Random(5)
    names = [LogName("t", str(log)) for log in range(30)]
    async with SqliteStore.open(tmp_path / "store.db") as store:
        index = LogIndex(store)
        await index.load()

        async def write() -> None:
            for _ in range(60):
                blob = rng.randbytes(1)
                seqs = [rng.randrange(1000) for _ in range(20)]
                await store.put([Arrival(rng.choice(names), s, blob, digest_of(blob), rng.randrange(9)) for s in seqs])

        async def expire() -> None:
            for alive_from_s in range(5):
                await store.expire(alive_from_s, messages_max=200)
                await trio.sleep(0.02)

        async def look() -> None:
            for _ in range(100):
                await index.view(rng.randrange(9), rng.choice([None, Interest.of("t")]))

        async with trio.open_nursery() as nursery:
            for task in (write, write, expire, look, look):
                nursery.start_soon(task)
        fresh = LogIndex(store)
        await fresh.load()
        for alive_from_s in range(9):
            one, other = await index.view(alive_from_s), await fresh.view(alive_from_s)
            assert one.fingerprint == other.fingerprint
            assert _runs(one) == _runs(other)


def _runs(view: IndexView) -> list[list[int]]:
    return [column.tolist() for column in view.runs(np.arange(len(view)))]
