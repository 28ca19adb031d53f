"""Whatever the index was not told of is found by the audit, told, counted and mended; and nothing else is."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from node.store.api import Arrival, Change, StoreUnavailable
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from node.sync import audit as audit_module
from node.sync.audit import Audit
from node.sync.index import IndexView, LogIndex
from node.sync.index_leaf import Leaf
from protocols.limits.data import SEQ_MAX
from protocols.limits.replication import AUDIT_DOUBT_S, AUDIT_PASS_S
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import LogName, digest_of
from tests.memory_world import SimulatedClock
from tests.node.sync.index_model import EXPIRE, LOGS, MERGE, PUT, MoodyStore, change, expected

EPOCH_S = 1_800_000_000
CHANGES = st.lists(st.one_of(PUT, PUT, EXPIRE, MERGE), max_size=5)


def arrival(name: LogName, seq: int, blob: bytes = b"x", first_stored_s: int = 1) -> Arrival:
    return Arrival(name, seq, blob, digest_of(blob), first_stored_s)


async def blocks_of(store: MemoryStore) -> dict[tuple[bytes, int], bytes]:
    return {
        (handle, number): digest for handle, log in (await expected(store, 0)).items() for number, digest in log.blocks
    }


async def rows_of(view: IndexView) -> list[bytes]:
    return [bytes(piece) for piece in view.rows(0, len(view))]


@given(CHANGES, CHANGES)
@settings(deadline=None, max_examples=150)
def test_every_silent_difference_is_found_and_mended(known: list[Any], silent: list[Any]) -> None:
    async def play() -> None:
        async with MoodyStore() as store:
            for kind, what in known:
                await change(store, kind, what)
            index = LogIndex(store)
            await index.load()
            audit = Audit(store, index, SimulatedClock(epoch_s=EPOCH_S))
            before = await blocks_of(store)
            assert await audit.check_now() == (len(before), 0)
            store.silent = True  # for ever
            for kind, what in silent:
                await change(store, kind, what)
            after = await blocks_of(store)
            different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
            assert await audit.check_now() == (len(after), len(different))
            assert audit.found == len(different)
            fresh = LogIndex(store)
            await fresh.load()
            assert (await index.view(0)).fingerprint == (await fresh.view(0)).fingerprint
            assert await audit.check_now() == (len(after), 0)

    trio.run(play, clock=MockClock(autojump_threshold=0))


class SlowToTell(MemoryStore):
    """Announces each commit a while after it can be read, in their order."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__()
        self._changes, receive = trio.open_memory_channel[Change](1000)
        nursery.start_soon(self._tell, receive)

    def _announce(self, change: Change) -> None:
        self._changes.send_nowait(change)

    async def _tell(self, changes: trio.MemoryReceiveChannel[Change]) -> None:
        async for told in changes:
            await trio.sleep(0.3)
            super()._announce(told)


async def test_what_changes_meanwhile_is_no_difference(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with SlowToTell(nursery) as store:
            await store.put([arrival(name, seq) for name in LOGS for seq in range(0, 200, 7)])
            index = LogIndex(store)
            await index.load()
            audit = Audit(store, index, SimulatedClock(epoch_s=EPOCH_S))
            done = False

            async def go_on() -> None:
                seq = 0
                while not done:
                    seq += 1
                    await store.put([arrival(LOGS[seq % 5], seq % 300, b"%d" % seq, 5)])
                    await store.put([arrival(LOGS[0], 0, b"v%d" % seq, 1000 - seq)])  # one block all the time
                    if seq % 10 == 0:
                        await store.expire(3, messages_max=20)
                    await trio.sleep(0.2)

            nursery.start_soon(go_on)
            for _ in range(20):
                assert (await audit.check_now()).differences == 0
            done = True
        nursery.cancel_scope.cancel()


async def test_the_background_finds_it_within_the_time_stated(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "AUDIT_PAUSE_S", AUDIT_PASS_S / 10)
    async with MoodyStore() as store:
        await store.put([arrival(name, seq * BLOCK_SEQS) for name in LOGS for seq in range(300)])
        index = LogIndex(store)
        await index.load()
        clock = SimulatedClock(epoch_s=EPOCH_S)
        audit = Audit(store, index, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(audit.run)
            await trio.sleep(AUDIT_PASS_S)
            assert 0 < audit.checked <= 300 * len(LOGS)
            assert audit.found == 0
            assert audit.last_pass_s is not None
            store.silent = True
            await store.put([arrival(LOGS[3], 17 * BLOCK_SEQS + 1), arrival(LogName("new", "log"), 5)])
            await trio.sleep(AUDIT_PASS_S)
            assert audit.found == 2
            assert clock.now_s() - audit.last_pass_s < AUDIT_PASS_S
            nursery.cancel_scope.cancel()
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
        assert "block 17 of log" in caplog.text
        assert "log log in topic new" in caplog.text


async def test_what_is_different_at_each_look_is_no_difference(autojump_clock: MockClock) -> None:
    """Somebody writes into a block all the time, and nobody is told yet."""
    async with MoodyStore() as store, trio.open_nursery() as nursery:
        await store.put([arrival(name, 0) for name in LOGS])
        index = LogIndex(store)
        await index.load()
        audit = Audit(store, index, SimulatedClock(epoch_s=EPOCH_S))
        store.silent = True
        stopped = trio.CancelScope()

        async def go_on() -> None:
            with stopped:
                for number in range(1000, 0, -1):
                    await store.put([arrival(LOGS[2], 0, b"%d" % number, number)])
                    await trio.sleep(AUDIT_DOUBT_S / 4)

        nursery.start_soon(go_on)
        await trio.sleep(AUDIT_DOUBT_S)
        assert await audit.check_now() == (len(LOGS), 0)
        stopped.cancel()
        assert await audit.check_now() == (len(LOGS), 1)


async def test_a_store_that_can_not_be_read_is_told_and_read_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(MoodyStore):
        failures = 0

        def scan(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("a bad sector")
            return super().scan()

    async with Failing() as store, trio.open_nursery() as nursery:
        index = LogIndex(store)
        await index.load()
        store.silent = True
        await store.put([arrival(name, 0) for name in LOGS])
        store.failures = 2
        audit = Audit(store, index, SimulatedClock(epoch_s=EPOCH_S))
        nursery.start_soon(audit.run)
        await trio.sleep(AUDIT_PASS_S)
        assert audit.found == len(LOGS)
        assert caplog.text.count("could not be compared with the store: a bad sector") == 2
        nursery.cancel_scope.cancel()


async def test_a_wrong_state_is_found_and_mended() -> None:
    async with MemoryStore() as store:
        await store.put([arrival(name, seq) for name in LOGS for seq in range(100)])
        index = LogIndex(store)
        await index.load()
        right = await index.view(0)
        (leaf,) = right.leaves
        rows = bytearray(leaf.columns.rows)
        rows[3 * 32 + 20] ^= 1
        index._view = IndexView([Leaf(leaf.columns._replace(rows=bytes(rows)))], serial=right.serial)
        audit = Audit(store, index, SimulatedClock(epoch_s=EPOCH_S))
        assert await audit.check_now() == (2 * len(LOGS), 1)
        assert await rows_of(await index.view(0)) == await rows_of(right)
        assert await audit.check_now() == (2 * len(LOGS), 0)


@pytest.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore.open(tmp_path / "store.db") as store:
        yield store


async def test_what_somebody_else_writes_into_the_file_is_found(
    on_disk: SqliteStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = LogName("t", "long")
    await on_disk.put([arrival(name, seq) for name in LOGS for seq in range(130)])
    await on_disk.put([arrival(long, seq) for seq in (*range(6000), SEQ_MAX)])
    index = LogIndex(on_disk)
    await index.load()
    audit = Audit(on_disk, index, SimulatedClock(epoch_s=EPOCH_S))
    blocks = 3 * len(LOGS) + 6000 // BLOCK_SEQS + 2
    with monkeypatch.context() as patch:
        patch.setattr(on_disk, "columns_of", None)  # as long as nothing differs, nothing is read twice
        assert await audit.check_now() == (blocks, 0)
    connection = sqlite3.connect(on_disk.path, isolation_level=None)
    connection.execute("UPDATE messages SET first_stored = 0 WHERE seq = 70 - 9223372036854775807 - 1")
    connection.execute("DELETE FROM messages WHERE log = (SELECT id FROM logs WHERE log = ?) AND seq > 0", (long.log,))
    connection.execute("DELETE FROM messages WHERE log = (SELECT min(log) FROM messages)")
    connection.close()
    # Block 1 of every log, the long one's last, and the other two of the log that is gone.
    assert await audit.check_now() == (blocks - 4, len(LOGS) + 1 + 1 + 2)
    fresh = LogIndex(on_disk)
    await fresh.load()
    assert await rows_of(await index.view(0)) == await rows_of(await fresh.view(0))
