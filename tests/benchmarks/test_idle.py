"""What a mailbox costs while nothing happens: one alone, and two in step, each on a computer of its own."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.mailboxes import MailboxProcess, eventually
from tests.netns import Lan

pytestmark = pytest.mark.benchmark

SETTLED_S = 60.0  # after the start: first sessions, what the interpreter puts off
IDLE_S = 600.0


def test_idle_mailboxes(lan: Lan, tmp_path: Path) -> None:
    with Lan() as elsewhere:
        hosts = {"alone": elsewhere.add_host(), "in step, a": lan.add_host(), "in step, b": lan.add_host()}
        mailboxes = {
            name: MailboxProcess(tmp_path / name.replace(", ", "-"), prefix=host.command([]), http="0.0.0.0:0").start()
            for name, host in hosts.items()
        }
        try:
            a, b = mailboxes["in step, a"], mailboxes["in step, b"]
            for mailbox in (mailboxes["alone"], a):
                mailbox.command("put", "topic", "log", "0", __file__)
            eventually(lambda: a.status()["messages"] and a.in_sync_with(b), what="in step")
            processes = {name: psutil.Process(mailbox.pid) for name, mailbox in mailboxes.items()}
            time.sleep(SETTLED_S)
            before = {name: (cpu_s(process), memory_mb(process)) for name, process in processes.items()}
            time.sleep(IDLE_S)
            print(f"\n{'':<12} {'CPU s':>7} {'of a core':>10} {'MB before':>10} {'MB after':>9}  in {IDLE_S:.0f} s")
            for name, process in processes.items():
                spent_s, memory = cpu_s(process) - before[name][0], memory_mb(process)
                print(f"{name:<12} {spent_s:7.2f} {spent_s / IDLE_S:10.3%} {before[name][1]:10.1f} {memory:9.1f}")
            assert a.in_sync_with(b)
        finally:
            for mailbox in mailboxes.values():
                mailbox.__exit__()


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6
