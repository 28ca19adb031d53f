"""What systemd hears: from a real mailbox over a real socket, and from the watchdog only while the store answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from node.service.notify import Notifier
from node.store.api import StoreUnavailable
from node.store.memory import MemoryStore
from tests.mailboxes import MailboxProcess


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(str(tmp_path / "notify"))
    channel.settimeout(30)
    return channel


def heard(channel: socket.socket) -> list[str]:
    channel.setblocking(False)
    found = []
    try:
        while True:
            found.append(channel.recv(4096).decode())
    except BlockingIOError:
        return found


def test_a_real_mailbox_tells_that_it_is_ready_alive_and_stopping(tmp_path: Path, manager: socket.socket) -> None:
    mailbox = MailboxProcess(tmp_path / "data", "--no-mdns", "--p2p", "127.0.0.1:0")
    mailbox.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
    try:
        ready = manager.recv(4096).decode()
        assert ready.startswith("READY=1\nSTATUS=mailbox ")
        assert manager.recv(4096) == b"WATCHDOG=1"
        assert manager.recv(4096) == b"WATCHDOG=1"
        assert mailbox.stop() == 0
        assert "STOPPING=1" in heard(manager)
    finally:
        mailbox.__exit__()


class BrokenStore(MemoryStore):
    """Fails, or never answers."""

    trouble = ""

    async def merge(self, *_: object, **__: object) -> None:
        if self.trouble == "fails":
            raise StoreUnavailable("the disk is gone")
        if self.trouble == "hangs":
            await trio.sleep_forever()


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_the_watchdog_hears_nothing_of_a_broken_store(
    trouble: str, tmp_path: Path, manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(str(tmp_path / "notify"), 60.0)
    store = BrokenStore()
    with trio.move_on_after(100):
        await notifier.keep_alive(store)
    assert heard(manager) == ["WATCHDOG=1"] * 4
    store.trouble = trouble
    with trio.move_on_after(300):
        await notifier.keep_alive(store)
    assert heard(manager) == []


def test_without_a_service_manager_nothing_is_said(tmp_path: Path) -> None:
    pid = os.getpid()
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "1000000"}):
        quiet = Notifier.of(environment, pid)
        quiet.tell("READY=1")
        assert quiet.watchdog_s is None
    place = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    Notifier.of(place, pid).tell("READY=1")  # a line in the log, and no more
    assert Notifier.of(place | {"WATCHDOG_USEC": "30000000"}, pid).watchdog_s == 30
    assert Notifier.of(place | {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(pid + 1)}, pid).watchdog_s is None
    assert Notifier.of(place | {"WATCHDOG_USEC": "-5"}, pid).watchdog_s is None


def test_abstract_sockets_are_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0mailboxd-test-{os.getpid()}")
        Notifier(f"@mailboxd-test-{os.getpid()}").tell("READY=1", "STATUS=x")
        assert channel.recv(100) == b"READY=1\nSTATUS=x"
