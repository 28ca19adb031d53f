"""The client's file: what it keeps, for how long, and what it says when it can't."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.client import ClientStoreError, open_client
from node.client.store import ClientStore, state_of
from protocols.client.book import Record
from protocols.client.runs import Runs
from protocols.limits.client import CLIENT_MAILBOXES_REMEMBERED_MAX
from protocols.model import LogName

NAME = LogName("topic", "log")
TOP = 2**64 - 1


def do(store: ClientStore, *works: Callable[[], Any]) -> list[Any]:
    return store.together(works, durable=False)


def test_all_comes_back_after_a_restart(tmp_path: Path) -> None:
    store = ClientStore(tmp_path / "me")
    record = Record(Runs([(0, 3), (7, TOP)]), 2**64, Runs([(7, 7)]), Runs([(0, 1)]))
    keep = partial(store.keep, [(NAME, 0, b"first"), (NAME, TOP, b"")], {NAME: state_of(record)}, at_s=5.0)
    do(store, keep, partial(store.note_sent, "box", {NAME: TOP}), partial(store.note_gone, "box", NAME, "[[4, 6]]"))
    own_log = store.own_log
    store.close()

    store = ClientStore(tmp_path / "me")
    assert store.own_log == own_log
    assert len(own_log) == 64
    (((name, found),),) = do(store, partial(store.records, ["topic"]))
    assert (name, found) == (NAME, record)
    (ledger,) = do(store, partial(store.ledger, "box"))
    assert (ledger.sent, ledger.gone) == ({NAME: TOP}, {NAME: Runs([(4, 6)])})
    assert do(store, partial(store.blobs, [(NAME, TOP), (NAME, 1), (NAME, 0)])) == [[b"", None, b"first"]]
    assert do(store, partial(store.oldest, 6.0, 10), store.bytes_held) == [[(NAME, 0, 5), (NAME, TOP, 0)], 5]
    do(store, partial(store.forget, [(NAME, 0)]))
    assert do(store, partial(store.blobs, [(NAME, 0)])) == [[None]]
    store.close()


def test_a_copy_that_comes_later_does_not_mask_the_first(tmp_path: Path) -> None:
    store = ClientStore(tmp_path)
    for blob in (b"first", b"second"):
        do(store, partial(store.keep, [(NAME, 0, blob)], {NAME: state_of(Record())}, at_s=0.0))
    assert do(store, partial(store.blobs, [(NAME, 0)])) == [[b"first"]]
    store.close()


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = ClientStore(tmp_path)

    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(ClientStoreError, match="disk is full"):
        do(store, partial(store.keep, [(NAME, 0, b"x")], {NAME: state_of(Record())}, at_s=0.0), fail)
    assert do(store, partial(store.records, ["topic"]), partial(store.blobs, [(NAME, 0)])) == [[], [None]]
    store.close()


def test_mailboxes_unseen_for_longest_are_forgotten(tmp_path: Path) -> None:
    store = ClientStore(tmp_path)
    do(store, partial(store.note_sent, "old", {NAME: 1}))
    store.close()
    database = sqlite3.connect(tmp_path / "client.sqlite3", isolation_level=None)
    database.execute("update mailboxes set seen_s = 0")
    database.close()
    store = ClientStore(tmp_path)
    new = [f"new{number}" for number in range(CLIENT_MAILBOXES_REMEMBERED_MAX)]
    do(store, *(partial(store.note_sent, mailbox, {NAME: 1}) for mailbox in new))
    assert do(store, partial(store.ledger, "new7"))[0].sent == {NAME: 1}
    assert do(store, partial(store.ledger, "old"))[0].sent == {}
    store.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    ClientStore(tmp_path / "me").close()
    assert stat.S_IMODE((tmp_path / "me").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "me" / "client.sqlite3").stat().st_mode) == 0o600


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "client.sqlite3").write_bytes(os.urandom(5000))
    with pytest.raises(ClientStoreError, match="not a database"):
        ClientStore(tmp_path / "garbage")
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientStoreError):
        ClientStore(tmp_path / "file")
    ClientStore(tmp_path / "new", own_log="mine").close()
    with pytest.raises(ClientStoreError, match="another log"):
        ClientStore(tmp_path / "new", own_log="yours")
    database = sqlite3.connect(tmp_path / "new" / "client.sqlite3")
    database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(ClientStoreError, match="newer version"):
        ClientStore(tmp_path / "new")


async def test_a_client_whose_disk_fails_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(ClientStoreError, match="disk I/O error"):
        async with open_client(tmp_path, topics=["t"]) as client:
            monkeypatch.setattr(ClientStore, "keep", fail)
            await client.publish("t", b"x")


async def test_old_messages_are_forgotten_once_they_were_taken(tmp_path: Path) -> None:
    store = ClientStore(tmp_path, own_log="me")
    taken = Record(Runs([(0, 1)]), 1)  # the application took 0, and not yet 1
    do(store, partial(store.keep, [(NAME, 0, b"a" * 100), (NAME, 1, b"b" * 100)], {NAME: state_of(taken)}, at_s=0.0))
    store.close()
    async with open_client(tmp_path, topics=["topic"]) as client:
        with trio.fail_after(20):
            message = await anext(client.messages())
            while await client._desk.do(client._desk.store.bytes_held) != 100:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert (message.seq, message.content) == (1, b"b" * 100)


async def test_a_client_with_too_much_that_nobody_takes_asks_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.client.client.CLIENT_STORE_BYTES_MAX", 150)
    monkeypatch.setattr("node.client.client._FULL_PAUSE_S", 0.05)
    store = ClientStore(tmp_path, own_log="me")
    blobs = [(NAME, seq, bytes(100)) for seq in range(2)]
    do(store, partial(store.keep, blobs, {NAME: state_of(Record(Runs([(0, 1)])))}, at_s=2e9))
    store.close()
    async with open_client(tmp_path, topics=["topic"]) as client:
        with trio.fail_after(20):
            while client._listens:  # noqa: ASYNC110
                await trio.sleep(0.02)
            for _ in range(2):
                await anext(client.messages())
            await client._deliveries.taken()
            while not client._listens:  # noqa: ASYNC110
                await trio.sleep(0.02)
