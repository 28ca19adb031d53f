"""What `mailboxd simulate --analytic` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Final

import click

from node.cli.output import print_json
from simulations.analytic.model import analyse, as_json
from simulations.analytic.picture import pictures
from simulations.analytic.plan import Plan
from simulations.analytic.tables import explain

__all__ = ["DEFAULT_SIZES", "show_plans"]

DEFAULT_SIZES: Final = (2, 10, 50, 200, 1_000, 10_000, 100_000)


def show_plans(sizes: Sequence[int], settings: Sequence[str], *, is_json: bool, out: Path | None) -> None:
    """Reckons a plan in several sizes. `settings` are `NAME=NUMBER`, names being those of Plan's fields. Pictures go
    into the directory `out`."""
    plan = _plan(settings)
    try:
        rows = [row for size in sizes or DEFAULT_SIZES for row in analyse(replace(plan, mailboxes=size))]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures(plan):
            (out / name).write_text(picture, "utf-8")
    if is_json:
        common = {name: value for name, value in asdict(plan).items() if name != "mailboxes"}
        print_json({"plan": common, "rows": [as_json(row) for row in rows]})
    else:
        click.echo(explain(plan, rows))


def _plan(settings: Sequence[str]) -> Plan:
    kinds = {one.name: int if one.type == "int" else float for one in fields(Plan) if one.name != "mailboxes"}
    values: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in kinds:
            raise click.UsageError(f"a plan has no {name!r}; it has {', '.join(kinds)}")
        try:
            values[name] = value = kinds[name](text)
        except ValueError:
            raise click.UsageError(f"{name} needs a number, not {text!r}") from None
        if not 0 <= value < 1e12:
            raise click.UsageError(f"{name} can't be {text}")
    return Plan(mailboxes=2, **values)  # type: ignore[arg-type]
