"""What `mailboxd simulate` does with scenarios: play one run, or a swarm of them."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click

from node.cli.output import count_text, print_json
from simulations.drawing import draw_scenario
from simulations.files import find, to_toml
from simulations.play import play
from simulations.recording import Recording
from simulations.report import write_picture, write_report
from simulations.scenario import Scenario
from simulations.schema import ScenarioError
from simulations.swarm import Failure, Progress, Swarm
from simulations.terminal import Live, StatusLine, bar, speed_text, time_text, verdict_table
from simulations.workers import Workers

__all__ = ["cores", "interruptible", "play_one", "play_swarm", "wrong_use"]

_INTERRUPTED: Final = 130


@contextmanager
def wrong_use() -> Iterator[None]:
    """A scenario that can't be read is a fault of the command line, not a failed run."""
    try:
        yield
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None


# --- one run ---------------------------------------------------------------------------------------------------------


def play_one(source: str, seed: int, *, as_json: bool, report: Path | None, out: Path | None) -> bool:
    """Plays a scenario and shows how it went. Returns whether everything held."""
    with wrong_use():
        scenario = find(source)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        if report is not None and not report.parent.is_dir():
            raise click.UsageError(f"{report.parent} is no directory; make it first")
    with StatusLine(is_quiet=as_json) as line, interruptible():
        recording = play(scenario, seed, watch=Live(scenario, line))
    replay = _replay_line(source, seed)
    files = _write(recording, source, report, out)
    if as_json:
        print_json(_summary(recording, replay))
    else:
        _tell(recording, scenario, replay, files)
    return recording.passed


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C may come out of any task of the world, so in groups."""
    is_interrupted = False
    try:
        yield
    except* KeyboardInterrupt:
        is_interrupted = True
    if is_interrupted:
        click.echo("mailboxd simulate: interrupted", err=True)
        raise click.exceptions.Exit(_INTERRUPTED)


def _replay_line(source: str, seed: int) -> str:
    return f"mailboxd simulate {shlex.quote(source)} --seed {seed}"


def _summary(recording: Recording, replay: str) -> dict[str, Any]:
    return {
        "scenario": recording.scenario,
        "seed": recording.seed,
        "trace_hash": recording.trace_hash,
        "verdict": "pass" if recording.passed else "fail",
        "invariants": [asdict(verdict) | {"holds": verdict.holds} for verdict in recording.verdicts],
        "simulated_s": recording.simulated_s,
        "wall_s": recording.wall_s,
        "replay": replay,
    }


def _write(recording: Recording, source: str, report: Path | None, out: Path | None) -> list[Path]:
    """Writes what was asked for; returns the files."""
    shown = replace(recording, scenario=source)  # what the page's line for a replay names
    files = []
    if report is not None:
        write_report([shown], report)
        files.append(report)
    if out is not None:
        stem = f"{recording.scenario}-seed-{recording.seed}"
        data, page, picture = (out / f"{stem}.{kind}" for kind in ("json", "html", "svg"))
        data.write_text(json.dumps(recording.as_json()) + "\n")
        write_report([shown], page)
        write_picture(shown, picture)
        files += [data, page, picture]
    return files


def _tell(recording: Recording, scenario: Scenario, replay: str, files: list[Path]) -> None:
    lines = [
        f"{scenario.title}: {'all held' if recording.passed else 'FAILED'}",
        f"{recording.scenario}, seed {recording.seed}, {speed_text(recording.simulated_s, recording.wall_s)}",
        "",
        verdict_table(recording.verdicts),
        "",
        f"trace   {recording.trace_hash}",
        f"replay  {replay}",
        *(f"wrote   {file}" for file in files),
    ]
    click.echo("\n".join(lines))


# --- a swarm -------------------------------------------------------------------------------------------------------


def play_swarm(
    source: str | None, first_seed: int, count: int, *, jobs: int | None, as_json: bool, out: Path | None
) -> bool:
    """Plays seeds until one fails, and makes that small. Returns whether all passed."""
    with wrong_use():
        named = None if source is None else find(source)
        folder = out or Path()
        folder.mkdir(parents=True, exist_ok=True)

    def scenario_of(seed: int) -> Scenario:
        return draw_scenario(seed) if named is None else named

    begun_s = time.monotonic()
    with StatusLine(is_quiet=as_json) as line, interruptible(), Workers(jobs or cores()) as workers:
        swarm = Swarm(workers, scenario_of, lambda progress: line.show(_progress_text(progress)))
        progress, failure = swarm.play(first_seed, count)
        file = None
        if failure is not None:
            line.above(f"seed {failure.outcome.seed} failed: {failure.name}; making it smaller")
            failure = swarm.minimised(failure)
            file = folder / f"{failure.scenario.name}-small.toml"
            file.write_text(_as_file(failure))
    wall_s = time.monotonic() - begun_s
    replay = None if failure is None or file is None else _replay_line(_path_text(file), failure.outcome.seed)
    if as_json:
        print_json(_swarm_summary(source, first_seed, count, progress, failure, replay, wall_s))
    else:
        click.echo(_swarm_text(progress, failure, replay, wall_s))
    return failure is None


def cores() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _path_text(file: Path) -> str:
    text = str(file)
    return text if os.sep in text else os.path.join(".", text)  # noqa: PTH118 - a Path would drop the dot


def _as_file(failure: Failure) -> str:
    comment = [f"Made smaller from {failure.origin}: {failure.name} does not hold with seed {failure.outcome.seed}."]
    comment += failure.why.strip().splitlines()
    return "".join(f"# {text}\n" for text in comment) + "\n" + to_toml(failure.scenario)


def _progress_text(progress: Progress) -> str:
    if progress.shrinking is not None:
        return f"making it smaller: {progress.shrinking}, {count_text(progress.plays, 'run')}"
    rate = progress.done / progress.wall_s if progress.wall_s else 0.0
    left_s = (progress.count - progress.done) / rate if rate else 0.0
    return (
        f"{bar(progress.done / progress.count)} {progress.done:,} of {progress.count:,} seeds   "
        f"{time_text(progress.simulated_s)} simulated   {time_text(left_s)} left"
    )


def _swarm_text(progress: Progress, failure: Failure | None, replay: str | None, wall_s: float) -> str:
    played = f"{count_text(progress.done, 'run')}, {speed_text(progress.simulated_s, wall_s)}"
    if failure is None:
        return f"all held: {played}"
    return "\n".join(
        [
            f"FAILED: {failure.name} in {failure.origin}, after {played}",
            "",
            *(f"  {text}" for text in failure.why.strip().splitlines()),
            "",
            f"smaller  {failure.size}",
            f"replay   {replay}",
        ]
    )


def _swarm_summary(
    source: str | None,
    first_seed: int,
    count: int,
    progress: Progress,
    failure: Failure | None,
    replay: str | None,
    wall_s: float,
) -> dict[str, Any]:
    return {
        "scenario": source,
        "swarm": count,
        "first_seed": first_seed,
        "played": progress.done,
        "verdict": "pass" if failure is None else "fail",
        "seed": None if failure is None else failure.outcome.seed,
        "invariants": [] if failure is None else [{"name": failure.name, "counterexample": failure.why}],
        "replay": replay,
        "faults": dict(sorted(progress.faults.items())),
        "simulated_s": progress.simulated_s,
        "wall_s": wall_s,
    }
