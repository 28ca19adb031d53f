"""Disks that go bad under a real mailbox: full, read-only, and an fsync that fails. Nothing acknowledged is lost.

The disk is a tmpfs, or an ext4 in a file, in a mount namespace of its own (that needs root). fsync fails in a library
that is loaded before libc (that needs a C compiler). Without them the tests are skipped, with the reason.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mailboxes import MailboxProcess, eventually

LOCAL = ("--no-mdns", "--p2p", "127.0.0.1:0", "--network", "test-disks")
DISK_BYTES = 24 << 20


class Disk:
    """A file system that only whoever enters its namespace sees under `mounted`; `path` leads to it from everywhere."""

    def __init__(self, tmp_path: Path, holder: int, mounted: Path) -> None:
        self.path = tmp_path / "disk"
        self.path.symlink_to(f"/proc/{holder}/root{mounted}")
        self.prefix = ["nsenter", "--target", str(holder), "--mount", f"--wd={Path.cwd()}", "--"]
        self.mounted = str(mounted)

    def mount(self, *options: str) -> None:
        """Changes what is mounted."""
        subprocess.run([*self.prefix, "mount", *options, self.mounted], check=True, capture_output=True)

    def mend(self, image: Path) -> None:
        """What one does with a disk that had errors: looks it over, and mounts it again."""
        subprocess.run([*self.prefix, "umount", self.mounted], check=True, capture_output=True)
        looked = subprocess.run(["e2fsck", "-f", "-p", str(image)], check=False, capture_output=True)
        assert looked.returncode in (0, 1), looked.stdout
        self.mount("-o", "loop", str(image))

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left on it."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        yield
        ballast.unlink()


@contextmanager
def mounted(tmp_path: Path, how: str, *tools: str) -> Iterator[Disk]:
    """A disk. `how` are the words between `mount` and where."""
    needed = ("unshare", "nsenter", "mount", *tools)
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, needed)):
        pytest.skip(f"needs root on Linux and {', '.join(needed)}, to mount a disk of its own")
    where = tmp_path / "mounted"
    where.mkdir()
    script = f"mount {how} {where} && echo ready && exec sleep 1000"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stderr is not None
        try:
            if not holder.stdout.readline():
                pytest.skip(f"nothing can be mounted here: {holder.stderr.read().strip()}")
            yield Disk(tmp_path, holder.pid, where)
        finally:
            holder.kill()


@contextmanager
def on(disk: Disk, tmp_path: Path) -> Iterator[MailboxProcess]:
    """A mailbox on that disk."""
    mailbox = MailboxProcess(disk.path / "box", *LOCAL, prefix=disk.prefix)
    mailbox.log_path = tmp_path / "box.log"
    with mailbox:
        yield mailbox


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """In memory."""
    with mounted(tmp_path, f"-t tmpfs -o size={DISK_BYTES} tmpfs") as made:
        yield made


@pytest.fixture
def box(disk: Disk, tmp_path: Path) -> Iterator[MailboxProcess]:
    """A mailbox on that disk."""
    with on(disk, tmp_path) as mailbox:
        yield mailbox


def fill(mailbox: MailboxProcess, log: str, count: int = 30) -> dict[tuple[str, int], bytes]:
    """Stores some messages; all must be acknowledged."""
    chance = random.Random(log)
    messages = {seq: chance.randbytes(chance.choice((30, 300, 3000))) for seq in range(count)}
    assert mailbox.store("t", log, messages) == 201
    return {(log, seq): blob for seq, blob in messages.items()}


def health(mailbox: MailboxProcess) -> dict[str, Any]:
    store: dict[str, Any] = mailbox.status()["store"]
    return store


def attempt(mailbox: MailboxProcess, log: str, refused: set[int]) -> dict[tuple[str, int], bytes]:
    """Stores while the disk is bad; returns what was acknowledged all the same."""
    held = {}
    for seq in range(20):
        blob = random.Random(seq).randbytes(50_000)
        status = mailbox.store("t", log, {seq: blob})
        assert status == 201 or status in refused
        if status == 201:
            held[log, seq] = blob
    return held


def test_a_full_disk_is_told_and_recovers_by_itself(box: MailboxProcess, disk: Disk) -> None:
    held = fill(box, "before")
    with disk.full():
        late = attempt(box, "meanwhile", {503, 507})
        assert len(late) < 20
        held |= late
        assert box.read("t") == held
        told = health(box)
        assert told["state"] == "full"
        assert told["reason"] and told["remedy"]
        assert box.request("GET", "/health")[0] == 200
    eventually(lambda: health(box)["state"] == "ok", what="the disk found well")
    held |= fill(box, "after")
    box.kill()
    box.start()
    assert box.read("t") == held
    assert box.command("verify").returncode == 0


def test_a_read_only_disk_is_named_in_one_line_and_good_again_afterwards(box: MailboxProcess, disk: Disk) -> None:
    """The kernel remounts a disk only when nobody writes on it any more: so the mailbox is stopped before."""
    held = fill(box, "before")
    assert box.stop() == 0
    disk.mount("-o", "remount,ro")
    failed = box.command("run", *LOCAL, "--http", "127.0.0.1:0", check=False)
    assert failed.returncode == 1
    assert "ead-only" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    disk.mount("-o", "remount,rw")
    box.start()
    assert box.read("t") == held
    fill(box, "after")


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SYNC(name) int name(int fd) { \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
    if (access(getenv("FSYNC_FAILS_WHILE"), F_OK) != 0) return real(fd); \
    errno = EIO; \
    return -1; }
SYNC(fsync)
SYNC(fdatasync)
"""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A library in which fsync fails while a certain file is there."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs a C compiler on Linux, for a library in which fsync fails")
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def test_an_fsync_that_fails_acknowledges_nothing_and_loses_nothing(shim: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    box = MailboxProcess(tmp_path / "box", *LOCAL)
    environment = {"LD_PRELOAD": str(shim), "FSYNC_FAILS_WHILE": str(bad)}
    box.start(env=environment)
    try:
        held = fill(box, "before")
        bad.touch()
        statuses = {box.store("t", "meanwhile", {seq: b"%d" % seq}) for seq in range(10)}
        assert statuses == {503}
        assert held.items() <= box.read("t").items()
        told = health(box)
        assert told["state"] == "failing"
        assert told["reason"] and told["remedy"]
        bad.unlink()
        eventually(lambda: health(box)["state"] == "ok", what="the disk found well")
        held |= fill(box, "after")
        box.kill()
        box.start(env=environment)
        assert held.items() <= box.read("t").items()
        assert box.command("verify").returncode == 0
    finally:
        box.__exit__()


def test_a_disk_that_is_read_only_all_of_a_sudden_is_told_and_good_again_once_mended(tmp_path: Path) -> None:
    """As Linux makes an ext4 after errors, under files that are open."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(2 * DISK_BYTES)
    if shutil.which("mkfs.ext4"):
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(tmp_path, f"-o loop {image}", "mkfs.ext4", "e2fsck") as disk, on(disk, tmp_path) as box:
        held = fill(box, "before")
        disk.mount("-o", "remount,abort")
        assert attempt(box, "meanwhile", {503, 507}) == {}
        assert box.read("t") == held
        told = health(box)
        assert told["state"] == "read-only", told
        assert told["reason"] and told["remedy"]
        box.kill()
        disk.mend(image)
        box.start()
        assert box.read("t") == held
        fill(box, "after")
        assert health(box)["state"] == "ok"
        assert box.command("verify").returncode == 0
