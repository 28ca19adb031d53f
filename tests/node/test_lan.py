"""Whole mailboxes on a real LAN of network namespaces. They are told nothing of each other: mDNS must do it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mailboxes import MailboxProcess, eventually
from tests.netns import Host, Lan
from tests.node.test_admission_processes import set_password

# What a phone on another computer does; prints one JSON value. `hold` opens so many connections at once and keeps them,
# `burst` sends requests as fast as it can.
PHONE = """
import http.client, json, socket, sys
what, host, port, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
GET = b"GET /health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"

def answer(connection):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return 0
        data += piece
    return int(data.split()[1])

def connect():
    connection = socket.create_connection((host, port), timeout=20)
    connection.sendall(GET)
    return connection

if what == "hold":
    kept = [connect() for _ in range(number)]
    print(json.dumps([answer(connection) for connection in kept]))
else:
    codes = {}
    connections = [http.client.HTTPConnection(host, port, timeout=20) for _ in range(8)]
    retry_after = None
    for i in range(number):
        connection = connections[i % 8]
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
        codes[response.status] = codes.get(response.status, 0) + 1
        retry_after = response.getheader("retry-after") or retry_after
    print(json.dumps([codes, retry_after]))
"""


@pytest.fixture
def start(lan: Lan, tmp_path: Path) -> Iterator[Callable[..., MailboxProcess]]:
    """Starts a mailbox on a host as a user would, with mDNS and no addresses. All are gone after the test."""

    started: list[MailboxProcess] = []

    def start(name: str, host: Host, *args: str) -> MailboxProcess:
        mailbox = MailboxProcess(tmp_path / name, *args, prefix=host.command([]), http="0.0.0.0:0")
        started.append(mailbox)
        return mailbox.start()

    yield start
    for mailbox in started:
        mailbox.__exit__()


def state(of: MailboxProcess, other: str) -> str:
    peer = of.peer(other)
    return "unknown" if peer is None else str(peer["state"])


def in_touch(*mailboxes: MailboxProcess) -> bool:
    ids = {mailbox.info["mailbox_id"] for mailbox in mailboxes}
    return all(
        {peer["mailbox_id"] for peer in mailbox.status()["peers"] if peer["state"] == "in-sync"}
        == ids - {mailbox.info["mailbox_id"]}
        for mailbox in mailboxes
    )


def put(at: MailboxProcess, topic: str, log: str, seq: int, text: str, folder: Path) -> None:
    file = folder / "message"
    file.write_text(text)
    at.command("put", topic, log, str(seq), str(file))


def texts(at: MailboxProcess, topic: str) -> set[str]:
    return set(at.command("get", topic, "--raw").stdout.split("\n")) - {""}


def timed(what: str, condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    began = time.monotonic()
    eventually(condition, timeout_s=timeout_s, what=what)
    print(f"{what}: {time.monotonic() - began:.1f} s")


def test_three_mailboxes_find_each_other_part_and_heal(
    lan: Lan, start: Callable[..., MailboxProcess], tmp_path: Path
) -> None:
    hosts = [lan.add_host() for _ in range(3)]
    a, b, c = (start(name, host) for name, host in zip("abc", hosts, strict=True))
    c_id = c.info["mailbox_id"]
    timed("all three know each other", lambda: in_touch(a, b, c))

    put(a, "news", "alice", 0, "from a\n", tmp_path)
    timed("readable on the neighbours", lambda: texts(b, "news") == texts(c, "news") == {"from a"})

    lan.part(hosts[2])
    put(a, "news", "alice", 1, "a while apart\n", tmp_path)
    put(c, "news", "carol", 0, "c while apart\n", tmp_path)
    timed("the parted one counts as unreachable", lambda: state(a, c_id) == state(b, c_id) == "unreachable")
    assert texts(b, "news") == {"from a", "a while apart"}
    assert texts(c, "news") == {"from a", "c while apart"}
    peer = a.peer(c_id)
    assert peer
    assert peer["reason"]
    lan.heal(hosts[2])
    timed("equal after healing", lambda: a.in_sync_with(b, c))
    assert texts(a, "news") == texts(c, "news") == {"from a", "a while apart", "c while apart"}

    c.kill()
    put(b, "news", "bob", 0, "c is dead\n", tmp_path)
    timed("the dead one counts as unreachable", lambda: state(a, c_id) == state(b, c_id) == "unreachable")
    c.start()
    assert c.info["mailbox_id"] == c_id
    timed("in sync after its restart", lambda: in_touch(a, b, c) and a.in_sync_with(b, c))
    assert "c is dead" in texts(c, "news")

    for mailbox in (a, b, c):
        assert mailbox.stop() == 0
        assert "Traceback" not in mailbox.log()
        print(mailbox.log())


def test_two_mailboxes_on_one_computer(lan: Lan, start: Callable[..., MailboxProcess], tmp_path: Path) -> None:
    host = lan.add_host()
    a, b = start("a", host), start("b", host)
    timed("both know each other", lambda: in_touch(a, b))
    put(a, "news", "alice", 0, "hello\n", tmp_path)
    timed("readable on the other", lambda: texts(b, "news") == {"hello"})


def test_networks_with_different_tags_share_a_lan(
    lan: Lan, start: Callable[..., MailboxProcess], tmp_path: Path
) -> None:
    hosts = [lan.add_host() for _ in range(3)]
    a, b = start("a", hosts[0], "--network", "red"), start("b", hosts[1], "--network", "red")
    c = start("c", hosts[2], "--network", "blue")
    put(c, "news", "carol", 0, "blue\n", tmp_path)
    timed("the red ones know each other", lambda: in_touch(a, b))
    put(a, "news", "alice", 0, "red\n", tmp_path)
    timed("readable on the neighbour", lambda: texts(b, "news") == {"red"})
    assert c.status()["peers"] == []
    assert texts(c, "news") == {"blue"}


def test_limits_per_address_of_the_phones_door(lan: Lan, start: Callable[..., MailboxProcess]) -> None:
    hosts = [lan.add_host() for _ in range(3)]
    mailbox = start("a", hosts[0])
    port = next(url.rsplit(":", 1)[1] for url in mailbox.info["http"] if hosts[0].address in url)

    def phone(host: Host, what: str, number: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", PHONE, what, hosts[0].address, port, str(number)]
        return host.popen(words, stdout=subprocess.PIPE)

    holding = phone(hosts[1], "hold", 40)
    codes = json.loads(holding.communicate(timeout=60)[0])
    assert codes.count(200) == 32
    assert set(codes) <= {200, 503, 429, 0}

    codes, retry_after = json.loads(phone(hosts[1], "burst", 4000).communicate(timeout=120)[0])
    assert codes["200"] >= 1000
    assert codes["429"] > 0
    assert int(retry_after) >= 1
    # Another address, and this computer itself, have nothing to do with it.
    codes, _ = json.loads(phone(hosts[2], "burst", 100).communicate(timeout=60)[0])
    assert codes == {"200": 100}
    assert mailbox.status()["messages"] == 0


ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
headers = {"content-type": "application/json", "authorization": "Bearer " + sys.argv[3]}
connection.request("POST", "/blips/get", '{"topics": {"tea": {}}}', headers)
print(connection.getresponse().status)
"""


def test_the_token_of_the_command_line_is_good_on_its_own_machine_only(
    lan: Lan, start: Callable[..., MailboxProcess], tmp_path: Path
) -> None:
    """Whoever has found it elsewhere is a stranger; the command line goes on, by the LAN's address as well."""
    here, elsewhere = lan.add_host(), lan.add_host()
    box = start("box", here, "--no-mdns")
    assert box.stop() == 0
    set_password(box.data_dir, "mind the gap, please")  # on the files: the command runs outside of the namespace
    box.start()
    token = (box.data_dir / "admin-token").read_text().strip()
    port = box.info["http"][0].rsplit(":", 1)[1]

    def status(host: Host, address: str) -> int:
        asked = subprocess.run(
            host.command([sys.executable, "-c", ASK, address, port, token]), capture_output=True, text=True, check=True
        )
        return int(asked.stdout)

    assert status(here, "127.0.0.1") == 200
    assert status(here, here.address) == 200
    assert status(elsewhere, here.address) == 401
