"""The data directory: permissions, one process at a time, files that are whole or not there, errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node import datadir
from node.datadir import DataDir, DataDirError, NodeInfo, NotRunning, read_node_info, running_pid

INFO = NodeInfo(
    pid=7, version="1", mailbox_id="m", peer_id="p", http=("http://127.0.0.1:1",), p2p=("/ip4/…",), admin="http://h:1"
)

HOLD = """
import sys, time
from pathlib import Path
from node.datadir import DataDir, NodeInfo
directory = DataDir.open(Path(sys.argv[1]))
directory.publish(NodeInfo(pid=1, version="1", mailbox_id="m", peer_id="p", http=(), p2p=(), admin="a"))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def plain_user() -> Iterator[None]:
    """Root may read everything; as somebody else, permissions mean something."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that any user can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


def test_makes_it_with_its_parents_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    with DataDir.open(path):
        for folder in (path, path.parent, path.parent.parent):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_a_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DataDir.open(Path("data")) as directory:
        monkeypatch.chdir("/")
        directory.publish(INFO)
        assert (tmp_path / "data" / "node.json").exists()


def test_leaves_the_permissions_of_an_existing_one_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with DataDir.open(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(DataDirError) as caught:
            DataDir.open(tmp_path)
        assert str(other.pid) in one_line(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert running_pid(tmp_path) == other.pid
        assert read_node_info(tmp_path).mailbox_id == "m", "the refused one must not touch the other's files"


def test_a_second_open_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with DataDir.open(tmp_path), pytest.raises(DataDirError, match=str(os.getpid())):
        DataDir.open(tmp_path)
    DataDir.open(tmp_path).close()


def test_looking_whether_it_runs_never_refuses_a_start(tmp_path: Path) -> None:
    look = "import sys\nfrom pathlib import Path\nfrom node.datadir import running_pid\n"
    look += "print(flush=True)\nwhile True: running_pid(Path(sys.argv[1]))"
    DataDir.open(tmp_path).close()
    lookers = [subprocess.Popen([sys.executable, "-c", look, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for looker in lookers:
            assert looker.stdout is not None
            looker.stdout.readline()
        for _ in range(20):
            DataDir.open(tmp_path).close()
    finally:
        for looker in lookers:
            looker.kill()
            looker.communicate()


def test_after_a_kill_the_stale_node_json_counts_as_not_running(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / "node.json").exists()
        with pytest.raises(NotRunning, match="mailboxd run"):
            read_node_info(tmp_path)
    with DataDir.open(tmp_path):
        assert not (tmp_path / "node.json").exists(), "a restart must not show the old addresses while it starts"
        with pytest.raises(NotRunning, match="still starting"):
            read_node_info(tmp_path)


def test_node_json_has_what_the_contract_says_and_goes_with_a_clean_stop(tmp_path: Path) -> None:
    with DataDir.open(tmp_path) as directory:
        directory.publish(INFO)
        file = tmp_path / "node.json"
        assert set(json.loads(file.read_text())) == {
            "pid",
            "version",
            "mailbox_id",
            "peer_id",
            "http",
            "p2p",
            "admin",
        }
        assert file.stat().st_mode & 0o777 == 0o600
        assert read_node_info(tmp_path) == INFO
    assert not file.exists()
    with pytest.raises(NotRunning):
        read_node_info(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 50_000, b'{"pid": "x"}'])
def test_a_damaged_node_json_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    with DataDir.open(tmp_path):
        (tmp_path / "node.json").write_bytes(content)
        with pytest.raises(DataDirError, match="damaged") as caught:
            read_node_info(tmp_path)
        assert "restart" in one_line(caught.value)


@pytest.mark.parametrize("wrong", ["pid", "http", "p2p", "admin"])
def test_a_node_json_with_a_wrong_field_is_refused(wrong: str) -> None:
    fields = json.loads(INFO.to_json())
    with pytest.raises(ValueError, match="wrong type"):
        NodeInfo.from_json(json.dumps(fields | {wrong: {"a": 1}}))
    assert NodeInfo.from_json(json.dumps(fields | {"added later": 1})) == INFO


def test_nothing_there_is_not_running_and_stays_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    with pytest.raises(NotRunning) as caught:
        read_node_info(path)
    one_line(caught.value)
    assert not path.exists()


def test_the_p2p_port_is_kept(tmp_path: Path) -> None:
    with DataDir.open(tmp_path) as directory:
        assert directory.saved_p2p_port() is None
        directory.save_p2p_port(40001)
    with DataDir.open(tmp_path) as directory:
        assert directory.saved_p2p_port() == 40001
        assert directory.saved_admin_port() is None
        directory.save_admin_port(40002)
        assert (directory.saved_p2p_port(), directory.saved_admin_port()) == (40001, 40002)


@pytest.mark.parametrize("content", [b"", b"0", b"65536", b"-1", b"99999999999999999999", b"4_0", "४२".encode(), b"\0"])
def test_a_damaged_port_file_only_means_a_new_port(tmp_path: Path, content: bytes) -> None:
    with DataDir.open(tmp_path) as directory:
        (tmp_path / "p2p-port").write_bytes(content)
        assert directory.saved_p2p_port() is None


def test_a_write_replaces_the_whole_file_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DataDir.open(tmp_path) as directory:
        directory.write("x", "old")

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(datadir.os, "fsync", full)
        with pytest.raises(DataDirError, match="disk is full") as caught:
            directory.write("x", "new")
        one_line(caught.value)
        assert (tmp_path / "x").read_text() == "old"
        assert not list(tmp_path.glob(".mailboxd-new-*"))


def test_files_of_a_crashed_write_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".mailboxd-new-abc").write_text("half")
    (tmp_path / "other").write_text("keep")
    with DataDir.open(tmp_path):
        assert not (tmp_path / ".mailboxd-new-abc").exists()
        assert (tmp_path / "other").exists()


def test_a_file_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirError, match="not a directory") as caught:
            DataDir.open(path)
        assert "--data-dir" in one_line(caught.value)
        with pytest.raises(NotRunning):
            read_node_info(path)


def test_a_directory_in_the_locks_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(DataDirError, match="move it away") as caught:
        DataDir.open(tmp_path)
    one_line(caught.value)


def test_a_directory_that_is_not_ours_is_one_clear_error(open_dir: Path) -> None:
    inside = open_dir / "inside"
    inside.mkdir(mode=0o755)
    open_dir.chmod(0o755)
    inside.chmod(0o555)
    with plain_user():
        for path in (inside, inside / "new"):
            with pytest.raises(DataDirError, match="permission denied") as caught:
                DataDir.open(path)
            assert "--data-dir" in one_line(caught.value)
    inside.chmod(0o755)


@pytest.mark.parametrize("path", ["a" * 300, "/".join(["a" * 200] * 30)])
def test_a_path_that_is_too_long_is_one_clear_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataDirError, match="too long") as caught:
        DataDir.open(tmp_path / path)
    one_line(caught.value)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that can't be written")
def test_a_file_system_that_takes_no_directories_is_one_clear_error() -> None:
    with pytest.raises(DataDirError) as caught:
        DataDir.open(Path("/proc/mailboxd"))
    one_line(caught.value)
