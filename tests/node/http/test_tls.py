"""HTTPS with the mailbox's own identity, as clients that pin it see it: real processes, curl and Python's ssl."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import load_der_x509_certificate

from protocols.model import MailboxId
from tests.mailboxes import MailboxProcess

OPTIONS = ("--no-mdns", "--p2p", "127.0.0.1:0", "--https", "127.0.0.1:0")


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailboxProcess]:
    with MailboxProcess(tmp_path_factory.mktemp("tls") / "box", *OPTIONS) as box:
        yield box


def address(mailbox: MailboxProcess) -> tuple[str, int]:
    url = urlsplit(mailbox.info["https"][0])
    assert url.scheme == "https" and url.hostname and url.port
    return url.hostname, url.port


def open_pinned(mailbox_id: MailboxId, where: tuple[str, int]) -> ssl.SSLSocket:
    """A connection to the mailbox of that id and to no other: what a client has to do. Raises ConnectionError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the key says who it is, no authority does
    tls = context.wrap_socket(socket.create_connection(where, timeout=20))
    key = load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"").public_key()
    if not isinstance(key, Ed25519PublicKey) or key.public_bytes_raw() != mailbox_id.public_key:
        tls.close()
        raise ConnectionError("this is not that mailbox")
    return tls


def request(tls: ssl.SSLSocket, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("mailbox")
    connection.sock = tls
    headers = {} if body is None else {"content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, response.read()


def test_phones_store_and_get_as_over_http(mailbox: MailboxProcess) -> None:
    mailbox_id = MailboxId.parse(mailbox.info["mailbox_id"])
    large = "QUJD" * 700_000  # more than a window and many records
    with open_pinned(mailbox_id, address(mailbox)) as tls:
        assert tls.version() == "TLSv1.3"
        status, _ = request(tls, "POST", "/blobs/store", {"blobs": {"tls": {"anna": {"0": "aGk=", "1": large}}}})
        assert status == 201
        status, body = request(tls, "POST", "/blobs/get", {"topics": {"tls": {}}})
    assert status == 200
    assert json.loads(body)["blobs_by_topic"]["tls"]["blobs"]["anna"] == {"0": "aGk=", "1": large}
    assert mailbox.read("tls")["anna", 0] == b"hi"


def test_another_mailbox_in_its_place_is_noticed(mailbox: MailboxProcess, tmp_path: Path) -> None:
    true_id = MailboxId.parse(mailbox.info["mailbox_id"])
    with MailboxProcess(tmp_path / "other", *OPTIONS) as other:
        where = address(other)
        with pytest.raises(ConnectionError, match="not that mailbox"):
            open_pinned(true_id, where)
        open_pinned(MailboxId.parse(other.info["mailbox_id"]), where).close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_pins_it(mailbox: MailboxProcess) -> None:
    identity = json.loads(mailbox.command("identity", "--json").stdout)
    url = mailbox.info["https"][0] + "/health"

    def curl(pin: str) -> subprocess.CompletedProcess[str]:
        words = ["curl", "--silent", "--insecure", "--pinnedpubkey", pin, url]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    answer = curl(identity["https_pin"])
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["status"] == "ok"
    assert curl(MailboxId(bytes(32)).key_pin).returncode == 90  # CURLE_SSL_PINNEDPUBKEYNOTMATCH
    assert identity["https_pin"] in mailbox.command("identity").stdout


def test_the_certificate_is_the_same_after_a_restart(tmp_path: Path) -> None:
    mailbox = MailboxProcess(tmp_path / "box", *OPTIONS)
    seen = set()
    for _ in range(2):
        with mailbox:
            seen.add(ssl.get_server_certificate(address(mailbox)))
            assert mailbox.stop() == 0
        assert not list((tmp_path / "box").glob(".tls-*"))
    assert len(seen) == 1


def test_what_is_no_tls_ends_its_connection_and_nothing_else(mailbox: MailboxProcess) -> None:
    where = address(mailbox)
    for garbage in (
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
        bytes(100_000),
        b"\x16\x03\x01\xff\xff" + b"a" * 70_000,
    ):
        with socket.create_connection(where, timeout=20) as sock, suppress(OSError):  # it may be cut off at once
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    idle = [socket.create_connection(where, timeout=20) for _ in range(50)]  # never shake hands
    mailbox_id = MailboxId.parse(mailbox.info["mailbox_id"])
    with open_pinned(mailbox_id, where) as tls:
        assert request(tls, "GET", "/health")[0] == 200
    for sock in idle:
        sock.close()
    assert "Traceback" not in mailbox.log()


def test_many_at_once(mailbox: MailboxProcess) -> None:
    mailbox_id = MailboxId.parse(mailbox.info["mailbox_id"])
    statuses: list[int] = []

    def client(number: int) -> None:
        with open_pinned(mailbox_id, address(mailbox)) as tls:
            for seq in range(5):
                blobs = {"blobs": {"many": {f"l{number}": {str(seq): "AAAA"}}}}
                statuses.append(request(tls, "POST", "/blobs/store", blobs)[0])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 100
    assert len(mailbox.read("many")) == 100
