"""The node in many drawn worlds: a fixed set of them always, thousands with `make soak`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.acts import cores
from simulations.drawing import draw_scenario
from simulations.files import packaged
from simulations.workers import Workers

SEEDS = range(1, 9)
SOAK_SEEDS = 3000


def test_nothing_breaks_in_the_fixed_worlds() -> None:
    with Workers(cores()) as workers:
        outcomes = [outcome for _, outcome in workers.run((draw_scenario(seed), seed) for seed in SEEDS)]
    assert len(outcomes) == len(SEEDS)
    broken = {f"mailboxd simulate --swarm 1 --seed {one.seed}": one.broken for one in outcomes if not one.passed}
    assert not broken


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged())
def test_every_scenario_of_the_program_holds(name: str) -> None:
    run(name, "--seed", "1")


@pytest.mark.slow
def test_nothing_breaks_in_thousands_of_worlds(tmp_path: Path) -> None:
    run("--swarm", str(SOAK_SEEDS), "--seed", "100000", "--out", str(tmp_path))


def run(*words: str) -> None:
    """Through the front door; what it says is shown as it comes (`make soak` doesn't capture it)."""
    done = subprocess.run(
        [sys.executable, "-m", "mailboxd", "simulate", *words],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0
