"""The tray icon: how the mailbox is, its dashboard, pause, and quit. Needs the extra `desktop` (pystray, Pillow).

`Tray` knows what is to be shown and done, and nothing of windows; `show` gives it to pystray.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import threading
import webbrowser
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from node.datadir import DataDirError, running_pid
from node.http.client import AdminClient, ClientError
from node.service.manager import Manager, ServiceError
from protocols.limits.tools import TRAY_LOOK_S

__all__ = ["Sight", "Tray", "can_show", "show"]

_COLOURS: Final = {"running": "#2e7d32", "paused": "#b26a00", "stopped": "#757575"}
_PIXELS: Final = 64


class Sight(NamedTuple):
    """How the mailbox is: `running`, `paused` or `stopped`, and one line about it."""

    state: str
    text: str


class Tray:
    """What the icon's menu shows and does, for the mailbox in `data_dir`. No method raises."""

    def __init__(self, data_dir: Path, manager: Manager) -> None:
        self._data_dir = data_dir
        self._manager = manager
        self.sight = Sight("stopped", "looking …")

    def look(self) -> Sight:
        """Asks the mailbox how it is; returns and keeps that."""
        try:
            with AdminClient.open(self._data_dir) as client:
                status, settings = client.status(), client.get("/admin/settings")
        except (ClientError, DataDirError) as error:
            self.sight = Sight("stopped", "not running" if running(self._data_dir) is None else str(error))
            return self.sight
        states = Counter(str(peer["state"]) for peer in status["peers"])
        around = f"mailboxes in sync: {states['in-sync']} of {states.total()}" if states else "no other mailbox here"
        held = f"messages: {status['messages']:,}"
        paused = settings["paused"]["value"] is True
        self.sight = Sight("paused" if paused else "running", f"paused; {held}" if paused else f"{held}; {around}")
        return self.sight

    def open_dashboard(self) -> None:
        """Opens the dashboard in the browser."""
        with contextlib.suppress(ClientError, DataDirError), AdminClient.open(self._data_dir) as client:
            webbrowser.open(client.dashboard_link())

    def toggle(self) -> Sight:
        """Pauses a running mailbox, lets a paused one go on, starts a stopped one if it is a service."""
        try:
            if self.look().state == "stopped":
                self._manager.start()
            else:
                with AdminClient.open(self._data_dir) as client:
                    client.post("/admin/settings", {"paused": self.sight.state == "running"})
        except (ClientError, DataDirError, ServiceError) as error:
            self.sight = Sight(self.sight.state, str(error))
            return self.sight
        return self.look()

    def stop(self) -> None:
        """Stops the mailbox: by the service manager if it started it, so that it stays stopped."""
        if self._manager.is_active():
            with contextlib.suppress(ServiceError):
                self._manager.stop()
            return
        pid = running(self._data_dir)
        if pid:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    @property
    def toggle_text(self) -> str:
        """What `toggle` would do now."""
        return {"running": "Pause", "paused": "Go on"}.get(self.sight.state, "Start")


def running(data_dir: Path) -> int | None:
    """The process of the mailbox in `data_dir`, None if none runs or it can't be told."""
    try:
        return running_pid(data_dir)
    except DataDirError:
        return None


def can_show() -> bool:
    """Whether the libraries are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("pystray", "PIL"))


def icon_of(tray: Tray) -> Any:
    """The icon, not shown yet. Raises what pystray raises without a desktop."""
    pystray = importlib.import_module("pystray")
    item = pystray.MenuItem

    def toggle(icon: Any, _item: Any) -> None:
        tray.toggle()
        refresh(icon, tray)

    def stop(icon: Any, _item: Any) -> None:
        tray.stop()
        icon.stop()

    menu = pystray.Menu(
        item(lambda _item: tray.sight.text, None, enabled=False),
        pystray.Menu.SEPARATOR,
        item("Open dashboard", lambda _icon, _item: tray.open_dashboard(), default=True),
        item(lambda _item: tray.toggle_text, toggle),
        pystray.Menu.SEPARATOR,
        item("Close this icon", lambda icon, _item: icon.stop()),
        item("Stop the mailbox and quit", stop),
    )
    return pystray.Icon("mailboxd", picture(tray.sight.state), "mailboxd", menu)


def refresh(icon: Any, tray: Tray) -> None:
    """Shows what `tray` saw last."""
    icon.icon = picture(tray.sight.state)
    icon.title = f"mailboxd: {tray.sight.text}"
    with contextlib.suppress(NotImplementedError):  # backends without a menu of their own
        icon.update_menu()


def show(tray: Tray) -> None:
    """Shows the icon until it is closed. Raises what pystray raises without a desktop."""
    icon = icon_of(tray)
    closed = threading.Event()

    def watch(icon: Any) -> None:
        icon.visible = True
        while not closed.is_set():
            tray.look()
            refresh(icon, tray)
            closed.wait(TRAY_LOOK_S)

    try:
        icon.run(setup=watch)
    finally:
        closed.set()


def picture(state: str) -> Any:
    """An envelope in the colour of the state."""
    drawing, image = (importlib.import_module(f"PIL.{name}") for name in ("ImageDraw", "Image"))
    canvas = image.new("RGBA", (_PIXELS, _PIXELS), (0, 0, 0, 0))
    pen = drawing.Draw(canvas)
    pen.rounded_rectangle((4, 14, 60, 50), radius=6, fill=_COLOURS[state])
    pen.line((8, 19, 32, 36, 56, 19), fill="white", width=4, joint="curve")
    return canvas
