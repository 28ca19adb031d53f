"""Installs a mailbox as a service of the user, with what the system has: systemd, launchd, or the Task Scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.service.units import LAUNCHD_LABEL, launchd_agent, systemd_unit, windows_task

__all__ = ["Manager", "ServiceError", "service_manager"]

_UNIT: Final = "mailboxd.service"
_TASK: Final = "mailboxd"
_COMMAND_TIMEOUT_S: Final = 120.0

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class ServiceError(Exception):
    """The service manager did not do it; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Manager:
    """One system's service manager. `file` is what it reads, `content` what would be written there; `None`: it keeps
    its own copy. The commands are run one after the other; those that unload come first if the service is there."""

    name: str
    file: Path | None
    content: bytes
    unload_commands: Sequence[Sequence[str]]
    install_commands: Sequence[Sequence[str]]
    uninstall_commands: Sequence[Sequence[str]]
    start_command: Sequence[str]
    stop_command: Sequence[str]
    active_command: Sequence[str]
    hint: str
    run: Run

    def install(self) -> None:
        """Writes the service and starts it, now and at every login. May be repeated. Raises ServiceError."""
        if self.file is None:
            self._install_by_copy()
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(self.content)
        except OSError as error:
            raise ServiceError(f"{self.file} can't be written: {error.strerror}") from None
        if self.is_active():
            for command in self.unload_commands:
                self._do(command)
        for command in self.install_commands:
            self._do(command)

    def _install_by_copy(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "mailboxd.xml"
            file.write_bytes(self.content)
            for command in self.install_commands:
                self._do([str(file) if word == "FILE" else word for word in command])

    def uninstall(self) -> bool:
        """Stops and removes the service; its data stays. False if there was none. Raises ServiceError."""
        if not self.is_installed():
            return False
        for command in self.uninstall_commands:
            self._do(command)
        if self.file is not None:
            self.file.unlink(missing_ok=True)
        return True

    def is_installed(self) -> bool:
        """Whether the service is there, as this or an older version wrote it."""
        return self.is_active() if self.file is None else self.file.exists()

    def is_current(self) -> bool:
        """Whether the service is as this version would write it."""
        return self.file is None or (self.file.exists() and self.file.read_bytes() == self.content)

    def is_active(self) -> bool:
        """Whether the manager says that it runs."""
        try:
            return self.run(self.active_command).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def start(self) -> None:
        """Raises ServiceError."""
        self._do(self.start_command)

    def stop(self) -> None:
        """Until the next login, or `start`. Raises ServiceError."""
        self._do(self.stop_command)

    def _do(self, command: Sequence[str]) -> None:
        try:
            done = self.run(command)
        except FileNotFoundError:
            raise ServiceError(
                f"there is no {command[0]} here, so {self.name} can't be told; start it by hand"
            ) from None
        except (OSError, subprocess.SubprocessError) as error:
            raise ServiceError(f"`{' '.join(command)}` failed: {error}") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise ServiceError(f"`{' '.join(command)}` failed: {said[-1]}")


def service_manager(
    data_dir: Path, *, platform: str = sys.platform, home: Path | None = None, run: Run | None = None
) -> Manager:
    """That of this platform, for the mailbox in `data_dir`. Nothing is touched yet."""
    home, run = home or Path.home(), run or _run
    command = [*_program(), "run", "--data-dir", str(data_dir.absolute())]
    if platform == "darwin":
        return _launchd(command, home, data_dir, run)
    if platform == "win32":
        return _windows(command, run)
    return _systemd(command, home, run)


def _systemd(command: Sequence[str], home: Path, run: Run) -> Manager:
    control = ["systemctl", "--user"]
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Manager(
        name="systemd",
        file=config / "systemd" / "user" / _UNIT,
        content=systemd_unit(command).encode(),
        unload_commands=[],
        install_commands=[[*control, "daemon-reload"], [*control, "enable", _UNIT], [*control, "restart", _UNIT]],
        uninstall_commands=[[*control, "disable", "--now", _UNIT]],
        start_command=[*control, "start", _UNIT],
        stop_command=[*control, "stop", _UNIT],
        active_command=[*control, "is-active", "--quiet", _UNIT],
        hint="to have it run while nobody is logged in: loginctl enable-linger",
        run=run,
    )


def _launchd(command: Sequence[str], home: Path, data_dir: Path, run: Run) -> Manager:
    file = home / "Library" / "LaunchAgents" / f"{LAUNCHD_LABEL}.plist"
    domain = f"gui/{os.getuid()}" if hasattr(os, "getuid") else "gui"
    bootstrap, bootout = (
        ["launchctl", "bootstrap", domain, str(file)],
        ["launchctl", "bootout", f"{domain}/{LAUNCHD_LABEL}"],
    )
    return Manager(
        name="launchd",
        file=file,
        content=launchd_agent(command, data_dir.absolute() / "mailboxd.log"),
        unload_commands=[bootout],  # it refuses an agent that is loaded already
        install_commands=[bootstrap],
        uninstall_commands=[bootout],
        start_command=bootstrap,
        stop_command=bootout,
        active_command=["launchctl", "print", f"{domain}/{LAUNCHD_LABEL}"],
        hint="it runs while you are logged in",
        run=run,
    )


def _windows(command: Sequence[str], run: Run) -> Manager:
    return Manager(
        name="the Task Scheduler",
        file=None,
        content=windows_task(command),
        unload_commands=[],
        install_commands=[
            ["schtasks", "/Create", "/F", "/TN", _TASK, "/XML", "FILE"],
            ["schtasks", "/Run", "/TN", _TASK],
        ],
        uninstall_commands=[["schtasks", "/End", "/TN", _TASK], ["schtasks", "/Delete", "/F", "/TN", _TASK]],
        start_command=["schtasks", "/Run", "/TN", _TASK],
        stop_command=["schtasks", "/End", "/TN", _TASK],
        active_command=["schtasks", "/Query", "/TN", _TASK],
        hint="it runs while you are logged in",
        run=run,
    )


def _program() -> list[str]:
    """How this very installation is started."""
    script = Path(sys.executable).with_name("mailboxd")
    return [str(script)] if script.exists() else [sys.executable, "-m", "mailboxd"]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S)
