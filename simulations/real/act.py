"""What `mailboxd simulate --real` does: the same scenario simulated and on real processes, side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from node.cli.output import print_json, table
from node.cli.program import fail
from simulations.acts import interruptible, wrong_use
from simulations.files import find
from simulations.play import play
from simulations.real.compare import Comparison, compare
from simulations.real.play import RealWorldError, play_real, why_not_playable
from simulations.real.speed import faster
from simulations.recording import Recording
from simulations.report import write_report
from simulations.terminal import Live, StatusLine, time_text, verdict_table

__all__ = ["play_both"]


def play_both(source: str, seed: int, *, speed: float, as_json: bool, report: Path | None, out: Path | None) -> bool:
    """Plays a scenario `speed` times faster in both worlds and shows how they compare. Returns whether everything held
    in both. Ends the program with one line if it can't be played for real."""
    with wrong_use():
        scenario = faster(find(source), speed)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        if report is not None and not report.parent.is_dir():
            raise click.UsageError(f"{report.parent} is no directory; make it first")
    if reason := why_not_playable(scenario):
        fail(reason)
    with StatusLine(is_quiet=as_json) as line, interruptible():
        line.above(f"{scenario.title}, simulated")
        simulated = play(scenario, seed, watch=Live(scenario, line))
        line.above(f"{scenario.title}, on real processes: {time_text(scenario.duration_s)} and their start")
        try:
            real = play_real(scenario, seed, watch=Live(scenario, line))
        except RealWorldError as error:
            fail(str(error))
    figures = compare(simulated, real)
    files = _write([simulated, real], source, report, out)
    if as_json:
        print_json(_summary(simulated, real, figures, speed))
    else:
        _tell(simulated, real, figures, files)
    return simulated.passed and real.passed


def _write(recordings: list[Recording], source: str, report: Path | None, out: Path | None) -> list[Path]:
    shown = [replace(recording, scenario=source) for recording in recordings]
    files = []
    if report is not None:
        write_report(shown, report)
        files.append(report)
    if out is not None:
        stem = f"{recordings[0].scenario}-seed-{recordings[0].seed}"
        page = out / f"{stem}-both.html"
        write_report(shown, page)
        files.append(page)
        for recording in recordings:
            file = out / f"{stem}-{recording.world}.json"
            file.write_text(json.dumps(recording.as_json()) + "\n")
            files.append(file)
    return files


def _summary(simulated: Recording, real: Recording, figures: list[Comparison], speed: float) -> dict[str, Any]:
    def world(recording: Recording) -> dict[str, Any]:
        return {
            "verdict": "pass" if recording.passed else "fail",
            "invariants": [asdict(verdict) | {"holds": verdict.holds} for verdict in recording.verdicts],
            "wall_s": recording.wall_s,
        }

    return {
        "scenario": simulated.scenario,
        "seed": simulated.seed,
        "speed": speed,
        "verdict": "pass" if simulated.passed and real.passed else "fail",
        "simulated_s": simulated.simulated_s,
        "trace_hash": simulated.trace_hash,
        "simulated": world(simulated),
        "real": world(real),
        "compared": [asdict(figure) | {"ratio": figure.ratio} for figure in figures],
    }


def _tell(simulated: Recording, real: Recording, figures: list[Comparison], files: list[Path]) -> None:
    for recording in (simulated, real):
        held = "all held" if recording.passed else "FAILED"
        click.echo(f"{recording.title}, {recording.world}: {held}\n\n{verdict_table(recording.verdicts)}\n")
    rows = [figure.texts() for figure in figures]
    click.echo(table(("", "simulated>", "real>", "ratio>"), rows, indent="  "))
    for file in files:
        click.echo(f"wrote   {file}")
