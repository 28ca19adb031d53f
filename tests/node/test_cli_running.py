"""The command line with a real mailbox running: what it shows, stores, fetches, and how it starts and stops."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.cli import cluster, demo
from node.cli.cluster import MailboxProcess
from node.cli.program import main
from node.datadir import NotRunning, read_node_info
from tests.netns import Lan

OPTIONS = ("--http=127.0.0.1:0", "--p2p=127.0.0.1:0", "--no-mdns", "--network=test-cli", "--sync-interval=1")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MAILBOXD_")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes; the second knows the first."""
    folder = tmp_path_factory.mktemp("pair")
    first, second = MailboxProcess("first", folder / "1"), MailboxProcess("second", folder / "2")
    try:
        first.start(*OPTIONS)
        trio.run(first.wait_ready)
        second.start(*OPTIONS, f"--peer={first.info.p2p[0]}")
        trio.run(second.wait_ready)
        yield first, second
    finally:
        for mailbox in (first, second):
            trio.run(mailbox.stop)


def cli(
    mailbox: MailboxProcess | Path, *arguments: str | Path, stdin: bytes = b"", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own, on the data directory of `mailbox`."""
    data_dir = mailbox if isinstance(mailbox, Path) else mailbox.data_dir
    process = subprocess.run(
        [sys.executable, "-m", "node.cli", *map(str, arguments), "--data-dir", str(data_dir)],
        input=stdin,
        capture_output=True,
        env=CLEAN,
        timeout=60,
        check=False,
    )
    assert process.returncode == code, process.stderr.decode()
    if code:
        assert process.stderr.count(b"\n") == 1, process.stderr.decode()
        assert process.stderr.startswith(b"mailboxd")
    return process


def lines(process: subprocess.CompletedProcess[bytes]) -> list[str]:
    return process.stdout.decode().splitlines()


Pair = tuple[MailboxProcess, MailboxProcess]


def test_node_json_keeps_the_contract(pair: Pair) -> None:
    file = pair[0].data_dir / "node.json"
    info = json.loads(file.read_text())
    assert set(info) == {"pid", "version", "mailbox_id", "peer_id", "http", "p2p", "admin"}
    assert info["pid"] == pair[0].pid
    assert info["p2p"][0].endswith(f"/p2p/{info['peer_id']}")
    assert info["http"][0].startswith("http://127.0.0.1:")
    assert info["admin"].startswith("http://127.0.0.1:")
    assert stat.S_IMODE(pair[0].data_dir.stat().st_mode) == 0o700


def test_what_is_put_is_got(pair: Pair, tmp_path: Path) -> None:
    blob = bytes(range(256)) * 300 + b"\r\n\x00\xff"
    (tmp_path / "photo").write_bytes(blob)
    assert lines(cli(pair[0], "put", "t-binary", "alice", "0", tmp_path / "photo")) == [
        "stored message 0, 75 KiB; this log is complete up to 0"
    ]
    assert cli(pair[0], "get", "t-binary", "alice", "--seq", "0", "--raw").stdout == blob
    entry = json.loads(cli(pair[0], "get", "t-binary", "--json").stdout)
    assert base64.b64decode(entry.pop("blob")) == blob
    assert entry == {"log": "alice", "seq": 0, "size": len(blob)}


def test_put_from_standard_input(pair: Pair) -> None:
    cli(pair[0], "put", "t-stdin", "bob", "2", "-", stdin=b"two\n")
    out = lines(cli(pair[0], "put", "t-stdin", "bob", "1", "-", stdin=b""))
    assert out == ["stored message 1, 0 B; this log lacks message 0"]
    assert "up to 2" in lines(cli(pair[0], "put", "t-stdin", "bob", "0", "-", stdin=b"zero"))[0]
    assert cli(pair[0], "get", "t-stdin", "--raw").stdout == b"zerotwo\n"


def test_get_lists_what_was_asked_for(pair: Pair) -> None:
    for log, seq, text in (
        ("a", 0, "zero"),
        ("a", 1, "one\ttab\nline"),
        ("b", 0, "\x1b[31mred like a rose"),
        ("b", 7, "seven"),
    ):
        cli(pair[0], "put", "t-list", log, str(seq), "-", stdin=text.encode())
    everything = ["a\t0\t4\tzero", "a\t1\t12\tone\\ttab\\nline", "b\t0\t20\t\\x1b[31mred like a rose", "b\t7\t5\tseven"]
    assert lines(cli(pair[0], "get", "t-list")) == everything
    assert lines(cli(pair[0], "get", "t-list", "b")) == everything[2:]
    assert lines(cli(pair[0], "get", "t-list", "b", "0")) == everything[3:]
    assert lines(cli(pair[0], "get", "t-list", "b", "7")) == []
    assert lines(cli(pair[0], "get", "t-list", "b", "--seq", "0")) == everything[2:3]
    assert lines(cli(pair[0], "get", "t-list", "b", "--seq", "7")) == everything[3:]
    assert lines(cli(pair[0], "get", "t-nothing")) == []
    assert b"message 3 of log b is not here" in cli(pair[0], "get", "t-list", "b", "--seq", "3", code=1).stderr


def test_get_previews_bytes_in_hex(pair: Pair) -> None:
    cli(pair[0], "put", "t-hex", "a", "0", "-", stdin=bytes(range(128, 228)))
    (line,) = lines(cli(pair[0], "get", "t-hex"))
    assert line == "a\t0\t100\t808182838485868788898a8b8c8d8e8f9091929…"


def test_ids_that_look_like_options(pair: Pair) -> None:
    topic, log = "-h" + "x" * 41, "--raw" + "x" * 38
    cli(pair[0], "put", topic, log, "0", "-", stdin=b"dashed")
    assert cli(pair[0], "get", topic, log, "--raw").stdout == b"dashed"
    assert b"is not a known mailbox" in cli(pair[0], "sync", topic, code=1).stderr


def test_the_whole_range_of_seq(pair: Pair) -> None:
    top = str(2**64 - 1)
    cli(pair[0], "put", "t-top", "a", top, "-", stdin=b"top")
    assert cli(pair[0], "get", "t-top", "a", "--seq", top, "--raw").stdout == b"top"
    assert lines(cli(pair[0], "get", "t-top", "a", str(2**64 - 2))) == [f"a\t{top}\t3\ttop"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, b"can't be read: No such file"), ("dir", b"can't be read: Is a directory"), ("pipe", b"pipe it")],
)
def test_put_of_what_is_no_file(pair: Pair, tmp_path: Path, content: str | None, expected: bytes) -> None:
    file = tmp_path / "x"
    if content == "dir":
        file.mkdir()
    elif content == "pipe":
        os.mkfifo(file)
    assert expected in cli(pair[0], "put", "t", "l", "0", file, code=1).stderr


def test_put_of_too_much(pair: Pair, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(48 * 2**20 + 1)
    assert b"larger than a message may be" in cli(pair[0], "put", "t", "l", "0", tmp_path / "big", code=1).stderr


def test_status_for_programs(pair: Pair) -> None:
    answer = json.loads(cli(pair[0], "status", "--json").stdout)
    assert {"mailbox_id", "messages", "logs", "topics", "bytes", "storage_limit", "fingerprint"} <= set(answer)
    assert set(answer["relayed"]) == {"stored", "served", "synced_in", "synced_out"}
    assert answer["mailbox_id"] == str(pair[0].identity.mailbox_id)
    assert answer["storage_limit"] is None
    assert set(answer["audit"]) == {"checked", "of", "found", "last_pass"}
    int(answer["fingerprint"], 16)


def test_status_for_people(pair: Pair) -> None:
    out = cli(pair[1], "status").stdout.decode()
    assert str(pair[1].identity.mailbox_id) in out
    assert "(second)" in out
    assert "fingerprint" in out
    assert "no difference; " in out
    assert str(pair[0].identity.mailbox_id)[:8] in out


def test_peers(pair: Pair) -> None:
    (peer,) = json.loads(cli(pair[1], "peers", "--json").stdout)
    assert peer["mailbox_id"] == str(pair[0].identity.mailbox_id)
    assert {"state", "reason", "last_sync", "last_sync_bytes", "last_sync_round_trips"} <= set(peer)
    out = cli(pair[1], "peers").stdout.decode()
    assert peer["mailbox_id"] in out
    assert pair[0].info.p2p[0] in out


@pytest.mark.parametrize("form", ["all", "id", "beginning", "peer id"])
def test_sync_waits_until_both_hold_the_same(pair: Pair, form: str) -> None:
    cli(pair[0], "put", "t-sync", "a", str(len(form)), "-", stdin=form.encode())
    other = pair[0].identity
    which = {"all": [], "id": [str(other.mailbox_id)], "beginning": [str(other.mailbox_id)[:8]]}
    out = lines(cli(pair[1], "sync", *which.get(form, [other.peer_id])))
    assert len(out) == 1
    assert out[0].startswith(f"{other.mailbox_id.short}  in sync: ")
    one, two = (json.loads(cli(mailbox, "status", "--json").stdout) for mailbox in pair)
    assert one["fingerprint"] == two["fingerprint"]
    assert cli(pair[1], "get", "t-sync", "a", "--seq", str(len(form)), "--raw").stdout == form.encode()


def test_sync_for_programs(pair: Pair) -> None:
    (report,) = json.loads(cli(pair[1], "sync", "--json").stdout)
    assert report["mailbox_id"] == str(pair[0].identity.mailbox_id)
    assert report["error"] is None
    assert report["round_trips"] >= 1


def test_sync_with_a_stranger(pair: Pair) -> None:
    assert b"not a known mailbox" in cli(pair[1], "sync", "Zzzz", code=1).stderr
    assert b"is not the PeerId" in cli(pair[1], "sync", "12D3Koox", code=2).stderr


def test_identity_of_a_running_mailbox_has_its_addresses(pair: Pair) -> None:
    assert pair[0].info.p2p[0] in cli(pair[0], "identity").stdout.decode()
    assert json.loads(cli(pair[0], "identity", "--json").stdout)["running"] is True


def test_verify_while_it_runs(pair: Pair) -> None:
    assert lines(cli(pair[0], "verify"))[-1].endswith("of the index: all sound")
    blocks = json.loads(cli(pair[0], "status", "--json").stdout)["audit"]["of"]
    index = json.loads(cli(pair[0], "verify", "--json").stdout)["index"]
    assert index == {"blocks": blocks, "differences": 0}
    assert blocks > 0


def test_a_second_one_on_the_same_directory_is_refused(pair: Pair) -> None:
    error = cli(pair[0], "run", *OPTIONS, code=1).stderr.decode()
    assert f"process {pair[0].pid}" in error
    assert read_node_info(pair[0].data_dir) == pair[0].info


# --- starting and stopping -----------------------------------------------------------------------------------------


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[MailboxProcess]:
    """One that a test starts and stops as it likes."""
    own = MailboxProcess("own", tmp_path / "own")
    try:
        yield own
    finally:
        own.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_it_in_good_order(mailbox: MailboxProcess, number: signal.Signals) -> None:
    mailbox.start(*OPTIONS)
    await mailbox.wait_ready()
    process = mailbox._process
    assert process is not None
    process.send_signal(number)
    assert await trio.to_thread.run_sync(process.wait, 30) == 0
    assert not (mailbox.data_dir / "node.json").exists()
    log = mailbox.log_path.read_text()
    assert "is ready" in log
    assert "Traceback" not in log
    with pytest.raises(NotRunning):
        read_node_info(mailbox.data_dir)


async def test_a_second_signal_ends_it_at_once(mailbox: MailboxProcess) -> None:
    mailbox.start(*OPTIONS)
    info = await mailbox.wait_ready()
    process = mailbox._process
    assert process is not None
    host, _, port = info.http[0].removeprefix("http://").rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as phone:
        # A phone in the middle of a request, for which a clean stop waits a while.
        await phone.send_all(b"POST /blips/store HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        await phone.send_all(b"Content-Length: 100000\r\n\r\n{")
        await trio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        with trio.fail_after(30):
            while "once more" not in mailbox.log_path.read_text():  # noqa: ASYNC110 - it is another process
                await trio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert await trio.to_thread.run_sync(process.wait, 30) == 130
    mailbox.start(*OPTIONS)
    assert (await mailbox.wait_ready()).mailbox_id == info.mailbox_id


async def test_a_restart_keeps_identity_and_port(mailbox: MailboxProcess) -> None:
    mailbox.start(*OPTIONS)
    first = await mailbox.wait_ready()
    mailbox.kill()
    assert (mailbox.data_dir / "node.json").exists()
    with pytest.raises(NotRunning):
        read_node_info(mailbox.data_dir)
    mailbox.start(*OPTIONS)
    second = await mailbox.wait_ready()
    assert (first.mailbox_id, first.p2p) == (second.mailbox_id, second.p2p)


async def test_json_logs_are_json_to_the_last_line(mailbox: MailboxProcess) -> None:
    mailbox.start(*OPTIONS, "--log-json")
    info = await mailbox.wait_ready()
    assert await mailbox.stop() == 0
    entries = [json.loads(line) for line in mailbox.log_path.read_text().splitlines()]
    assert any(info.http[0] in entry["message"] for entry in entries)
    assert entries[-1]["message"] == "stopped"


async def test_settings_from_the_config_file(mailbox: MailboxProcess) -> None:
    (mailbox.data_dir / "config.toml").write_text('storage-limit = "100MiB"\nlog-level = "error"')
    mailbox.start(*OPTIONS)
    await mailbox.wait_ready()
    assert (await mailbox.status())["storage_limit"] == 100 * 2**20


@pytest.mark.parametrize("option", ["http", "p2p"])
def test_a_taken_port_is_one_line(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = [o for o in OPTIONS if not o.startswith(f"--{option}")]
        error = cli(tmp_path, "run", *options, f"--{option}={address}", "--log-level=error", code=1).stderr.decode()
    assert address in error
    assert not (tmp_path / "node.json").exists()


def test_a_foreign_address_is_one_line(tmp_path: Path) -> None:
    error = cli(tmp_path, "run", "--no-mdns", "--http=192.0.2.1:0", "--p2p=127.0.0.1:0", "--log-level=error", code=1)
    assert b"192.0.2.1" in error.stderr


@pytest.mark.parametrize("name", ["identity.key", "mailbox.sqlite3", "admin-token"])
def test_a_damaged_file_is_one_line_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("nonsense")
    (tmp_path / name).chmod(0o600)
    error = cli(tmp_path, "run", *OPTIONS, "--log-level=error", code=1).stderr.decode()
    assert str(tmp_path / name) in error
    assert (tmp_path / name).read_text() == "nonsense"


def test_a_directory_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert b"not a directory" in cli(tmp_path / "file" / "below", "run", *OPTIONS, code=1).stderr


# --- the demonstration ---------------------------------------------------------------------------------------------


def test_the_demonstration(tmp_path: Path) -> None:
    process = cli(tmp_path / "kept", "demo", "--messages", "60")
    out = process.stdout.decode()
    assert out.count("all three hold the same") == 2
    assert "C is unreachable" not in out
    assert "A is unreachable, B is unreachable" in out
    assert "a phone at C reads what Alice wrote" in out
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["A", "B", "C"]
    for name in "ABC":
        assert lines(cli(tmp_path / "kept" / name, "verify"))[-1].endswith("all sound")
    assert b"name a new directory" in cli(tmp_path / "kept", "demo", code=1).stderr


def test_a_demonstration_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    environment = CLEAN | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "node.cli", "demo"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("2."):
            break
    pids = [read_node_info(path).pid for path in tmp_path.glob("mailboxd-demo-*/?")]
    assert len(pids) == 3
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_demonstration_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing_gets_through(link: cluster.Link, stream: trio.SocketStream) -> None:
        await stream.aclose()

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(demo, "PATIENCE_S", -1.0)
    monkeypatch.setattr(cluster.Link, "_relay", nothing_gets_through)
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--messages", "30"])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert "the demonstration failed: after -1 s A, B and C hold" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_discover_finds_a_mailbox_on_the_network(lan: Lan, tmp_path: Path) -> None:
    here, there = lan.add_host(), lan.add_host()
    options = ["--http=0.0.0.0:0", "--network=kiosks", "--data-dir", str(tmp_path)]
    mailbox = here.popen([sys.executable, "-m", "node.cli", "run", *options], stderr=subprocess.DEVNULL)
    look = [sys.executable, "-m", "node.cli", "discover", "--data-dir", str(tmp_path / "none")]
    while not (tmp_path / "node.json").exists():
        assert mailbox.poll() is None
        time.sleep(0.02)
    process = subprocess.run(there.command([*look, "--json"]), capture_output=True, env=CLEAN, check=True)
    (found,) = json.loads(process.stdout)
    assert found["mailbox_id"] == json.loads((tmp_path / "node.json").read_text())["mailbox_id"]
    assert (found["network"], found["self"]) == ("kiosks", False)
    assert found["http"][0].startswith(f"http://{here.address}:")
    process = subprocess.run(there.command([*look, "--network=other"]), capture_output=True, env=CLEAN, check=True)
    assert (process.stdout, process.stderr) == (b"", b"no mailbox answered within 3 s\n")
