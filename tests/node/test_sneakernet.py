"""What one mailbox exports for another is just what that one lacks, and makes the two equal, dates and all."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.identity import Identity
from node.mailbox import Mailbox
from node.sneakernet import Exported, Taken, Terms, Wanted, take_record, write_bundle, write_want
from node.store.api import Arrival, StoreFull
from node.store.memory import MemoryStore
from node.store.reading import SqliteReading
from node.store.sqlite import SqliteStore
from protocols.limits.store import SCAN_PAGE_MESSAGES
from protocols.limits.sync import SALT_BYTES
from protocols.model import LogName, Retention, digest_of, handle_of
from protocols.sneakernet.bundle import BundleHead
from protocols.sneakernet.seal import Kind, Record, SealReader
from protocols.sneakernet.want import WantHead, WantTable
from protocols.sync.columns import pack_varints
from protocols.sync.interest import Interest
from tests.protocols.operation_maker import Author

NOW = 1_800_000_000 // 3600 * 3600 + 1800
HOUR = NOW // 3600 * 3600
WEEK = 7 * 86400
ALICE, BOB = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2))


class FixedClock:
    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s


def mailbox(store: MemoryStore | SqliteStore, *, now_s: float = NOW, retention_s: int = WEEK) -> Mailbox:
    return Mailbox(store, clock=FixedClock(now_s), retention=Retention(retention_s))


def terms(
    identity: Identity, *, interest: Interest | None = None, now_s: float = NOW, retention_s: int = WEEK
) -> Terms:
    return Terms(identity, "main", "test", Retention(retention_s), interest, now_s)


def arrival(topic: str, log: str, seq: int, blob: bytes, age_h: int = 0) -> Arrival:
    return Arrival(LogName(topic, log), seq, blob, digest_of(blob), HOUR - 3600 * age_h)


async def held(store: MemoryStore | SqliteStore | SqliteReading) -> set[tuple[LogName, int, bytes, int]]:
    found = set()
    async for page in store.scan():
        at = 0
        for name, count in zip(page.names, page.items.counts.tolist(), strict=True):
            for number in range(at, at + count):
                digest = page.items.digests[32 * number : 32 * number + 32]
                found.add((name, int(page.items.seqs[number]), digest, int(page.items.first_stored_s[number])))
            at += count
    return found


async def wanted_by(store: MemoryStore | SqliteStore, by: Terms) -> Wanted:
    out = bytearray()
    await write_want(store, by, random.Random(1).randbytes(SALT_BYTES), out.extend)
    seal, table = SealReader(Kind.WANT), WantTable()
    seal.feed(out)
    while (record := seal.next_record()) is not None:
        table.take(record)
    table.finish()
    assert seal.is_complete
    assert seal.origin is not None
    return Wanted(seal.origin.maker, WantHead.read(seal.origin), table)


async def take(data: bytes, target: Mailbox) -> Taken:
    seal, taken = SealReader(Kind.BUNDLE), Taken()
    seal.feed(data)
    while (record := seal.next_record()) is not None:
        assert seal.origin is not None
        retention_s = BundleHead.read(seal.origin).retention_s
        taken = taken.plus(await take_record(target, record, maker=seal.origin.maker, maker_retention_s=retention_s))
    return taken


async def carry(source: MemoryStore | SqliteStore, target: MemoryStore | SqliteStore) -> tuple[Exported, Taken]:
    """From Alice's to Bob's."""
    out = bytearray()
    exported = await write_bundle(source, terms(ALICE), await wanted_by(target, terms(BOB)), out.extend)
    assert exported.bytes == len(out)
    return exported, await take(bytes(out), mailbox(target))


messages = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 6), st.binary(max_size=2), st.integers(0, 20)
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(messages, messages)
def test_after_both_ways_both_hold_the_same(one: list[tuple[str, str, int, bytes, int]], other: object) -> None:
    async def main() -> None:
        stores = MemoryStore(), MemoryStore()
        for store, put in zip(stores, (one, other), strict=True):
            await store.put([arrival(*message) for message in put])  # type: ignore[attr-defined]
        lacked = {key[:3] for key in await held(stores[0])} - {key[:3] for key in await held(stores[1])}
        exported, taken = await carry(*stores)
        assert exported.messages == len(lacked)
        assert taken.known == taken.expired == 0
        await carry(stores[1], stores[0])
        await carry(*stores)  # a variant that fell out here may have been kept there
        assert await held(stores[0]) == await held(stores[1])
        exported, taken = await carry(*stores)
        assert (exported.messages, exported.dates, taken) == (0, 0, Taken())

    trio.run(main)


async def test_to_import_twice_changes_nothing() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", seq, b"%d" % seq) for seq in range(10)])
    out = bytearray()
    await write_bundle(source, terms(ALICE), None, out.extend)
    assert await take(bytes(out), mailbox(target)) == Taken(stored=10)
    assert await take(bytes(out), mailbox(target)) == Taken(known=10)
    assert await held(source) == await held(target)


async def test_nothing_lives_longer_for_having_been_carried() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", seq, b"x", age_h=seq) for seq in range(200)])  # from 168 on they are dead
    out = bytearray()
    exported = await write_bundle(source, terms(ALICE), None, out.extend)
    assert exported.messages == 168
    later = mailbox(target, now_s=NOW + 10 * 3600)
    assert await take(bytes(out), later) == Taken(stored=158, expired=10)
    assert await held(target) < await held(source)
    assert min(date for *_, date in await held(target)) == HOUR - 157 * 3600


async def test_an_earlier_date_travels_without_the_message() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", 0, bytes(100_000), age_h=3), arrival("t", "l", 1, b"same")])
    await target.put([arrival("t", "l", 0, bytes(100_000), age_h=1), arrival("t", "l", 1, b"same")])
    exported, taken = await carry(source, target)
    assert (exported.messages, exported.dates, taken) == (0, 1, Taken(dates=1))
    assert exported.bytes < 1000
    assert await held(source) == await held(target)


async def test_a_date_in_the_future_is_brought_down() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", 0, b"x", age_h=-5)])
    await carry(source, target)
    assert {date for *_, date in await held(target)} == {HOUR}


async def test_watermarks_travel_behind_what_they_are_about() -> None:
    """What expired at the exporter is not asked for at the other end."""
    source, target, short = MemoryStore(), MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", seq, b"x", age_h=200 if seq < 5 else 1) for seq in range(10)])
    await source.expire(mailbox(source).alive_from_s(), messages_max=100)
    name = LogName("t", "l")
    await carry(source, target)
    assert (await target.watermarks([name]))[name] == 9
    out = bytearray()
    await write_bundle(source, terms(ALICE, retention_s=86400), None, out.extend)
    await take(bytes(out), mailbox(short))
    assert (await short.watermarks([name]))[name] is None  # who forgets sooner can't say what may still be missing


async def test_only_what_the_other_keeps_is_exported() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("a", "l", 0, b"x"), arrival("b", "l", 0, b"x"), arrival("b", "l", 1, b"x", age_h=30)])
    wanted = await wanted_by(target, terms(BOB, interest=Interest.of(["b"]), retention_s=86400))
    out = bytearray()
    assert (await write_bundle(source, terms(ALICE), wanted, out.extend)).messages == 1


@pytest.mark.parametrize("seed", [1, 2])
async def test_over_sqlite_with_long_logs_and_large_messages(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with SqliteStore.open(tmp_path / "a") as source, SqliteStore.open(tmp_path / "b") as target:
        long = [arrival("t", "long", seq, b"%d" % seq, seq % 100) for seq in range(2 * SCAN_PAGE_MESSAGES)]
        large = [arrival("t", f"large{n}", seq, chance.randbytes(300_000)) for n in range(3) for seq in range(4)]
        await source.put([*long, *large])
        await target.put([*chance.sample(long, 3000), *large[:5], arrival("t", "own", 0, b"x")])
        exported, taken = await carry(source, target)
        assert exported.messages == taken.stored == len(long) - 3000 + 7
        assert await held(source) <= await held(target)
        assert not (await target.verify()).problems
        async with SqliteReading.open(tmp_path / "a") as beside:
            assert await held(beside) == await held(source)
            assert (await write_bundle(beside, terms(ALICE), None, lambda data: None)).messages == 2 * 4096 + 12


async def test_merges_of_what_is_not_held_are_nothing() -> None:
    source, target = MemoryStore(), MemoryStore()
    await source.put([arrival("t", "l", 0, b"x", age_h=2)])
    await target.put([arrival("t", "l", 0, b"x")])
    wanted = await wanted_by(target, terms(BOB))
    out = bytearray()
    await write_bundle(source, terms(ALICE), wanted, out.extend)
    await target.expire(HOUR + 3600, messages_max=10)
    assert await take(bytes(out), mailbox(target)) == Taken(dates=1)
    assert await held(target) == set()


async def test_what_was_let_go_to_make_room_does_not_come_back(tmp_path: Path) -> None:
    flood = [arrival("spam", "mallory", seq, b"%d" % seq + bytes(20_000)) for seq in range(250)]
    source = MemoryStore()
    async with SqliteStore.open(tmp_path / "a", storage_limit_bytes=4_000_000) as target:
        with pytest.raises(StoreFull):
            for one in flood:
                await target.put([one], client="10.0.0.66")
                await source.put([one])
        for seq in range(20):
            await target.put([arrival("tea", "alice", seq, bytes(20_000))], client="10.0.0.1")
        kept, evicted = await held(target), target.evictions.messages
        assert evicted > 0
        out = bytearray()
        await write_bundle(source, terms(ALICE), None, out.extend)
        taken = await take(bytes(out), mailbox(target))
        assert taken.stored == 0
        assert taken.refused >= evicted
        assert await held(target) == kept


async def test_who_wants_signatures_takes_nothing_without() -> None:
    author, source, target = Author(), MemoryStore(), MemoryStore()
    signed = Arrival(author.name, 0, author.blob(0), digest_of(author.blob(0)), HOUR)
    await source.put(
        [signed, arrival(author.name.topic, author.name.log, 1, b"forged"), arrival("t", "l", 0, b"plain")]
    )
    out = bytearray()
    await write_bundle(source, terms(ALICE), None, out.extend)
    strict = Mailbox(target, clock=FixedClock(NOW), retention=Retention(), require_signed=True)
    assert await take(bytes(out), strict) == Taken(stored=1, refused=2)
    assert {name for name, *_ in await held(target)} == {author.name}


async def test_what_is_told_of_one_log_costs_no_memory_beyond_the_table() -> None:
    """A hostile list may tell twenty million messages of one log."""
    told = 500_000
    columns = [pack_varints(np.full(told, step, np.uint64)) for step in (1, 0)]
    fields = [handle_of(LogName("t", "l")), pack_varints(np.array([told], np.uint64)), *columns, bytes(4 * told)]
    table = WantTable()
    table.take(Record(3, fields, b""))
    table.finish()
    wanted = Wanted(BOB.mailbox_id, WantHead(bytes(SALT_BYTES), 0, None), table)
    store = MemoryStore()
    await store.put([arrival("t", "l", seq, b"%d" % seq) for seq in range(10)])
    tracemalloc.start()
    try:
        exported = await write_bundle(store, terms(ALICE), wanted, lambda _data: None)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert exported.messages == 10  # no tag of theirs is one of ours
    assert peak_bytes < 10 * told
