"""Where real mailboxes keep their files during a play: a folder that goes with it, and disks that can fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from protocols.limits.simulation import REAL_DISK_BYTES

__all__ = ["BALLAST", "FOLDER_PREFIX", "Disk", "DiskError", "scratch_folder"]

FOLDER_PREFIX: Final = "mailboxd-real-"
BALLAST: Final = "ballast"
"""The file that fills a disk."""
_FILL_BYTES: Final = 1 << 20
_MOUNTS: Final = Path("/proc/mounts")


class DiskError(Exception):
    """There is no such disk here; the message is fit for a user."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that is removed at the end. What plays have left that were killed goes first."""
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        pid = path.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _remove(path)
    made = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    try:
        yield made
    finally:
        _remove(made)


def _remove(path: Path) -> None:
    mounted = [line.split()[1] for line in _MOUNTS.read_text().splitlines()]
    for mount in mounted:
        if Path(mount).parent == path:
            _unmount(Path(mount))
    shutil.rmtree(path, ignore_errors=True)


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)


class Disk:
    """A small file system in memory that can be filled up. A context manager: it is unmounted at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ballast = path / BALLAST
        self.is_full = False

    def __enter__(self) -> Disk:
        self._path.mkdir()
        options = f"size={REAL_DISK_BYTES},mode=700"
        words = ["mount", "-t", "tmpfs", "-o", options, "mailboxd", str(self._path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DiskError(f"no file system of its own for {self._path.name}: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        _unmount(self._path)

    def fill(self) -> None:
        """Takes all the room that is left."""
        self.is_full = True
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(_FILL_BYTES))

    def free(self) -> None:
        """Gives it back."""
        self.is_full = False
        self._ballast.unlink(missing_ok=True)
