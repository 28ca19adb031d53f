"""Reads beside the writer: many short ones share a thread, and none of them waits long for another."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.store._health import HealthWatch
from node.store._reader_pool import Readers
from node.store.api import StoreUnavailable
from node.store.sqlite import SqliteStore
from protocols.limits.store import READERS_MAX


@asynccontextmanager
async def pool(folder: Path) -> AsyncIterator[Readers]:
    async with SqliteStore.open(folder / "store.db"):
        readers = Readers(folder / "store.db", HealthWatch())
        try:
            yield readers
        finally:
            await readers.close()


def a_thread(_connection: sqlite3.Connection) -> int:
    return threading.get_ident()


async def test_each_gets_its_own_answer_and_they_share_a_thread(tmp_path: Path) -> None:
    answers: dict[int, tuple[int, int]] = {}

    async def ask(number: int) -> None:
        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            return connection.execute("SELECT ?", (number,)).fetchone()[0], threading.get_ident()

        answers[number] = await readers.run_short(work)

    async with pool(tmp_path) as readers:
        for _ in range(20):
            answers.clear()
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(ask, number)
            assert [answers[number][0] for number in range(100)] == list(range(100))
            assert len({thread for _, thread in answers.values()}) <= READERS_MAX
            assert threading.get_ident() not in {thread for _, thread in answers.values()}
        assert readers._idle.qsize() <= READERS_MAX


async def test_one_that_takes_long_does_not_keep_the_others(tmp_path: Path) -> None:
    release = threading.Event()
    async with pool(tmp_path) as readers, trio.open_nursery() as nursery:
        for _ in range(READERS_MAX - 1):
            nursery.start_soon(readers.run_short, lambda _connection: release.wait(60))
            await trio.sleep(0.02)
        with trio.fail_after(30):
            for _ in range(50):
                await readers.run_short(a_thread)
        assert not release.is_set()
        release.set()


async def test_with_all_threads_taken_one_waits_and_is_served_then(tmp_path: Path) -> None:
    release = threading.Event()
    async with pool(tmp_path) as readers, trio.open_nursery() as nursery:
        for _ in range(READERS_MAX):
            nursery.start_soon(readers.run_short, lambda _connection: release.wait(60))
            await trio.sleep(0.02)
        served = trio.Event()

        async def late() -> None:
            await readers.run_short(a_thread)
            served.set()

        nursery.start_soon(late)
        await trio.sleep(0.1)
        assert not served.is_set()
        release.set()
        with trio.fail_after(30):
            await served.wait()


async def test_what_fails_fails_alone(tmp_path: Path) -> None:
    failed = []

    async def fail() -> None:
        with pytest.raises(StoreUnavailable):
            await readers.run_short(lambda connection: connection.execute("SELECT * FROM nowhere"))
        failed.append(True)

    async with pool(tmp_path) as readers, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(fail)
            nursery.start_soon(readers.run_short, a_thread)
    assert len(failed) == 10


async def test_a_read_under_way_is_waited_for(tmp_path: Path) -> None:
    began = threading.Event()
    ended = []

    def slow(_connection: sqlite3.Connection) -> None:
        began.set()
        time.sleep(0.2)
        ended.append(True)

    async with pool(tmp_path) as readers:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(readers.run_short, slow)
            await trio.to_thread.run_sync(began.wait)
            nursery.cancel_scope.cancel()
        assert ended
        ended.clear()
        began.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(readers.run_short, slow)
            await trio.to_thread.run_sync(began.wait)
            await readers.close()
            assert ended
        with pytest.raises(StoreUnavailable):
            await readers.run_short(a_thread)


async def test_without_a_thread_reads_are_refused_and_later_ones_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    async def ask() -> None:
        with pytest.raises(StoreUnavailable, match="can't start"):
            await readers.run_short(a_thread)
        refused.append(True)

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with pool(tmp_path) as readers:
        with monkeypatch.context() as patch:
            patch.setattr(trio.lowlevel, "start_thread_soon", fail)
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(ask)
        assert len(refused) == 5
        assert await readers.run_short(a_thread)
