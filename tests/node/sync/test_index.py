"""The index is provably equal to the store: whatever happens, its view equals one made anew from what is stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.api import Arrival, Change, StoredItem, StoreUnavailable
from node.store.memory import MemoryStore
from node.sync import index as index_module
from node.sync import index_blocks, index_reading, index_view
from node.sync.index import IndexView, LogIndex
from protocols.limits import BLOCK_SEQS, SEQ_MAX
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.reconcile import block_digest, live_fingerprint, log_state

LOGS = [LogName(f"t{i}", f"l{j}") for i in range(2) for j in range(9)]
SEQS = st.one_of(st.integers(0, 200), st.sampled_from([SEQ_MAX, SEQ_MAX - 1, 2**63, 2**63 - 1]))
AGES = st.integers(0, 5)
BOUNDARIES = st.one_of(AGES, st.just(2**53))
BLOBS = st.binary(max_size=1)
CALLS = st.integers(1, 12)

PUT = st.tuples(st.just("put"), st.lists(st.tuples(st.sampled_from(LOGS), SEQS, BLOBS, AGES), min_size=1, max_size=12))
EXPIRE = st.tuples(st.just("expire"), AGES)
MERGE = st.tuples(st.just("merge"), st.tuples(st.sampled_from(LOGS), SEQS, BLOBS, AGES))
LOOK = st.tuples(st.just("look"), BOUNDARIES)
TOGETHER = st.tuples(st.just("together"), st.lists(st.one_of(PUT, EXPIRE, MERGE, LOOK), min_size=2, max_size=6))
FAIL = st.tuples(st.just("fail"), st.tuples(BOUNDARIES, CALLS))
CANCEL = st.tuples(st.just("cancel"), st.tuples(BOUNDARIES, CALLS))
SILENT = st.tuples(st.just("silent"), st.lists(st.one_of(PUT, EXPIRE, LOOK), min_size=1, max_size=4))
STEPS = st.lists(st.one_of(PUT, PUT, EXPIRE, MERGE, LOOK, LOOK, TOGETHER, FAIL, CANCEL, SILENT), max_size=20)


class MoodyStore(MemoryStore):
    """A store of which a read fails or is cancelled, and which may announce its commits late, as a store with threads
    does: what it reads is there before anyone has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_in: int | None = None
        self.cancels_in: int | None = None
        self.scope = trio.CancelScope()
        self.silent = False
        self._unannounced: list[Change] = []

    async def items(self, name: LogName, seq_from: int, seq_to: int) -> Sequence[Item]:
        items = await super().items(name, seq_from, seq_to)
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in <= 0:
                raise StoreUnavailable("a bad sector")
        if self.cancels_in is not None:
            self.cancels_in -= 1
            if self.cancels_in <= 0:
                self.scope.cancel()
                await trio.lowlevel.checkpoint()
        return items

    def _announce(self, change: Change) -> None:
        if self.silent:
            self._unannounced.append(change)
        else:
            super()._announce(change)

    def speak(self) -> None:
        """Announces what was held back."""
        self.silent = False
        held_back, self._unannounced = self._unannounced, []
        for change in held_back:
            self._announce(change)


async def _expected(store: MemoryStore, alive_from_s: int) -> dict[LogName, Any]:
    """What a view must hold, straight from the definitions: log -> (state, block digests)."""
    logs: dict[LogName, Any] = {}
    async for part in store.scan():
        alive = [item for item in part.items if item.first_stored_s >= alive_from_s]
        blocks = [(n, block_digest(items)) for n, items in groupby(alive, lambda item: item.seq // BLOCK_SEQS)]
        if blocks:
            logs[part.name] = (log_state(blocks), blocks)
    return logs


async def _check(view: IndexView, store: MemoryStore, alive_from_s: int) -> None:
    expected = await _expected(store, alive_from_s)
    handles = sorted(handle_of(name) for name in expected)
    assert list(view.handles) == handles
    assert len(view) == len(handles)
    states = {handle_of(name): state for name, (state, _) in expected.items()}
    assert list(view.states) == [states[handle] for handle in handles]
    assert view.fingerprint == live_fingerprint(handles, view.states)
    assert [handle_of(name) for name in view.names()] == handles
    for name in LOGS:
        handle = handle_of(name)
        state, blocks = expected.get(name, (None, []))
        assert view.state(handle) == state
        assert list(view.blocks(handle)) == blocks
        assert view.name(handle) == (name if blocks else None)


def _frozen(view: IndexView) -> tuple[object, ...]:
    """All that a view says."""
    return (
        [*view.handles],
        [*view.states],
        [(view.name(handle), [*view.blocks(handle)]) for handle in view.handles],
        view.fingerprint,
    )


async def _change(store: MemoryStore, kind: str, what: Any) -> None:
    if kind == "put":
        await store.put([Arrival(n, s, b, digest_of(b), a) for n, s, b, a in what])
    elif kind == "expire":
        while await store.expire(what, messages_max=2):
            pass
    elif kind == "merge":
        name, seq, blob, age = what
        await store.merge([StoredItem(name, Item(seq, digest_of(blob), age, len(blob)))])


class Play:
    """One index through all that happens to it, its old pictures kept to see that they never change."""

    def __init__(self, store: MoodyStore) -> None:
        self.store = store
        self.index = LogIndex(store)
        self.taken: list[tuple[IndexView, tuple[object, ...]]] = []

    async def look(self, alive_from_s: int) -> None:
        view = await self.index.view(alive_from_s)
        await _check(view, self.store, alive_from_s)
        assert await self.index.view(alive_from_s) is view  # nothing has changed
        self.taken.append((view, _frozen(view)))

    async def step(self, kind: str, what: Any) -> None:
        if kind == "look":
            await self.look(what)
        elif kind == "together":
            async with trio.open_nursery() as nursery:
                for inner, argument in what:
                    if inner == "look":
                        nursery.start_soon(self.index.view, argument)
                    else:
                        nursery.start_soon(_change, self.store, inner, argument)
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
                    await self.index.view(argument)
                else:
                    await _change(self.store, inner, argument)
            self.store.speak()
        else:
            await _change(self.store, kind, what)


@pytest.fixture(params=["large", "tiny"], scope="module")
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """As it runs, and with bounds so small that a handful of logs fills many leaves and takes many slices."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tiny":
            patch.setattr(index_view, "INDEX_LEAF_LOGS_MAX", 4)
            patch.setattr(index_view, "_SPLIT_LOGS", 2)
            patch.setattr(index_view, "_JOIN_LOGS_MAX", 2)
            patch.setattr(index_module, "INDEX_STAGED_LOGS", 2)
            patch.setattr(index_module, "INDEX_PORTION_BLOCKS", 2)
            patch.setattr(index_reading, "INDEX_SLICE_BLOCKS", 1)
            patch.setattr(index_blocks, "_FEW_BLOCKS", 1)
        yield


@given(st.lists(PUT, max_size=2), STEPS)
@settings(deadline=None, max_examples=250)
def test_index_equals_a_rebuild(sizes: None, before: list[Any], steps: list[Any]) -> None:
    async def play() -> None:
        async with MoodyStore() as store:
            for kind, what in before:
                await _change(store, kind, what)
            one = Play(store)
            await one.index.load()
            for kind, what in steps:
                await one.step(kind, what)
            for alive_from_s in (0, 3):
                await one.look(alive_from_s)
            for view, content in one.taken:
                assert _frozen(view) == content

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
        assert list((await one.view(300)).handles) == []


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


async def test_what_was_read_before_it_was_announced_is_not_built_upon() -> None:
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
        store.speak()
        await play.look(2)
