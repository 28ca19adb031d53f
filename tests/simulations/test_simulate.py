"""`mailboxd simulate` through the front door: a process, its output, its files and its exit code."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

SMALL = """
title = "Two boxes"
duration = "10m"
calm-from = "5m"
settle = "2m"

[[lans]]
name = "home"

[[mailboxes]]
name = "box"
lan = "home"
count = 2

[[phones]]
name = "ana"
lan = "home"
messages-per-hour = 60

[[faults]]
kind = "crash"
at = "2m"
who = "box-1"
"""

# Cut off until a second before the end, and no time to settle: the mailboxes can't hold the same.
HOPELESS = """
title = "No time"
duration = "5m"
calm-from = "5m"
settle = "0s"

[[lans]]
name = "home"

[[mailboxes]]
name = "box"
lan = "home"
count = 3

[[phones]]
name = "ana"
lan = "home"
messages-per-hour = 60

[[faults]]
kind = "cut"
at = "1m"
a = "box-1"
b = ["box-2..3", "ana"]
for = "239s"

[[faults]]
kind = "crash"
at = "2m"
who = "box-3"

[[faults]]
kind = "reset"
at = "3m"
who = "box"

[[faults]]
kind = "pause"
at = "4m"
for = "30s"
who = "box-3"
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "mailboxd", "simulate", *map(str, words)]


def simulate(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture
def hopeless(tmp_path: Path) -> Path:
    file = tmp_path / "hopeless.toml"
    file.write_text(HOPELESS)
    return file


def test_the_list_has_names_and_titles() -> None:
    listing = simulate("--list")
    assert listing.returncode == 0
    assert "two-lans" in listing.stdout
    assert "festival" in listing.stdout
    everything = json.loads(simulate("--list", "--json").stdout)
    assert {"name", "title", "description", "mailboxes", "phones", "duration_s"} <= set(everything[0])
    assert len(everything) >= 10


def test_a_run_is_one_json_object_and_the_same_every_time(small: Path) -> None:
    runs = [simulate(small, "--seed", 7, "--json", PYTHONHASHSEED=seed) for seed in ("1", "2")]
    first, second = (json.loads(run.stdout) for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert [run.stderr for run in runs] == ["", ""]
    assert first["scenario"] == "small"
    assert (first["seed"], first["verdict"], first["simulated_s"]) == (7, "pass", 600.0)
    assert first["wall_s"] > 0
    assert {"name", "title", "checks", "counterexample", "holds"} <= set(first["invariants"][0])
    assert first["trace_hash"] == second["trace_hash"]
    assert first["trace_hash"] != json.loads(simulate(small, "--seed", 8, "--json").stdout)["trace_hash"]


def test_a_run_tells_how_it_went_and_writes_what_is_asked_for(small: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "new" / "folder"
    run = simulate(small, "--report", page, "--out", out)
    assert run.returncode == 0, run.stderr
    assert "all held" in run.stdout
    assert "convergence" in run.stdout
    assert f"replay  mailboxd simulate {small} --seed 1" in run.stdout
    assert "10:00" in run.stderr  # plain lines, as this is no terminal
    assert "\x1b" not in run.stderr
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert {file.name for file in out.iterdir()} == {f"small-seed-1.{kind}" for kind in ("json", "html", "svg")}
    data = json.loads((out / "small-seed-1.json").read_text())
    assert data["verdict"] == "pass"
    assert data["spreads"]


def test_what_does_not_hold_is_told_with_exit_code_1(hopeless: Path) -> None:
    run = simulate(hopeless)
    assert run.returncode == 1
    assert "FAILED" in run.stdout
    assert "BROKEN  convergence" in run.stdout
    assert "box-" in run.stdout.split("BROKEN  convergence")[1]
    data = json.loads(simulate(hopeless, "--json").stdout)
    assert data["verdict"] == "fail"
    assert any(verdict["counterexample"] for verdict in data["invariants"])


def test_a_swarm_makes_its_failure_small_and_the_line_replays_it(hopeless: Path, tmp_path: Path) -> None:
    run = simulate(hopeless, "--swarm", 3, "--seed", 5, "--jobs", 2, "--out", "found", cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert "FAILED: convergence" in run.stdout
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("replay")]
    words = shlex.split(line.removeprefix("replay"))
    assert words[:2] == ["mailboxd", "simulate"]
    again = simulate(*words[2:], "--json", cwd=tmp_path)
    assert again.returncode == 1
    assert not next(one for one in json.loads(again.stdout)["invariants"] if one["name"] == "convergence")["holds"]
    text = (tmp_path / words[2]).read_text()
    assert "crash" not in text  # it had nothing to do with it
    assert "pause" not in text
    assert text.startswith("# Made smaller from hopeless")


def test_a_swarm_that_passes_says_so(small: Path) -> None:
    run = simulate(small, "--swarm", 3, "--json")
    data = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert (data["verdict"], data["played"], data["replay"]) == ("pass", 3, None)
    assert data["simulated_s"] == 1800.0
    assert data["faults"] == {"crash": 3}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name a scenario"),
        (["two-lns"], "did you mean 'two-lans'?"),
        (["missing.toml"], "missing.toml: No such file"),
        (["two-lans", "--seed", "x"], "not a valid integer"),
        (["two-lans", "--list"], "leave out the name"),
        (["two-lans", "--jobs", "2"], "add --swarm"),
        (["--swarm", "2", "--report", "x.html"], "--out DIR"),
        (["two-lans", "--report", "missing/x.html"], "make it first"),
        (["bad.toml"], "bad.toml, line 2: unknown key 'durtion'; did you mean 'duration'?"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('title = "x"\ndurtion = "1h"\n')
    run = simulate(*words, cwd=tmp_path)
    assert run.returncode == 2
    assert text in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


def started(*words: object, mark: str, cwd: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A run on a terminal, and the terminal; it is under way when `mark` was shown."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        command(*words),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        cwd=cwd,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"},
    )
    os.close(its_end)
    shown = b""
    while mark.encode() not in shown:
        shown += os.read(terminal, 4096)
    return process, terminal


def rest_of(terminal: int) -> str:
    """What comes until nobody writes there any more."""
    shown = b""
    deadline = time.monotonic() + 60
    with suppress(OSError):
        while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (part := os.read(terminal, 4096)):
                break
            shown += part
    os.close(terminal)
    assert time.monotonic() < deadline, "it goes on"
    return shown.decode()


@pytest.mark.parametrize(("words", "mark"), [([], "held"), (["--swarm", "5000", "--jobs", "2"], "of 5,000")])
def test_ctrl_c_ends_it_without_a_trace(words: list[str], mark: str, small: Path, tmp_path: Path) -> None:
    process, terminal = started(small, *words, mark=mark, cwd=tmp_path)
    workers = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers, too
    shown = rest_of(terminal)
    assert process.wait(timeout=60) == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown
    deadline = time.monotonic() + 30
    while any(worker.is_running() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == [small]
