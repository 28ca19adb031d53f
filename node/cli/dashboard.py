"""`mailboxd dashboard`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import click

from node.cli.options import data_dir_option
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir
from node.http.client import AdminClient, ClientError
from protocols.limits.shedding import DASHBOARD_CODE_S

__all__ = ["dashboard"]


@click.command()
@data_dir_option()
@click.option("--print", "only_print", is_flag=True, help="Only print the link, and open no browser.")
def dashboard(data_dir: Path | None, only_print: bool) -> None:
    """Open the dashboard of a running mailbox in the browser.

    Prints a link that lets one browser in, once, within two minutes. The page is this machine's only. On one that
    others use as well take --print: while a browser starts, they can see the link in the list of processes.

    \b
    Examples:
      mailboxd dashboard
      mailboxd dashboard --print
    """
    try:
        with AdminClient.open(data_dir or default_data_dir()) as client:
            link = client.dashboard_link()
    except (ClientError, DataDirError) as error:
        fail(str(error))
    click.echo(link)
    if only_print:
        return
    note = f"good for one browser, for {DASHBOARD_CODE_S / 60:.0f} minutes"
    if _has_screen() and webbrowser.open(link):
        click.echo(f"opened in the browser; the link is {note}", err=True)
    elif "SSH_CONNECTION" in os.environ:
        port = link.removeprefix("http://").partition("/")[0].rpartition(":")[2]
        click.echo(
            f"{note}; the page is this machine's only. From yours, tunnel to it: ssh -L {port}:127.0.0.1:{port} …",
            err=True,
        )
    else:
        click.echo(f"no browser was found here: open the link yourself; it is {note}", err=True)


def _has_screen() -> bool:
    """Whether a browser with a window can be opened; without this, Python might start one in the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
