"""Playing scenarios: the same seed twice is the same run, and a torn network comes together again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.play import play
from simulations.scenario import (
    Clog,
    Crash,
    Cut,
    DiskFull,
    Heal,
    Lan,
    Mailboxes,
    Pause,
    Phones,
    Reset,
    Scenario,
    WipeDisk,
)

TORN = Scenario(
    name="torn",
    title="Five mailboxes, torn in two",
    duration_s=1500,
    calm_from_s=900,
    settle_s=120,
    lans=[Lan("home")],
    mailboxes=[Mailboxes("m", "home", 5)],
    phones=[Phones("p", "home", 3, messages_per_hour=60, writes_until_s=1200)],
    faults=[
        Cut(200, ["m-1", "m-2"], ["m-3", "m-4", "m-5"]),
        Crash(300, ["m-3"]),
        Crash(350, ["m-1"]),
        WipeDisk(400, ["m-2"]),
        Pause(410, ["m-4"], for_s=20),
        Heal(500),
        Reset(600, ["m-5"]),
        DiskFull(650, ["m-4"], for_s=60),
        Clog(800, ["m-1"], ["m-2"], for_s=10),
    ],
)


def hash_in_a_process_of_its_own(seed: int, hash_seed: int) -> str:
    code = f"""
from simulations.play import play
from tests.simulations.test_play import TORN
print(play(TORN, {seed}).trace_hash)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    hashes = {hash_in_a_process_of_its_own(1, hash_seed) for hash_seed in (1, 2)}
    assert len(hashes) == 1
    assert hash_in_a_process_of_its_own(2, 1) not in hashes


@pytest.mark.parametrize("seed", range(3))
def test_a_torn_network_comes_together_again(seed: int) -> None:
    recording = play(TORN, seed)
    assert [verdict for verdict in recording.verdicts if not verdict.holds] == []
    assert recording.groups[-1] == 1
    assert recording.held_share[-1] == 1.0
    assert recording.messages[-1] > 20
    assert len(recording.sampled_s) == len(recording.groups) == len(recording.up)
