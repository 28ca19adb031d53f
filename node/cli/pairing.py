"""`mailboxd pair`, `devices` and `revoke`: phones that may use a mailbox."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from node.cli.admission import office
from node.cli.options import TakesIds, data_dir_option
from node.cli.output import ago, count_text, print_json, table
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir
from node.http.client import AdminClient, ClientError
from node.logs import escape_controls
from protocols.limits.admission import CODE_S, CODE_S_MAX

__all__ = ["devices", "pair", "revoke"]

_LOOK_S = 0.5


@click.command()
@data_dir_option()
@click.option(
    "--minutes",
    type=click.IntRange(1, CODE_S_MAX // 60),
    default=CODE_S // 60,
    show_default=True,
    help="How long the code is good; it is good for one phone.",
)
@click.option("--wait", is_flag=True, help="Wait until a phone has used it; exit code 1 if none has in time.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a picture.")
def pair(data_dir: Path | None, minutes: int, wait: bool, as_json: bool) -> None:
    """Show a code by which a phone gets access.

    The app scans it, or takes the line below it. It names the running mailbox, its key, where it is, and a secret that
    is good for one phone and a few minutes. What the phone gets for it is a token of its own, which `mailboxd revoke`
    takes back. docs/pairing.md says how an app does it.

    \b
    Examples:
      mailboxd pair
      mailboxd pair --wait
      mailboxd pair --json | jq -r .uri
    """
    try:
        with AdminClient.open(data_dir or default_data_dir()) as client:
            before = _ids(client)
            invitation: dict[str, Any] = client.post("/admin/pair", {"seconds": minutes * 60})
            if as_json:
                print_json(invitation)
            else:
                _show(invitation, minutes)
            if wait:
                _wait(client, before, minutes * 60)
    except (ClientError, DataDirError) as error:
        fail(str(error))


def _show(invitation: dict[str, Any], minutes: int) -> None:
    import segno  # noqa: PLC0415

    click.echo()
    segno.make(invitation["uri"], error="l", micro=False).terminal(compact=True, out=sys.stdout)
    click.echo(f"\n{invitation['uri']}\n\ngood for one phone and {count_text(minutes, 'minute')}")
    if all(url.startswith("http:") for url in invitation["urls"]):
        click.echo(
            "what this phone sends later goes by plain HTTP: who listens can read its token and use it; "
            "`mailboxd run --https` ends that"
        )


def _ids(client: AdminClient) -> dict[str, str]:
    return {one["device"]: one["name"] for one in client.get("/admin/admission")["devices"]}


def _wait(client: AdminClient, before: dict[str, str], seconds: int) -> None:
    deadline = time.monotonic() + seconds
    while not (new := [name for device, name in _ids(client).items() if device not in before]):
        if time.monotonic() > deadline:
            fail("no phone has used the code in time; show a new one with `mailboxd pair`")
        time.sleep(_LOOK_S)
    click.echo(f"paired: {escape_controls(new[0])}", err=True)


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def devices(data_dir: Path | None, as_json: bool) -> None:
    """List the paired phones.

    LAST SEEN is since the mailbox was started.

    \b
    Examples:
      mailboxd devices
      mailboxd devices --json
    """
    with office(data_dir) as (desk, _):
        known = desk.state()["devices"]
    if as_json:
        print_json(known)
    elif not known:
        click.echo("no phone is paired; `mailboxd pair` shows a code for one")
    else:
        rows = [(one["device"], one["name"], ago(one["paired"]), ago(one["last_seen"])) for one in known]
        click.echo(table(("DEVICE", "NAME", "PAIRED", "LAST SEEN"), rows))


@click.command(cls=TakesIds)
@data_dir_option()
@click.argument("device", required=False)
@click.option("--all", "everyone", is_flag=True, help="Of all phones; open codes of `mailboxd pair` are void, too.")
@click.pass_context
def revoke(context: click.Context, data_dir: Path | None, device: str | None, everyone: bool) -> None:
    """Take its access from a paired phone.

    DEVICE is as `mailboxd devices` shows it. Its token is worthless at once, also on connections that are open. Of use
    with a mailbox that has a password: an open one lets everybody in.

    \b
    Examples:
      mailboxd revoke k3vq7m2a
      mailboxd revoke --all
    """
    if everyone == (device is not None):
        raise click.UsageError("give either DEVICE or --all", context)
    with office(data_dir) as (desk, _):
        done = desk.revoke(device)
    revoked, codes = done["revoked"], done["codes"]
    for one in revoked:
        click.echo(f"revoked {one['device']}  {escape_controls(one['name'])}")
    if codes:
        click.echo(f"{count_text(codes, 'open code')} of `mailboxd pair` made worthless")
    if not revoked:
        click.echo("no phone was paired")
