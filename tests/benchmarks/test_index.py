"""What the index costs at a million messages: start, pictures, memory, and how long it ever holds up everything else.

The store is SQLite on disk. `stall` is the longest time in which another task did not get its turn.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from node.clock import SystemClock
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from node.sync.audit import Audit
from node.sync.index import LogIndex
from protocols.limits.replication import GC_MIDDLE_LOOKS, GC_YOUNG_OBJECTS
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import LogName, digest_of, handle_of
from protocols.sync.interest import Interest
from tests.benchmarks.stalls import stalls

MESSAGES = 1_000_000
BATCH = 4096
HOUR_S = 3600
HOURS = 7 * 24


def name_of(log: int) -> LogName:
    return LogName(f"{log // 100:064x}", f"{log:064x}")


def arrival(log: int, seq: int, first_stored_s: int, text: str = "") -> Arrival:
    blob = b"%d/%d/%s" % (log, seq, text.encode())
    return Arrival(name_of(log), seq, blob, digest_of(blob), first_stored_s)


def everything(logs: int, stride: int) -> Iterator[Arrival]:
    """Every log grows evenly through the week. `stride` is the distance between two seqs of a log."""
    length = MESSAGES // logs
    for log in range(logs):
        for at in range(length):
            yield arrival(log, at * stride, HOUR_S * (HOURS * at // length))


async def fill(store: SqliteStore, arrivals: Iterator[Arrival]) -> None:
    batch: list[Arrival] = []
    for one in arrivals:
        batch.append(one)
        if len(batch) == BATCH:
            await store.put(batch)
            batch = []
    if batch:
        await store.put(batch)


@asynccontextmanager
async def watched(what: str) -> AsyncIterator[None]:
    """Prints how long something took, and the longest stall of a task beside it."""
    async with stalls() as stall:
        start_s = time.perf_counter()
        yield
        took_s = time.perf_counter() - start_s
    print(f"  {what:<44} {took_s * 1e3:10.2f} ms   stall {stall.longest_s * 1e3:7.2f} ms")


@contextmanager
def timed(what: str) -> Iterator[None]:
    start_s = time.perf_counter()
    yield
    print(f"  {what:<44} {(time.perf_counter() - start_s) * 1e3:10.2f} ms")


async def index_bytes(store: SqliteStore) -> None:
    """Prints what an index allocates for each message, and what pictures add to it."""

    def tell(what: str) -> None:
        gc.collect()
        print(f"  {what:<44} {(tracemalloc.get_traced_memory()[0] - before_bytes) / MESSAGES:10.3f}")

    gc.collect()
    tracemalloc.start()
    before_bytes = tracemalloc.get_traced_memory()[0]
    index = LogIndex(store)
    await index.load()
    tell("bytes per message: index")
    assert len((await index.view(0)).prefixes)
    tell("  and what a session has made of it")
    await index.view(HOUR_S)
    tell("  and a picture without the first hour")
    tracemalloc.stop()


async def touch(store: SqliteStore, chosen: Sequence[int], seq: int) -> None:
    await fill(store, (arrival(log, seq, HOUR_S * HOURS, "more") for log in chosen))


@pytest.fixture(autouse=True)
def calm_garbage_collector() -> Iterator[None]:
    """As in the program."""
    before = gc.get_threshold()
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_MIDDLE_LOOKS, 50)
    yield
    gc.set_threshold(*before)


@pytest.mark.benchmark
@pytest.mark.parametrize(("logs", "stride"), [(10_000, 1), (100_000, 1), (1, 1), (1, 2**43)])
async def test_index_of_a_million(tmp_path: Path, logs: int, stride: int) -> None:
    rng = random.Random(logs)
    async with SqliteStore.open(tmp_path / "store.sqlite3") as store:
        await fill(store, everything(logs, stride))
        length = MESSAGES // logs
        print(f"\n{MESSAGES:,} messages in {logs:,} logs" + (", one in each block" if stride > 1 else ""))
        with timed("(the scan alone, without an index)"):
            async for _ in store.scan():
                pass
        gc.collect()
        before_bytes = psutil.Process().memory_info().rss
        index = LogIndex(store)
        async with watched("load"):
            await index.load()
        view = await index.view(0)
        async with watched("unchanged view"):
            assert await index.view(0) is view
        for changed in (1, 10, 100, 1000):
            if changed <= logs:
                await touch(store, rng.sample(range(logs), changed), length * stride + changed)
                async with watched(f"view after a change of {changed} logs"):
                    assert await index.view(0) is not view
        if stride == 1:
            for blocks in (1, 100):
                await fill(store, (arrival(0, n * BLOCK_SEQS, HOUR_S, "again") for n in range(0, 2 * blocks, 2)))
                async with watched(f"view after a change of {blocks} blocks of one log"):
                    await index.view(0)
        view = await index.view(0)
        for boundary, what in (
            (1, "the hour's tick"),
            (HOUR_S * HOURS // 2, "a boundary through every log"),
            (HOUR_S * HOURS, "a boundary above nearly all"),
            (HOUR_S * HOURS + 1, "a boundary above all"),
        ):
            async with watched(f"{what}: first view"):
                await index.view(boundary)
            async with watched("  again"):
                await index.view(boundary)
            await touch(store, [rng.randrange(logs)], length * stride + boundary % 4000 + 2000)
            async with watched("  after a change of one log"):
                await index.view(boundary)
        view = await index.view(0)
        every = np.arange(len(view))
        with timed("fingerprint"):
            assert view.fingerprint
        with timed("prefixes"):
            assert len(view.prefixes) == len(view)
        with timed("changed since the last but 4 pictures"):
            view.changed_since(view.serial - 4)
        with timed("runs of every log"):
            view.runs(every)
        with timed("runs of up to 1000 logs"):
            view.runs(np.sort(np.array(rng.sample(range(len(view)), min(1000, len(view))))))
        with timed("find"):
            view.find(handle_of(name_of(0)))
        with timed("name"):
            view.name_at(len(view) // 2)
        with timed("blocks of one log"):
            view.blocks_at(len(view) // 2)
        async with watched("audit: everything compared at once"):
            report = await Audit(store, index, SystemClock()).check_now()
        assert report.differences == 0
        async with watched("a hundredth of the topics: first picture"):
            topics = Interest.of(name_of(log).topic for log in range(max(1, logs // 100)))
            few = await index.view(0, topics)
        await touch(store, [0], length * stride + 9999)
        async with watched("  after a change of one log"):
            assert await index.view(0, topics) is not few
        gc.collect()
        grown = psutil.Process().memory_info().rss - before_bytes
        print(f"  {'bytes per message: process, with all pictures':<44} {grown / MESSAGES:10.2f}")
        await index_bytes(store)
