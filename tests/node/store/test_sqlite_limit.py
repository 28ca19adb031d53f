"""The storage limit on the disk: the files stay below it, whatever comes, and a store of before it is taken over."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from node.store import _eviction, _schema
from node.store.api import Arrival, Change, StoreFull
from node.store.sqlite import SqliteStore
from protocols.limits.store import EVICT_SCAN_MESSAGES
from protocols.limits.units import KIB, MIB
from protocols.model import LogName, digest_of

LIMIT = 8 * MIB


def on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir() if not file.name.endswith("-shm"))


def arrival(chance: random.Random, topic: int, seq: int, size: int) -> Arrival:
    blob = os.urandom(size)
    return Arrival(LogName(f"{topic:064x}", f"{chance.randrange(50):064x}"), seq, blob, digest_of(blob), 3600)


async def test_files_stay_below_the_limit_in_a_flood_of_eight_times_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_schema, "new_salt", lambda: b"")  # else the honest one may share a source with the flood
    path, chance = tmp_path / "store.db", random.Random(1)
    sizes = [0]
    async with SqliteStore.open(path, storage_limit_bytes=LIMIT) as store:
        honest = [arrival(chance, 10**6, seq, 1000) for seq in range(200)]
        await store.put(honest, client="honest")
        sent = seq = 0
        while sent < 8 * LIMIT:
            seq += 1
            size = chance.choice((100, 1000, 1000, 20_000, 300 * KIB))
            many = [arrival(chance, chance.randrange(20), seq * 100 + n, size) for n in range(max(1, 100_000 // size))]
            with contextlib.suppress(StoreFull):
                await store.put(many, client=f"10.0.0.{seq % 10}")
            sent += size * len(many)
            sizes.append(on_disk(path))
        assert max(sizes) <= LIMIT
        assert max(sizes) > LIMIT // 3  # there is some use of it
        held = {name for one in honest for name in [one.name]}
        kept = [await store.items(name, 0, 10**6) for name in held]
        assert sum(map(len, kept)) == len(honest)
        assert list((await store.verify()).problems) == []
        print(f"files at the most {max(sizes) / LIMIT:.2f} of the limit, evicted {store.evictions}")


async def test_nobody_waits_for_a_search_that_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has most and has just been acknowledged is refused after one look through the store, however long that
    takes: not after as many steps as there may be."""
    monkeypatch.setattr(_eviction, "EXPIRY_LOCK_S", 0.0)  # a slow disk: each step looks at one page
    steps = 0
    evict = _eviction.Evictor.make_room

    def counted(evictor: _eviction.Evictor, *args: Any) -> tuple[_eviction.RoomMade, Change]:
        nonlocal steps
        steps += 1
        return evict(evictor, *args)

    monkeypatch.setattr(_eviction.Evictor, "make_room", counted)
    chance = random.Random(1)
    async with SqliteStore.open(tmp_path / "store.db", storage_limit_bytes=LIMIT) as store:
        with pytest.raises(StoreFull):
            for seq in range(10**6):
                await store.put([arrival(chance, seq % 3, seq * 50 + n, 1000) for n in range(50)], client="greedy")
        held = store.statistics().messages
        assert held > 10 * EVICT_SCAN_MESSAGES
        assert steps <= 2 * held / EVICT_SCAN_MESSAGES


async def test_a_lowered_limit_is_kept_and_space_given_back(tmp_path: Path) -> None:
    path, chance = tmp_path / "store.db", random.Random(1)
    async with SqliteStore.open(path) as store:
        for seq in range(30):
            await store.put([arrival(chance, 1, seq, MIB)], client="a")
    assert on_disk(path) > 30 * MIB
    async with SqliteStore.open(path, storage_limit_bytes=LIMIT) as store:
        await store.expire(0, messages_max=500)
        with trio.fail_after(30):
            while path.stat().st_size > LIMIT:  # noqa: ASYNC110 - the writer's own thread does it
                await trio.sleep(0.02)
        assert 1 <= store.statistics().messages <= 8
        assert list((await store.verify()).problems) == []
    assert on_disk(path) <= LIMIT


async def test_a_store_from_before_sources_is_taken_over(tmp_path: Path) -> None:
    path, chance = tmp_path / "store.db", random.Random(1)
    held = [arrival(chance, 1, seq, 1000) for seq in range(500)]
    async with SqliteStore.open(path) as store:
        await store.put(held)
    database = sqlite3.connect(path)
    for change in (
        "ALTER TABLE messages DROP COLUMN source",
        "ALTER TABLE topics DROP COLUMN born",
        "DROP TABLE evicted",
        "DROP TABLE notes",
        "DELETE FROM _sqlite_migrations WHERE name = '0003_sources'",
    ):
        database.execute(change)
    database.commit()
    database.close()
    async with SqliteStore.open(path, storage_limit_bytes=LIMIT // 4) as store:
        assert store.statistics().messages == len(held)
        for seq in range(150):
            await store.put([arrival(chance, 2, seq, 10_000)], client=f"10.0.0.{seq}")
        assert 0 < store.evictions.messages < len(held)  # what nobody is known to have brought is one share
        assert list((await store.verify()).problems) == []
