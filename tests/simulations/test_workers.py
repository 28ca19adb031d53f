"""Runs in other processes: what comes back, and what becomes of those that raise, die or never end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.process import BaseProcess

import psutil
import pytest

from simulations import workers as module
from simulations.scenario import Lan, Mailboxes, Phones, Scenario
from simulations.workers import Workers, outcome_of

SHORT = Scenario(
    name="short",
    title="Short",
    duration_s=120.0,
    calm_from_s=60.0,
    settle_s=60.0,
    lans=[Lan("home")],
    mailboxes=[Mailboxes("box", "home", 2)],
    phones=[Phones("ana", "home", messages_per_hour=120.0)],
)
ENDLESS = replace(SHORT, duration_s=30 * 86_400.0)
BROKEN = replace(SHORT, mailboxes=[Mailboxes("box", "nowhere")])


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2) as both:
        yield both


def test_outcomes_are_those_of_this_process(workers: Workers) -> None:
    outcomes = dict(workers.run([(SHORT, seed) for seed in (1, 2, 3)]))
    assert sorted(outcomes) == [0, 1, 2]
    here = outcome_of(SHORT, 2)
    assert outcomes[1].passed
    assert outcomes[1].trace_hash == here.trace_hash
    assert outcomes[0].trace_hash != here.trace_hash


def test_ctrl_c_counts_while_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(process: BaseProcess) -> None:
        start(process)
        children.append(psutil.Process(process.pid))
        os.kill(os.getpid(), signal.SIGINT)
        children[0].send_signal(signal.SIGINT)

    children: list[psutil.Process] = []
    start = BaseProcess.start
    monkeypatch.setattr(BaseProcess, "start", started)
    with pytest.raises(KeyboardInterrupt), Workers(1) as one:
        list(one.run([(SHORT, 1)]))
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "its worker went on"
    assert [process.returncode for process in gone] == [0], "the worker heard the signal, too"


def test_what_raises_is_a_failure_and_the_others_go_on(workers: Workers) -> None:
    outcomes = dict(workers.run([(BROKEN, 1), (SHORT, 1)]))
    assert not outcomes[0].passed
    ((name, why),) = outcomes[0].broken
    assert name == "no-exception"
    assert "Traceback" in why
    assert outcomes[1].passed


def test_what_never_ends_is_given_up(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWARM_PLAY_MAX_S", 3.0)
    outcomes = dict(workers.run([(ENDLESS, 1)]))
    assert outcomes[0].broken == (("no-hang", "it did not end in 3 s"),)


def test_a_process_that_dies_is_a_failure(workers: Workers) -> None:
    def kill_it() -> None:
        time.sleep(2.0)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()

    killer = threading.Thread(target=kill_it)
    killer.start()
    outcomes = dict(workers.run([(ENDLESS, 1)]))
    killer.join()
    assert outcomes[0].broken == (("no-death", "its process ended with exit code -9"),)


def test_closing_breaks_off_what_runs(workers: Workers) -> None:
    with closing(workers.run([(SHORT, 1), (ENDLESS, 1)])) as outcomes:
        number, outcome = next(outcomes)
    assert (number, outcome.passed) == (0, True)
    assert not workers._busy
    assert dict(workers.run([(SHORT, 1)]))[0].trace_hash == outcome.trace_hash
