"""What expiry costs whoever stores meanwhile. Prints figures; asserts nothing about time. How fast the store is by
itself tells `mailboxd bench store`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from node.bench.messages import arrival_at, log_name
from node.store import _ledger
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.limits.store import EXPIRY_BATCH_MESSAGES
from protocols.limits.units import MIB
from protocols.model import LogName, digest_of

pytestmark = pytest.mark.benchmark


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
    chance = random.Random(1)
    names = [log_name(log) for log in range(1000)]
    lengths = dict.fromkeys(names, 0)

    def take(count: int, first_stored_s: int = 1000) -> list[Arrival]:
        taken = []
        for name in chance.choices(names, k=count):
            taken.append(arrival_at(name, lengths[name], chance.randint(200, 2000), first_stored_s))
            lengths[name] += 1
        return taken

    start = time.perf_counter()
    async with SqliteStore.open(path) as store:
        for batch in range(1000):
            await store.put(take(1000, first_stored_s=batch // 10))
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
        async for page in store.scan():
            count += len(page.items.seqs)
        print(f"scanned {count} in {time.perf_counter() - start:.2f} s")
        drop_caches()
        times = LockTimes(monkeypatch)
        waits: list[float] = []
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:

            async def keep_storing() -> None:
                while True:
                    begin = time.perf_counter()
                    await store.put(take(1))
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
