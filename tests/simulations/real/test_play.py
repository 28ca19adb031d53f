"""Whole plays on real processes. They need root; without it they skip with the reason."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from simulations.real.compare import compare
from simulations.real.disks import FOLDER_PREFIX, scratch_folder
from simulations.real.namespaces import why_no_namespaces
from simulations.real.play import RealWorldError, play_real
from simulations.recording import Glimpse
from simulations.scenario import (
    ClockChange,
    Crash,
    Cut,
    DiskFull,
    Heal,
    Lan,
    Mailboxes,
    Pause,
    Phones,
    Route,
    Scenario,
    Upgrade,
    Walk,
    WipeDisk,
)
from tests.mailboxes import eventually

ROOT = Path(__file__).resolve().parents[3]

needs_namespaces = pytest.mark.skipif(why_no_namespaces() is not None, reason=str(why_no_namespaces()))

SPLIT = Scenario(
    name="split",
    title="Two LANs split and healed",
    duration_s=16,
    calm_from_s=8,
    settle_s=7,
    lans=(Lan("north"), Lan("south")),
    routes=(Route(("north", "south")),),
    mailboxes=(
        Mailboxes("n", "north", 2, sync_interval_s=2),
        Mailboxes("s", "south", 2, sync_interval_s=2, peers=("n",)),
    ),
    phones=(
        Phones("ada", "north", 2, messages_per_hour=3600, writes_until_s=8),
        Phones("bob", "south", 2, messages_per_hour=3600, writes_until_s=8, policy="each"),
    ),
    faults=(Cut(2.5, ("north",), ("south",)), Heal(8)),
)


def left_behind() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"))


@needs_namespaces
def test_two_lans_split_and_healed_come_together() -> None:
    before = left_behind()
    glimpses: list[Glimpse] = []
    recording = play_real(SPLIT, 1, watch=glimpses.append)
    assert recording.passed, [verdict for verdict in recording.verdicts if not verdict.holds]
    assert recording.world == "real"
    assert all(verdict.checks for verdict in recording.verdicts)
    assert [one.kind for one in recording.happenings] == ["cut", "heal"]
    # Apart while it was cut, equal at the end, and nobody lacks anything that was acknowledged.
    assert max(groups for at_s, groups in zip(recording.sampled_s, recording.groups, strict=True) if 5 < at_s < 8) > 1
    assert (recording.groups[-1], recording.up[-1], recording.held_share[-1]) == (1, 4, 1.0)
    cut = next(moment for moment in recording.moments if "↔" in moment.title)
    assert sorted(cut.connected) == [("n-1", "n-2"), ("s-1", "s-2")]
    written = [spread for spread in recording.spreads if spread.acknowledged_s is not None]
    assert len(written) > 10
    assert all(len(spread.held_s) == 4 for spread in written)
    assert all(total.sessions and total.bytes_in and total.bytes_out for total in recording.totals)
    assert glimpses[-1].messages == len(written)
    assert left_behind() == before
    same = compare(recording, recording)
    assert {one.ratio for one in same if one.ratio is not None} == {1.0}


@pytest.mark.slow
@needs_namespaces
def test_crashes_sleep_full_and_wiped_disks_and_walkers_lose_nothing() -> None:
    scenario = Scenario(
        name="trouble",
        title="Everything at once",
        duration_s=22,
        calm_from_s=12,
        settle_s=9,
        lans=(Lan("north"), Lan("south")),
        mailboxes=(Mailboxes("n", "north", 3, sync_interval_s=1), Mailboxes("s", "south", sync_interval_s=1)),
        phones=(
            Phones("ada", "north", 2, messages_per_hour=3600, writes_until_s=12),
            Phones("courier", "south", messages_per_hour=1800, writes_until_s=6),
        ),
        faults=(
            Crash(2, ("n-1",), restart_after_s=1),
            Pause(3, ("n-2",), for_s=3),
            DiskFull(4, ("n-3",), for_s=3),
            Crash(5, ("n-3",), restart_after_s=0.5),
            Walk(6, ("courier",), "north"),
            WipeDisk(8, ("n-1",), restart_after_s=1),
        ),
    )
    recording = play_real(scenario, 3)
    assert recording.passed, [verdict for verdict in recording.verdicts if not verdict.holds]
    kinds = {one.kind for one in recording.happenings}
    assert kinds >= {"crash", "pause", "end-of-pause", "disk-full", "end-of-disk-full", "walk", "wipe-disk", "start"}
    carried = [spread for spread in recording.spreads if len(spread.held_s) == 4]
    assert carried, "the courier brought nothing from south to north"
    assert {total.name: total.crashes for total in recording.totals} == {"n-1": 2, "n-2": 0, "n-3": 1, "s": 0}


def test_what_is_not_feasible_is_refused_with_its_reasons() -> None:
    upgrade = SPLIT.with_faults([Upgrade(1, ("n",), every_s=1, from_version=1, to_version=2)])
    with pytest.raises(RealWorldError, match="one version of the sync protocol"):
        play_real(upgrade, 1)


PLAY_AND_TELL = """
import sys
from simulations.real.play import play_real
from tests.simulations.real.test_play import SPLIT
from simulations.scenario import DiskFull
full = SPLIT.with_faults([DiskFull(0, ("n-1",), for_s=5)])
play_real(full, 1, watch=lambda glimpse: print(glimpse.at_s, flush=True))
"""


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_play_that_is_ended(number: signal.Signals) -> None:
    before = left_behind()
    player = subprocess.Popen(
        [sys.executable, "-c", PLAY_AND_TELL], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
    )
    assert player.stdout is not None
    with player.stdout:
        assert player.stdout.readline()
        started = [child.pid for child in psutil.Process(player.pid).children(recursive=True)]
        assert len(started) == 5, "four mailboxes and the switch"
        player.send_signal(number)
        player.wait(timeout=30)
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in started), what="the end of all processes")
    if number is signal.SIGKILL:  # files and mounts go with the next play
        assert left_behind() > before
        with scratch_folder():
            pass
    assert left_behind() == before
    mounts = Path("/proc/mounts").read_text()
    assert f"{FOLDER_PREFIX}{player.pid}-" not in mounts


@needs_namespaces
def test_a_mailbox_that_cannot_start_ends_the_play_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left_behind()
    monkeypatch.setenv("PYTHONOPTIMIZE", "nonsense")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(RealWorldError, match="could not be played"):
        play_real(SPLIT, 1)
    assert left_behind() == before


@pytest.mark.slow
@needs_namespaces
def test_a_wrong_clock_keeps_a_mailbox_apart_until_it_is_right_again() -> None:
    scenario = Scenario(
        name="clocks",
        title="A clock is wrong for a while",
        duration_s=20,
        calm_from_s=10,
        settle_s=9,
        lans=(Lan("here"),),
        mailboxes=(Mailboxes("m", "here", 2, sync_interval_s=1),),
        phones=(Phones("ada", "here", messages_per_hour=3600, writes_from_s=4, writes_until_s=10),),
        faults=(ClockChange(2, ("m-1",), step_s=3600), ClockChange(9, ("m-1",), step_s=-3600)),
    )
    recording = play_real(scenario, 1)
    assert recording.passed, [verdict for verdict in recording.verdicts if not verdict.holds]
    apart = [groups for at_s, groups in zip(recording.sampled_s, recording.groups, strict=True) if 6 < at_s < 9]
    assert max(apart) == 2
    assert recording.groups[-1] == 1
