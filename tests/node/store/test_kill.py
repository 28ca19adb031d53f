"""kill -9 at any moment loses nothing that was acknowledged, leaves no half request, and the store opens again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.store.sqlite import SqliteStore
from protocols.limits.data import SEQ_MAX
from protocols.model import LogName
from tests.node.store.killed_child import TASKS, requests

ROOT = Path(__file__).parents[3]


def run_and_kill(path: Path, seed: int, delay_s: float) -> list[tuple[int, int]]:
    """What the child acknowledged as (task, seq of the request's first message) before it was killed."""
    command = [sys.executable, "-m", "tests.node.store.killed_child", str(path), str(seed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        lines = (first + child.stdout.read()).splitlines(keepends=True)
    assert child.returncode == -signal.SIGKILL
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines if line.endswith(b"\n")]


async def check(path: Path, acknowledged: set[tuple[int, int]], seed: int) -> int:
    async with SqliteStore.open(path) as store:
        report = await store.verify()
        assert list(report.problems) == []
        names = [LogName("topic", str(task)) for task in range(TASKS)]
        watermarks = await store.watermarks(names)
        for task, name in enumerate(names):
            held = {item.seq: item for item in await store.items(name, 0, SEQ_MAX)}
            starts = [start for t, start in acknowledged if t == task]
            # Whole requests only: the watermark ends one, and all that were acknowledged lie below it.
            start, expected, top = 0, {}, watermarks[name]
            while start <= max(-1 if top is None else top, *starts, -1):
                for arrival in requests(task, start, seed):
                    expected[arrival.seq] = arrival.digest
                    start += 1
            assert top == max(expected, default=None)
            found = {seq: item.digest for seq, item in held.items()}
            assert found.items() <= expected.items()
            assert found == expected or task == 0  # where expiry was at work
        totals = store.statistics()
        assert (totals.messages, totals.bytes) == (report.messages, report.bytes)
        return totals.messages


async def kill_many_times(path: Path, rounds: int) -> None:
    chance = random.Random(rounds)
    acknowledged: set[tuple[int, int]] = set()
    held = 0
    for _ in range(rounds):
        acknowledged.update(run_and_kill(path, 7, chance.choice((0, 0.01, 0.05, 0.15, 0.3)) * chance.random()))
        held = await check(path, acknowledged, 7)
    assert held >= len(acknowledged) / 2 > rounds


async def test_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    await kill_many_times(tmp_path / "store.db", 20)


@pytest.mark.slow
async def test_kill_many_times(tmp_path: Path) -> None:
    for turn in range(10):
        await kill_many_times(tmp_path / f"{turn}.db", 25)


def make_and_kill(path: Path, delay_s: float) -> None:
    script = "import sys, pathlib; from node.store import _schema; print(flush=True); "
    command = [sys.executable, "-c", script + "_schema.prepare(pathlib.Path(sys.argv[1]))", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay_s)
        child.kill()


async def test_kill_while_the_store_is_being_made(tmp_path: Path) -> None:
    for turn in range(8):
        make_and_kill(tmp_path / f"{turn % 3}.db", 0.04 * turn)
    for turn in range(3):
        async with SqliteStore.open(tmp_path / f"{turn}.db") as store:
            assert list((await store.verify()).problems) == []
