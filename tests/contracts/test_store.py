"""What every store promises (`node.store.api`), against memory and SQLite alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.store.api import Arrival, Change, LogEntries, Position, Store, StoredItem, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from protocols.limits.data import SEQ_MAX, VARIANTS_MAX
from protocols.limits.store import (
    BLOB_CHUNK_BYTES,
    JUDGE_SLICE_MESSAGES,
    LOG_OVERHEAD_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    MESSAGES_PAGE_MAX,
)
from protocols.model import Item, LogName, digest_of
from protocols.sync.effects import Span
from tests.contracts.store_model import rows_of
from tests.protocols.operation_maker import Author

LOG = LogName("topic", "log")


def open_store(kind: str, directory: Path, limit_bytes: int | None = None) -> AbstractAsyncContextManager[Store]:
    if kind == "memory":
        return MemoryStore(storage_limit_bytes=limit_bytes)
    return SqliteStore.open(directory / "store.db", storage_limit_bytes=limit_bytes)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(kind, tmp_path) as store:
        yield store


def arrival(seq: int, blob: bytes = b"", *, name: LogName = LOG, first: int = 100) -> Arrival:
    blob = blob or f"message {seq}".encode()
    return Arrival(name, seq, blob, digest_of(blob), first)


def item(seq: int, *, first: int = 100) -> Item:
    made = arrival(seq)
    return Item(seq, made.digest, first, len(made.blob))


async def read(store: Store, query: dict[str, dict[str, int]], **options: Any) -> list[LogEntries]:
    options = {"alive_from_s": 0, "missing_max": 100, "page_bytes": 10**6} | options
    page = await store.read(query, **options)
    assert page.after is None
    return list(page.entries)


async def seqs_and_missing(store: Store, height: int | None = None, **options: Any) -> tuple[list[int], list[int]]:
    entries = await read(store, {LOG.topic: {} if height is None else {LOG.log: height}}, **options)
    if not entries:
        return [], []
    assert [entry.name for entry in entries] == [LOG]
    return [seq for seq, _ in entries[0].messages], list(entries[0].missing)


# --- put and the watermark -------------------------------------------------------------------------------------------


async def test_put_says_what_became_of_each_arrival(store: Store) -> None:
    result = await store.put([arrival(0), arrival(1), arrival(1)])
    assert result == (2, 1, 0, {LOG: 1})
    assert await store.put([arrival(1), arrival(5)]) == (1, 1, 0, {LOG: 1})
    assert await store.put([]) == (0, 0, 0, {})
    totals = store.statistics()
    assert (totals.messages, totals.bytes, totals.logs, totals.topics) == (3, 27, 1, 1)


async def test_watermark_needs_seq_0_and_jumps_over_what_is_held(store: Store) -> None:
    assert (await store.put([arrival(1), arrival(2), arrival(4)])).watermarks == {LOG: None}
    assert (await store.put([arrival(0)])).watermarks == {LOG: 2}
    assert (await store.put([arrival(3)])).watermarks == {LOG: 4}
    assert await store.watermarks([LOG, LogName("topic", "other")]) == {LOG: 4, LogName("topic", "other"): None}


async def test_watermark_does_not_jump_over_what_has_expired_and_never_falls(store: Store) -> None:
    await store.put([arrival(0), arrival(1), arrival(3, first=5), arrival(4)])
    assert await store.expire(50, messages_max=10) == 1
    assert (await store.put([arrival(2)])).watermarks == {LOG: 2}
    assert await store.expire(1000, messages_max=10) == 4
    assert await store.watermarks([LOG]) == {LOG: 2}
    assert (await store.put([arrival(3)])).watermarks == {LOG: 3}
    assert await seqs_and_missing(store, 5) == ([], [4, 5])


async def test_columns_of_spans_hold_what_each_holds(store: Store) -> None:
    other, odd = LogName("another topic", "another log"), LogName('é"\\\x01', "\U0010ffff'")
    await store.put([arrival(seq) for seq in (0, 1, 5, 2**63 - 1, 2**63, SEQ_MAX)])
    await store.put(
        [arrival(1, b"variant", first=7), arrival(1, b"another", first=5000), arrival(5, b"late", first=2000)]
    )
    await store.put([arrival(1)._replace(name=other), arrival(SEQ_MAX)._replace(name=odd)])
    spans = [
        (LOG, 0, 1),
        (other, 0, SEQ_MAX),
        (LOG, 1, SEQ_MAX),
        (LOG, 2, 4),
        (LogName("no", "log"), 0, 9),
        (LogName(LOG.topic, "no"), 0, 9),
        (LOG, 5, 0),
        (odd, 0, SEQ_MAX),
    ]
    for alive_from_s in (0, 8, 1000, 5000, 10_000):
        found = rows_of(await store.columns_of(spans, alive_from_s=alive_from_s))
        assert found == [
            [item[:3] for item in await store.items(*span) if item.first_stored_s >= alive_from_s] for span in spans
        ]
    assert [len(rows) for rows in rows_of(await store.columns_of(spans))] == [4, 1, 8, 0, 0, 0, 0, 1]
    assert rows_of(await store.columns_of([])) == []


async def test_messages_of_spans_come_in_order_with_their_variants(store: Store) -> None:
    other, odd = LogName("another topic", "another log"), LogName('é"\\\x01', "\U0010ffff'")
    await store.put([arrival(seq) for seq in (0, 1, 5, 2**63 - 1, 2**63, SEQ_MAX)])
    await store.put([arrival(1, b"variant", first=7), arrival(1, b"another", first=5000), arrival(0, name=other)])
    await store.put([arrival(SEQ_MAX, name=odd)])
    wanted = [
        Span(other, 0, SEQ_MAX),
        Span(LogName(LOG.topic, "no"), 0, 9),
        Span(LOG, 1, SEQ_MAX),
        Span(LOG, 5, 0),
        Span(odd, SEQ_MAX, SEQ_MAX),
        Span(LOG, 0, 1),
    ]
    blobs = {digest_of(blob): blob for blob in (b"variant", b"another", *(b"message %d" % s for s in (0, 1, 5)))}
    blobs |= {digest_of(blob): blob for blob in (b"message %d" % s for s in (2**63 - 1, 2**63, SEQ_MAX))}
    for alive_from_s in (0, 8, 1000, 10_000):
        page = await store.messages(wanted, alive_from_s=alive_from_s, page_bytes=10**6)
        assert page.after is None
        assert list(page.entries) == [
            (index, item, blobs[item.digest])
            for index, span in enumerate(wanted)
            for item in await store.items(*span)
            if item.first_stored_s >= alive_from_s
        ]
    assert [index for index, _, _ in page.entries] == []
    page = await store.messages([], alive_from_s=0, page_bytes=1)
    assert (page.entries, page.after) == ([], None)


async def test_messages_come_in_pages_that_never_part_the_variants_of_a_seq(store: Store) -> None:
    variants = [arrival(3, b"variant %d" % number) for number in range(VARIANTS_MAX)]
    await store.put([*(arrival(seq, b"x" * 100) for seq in (0, 1)), *variants, arrival(4, b"y")])
    wanted = [Span(LOG, 0, 2), Span(LOG, 3, SEQ_MAX)]
    pages = []
    after: tuple[int, int] | None = None
    while True:
        page = await store.messages(wanted, alive_from_s=0, page_bytes=101, after=after)
        pages.append([(index, item.seq) for index, item, _ in page.entries])
        after = page.after
        if after is None:
            break
    assert pages == [[(0, 0), (0, 1)], [(1, 3)] * VARIANTS_MAX + [(1, 4)]]
    page = await store.messages(wanted, alive_from_s=0, page_bytes=1, after=(1, 3))
    assert ([item.seq for _, item, _ in page.entries], page.after) == ([3] * VARIANTS_MAX, (1, 4))


async def test_a_page_of_messages_is_bounded_however_small_they_are(store: Store) -> None:
    names = [LogName("t", str(number)) for number in range(60)]
    await store.put([arrival(seq, name=name) for name in names for seq in range(100)])
    await store.put([arrival(2**60, bytes(2 * BLOB_CHUNK_BYTES + 5), name=names[7])])
    wanted = [Span(LogName("t", f"no {number}"), 0, 9) for number in range(500)]
    wanted += [
        Span(name, first, SEQ_MAX if first == 90 else first + 9) for name in names for first in range(0, 100, 10)
    ]
    page = await store.messages(wanted, alive_from_s=0, page_bytes=10**9)
    assert len(page.entries) == MESSAGES_PAGE_MAX
    rest = await store.messages(wanted, alive_from_s=0, page_bytes=10**9, after=page.after)
    assert rest.after is None
    found = [*page.entries, *rest.entries]
    assert [(index, item.seq) for index, item, _ in found if item.seq < 100] == [
        (500 + log * 10 + seq // 10, seq) for log in range(60) for seq in range(100)
    ]
    assert all(digest_of(blob) == item.digest and len(blob) == item.size for _, item, blob in found)
    assert len(found) == 6001


async def test_a_log_may_span_the_whole_range_of_seqs(store: Store) -> None:
    extremes = [0, 1, 2**63 - 1, 2**63, SEQ_MAX - 1, SEQ_MAX]
    await store.put([arrival(seq) for seq in reversed(extremes)])
    assert (await seqs_and_missing(store))[0] == extremes
    assert (await seqs_and_missing(store, 2**63 - 1, missing_max=2))[0] == extremes[3:]
    assert await seqs_and_missing(store, SEQ_MAX - 1, missing_max=3) == ([SEQ_MAX], [2, 3, 4])
    assert await seqs_and_missing(store, SEQ_MAX, missing_max=3) == ([], [2, 3, 4])
    assert [i.seq for i in await store.items(LOG, 2**63, SEQ_MAX)] == extremes[3:]
    for seq in (-1, SEQ_MAX + 1):
        with pytest.raises(ValueError, match="outside"):
            await store.put([arrival(2), arrival(seq)])
    assert store.statistics().messages == len(extremes)


async def test_the_watermark_can_reach_the_top(store: Store) -> None:
    await store.put([arrival(SEQ_MAX)])
    await store.adopt_watermarks({LOG: SEQ_MAX - 1})
    assert await store.watermarks([LOG]) == {LOG: SEQ_MAX}
    assert await seqs_and_missing(store, SEQ_MAX) == ([], [])
    assert (await store.put([arrival(7)])).watermarks == {LOG: SEQ_MAX}


async def test_adopted_watermarks_rise_only_up_to_what_is_held(store: Store) -> None:
    await store.put([arrival(5), arrival(6), arrival(9)])
    await store.adopt_watermarks({LOG: 3, LogName("topic", "unknown"): 7})
    assert await store.watermarks([LOG]) == {LOG: 3}
    await store.adopt_watermarks({LOG: 2})
    assert await store.watermarks([LOG]) == {LOG: 3}
    await store.adopt_watermarks({LOG: 1000})
    assert await store.watermarks([LOG, LogName("topic", "unknown")]) == {LOG: 6, LogName("topic", "unknown"): None}
    await store.adopt_watermarks({LOG: 8})
    await store.adopt_watermarks({LOG: 1000})  # nothing is held above 9
    assert await store.watermarks([LOG]) == {LOG: 9}


# --- variants and first stored ---------------------------------------------------------------------------------------


async def test_the_variant_first_stored_is_served_and_ties_go_to_the_smaller_digest(store: Store) -> None:
    blobs = sorted((b"a", b"b", b"c"), key=digest_of)
    await store.put([arrival(0, blobs[2]), arrival(0, blobs[1])])
    assert (await read(store, {"topic": {}}))[0].messages == [(0, blobs[1])]
    await store.put([arrival(0, blobs[0], first=200)])
    assert (await read(store, {"topic": {}}))[0].messages == [(0, blobs[1])]
    await store.put([arrival(0, blobs[2], first=50)])
    assert (await read(store, {"topic": {}}))[0].messages == [(0, blobs[2])]
    # of those alive, that is
    assert (await read(store, {"topic": {}}, alive_from_s=150))[0].messages == [(0, blobs[0])]
    assert store.statistics().messages == 3


async def test_the_first_variants_are_kept_whatever_the_order(kind: str, tmp_path: Path) -> None:
    many = [arrival(0, b"%d" % i, first=100 + i // 3) for i in range(3 * VARIANTS_MAX)]
    expected = sorted(many, key=lambda a: (a.first_stored_s, a.digest))[:VARIANTS_MAX]
    for turn, order in enumerate((many, many[::-1], many[1::2] + many[::2])):
        directory = tmp_path / str(turn)
        directory.mkdir()
        async with open_store(kind, directory) as store:
            changes: list[Change] = []
            store.subscribe(changes.append)
            results = [await store.put(order[i : i + 5]) for i in range(0, len(order), 5)]
            assert {i.digest for i in await store.items(LOG, 0, 0)} == {a.digest for a in expected}
            assert all(sum(result[:3]) == len(order[5 * i : 5 * i + 5]) for i, result in enumerate(results))
            gone = sum(len(change.removed) for change in changes)
            assert sum(len(change.stored) for change in changes) - gone == VARIANTS_MAX == store.statistics().messages
            assert sum(result.stored for result in results) - gone == VARIANTS_MAX


async def test_a_genuine_copy_comes_before_all_others_whatever_the_order(kind: str, tmp_path: Path) -> None:
    alice = Author()
    genuine = arrival(0, alice.blob(0), name=alice.name, first=900)
    forged = [arrival(0, b"forged %d" % i, name=alice.name, first=100 + i) for i in range(VARIANTS_MAX + 2)]
    expected = {genuine.digest} | {a.digest for a in forged[: VARIANTS_MAX - 1]}
    orders = ([genuine, *forged], [*forged, genuine], [*forged[:4], genuine, *forged[4:]])
    for turn, (order, step) in enumerate((order, step) for order in orders for step in (1, 3, 99)):
        directory = tmp_path / str(turn)
        directory.mkdir()
        async with open_store(kind, directory) as store:
            for start in range(0, len(order), step):
                await store.put(order[start : start + step])
            assert {i.digest for i in await store.items(alice.name, 0, 0)} == expected
            (entry,) = await read(store, {alice.name.topic: {}})
            assert entry.messages == [(0, genuine.blob)]


async def test_a_single_copy_is_served_whatever_it_is_and_a_fork_by_its_date(store: Store) -> None:
    alice = Author()
    one, other = (arrival(0, alice.blob(0, payload), name=alice.name, first=500) for payload in (b"one", b"other"))
    await store.put([arrival(0, b"opaque", name=alice.name, first=1)])
    assert (await read(store, {alice.name.topic: {}}))[0].messages == [(0, b"opaque")]
    await store.put([other])
    await store.put([one._replace(first_stored_s=300)])
    assert (await read(store, {alice.name.topic: {}}))[0].messages == [(0, one.blob)]
    await store.merge([StoredItem(alice.name, Item(0, other.digest, 200, len(other.blob)))])
    assert (await read(store, {alice.name.topic: {}}))[0].messages == [(0, other.blob)]
    # When both have expired, what is left is served.
    await store.put([arrival(0, b"late", name=alice.name, first=800)])
    assert (await read(store, {alice.name.topic: {}}, alive_from_s=600))[0].messages == [(0, b"late")]


async def test_many_contested_keys_at_once(store: Store) -> None:
    alice = Author()
    count = 2 * JUDGE_SLICE_MESSAGES + 5
    genuine = [arrival(seq, alice.blob(seq), name=alice.name, first=200) for seq in range(count)]
    await store.put([arrival(seq, b"forged %d" % seq, name=alice.name, first=100) for seq in range(count)])
    result = await store.put(genuine)
    assert (result.stored, result.known, result.dropped) == (count, 0, 0)
    (entry,) = await read(store, {alice.name.topic: {}})
    assert entry.messages == [(a.seq, a.blob) for a in genuine]


async def test_first_stored_merges_by_minimum(store: Store) -> None:
    changes: list[Change] = []
    store.subscribe(changes.append)
    await store.put([arrival(0), arrival(1)])
    await store.put([arrival(0, first=300), arrival(1, first=40)], origin="someone")
    assert [(c.stored, list(c.merged), c.removed, c.origin) for c in changes[1:]] == [
        ([], [StoredItem(LOG, item(1, first=40))], [], "someone")
    ]
    wanted = [StoredItem(LOG, item(0, first=30)), StoredItem(LOG, item(1, first=40)), StoredItem(LOG, item(7, first=1))]
    await store.merge([*wanted, StoredItem(LogName("topic", "?"), item(0, first=1))], origin=3)
    assert [(list(c.merged), c.origin) for c in changes[2:]] == [([StoredItem(LOG, item(0, first=30))], 3)]
    await store.merge(wanted)
    assert len(changes) == 3
    assert [i.first_stored_s for i in await store.items(LOG, 0, SEQ_MAX)] == [30, 40]


# --- reads -----------------------------------------------------------------------------------------------------------


async def test_missing_follows_the_api(store: Store) -> None:
    await store.put([arrival(0), arrival(1), arrival(6)])
    assert await seqs_and_missing(store, 3) == ([6], [2, 3])
    assert await seqs_and_missing(store, 1) == ([6], [])
    assert await seqs_and_missing(store, 8) == ([], [2, 3, 4, 5, 7, 8])
    entries = await read(store, {"third": {"x": 0}, "topic": {"new": 2}, "other": {}})
    assert [entry.name for entry in entries] == [LogName("third", "x"), LOG, LogName("topic", "new")]
    assert [list(entry.missing) for entry in entries] == [[0], [], [0, 1, 2]]


async def test_what_expired_above_the_watermark_is_missing_again_even_before_it_is_removed(store: Store) -> None:
    await store.put([arrival(0, first=1), arrival(2, first=1), arrival(3)])
    assert await seqs_and_missing(store, 3, alive_from_s=50) == ([], [1, 2])
    assert await seqs_and_missing(store, alive_from_s=50) == ([3], [])


async def test_missing_is_cut_but_never_left_out(store: Store) -> None:
    query = {"a": {"x": SEQ_MAX, "y": 5, "z": 9}}
    entries = await read(store, query, missing_max=4)
    assert [list(entry.missing) for entry in entries] == [[0, 1, 2, 3], [0], [0]]
    assert await read(store, query, missing_max=0) == []


async def test_an_absurd_height_costs_nothing(store: Store) -> None:
    await store.put([arrival(seq) for seq in range(1, 500)])
    with trio.fail_after(30):
        assert await seqs_and_missing(store, SEQ_MAX, missing_max=3) == ([], [0, 500, 501])


async def test_pages_hold_together(store: Store) -> None:
    names = [LogName(topic, log) for topic in ("s", "t") for log in ("a", "b", "ü", "\U0001f600")]
    await store.put([arrival(seq, bytes(50 + seq), name=name) for name in names for seq in range(7)])
    await store.put([arrival(9, b"q", name=names[1]), arrival(3, name=LogName("u", "a"))])
    query = {"s": {"b": 8, "0": 2}, "t": {"a": 3, "zz": 0}}
    whole = await read(store, query)
    assert [entry.name.log for entry in whole] == ["0", "a", "b", "ü", "\U0001f600", "a", "b", "zz", "ü", "\U0001f600"]
    for page_bytes in (1, 100, 300, 700, 5000):
        parts: dict[LogName, tuple[list[tuple[int, bytes]], list[int]]] = {}
        order: list[LogName] = []
        after: Position | None = None
        for _ in range(200):
            page = await store.read(query, alive_from_s=0, missing_max=100, after=after, page_bytes=page_bytes)
            for entry in page.entries:
                messages, missing = parts.setdefault(entry.name, ([], []))
                assert not entry.missing or not messages
                messages.extend(entry.messages)
                missing.extend(entry.missing)
                order.append(entry.name)
            after = page.after
            if after is None:
                break
            assert any(entry.messages for entry in page.entries)
        assert after is None
        assert order == sorted(order)
        assert [LogEntries(name, *found) for name, found in parts.items()] == whole


async def test_a_page_ends_where_the_next_one_begins(store: Store) -> None:
    await store.put([arrival(seq) for seq in (0, 1, 2)])
    page = await store.read({"topic": {}}, alive_from_s=0, missing_max=9, page_bytes=1)
    assert ([seq for seq, _ in page.entries[0].messages], page.after) == ([0], Position("topic", "log", 1))
    page = await store.read(
        {"topic": {}}, alive_from_s=0, missing_max=9, page_bytes=1, after=Position("topic", "log", 2)
    )
    assert ([seq for seq, _ in page.entries[0].messages], page.after) == ([2], None)


async def test_large_and_empty_blobs_come_back_whole(store: Store) -> None:
    sizes = (0, 1, BLOB_CHUNK_BYTES - 1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, 3 * BLOB_CHUNK_BYTES + 7)
    made = [bytes([i]) * size for i, size in enumerate(sizes)]
    arrivals = [Arrival(LOG, seq, blob, digest_of(blob), 100) for seq, blob in enumerate(made)]
    await store.put(arrivals)
    assert (await read(store, {"topic": {}}, page_bytes=10**8))[0].messages == list(enumerate(made))
    wanted = [(a.seq, a.digest) for a in reversed(arrivals)]
    assert await store.blobs(LOG, [*wanted, (0, b"?" * 32), (99, wanted[0][1])]) == [*reversed(made), None, None]
    assert await store.blobs(LogName("no", "no"), wanted[:1]) == [None]
    assert (await store.verify()).problems in ([], ())
    assert await store.expire(101, messages_max=3) == 3
    assert (await store.verify()).problems in ([], ())


async def test_scan_gives_everything_once(store: Store) -> None:
    names = [LogName("t", str(i)) for i in range(9)]
    arrivals = [arrival(seq, name=name) for name in names for seq in range(600)]
    await store.put(arrivals)
    found: dict[LogName, list[tuple[int, bytes, int]]] = {}
    async for page in store.scan():
        for name, rows in zip(page.names, rows_of(page.items), strict=True):
            found.setdefault(name, []).extend(rows)
    assert found == {name: [item(seq)[:3] for seq in range(600)] for name in names}


# --- expiry and limits -----------------------------------------------------------------------------------------------


async def test_expiry_takes_the_oldest_first_and_no_more_than_asked(store: Store) -> None:
    changes: list[Change] = []
    await store.put([arrival(seq, first=100 + seq // 2) for seq in range(10)])
    store.subscribe(changes.append)
    assert await store.expire(104, messages_max=3) == 3
    assert await store.expire(104, messages_max=100) == 5
    assert await store.expire(104, messages_max=100) == 0
    assert [i.item.first_stored_s for change in changes for i in change.removed] == [
        100,
        100,
        101,
        101,
        102,
        102,
        103,
        103,
    ]
    assert await seqs_and_missing(store) == ([8, 9], [])
    assert store.statistics().messages == 2


async def test_totals_follow_logs_that_empty_and_fill(store: Store) -> None:
    other = LogName("topic", "other")
    await store.put([arrival(0), arrival(3, name=other), arrival(0, name=LogName("second", "log"))])
    await store.put([arrival(1, first=500)])
    totals = store.statistics()
    assert (totals.messages, totals.logs, totals.topics) == (4, 3, 2)
    assert await store.expire(200, messages_max=10) == 3
    totals = store.statistics()
    assert (totals.messages, totals.logs, totals.topics) == (1, 1, 1)
    assert (await store.put([arrival(4, name=other)])).watermarks == {other: None}
    assert (await store.put([arrival(1, name=LogName("second", "log"))])).watermarks == {LogName("second", "log"): 1}
    totals = store.statistics()
    assert (totals.messages, totals.logs, totals.topics) == (3, 3, 2)
    assert (await store.verify()).problems in ([], ())


async def test_the_storage_limit_refuses_whole_requests(kind: str, tmp_path: Path) -> None:
    limit = LOG_OVERHEAD_BYTES + 3 * MESSAGE_OVERHEAD_BYTES + 300
    async with open_store(kind, tmp_path, limit) as store:
        await store.put([arrival(0, b"x" * 100), arrival(1, b"y" * 100)])
        with pytest.raises(StoreFull):
            await store.put([arrival(2, b"z" * 50), arrival(3, b"z" * 51)])
        with pytest.raises(StoreFull):
            await store.put([arrival(0, b"a", name=LogName("t", "other"))])
        assert await store.watermarks([LOG]) == {LOG: 1}
        assert store.statistics().messages == 2
        assert (await read(store, {"t": {}})) == []
        await store.put([arrival(2, b"z" * 100)])  # exactly full
        assert await store.put([arrival(2, b"z" * 100, first=1), arrival(0, b"x" * 100)]) == (0, 2, 0, {LOG: 2})
        with pytest.raises(StoreFull):
            await store.put([arrival(3, b"!")])
        assert await store.expire(50, messages_max=9) == 1
        await store.put([arrival(3, b"!")])
        assert store.statistics().storage_limit_bytes == limit


# --- concurrency and the end -----------------------------------------------------------------------------------------


async def test_another_storage_limit_holds_at_once(store: Store) -> None:
    await store.put([arrival(0, b"x" * 100_000)])
    await store.limit_storage(100 * 1024)
    assert store.statistics().storage_limit_bytes == 100 * 1024
    assert await read(store, {"topic": {}})  # nothing is removed for it
    with pytest.raises(StoreFull):
        await store.put([arrival(1, b"y" * 200_000)])
    await store.limit_storage(None)
    await store.put([arrival(1, b"y" * 200_000)])
    assert not [room for room in store.rooms() if room.is_limit]


async def test_the_census_counts_by_topic(store: Store) -> None:
    assert await store.census(topics_max=2) == (None, [])
    for topic, sizes in (("a", [10, 20]), ("b", [500]), ("c", [1])):
        for seq, size in enumerate(sizes):
            await store.put([arrival(seq, b"x" * size, name=LogName(topic, "l"), first=100 + size)])
    census = await store.census(topics_max=2)
    assert census.oldest_s == 101
    assert [tuple(share) for share in census.topics] == [("b", 1, 500), ("a", 2, 30)]


async def test_listeners_hear_of_every_commit_before_the_caller_goes_on(store: Store) -> None:
    heard: list[Change] = []

    def fail(change: Change) -> None:
        raise RuntimeError("a broken listener")

    store.subscribe(fail)
    store.subscribe(heard.append)

    async def put(seq: int) -> None:
        await store.put([arrival(seq)], origin=seq)
        assert any(change.origin == seq for change in heard)

    async with trio.open_nursery() as nursery:
        for seq in range(100):
            nursery.start_soon(put, seq)
    assert sorted(change.origin for change in heard) == list(range(100))  # type: ignore[type-var]
    assert await store.watermarks([LOG]) == {LOG: 99}


async def test_a_cancelled_put_is_stored_and_announced_or_neither(store: Store) -> None:
    heard: set[int] = set()
    store.subscribe(lambda change: heard.update(stored.seq for stored in change.stored))

    async def put(seq: int) -> None:
        with trio.move_on_after(0 if seq % 3 == 0 else 0.0005 * (seq % 5)):
            await store.put([arrival(2 * seq), arrival(2 * seq + 1)])

    async with trio.open_nursery() as nursery:
        for seq in range(100):
            nursery.start_soon(put, seq)
    await store.put([arrival(1000)])
    held = {i.seq for i in await store.items(LOG, 0, SEQ_MAX)}
    assert held == heard
    assert all((2 * seq in held) == (2 * seq + 1 in held) for seq in range(100))
    assert (await store.verify()).problems in ([], ())


async def test_a_closed_store_says_so(kind: str, tmp_path: Path) -> None:
    async with open_store(kind, tmp_path) as store:
        await store.put([arrival(0)])
    for use in (
        lambda: store.put([arrival(1)]),
        lambda: store.merge([StoredItem(LOG, item(0, first=1))]),
        lambda: store.expire(1000, messages_max=1),
        lambda: store.items(LOG, 0, 1),
        lambda: store.messages([Span(LOG, 0, 1)], alive_from_s=0, page_bytes=1),
        lambda: read(store, {"topic": {}}),
        lambda: store.watermarks([LOG]),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await use()


async def test_verify_counts_and_tells_how_far_it_is(store: Store) -> None:
    await store.put([arrival(seq) for seq in range(50)])
    told: list[int] = []
    report = await store.verify(progress=told.append)
    assert (report.messages, report.bytes, list(report.problems)) == (50, store.statistics().bytes, [])
    assert told == sorted(told)
    assert told[-1] == 50
