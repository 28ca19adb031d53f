"""What paired phones feel while strangers attack from many addresses. Run with `-m benchmark -s`; wants both cores.

The attackers are a process that is kept to one core of two: they have computers of their own, and what a mailbox can
do about a core that is taken from it is nothing. Quiet and attacked phases take turns, so that whatever else this
machine does falls on both. "CPU p99" is what the mailbox computed while a phone waited, in ms: on a machine with
other work it says more than the time.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
import trio

from node.admission.files import load_admission
from node.admission.policy import Device, token_hash
from tests.benchmarks.flooded_phones import Felt, newcomers, play
from tests.mailboxes import MailboxProcess

pytestmark = pytest.mark.benchmark

SECONDS = 12.0
QUIET_S = SECONDS / 2
PHONES = 8
TURN_S = 0.25
ATTACKS = {  # connections, addresses
    "store": (1000, 500),
    "get": (1000, 500),
    "connections": (500, 250),
    "slowloris": (1000, 500),
    "garbage": (300, 150),
}


@dataclass
class Setting:
    mailbox: MailboxProcess
    tokens: list[str]

    @property
    def port(self) -> int:
        return int(self.mailbox.info["http"][0].rpartition(":")[2])

    def cpu_s(self) -> float:
        times = psutil.Process(self.mailbox.pid).cpu_times()
        return times.user + times.system

    def phones(self, seconds: float) -> tuple[Felt, Felt, float]:
        """What phones that stay and phones that come anew feel, and the share of a core that the mailbox takes."""
        staying, coming = Felt(self.mailbox.pid), Felt(self.mailbox.pid)
        addresses = [f"127.0.1.{1 + number}" for number in range(PHONES)]

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                tokens: list[str | None] = [*self.tokens[:PHONES]]
                nursery.start_soon(
                    lambda: play(self.port, addresses, tokens=tokens, every_s=TURN_S, seconds=seconds, felt=staying)
                )
                nursery.start_soon(
                    lambda: newcomers(
                        self.port, "127.0.9", token=self.tokens[PHONES], every_s=0.5, seconds=seconds, felt=coming
                    )
                )

        before_s, begun_s = self.cpu_s(), time.monotonic()
        trio.run(both)
        return staying, coming, (self.cpu_s() - before_s) / (time.monotonic() - begun_s)

    def calm(self) -> None:
        """Waits until strangers are treated as ever."""
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            used = {row["name"]: row["used"] for row in self.mailbox.status()["limits"]}
            if not used["CHALLENGE_BITS_MAX"]:
                return
            time.sleep(0.5)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    directory = tmp_path_factory.mktemp("flood") / "mailbox"
    directory.mkdir()
    tokens = [secrets.token_urlsafe(32) for _ in range(PHONES + 1)]
    admission = load_admission(directory)
    for number, token in enumerate(tokens):
        device = Device(f"phone{number}", f"phone {number}", token_hash(token), time.time())
        trio.run(admission.add_device, device)
    with MailboxProcess(directory, "--no-mdns", "--p2p", "127.0.0.1:0", "--no-trust-loopback") as process:
        assert process.store("festival", "what attackers ask for", {seq: bytes(280) for seq in range(2000)}) == 201
        yield Setting(process, tokens)


def flooder(port: int, attack: str, seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.benchmarks.flooder", str(port), attack, str(seconds)]
    words += map(str, ATTACKS[attack])
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_paired_phones_go_on_while_strangers_attack(setting: Setting) -> None:
    quiet, errors = Felt(setting.mailbox.pid), Counter[str]()
    rows = []
    for attack in ATTACKS:
        staying, coming, quiet_cpu = setting.phones(QUIET_S)
        quiet.took_s += staying.took_s
        quiet.work_s += staying.work_s
        errors += staying.errors + coming.errors
        # It takes a second to start: those who stay have their connections by then, others come in the midst of it.
        process = flooder(setting.port, attack, SECONDS + 1)
        staying, coming, cpu = setting.phones(SECONDS)
        report = json.loads(process.communicate()[0])
        rss_mb = psutil.Process(setting.mailbox.pid).memory_info().rss / 1e6
        rows.append((attack, report, staying, coming, rss_mb, 100 * cpu))
        setting.calm()
    rows.insert(0, ("quiet", {"sent": 0, "answers": []}, quiet, Felt(setting.mailbox.pid), 0.0, 100 * quiet_cpu))
    heads = ("sent", "requests", "p50 ms", "p99 ms", "x quiet", "CPU p99 ms", "x quiet", "errors", "new p99 ms")
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; quiet and attacked phases in turns")
    print(f"{'attack':12}" + "".join(f"{head:>11}" for head in (*heads, "RSS MB", "CPU %")))
    for attack, report, staying, coming, rss_mb, cpu in rows:
        figures = (
            len(staying.took_s),
            1000 * staying.at(0.5),
            1000 * staying.at(0.99),
            staying.at(0.99) / quiet.at(0.99),
            1000 * staying.work_at(0.99),
            staying.work_at(0.99) / quiet.work_at(0.99),
            (staying.errors + coming.errors).total(),
            1000 * coming.at(0.99),
            rss_mb,
            cpu,
        )
        print(f"{attack:12}{report['sent']:11,}" + "".join(f"{figure:11.1f}" for figure in figures))
        errors += staying.errors + coming.errors
    for attack, report, *_ in rows[1:]:
        print(f"{attack}: {report['answers']}")
    assert not errors


def test_a_festival_of_strangers_is_served(setting: Setting) -> None:
    """200 phones that nobody paired, each with a store and a get every 2.5 s, and nobody attacks."""
    felt = Felt(setting.mailbox.pid)
    addresses = [f"127.0.20.{1 + number}" for number in range(200)]
    before_s = setting.cpu_s()

    async def festival() -> None:
        await play(setting.port, addresses, tokens=[None] * 200, every_s=2.5, seconds=SECONDS, felt=felt)

    trio.run(festival)
    cpu = (setting.cpu_s() - before_s) / SECONDS
    print(
        f"\n200 honest strangers: {len(felt.took_s) / SECONDS:.0f} requests/s, p50 {1000 * felt.at(0.5):.1f} ms, "
        f"p99 {1000 * felt.at(0.99):.1f} ms, {felt.errors.total()} errors, CPU {100 * cpu:.0f} %"
    )
    assert not felt.errors
