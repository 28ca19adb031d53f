"""The dashboard's routes: what is open, what a session may do, and what no other page can make a browser do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from node.admission.office import AdmissionOffice
from node.admission.policy import Admission
from node.config import SettingError
from node.http.admin.dashboard import OPEN_PATHS, add_access, add_dashboard
from node.http.admin.live import Live
from node.http.admin.routes import admin_router
from node.http.admin.sessions import KEY_HEADER, Sessions
from tests.node.http.admin.test_routes import BEARER, TOKEN, Node
from tests.node.http.harness import Answer, Site, serving, until


class Settings:
    """What the routes need of `node.settings.Settings`."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"name": "a"}

    def shown(self) -> dict[str, Any]:
        return self.values

    async def change(self, changes: dict[str, Any]) -> None:
        if "bad" in changes:
            raise SettingError("bad", "this is wrong")
        self.values |= changes


@asynccontextmanager
async def dashboard(live: Live | None = None) -> AsyncIterator[Site]:
    sessions = Sessions("x", now_at=trio.current_time)
    router = admin_router(Node(), TOKEN, sessions=sessions, open_paths=OPEN_PATHS)
    add_dashboard(
        router,
        sessions=sessions,
        live=live or Live(),
        settings=Settings(),  # type: ignore[arg-type]
        on_login=lambda: None,
    )
    add_access(router, AdmissionOffice(Admission()), lambda seconds: {"uri": "mailboxd:pair?v=1", "seconds": seconds})
    async with serving(router) as site:
        yield site


async def enter(site: Site) -> list[tuple[str, str]]:
    """Logs in; the headers of a request by the page."""
    code = json.loads((await site.ask("POST", "/admin/login-code", headers=[BEARER])).body)["code"]
    answer = await site.ask("POST", "/admin/login", json.dumps({"code": code}).encode(), headers=[origin(site)])
    assert answer.status == 200
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return [("Cookie", cookie), (KEY_HEADER, json.loads(answer.body)["key"])]


def origin(site: Site) -> tuple[str, str]:
    return ("Origin", site.url)


async def test_the_page_is_open_and_nothing_else() -> None:
    async with dashboard() as site:
        for path in OPEN_PATHS - {"/admin/login"}:
            answer = await site.ask("GET", path)
            assert answer.status == 200
            assert answer.headers["content-type"].partition(";")[0] in (
                "text/html", "text/css", "text/javascript", "image/svg+xml",
            )  # fmt: skip
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        for path in ("/admin/settings", "/admin/live", "/admin/status", "/metrics", "/main.js?x", "//", "/../main.js"):
            assert (await site.ask("GET", path)).status == 401
        for path in ("/admin/login-code", "/admin/logout", "/admin/settings", "/admin/new-password"):
            assert (await site.ask("POST", path, b"{}")).status == 401


async def test_a_session_may_do_what_the_token_may() -> None:
    async with dashboard() as site:
        headers = await enter(site)
        for path in ("/admin/settings", "/admin/status", "/admin/peers", "/metrics"):
            assert (await site.ask("GET", path, headers=headers)).status == 200
        answer = await site.ask("POST", "/admin/settings", b'{"name":"b"}', headers=[*headers, origin(site)])
        assert json.loads(answer.body) == {"name": "b"}


@pytest.mark.parametrize(
    "forged",
    [
        [],  # no page of ours says nothing of where it comes from
        [("Origin", "http://evil.example")],
        [("Origin", "null")],
        [("Origin", "http://127.0.0.1:1")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
        [("Host", "evil.example")],
    ],
)
async def test_no_other_page_changes_anything(forged: list[tuple[str, str]]) -> None:
    async with dashboard() as site:
        headers = [*await enter(site), *forged]
        answer = await site.ask("POST", "/admin/settings", b'{"name":"b"}', headers=headers)
        assert answer.status in (401, 403)
        headers = await enter(site)
        assert json.loads((await site.ask("GET", "/admin/settings", headers=headers)).body) == {"name": "a"}


async def test_the_cookie_alone_is_worth_nothing() -> None:
    async with dashboard() as site:
        cookie, key = await enter(site)
        for headers in ([cookie], [key], [cookie, (KEY_HEADER, "x")]):
            assert (await site.ask("GET", "/admin/settings", headers=headers)).status == 401
            assert (await site.ask("POST", "/admin/logout", headers=[*headers, origin(site)])).status == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"code":1}', b'{"code":"x"}', b"\xff", b"[" * 9999])
async def test_wrong_logins(body: bytes) -> None:
    async with dashboard() as site:
        answer = await site.ask("POST", "/admin/login", body)
        assert answer.status in (400, 403, 415)
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"bad": "x"}, "bad"),
        ({"name": 5}, "name"),
        ({"name": {"a": 1}}, "name"),
        ({"peer": [["x"]]}, "peer"),
        ({"peer": ["x"] * 1000}, "peer"),
        ({"name": "x" * 10_000}, "name"),
    ],
)
async def test_wrong_settings_say_which(body: dict[str, Any], key: str) -> None:
    async with dashboard() as site:
        headers = [*await enter(site), origin(site)]
        answer = await site.ask("POST", "/admin/settings", json.dumps(body).encode(), headers=headers)
        assert answer.status == 400
        assert json.loads(answer.body)["key"] == key


async def test_signing_out_ends_the_stream() -> None:
    live = Live()
    async with dashboard(live) as site:
        headers = await enter(site)
        ended: list[Answer] = []
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                ended.append(await site.ask("GET", "/admin/live", headers=headers))

            live.put("state", 1)
            nursery.start_soon(listen)
            await until(lambda: live.listeners == 1)
            assert (await site.ask("POST", "/admin/logout", headers=[*headers, origin(site)])).status == 204
        assert ended[0].body == b"event: state\ndata: 1\n\n"
        assert ended[0].headers["content-type"] == "text/event-stream"
        assert (await site.ask("GET", "/admin/settings", headers=headers)).status == 401


async def test_passwords_and_pictures() -> None:
    async with dashboard() as site:
        headers = [*await enter(site), origin(site)]
        answer = await site.ask("POST", "/admin/new-password", b'{"password":""}', headers=headers)
        assert json.loads(answer.body)["key"] == "password"
        answer = await site.ask("POST", "/admin/new-password", b'{"password":"long enough, surely"}', headers=headers)
        assert json.loads(answer.body)["password"] is True
        answer = await site.ask("POST", "/admin/new-password", b'{"password":null}', headers=headers)
        assert json.loads(answer.body)["password"] is False
        squares = json.loads((await site.ask("POST", "/admin/pair-picture", b"", headers=headers)).body)["squares"]
        assert len(squares) == len(squares[0]) >= 21
        assert squares[0].startswith("1111111")
