"""`mailboxd limits`: the bounds, how much of each is in use, and what it is for."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from node.cli.options import data_dir_option
from node.cli.output import print_json, table
from node.datadir import DataDirError, default_data_dir
from node.http.client import AdminClient, ClientError
from protocols import limits as bounds

__all__ = ["limits", "reasons"]


def reasons() -> dict[str, str]:
    """Why each bound is as it is, as it stands beside it. Bounds in a row share what follows them."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    rooms = [path for folder in bounds.__path__ for path in sorted(Path(folder).glob("*.py"))]
    for statement in (statement for room in rooms for statement in ast.parse(room.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            waiting.append(statement.target.id)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            text = " ".join(str(statement.value.value).split())
            found.update(dict.fromkeys(waiting, text))
            waiting = []
        else:
            waiting = []
    return found


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def limits(data_dir: Path | None, as_json: bool) -> None:
    """Show the limits, how much of each is in use, and what they are for.

    Without a running mailbox, what holds unless it is changed. Those with an option can be changed with it, or in
    config.toml.

    \b
    Examples:
      mailboxd limits
      mailboxd limits --json
    """
    rows = _running(data_dir or default_data_dir())
    is_running = rows is not None
    if rows is None:
        from node.limits_in_use import SHOWN, value_of  # noqa: PLC0415 - most of the program

        rows = [{"name": n, "value": value_of(n), "used": None, "option": option} for n, option in SHOWN.items()]
    why = reasons()
    rows = [{**row, "reason": why.get(row["name"], "")} for row in rows]
    if as_json:
        print_json(rows)
        return
    if not is_running:
        click.echo("No mailbox runs on this data directory; these are the limits that hold by default.\n", err=True)
    click.echo(_table(rows))


def _running(data_dir: Path) -> list[dict[str, Any]] | None:
    with suppress(ClientError, DataDirError), AdminClient.open(data_dir) as client:
        rows: list[dict[str, Any]] = client.status()["limits"]
        return rows
    return None


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        (
            row["name"].lower(),
            _number(row["value"]),
            "" if row["used"] is None else _number(row["used"]),
            f"--{row['option']}" if row["option"] else "",
            textwrap.shorten(row["reason"], 90, placeholder=" …"),
        )
        for row in rows
    ]
    return table(("LIMIT", "VALUE>", "IN USE>", "OPTION", "WHY"), lines)


def _number(value: float) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")
