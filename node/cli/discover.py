"""`mailboxd discover`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import DURATION, NETWORK, data_dir_option
from node.cli.output import print_json, table
from node.datadir import IDENTITY_FILE, default_data_dir
from node.identity import Identity, IdentityError
from protocols.model import MailboxId

if TYPE_CHECKING:
    from node.discovery.api import Neighbour

__all__ = ["discover"]


@click.command()
@data_dir_option()
@click.option("--timeout", "timeout_s", type=DURATION, default="3", show_default=True, help="How long to listen.")
@click.option("--network", type=NETWORK, help="Only mailboxes with this tag.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def discover(data_dir: Path | None, timeout_s: float, network: str | None, as_json: bool) -> None:
    """Look for mailboxes on the local network.

    Asks by multicast DNS, as phones do, and lists who answers. Needs no running mailbox and announces nothing. Nothing
    found is no failure: the network may not pass multicast on; then name mailboxes with `mailboxd run --peer`.

    \b
    Examples:
      mailboxd discover
      mailboxd discover --timeout 10 --json
    """
    import trio  # noqa: PLC0415

    from node.discovery.mdns import discover_once  # noqa: PLC0415

    async def look() -> list[Neighbour]:
        return await discover_once(float(timeout_s), network=network)

    found = trio.run(look)
    own = _own_id(data_dir or default_data_dir())
    if as_json:
        print_json([_entry(neighbour, own) for neighbour in found])
    elif found:
        click.echo(table(("MAILBOX", "NETWORK", "HTTP", "P2P", "NOTE"), [_row(n, own) for n in found]))
    else:
        click.echo(f"no mailbox answered within {timeout_s:g} s", err=True)


def _own_id(data_dir: Path) -> MailboxId | None:
    try:
        return Identity.load(data_dir / IDENTITY_FILE).mailbox_id
    except IdentityError:
        return None


def _urls(neighbour: Neighbour) -> list[str]:
    hosts = [f"[{host}]" if ":" in host else host for host in neighbour.hosts]
    return [f"http://{host}:{neighbour.http_port}" for host in hosts]


def _addresses(neighbour: Neighbour) -> list[str]:
    from protocols.addresses import PeerAddress  # noqa: PLC0415

    port = neighbour.p2p_port
    return [] if port is None else [str(PeerAddress(host, port, neighbour.mailbox_id)) for host in neighbour.hosts]


def _entry(neighbour: Neighbour, own: MailboxId | None) -> dict[str, object]:
    return {
        "mailbox_id": str(neighbour.mailbox_id),
        "network": neighbour.network,
        "http": _urls(neighbour),
        "p2p": _addresses(neighbour),
        "protocol_version": neighbour.protocol_version,
        "self": neighbour.mailbox_id == own,
    }


def _row(neighbour: Neighbour, own: MailboxId | None) -> list[str]:
    port = neighbour.p2p_port
    note = "this mailbox" if neighbour.mailbox_id == own else ("" if port else "HTTP only")
    url = next(iter(_urls(neighbour)), "")
    return [str(neighbour.mailbox_id), neighbour.network, url, "" if port is None else str(port), note]
