"""`mailboxd doctor`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.output import print_json
from node.cli.settings import run_config, run_options
from node.logs import escape_controls

if TYPE_CHECKING:
    from node.config import RunConfig
    from node.datadir import NodeInfo
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
    import trio  # noqa: PLC0415

    from node.datadir import IDENTITY_FILE  # noqa: PLC0415
    from node.doctor import machine, network, ports  # noqa: PLC0415
    from node.doctor.air import look_around  # noqa: PLC0415
    from node.doctor.findings import skipped  # noqa: PLC0415
    from node.identity import Identity, IdentityError  # noqa: PLC0415

    info, status, reach, fault = _ask(config.data_dir)
    findings = [
        machine.check_program(None if info is None else info.version),
        machine.check_data_dir(config.data_dir),
        machine.check_disk_space(
            config.data_dir, limit_bytes=config.storage_limit_bytes, held_bytes=(status or {}).get("bytes", 0)
        ),
        machine.check_disk_speed(config.data_dir),
        machine.check_files(),
        machine.check_clock(),
    ]
    if fault is not None:
        findings.append(fault)
    if info is not None:
        findings.append(ports.check_answers([*info.http]))
    else:
        findings.append(trio.run(ports.check_free_ports, [*config.http, *config.https]))
    peers = None if status is None else status["peers"]
    findings += [network.check_firewall(reach), network.check_neighbours(peers)]
    if not config.mdns:
        return [*findings, skipped("multicast", "switched off with --no-mdns")]
    try:
        own = Identity.load(config.data_dir / IDENTITY_FILE).mailbox_id
    except IdentityError:
        own = None
    if sys.stderr.isatty():
        click.echo("listening to the network for some seconds …\r", nl=False, err=True)
    air = trio.run(look_around)
    if sys.stderr.isatty():
        click.echo("\x1b[K", nl=False, err=True)
    return [
        *findings,
        network.check_interfaces(air),
        network.check_multicast(air, connected=peers or ()),
        network.check_isolation(air, own),
        network.check_identity(air, own),
        network.check_clocks(air, own),
        network.check_protocol(air, own),
    ]


def _ask(
    data_dir: Path,
) -> tuple[NodeInfo | None, Mapping[str, Any] | None, list[dict[str, Any]] | None, Finding | None]:
    """What the mailbox on `data_dir` says of itself and of how others reach it; all None if it does not run."""
    from node.datadir import DataDirError, NotRunning, read_node_info  # noqa: PLC0415
    from node.doctor.findings import problem  # noqa: PLC0415
    from node.http.client import AdminClient, ClientError  # noqa: PLC0415

    try:
        info = read_node_info(data_dir)
    except NotRunning:
        return None, None, None, None
    except DataDirError as error:
        return None, None, None, problem("mailbox", str(error), "restart it")
    try:
        with AdminClient.open(data_dir) as client:
            return info, client.status(), client.reach(), None
    except (ClientError, DataDirError) as error:
        return info, None, None, problem("mailbox", str(error), "see its log; restart it if it does not answer")
