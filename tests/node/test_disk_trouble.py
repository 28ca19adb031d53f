"""Disks that fail under a running mailbox, through its front door: it says so, goes on as far as it can, recovers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mailboxes import MailboxProcess, eventually

STORE = "mailbox.sqlite3"
LOCAL = ("--no-mdns", "--p2p", "127.0.0.1:0", "--network", "test-disks")
MakeMailbox = Callable[..., MailboxProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeMailbox]:
    """Makes mailboxes that are not started yet; all are gone after the test."""
    with ExitStack() as made:

        def add(name: str, *args: str) -> MailboxProcess:
            mailbox = MailboxProcess(tmp_path / name, *LOCAL, *args)
            made.callback(mailbox.__exit__)
            return mailbox

        yield add


def fill(mailbox: MailboxProcess, count: int, *, start: int = 0, topic: str = "t") -> dict[tuple[str, int], bytes]:
    """Stores some messages in a few logs; all must be acknowledged."""
    chance = random.Random(start)
    held: dict[tuple[str, int], bytes] = {}
    for log in ("alice", "bob", "carol"):
        messages = {seq: chance.randbytes(chance.choice((30, 300, 3000))) for seq in range(start, start + count)}
        assert mailbox.store(topic, log, messages) == 201
        held |= {(log, seq): blob for seq, blob in messages.items()}
    return held


def state(mailbox: MailboxProcess) -> dict[str, Any]:
    store: dict[str, Any] = mailbox.status()["store"]
    return store


def test_a_file_deleted_while_it_is_open_is_written_again(make: MakeMailbox) -> None:
    a = make("a").start()
    held = fill(a, 50)
    for file in a.data_dir.glob(f"{STORE}*"):
        file.unlink()
    held |= fill(a, 50, start=50)
    assert a.read("t") == held
    eventually(lambda: state(a)["state"] == "ok", what="the end of trouble")
    a.kill()
    a.start()
    assert a.read("t") == held
    assert a.command("verify").returncode == 0


def test_a_replaced_file_stops_stores_and_not_reads(make: MakeMailbox) -> None:
    a = make("a").start()
    held = fill(a, 20)
    path = a.data_dir / STORE
    kept = path.rename(path.with_name("kept"))
    path.write_bytes(kept.read_bytes())
    assert a.store("t", "late", {0: b"x"}) == 503
    assert a.read("t") == held
    told = state(a)
    assert told["state"] == "missing"
    assert "restart" in told["remedy"]
    kept.replace(path)
    assert a.store("t", "late", {0: b"x"}) == 201
    assert state(a) == {"state": "ok", "reason": "", "remedy": ""}


def test_a_disk_that_can_not_be_written_is_told_and_recovers_by_itself(make: MakeMailbox) -> None:
    """A limit on the size of files makes every write beyond it fail, as a failing disk does."""
    a = make("a").start()
    held = fill(a, 20)
    size = max(file.stat().st_size for file in a.data_dir.glob(f"{STORE}*"))
    before = resource.prlimit(a.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(a.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    refused = 0
    for seq in range(1000, 1040):
        blob = os.urandom(100_000)
        status = a.store("t", "late", {seq: blob})
        assert status in (201, 503, 507)
        refused += status != 201
        if status == 201:
            held["late", seq] = blob
    assert refused > 30
    assert a.read("t") == held
    told = state(a)
    assert told["state"] == "failing"
    assert told["reason"]
    assert "by itself" in told["remedy"]
    resource.prlimit(a.pid, resource.RLIMIT_FSIZE, before)
    eventually(lambda: state(a)["state"] == "ok", what="the disk found well without anybody storing")
    held |= fill(a, 10, start=5000)
    a.kill()
    a.start()
    assert a.read("t") == held


def damage(path: Path, *, spare_first: bool = True) -> None:
    """Garbage over every seventh page."""
    with path.open("r+b") as file:
        pages = path.stat().st_size // 4096
        for page in range(4 if spare_first else 0, pages, 7):
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(4096))


def test_a_damaged_store_is_repaired_and_refills_from_a_neighbour(make: MakeMailbox) -> None:
    a = make("a").start()
    b = make("b", "--sync-interval", "1", "--peer", a.info["p2p"][0]).start()
    held = fill(a, 400)
    eventually(lambda: b.in_sync_with(a), what="two that hold the same")
    assert a.stop() == 0
    damage(a.data_dir / STORE)
    assert a.command("verify", check=False).returncode == 1
    repaired = a.command("verify", "--repair")
    assert "kept" in repaired.stdout
    kept = list(a.data_dir.glob(f"{STORE}.damaged-*"))
    assert kept
    assert a.command("verify").returncode == 0
    a.start()
    assert a.command("verify", "--repair", check=False).returncode == 1  # not while it runs
    eventually(lambda: a.read("t") == held, what="everything back", timeout_s=60)
    eventually(lambda: b.in_sync_with(a), what="two that hold the same again", timeout_s=60)


def test_a_store_that_can_not_be_opened_names_the_remedy(make: MakeMailbox) -> None:
    a = make("a").start()
    fill(a, 100)
    assert a.stop() == 0
    damage(a.data_dir / STORE, spare_first=False)
    failed = a.command("run", "--no-mdns", check=False)
    assert failed.returncode == 1
    assert "verify --repair" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert "kept" in a.command("verify", "--repair").stdout
    a.start()
    assert a.store("t", "alice", {0: b"as new"}) == 201


def store_from(a: MailboxProcess, client: str, topic: str, blobs: Mapping[int, bytes]) -> int:
    """Stores messages as a phone with this address does; returns the HTTP status."""
    host, port = a.info["http"][0].removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(client, 0))
    try:
        text = {str(seq): base64.b64encode(blob).decode() for seq, blob in blobs.items()}
        body = json.dumps({"blobs": {topic: {"log": text}}})
        connection.request("POST", "/blobs/store", body, {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_kill_in_the_middle_of_eviction_leaves_a_sound_store_within_its_limit(make: MakeMailbox) -> None:
    limit = 64 << 20
    a = make("a", "--storage-limit", "64MiB").start()
    honest = dict.fromkeys(range(100), b"honest")
    assert store_from(a, "127.0.0.1", "tea", honest) == 201
    seq = 0
    while store_from(a, "127.0.0.66", "spam", {seq + n: os.urandom(30_000) for n in range(40)}) == 201:
        seq += 40
    assert seq > 1000
    for turn in range(3):

        def others(turn: int = turn) -> None:
            for client in range(100, 120):
                with suppress(OSError, http.client.HTTPException):
                    blobs = {turn * 100 + n: os.urandom(30_000) for n in range(20)}
                    store_from(a, f"127.0.0.{client}", f"topic {client}", blobs)

        thread = threading.Thread(target=others)
        thread.start()
        time.sleep(random.Random(turn).uniform(0.05, 0.4))
        a.kill()
        thread.join()
        a.start()
    assert a.command("verify").returncode == 0
    assert a.read("tea") == {("log", seq): blob for seq, blob in honest.items()}
    on_disk = sum(file.stat().st_size for file in a.data_dir.glob(f"{STORE}*") if not file.name.endswith("-shm"))
    assert on_disk <= limit
