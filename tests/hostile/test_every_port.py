"""Garbage to every port that a mailbox opens: the process goes on, says nothing frightening, and serves."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.mailboxes import MailboxProcess

DRAW = random.Random(7)
GARBAGE = {
    "nothing": b"",
    "a zero": b"\0",
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "a TLS hello": bytes.fromhex("16030100f8010000f40303") + DRAW.randbytes(240),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n" + DRAW.randbytes(500),
    "multistream": b"\x13/multistream/1.0.0\n" * 500,
    "multistream and garbage": b"\x13/multistream/1.0.0\n\x07/noise\n" + DRAW.randbytes(5000),
    "a length of 4 billion": b"\xff\xff\xff\xff\x0f" + DRAW.randbytes(1000),
    "half a request": b"POST /blips/store HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n{",
    "a deep body": b"POST /blips/store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    + b"Content-Length: 100000\r\n\r\n"
    + b"[" * 100_000,
    "not UTF-8": b"GET /\xff\xfe HTTP/1.1\r\nH\xf6st: \xe9\r\n\r\n",
    "line feeds": b"\n" * 50_000,
    "random": DRAW.randbytes(50_000),
}


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailboxProcess]:
    directory = tmp_path_factory.mktemp("garbage")
    options = ("--no-mdns", "--p2p", "127.0.0.1:0", "--https", "127.0.0.1:0", "--no-trust-loopback")
    with MailboxProcess(directory, *options) as process:
        yield process


def ports(mailbox: MailboxProcess) -> dict[str, int]:
    info = mailbox.info
    urls = {"http": info["http"][0], "https": info["https"][0], "admin": info["admin"]}
    return {name: int(url.rpartition(":")[2]) for name, url in urls.items()} | {
        "p2p": int(info["p2p"][0].split("/")[4])
    }


def throw(port: int, data: bytes, *, tls: bool = False) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as plain:
        sock = plain
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(plain)
        sock.settimeout(0.3)
        with suppress(TimeoutError):
            sock.sendall(data)
            while sock.recv(65536):
                pass


@pytest.mark.parametrize("port", ["http", "https", "https inside", "admin", "p2p"])
def test_garbage_hurts_nobody(mailbox: MailboxProcess, port: str) -> None:
    pid, number = mailbox.pid, ports(mailbox)[port.partition(" ")[0]]
    before = psutil.Process(pid).memory_info().rss
    for _ in range(2):
        for data in GARBAGE.values():
            throw(number, data, tls=port == "https inside")
    assert mailbox.pid == pid
    assert mailbox.request("GET", "/health")[0] == 200
    assert mailbox.store("tea", port, {0: b"still here"}) == 201
    assert mailbox.status()["messages"] > 0
    log = mailbox.log()
    assert "Traceback" not in log
    assert "is started again" not in log
    assert psutil.Process(pid).memory_info().rss - before < 100e6


def test_garbage_by_udp_is_nobodys_business(mailbox: MailboxProcess, tmp_path: Path) -> None:
    """Nothing but mDNS listens on UDP; what it makes of garbage is in test_mdns.py."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in ports(mailbox).values():
            for data in GARBAGE.values():
                with suppress(OSError):
                    sock.sendto(data[:9000], ("127.0.0.1", number))
    assert mailbox.request("GET", "/health")[0] == 200
