"""What service managers are told, by its text, and what they are asked to do."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pytest

from node.service.manager import ServiceError, service_manager
from node.service.units import (
    LAUNCHD_LABEL,
    agent_is_disabled,
    launchd_agent,
    systemd_unit,
    task_is_enabled,
    windows_task,
)

ODD = ["/opt/my box/mailboxd", "run", "--data-dir", 'C:\\a b\\"100%" $HOME\\']


class Recorder:
    """Stands for the service manager's commands. `said` is what they print."""

    def __init__(self, *, code: int = 0, stderr: str = "") -> None:
        self.seen: list[list[str]] = []
        self.said = ""
        self._code, self._stderr = code, stderr

    def __call__(self, command: Sequence[str], within_s: float) -> subprocess.CompletedProcess[str]:
        assert within_s > 0
        self.seen.append(list(command))
        return subprocess.CompletedProcess(command, self._code, self.said, self._stderr)


def test_the_unit_says_what_matters() -> None:
    lines = systemd_unit(["/usr/bin/mailboxd", "run"]).splitlines()
    for line in ("Type=notify", "Restart=always", "WatchdogSec=60", "NoNewPrivileges=yes", "WantedBy=default.target"):
        assert line in lines
    assert 'ExecStart="/usr/bin/mailboxd" "run"' in lines


def test_odd_words_stay_words() -> None:
    assert r'"C:\\a b\\\"100%%\" $$HOME\\"' in systemd_unit(ODD)
    assert '"/a\\nExecStartPre=/bin/b"\n' in systemd_unit(["/x", "/a\nExecStartPre=/bin/b"])
    assert plistlib.loads(launchd_agent(ODD, Path("/log")))["ProgramArguments"] == ODD
    task = ElementTree.fromstring(windows_task(ODD).decode("utf-16").split("\n", 1)[1])
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    assert task.findtext(f".//{space}Command") == ODD[0]
    arguments = task.findtext(f".//{space}Arguments")
    assert arguments == r'run --data-dir "C:\a b\\\"100%\" $HOME\\"'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "my 100% box"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "mailboxd.service"
    file.write_text(systemd_unit([str(program), "run", "--data-dir", "/tmp/a $b"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "mailboxd.service" in line]) == (0, [])


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_install_and_uninstall(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    recorder = Recorder()
    manager = service_manager(tmp_path / "data", platform=platform, home=tmp_path / "home", run=recorder)
    if manager.file is not None:
        assert not manager.is_installed()
        assert not manager.uninstall()
    manager.install()
    manager.install()
    assert manager.is_installed()
    assert manager.is_current()
    tools = {"linux": "systemctl", "darwin": "launchctl", "win32": "schtasks"}
    assert {command[0] for command in recorder.seen} == {tools[platform]}
    if manager.file is not None:
        assert str(tmp_path / "data") in manager.file.read_text()
        assert tmp_path / "home" in manager.file.parents
        other = service_manager(tmp_path / "other", platform=platform, home=tmp_path / "home", run=recorder)
        assert other.is_installed()
        assert not other.is_current()
    assert manager.uninstall()
    assert manager.file is None or not manager.file.exists()


def test_launchd_takes_an_agent_anew(tmp_path: Path) -> None:
    """It refuses one that is loaded already."""
    recorder = Recorder()
    service_manager(tmp_path, platform="darwin", home=tmp_path, run=recorder).install()
    assert [command[1] for command in recorder.seen] == ["print", "bootout", "enable", "bootstrap"]
    assert LAUNCHD_LABEL in recorder.seen[1][2]


def test_what_fails_is_one_line(tmp_path: Path) -> None:
    failing = Recorder(code=1, stderr="Warning\nFailed to connect to bus: No medium found\n")
    with pytest.raises(ServiceError, match="daemon-reload` failed: Failed to connect to bus"):
        service_manager(tmp_path, platform="linux", home=tmp_path, run=failing).install()

    def missing(command: Sequence[str], _within_s: float) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    manager = service_manager(tmp_path, platform="linux", home=tmp_path, run=missing)
    with pytest.raises(ServiceError, match="there is no systemctl here"):
        manager.install()
    assert not manager.is_active()


# --- at login --------------------------------------------------------------------------------------------------------

# What each manager says of a service that it starts at login, and of one that it does not start.
SAID = {
    "linux": ("enabled\n", "disabled\n"),
    "darwin": (
        'disabled services = {\n\t"org.other" => disabled\n}\n',
        f'disabled services = {{\n\t"{LAUNCHD_LABEL}" => disabled\n}}\n',
    ),
    "win32": ("  <Settings>", "  <Settings><Enabled>false</Enabled>"),
}


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_at_login_starts_and_stops_nothing(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    recorder = Recorder()
    data = tmp_path / "my data"
    manager = service_manager(data, platform=platform, home=tmp_path / "home", run=recorder)
    is_on, is_off = SAID[platform]
    if platform == "win32":
        task = manager.content.decode("utf-16")
        is_on, is_off = task, task.replace(is_on, is_off)
    recorder.said = "" if platform == "linux" else is_off
    assert not manager.is_at_login()
    manager.set_at_login(True)
    recorder.said = is_on
    assert manager.is_at_login()
    assert service_manager(data, platform=platform, home=tmp_path / "home", run=recorder).is_at_login()
    other = service_manager(tmp_path / "other", platform=platform, home=tmp_path / "home", run=recorder)
    with pytest.raises(ServiceError, match="the mailbox in another directory is started at login already"):
        other.is_at_login()
    manager.set_at_login(False)
    recorder.said = is_off
    assert not manager.is_at_login()
    assert not other.is_at_login()
    words = {word for command in recorder.seen for word in command}
    assert not words & {"start", "restart", "stop", "--now", "bootstrap", "bootout", "/Run", "/End", "/Delete"}
    assert manager.is_installed()  # what runs as a service stays one
    manager.install()  # starts at login again
    enables = {"linux": "enable", "darwin": "enable", "win32": "/Create"}[platform]
    assert any(enables in command for command in recorder.seen[-4:])


def test_what_older_and_other_systems_say() -> None:
    assert agent_is_disabled(f'"{LAUNCHD_LABEL}" => true')
    assert not agent_is_disabled(f'"{LAUNCHD_LABEL}" => false')
    assert not agent_is_disabled(f'"{LAUNCHD_LABEL}" => enabled')
    assert not agent_is_disabled(f'"{LAUNCHD_LABEL}2" => disabled')
    assert not task_is_enabled("")
    assert not task_is_enabled("ERROR: <Task")


def test_at_login_where_there_is_no_service_manager(tmp_path: Path) -> None:
    silent = Recorder(code=1, stderr="Failed to connect to bus: No medium found\n")
    with pytest.raises(ServiceError, match=r"^systemd does not answer here \(Failed to connect to bus"):
        service_manager(tmp_path, platform="linux", home=tmp_path, run=silent).is_at_login()

    def missing(command: Sequence[str], _within_s: float) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    with pytest.raises(ServiceError, match="there is no systemctl here"):
        service_manager(tmp_path, platform="linux", home=tmp_path, run=missing).is_at_login()
