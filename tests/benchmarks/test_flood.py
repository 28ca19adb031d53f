"""What paired phones feel while strangers attack from many addresses. Run with `-m benchmark -s`; wants both cores."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from node.datadir import TOKEN_FILE
from tests.mailboxes import MailboxProcess

pytestmark = pytest.mark.benchmark

SECONDS = 12.0
PHONES = 8
ATTACKS = {
    "quiet": (0, 0),
    "store": (1000, 500),
    "get": (1000, 500),
    "connections": (500, 250),
    "slowloris": (1000, 500),
    "garbage": (300, 150),
}


@dataclass
class Phones:
    """Phones that store and get four times a second each, on connections that they keep."""

    port: int
    token: str
    took_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def play(self, seconds: float) -> None:
        stop = Event()
        threads = [Thread(target=self._phone, args=(number, stop)) for number in range(PHONES)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()

    def _phone(self, number: int, stop: Event) -> None:
        source = (f"127.0.1.{1 + number}", 0)
        link = HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=source)
        turn = 0
        while not stop.wait(0.25):
            turn += 1
            store = {"blips": {"tea": {f"phone {number}": {str(turn): "aGVsbG8="}}}}
            for path, body, wanted in (
                ("/blips/store", store, 201),
                ("/blips/get", {"topics": {"tea": {f"phone {number}": turn - 1}}}, 200),
            ):
                headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
                begun_s = time.perf_counter()
                try:
                    if link.sock is None:
                        link.connect()
                        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    link.request("POST", path, json.dumps(body), headers)
                    answer = link.getresponse()
                    answer.read()
                    if answer.status != wanted:
                        self.errors.append(str(answer.status))
                except (OSError, HTTPException) as error:
                    self.errors.append(type(error).__name__)
                    link.close()
                self.took_s.append(time.perf_counter() - begun_s)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailboxProcess]:
    directory = tmp_path_factory.mktemp("flood")
    with MailboxProcess(directory, "--no-mdns", "--p2p", "127.0.0.1:0", "--no-trust-loopback") as process:
        yield process


def test_paired_phones_go_on_while_strangers_attack(mailbox: MailboxProcess) -> None:
    port = int(mailbox.info["http"][0].rpartition(":")[2])
    token = (Path(mailbox.data_dir) / TOKEN_FILE).read_text().strip()
    process = psutil.Process(mailbox.pid)
    heads = ("sent", "rps", "p50 ms", "p99 ms", "x quiet", "errors", "RSS MB", "CPU %")
    print(f"\n{'attack':12}" + "".join(f"{head:>9}" for head in heads) + "  answers")
    quiet_p99_s, failed = 0.0, False
    for attack, (connections, addresses) in ATTACKS.items():
        flooder = None
        if connections:
            words = [
                sys.executable,
                "-m",
                "tests.benchmarks.flooder",
                str(port),
                attack,
                str(SECONDS + 2),
                str(connections),
                str(addresses),
            ]
            flooder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            time.sleep(2.0)
        phones = Phones(port, token)
        before = process.cpu_times()
        phones.play(SECONDS)
        after = process.cpu_times()
        sent, answers = 0, ""
        if flooder is not None:
            report = json.loads(flooder.communicate()[0])
            sent, answers = report["sent"], report["answers"]
        took_s = sorted(phones.took_s)
        p50_s, p99_s = (took_s[int(len(took_s) * share)] for share in (0.5, 0.99))
        quiet_p99_s = quiet_p99_s or p99_s
        cpu = (after.user + after.system - before.user - before.system) / SECONDS
        figures = (len(took_s) / SECONDS, 1000 * p50_s, 1000 * p99_s, p99_s / quiet_p99_s, len(phones.errors))
        load = (process.memory_info().rss / 1e6, 100 * cpu)
        told = "".join(f"{figure:9.1f}" for figure in (*figures, *load))
        print(f"{attack:12}{sent:9,}{told}  {answers} {Counter(phones.errors).most_common(3)}")
        failed |= bool(phones.errors)
        deadline_s = time.monotonic() + 30
        while _pace(mailbox) and time.monotonic() < deadline_s:
            time.sleep(0.5)
    assert not failed


def _pace(mailbox: MailboxProcess) -> float:
    return next(row["used"] for row in mailbox.status()["limits"] if row["name"] == "PACE_MAX_S") or 0.0
