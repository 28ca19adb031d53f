"""The checks of this machine alone: program, data directory, disk, limits, clock. They block, and touch no network."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import shutil
import sqlite3
import stat
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from node.datadir import CONFIG_FILE, IDENTITY_FILE, TOKEN_FILE
from node.doctor.findings import Finding, good, note, problem, skipped
from node.identity import Identity, IdentityError, IdentityMissing
from protocols.limits.data import CLOCK_PLAUSIBLE_FROM_S
from protocols.limits.http import FILES_BESIDE_HTTP, HTTP_CONNECTIONS_MAX
from protocols.limits.store import DISK_RESERVE_BYTES
from protocols.limits.tools import DOCTOR_DISK_LOW_BYTES, DOCTOR_FSYNC_ROUNDS, DOCTOR_FSYNC_SLOW_S

__all__ = [
    "check_clock",
    "check_data_dir",
    "check_disk_space",
    "check_disk_speed",
    "check_files",
    "check_program",
    "judge_fsync",
]

_SQLITE_MIN: Final = (3, 35, 0)  # RETURNING
_MIB: Final = 1024 * 1024
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES: Final = 256  # struct timex has 208 on 64-bit Linux, 128 on 32-bit


def check_program(running_version: str | None) -> Finding:
    """Versions of Python, SQLite and ourselves; `running_version` is that of the mailbox that runs, if one does."""
    version = importlib.metadata.version("mailboxd")
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        needed = ".".join(map(str, _SQLITE_MIN))
        return problem(
            "versions",
            f"SQLite {sqlite3.sqlite_version} is too old",
            f"use a Python whose SQLite is {needed} or newer",
        )
    if running_version is not None and running_version != version:
        return problem(
            "versions",
            f"mailboxd {version} is installed, but {running_version} is running",
            "restart the mailbox, so that it is the version that is installed",
        )
    python = ".".join(map(str, sys.version_info[:3]))
    return good("versions", f"mailboxd {version}, Python {python}, SQLite {sqlite3.sqlite_version}")


def check_data_dir(path: Path) -> Finding:
    """Whether the data directory can be used, and is closed to other users of the machine."""
    check = "data directory"
    if not path.exists():
        return note(check, f"{path} is not there yet; `mailboxd run` makes it")
    if not path.is_dir():
        return problem(check, f"{path} is not a directory", "choose another one with --data-dir")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK) or _is_read_only(path):
        return problem(
            check, f"{path} can't be written", f"make it yours (chown), or choose another one: owner is {_owner(path)}"
        )
    try:
        identity = Identity.load(path / IDENTITY_FILE)
    except IdentityMissing:
        return good(check, f"{path}, no identity yet")
    except IdentityError as error:
        return problem(check, str(error), "the mailbox does not start without it")
    token = path / TOKEN_FILE
    if token.exists() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        return problem(check, f"other users of this machine can read {token}", f"chmod 600 '{token}', then restart")
    written = " with a config.toml" if (path / CONFIG_FILE).exists() else ""
    return good(check, f"{path}{written}, mailbox {identity.mailbox_id}")


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def check_disk_space(path: Path, *, limit_bytes: int | None, held_bytes: int) -> Finding:
    """Whether what the mailbox may still store fits on the disk. `held_bytes` is what it holds now."""
    place = _existing(path)
    free = shutil.disk_usage(place).free
    text = f"{free // _MIB:,} MiB are free at {place}"
    files = os.statvfs(place)
    if files.f_files and files.f_favail < FILES_BESIDE_HTTP:
        return problem("disk space", f"no more files fit on the disk of {place}", "delete files there")
    if free <= DISK_RESERVE_BYTES:
        return problem("disk space", f"{text}: nothing more is stored", "make room, or move the data directory")
    if limit_bytes is not None and free < limit_bytes - held_bytes:
        missing = (limit_bytes - held_bytes - free) // _MIB
        return note(
            "disk space", f"{text}, {missing:,} MiB less than the storage limit promises", "lower --storage-limit"
        )
    if free < DOCTOR_DISK_LOW_BYTES:
        return note("disk space", text, "make room, or set --storage-limit")
    return good("disk space", text)


def check_disk_speed(path: Path) -> Finding:
    """How long the disk takes until it promises that a page is safe: every store waits for that."""
    check = "disk speed"
    try:
        seconds = _fsync_s(_existing(path))
    except OSError as error:
        return problem(
            check, f"nothing can be written there: {error.strerror}", "see `disk space`, or choose another disk"
        )
    return judge_fsync(seconds)


def judge_fsync(seconds: float) -> Finding:
    """The finding for a median of `seconds` for one durable write."""
    text = f"a durable write takes {seconds * 1000:.1f} ms"
    if seconds > DOCTOR_FSYNC_SLOW_S:
        return note("disk speed", f"{text}: phones will feel it", "use another disk or a better SD card")
    return good("disk speed", text)


def _fsync_s(place: Path) -> float:
    took = []
    with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as file:
        for _ in range(DOCTOR_FSYNC_ROUNDS):
            began = time.perf_counter()
            file.write(os.urandom(4096))
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _existing(path: Path) -> Path:
    """The directory itself, or the nearest above it that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())


def check_files() -> Finding:
    """Whether the mailbox may open as many files and connections as it is made for. It raises its own soft limit."""
    if sys.platform == "win32":
        return skipped("open files", "this system has no such limit")
    import resource  # noqa: PLC0415 - not on every system

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = HTTP_CONNECTIONS_MAX + FILES_BESIDE_HTTP
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return problem(
            "open files",
            f"this system allows a program {hard} open files, which is {wanted - hard} too few for all connections",
            f"raise it to {wanted} (`ulimit -Hn`, /etc/security/limits.conf, or LimitNOFILE= of a service)",
        )
    return good("open files", f"at least {wanted} are allowed")


def check_clock() -> Finding:
    """Whether the date can be right, and whether the system says that something keeps it so."""
    now = time.time()
    if now < CLOCK_PLAUSIBLE_FROM_S:
        date = time.strftime("%Y-%m-%d", time.gmtime(now))
        return problem("clock", f"this machine's date is {date}", "set the clock, then restart the mailbox")
    if _is_synchronised() is False:
        return note(
            "clock",
            "nothing keeps this machine's clock right as far as the system knows",
            "switch on time synchronisation where there is internet; without it compare the clock now and then",
        )
    return good("clock", "the date is plausible")


def _is_synchronised() -> bool | None:
    """What the Linux kernel says of its clock; None where it can't be asked."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _TIME_ERROR
