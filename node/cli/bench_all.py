"""How `mailboxd bench all` shows and keeps what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.bench.http import HttpReport
from node.bench.pictures import pictures
from node.bench.store import StoreReport
from node.bench.transfer import TransferReport
from node.cli.bench_tables import claims_table, http_table, reconcile_table, store_table, transfer_table
from node.cli.output import count_text, print_json
from node.cli.program import fail

if TYPE_CHECKING:
    from node.bench.suite import Part, Results

__all__ = ["Showing"]


class Showing:
    """Prints each part when it is measured, and writes everything so far to `output`; `report` is a directory for
    tables and pictures."""

    def __init__(self, machine: Mapping[str, object], *, output: Path, report: Path | None, as_json: bool) -> None:
        self._machine = machine
        self._output = output
        self._report = report
        self._as_json = as_json
        self._begun_s = time.monotonic()
        self._document: dict[str, object] = {}
        self._tables: list[str] = []
        try:
            for folder in filter(None, (output.parent, report)):
                folder.mkdir(parents=True, exist_ok=True)
            output.touch()
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}; name a place that can be written to")

    def show(self, results: Results, part: Part) -> None:
        """Takes the next part, and everything so far."""
        self._document = {"benchmark": "all", **results.document(), "machine": self._machine}
        self._output.write_text(json.dumps(self._document, indent=2) + "\n")
        match part:
            case StoreReport():
                text = store_table(part)
            case HttpReport():
                text = http_table(part)
            case TransferReport():
                text = transfer_table(part)
            case _:
                text = reconcile_table(part)
        self._tables.append(text)
        if not self._as_json:
            click.echo(f"{text}\n")

    def end(self, results: Results) -> None:
        """Says what holds, and draws."""
        if self._as_json:
            print_json(self._document)
        else:
            click.echo(self._summary(results))
        if self._report is not None:
            (self._report / "results.md").write_text(self._markdown(results))
            for name, picture in pictures(self._document):
                (self._report / name).write_text(picture)

    def _summary(self, results: Results) -> str:
        failing = [claim for claim in results.claims if not claim.holds]
        minutes = (time.monotonic() - self._begun_s) / 60
        held = len(results.claims) - len(failing)
        return (
            f"{held} of {count_text(len(results.claims), 'required figure')} hold; measured in {minutes:.1f} minutes, "
            f"written to {self._output}{claims_table(failing)}"
        )

    def _markdown(self, results: Results) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self._machine.items())
        failing = [f"- {claim.what}: {claim.measured:.4g}" for claim in results.claims if not claim.holds]
        tables = "\n\n".join(f"```\n{text}\n```" for text in self._tables)
        return (
            "# Results of the last full run\n\n"
            "Written by `make bench`. What the figures mean stands in [benchmarks.md](../benchmarks.md).\n\n"
            f"Measured on: {where}.\n\n"
            f"{len(results.claims) - len(failing)} of {len(results.claims)} required figures hold"
            + (", all but:\n\n" + "\n".join(failing) if failing else ".")
            + f"\n\n{tables}\n"
        )
