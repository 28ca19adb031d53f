"""`mailboxd doctor`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.output import print_json
from node.cli.settings import run_config, run_options
from node.logs import escape_controls

if TYPE_CHECKING:
    from node.config import RunConfig
    from node.datadir import NodeInfo
    from node.doctor.air import Air
    from node.doctor.findings import Finding

__all__ = ["doctor"]

_MARKS = {"good": "ok", "note": "note", "problem": "PROBLEM", "skipped": "-"}
_COLOURS = {"good": "green", "note": "yellow", "problem": "red", "skipped": None}


@click.command()
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def doctor(data_dir: Path | None, as_json: bool, **values: Any) -> None:
    """Look for what keeps this mailbox from working, and say what to do.

    Checks the program, the data directory, disk, limits, ports, the clock, and the network: multicast, access points
    that separate their guests, firewalls, and the other mailboxes here. It takes some seconds and changes nothing. Asks
    the mailbox if it runs; otherwise it judges what `mailboxd run` with the same options would meet. Exit code 1 if
    there is a problem.

    \b
    Examples:
      mailboxd doctor
      mailboxd doctor --json | jq '.[] | select(.verdict == "problem")'
    """
    config = run_config(data_dir, values)
    findings = _examine(config)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    if any(finding.verdict == "problem" for finding in findings):
        sys.exit(1)


def _show(finding: Finding) -> None:
    mark = click.style(f"{_MARKS[finding.verdict]:<8}", fg=_COLOURS[finding.verdict])
    click.echo(f"{mark} {finding.check:<16} {escape_controls(finding.text)}")
    if finding.remedy:
        click.echo(f"{'':<25} → {escape_controls(finding.remedy)}")


def _examine(config: RunConfig) -> list[Finding]:
    """All findings, in an order that reads well. What takes time goes on at the same time."""
    import trio  # noqa: PLC0415

    from node.datadir import IDENTITY_FILE  # noqa: PLC0415
    from node.doctor import machine, network, ports  # noqa: PLC0415
    from node.doctor.air import look_around  # noqa: PLC0415
    from node.doctor.findings import skipped  # noqa: PLC0415
    from node.identity import Identity, IdentityError  # noqa: PLC0415

    about: list[_Asked] = []
    airs: list[Air] = []
    own_machine: list[Finding] = []

    async def ask() -> None:
        about.append(asked := await trio.to_thread.run_sync(_ask, config.data_dir, abandon_on_cancel=True))
        if asked.info is None:
            asked.ports = await ports.check_free_ports([*config.http, *config.https])

    async def look() -> None:
        airs.append(await look_around())

    def check_machine() -> None:
        own_machine.extend([machine.check_data_dir(config.data_dir), machine.check_disk_speed(config.data_dir)])
        own_machine.extend([machine.check_files(), machine.check_clock()])

    async def together() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(partial(trio.to_thread.run_sync, check_machine, abandon_on_cancel=True))
            if config.mdns:
                nursery.start_soon(look)

    is_shown = config.mdns and sys.stderr.isatty()
    if is_shown:
        click.echo("listening to the network for some seconds …\r", nl=False, err=True)
    trio.run(together)
    if is_shown:
        click.echo("\x1b[K", nl=False, err=True)
    (asked,) = about
    directory, speed, files, clock = own_machine
    status = asked.status
    held_bytes = 0 if status is None else status["bytes"]
    findings = [
        machine.check_program(None if asked.info is None else asked.info.version),
        directory,
        machine.check_disk_space(config.data_dir, limit_bytes=config.storage_limit_bytes, held_bytes=held_bytes),
        speed,
        files,
        clock,
        *([] if asked.fault is None else [asked.fault]),
        *([] if asked.ports is None else [asked.ports]),
    ]
    peers = None if status is None else status["peers"]
    findings += [network.check_firewall(asked.reach), network.check_neighbours(peers)]
    if not airs:
        return [*findings, skipped("multicast", "switched off with --no-mdns")]
    (air,) = airs
    try:
        own = Identity.load(config.data_dir / IDENTITY_FILE).mailbox_id
    except IdentityError:
        own = None
    return [
        *findings,
        network.check_interfaces(air),
        network.check_multicast(air, connected=peers or ()),
        network.check_isolation(air, own),
        network.check_identity(air, own),
        network.check_clocks(air, own),
        network.check_protocol(air, own),
    ]


@dataclass(slots=True)
class _Asked:
    """What the mailbox says of itself and of how others reach it, as far as it runs; `fault` if it does not say so."""

    info: NodeInfo | None = None
    status: Mapping[str, Any] | None = None
    reach: list[dict[str, Any]] | None = None
    fault: Finding | None = None
    ports: Finding | None = None


def _ask(data_dir: Path) -> _Asked:
    from node.datadir import DataDirError, NotRunning, read_node_info  # noqa: PLC0415
    from node.doctor.findings import problem  # noqa: PLC0415
    from node.doctor.ports import check_answers  # noqa: PLC0415
    from node.http.client import AdminClient, ClientError  # noqa: PLC0415

    try:
        asked = _Asked(read_node_info(data_dir))
    except NotRunning:
        return _Asked()
    except DataDirError as error:
        return _Asked(fault=problem("mailbox", str(error), "restart it"))
    try:
        with AdminClient.open(data_dir) as client:
            asked.status, asked.reach = client.status(), client.reach()
    except (ClientError, DataDirError) as error:
        asked.fault = problem("mailbox", str(error), "see its log; restart it if it does not answer")
    assert asked.info is not None
    asked.ports = check_answers([*asked.info.http])
    return asked
