"""Passwords and trust through the front door: real mailboxes that let each other in, or don't and say why."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mailboxes import MailboxProcess, clean_environment, eventually
from tests.recorder import recorder

ARGS = ("--no-mdns", "--p2p", "127.0.0.1:0", "--sync-interval", "1")
PASSWORD, OTHER = "mind the gap, please", "no gap to be minded"


def set_password(data_dir: Path, password: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", "password", "set", "--data-dir", str(data_dir)],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
        env=clean_environment(),
    )


def peer(mailbox: MailboxProcess, other: MailboxProcess) -> dict[str, Any] | None:
    return next((one for one in mailbox.status()["peers"] if one["mailbox_id"] == mailbox_id(other)), None)


def mailbox_id(mailbox: MailboxProcess) -> str:
    return str(mailbox.info["mailbox_id"])


def reason(mailbox: MailboxProcess, other: MailboxProcess) -> str:
    """Why the two are kept apart, as this one tells it; empty while they aren't."""
    known = peer(mailbox, other)
    return str(known["reason"]) if known and known["state"] == "refused" else ""


def in_sync(mailbox: MailboxProcess, other: MailboxProcess) -> bool:
    known = peer(mailbox, other)
    return (
        bool(known and known["state"] == "in-sync") and mailbox.status()["fingerprint"] == other.status()["fingerprint"]
    )


def put(mailbox: MailboxProcess, name: str) -> None:
    """Stores a message by the back door, as no phone is paired."""
    status = mailbox.store(f"topic of {name}", name, {0: name.encode()})
    assert status == 201


@contextmanager
def pair(tmp_path: Path, first: str | None, second: str | None) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes with these passwords, the second of which knows the first, and a message in each."""
    with ExitStack() as running:
        mailboxes: list[MailboxProcess] = []
        for name, password in (("first", first), ("second", second)):
            peers = ("--peer", mailboxes[0].address()) if mailboxes else ()
            mailbox = running.enter_context(MailboxProcess(tmp_path / name, *ARGS, *peers))
            mailboxes.append(mailbox)
            put(mailbox, name)
            if password is not None:
                set_password(mailbox.data_dir, password)
        yield mailboxes[0], mailboxes[1]


def test_the_same_password_lets_both_in_and_another_one_keeps_them_apart(tmp_path: Path) -> None:
    with pair(tmp_path, PASSWORD, OTHER) as (first, second):
        eventually(lambda: "another password" in reason(first, second), what="the first one's reason")
        eventually(lambda: "another password" in reason(second, first), what="the second one's reason")
        before = first.status()["messages"]
        # A change takes effect at once, without a restart.
        assert "the password is set" in set_password(second.data_dir, PASSWORD).stdout
        eventually(lambda: in_sync(first, second) and in_sync(second, first), what="the sync")
        assert first.status()["messages"] == before + 1
        # And another change parts them again: what comes now stays here.
        set_password(first.data_dir, OTHER)
        eventually(lambda: "another password" in reason(second, first), what="the parting")
        # It survives a restart.
        assert second.stop() == 0
        second.start()
        eventually(lambda: "another password" in reason(second, first), what="the reason after a restart")
        key = second.data_dir / "password.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        for mailbox in (first, second):
            for path in mailbox.data_dir.iterdir():
                assert PASSWORD.encode() not in path.read_bytes()
            assert PASSWORD not in mailbox.log()


def test_open_and_password_refuse_each_other_until_one_trusts(tmp_path: Path) -> None:
    with pair(tmp_path, PASSWORD, None) as (first, second):
        eventually(lambda: "no password" in reason(first, second), what="the first one's reason")
        eventually(lambda: "has a password and this mailbox has none" in reason(second, first) or "set the same" in
                   reason(second, first), what="the second one's reason")  # fmt: skip
        assert first.status()["messages"] == second.status()["messages"] == 1
        shown = first.command("trust", mailbox_id(second)[:9])
        assert "is let in without a password" in shown.stdout
        eventually(lambda: in_sync(first, second), what="the sync of the trusted")
        assert first.command("distrust", mailbox_id(second)).returncode == 0
        eventually(lambda: "distrusted" in reason(first, second), what="the distrust")
        eventually(lambda: "does not let you in" in reason(second, first), what="the other's reason")
        assert mailbox_id(second) in first.command("trusted").stdout


def test_only_trusted_lets_nobody_else_in(tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "first", *ARGS, "--only-trusted") as first:
        put(first, "first")
        with MailboxProcess(tmp_path / "second", *ARGS, "--peer", first.address()) as second:
            eventually(lambda: "does not let you in" in reason(second, first), what="the refusal")
            assert second.status()["messages"] == 0
            first.command("trust", mailbox_id(second))
            eventually(lambda: in_sync(second, first), what="the sync of the trusted")
            assert "trusted mailboxes only" in first.command("status").stdout


def test_a_restart_needs_no_password_from_anybody(tmp_path: Path) -> None:
    with pair(tmp_path, PASSWORD, PASSWORD) as (first, second):
        eventually(lambda: in_sync(first, second), what="the first sync")
        first.kill()
        first.start()
        eventually(lambda: in_sync(second, first), what="the sync after a crash")


@pytest.mark.parametrize("running", [True, False])
def test_the_commands_say_what_is(tmp_path: Path, running: bool) -> None:
    mailbox = MailboxProcess(tmp_path / "box", *ARGS)
    if running:
        mailbox.start()
    else:
        assert "there is no mailbox at" in mailbox.command("trusted", check=False).stderr
        assert not mailbox.data_dir.exists()
        mailbox.data_dir.mkdir(mode=0o700)
    try:
        assert "there is no password" in mailbox.command("password", "status").stdout
        refused = set_password(mailbox.data_dir, "short", check=False)
        assert refused.returncode == 1
        assert "5 characters and needs 8" in refused.stderr
        when = "from now on" if running else "from its next start"
        assert when in set_password(mailbox.data_dir, PASSWORD).stdout
        assert "there is a password" in mailbox.command("password", "status").stdout
        assert '"password": true' in mailbox.command("password", "status", "--json").stdout
        assert "is open" in mailbox.command("password", "clear").stdout
        assert not (mailbox.data_dir / "password.key").exists()
        stranger = "A" * 43
        assert mailbox.command("trust", stranger).returncode == 0
        assert stranger in mailbox.command("trusted", "--json").stdout
        assert mailbox.command("trust", "--undo", stranger[:10]).returncode == 0
        assert "no mailbox is trusted" in mailbox.command("trusted").stdout
        again = mailbox.command("trust", "--undo", stranger, check=False)
        assert (again.returncode, "is not trusted" in again.stderr) == (1, True)
        wrong = mailbox.command("trust", "A" * 42 + "B", check=False)
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)
    finally:
        mailbox.__exit__()


def test_a_password_file_is_read_at_the_start_and_is_not_changed_behind_ones_back(tmp_path: Path) -> None:
    file = tmp_path / "password.txt"
    file.write_text(PASSWORD + "\n")
    file.chmod(0o600)
    with MailboxProcess(tmp_path / "box", *ARGS, "--password-file", str(file)) as mailbox:
        assert str(file) in mailbox.command("password", "status").stdout
        refused = set_password(mailbox.data_dir, OTHER, check=False)
        assert "--password-file" in refused.stderr
        assert not (mailbox.data_dir / "password.key").exists()


@pytest.mark.parametrize("how", ["damaged", "open to others", "password file too short"])
def test_what_can_not_be_trusted_ends_the_start_in_one_line(tmp_path: Path, how: str) -> None:
    data_dir = tmp_path / "box"
    set_password(data_dir, PASSWORD)
    key = data_dir / "password.key"
    args: tuple[str, ...] = ()
    if how == "damaged":
        key.write_text(key.read_text()[:-20])
    elif how == "open to others":
        key.chmod(0o644)
    else:
        file = tmp_path / "password.txt"
        file.write_text("short\n")
        file.chmod(0o600)
        args = ("--password-file", str(file))
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "run", "--data-dir", str(data_dir), "--http", "127.0.0.1:0", *ARGS, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=clean_environment({"PYTHONPATH": os.environ.get("PYTHONPATH", "")}),
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_who_sits_in_between_hears_nothing_and_can_replay_nothing(tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "first", *ARGS) as first:
        put(first, "first")
        set_password(first.data_dir, PASSWORD)
        multiaddr = first.address()
        port = int(multiaddr.split("/")[4])
        with recorder("127.0.0.1", port) as (relay_port, heard):
            set_password(tmp_path / "second", PASSWORD)
            relayed = multiaddr.replace(f"/{port}/", f"/{relay_port}/")
            with MailboxProcess(tmp_path / "second", *ARGS, "--peer", relayed) as second:
                eventually(lambda: in_sync(second, first), what="the sync through the relay")
            recorded = bytes(heard)
            assert len(recorded) > 1000
            fields = dict(line.split(" ", 1) for line in (first.data_dir / "password.key").read_text().splitlines())
            for secret in (PASSWORD.encode(), b"topic of first", *map(bytes.fromhex, list(fields.values())[1:])):
                assert secret not in recorded
        before = first.status()
        with socket.create_connection(("127.0.0.1", port)) as thief:
            thief.sendall(recorded)
            thief.settimeout(20)
            with suppress(OSError):
                while thief.recv(65536):
                    pass
        after = first.status()
        assert after["relayed"] == before["relayed"]
        assert len(after["peers"]) == len(before["peers"])
