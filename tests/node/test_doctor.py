"""The doctor, by breaking on real networks and disks what it looks at.

A look at a network takes some seconds of listening. So the networks of this file are made together, and all looks that
don't disturb each other are begun at once (`Clinic`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from node.doctor.findings import Finding, Verdict
from node.doctor.machine import judge_fsync
from node.doctor.network import check_firewall, check_neighbours
from node.http.admin.token import load_or_create_token
from node.identity import Identity
from protocols.addresses import PeerAddress
from protocols.limits.tools import DOCTOR_FSYNC_SLOW_S
from tests.mailboxes import MailboxProcess, clean_environment, eventually
from tests.netns import Host, Lan, why_no_namespaces

# A mailbox whose clock is wrong: announces itself, and answers /health with this offset (seconds) in its Date.
WRONG_CLOCK = """
import functools, sys, time, trio
from email.utils import formatdate
from node.discovery.api import Announcement
from node.discovery.mdns import MdnsDiscovery
from protocols.model import MailboxId

async def answer(offset_s, stream):
    await stream.receive_some(4096)
    date = formatdate(time.time() + offset_s, usegmt=True)
    await stream.send_all(f"HTTP/1.1 200 OK\\r\\nDate: {date}\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}".encode())
    await stream.aclose()

async def main():
    async with trio.open_nursery() as nursery:
        handler = functools.partial(answer, float(sys.argv[1]))
        (listener,) = await nursery.start(functools.partial(trio.serve_tcp, handler, 3411, host="0.0.0.0"))
        me = Announcement(MailboxId(b"\\x07" * 32), 3411, 4001, 99, "main")
        print("ready", flush=True)
        await MdnsDiscovery().run(me, lambda event: None)

trio.run(main)
"""

# A program that holds the port of multicast DNS for itself.
HOLDER = """
import socket
taken = socket.socket(type=socket.SOCK_DGRAM)
taken.bind(("", 5353))
print("ready", flush=True)
input()
"""

CLOCKS = [(3, "good"), (-120, "note"), (7200, "problem")]
LOOKS_AT_ONCE = 6

Findings = dict[str, dict[str, Any]]


class Clinic:
    """Networks with something wrong, each in its way, and what the doctor says to them."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place = place
        self._stack = stack
        self._pool = stack.enter_context(ThreadPoolExecutor(LOOKS_AT_ONCE))
        self._looks: dict[str, Future[Findings]] = {}
        quiet, held, healthy, filtered, *clocks = (stack.enter_context(Lan()) for _ in range(4 + len(CLOCKS)))

        self.hosts = [healthy.add_host(), healthy.add_host()]
        self.guest = healthy.add_host()
        self.guest.ip("route", "add", "blackhole", f"{self.hosts[1].address}/32")  # multicast goes on
        self.a, self.b = (self.mailbox(name, host) for name, host in zip("ab", self.hosts, strict=True))
        # Known by name, in the same network, but never heard: something in between keeps multicast back.
        asking, mute = filtered.add_host(), filtered.add_host()
        mute.ip("route", "del", "224.0.0.0/4", "dev", "eth0")
        (place / "mute").mkdir(mode=0o700)
        identity = Identity.load_or_create(place / "mute" / "identity.key")
        named = PeerAddress(mute.address, 4001, identity.mailbox_id)
        self.mailbox("mute", mute, "--no-mdns", "--p2p", f"{mute.address}:4001")
        asker = self.mailbox("asker", asking, "--peer", str(named))

        self.run(taken := held.add_host(), HOLDER)
        for (offset_s, _), lan in zip(CLOCKS, clocks, strict=True):
            self.run(lan.add_host(), WRONG_CLOCK, str(offset_s))
            self.begin(f"clock {offset_s}", lan.add_host(), "nobody")
        self.begin("quiet", quiet.add_host(), "nobody")
        self.begin("no network", quiet.add_host(connected=False), "nobody")
        self.begin("held", taken, "nobody")
        for mailbox in (self.a, self.b, asker):
            mailbox.wait_ready()
        eventually(lambda: met(asker), what="the two that are named")
        self.begin("unheard", asking, "asker")
        eventually(lambda: met(self.a) and met(self.b), what="the healthy ones")
        self.begin("healthy", self.hosts[0], "a")
        self.begin("guest", self.guest, "nobody")
        self.begin("taken port", self.hosts[1], "nobody")

    def mailbox(self, name: str, host: Host, *args: str) -> MailboxProcess:
        """One that is starting; `name` is that of its directory."""
        mailbox = MailboxProcess(self.place / name, *args, prefix=host.command([]), http="0.0.0.0:3411")
        self._stack.callback(mailbox.__exit__)
        return mailbox.start(wait=False)

    def run(self, host: Host, program: str, *args: str) -> None:
        """Starts a Python program that says when it is ready, and waits for that."""
        words = [sys.executable, "-c", program, *args]
        process = host.popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"

    def begin(self, look: str, host: Host, data_dir: str) -> None:
        self._looks[look] = self._pool.submit(examine, self.place / data_dir, host=host)

    def __getitem__(self, look: str) -> Findings:
        return self._looks[look].result()


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    if reason := why_no_namespaces():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield Clinic(tmp_path_factory.mktemp("clinic"), stack)


def examine(data_dir: Path, *args: str, host: Host | None = None) -> dict[str, dict[str, Any]]:
    """check -> finding, as the command prints them; its exit code must tell whether there is a problem."""
    words = [sys.executable, "-m", "node.cli", "doctor", "--json", "--data-dir", str(data_dir), *args]
    done = subprocess.run(
        words if host is None else host.command(words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )
    assert done.stdout, done.stderr
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    problems = [finding for finding in findings.values() if finding["verdict"] == "problem"]
    assert done.returncode == (1 if problems else 0)
    assert all(finding["remedy"] for finding in problems)
    assert "Traceback" not in done.stderr
    return findings


def verdict(findings: dict[str, dict[str, Any]], check: str) -> str:
    return str(findings[check]["verdict"])


def met(mailbox: MailboxProcess) -> bool:
    """Whether it is in step with another one."""
    return any(peer["state"] == "in-sync" and peer["addresses"] for peer in mailbox.status()["peers"])


# --- networks ------------------------------------------------------------------------------------------------------


def test_two_healthy_mailboxes(clinic: Clinic) -> None:
    findings = clinic["healthy"]
    wrong = [f for f in findings.values() if f["verdict"] not in ("good",) and f["check"] != "clock"]
    assert not wrong
    assert "3411" in findings["firewall"]["text"]


def test_an_access_point_that_separates_its_guests(clinic: Clinic) -> None:
    finding = clinic["guest"]["reaching others"]
    assert finding["verdict"] == "problem"
    assert "1 of 2 mailboxes" in finding["text"]
    assert "client isolation" in finding["remedy"]


def test_no_multicast(clinic: Clinic) -> None:
    alone = clinic["quiet"]["multicast"]
    assert alone["verdict"] == "note"
    assert "no other device" in alone["text"]
    finding = clinic["unheard"]["multicast"]
    assert finding["verdict"] == "problem"
    assert "does not pass multicast on" in finding["remedy"]


def test_a_program_that_keeps_multicast_to_itself(clinic: Clinic) -> None:
    finding = clinic["held"]["multicast"]
    assert finding["verdict"] == "problem"
    assert "5353" in finding["text"]


def test_no_network(clinic: Clinic) -> None:
    findings = clinic["no network"]
    assert verdict(findings, "network") == "problem"
    assert verdict(findings, "multicast") == "skipped"


@pytest.mark.parametrize(("offset_s", "expected"), CLOCKS)
def test_the_clocks_of_others(clinic: Clinic, offset_s: int, expected: str) -> None:
    findings = clinic[f"clock {offset_s}"]
    assert verdict(findings, "clock of others") == expected
    assert ("behind" in findings["clock of others"]["text"]) == (offset_s > 100)
    assert verdict(findings, "protocol") == "note"
    assert "99" in findings["protocol"]["text"]


def test_a_taken_port(clinic: Clinic) -> None:
    finding = clinic["taken port"]["ports"]
    assert finding["verdict"] == "problem"
    assert "3411" in finding["text"]


def test_a_firewall_that_lets_nobody_in(clinic: Clinic) -> None:
    """At the second one: it has not asked the first one yet, which tries only now and then for the same mailbox."""
    inside_host, outside_host = clinic.hosts[1], clinic.hosts[0]
    # What this host answers to phones goes nowhere: from outside it looks as if its firewall swallowed the question.
    rule = ("ipproto", "tcp", "sport", "3411", "blackhole")
    try:
        inside_host.ip("rule", "add", *rule)
    except RuntimeError as error:
        pytest.skip(f"no policy routing here: {error}")
    clinic.begin("outside", outside_host, "a")
    clinic.begin("inside", inside_host, "b")
    inside, outside = clinic["inside"]["firewall"], clinic["outside"]["reaching others"]
    inside_host.ip("rule", "del", *rule)
    assert inside["verdict"] == "problem"
    assert "3411" in inside["text"]
    assert "silent" in inside["text"]
    assert "ufw allow 3411/tcp" in inside["remedy"]
    assert outside["verdict"] == "problem"
    assert inside_host.address in outside["text"]


def test_a_copied_identity(clinic: Clinic) -> None:
    """The last of the networks: the copy stays."""
    assert verdict(clinic["healthy"], "identity") == "good"
    (clinic.place / "copy").mkdir(mode=0o700)
    shutil.copy2(clinic.a.data_dir / "identity.key", clinic.place / "copy" / "identity.key")
    clinic.mailbox("copy", clinic.guest).wait_ready()
    clinic.begin("copied", clinic.hosts[0], "a")
    finding = clinic["copied"]["identity"]
    assert finding["verdict"] == "problem"
    assert clinic.guest.address in finding["text"]


# --- this machine --------------------------------------------------------------------------------------------------


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    Identity.load_or_create(tmp_path / "a" / "identity.key")
    load_or_create_token(tmp_path / "a" / "admin-token")
    assert verdict(examine(tmp_path / "a", "--no-mdns"), "data directory") == "good"
    (tmp_path / "a" / "admin-token").chmod(0o644)
    assert "admin-token" in examine(tmp_path / "a", "--no-mdns")["data directory"]["text"]
    (tmp_path / "a" / "identity.key").chmod(0o644)
    finding = examine(tmp_path / "a", "--no-mdns")["data directory"]
    assert finding["verdict"] == "problem"
    assert "identity.key" in finding["text"]


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    assert verdict(examine(tmp_path / "a", "--no-mdns"), "data directory") == "problem"
    words = [sys.executable, "-m", "node.cli", "doctor", "--no-mdns", "--data-dir", str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=clean_environment())
    assert re.search(r"^PROBLEM  data directory   .*not a directory\n +→ choose another one", done.stdout, re.MULTILINE)
    assert re.search(r"^ok       versions ", done.stdout, re.MULTILINE)


def test_a_small_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        finding = examine(disk / "a", "--no-mdns")["disk space"]
        assert finding["verdict"] == "problem"
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        findings = examine(disk, "--no-mdns")
        assert verdict(findings, "data directory") == "problem"
        assert verdict(findings, "disk speed") == "problem"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_storage_limit_beyond_the_disk(tmp_path: Path) -> None:
    finding = examine(tmp_path / "a", "--no-mdns", "--storage-limit", "1000TiB")["disk space"]
    assert finding["verdict"] == "note"
    assert "storage limit" in finding["text"]


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit (util-linux)")
def test_too_few_open_files(tmp_path: Path) -> None:
    words = ["prlimit", "--nofile=256:256", sys.executable, "-m", "node.cli", "doctor", "--json", "--no-mdns"]
    done = subprocess.run(
        [*words, "--data-dir", str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"PATH": os.environ["PATH"]}),
    )
    finding = next(f for f in json.loads(done.stdout) if f["check"] == "open files")
    assert finding["verdict"] == "problem"
    assert "256" in finding["text"]


def test_a_mailbox_that_hangs(tmp_path: Path) -> None:
    """It holds the directory, but its administration is gone."""
    with MailboxProcess(tmp_path / "a", "--no-mdns") as mailbox:
        info = mailbox.info | {"admin": "http://127.0.0.1:1"}
        (tmp_path / "a" / "node.json").write_text(json.dumps(info))
        findings = examine(tmp_path / "a", "--no-mdns")
        assert verdict(findings, "mailbox") == "problem"
        (tmp_path / "a" / "node.json").write_text(json.dumps(info | {"version": "0.0.9"}))
        assert verdict(examine(tmp_path / "a", "--no-mdns"), "versions") == "problem"


# --- judgements ----------------------------------------------------------------------------------------------------


def test_a_slow_disk() -> None:
    assert judge_fsync(DOCTOR_FSYNC_SLOW_S / 10).verdict is Verdict.GOOD
    assert judge_fsync(DOCTOR_FSYNC_SLOW_S * 2).verdict is Verdict.NOTE


def test_neighbours_that_are_not_in_step() -> None:
    def judged(*states: str) -> Finding:
        peers = [{"mailbox_id": "A" * 43, "state": state, "reason": "their clock is off"} for state in states]
        return check_neighbours(peers)

    assert judged("in-sync", "in-sync").verdict is Verdict.GOOD
    assert judged("in-sync", "behind").verdict is Verdict.NOTE
    refused = judged("behind", "refused")
    assert refused.verdict is Verdict.PROBLEM
    assert "their clock is off" in refused.text
    assert check_neighbours(None).verdict is Verdict.SKIPPED


def test_one_neighbour_that_could_connect_is_enough() -> None:
    def answer(outcome: str) -> dict[str, Any]:
        trial = {"port": 3411, "host": "10.0.0.2", "outcome": outcome}
        return {"mailbox_id": "A" * 43, "trials": [trial], "error": None}

    assert check_firewall([answer("silent"), answer("open")]).verdict is Verdict.GOOD
    assert check_firewall([answer("silent"), answer("closed")]).verdict is Verdict.PROBLEM
    nobody = {"mailbox_id": "A" * 43, "trials": [], "error": "it did not answer in time"}
    assert check_firewall([nobody]).verdict is Verdict.SKIPPED
