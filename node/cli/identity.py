"""`mailboxd identity`."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import data_dir_option
from node.cli.output import print_json
from node.cli.program import fail
from node.datadir import IDENTITY_FILE, DataDirError, NodeInfo, NotRunning, default_data_dir, read_node_info
from node.identity import Identity, IdentityError

__all__ = ["identity"]


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def identity(data_dir: Path | None, as_json: bool) -> None:
    """Show who this mailbox is and how others reach it.

    Works also when the mailbox is not running (then without addresses). Makes nothing: a mailbox gets its identity at
    its first `mailboxd run`.

    \b
    Examples:
      mailboxd identity
      mailboxd identity --json
    """
    path = data_dir or default_data_dir()
    try:
        own = Identity.load(path / IDENTITY_FILE)
    except IdentityError as error:
        fail(str(error))
    info = _running(path)
    p2p = list(info.p2p) if info else []
    if as_json:
        names = {"mailbox_id": str(own.mailbox_id), "peer_id": own.peer_id, "https_pin": own.mailbox_id.key_pin}
        print_json({**names, "running": info is not None, "p2p": p2p})
        return
    click.echo(f"mailbox id  {own.mailbox_id}\npeer id     {own.peer_id}\nhttps pin   {own.mailbox_id.key_pin}")
    for label, address in zip(["addresses", *[""] * len(p2p)], p2p, strict=False):
        click.echo(f"{label:<10}  {address}")
    if info is None:
        click.echo("not running, so it has no addresses now")


def _running(path: Path) -> NodeInfo | None:
    try:
        return read_node_info(path)
    except NotRunning:
        return None
    except DataDirError as error:
        fail(str(error))
