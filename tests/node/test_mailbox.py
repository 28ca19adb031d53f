"""The life of a whole mailbox through its front door: what it promises from its start to its end, and on a bad day."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from protocols.model import MailboxId
from tests.mailboxes import MailboxProcess, eventually

LOCAL = ("--no-mdns", "--p2p", "127.0.0.1:0", "--network", "test-life")
MakeMailbox = Callable[..., MailboxProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeMailbox]:
    """Makes mailboxes that are not started yet; all are gone after the test."""
    made: list[MailboxProcess] = []

    def add(name: str = "a", *args: str, http: str = "127.0.0.1:0", folder: Path = tmp_path) -> MailboxProcess:
        made.append(MailboxProcess(folder / name, *LOCAL, *args, http=http))
        return made[-1]

    yield add
    for mailbox in made:
        mailbox.__exit__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be made here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def get(url: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def fails_in_one_line(mailbox: MailboxProcess) -> str:
    """Starts a mailbox that can't start; returns what it says."""
    before = len(mailbox.log()) if mailbox.log_path.exists() else 0
    mailbox.start(wait=False)
    assert mailbox.wait() == 1
    said = [line for line in mailbox.log()[before:].splitlines() if line.startswith("mailboxd")]
    assert len(said) == 1, mailbox.log()
    assert "Traceback" not in mailbox.log()
    return said[0]


# --- node.json and identity ----------------------------------------------------------------------------------------


def test_node_json_has_addresses_that_work(make: MakeMailbox) -> None:
    a = make("a", "--http", "127.0.0.1:0", http="0.0.0.0:0").start()
    info = a.info
    assert {key: type(value) for key, value in info.items()} == {
        "pid": int,
        "version": str,
        "mailbox_id": str,
        "peer_id": str,
        "http": list,
        "p2p": list,
        "admin": str,
    }
    assert (a.data_dir / "node.json").stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", info["mailbox_id"])
    assert MailboxId.from_peer_id(info["peer_id"]) == MailboxId.parse(info["mailbox_id"])
    assert len(info["http"]) >= 2  # two listeners, the first on every interface
    assert urlsplit(info["http"][0]).hostname == "127.0.0.1"
    for url in info["http"]:
        assert get(url, "/health")[0] == 200
    for address in info["p2p"]:
        match = re.fullmatch(rf"/ip4/([0-9.]+)/tcp/([0-9]+)/p2p/{info['peer_id']}", address)
        assert match, address
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    assert get(info["admin"], "/admin/status")[0] == 401
    os.kill(info["pid"], 0)
    assert a.stop() == 0
    assert not (a.data_dir / "node.json").exists()


def test_both_ip_versions(make: MakeMailbox) -> None:
    a = make("a", "--http", "[::]:0", http="0.0.0.0:0").start()
    hosts = {urlsplit(url).hostname for url in a.info["http"]}
    assert {"127.0.0.1", "::1"} <= hosts
    for url in a.info["http"]:
        assert get(url, "/health")[0] == 200
    assert a.status()["mailbox_id"] == a.info["mailbox_id"]


def test_one_port_for_both_ip_versions(make: MakeMailbox) -> None:
    """`--http [::]:P --http 0.0.0.0:P` is what the help recommends: the two must not be in each other's way."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    a = make("a", "--http", f"[::]:{port}", http=f"0.0.0.0:{port}").start()
    assert {f"http://127.0.0.1:{port}", f"http://[::1]:{port}"} <= set(a.info["http"])
    for url in a.info["http"]:
        assert get(url, "/health")[0] == 200


def test_identity_and_port_outlive_every_end(make: MakeMailbox) -> None:
    a = make("a", http="127.0.0.1:0").start()
    first = a.info
    a.kill()
    second = a.start().info
    a.stop()
    third = a.start().info
    for field in ("mailbox_id", "peer_id", "p2p"):
        assert first[field] == second[field] == third[field]


def test_a_port_that_was_taken_meanwhile_does_not_stop_it(make: MakeMailbox) -> None:
    a = make().start()
    port = int(a.info["p2p"][0].split("/")[4])
    a.stop()
    with socket.create_server(("127.0.0.1", port)):
        a.start()
        assert int(a.info["p2p"][0].split("/")[4]) != port
    assert "is taken by another program" in a.log()


def test_another_identity_is_never_made_up(make: MakeMailbox) -> None:
    a = make().start()
    a.stop()
    key = a.data_dir / "identity.key"
    whole = key.read_bytes()
    for damaged in (b"", whole[:-3]):
        key.write_bytes(damaged)
        assert str(key) in fails_in_one_line(a)
        assert key.read_bytes() == damaged
    key.write_bytes(whole)
    a.start()


def test_what_a_killed_one_left_is_not_taken_for_a_running_one(make: MakeMailbox) -> None:
    a = make().start()
    a.store("t", "l", {0: b"kept"})
    a.kill()
    assert (a.data_dir / "node.json").exists()
    for words in (["status"], ["peers"], ["sync"], ["get", "t"]):
        refused = a.command(*words, check=False)
        assert refused.returncode == 1
        assert "no mailbox is running on" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert a.command("identity", check=False).returncode == 0
    assert "all sound" in a.command("verify").stdout


def test_a_read_only_directory_is_one_line(make: MakeMailbox, small_disk: Path) -> None:
    a = make(folder=small_disk)
    a.data_dir.mkdir()
    a.log_path = small_disk.parent / "a.log"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = fails_in_one_line(a)
    assert "read-only" in said
    assert "--data-dir" in said


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_from_file_and_environment(make: MakeMailbox) -> None:
    a = make()
    a.data_dir.mkdir(0o700)
    (a.data_dir / "config.toml").write_text('retention = "2h"\nname = "file"\nstorage-limit = "70MiB"\n')
    a.start(env={"MAILBOXD_NAME": "environment", "MAILBOXD_STORAGE_LIMIT": "80MiB"})
    status = a.status()
    assert (status["retention_s"], status["name"], status["storage_limit"]) == (7200, "environment", 80 * 2**20)


# --- storing -------------------------------------------------------------------------------------------------------


def test_status_keeps_the_contract(make: MakeMailbox) -> None:
    a = make("a", "--peer", "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA").start()
    assert a.store("t", "l", {0: b"12345", 1: b""}) == 201
    assert a.store("t", "m", {0: b"1"}) == 201
    a.read("t")
    eventually(lambda: a.status()["peers"][0]["state"] == "unreachable", what="the verdict")
    status = a.status()
    expected: dict[str, Any] = {
        "mailbox_id": a.info["mailbox_id"],
        "messages": 3,
        "logs": 2,
        "topics": 1,
        "bytes": 6,
        "storage_limit": None,
        "relayed": {"stored": 3, "served": 3, "synced_in": 0, "synced_out": 0},
    }
    assert {key: status[key] for key in expected} == expected
    bytes.fromhex(status["fingerprint"])
    (peer,) = status["peers"]
    assert peer["last_sync"] is None
    assert (peer["last_sync_bytes"], peer["last_sync_round_trips"]) == (0, 0)
    assert "refused" in peer["reason"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", peer["mailbox_id"])


def test_equal_fingerprints_mean_equal_contents(make: MakeMailbox) -> None:
    a, b = make("a").start(), make("b").start()
    assert a.in_sync_with(b)
    contents = [("t", "l", {0: b"zero", 7: b"seven"}), ("t", "m", {2**64 - 1: b"last"}), ("u", "l", {0: b"zero"})]
    for topic, log, messages in contents:
        a.store(topic, log, messages)
        assert not a.in_sync_with(b)
    for topic, log, messages in reversed(contents):
        for seq in messages:
            b.store(topic, log, {seq: messages[seq]})
    assert a.in_sync_with(b)
    b.store("u", "l", {0: b"another zero"})
    assert not a.in_sync_with(b)
    a.store("u", "l", {0: b"another zero"})
    assert a.in_sync_with(b)


def test_a_short_retention_really_ends_lives(make: MakeMailbox) -> None:
    a = make("a", "--retention", "3s").start()
    empty = a.status()["fingerprint"]
    stored_at = time.monotonic()
    assert a.store("t", "l", dict.fromkeys(range(5), b"mortal")) == 201
    if len(a.read("t")) != 5:  # fails only if the machine slept through their whole life
        assert time.monotonic() - stored_at >= 2
    eventually(lambda: a.read("t") == {}, what="the end over HTTP")
    eventually(lambda: a.status()["messages"] == 0, what="the end in the status")
    assert a.status()["fingerprint"] == empty
    # What has lived its life is not asked for again.
    status, body = a.request("POST", "/blobs/get", {"topics": {"t": {"l": 4}}})
    assert (status, json.loads(body)["blobs_by_topic"]["t"]) == (200, {"blobs": {}, "missing": {}})


def test_a_full_store_refuses_and_goes_on(make: MakeMailbox) -> None:
    a = make("a", "--storage-limit", "64MiB").start()
    assert a.store("t", "l", {0: os.urandom(40 << 20)}) == 201
    status, said = a.request("POST", "/blobs/store", {"blobs": {"t": {"l": {"1": "QUFB" * (10 << 20)}}}})
    assert (status, b"storage limit" in said) == (507, True)
    assert a.store("t", "l", {1: b"small ones still fit"}) == 201
    assert set(a.read("t")) == {("l", 0), ("l", 1)}
    assert a.status()["storage_limit"] == 64 << 20


def test_a_full_disk_refuses_and_recovers(make: MakeMailbox, small_disk: Path) -> None:
    a = make(folder=small_disk)
    a.log_path = small_disk.parent / "a.log"
    a.start()
    assert a.store("t", "l", {0: b"before"}) == 201
    kept = {("l", 0): b"before"}
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    with ballast.open("wb") as file:  # someone else fills the disk
        file.write(bytes(free.f_bavail * free.f_frsize - (2 << 20)))
    refused = 0
    for seq in range(1, 40):
        blob = os.urandom(200_000)
        status = a.store("t", "l", {seq: blob})
        assert status in (201, 503, 507)
        if status == 201:
            kept["l", seq] = blob
        else:
            refused += 1
            break
    assert refused
    assert a.read("t") == kept
    assert a.status()["messages"] == len(kept)
    ballast.unlink()
    eventually(lambda: a.store("t", "l", {100: b"after"}) == 201, what="room again")
    assert a.read("t") == kept | {("l", 100): b"after"}
    assert a.stop() == 0
    assert "all sound" in a.command("verify").stdout
    assert "Traceback" not in a.log()


def test_nothing_is_sent_to_a_mailbox_whose_disk_is_full(make: MakeMailbox, small_disk: Path) -> None:
    giving = make("giving", "--sync-interval", "0.2").start()
    taking = make("taking", "--sync-interval", "0.2", "--peer", giving.address(), folder=small_disk)
    taking.log_path = small_disk.parent / "taking.log"
    taking.start()
    eventually(lambda: taking.in_sync_with(giving), what="the first sync")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    blob = os.urandom(300_000)
    assert giving.store("t", "l", dict.fromkeys(range(5), blob)) == 201

    def sessions() -> int:
        return int(giving.status()["sessions"]["count"])

    seen = sessions()
    eventually(lambda: sessions() > seen + 5, what="some syncs")
    assert giving.status()["sessions"]["bytes_out"] < len(blob), "messages are sent that can't be kept"
    ballast.unlink()
    eventually(lambda: taking.in_sync_with(giving), what="room again")
    assert len(taking.read("t")) == 5


def test_a_disk_that_is_full_at_the_start_is_one_line(make: MakeMailbox, small_disk: Path) -> None:
    a = make(folder=small_disk)
    a.log_path = small_disk.parent / "a.log"
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize))
    said = fails_in_one_line(a)
    assert "full" in said
    (small_disk / "ballast").unlink()
    a.start()


def test_kill_9_loses_nothing_acknowledged(make: MakeMailbox) -> None:
    a = make().start()
    acknowledged: dict[tuple[str, int], bytes] = {}
    enough = threading.Event()

    def phone(name: str) -> None:
        for seq in range(100_000):
            blob = b"%s %d" % (name.encode(), seq)
            try:
                if a.store("t", name, {seq: blob}) != 201:
                    return
            except (OSError, http.client.HTTPException, ValueError, IndexError):
                return
            acknowledged[name, seq] = blob
            if len(acknowledged) > 200:
                enough.set()

    phones = [threading.Thread(target=phone, args=(f"phone {i}",)) for i in range(4)]
    for thread in phones:
        thread.start()
    try:
        assert enough.wait(60)
    finally:
        a.kill()
        for thread in phones:
            thread.join()
    assert "all sound" in a.command("verify").stdout
    a.start()
    held = a.read("t")
    assert {key: held.get(key) for key in acknowledged} == acknowledged
    assert len(held) - len(acknowledged) <= len(phones)  # at most what was under way
    assert "all sound" in a.command("verify").stdout


# --- the end -------------------------------------------------------------------------------------------------------


def test_ctrl_c_while_phones_are_connected(make: MakeMailbox) -> None:
    a = make().start()
    parts = urlsplit(a.info["http"][0])
    idle = socket.create_connection((str(parts.hostname), int(parts.port or 0)))
    with idle:
        a.signal(signal.SIGINT)
        assert a.wait() == 0
    assert "Traceback" not in a.log()
    assert not (a.data_dir / "node.json").exists()
    assert a.log().rstrip().endswith("stopped")


# --- administration ------------------------------------------------------------------------------------------------


def test_the_administration_is_guarded(make: MakeMailbox) -> None:
    a = make().start()
    token_file = a.data_dir / "admin-token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    token = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    admin = a.info["admin"]
    for path in ("/admin/status", "/admin/peers", "/metrics"):
        assert get(admin, path, token)[0] == 200
        assert get(admin, path)[0] == 401
        assert get(admin, path, {"Authorization": "Bearer " + "A" * 43})[0] == 401
        assert get(admin, path, token | {"Host": "evil.example"})[0] == 403
        assert get(admin, path, token | {"Origin": "http://evil.example"})[0] == 403
        assert get(a.info["http"][0], path, token)[0] == 404  # phones' doors don't lead there
    started = json.loads(get(admin, "/admin/status", token)[1])["started"]
    assert datetime.fromisoformat(started).tzinfo is not None
