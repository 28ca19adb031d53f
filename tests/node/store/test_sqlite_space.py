"""Room: what expired is given back, names do not pile up, and a full disk is survived."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.store import _housekeeping, _ledger
from node.store._writer import Job
from node.store.api import Arrival, Change, StoreFull
from node.store.sqlite import SqliteStore
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import BLOB_CHUNK_BYTES, CHECKPOINT_PAGES
from protocols.limits.units import MIB
from protocols.model import LogName, digest_of

LOG = LogName("topic", "log")


def arrival(seq: int, blob: bytes = b"", *, name: LogName = LOG, first: int = 100) -> Arrival:
    blob = blob or b"message %d" % seq
    return Arrival(name, seq, blob, digest_of(blob), first)


async def test_expired_space_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store:
        for seq in range(20):
            await store.put([arrival(seq, os.urandom(3 * MIB + seq), first=seq)])
        await store.put([arrival(seq, os.urandom(1000)) for seq in range(100, 200)])
        while await store.expire(50, messages_max=500):
            pass
        with trio.fail_after(60):
            while path.stat().st_size > 25 * MIB:
                await trio.sleep(0.05)
                await store.put([arrival(99)])  # lets the log be copied
        assert list((await store.verify()).problems) == []
        assert store.statistics().messages == 101


async def test_a_large_blob_removed_before_a_restart_is_reclaimed_after_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store:
        await store.put([arrival(0, bytes(40 * BLOB_CHUNK_BYTES), first=1), arrival(1)])
        await store.expire(50, messages_max=1)
    async with SqliteStore.open(path) as store:
        await store.put([arrival(2)])
        assert list((await store.verify()).problems) == []
        with trio.fail_after(30):
            while one(path, "SELECT count(*) FROM garbage"):  # noqa: ASYNC110 - the writer's own thread does it
                await trio.sleep(0.01)
        assert one(path, "SELECT count(*) FROM blobs") == 2


def one(path: Path, sql: str) -> Any:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchone()[0]
    finally:
        database.close()


async def test_names_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ledger, "EMPTY_LOGS_MAX", 10)
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store:
        for turn in range(40):
            names = [LogName(f"t{turn}", "headless"), LogName(f"t{turn}", "log")]
            await store.put([arrival(1, name=names[0], first=turn), arrival(0, name=names[1], first=turn)])
            await store.expire(turn + 1, messages_max=10)
        logs = [LogName(f"t{turn}", "log") for turn in range(40)]
        assert list((await store.watermarks(logs)).values()) == [None] * 30 + [0] * 10
        assert list((await store.verify()).problems) == []
    assert one(path, "SELECT count(*) FROM topics") == one(path, "SELECT count(*) FROM logs") == 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB. Only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("can't mount a small file system here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_refuses_stores_until_there_is_room(small_disk: Path) -> None:
    path = small_disk / "store.db"
    async with SqliteStore.open(path) as store:
        seq = 0
        with pytest.raises(StoreFull, match="full"):
            for seq in range(1000):
                await store.put([arrival(seq, os.urandom(100_000), first=seq)])
        assert seq > 20
        await goes_on_and_recovers(store, seq)


async def test_a_disk_filled_by_someone_else_is_survived(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reserve helps against others: then SQLite itself meets the end of the disk."""
    path = small_disk / "store.db"
    async with SqliteStore.open(path) as store:
        for seq in range(20):
            await store.put([arrival(seq, os.urandom(100_000), first=seq)])
        hog = small_disk / "hog"
        with hog.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    break
        monkeypatch.setattr(_housekeeping.Housekeeping, "refuse", lambda self, size: None)
        seq = 20
        with pytest.raises(StoreFull, match="full"):
            for seq in range(20, 1000):
                await store.put([arrival(seq, os.urandom(100_000), first=seq)])
        assert [item.seq for item in await store.items(LOG, 0, SEQ_MAX)] == list(range(seq))
        hog.unlink()
        monkeypatch.undo()
        await goes_on_and_recovers(store, seq)
    async with SqliteStore.open(path) as store:
        assert list((await store.verify()).problems) == []


async def goes_on_and_recovers(store: SqliteStore, count: int) -> None:
    assert [item.seq for item in await store.items(LOG, 0, SEQ_MAX)] == list(range(count))
    while await store.expire(15, messages_max=500):
        pass
    with trio.fail_after(30):
        while True:
            try:
                await store.put([arrival(count, os.urandom(100_000))])
                break
            except StoreFull:
                await trio.sleep(0.05)
    assert len(await store.items(LOG, 0, SEQ_MAX)) == count - 15 + 1
    assert list((await store.verify()).problems) == []


async def test_a_database_that_can_not_grow_is_survived(tmp_path: Path) -> None:
    """The same without root: SQLite's own bound on pages."""
    async with SqliteStore.open(tmp_path / "store.db") as store:

        def limit(ledger: _ledger.Ledger) -> tuple[None, Change]:
            ledger.db.execute("PRAGMA max_page_count = 1000")
            return None, Change()

        await store._writer.do(Job(limit, messages=0))
        seq = 0
        with pytest.raises(StoreFull, match="full"):
            for seq in range(1000):
                await store.put([arrival(seq, os.urandom(100_000), first=seq)])
        assert seq > 20
        await goes_on_and_recovers(store, seq)


async def test_a_jump_over_many_messages_is_quick(tmp_path: Path) -> None:
    async with SqliteStore.open(tmp_path / "store.db") as store:
        await store.put([arrival(seq, b"x") for seq in range(1, 50_000)])
        start = time.perf_counter()
        assert (await store.put([arrival(0)])).watermarks == {LOG: 49_999}
        print(f"jump over 49,999 messages: {1000 * (time.perf_counter() - start):.0f} ms")


async def test_the_write_ahead_log_is_copied_when_it_is_long_not_whenever_it_might_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, messages = 30, 1000
    most = batches * messages * _housekeeping._PAGES_PER_MESSAGE[1] / CHECKPOINT_PAGES
    copies = 0
    checkpoint = _housekeeping.Housekeeping._checkpoint

    def counting(self: _housekeeping.Housekeeping) -> None:
        nonlocal copies
        copies += 1
        checkpoint(self)

    monkeypatch.setattr(_housekeeping.Housekeeping, "_checkpoint", counting)
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store:
        for start in range(0, batches * messages, messages):
            await store.put([arrival(seq, os.urandom(1000)) for seq in range(start, start + messages)])
        assert 1 <= copies <= most / 3
        assert path.with_name("store.db-wal").stat().st_size <= 2 * CHECKPOINT_PAGES * 4096
