"""How fast the SQLite store is: group commit against a commit per request, bulk against raw SQL, and who waits for
whom. Prints figures and ratios; asserts nothing about time.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from node.store import _ledger, _writer
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.limits import EXPIRY_BATCH_MESSAGES, MIB
from protocols.model import LogName, digest_of

pytestmark = pytest.mark.benchmark

NAMES = [LogName(os.urandom(32).hex(), os.urandom(32).hex()) for _ in range(1000)]
TASKS = 64


class Source:
    """Messages scattered over a thousand logs, each log in order."""

    def __init__(self, sizes: tuple[int, int] = (300, 300)) -> None:
        self._chance = random.Random(1)
        self._following = dict.fromkeys(NAMES, 0)
        self._sizes = sizes

    def take(self, count: int, first_stored_s: int = 1000) -> list[Arrival]:
        made = []
        for _ in range(count):
            name = self._chance.choice(NAMES)
            blob = self._chance.randbytes(self._chance.randint(*self._sizes))
            made.append(Arrival(name, self._following[name], blob, digest_of(blob), first_stored_s))
            self._following[name] += 1
        return made


async def rate(path: Path, messages: int) -> tuple[float, float]:
    """Stores/s and p99 (ms) of single-message requests from 64 tasks."""
    waits: list[float] = []
    async with SqliteStore.open(path) as store:
        source = Source()
        await store.put(source.take(len(NAMES) * 4))
        todo = [source.take(1) for _ in range(messages)]

        async def client() -> None:
            while todo:
                arrivals = todo.pop()
                start = time.perf_counter()
                await store.put(arrivals)
                waits.append(time.perf_counter() - start)

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(client)
        return messages / (time.perf_counter() - start), 1000 * sorted(waits)[len(waits) * 99 // 100]


def raw_single(path: Path, messages: int) -> float:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE m (log INT, seq INT, digest BLOB, first INT, size INT, blob BLOB, PRIMARY KEY (log, seq))"
    )
    rows = [(NAMES.index(a.name), a.seq, a.digest, 1, len(a.blob), a.blob) for a in Source().take(messages)]
    start = time.perf_counter()
    for row in rows:
        database.execute("INSERT INTO m VALUES (?, ?, ?, ?, ?, ?)", row)
    return messages / (time.perf_counter() - start)


async def test_group_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print()
    grouped, grouped_p99 = await rate(tmp_path / "grouped.db", 40_000)
    with monkeypatch.context() as patch:
        patch.setattr(_writer, "COMMIT_BATCH_MESSAGES", 1)
        single, single_p99 = await rate(tmp_path / "single.db", 8_000)
    raw = raw_single(tmp_path / "raw.db", 8_000)
    print(f"64 tasks, group commit:        {grouped:8.0f} stores/s, p99 {grouped_p99:.1f} ms")
    print(
        f"64 tasks, commit per request:  {single:8.0f} stores/s, p99 {single_p99:.1f} ms; ratio {grouped / single:.1f}"
    )
    print(f"raw SQLite, 1 row per commit:  {raw:8.0f} stores/s; ratio {grouped / raw:.1f}")


async def test_bulk_against_raw_executemany(tmp_path: Path) -> None:
    source = Source()
    batches = [source.take(1000) for _ in range(100)]
    database = sqlite3.connect(tmp_path / "raw.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "wal_autocheckpoint = 4000"):
        database.execute(f"PRAGMA {pragma}")
    database.execute(
        "CREATE TABLE m (log INT, seq INT, digest BLOB, first INT, size INT, blob BLOB,"
        " PRIMARY KEY (log, seq, digest)) WITHOUT ROWID"
    )
    numbers = {name: number for number, name in enumerate(NAMES)}
    rows = [[(numbers[a.name], a.seq, a.digest, 1, len(a.blob), a.blob) for a in batch] for batch in batches]
    start = time.perf_counter()
    for batch in rows:
        database.execute("BEGIN")
        database.executemany("INSERT INTO m VALUES (?, ?, ?, ?, ?, ?)", batch)
        database.execute("COMMIT")
    raw = 100_000 / (time.perf_counter() - start)
    async with SqliteStore.open(tmp_path / "store.db") as store:
        start = time.perf_counter()
        for arrivals in batches:
            await store.put(arrivals)
        bulk = 100_000 / (time.perf_counter() - start)
    print(
        f"\nbulk, 1000 per request: {bulk:.0f} rows/s; raw executemany into one clustered table: {raw:.0f}; "
        f"ratio {bulk / raw:.2f}"
    )


class LockTimes:
    """How long each transaction held the write lock, by what it did."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.held_ms: dict[str, list[float]] = {}
        self._kind = "put"
        transaction = _ledger.Ledger.transaction

        @contextmanager
        def timed(ledger: _ledger.Ledger) -> Iterator[None]:
            self._kind = "put"
            start = time.perf_counter()
            with transaction(ledger):
                yield
            self.held_ms.setdefault(self._kind, []).append(1000 * (time.perf_counter() - start))

        patch.setattr(_ledger.Ledger, "transaction", timed)
        for kind in ("expire", "reclaim"):
            self._name(patch, kind)

    def _name(self, patch: pytest.MonkeyPatch, kind: str) -> None:
        original = getattr(_ledger.Ledger, kind)

        def named(*arguments: object) -> object:
            self._kind = kind
            return original(*arguments)

        patch.setattr(_ledger.Ledger, kind, named)

    def report(self) -> None:
        for kind, held_ms in sorted(self.held_ms.items()):
            ordered = sorted(held_ms)
            print(
                f"  {kind}: {len(ordered)} transactions, lock held median {ordered[len(ordered) // 2]:.1f} ms, "
                f"p99 {ordered[len(ordered) * 99 // 100]:.1f} ms, longest {ordered[-1]:.1f} ms"
            )


def drop_caches() -> None:
    os.sync()
    if os.geteuid() == 0 and os.access("/proc/sys/vm/drop_caches", os.W_OK):
        Path("/proc/sys/vm/drop_caches").write_text("3")


async def test_expiry_with_a_million_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    source = Source((200, 2000))
    start = time.perf_counter()
    async with SqliteStore.open(path) as store:
        for batch in range(1000):
            await store.put(source.take(1000, first_stored_s=batch // 10))
        for seq in range(10):
            blob = os.urandom(48 * MIB)
            await store.put([Arrival(LogName("large", "log"), seq, blob, digest_of(blob), 0)])
    print(
        f"\n1,000,000 messages of 200-2000 bytes: {1e6 / (time.perf_counter() - start):.0f} rows/s, "
        f"{(path.stat().st_size - 480 * MIB) / 1e6:.0f} bytes each on the disk"
    )
    drop_caches()
    start = time.perf_counter()
    async with SqliteStore.open(path) as store:
        print(f"opened with cold caches in {time.perf_counter() - start:.2f} s")
        start = time.perf_counter()
        count = 0
        async for log in store.scan():
            count += len(log.items)
        print(f"scanned {count} in {time.perf_counter() - start:.2f} s")
        drop_caches()
        times = LockTimes(monkeypatch)
        waits: list[float] = []
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:

            async def keep_storing() -> None:
                while True:
                    begin = time.perf_counter()
                    await store.put(source.take(1))
                    waits.append(time.perf_counter() - begin)
                    await trio.sleep(0.005)

            nursery.start_soon(keep_storing)
            removed = 0
            while removed < 100_000 and (batch := await store.expire(50, messages_max=EXPIRY_BATCH_MESSAGES)):
                removed += batch
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        waits.sort()
        print(f"expired {removed} messages, ten of 48 MiB among them, cold, in {time.perf_counter() - start:.1f} s")
        p99, longest = 1000 * waits[len(waits) * 99 // 100], 1000 * waits[-1]
        print(f"stores meanwhile: {len(waits)}, p99 {p99:.0f} ms, longest {longest:.0f} ms")
        times.report()
