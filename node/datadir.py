"""The data directory: made with 0700, held by one process at a time, and written so that a crash leaves no half files.

What lies in it: `lock` (held with flock while a mailbox runs; its pid inside), `identity.key` (see `node.identity`),
`node.json` (where a running mailbox can be reached), `p2p-port` and `admin-port` (the ports to come back to),
`config.toml` (the user's), `password.key`, `trust.json` and `devices.json` (see `node.admission.files`), and what the
store and the administration keep there.

A `node.json` is only as true as the lock: after a crash the file is still there but nobody holds the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

__all__ = [
    "CONFIG_FILE",
    "DEVICES_FILE",
    "IDENTITY_FILE",
    "NODE_FILE",
    "PASSWORD_FILE",
    "PINS_FILE",
    "STORE_FILE",
    "TOKEN_FILE",
    "TOY_LEDGER_FILE",
    "TRUST_FILE",
    "DataDir",
    "DataDirError",
    "NodeInfo",
    "NotRunning",
    "default_data_dir",
    "read_node_info",
    "running_pid",
    "write_file",
    "write_new_file",
]

LOCK_FILE: Final = "lock"
IDENTITY_FILE: Final = "identity.key"
NODE_FILE: Final = "node.json"
PORT_FILE: Final = "p2p-port"
ADMIN_PORT_FILE: Final = "admin-port"
CONFIG_FILE: Final = "config.toml"
STORE_FILE: Final = "mailbox.sqlite3"
TOKEN_FILE: Final = "admin-token"
TOY_LEDGER_FILE: Final = "plain-peers.sqlite3"
PASSWORD_FILE: Final = "password.key"
TRUST_FILE: Final = "trust.json"
PINS_FILE: Final = "pins.json"
DEVICES_FILE: Final = "devices.json"

_TEMP_PREFIX: Final = ".mailboxd-new-"
_SMALL_FILE_BYTES_MAX: Final = 64 * 1024
# A command that looks whether a mailbox runs holds a shared lock for an instant; whoever starts waits that long.
_LOCK_PATIENCE_S: Final = 1.0
_LOCK_RETRY_S: Final = 0.02


class DataDirError(Exception):
    """The data directory can't be used; the message is one line that says what to do."""


class NotRunning(DataDirError):
    """No mailbox runs on this data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What stands in `node.json`: how a running mailbox is reached from this machine."""

    pid: int
    version: str
    mailbox_id: str
    peer_id: str
    http: tuple[str, ...]
    p2p: tuple[str, ...]
    admin: str
    https: tuple[str, ...] = ()

    def to_json(self) -> str:
        fields = asdict(self)
        if not self.https:
            del fields["https"]
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> NodeInfo:
        """Raises ValueError if it is not what `to_json` writes; unknown fields are ignored."""
        try:
            fields = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        strings = {key: fields.get(key) for key in ("version", "mailbox_id", "peer_id", "admin")}
        lists = {key: fields.get(key, default) for key, default in (("http", None), ("p2p", None), ("https", []))}
        pid = fields.get("pid")
        if type(pid) is not int or not all(isinstance(value, str) for value in strings.values()):
            raise ValueError("a field is missing or of the wrong type")
        if not all(isinstance(v, list) and all(isinstance(item, str) for item in v) for v in lists.values()):
            raise ValueError("a list of addresses is missing or of the wrong type")
        known: dict[str, Any] = strings | {key: tuple(value or ()) for key, value in lists.items()}
        return cls(pid=pid, **known)


def default_data_dir() -> Path:
    """Where the platform keeps a user's data, e.g. `~/.local/share/mailboxd`."""
    import platformdirs  # noqa: PLC0415 - only needed where no directory was given

    return Path(platformdirs.user_data_dir("mailboxd", appauthor=False))


class DataDir:
    """A data directory that this process holds. Use as a context manager; leaving it removes `node.json`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Makes the directory if it is missing (0700, parents too) and takes it for this process.

        Raises DataDirError if it can't be made, is no directory, can't be written, or another process holds it.
        """
        try:
            path = path.absolute()  # a later chdir must not move it
        except OSError as error:
            raise DataDirError(_explain(error, path)) from error
        _make(path)
        lock_fd = _take_lock(path)
        data_dir = cls(path, lock_fd)
        try:
            data_dir._remove_leftovers()
        except OSError as error:
            data_dir._release()
            raise DataDirError(_explain(error, path)) from error
        return data_dir

    @property
    def identity_path(self) -> Path:
        return self.path / IDENTITY_FILE

    def write(self, name: str, text: str) -> None:
        """Replaces the file `name` (0600) in one step, durable on return. Raises DataDirError."""
        write_file(self.path / name, text.encode())

    def publish(self, info: NodeInfo) -> None:
        """Writes `node.json`: from now on the commands find this mailbox. Raises DataDirError."""
        self.write(NODE_FILE, info.to_json())

    def saved_p2p_port(self) -> int | None:
        """The port of the last run, None at the first start or if the file is of no use."""
        return self._saved_port(PORT_FILE)

    def saved_admin_port(self) -> int | None:
        """Likewise, of the administration."""
        return self._saved_port(ADMIN_PORT_FILE)

    def _saved_port(self, name: str) -> int | None:
        try:
            text = (self.path / name).read_bytes()[:16].strip()
        except OSError:
            return None
        return int(text) if text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535 else None

    def save_p2p_port(self, port: int) -> None:
        """Keeps the port, so that the addresses that others know stay good. Raises DataDirError."""
        if self.saved_p2p_port() != port:
            self.write(PORT_FILE, f"{port}\n")

    def save_admin_port(self, port: int) -> None:
        """Keeps the port, so that bookmarks of the dashboard, and whoever reads the metrics, find it again. Raises
        DataDirError."""
        if self.saved_admin_port() != port:
            self.write(ADMIN_PORT_FILE, f"{port}\n")

    def close(self) -> None:
        """Removes `node.json` and lets go of the directory. May be called again; never raises."""
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                (self.path / NODE_FILE).unlink(missing_ok=True)
            self._release()

    def __enter__(self) -> DataDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _release(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _remove_leftovers(self) -> None:
        """What a crashed process left behind: its `node.json` and files that were never renamed into place."""
        (self.path / NODE_FILE).unlink(missing_ok=True)
        for leftover in self.path.glob(f"{_TEMP_PREFIX}*"):
            leftover.unlink(missing_ok=True)


def running_pid(path: Path) -> int | None:
    """The pid of the process that holds `path`, 0 if it can't be told, None if nobody holds it.

    Never writes anything. Raises DataDirError if the lock can't be looked at.
    """
    try:
        fd = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataDirError(_explain(error, path)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(fd)
    except OSError as error:
        raise DataDirError(_explain(error, path)) from error
    else:
        return None
    finally:
        os.close(fd)


def read_node_info(path: Path) -> NodeInfo:
    """How the mailbox that runs on `path` is reached.

    Raises NotRunning if none does, or if it is still starting; DataDirError if `node.json` can't be read.
    """
    pid = running_pid(path)
    if pid is None:
        raise NotRunning(f"no mailbox is running on {path}; start one with: mailboxd run --data-dir {path}")
    file = path / NODE_FILE
    try:
        with file.open("rb") as stream:
            raw = stream.read(_SMALL_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise NotRunning(f"the mailbox on {path} (pid {pid}) is still starting or stopping; try again") from None
    except OSError as error:
        raise DataDirError(_explain(error, file)) from error
    try:
        return NodeInfo.from_json(raw.decode())
    except ValueError as error:
        raise DataDirError(f"{file} is damaged ({error}); restart the mailbox (pid {pid})") from None


def write_file(path: Path, content: bytes) -> None:
    """Replaces `path` (0600) in one step, durable on return. Raises DataDirError; then the old file is untouched."""
    _write(path, content, os.replace)


def write_new_file(path: Path, content: bytes) -> None:
    """Makes `path` (0600) in one step, durable on return; never replaces a file that is there.

    Raises FileExistsError, or DataDirError.
    """
    _write(path, content, _place_new)


def _write(path: Path, content: bytes, place: Callable[[str, Path], None]) -> None:
    temp = ""
    try:
        fd, temp = tempfile.mkstemp(prefix=_TEMP_PREFIX, dir=path.parent)  # 0600
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        place(temp, path)
        temp = ""
        _sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise DataDirError(_explain(error, path)) from error
    finally:
        if temp:
            with contextlib.suppress(OSError):
                Path(temp).unlink()


def _place_new(temp: str, path: Path) -> None:
    """Gives `temp` its name unless that is taken. A link is the one atomic way; SD cards with FAT know no links, and
    there a look before the rename must do (the directory's lock keeps others away)."""
    try:
        os.link(temp, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        Path(temp).rename(path)
    else:
        Path(temp).unlink()


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't, and need not
            raise
    finally:
        os.close(fd)


def _make(path: Path) -> None:
    try:
        for folder in [*reversed(path.parents), path]:
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync_directory(folder.parent)
        if not path.is_dir():
            raise DataDirError(f"{path} is not a directory; choose another one with --data-dir")
    except OSError as error:
        raise DataDirError(_explain(error, path)) from error


def _take_lock(path: Path) -> int:
    try:
        fd = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise DataDirError(_explain(error, path)) from error
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_RETRY_S)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        pid = _pid_in(fd)
        os.close(fd)
        who = f"process {pid}" if pid else "another process"
        raise DataDirError(
            f"a mailbox is already running on {path} ({who}); stop it, or choose another directory with --data-dir"
        ) from None
    except OSError as error:
        os.close(fd)
        raise DataDirError(_explain(error, path)) from error
    return fd


def _pid_in(fd: int) -> int:
    try:
        text = os.pread(fd, 16, 0).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


_ADVICE: Final = {
    errno.EACCES: "permission denied; choose another directory with --data-dir, or make it yours with chown",
    errno.EPERM: "permission denied; choose another directory with --data-dir, or make it yours with chown",
    errno.EROFS: "the file system is read-only; choose another directory with --data-dir",
    errno.ENOSPC: "the disk is full; make room, or choose another directory with --data-dir",
    errno.EDQUOT: "your disk quota is used up; make room, or choose another directory with --data-dir",
    errno.ENOTDIR: "a part of the path is not a directory; choose another one with --data-dir",
    errno.ENAMETOOLONG: "the path is too long; choose another directory with --data-dir",
    errno.ELOOP: "the symbolic links go in a circle; choose another directory with --data-dir",
    errno.ENOLCK: "the file system can't lock files; choose a directory on a local disk with --data-dir",
    errno.EISDIR: "there is a directory where a file belongs; move it away",
}


def _explain(error: OSError, path: Path) -> str:
    reason = _ADVICE.get(error.errno or 0) or (error.strerror or str(error))
    return f"{error.filename or path}: {reason}"
