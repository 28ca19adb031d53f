"""How fast the store takes in and gives out a million messages in bulk, beside what SQLite itself does.

The ceiling is a plain `executemany` of the same rows into the same tables, with the same pragmas and as many messages
in a commit, on a file of its own that holds as much; the two take turns. `stall` is the longest time for which another
task did not get its turn.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from node.bench.messages import arrival_at, log_name
from node.store._schema import SEQ_OFFSET, connect_writer, prepare
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.limits.replication import GC_MIDDLE_LOOKS, GC_YOUNG_OBJECTS
from protocols.limits.store import CHECKPOINT_PAGES
from protocols.limits.units import MIB
from protocols.model import LogName
from protocols.sync.effects import Span
from tests.benchmarks.stalls import stalls

pytestmark = pytest.mark.benchmark

LEVELS = (0, 500_000, 1_000_000)
BATCH = 1000
LOG_MESSAGES = 100
TAIL_MESSAGES = 10
BLOB_BYTES = 1000
PORTION = 50_000
FIRST_STORED_S = 3600

Batch: TypeAlias = Sequence[Arrival]


class Work:
    """Makes batches: of whole new logs, and of tails for logs that are there already."""

    def __init__(self) -> None:
        self._lengths: list[int] = []
        self._chance = random.Random(1)

    def new_logs(self, messages: int) -> Iterator[Batch]:
        for _ in range(0, messages, BATCH):
            logs = range(len(self._lengths), len(self._lengths) + BATCH // LOG_MESSAGES)
            self._lengths += [LOG_MESSAGES] * len(logs)
            yield [message(log, seq) for log in logs for seq in range(LOG_MESSAGES)]

    def tails(self, messages: int) -> Iterator[Batch]:
        for _ in range(0, messages, BATCH):
            chosen = self._chance.sample(range(len(self._lengths)), BATCH // TAIL_MESSAGES)
            batch = []
            for log in chosen:
                start = self._lengths[log]
                self._lengths[log] += TAIL_MESSAGES
                batch += [message(log, seq) for seq in range(start, start + TAIL_MESSAGES)]
            yield batch


def message(log: int, seq: int) -> Arrival:
    return arrival_at(log_name(log), seq, BLOB_BYTES, FIRST_STORED_S)


@dataclass(frozen=True)
class Rows:
    """What one batch comes to in the tables."""

    topics: list[tuple[int, str]]
    logs: list[tuple[int, int, str]]
    blobs: list[tuple[int, bytes]]
    messages: list[tuple[int, int, bytes, int, int, int]]
    watermarks: list[tuple[int, int]]


class Raw:
    """The ceiling. Blocks."""

    def __init__(self, path: Path) -> None:
        prepare(path)
        self.connection = connect_writer(path)
        self.connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._topics: dict[str, int] = {}
        self._logs: dict[LogName, int] = {}
        self._blobs = 0

    def rows(self, batch: Batch) -> Rows:
        rows = Rows([], [], [], [], [])
        heights: dict[int, int] = {}
        for name, seq, blob, digest, first_stored_s in batch:
            if name not in self._logs:
                if name.topic not in self._topics:
                    self._topics[name.topic] = len(self._topics) + 1
                    rows.topics.append((self._topics[name.topic], name.topic))
                self._logs[name] = len(self._logs) + 1
                rows.logs.append((self._logs[name], self._topics[name.topic], name.log))
            log = self._logs[name]
            self._blobs += 1
            rows.blobs.append((self._blobs, blob))
            rows.messages.append((log, seq - SEQ_OFFSET, digest, first_stored_s, len(blob), self._blobs))
            heights[log] = seq - SEQ_OFFSET
        rows.watermarks.extend(heights.items())
        return rows

    def put(self, batches: Sequence[Rows]) -> float:
        """Seconds."""
        begun_s = time.perf_counter()
        for rows in batches:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT INTO topics (id, topic) VALUES (?, ?)", rows.topics)
            self.connection.executemany("INSERT INTO logs (id, topic, log) VALUES (?, ?, ?)", rows.logs)
            self.connection.executemany("INSERT INTO blobs VALUES (?, ?)", rows.blobs)
            self.connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, 0, 0)", rows.messages)
            self.connection.executemany("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", rows.watermarks)
            self.connection.execute("COMMIT")
        return time.perf_counter() - begun_s


async def put(store: SqliteStore, batches: Sequence[Batch], under_way: int) -> float:
    """Seconds, with so many puts under way at a time."""
    todo = iter(batches)

    async def client() -> None:
        for batch in todo:
            await store.put(batch)

    begun_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(under_way):
            nursery.start_soon(client)
    return time.perf_counter() - begun_s


@pytest.fixture(autouse=True)
def calm_garbage_collector() -> Iterator[None]:
    """As in the program."""
    before = gc.get_threshold()
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_MIDDLE_LOOKS, 50)
    gc.collect()
    gc.freeze()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_bulk_inserts_beside_raw_sqlite(tmp_path: Path) -> None:
    work = Work()
    print(f"\nputs of {BATCH} messages of {BLOB_BYTES} bytes; messages/s")
    print(f"{'held':>9}  {'what':<22} {'under way':>9} {'store':>9} {'raw':>9} {'ratio':>6} {'stall ms':>9}")
    raw = Raw(tmp_path / "raw.sqlite3")
    async with SqliteStore.open(tmp_path / "store.sqlite3") as store:
        for level in LEVELS:
            while (held := store.statistics().messages) < level:
                batches = list(work.new_logs(min(PORTION, level - held)))
                await put(store, batches, 2)
                await trio.to_thread.run_sync(raw.put, [raw.rows(batch) for batch in batches])
            for what, source in (("new logs of 100", work.new_logs), ("tails of 10", work.tails)):
                for under_way in (1, 2):
                    batches = list(source(PORTION))
                    held = store.statistics().messages
                    rows = [raw.rows(batch) for batch in batches]
                    raw_s = await trio.to_thread.run_sync(raw.put, rows)
                    del rows
                    async with stalls() as stall:
                        ours_s = await put(store, batches, under_way)
                    print(
                        f"{held:9,}  {what:<22} {under_way:9} {PORTION / ours_s:9,.0f} {PORTION / raw_s:9,.0f}"
                        f" {raw_s / ours_s:6.2f} {1000 * stall.longest_s:9.1f}"
                    )
    raw.connection.close()


async def everything(store: SqliteStore, wanted: Sequence[Span], page_bytes: int) -> tuple[int, int]:
    """(messages, pages)"""
    messages = pages = 0
    after: tuple[int, int] | None = None
    while True:
        page = await store.messages(wanted, alive_from_s=0, page_bytes=page_bytes, after=after)
        messages += len(page.entries)
        pages += 1
        after = page.after
        if after is None:
            return messages, pages


async def test_messages_of_many_spans(tmp_path: Path) -> None:
    logs = 1000
    one = LogName("one", "log")
    async with SqliteStore.open(tmp_path / "store.sqlite3") as store:
        for start in range(0, logs, 10):
            await store.put([message(log, seq) for log in range(start, start + 10) for seq in range(100)])
            await store.put([arrival_at(one, 100 * start + seq, BLOB_BYTES, 0) for seq in range(1000)])
        for seq in range(20):
            await store.put([Arrival(LogName("large", "log"), seq, blob := os.urandom(5 * MIB), blob[:32], 0)])
        await store.put([arrival_at(LogName("medium", "log"), seq, 100_000, 0) for seq in range(1000)])
        print()
        for what, wanted, page_bytes in (
            ("one log of 100,000", [Span(one, 0, 2**64 - 1)], MIB),
            ("1000 logs of 100", [Span(log_name(log), 0, 99) for log in range(logs)], MIB),
            ("1000 logs of 100, any seqs", [Span(log_name(log), 0, 2**64 - 1) for log in range(logs)], MIB),
            ("10,000 spans of 10", [Span(log_name(n // 10), n % 10 * 10, n % 10 * 10 + 9) for n in range(10_000)], MIB),
            ("100,000 spans of 1", [Span(log_name(n // 100), n % 100, n % 100) for n in range(100_000)], MIB),
            ("10,000 spans of nothing", [Span(LogName("no", str(n)), 0, 99) for n in range(10_000)], MIB),
            ("1000 of 100 kB", [Span(LogName("medium", "log"), 0, 999)], MIB),
            ("20 of 5 MiB", [Span(LogName("large", "log"), 0, 99)], MIB),
            ("one log of 100,000, small pages", [Span(one, 0, 2**64 - 1)], MIB // 4),
        ):
            for load in (False, True):
                async with stalls() as stall, trio.open_nursery() as nursery:
                    if load:
                        nursery.start_soon(keep_busy)
                    begun_s = time.perf_counter()
                    messages, pages = await everything(store, wanted, page_bytes)
                    took_s = time.perf_counter() - begun_s
                    nursery.cancel_scope.cancel()
                print(
                    f"{what:<34} {'busy' if load else 'idle'} {messages / took_s:11,.0f} messages/s"
                    f" {1000 * took_s / pages:8.2f} ms/page of {pages:5}  stall {1000 * stall.longest_s:6.1f} ms"
                )


async def keep_busy() -> None:
    """As much as a session does that packs and encrypts: 2 ms at a time."""
    while True:
        until_s = time.perf_counter() + 0.002
        while time.perf_counter() < until_s:
            pass
        await trio.lowlevel.checkpoint()
