"""Playing scenarios: the same seed twice is the same run, and a torn network comes together again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.limits.sync import SYNC_VERSION_MAX
from simulations.play import play
from simulations.scenario import (
    PRESETS,
    Behaviour,
    Churn,
    ClockChange,
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
    Route,
    Scenario,
    Upgrade,
    Walk,
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


WALKING = Scenario(
    name="walking",
    title="Bad links, wrong clocks, two versions, messages that expire, phones and a mailbox on the move",
    duration_s=2400,
    calm_from_s=2300,
    settle_s=60,
    lans=[Lan("home", PRESETS["festival-wifi"]), Lan("away", PRESETS["good-wifi"])],
    routes=[Route(("home", "away"), PRESETS["slow-internet"])],
    mailboxes=[
        Mailboxes("h", "home", 2, retention_s=1800, clock_offset_s=-100, clock_drift_ppm=40),
        Mailboxes("a", "away", 2, retention_s=1800, peers=["h-1"], sync_interval_s=60),
    ],
    phones=[Phones("p", "home", 2, messages_per_hour=30, policy="each")],
    faults=[
        ClockChange(300, ["h-2"], 700.0),
        Upgrade(400, ["a"], 30, SYNC_VERSION_MAX, SYNC_VERSION_MAX + 1),
        Walk(500, ["p-1"], "away"),
        Walk(600, ["a-2"], "home"),
        ClockChange(900, ["h-2"], -700.0),
    ],
)

HOSTILE = Scenario(
    name="hostile",
    title="One of each kind of hostile mailbox, and honest ones that come and go",
    duration_s=600,
    calm_from_s=500,
    settle_s=60,
    lans=[Lan("home")],
    mailboxes=[
        Mailboxes("m", "home", 3, sync_interval_s=30, storage_limit_bytes=20_000),
        *(Mailboxes(kind.value, "home", 1, kind) for kind in Behaviour if kind is not Behaviour.HONEST),
    ],
    phones=[Phones("p", "home", 1, messages_per_hour=120)],
    faults=[Churn(100, ["m-2", "m-3"], for_s=300, up_s=60, down_s=20)],
)

WORLDS = (TORN, WALKING, HOSTILE)


def hashes_in_a_process_of_its_own(seed: int, hash_seed: int) -> list[str]:
    code = f"""
from simulations.play import play
from tests.simulations.test_play import WORLDS
print(*(play(scenario, {seed}).trace_hash for scenario in WORLDS))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.split()


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    hashes = hashes_in_a_process_of_its_own(1, 1)
    assert hashes == hashes_in_a_process_of_its_own(1, 2)
    assert len(hashes) == len(set(hashes)) == len(WORLDS)


def test_another_seed_is_another_run() -> None:
    assert play(TORN, 1).trace_hash != play(TORN, 2).trace_hash


@pytest.mark.parametrize("seed", range(3))
def test_a_torn_network_comes_together_again(seed: int) -> None:
    recording = play(TORN, seed)
    assert [verdict for verdict in recording.verdicts if not verdict.holds] == []
    assert recording.groups[-1] == 1
    assert recording.held_share[-1] == 1.0
    assert recording.messages[-1] > 20
    assert len(recording.sampled_s) == len(recording.groups) == len(recording.up)


def test_sessions_that_cross_on_slow_links_are_no_noise() -> None:
    """Of two that cross each other one finds equal what the other has just moved, and keeps a picture from before that:
    the next one is told it once more, which is not the noise that "silence" is about."""
    recording = play(WALKING, 6)
    assert [verdict for verdict in recording.verdicts if not verdict.holds] == []
