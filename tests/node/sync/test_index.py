"""The index is provably equal to the store: whatever happens, its view equals that of an index built anew."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.api import Arrival, StoredItem
from node.store.memory import MemoryStore
from node.sync.index import LogIndex
from protocols.limits import SEQ_MAX
from protocols.model import Item, LogName, digest_of

LOGS = [LogName(f"t{i}", f"l{j}") for i in range(2) for j in range(2)]
SEQS = st.one_of(st.integers(0, 200), st.sampled_from([SEQ_MAX, SEQ_MAX - 1, 2**63, 2**63 - 1]))
AGES = st.integers(0, 5)

PUT = st.tuples(
    st.just("put"),
    st.lists(st.tuples(st.sampled_from(LOGS), SEQS, st.binary(max_size=2), AGES), min_size=1, max_size=8),
)
EXPIRE = st.tuples(st.just("expire"), AGES)
MERGE = st.tuples(st.just("merge"), st.tuples(st.sampled_from(LOGS), SEQS, st.binary(max_size=2), AGES))
LOOK = st.tuples(st.just("look"), AGES)


async def _fresh(store: MemoryStore, alive_from_s: int) -> tuple[object, ...]:
    other = LogIndex(store)
    await other.load()
    return _content(await other.view(alive_from_s))


def _content(view: object) -> tuple[object, ...]:
    return (view.handles, view.states, view.names, view.block_digests, view.fingerprint)  # type: ignore[attr-defined]


@given(st.lists(st.one_of(PUT, EXPIRE, MERGE, LOOK), max_size=20))
@settings(deadline=None, max_examples=150)
def test_index_equals_a_rebuild(steps: list[tuple[str, object]]) -> None:
    async def play() -> None:
        async with MemoryStore() as store:
            index = LogIndex(store)
            await index.load()
            for kind, what in steps:
                if kind == "put":
                    await store.put([Arrival(n, s, b, digest_of(b), a) for n, s, b, a in what])  # type: ignore[attr-defined]
                elif kind == "expire":
                    while await store.expire(what, messages_max=2):  # type: ignore[arg-type]
                        pass
                elif kind == "merge":
                    name, seq, blob, age = what  # type: ignore[misc]
                    await store.merge([StoredItem(name, Item(seq, digest_of(blob), age, len(blob)))])
                else:
                    assert _content(await index.view(what)) == await _fresh(store, what)  # type: ignore[arg-type]
            assert _content(await index.view(0)) == await _fresh(store, 0)

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
        assert (await one.view(300)).handles == []


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
