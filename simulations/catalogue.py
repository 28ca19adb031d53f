"""`mailboxd simulate --list`: the scenarios that come with the program."""

from __future__ import annotations

from typing import Any

import click

from node.cli.output import print_json, table
from simulations.files import packaged
from simulations.scenario import Scenario
from simulations.units import duration_text

__all__ = ["list_scenarios"]


def list_scenarios(*, as_json: bool) -> None:
    """Prints the scenarios that come with the program."""
    scenarios = packaged()
    if as_json:
        print_json([_about(scenario) for scenario in scenarios.values()])
        return
    rows = []
    for name, scenario in scenarios.items():
        about = _about(scenario)
        size = [f"{about[key]:,}" for key in ("mailboxes", "phones")]
        rows.append([name, *size, duration_text(scenario.duration_s), scenario.title])
    click.echo(table(["name", "mailboxes>", "phones>", "time>", "what happens"], rows))


def _about(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "description": scenario.description.strip(),
        "mailboxes": sum(group.count for group in scenario.mailboxes),
        "phones": sum(group.count for group in scenario.phones),
        "duration_s": scenario.duration_s,
    }
