"""`mailboxd simulate --real`, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.real.namespaces import why_no_namespaces

ROOT = Path(__file__).resolve().parents[3]

SCENARIO = """
title = "Two neighbours"
duration = "3m"
calm-from = "2m"
settle = "8s"

[[lans]]
name = "here"

[[mailboxes]]
name = "box"
lan = "here"
count = 2

[[phones]]
name = "ana"
lan = "here"
messages-per-hour = 360
writes-until = "2m"
"""


def simulate(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "mailboxd", "simulate", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        timeout=180,
    )


@pytest.mark.skipif(why_no_namespaces() is not None, reason=str(why_no_namespaces()))
def test_both_worlds_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SCENARIO)
    done = simulate("two.toml", "--real", "--speed", "30", "--json", "--report", "both.html", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert (answer["scenario"], answer["seed"], answer["speed"], answer["verdict"]) == ("two", 1, 30, "pass")
    assert answer["real"]["verdict"] == answer["simulated"]["verdict"] == "pass"
    compared = {figure["what"]: figure for figure in answer["compared"]}
    assert compared["Of them acknowledged"]["real"] > 0
    assert compared["Sessions"]["real"] > 0
    page = (tmp_path / "both.html").read_text()
    assert "Real processes" in page
    assert "Beside each other" in page


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["rolling-upgrade", "--real", "--speed", "60"], 1, "the installed program speaks one version"),
        (["two-lans", "--speed", "60"], 2, "--speed is for --real"),
        (["two-lans", "--real", "--swarm", "3"], 2, "--real plays one scenario"),
        (["two-lans", "--real", "--speed", "0.5"], 2, "0.5 is not in the range"),
        (["--real"], 2, "name a scenario"),
    ],
)
def test_what_can_not_be_played_is_one_line(words: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = simulate(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_it_says_that_it_needs_root() -> None:
    program = (
        "import os\n"
        "from simulations.real.namespaces import why_no_namespaces\n"
        "os.setuid(65534)\n"
        "print(why_no_namespaces())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "needs root" in done.stdout
    assert "sudo" in done.stdout
