"""The tray's menu does what it says to a real mailbox. The icon itself is tried where pystray is installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from node.service import tray as tray_module
from node.service.manager import service_manager
from node.service.tray import Tray
from tests.mailboxes import MailboxProcess, clean_environment, eventually


def no_service(command: Sequence[str], _within_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(command, 1, "", "there is no service")


def tray_of(data_dir: Path, home: Path) -> Tray:
    return Tray(data_dir, service_manager(data_dir, platform="linux", home=home, run=no_service))


def test_status_dashboard_pause_and_quit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with MailboxProcess(tmp_path / "data", "--no-mdns", "--p2p", "127.0.0.1:0") as mailbox:
        tray = tray_of(mailbox.data_dir, tmp_path)
        assert mailbox.store("t", "l", {0: b"x"}) == 201
        assert tray.look() == ("running", "messages: 1; no other mailbox here")
        assert tray.toggle_text == "Pause"
        assert tray.toggle().state == "paused"
        assert tray.toggle_text == "Go on"
        eventually(lambda: mailbox.status()["messages"] == 1)  # the administration goes on
        assert tray.toggle().state == "running"
        tray.open_dashboard()
        assert opened[0].startswith(mailbox.info["admin"])
        tray.stop()
        assert mailbox.wait() == 0
        assert tray.look() == ("stopped", "not running")
        assert tray.toggle_text == "Start"
        assert "there is no service" in tray.toggle().text
        tray.stop()
        tray.open_dashboard()
        assert len(opened) == 1


def test_without_the_extra_it_says_so(tmp_path: Path) -> None:
    program = "import sys\nsys.modules['pystray'] = None\nimport importlib.util\nfrom node.cli.program import main\n"
    program += "importlib.util.find_spec = lambda name: None\nmain(['tray', '--data-dir', sys.argv[1]])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert f"{sys.executable} -m pip install pillow pystray wakepy" in done.stderr


@pytest.mark.skipif(not tray_module.can_show(), reason="needs pystray and Pillow")
def test_the_icon_has_its_menu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pystray's own backend for places without a screen."""
    monkeypatch.setenv("PYSTRAY_BACKEND", "dummy")
    for name in [name for name in sys.modules if name.startswith("pystray")]:
        monkeypatch.delitem(sys.modules, name)
    assert importlib.import_module("pystray").Icon.__module__.startswith("pystray")
    tray = tray_of(tmp_path, tmp_path)
    icon = tray_module.icon_of(tray)
    tray.look()
    tray_module.refresh(icon, tray)
    texts = [str(item.text) for item in icon.menu.items]
    assert texts[0] == "not running"
    assert {"Open dashboard", "Start", "Stop the mailbox and quit"} <= set(texts)
    assert icon.title == "mailboxd: not running"
    assert tray_module.picture("running").getpixel((32, 45)) == (46, 125, 50, 255)


@pytest.mark.skipif(not tray_module.can_show(), reason="needs pystray and Pillow")
def test_without_a_desktop_it_is_one_line(tmp_path: Path) -> None:
    environment = {
        key: value for key, value in clean_environment().items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    command = [sys.executable, "-m", "node.cli", "tray", "--data-dir", os.fspath(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no desktop to show it on" in done.stderr
