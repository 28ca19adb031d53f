"""`mailboxd tray`."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import data_dir_option
from node.cli.program import fail
from node.datadir import default_data_dir
from node.service.extras import DESKTOP, how_to_get
from node.service.manager import service_manager
from node.service.tray import Tray, can_show, show

__all__ = ["tray"]


@click.command()
@data_dir_option()
def tray(data_dir: Path | None) -> None:
    """Show an icon in the tray: how the mailbox is, its dashboard, pause and quit.

    It needs a desktop, and the extra `desktop`; on Linux a menu needs GTK (python3-gi), without it a click opens the
    dashboard. The mailbox runs without it; have it started at login by your desktop
    if you like it.

    \b
    Examples:
      mailboxd tray
    """
    if not can_show():
        fail(f"this needs libraries (extra `desktop`): {how_to_get(*DESKTOP)}")
    directory = data_dir or default_data_dir()
    try:
        show(Tray(directory, service_manager(directory)))
    except Exception as error:  # each of pystray's backends has errors of its own
        fail(f"there is no desktop to show it on ({str(error) or type(error).__name__}); run it in a graphical session")
