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

from node.service.units import (
    LAUNCHD_LABEL,
    agent_is_disabled,
    agent_word,
    launchd_agent,
    systemd_unit,
    systemd_word,
    task_is_enabled,
    task_word,
    windows_task,
)
from protocols.limits.tools import SERVICE_ANSWER_S, SERVICE_COMMAND_S

__all__ = ["Manager", "ServiceError", "service_manager"]

_UNIT: Final = "mailboxd.service"
_TASK: Final = "mailboxd"

Run = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]
"""Runs a command for at most so many seconds; raises OSError or SubprocessError."""


class ServiceError(Exception):
    """The service manager did not do it; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Manager:
    """One system's service manager. `file` is what it reads, `content` what would be written there; `None`: it keeps
    its own copy, which `copy_command` and the path of a file bring it. `mark` stands in it if it is for the mailbox in
    this data directory. The commands are run one after the other; those that unload come first if the service is there.
    What `state_command` says, `is_enabled` reads."""

    name: str
    file: Path | None
    content: bytes
    mark: str
    copy_command: Sequence[str]
    unload_commands: Sequence[Sequence[str]]
    enable_commands: Sequence[Sequence[str]]
    disable_commands: Sequence[Sequence[str]]
    install_commands: Sequence[Sequence[str]]
    uninstall_commands: Sequence[Sequence[str]]
    start_command: Sequence[str]
    stop_command: Sequence[str]
    active_command: Sequence[str]
    state_command: Sequence[str]
    is_enabled: Callable[[str], bool]
    hint: str
    run: Run

    def install(self) -> None:
        """Writes the service and starts it, now and at every login. May be repeated. Raises ServiceError."""
        self._write()
        if self.file is not None and self.is_active():
            for command in self.unload_commands:
                self._do(command)
        for command in (*self.enable_commands, *self.install_commands):
            self._do(command)

    def set_at_login(self, is_on: bool) -> None:
        """Has the mailbox started at every login, or not any more. What runs goes on, and nothing is started. Raises
        ServiceError."""
        if is_on:
            self._write()
        for command in self.enable_commands if is_on else self.disable_commands:
            self._do(command)

    def is_at_login(self) -> bool:
        """Whether the mailbox is started at login. Raises ServiceError where nobody can tell, or where it is the one in
        another directory that is started."""
        if self.file is None:
            kept = self._said(self.state_command) if self.is_installed() else ""
            is_on = bool(kept) and self.is_enabled(kept)
        else:
            is_on = self.is_enabled(self._said(self.state_command)) and self.file.exists()
            kept = self.file.read_text("utf-8", "replace") if is_on else ""
        if is_on and self.mark not in kept:
            raise ServiceError(
                "the mailbox in another directory is started at login already; `mailboxd service uninstall` ends that"
            )
        return is_on

    def _write(self) -> None:
        """Puts the service where the manager reads it."""
        if self.file is None:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "mailboxd.xml"
                copy.write_bytes(self.content)
                self._do([*self.copy_command, str(copy)])
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(self.content)
        except OSError as error:
            raise ServiceError(f"{self.file} can't be written: {error.strerror}") from None

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
            return self.run(self.active_command, SERVICE_ANSWER_S).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def start(self) -> None:
        """Raises ServiceError."""
        self._do(self.start_command)

    def stop(self) -> None:
        """Until the next login, or `start`. Raises ServiceError."""
        self._do(self.stop_command)

    def _do(self, command: Sequence[str], *, within_s: float = SERVICE_COMMAND_S) -> str:
        try:
            done = self.run(command, within_s)
        except FileNotFoundError:
            raise ServiceError(
                f"there is no {command[0]} here, so {self.name} can't be told; start it by hand"
            ) from None
        except (OSError, subprocess.SubprocessError) as error:
            raise ServiceError(f"`{' '.join(command)}` failed: {error}") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise ServiceError(f"`{' '.join(command)}` failed: {said[-1]}")
        return done.stdout

    def _said(self, command: Sequence[str]) -> str:
        """What it answers to a question. Raises ServiceError."""
        try:
            return self._do(command, within_s=SERVICE_ANSWER_S)
        except ServiceError as error:
            if isinstance(error.__context__, FileNotFoundError):
                raise
            raise ServiceError(f"{self.name} does not answer here ({str(error).rpartition('` failed: ')[2]})") from None


def service_manager(
    data_dir: Path, *, platform: str = sys.platform, home: Path | None = None, run: Run | None = None
) -> Manager:
    """That of this platform, for the mailbox in `data_dir`. Nothing is touched yet."""
    home, run = home or Path.home(), run or _run
    command = [*_program(), "run", "--data-dir", str(data_dir.absolute())]
    if platform == "darwin":
        return _launchd(command, home, data_dir.absolute(), run)
    if platform == "win32":
        return _windows(command, data_dir.absolute(), run)
    return _systemd(command, home, data_dir.absolute(), run)


def _systemd(command: Sequence[str], home: Path, data_dir: Path, run: Run) -> Manager:
    control = ["systemctl", "--user"]
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Manager(
        name="systemd",
        file=config / "systemd" / "user" / _UNIT,
        content=systemd_unit(command).encode(),
        mark=systemd_word(str(data_dir)),
        copy_command=[],
        unload_commands=[],
        enable_commands=[[*control, "daemon-reload"], [*control, "enable", _UNIT]],
        disable_commands=[[*control, "disable", _UNIT]],
        install_commands=[[*control, "restart", _UNIT]],
        uninstall_commands=[[*control, "disable", "--now", _UNIT]],
        start_command=[*control, "start", _UNIT],
        stop_command=[*control, "stop", _UNIT],
        active_command=[*control, "is-active", "--quiet", _UNIT],
        state_command=[*control, "show", "--property=UnitFileState", "--value", _UNIT],
        is_enabled=lambda said: said.strip() == "enabled",
        hint="to have it run while nobody is logged in: `loginctl enable-linger`",
        run=run,
    )


def _launchd(command: Sequence[str], home: Path, data_dir: Path, run: Run) -> Manager:
    file = home / "Library" / "LaunchAgents" / f"{LAUNCHD_LABEL}.plist"
    domain = f"gui/{os.getuid()}" if hasattr(os, "getuid") else "gui"
    agent = f"{domain}/{LAUNCHD_LABEL}"
    bootstrap, bootout = ["launchctl", "bootstrap", domain, str(file)], ["launchctl", "bootout", agent]
    return Manager(
        name="launchd",
        file=file,
        content=launchd_agent(command, data_dir / "mailboxd.log"),
        mark=agent_word(str(data_dir)),
        copy_command=[],
        unload_commands=[bootout],  # it refuses an agent that is loaded already
        # It loads whatever lies in the folder at login, unless that was disabled; neither touches what runs.
        enable_commands=[["launchctl", "enable", agent]],
        disable_commands=[["launchctl", "disable", agent]],
        install_commands=[bootstrap],
        uninstall_commands=[bootout],
        start_command=bootstrap,
        stop_command=bootout,
        active_command=["launchctl", "print", agent],
        state_command=["launchctl", "print-disabled", domain],
        is_enabled=lambda said: not agent_is_disabled(said),
        hint="it runs while you are logged in",
        run=run,
    )


def _windows(command: Sequence[str], data_dir: Path, run: Run) -> Manager:
    return Manager(
        name="the Task Scheduler",
        file=None,
        content=windows_task(command),
        mark=task_word(str(data_dir)),
        copy_command=["schtasks", "/Create", "/F", "/TN", _TASK, "/XML"],
        unload_commands=[],
        enable_commands=[],  # a task is enabled when it is made
        disable_commands=[["schtasks", "/Change", "/TN", _TASK, "/DISABLE"]],
        install_commands=[["schtasks", "/Run", "/TN", _TASK]],
        uninstall_commands=[["schtasks", "/End", "/TN", _TASK], ["schtasks", "/Delete", "/F", "/TN", _TASK]],
        start_command=["schtasks", "/Run", "/TN", _TASK],
        stop_command=["schtasks", "/End", "/TN", _TASK],
        active_command=["schtasks", "/Query", "/TN", _TASK],
        state_command=["schtasks", "/Query", "/TN", _TASK, "/XML"],
        is_enabled=task_is_enabled,
        hint="it runs while you are logged in",
        run=run,
    )


def _program() -> list[str]:
    """How this very installation is started."""
    script = Path(sys.executable).with_name("mailboxd")
    return [str(script)] if script.exists() else [sys.executable, "-m", "mailboxd"]


def _run(command: Sequence[str], within_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=within_s)
