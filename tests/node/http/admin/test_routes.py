"""The administration: who may ask, what comes back, and the command line's client."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from node.datadir import DataDirError
from node.http.admin.port import AdminError
from node.http.admin.routes import admin_router
from node.http.admin.token import load_or_create_token
from node.http.client import AdminClient, ClientError, read_topic, store_messages
from node.http.messages import Request, Response, Router
from node.http.server import HttpStatistics
from protocols.limits.http import ADMIN_BODY_BYTES_MAX
from tests.node.http.admin.test_metrics import OPENMETRICS, status
from tests.node.http.harness import Site, answers, serving, serving_toy

TOKEN = "t" * 43
BEARER = ("Authorization", f"Bearer {TOKEN}")
STATUS: dict[str, Any] = status(peers=2)
PEER = "p" * 43
T = TypeVar("T")


class Node:
    """What the composition root would put behind the administration."""

    def __init__(self) -> None:
        self.synced: list[str | None] = []

    async def status(self) -> dict[str, Any]:
        return STATUS

    async def peers(self) -> list[dict[str, Any]]:
        return STATUS["peers"]

    async def sync(self, peer: str | None) -> dict[str, Any]:
        if peer not in (None, PEER):
            raise AdminError(404, "no such mailbox is known")
        self.synced.append(peer)
        await trio.sleep(0.01)
        return {"synced": 1}

    async def verify(self) -> dict[str, Any]:
        return {"blocks": 9, "differences": 2}

    def event_counts(self) -> dict[str, int]:
        return {"met": 2}


@asynccontextmanager
async def administration(node: Node | None = None) -> AsyncIterator[Site]:
    async with serving(admin_router(node or Node(), TOKEN, http=HttpStatistics(responses={200: 5}))) as site:
        yield site


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await trio.to_thread.run_sync(lambda: function(*arguments))


async def test_status_peers_and_sync() -> None:
    node = Node()
    async with administration(node) as site:
        assert json.loads((await site.ask("GET", "/admin/status", headers=[BEARER])).body) == STATUS
        assert json.loads((await site.ask("GET", "/admin/peers", headers=[BEARER])).body) == {"peers": STATUS["peers"]}
        for body in (b"", b"{}", b'{"peer":null}', json.dumps({"peer": PEER}).encode()):
            answer = await site.ask("POST", "/admin/sync", body, headers=[BEARER])
            assert (answer.status, json.loads(answer.body)) == (200, {"synced": 1})
    assert node.synced == [None, None, None, PEER]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"peer":1}', 400),
        (b"\xff", 400),
        (b"[" * 100_00, 400),
        (b'{"peer":"x"}', 404),
        (b" " * (ADMIN_BODY_BYTES_MAX + 1), 413),
    ],
)
async def test_bad_sync_requests(body: bytes, status: int) -> None:
    async with administration() as site:
        assert (await site.ask("POST", "/admin/sync", body, headers=[BEARER])).status == status


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xe9" + TOKEN[1:],
    ],
)
@pytest.mark.parametrize("path", ["/admin/status", "/metrics", "/admin/none"])
async def test_32_without_the_right_token_there_is_nothing(header: str | None, path: str) -> None:
    async with administration() as site:
        answer = await site.ask("GET", path, headers=[("Authorization", header)] if header is not None else [])
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3412",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5:3412",
        "0.0.0.0:3412",
        "",
        "[::2]",
        "127.0.0.2",
    ],
)
async def test_35_a_foreign_host_is_refused_before_the_token_counts(host: str) -> None:
    async with administration() as site:
        for headers in ([("Host", host), BEARER], [("Host", host)]):
            assert (await site.ask("GET", "/admin/status", headers=headers)).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]", "[::1]:3412"])
async def test_35_this_machine_may_be_called_by_its_own_names(host: str) -> None:
    async with administration() as site:
        own = ("Origin", f"http://{host}")
        for headers in ([("Host", host), BEARER], [("Host", host), own, BEARER]):
            assert (await site.ask("GET", "/admin/status", headers=headers)).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "https://127.0.0.1", "http://127.0.0.1", "http://localhost:1"]
)
async def test_35_another_origin_is_refused(origin: str) -> None:
    async with administration() as site:
        answer = await site.ask("POST", "/admin/sync", b"", headers=[("Origin", origin), BEARER])
        assert answer.status == 403


async def test_nothing_is_open_to_other_origins() -> None:
    async with administration() as site:
        answer = await site.ask("OPTIONS", "/admin/status", headers=[BEARER])
        assert answer.status == 405
        assert not any(name.startswith("access-control") for name in answer.headers)
        page = await site.ask("GET", "/admin/status", headers=[BEARER])
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"


async def test_http10_without_a_host_is_refused() -> None:
    async with administration() as site:
        data = await site.send(f"GET /admin/status HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert answers(data, ["GET"])[0].status == 403


async def test_metrics_can_be_read_by_prometheus() -> None:
    async with administration() as site:
        for accept, expected in (("text/plain", "text/plain"), (OPENMETRICS, "application/openmetrics-text")):
            answer = await site.ask("GET", "/metrics", headers=[BEARER, ("Accept", accept)])
            assert answer.headers["content-type"].startswith(expected)
            assert b'mailboxd_http_responses_total{status="200"} 5.0' in answer.body
            assert b'mailboxd_events_total{kind="met"} 2.0' in answer.body


# --- the token -----------------------------------------------------------------------------------------------------


def test_the_token_is_made_once_and_only_the_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = load_or_create_token(path)
    assert len(token) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_token(path) == token
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
    assert load_or_create_token(tmp_path / "other") != token


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    load_or_create_token(path)
    path.chmod(0o644)
    with pytest.raises(AdminError, match="chmod 600"):
        load_or_create_token(path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 44, b"\xff" * 43, b"!" * 43])
def test_a_damaged_token_is_refused_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(AdminError, match="token"):
        load_or_create_token(path)
    assert path.read_bytes() == content


def test_a_token_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="No such file"):
        load_or_create_token(tmp_path / "none" / "token")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AdminError, match="token"):
        load_or_create_token(tmp_path / "folder")


# --- the client ------------------------------------------------------------------------------------------------------


async def test_the_client_asks_the_administration() -> None:
    async with administration() as site:
        client = AdminClient(site.url, TOKEN)
        assert await in_thread(client.status) == STATUS
        assert await in_thread(client.peers) == STATUS["peers"]
        assert await in_thread(client.sync) == {"synced": 1}
        assert await in_thread(client.sync, PEER) == {"synced": 1}
        with pytest.raises(ClientError, match="no such mailbox is known") as caught:
            await in_thread(client.sync, "x")
        assert caught.value.status == 404
        with pytest.raises(ClientError, match="token from the data directory"):
            await in_thread(AdminClient(site.url, "wrong").status)


async def test_store_and_read_a_topic() -> None:
    async with serving_toy() as site:
        marks = await in_thread(
            store_messages, site.url, [("t", "l", 0, b"a"), ("t", "l", 2, b""), ("u", "k", 5, b"b")]
        )
        assert marks == {("t", "l"): 0, ("u", "k"): None}
        assert await in_thread(read_topic, site.url, "t") == {"l": {0: b"a", 2: b""}}
        assert await in_thread(read_topic, site.url + "/", "t", {"l": 0}) == {"l": {2: b""}}
        assert await in_thread(read_topic, site.url, "none") == {}
        with pytest.raises(ClientError, match="topic contains ':'") as caught:
            await in_thread(store_messages, site.url, [("a:b", "l", 0, b"")])
        assert caught.value.status == 400


def test_what_goes_wrong_on_the_way_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ClientError, match="did not answer in time"):
            read_topic(url, "t", timeout_s=0.2)
    with pytest.raises(ClientError, match=r"nothing listens at .*; is the mailbox running"):
        read_topic(url, "t")
    for bad in ("", "127.0.0.1:1", "ftp://a", "http://", "http://a:x", "http://[::1"):
        with pytest.raises(ClientError, match="not the URL of a mailbox"):
            read_topic(bad, "t")


async def test_a_server_that_is_no_mailbox() -> None:
    async def page(_request: Request) -> Response:
        return Response(200, b"<html>", "text/html")

    async def cut_short(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"blips_by_topic":'
            raise RuntimeError("gone")

        return Response(200, pieces())

    table = Router()
    table.post("/blips/get", page)
    table.post("/blips/store", cut_short)
    table.get("/admin/status", page)
    async with serving(table) as site:
        for function, argument in ((read_topic, "t"), (store_messages, [])):
            with pytest.raises(ClientError, match=r"not the answer of a mailbox|broke off|reset"):
                await in_thread(function, site.url, argument)
        with pytest.raises(ClientError, match="not JSON"):
            await in_thread(AdminClient(site.url, TOKEN).status)


def test_opening_without_a_mailbox_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="no mailbox is running"), AdminClient.open(tmp_path):
        pass
