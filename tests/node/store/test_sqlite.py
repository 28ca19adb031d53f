"""What only the SQLite store must do: files of all kinds, a full disk, group commit, bounded logs, damage found."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing

from node.store import _ledger, _writer
from node.store._writer import Job
from node.store.api import Arrival, Change, StoreError, StoreFull, StoreUnavailable
from node.store.sqlite import SqliteStore, verify_file
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import WAL_BYTES_MAX
from protocols.limits.units import MIB
from protocols.model import LogName, digest_of
from tests.protocols.operation_maker import Author

LOG = LogName("topic", "log")


def arrival(seq: int, blob: bytes = b"", *, name: LogName = LOG, first: int = 100) -> Arrival:
    blob = blob or b"message %d" % seq
    return Arrival(name, seq, blob, digest_of(blob), first)


async def fill(path: Path, count: int = 100, size: int = 300) -> None:
    async with SqliteStore.open(path) as store:
        await store.put([arrival(seq, (b"%d " % seq) * size) for seq in range(count)])


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


async def open_fails(path: Path) -> str:
    before = content(path)
    with pytest.raises(StoreError) as caught:
        async with SqliteStore.open(path):
            pass
    assert content(path) == before, "a file that can't be used is left as it is"
    return str(caught.value)


# --- files -----------------------------------------------------------------------------------------------------------


async def test_everything_survives_closing_and_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store:
        await store.put([arrival(0, first=1), arrival(1), arrival(3), arrival(SEQ_MAX), arrival(0, b"other")])
        await store.expire(50, messages_max=9)
        before = store.statistics()
    assert not path.with_name("store.db-wal").exists()
    assert path.stat().st_mode & 0o077 == 0
    async with SqliteStore.open(path) as store:
        assert store.statistics() == before
        assert await store.watermarks([LOG]) == {LOG: 1}
        assert [item.seq for item in await store.items(LOG, 0, SEQ_MAX)] == [0, 1, 3, SEQ_MAX]


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    database = sqlite3.connect(path)
    database.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('mailboxd', '0999_future')")
    database.commit()
    database.close()
    message = await open_fails(path)
    assert "newer mailboxd" in message
    assert "0999_future" in message


async def test_foreign_and_damaged_files_are_refused_and_kept(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE topics (id INTEGER)")
    database.close()
    assert "not a mailbox's store" in await open_fails(foreign)

    empty = tmp_path / "empty.db"
    empty.touch()
    assert "is empty" in await open_fails(empty)

    text = tmp_path / "text.db"
    text.write_text("hello, world, this is no database\n" * 1000)
    assert "damaged" in await open_fails(text)

    cut = tmp_path / "cut.db"
    await fill(cut)
    cut.write_bytes(cut.read_bytes()[:9000])
    assert "damaged" in await open_fails(cut)

    directory = tmp_path / "directory.db"
    directory.mkdir()
    assert "directory.db" in await open_fails(directory)
    assert "nowhere" in await open_fails(tmp_path / "nowhere" / "store.db")


async def test_a_lost_database_beside_its_log_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "store.db-wal").write_bytes(b"precious")
    assert "store.db-wal" in await open_fails(tmp_path / "store.db")
    assert (tmp_path / "store.db-wal").read_bytes() == b"precious"


async def test_damage_in_the_middle_never_raises_anything_but_store_errors(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path, count=400)
    whole = path.read_bytes()
    reported = 0
    for page in range(1, len(whole) // 4096, max(1, len(whole) // 4096 // 25)):
        damaged = tmp_path / f"{page}.db"
        damaged.write_bytes(whole[: page * 4096] + os.urandom(4096) + whole[(page + 1) * 4096 :])
        problems: list[str] = []
        try:
            async with SqliteStore.open(damaged) as store:
                for use in (
                    lambda store=store: store.put([arrival(500), arrival(3, b"x")]),
                    lambda store=store: store.items(LOG, 0, SEQ_MAX),
                    lambda store=store: store.read({"topic": {}}, alive_from_s=0, missing_max=9, page_bytes=10**7),
                    lambda store=store: store.expire(50, messages_max=100),
                ):
                    try:
                        await use()
                    except StoreError as error:
                        problems.append(str(error))
                problems.extend((await store.verify()).problems)
        except StoreError as error:
            problems.append(str(error))
        reported += bool(problems)
    assert reported >= 20


async def test_verify_finds_damage(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    assert verify_file(path).problems == []
    harm = {
        "UPDATE blobs SET data = x'00' WHERE id = 5": "message 4 of log log in topic topic is damaged",
        "DELETE FROM blobs WHERE id = 5": "pieces of blobs",
        "UPDATE watermarks SET seq = seq - 5": "below what is held",
        "DELETE FROM watermarks": "without a watermark",
        "DELETE FROM topics": "no topic",
        "DELETE FROM logs": "no log",
        "UPDATE logs SET emptied = 3": "emptiness",
    }
    for sql, expected in harm.items():
        copy = tmp_path / "copy.db"
        shutil.copy(path, copy)
        database = sqlite3.connect(copy)
        database.execute(sql)
        database.commit()
        database.close()
        assert any(expected in problem for problem in verify_file(copy).problems), sql
    with pytest.raises(StoreUnavailable, match="no store"):
        verify_file(tmp_path / "none.db")


async def test_verify_beside_a_running_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteStore.open(path) as store, trio.open_nursery() as nursery:

        async def keep_storing() -> None:
            for seq in range(10**9):
                await store.put([arrival(seq, first=seq)])
                if seq % 50 == 49:
                    await store.expire(seq - 100, messages_max=50)

        nursery.start_soon(keep_storing)
        for _ in range(5):
            assert list((await store.verify()).problems) == []
            assert list((await trio.to_thread.run_sync(verify_file, path)).problems) == []
        nursery.cancel_scope.cancel()


async def test_verify_can_be_cancelled(tmp_path: Path) -> None:
    async with SqliteStore.open(tmp_path / "store.db") as store:
        await store.put([arrival(seq, b"%d" % seq) for seq in range(20_000)])
        with trio.CancelScope() as scope:
            await store.verify(progress=lambda messages: scope.cancel())
        assert scope.cancelled_caught
        assert list((await store.verify()).problems) == []


# --- the writer ------------------------------------------------------------------------------------------------------


async def test_waiting_requests_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    commit = _writer.Writer._commit

    def counting(self: _writer.Writer, ledger: _ledger.Ledger, jobs: list[Job], no_room: StoreFull | None) -> None:
        batches.append(len(jobs))
        commit(self, ledger, jobs, no_room)

    monkeypatch.setattr(_writer.Writer, "_commit", counting)
    async with SqliteStore.open(tmp_path / "store.db") as store:
        async with trio.open_nursery() as nursery:
            for seq in range(200):
                nursery.start_soon(store.put, [arrival(seq)])
        assert sum(batches) == 200
        assert len(batches) < 50
        assert await store.watermarks([LOG]) == {LOG: 199}


async def test_one_failing_request_does_not_sink_the_others(tmp_path: Path) -> None:
    outcomes: dict[int, str] = {}
    async with SqliteStore.open(tmp_path / "store.db", storage_limit_bytes=200_000) as store:

        async def put(seq: int) -> None:
            try:
                if seq % 10 == 3:  # text that SQLite can't hold: an error in the middle of the transaction
                    await store.put([arrival(seq), arrival(0, name=LogName("t", "\ud800"))])
                else:
                    await store.put([arrival(seq, bytes(300_000 if seq % 10 == 7 else 10))])
                outcomes[seq] = "stored"
            except StoreError as error:
                outcomes[seq] = type(error).__name__

        async with trio.open_nursery() as nursery:
            for seq in range(100):
                nursery.start_soon(put, seq)
        expected = {3: "StoreUnavailable", 7: "StoreFull"}
        assert outcomes == {seq: expected.get(seq % 10, "stored") for seq in range(100)}
        assert [item.seq for item in await store.items(LOG, 0, 999)] == [
            s for s in range(100) if s % 10 not in expected
        ]
        assert list((await store.verify()).problems) == []


async def test_callers_wait_while_the_queue_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "STORE_QUEUE_BYTES", 10_000)
    peak = 0
    async with SqliteStore.open(tmp_path / "store.db") as store:
        writer = store._writer

        async def put(seq: int) -> None:
            nonlocal peak
            with trio.move_on_after(0.001 if seq % 7 == 0 else 60):
                await store.put([arrival(seq, bytes(30_000 if seq == 50 else 3000))])

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, writer._queued_bytes)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with trio.open_nursery() as puts:
                for seq in range(100):
                    puts.start_soon(put, seq)
            nursery.cancel_scope.cancel()
        await store.put([arrival(1000)])
        assert 3000 < peak <= 31_000
        assert not writer._admission
        assert writer._queued_bytes == 0
        held = {item.seq for item in await store.items(LOG, 0, 999)}
        assert held >= {seq for seq in range(100) if seq % 7}


async def test_closing_stores_what_is_queued_and_wakes_everyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer, "STORE_QUEUE_BYTES", 20_000)
    stored: list[int] = []
    refused: list[int] = []

    async with trio.open_nursery() as nursery, SqliteStore.open(tmp_path / "store.db") as store:  # closed first

        async def put(seq: int) -> None:
            try:
                await store.put([arrival(seq, bytes(2000))])
                stored.append(seq)
            except StoreUnavailable:
                refused.append(seq)

        for seq in range(50):
            nursery.start_soon(put, seq)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(stored + refused) == list(range(50))
    assert stored
    async with SqliteStore.open(tmp_path / "store.db") as store:
        assert {item.seq for item in await store.items(LOG, 0, 99)} == set(stored)


async def test_reads_go_on_while_the_writer_is_busy(tmp_path: Path) -> None:
    async with SqliteStore.open(tmp_path / "store.db") as store:
        await store.put([arrival(0)])
        gate = trio.Event()

        def slow(ledger: _ledger.Ledger) -> tuple[None, Change]:
            ledger.put([arrival(1)], None)
            trio.from_thread.run(gate.wait, trio_token=token)
            return None, Change()

        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store._writer.do, Job(slow, messages=1))
            for _ in range(20):
                assert [item.seq for item in await store.items(LOG, 0, 9)] == [0]
            gate.set()
        assert [item.seq for item in await store.items(LOG, 0, 9)] == [0, 1]


async def test_the_write_ahead_log_stays_bounded_under_overlapping_reads(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    wal = tmp_path / "store.db-wal"
    sizes: list[int] = []
    async with SqliteStore.open(path) as store, trio.open_nursery() as nursery:

        async def keep_reading() -> None:
            while True:
                await store.read({"topic": {}}, alive_from_s=0, missing_max=0, page_bytes=2 * MIB)

        for _ in range(3):
            nursery.start_soon(keep_reading)
        for seq in range(60):
            await store.put([arrival(seq, os.urandom(4 * MIB))])
            sizes.append(wal.stat().st_size)
        nursery.cancel_scope.cancel()
    assert max(sizes) < WAL_BYTES_MAX + 32 * MIB


async def test_an_older_store_learns_which_of_its_copies_are_genuine(tmp_path: Path) -> None:
    path, alice = tmp_path / "store.db", Author()
    blobs = [b"forged", alice.blob(0)]
    async with SqliteStore.open(path) as store:
        await store.put([Arrival(alice.name, 0, blob, digest_of(blob), age) for age, blob in enumerate(blobs)])
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE messages DROP COLUMN genuine")
    database.execute("DELETE FROM _sqlite_migrations WHERE name = '0002_genuine'")
    database.commit()
    database.close()
    async with SqliteStore.open(path) as store:
        page = await store.read({alice.name.topic: {}}, alive_from_s=0, missing_max=0, page_bytes=1000)
        assert page.entries[0].messages == [(0, alice.blob(0))]
        assert not (await store.verify()).problems
