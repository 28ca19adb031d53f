"""The pages for those who write clients are true: programs print what is shown, requests get the answers shown."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.mailboxes import MailboxProcess

ROOT = Path(__file__).parent.parent
SHOWN = "192.168.1.5:3411"


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each block."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[MailboxProcess]:
    with MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0") as box:
        yield box


def test_the_programs_print_what_is_shown(mailbox: MailboxProcess, tmp_path: Path) -> None:
    found = blocks("client.md")
    programs = 0
    for (language, text), (following, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        # Whoever else is on this network is left alone.
        program = text.replace(f"http://{SHOWN}", mailbox.info["http"][0])
        program = program.replace("MdnsDiscovery()", 'MdnsDiscovery(network="docs")')
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if following == "text":
            assert done.stdout == shown
        programs += 1
    assert programs == 5
    assert len(mailbox.read("signed")) == 1


def matches(answer: object, shown: object) -> bool:
    """Whether they are equal, where an ellipsis stands for any text."""
    if shown == "…":
        return isinstance(answer, str)
    if isinstance(answer, dict) and isinstance(shown, dict):
        return answer.keys() == shown.keys() and all(matches(answer[key], shown[key]) for key in shown)
    return answer == shown


def ask(url: str, request: bytes) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_the_requests_get_the_answers_shown(mailbox: MailboxProcess) -> None:
    found = [text for language, text in blocks("http-clients.md") if language == "http"]
    assert len(found) > 20
    for request, shown in zip(found[::2], found[1::2], strict=True):
        head, _, body = request.partition("\n\n")
        answer = ask(mailbox.info["http"][0], head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body[:-1].encode())
        got_head, _, got_body = answer.decode().partition("\r\n\r\n")
        shown_head, _, shown_body = shown.partition("\n\n")
        got_status, *got_headers = got_head.split("\r\n")
        shown_status, *shown_headers = shown_head.rstrip("\n").split("\n")
        assert got_status == shown_status, request
        assert set(shown_headers) <= set(got_headers), request
        if "content-type: application/json" in shown_headers:
            assert matches(json.loads(got_body), json.loads(shown_body)), request
        else:
            assert got_body == shown_body, request


def test_the_page_shows_every_route(mailbox: MailboxProcess) -> None:
    document = json.loads(mailbox.request("GET", "/openapi.json")[1])
    page = (ROOT / "docs" / "http-clients.md").read_text()
    assert {path for path in document["paths"] if path not in page} <= {"/pair"}
