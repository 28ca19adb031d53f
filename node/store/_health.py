"""How the store's disk is: what is wrong with it, as the writer and the readers meet it, and when to look again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from node.store.api import Health, StoreError, Trouble
from protocols.limits.store import PROBE_FIRST_S, PROBE_MAX_S

__all__ = ["FileWatch", "HealthWatch"]

_REMEDIES = {
    Trouble.NONE: "",
    Trouble.FULL: "make room on the disk; it goes on by itself as soon as there is some",
    Trouble.READ_ONLY: "make the disk and the store's file writable; it goes on by itself then",
    Trouble.FAILING: "look after the disk; it goes on by itself as soon as writing works again",
    Trouble.DAMAGED: "stop mailboxd and run `mailboxd verify --repair`; neighbours bring back what is lost",
    Trouble.MISSING: "restart mailboxd: another file has taken the place of the store's",
}


class HealthWatch:
    """What is wrong now. Written by the store's threads, read by anyone: one assignment at a time."""

    def __init__(self) -> None:
        self.now = Health(Trouble.NONE, "", "")
        self._pause_s = PROBE_FIRST_S
        self._probe_at = 0.0

    def failed(self, error: StoreError) -> None:
        """The disk did not do what it was asked for. A refusal for other reasons says nothing about it."""
        if error.trouble is Trouble.NONE:
            return
        if self.now.trouble is Trouble.DAMAGED and error.trouble is not Trouble.DAMAGED:
            return
        if self.now.trouble is not error.trouble:
            self._pause_s = PROBE_FIRST_S
            self._probe_at = time.monotonic() + self._pause_s
        self.now = Health(error.trouble, str(error), _REMEDIES[error.trouble])

    def wrote(self) -> None:
        """Something was made durable: the disk is well, though what is damaged stays so."""
        if self.now.trouble is not Trouble.NONE and self.now.trouble is not Trouble.DAMAGED:
            self.now = Health(Trouble.NONE, "", "")

    @property
    def pause_s(self) -> float | None:
        """How long to wait before looking whether the disk is well again; None if it is, as far as is known."""
        if self.now.trouble in (Trouble.NONE, Trouble.DAMAGED):
            return None
        return max(0.0, self._probe_at - time.monotonic())

    def probed(self) -> None:
        """Somebody is looking now; the next time is later."""
        self._pause_s = min(PROBE_MAX_S, 2 * self._pause_s)
        self._probe_at = time.monotonic() + self._pause_s


@dataclass(slots=True)
class FileWatch:
    """Whether the file that is open still has its name: what is written to one without a name is gone at the end."""

    path: Path
    inode: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> FileWatch:
        """Raises OSError."""
        return cls(path, _inode(path))

    def look(self) -> Trouble:
        """MISSING if another file has taken its place, FAILING if there is none."""
        try:
            return Trouble.NONE if _inode(self.path) == self.inode else Trouble.MISSING
        except FileNotFoundError:
            return Trouble.FAILING
        except OSError:
            return Trouble.NONE  # then the disk will tell


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
