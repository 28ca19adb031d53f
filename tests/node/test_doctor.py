"""The doctor, by breaking on real networks and disks what it looks at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.doctor.findings import Finding, Verdict
from node.doctor.machine import judge_fsync
from node.doctor.network import check_firewall, check_neighbours
from protocols.limits.tools import DOCTOR_FSYNC_SLOW_S
from tests.mailboxes import MailboxProcess, clean_environment, eventually
from tests.netns import Host, Lan

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
        me = Announcement(MailboxId(b"\\x07" * 32), 3411, 4001, int(sys.argv[2]), "main")
        await MdnsDiscovery().run(me, print)

trio.run(main)
"""

Start = Callable[..., MailboxProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a mailbox on a host. All are gone after the test."""
    started: list[MailboxProcess] = []

    def start(name: str, host: Host, *args: str) -> MailboxProcess:
        mailbox = MailboxProcess(tmp_path / name, *args, prefix=host.command([]), http="0.0.0.0:3411")
        started.append(mailbox)
        return mailbox.start()

    yield start
    for mailbox in started:
        mailbox.__exit__()


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


def test_two_healthy_mailboxes(lan: Lan, start: Start) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    a, b = (start(name, host) for name, host in zip("ab", hosts, strict=True))
    eventually(lambda: met(a) and met(b))
    findings = examine(a.data_dir, host=hosts[0])
    wrong = [f for f in findings.values() if f["verdict"] not in ("good",) and f["check"] != "clock"]
    assert not wrong
    assert "3411" in findings["firewall"]["text"]

    said = a.command("doctor", check=False).stdout
    assert "PROBLEM" not in said
    assert "firewall" in said


def test_a_firewall_that_lets_nobody_in(lan: Lan, start: Start) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    a, b = (start(name, host) for name, host in zip("ab", hosts, strict=True))
    eventually(lambda: met(a) and met(b))
    # What this host answers to phones goes nowhere: from outside it looks as if its firewall swallowed the question.
    try:
        hosts[0].ip("rule", "add", "ipproto", "tcp", "sport", "3411", "blackhole")
    except RuntimeError as error:
        pytest.skip(f"no policy routing here: {error}")
    inside = examine(a.data_dir, host=hosts[0])["firewall"]
    assert inside["verdict"] == "problem"
    assert "3411" in inside["text"]
    assert "silent" in inside["text"]
    assert "ufw allow 3411/tcp" in inside["remedy"]
    outside = examine(b.data_dir, host=hosts[1])
    assert verdict(outside, "reaching others") == "problem"
    assert hosts[0].address in outside["reaching others"]["text"]
    assert verdict(outside, "firewall") == "good"


def test_an_access_point_that_separates_its_guests(lan: Lan, start: Start, tmp_path: Path) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    start("b", hosts[1])
    hosts[0].ip("route", "add", "blackhole", f"{hosts[1].address}/32")  # multicast goes on
    finding = examine(tmp_path / "a", host=hosts[0])["reaching others"]
    assert finding["verdict"] == "problem"
    assert "client isolation" in finding["remedy"]


def test_no_multicast(lan: Lan, start: Start, tmp_path: Path) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    a, b = start("a", hosts[0]), start("b", hosts[1], "--no-mdns")
    alone = examine(a.data_dir, host=hosts[0])["multicast"]
    assert alone["verdict"] == "note"
    assert "no other device" in alone["text"]

    # Known by name, in the same network, but never heard: something in between keeps multicast back.
    hosts[1].ip("route", "del", "224.0.0.0/4", "dev", "eth0")
    a.stop()
    named = next(address for address in b.info["p2p"] if hosts[1].address in address)
    a = start("a", hosts[0], "--peer", named)
    eventually(lambda: met(a))
    finding = examine(a.data_dir, host=hosts[0])["multicast"]
    assert finding["verdict"] == "problem"
    assert "does not pass multicast on" in finding["remedy"]


def test_a_program_that_keeps_multicast_to_itself(lan: Lan, tmp_path: Path) -> None:
    host = lan.add_host()
    holder = host.popen(
        [
            sys.executable,
            "-c",
            "import socket; s = socket.socket(type=2); s.bind(('', 5353)); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline()
    finding = examine(tmp_path / "a", host=host)["multicast"]
    assert finding["verdict"] == "problem"
    assert "5353" in finding["text"]


def test_no_network(lan: Lan, tmp_path: Path) -> None:
    findings = examine(tmp_path / "a", host=lan.add_host(connected=False))
    assert verdict(findings, "network") == "problem"
    assert verdict(findings, "multicast") == "skipped"


def test_a_copied_identity(lan: Lan, start: Start, tmp_path: Path) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    a = start("a", hosts[0])
    (tmp_path / "b").mkdir(mode=0o700)
    shutil.copy2(a.data_dir / "identity.key", tmp_path / "b" / "identity.key")
    assert verdict(examine(a.data_dir, host=hosts[0]), "identity") == "good"
    start("b", hosts[1])
    finding = examine(a.data_dir, host=hosts[0])["identity"]
    assert finding["verdict"] == "problem"
    assert hosts[1].address in finding["text"]


@pytest.mark.parametrize(("offset_s", "expected"), [(3, "good"), (-120, "note"), (7200, "problem")])
def test_the_clocks_of_others(lan: Lan, tmp_path: Path, offset_s: int, expected: str) -> None:
    hosts = [lan.add_host(), lan.add_host()]
    other = hosts[1].popen([sys.executable, "-c", WRONG_CLOCK, str(offset_s), "99"])
    findings = examine(tmp_path / "a", host=hosts[0])
    assert other.poll() is None
    assert verdict(findings, "clock of others") == expected
    assert ("behind" in findings["clock of others"]["text"]) == (offset_s > 100)
    assert verdict(findings, "protocol") == "note"
    assert "99" in findings["protocol"]["text"]


# --- this machine --------------------------------------------------------------------------------------------------


def test_a_taken_port(lan: Lan, start: Start, tmp_path: Path) -> None:
    host = lan.add_host()
    start("a", host)
    finding = examine(tmp_path / "other", host=host)["ports"]
    assert finding["verdict"] == "problem"
    assert "3411" in finding["text"]


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "a", "--no-mdns") as mailbox:
        assert mailbox.stop() == 0
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
