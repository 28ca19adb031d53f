"""Random histories, played to every store and to a plain model (`store_model`): all must agree after each step."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.store.api import Arrival, Change, Position, Store, StoredItem
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from protocols.limits.data import SEQ_MAX
from protocols.model import Item, LogName, digest_of
from protocols.sync.effects import Span
from tests.contracts.store_model import StoreModel, rows_of
from tests.protocols.operation_maker import Author

ALICE = Author(topic=b"a" * 32)
NAMES = [LogName("a", "x"), LogName("a", "y"), LogName("b", "x"), ALICE.name]
SEQS = [*range(8), 2**63 - 1, 2**63, SEQ_MAX - 1, SEQ_MAX]
PAGE_MESSAGES = 5
CHUNK_BYTES = 8  # so that small blobs take the way of large ones

names = st.sampled_from(NAMES)
seqs = st.sampled_from(SEQS)
ages = st.integers(0, 5)
arrivals = st.builds(
    lambda name, seq, blob, first: Arrival(name, seq, blob, digest_of(blob), first),
    names,
    seqs,
    st.integers(0, 11).map(lambda i: bytes([65 + i]) * (2 * i)),
    ages,
)
# In a log with a key's name some blobs are genuine; of each position there are several that are, as after a fork.
signed = st.builds(
    lambda seq, payload, dated, first: Arrival(
        ALICE.name, seq, blob := ALICE.blob(seq, payload, dated=dated), digest_of(blob), first
    ),
    st.sampled_from(SEQS[:3]),
    st.sampled_from([b"one", b"two"]),
    st.booleans(),
    ages,
)
puts = st.lists(st.one_of(arrivals, arrivals, signed), max_size=20)
runs = st.builds(
    lambda name, first, count, age: [
        Arrival(name, seq, b"run%d" % seq, digest_of(b"run%d" % seq), age) for seq in range(first, first + count)
    ],
    names,
    st.integers(0, 8),
    st.integers(0, 40),
    ages,
)
heights = st.one_of(seqs, st.integers(0, 60))
operations = st.one_of(
    st.tuples(st.just("put"), puts),
    st.tuples(st.just("put"), runs),
    st.tuples(st.just("merge"), st.lists(st.tuples(arrivals, ages), max_size=5)),
    st.tuples(st.just("adopt"), st.dictionaries(names, heights, max_size=3)),
    st.tuples(st.just("expire"), st.tuples(st.integers(0, 6), st.integers(0, 12))),
    st.tuples(st.just("reopen"), st.none()),
)
queries = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("wxyz"), heights, max_size=3))
reads = st.tuples(queries, st.integers(0, 6), st.integers(1, 12), st.sampled_from([1, 70, 150, 400, 10**6]))

spans = st.builds(Span, st.sampled_from([*NAMES, LogName("a", "z"), LogName("c", "x")]), heights, heights)
transfers = st.tuples(st.lists(spans, max_size=12), st.integers(0, 6), st.sampled_from([1, 20, 150, 10**6]))


class Kinds:
    """How to open, and open again, each kind of store."""

    def __init__(self, kind: str, directory: str) -> None:
        self._kind = kind
        self._path = Path(directory) / "store.db"
        self._memory = MemoryStore()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        if self._kind == "memory":
            yield self._memory
            return
        async with SqliteStore.open(self._path) as store:
            yield store


async def play(kinds: Kinds, history: list[tuple[str, Any]], queries: list[Any], transfers: list[Any]) -> None:
    model = StoreModel()
    changes: list[Change] = []
    seen: dict[tuple[LogName, int, bytes], Item] = {}  # put together from the changes alone
    turn = 0
    while True:
        async with kinds.open() as store:
            store._listeners.clear()
            store.subscribe(changes.append)
            while turn < len(history):
                kind, details = history[turn]
                turn += 1
                if kind == "reopen":
                    break
                changes.clear()
                await step(store, model, kind, details, changes)
                follow(seen, changes)
                await agree(store, model)
                assert seen == {(n, s, d): Item(s, d, f, len(b)) for (n, s, d), (f, b) in model.held.items()}
            else:
                for query in queries:
                    await compare_read(store, model, *query)
                for transfer in transfers:
                    await compare_messages(store, model, *transfer)
                report = await store.verify()
                assert list(report.problems) == []
                assert (report.messages, report.bytes) == model.totals()[:2]
                return


def follow(seen: dict[tuple[LogName, int, bytes], Item], changes: list[Change]) -> None:
    for change in changes:
        for name, item in change.removed:
            assert seen.pop((name, item.seq, item.digest)) == item
        for name, item in change.merged:
            assert seen[name, item.seq, item.digest].first_stored_s > item.first_stored_s
            seen[name, item.seq, item.digest] = item
        for name, seq, blob, digest, first_stored_s in change.stored:
            assert (name, seq, digest) not in seen
            seen[name, seq, digest] = Item(seq, digest, first_stored_s, len(blob))


async def step(store: Store, model: StoreModel, kind: str, details: Any, changes: list[Change]) -> None:
    if kind == "put":
        result = await store.put(details)
        assert result[:3] == model.put(details)
        assert result.watermarks == {a.name: model.watermark.get(a.name) for a in details}
    elif kind == "merge":
        items = [StoredItem(a.name, Item(a.seq, a.digest, first, len(a.blob))) for a, first in details]
        await store.merge(items)
        model.merge(items)
    elif kind == "adopt":
        await store.adopt_watermarks(details)
        model.adopt(details)
    elif kind == "expire":
        alive_from_s, messages_max = details
        due = model.due(alive_from_s)[:messages_max]
        assert await store.expire(alive_from_s, messages_max=messages_max) == len(due)
        removed = [stored for change in changes for stored in change.removed]
        assert sorted(stored.item.first_stored_s for stored in removed) == [first for first, _ in due]
        model.remove(removed)


async def agree(store: Store, model: StoreModel) -> None:
    totals = store.statistics()
    assert (totals.messages, totals.bytes, totals.logs, totals.topics) == model.totals()
    assert await store.watermarks(NAMES) == {name: model.watermark.get(name) for name in NAMES}
    scanned: dict[LogName, list[tuple[int, bytes, int]]] = {}
    async for page in store.scan():
        for name, rows in zip(page.names, rows_of(page.items), strict=True):
            scanned.setdefault(name, []).extend(rows)
    assert scanned == {name: [item[:3] for item in found] for name in NAMES if (found := model.items(name))}
    for name in NAMES:
        assert list(await store.items(name, 3, 2**63)) == model.items(name, 3, 2**63)


async def compare_read(
    store: Store,
    model: StoreModel,
    query: dict[str, dict[str, int]],
    alive_from_s: int,
    missing_max: int,
    page_bytes: int,
) -> None:
    expected = model.read(query, alive_from_s, missing_max)
    found: dict[LogName, tuple[list[tuple[int, bytes]], list[int]]] = {}
    after: Position | None = None
    while True:
        page = await store.read(
            query, alive_from_s=alive_from_s, missing_max=missing_max, after=after, page_bytes=page_bytes
        )
        assert [entry.name for entry in page.entries] == sorted({entry.name for entry in page.entries})
        extra = sum(bool(entry.missing) for entry in page.entries)
        assert sum(len(entry.missing) for entry in page.entries) <= missing_max + extra
        for name, messages, missing in page.entries:
            assert name not in found or not missing
            parts = found.setdefault(name, ([], []))
            parts[0].extend(messages)
            parts[1].extend(missing)
        assert page.after is None or any(entry.messages for entry in page.entries)
        after = page.after
        if after is None:
            break
    assert sorted(found) == sorted(expected)
    for name, (messages, missing) in found.items():
        assert messages == expected[name][0]
        assert missing == expected[name][1][: len(missing)]
        assert bool(missing) == bool(expected[name][1])
        if len(expected) == 1:
            assert missing == expected[name][1]
    held = [(seq, digest) for name, seq, digest in model.held if name == NAMES[0]]
    assert await store.blobs(NAMES[0], held) == [model.held[NAMES[0], *key][1] for key in held]


async def compare_messages(
    store: Store, model: StoreModel, wanted: list[Span], alive_from_s: int, page_bytes: int
) -> None:
    found: list[tuple[int, Item, bytes]] = []
    after: tuple[int, int] | None = None
    while True:
        page = await store.messages(wanted, alive_from_s=alive_from_s, page_bytes=page_bytes, after=after)
        keys = [(index, item.seq) for index, item, _ in page.entries]
        if keys:
            early = [entry for entry, key in zip(page.entries, keys, strict=True) if key != keys[-1]]
            assert len(early) < PAGE_MESSAGES
            assert sum(item.size for _, item, _ in early) < page_bytes
        assert after is None or keys[0] == after
        found += page.entries
        after = page.after
        if after is None:
            break
        is_full = len(keys) >= PAGE_MESSAGES or sum(item.size for _, item, _ in page.entries) >= page_bytes
        assert is_full
    assert found == model.messages(wanted, alive_from_s)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_store_agrees_with_the_model(kind: str) -> None:
    @settings(
        max_examples=200 if kind == "memory" else 100,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        st.lists(operations, min_size=5, max_size=25),
        st.lists(reads, min_size=1, max_size=6),
        st.lists(transfers, min_size=1, max_size=4),
    )
    def check(history: list[tuple[str, Any]], queries: list[Any], transfers: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            trio.run(play, Kinds(kind, directory), history, queries, transfers)

    with ExitStack() as patches:
        for module in ("_schema", "_inserts", "_messages", "_verify"):
            patches.enter_context(mock.patch(f"node.store.{module}.BLOB_CHUNK_BYTES", CHUNK_BYTES))
        for module in ("_messages", "memory"):
            patches.enter_context(mock.patch(f"node.store.{module}.MESSAGES_PAGE_MAX", PAGE_MESSAGES))
        for name in ("_PORTION_SPANS", "_PORTION_MESSAGES"):
            patches.enter_context(mock.patch(f"node.store._messages.{name}", 2))
        patches.enter_context(mock.patch("node.store._readers.SCAN_PAGE_MESSAGES", 3))
        patches.enter_context(mock.patch("node.store._verify._PAGE_ROWS", 3))
        check()
