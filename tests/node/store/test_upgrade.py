"""Upgrades keep data: a store that the first version wrote is opened by this one, and nothing is lost or older."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from node.store._schema import _MIGRATIONS
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.model import LogName, digest_of

FIRST = Path(__file__).with_name("first_store.sql")
HOUR = 1_800_000_000 // 3600 * 3600
ALICE, BOB, CAFE, LARGE = LogName("tea", "alice"), LogName("tea", "bob"), LogName("café", "ü"), LogName("tea", "large")
HELD = {
    ALICE: [(seq, b"message %d" % seq, HOUR - 3600 * seq) for seq in range(2, 6)],
    BOB: [(7, b"one", HOUR), (7, b"another", HOUR - 3600), (2**64 - 1, b"the last", HOUR)],
    CAFE: [(0, b"", HOUR - 3 * 3600)],
    LARGE: [(0, bytes(300_000), HOUR)],
}


@pytest.fixture
def first_store(tmp_path: Path) -> Path:
    path = tmp_path / "mailbox.sqlite3"
    database = sqlite3.connect(path)
    database.executescript(FIRST.read_text())
    database.close()
    return path


async def held(store: SqliteStore) -> dict[LogName, list[tuple[int, bytes, int]]]:
    found: dict[LogName, list[tuple[int, bytes, int]]] = {}
    for name in HELD:
        items = await store.items(name, 0, 2**64 - 1)
        blobs = await store.blobs(name, [(item.seq, item.digest) for item in items])
        found[name] = [
            (item.seq, b"?" if blob is None else blob, item.first_stored_s)
            for item, blob in zip(items, blobs, strict=True)
        ]
    return found


def ordered(logs: dict[LogName, list[tuple[int, bytes, int]]]) -> dict[LogName, list[tuple[int, bytes, int]]]:
    return {name: sorted(messages) for name, messages in logs.items()}


async def test_the_first_store_becomes_one_of_today(first_store: Path) -> None:
    for _ in range(2):  # and again, with nothing left to be migrated
        async with SqliteStore.open(first_store) as store:
            assert ordered(await held(store)) == ordered(HELD)
            assert await store.watermarks([*HELD]) == {ALICE: 5, BOB: None, CAFE: 0, LARGE: 0}
            report = await store.verify()
            assert (list(report.problems), report.messages, report.bytes) == ([], 9, 300_054)
            assert store.statistics().topics == 2
    applied = sqlite3.connect(first_store).execute("SELECT name FROM _sqlite_migrations ORDER BY id").fetchall()
    assert [name for (name,) in applied] == [name for name, _ in _MIGRATIONS]


async def test_it_goes_on_living(first_store: Path) -> None:
    async with SqliteStore.open(first_store) as store:
        again = await store.put([Arrival(ALICE, 6, b"new", digest_of(b"new"), HOUR)])
        assert (again.stored, again.watermarks[ALICE]) == (1, 6)
        known = await store.put([Arrival(BOB, 7, b"one", digest_of(b"one"), HOUR - 7200)])
        assert known.known == 1
        page = await store.read({"tea": {"bob": 6}}, alive_from_s=0, missing_max=0, page_bytes=10_000)
        assert page.entries[1].messages[0] == (7, b"one")
        assert await store.expire(HOUR, messages_max=100) == 7  # the store's dates are those of the first
        assert not (await store.verify()).problems


def test_a_new_store_has_the_same_schema(first_store: Path, tmp_path: Path) -> None:
    """What is migrated and what is made anew do not drift apart."""

    async def touch(path: Path) -> set[tuple[str, str]]:
        async with SqliteStore.open(path):
            pass
        rows = sqlite3.connect(path).execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {(name, " ".join(sql.replace('"', "").split())) for name, sql in rows}

    assert trio.run(touch, first_store) == trio.run(touch, tmp_path / "new.sqlite3")
