"""Who gives way in a flood, over real sockets: strangers first, then whoever asks for much; paired phones never."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import protocols
from node.http.head import Head
from node.http.limits import HttpLimits
from node.http.messages import STRANGER, HttpError, Principal
from node.http.standing import Standing
from node.http.toy import toy_router
from node.http.turnstile import Turnstile
from node.mailbox import Mailbox
from node.store.api import PutResult
from node.store.memory import MemoryStore
from protocols.limits.shedding import KNOWN_BURST
from protocols.model import LogName
from tests.node.http.harness import MAILBOX_ID, Site, mailbox_over, serving

LIMITS = HttpLimits(trust_loopback=False)
STORE = b'{"blips": {"t": {"l": {"0": "aGVsbG8="}}}}'


class Flooded(Turnstile):
    """One that feels strain all the time."""

    def __init__(self, *, bits: int = 8, limits: HttpLimits = LIMITS) -> None:
        super().__init__(limits)
        self.pressure.bits, self.pressure.is_high = bits, True

    def look(self, *, elapsed_s: float, share: float) -> None:
        pass


class OneToken:
    """A door that knows one device, and lets everybody in."""

    def identify(self, headers: Mapping[str, str], *, is_here: bool = False) -> Principal:
        return Principal("phone") if headers.get("authorization") == "Bearer paired" else STRANGER

    def check(self, principal: Principal) -> None:
        """Everybody may."""


@asynccontextmanager
async def flooded(turnstile: Turnstile, *, limits: HttpLimits = LIMITS) -> AsyncIterator[Site]:
    router = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID)
    router.door = OneToken()
    async with serving(router, limits=limits, turnstile=turnstile) as site:
        yield site


async def test_a_stranger_has_to_work_for_a_store_and_reads_for_nothing() -> None:
    turnstile = Flooded()
    async with flooded(turnstile) as site:
        refused = await site.ask("POST", "/blips/store", STORE)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 0
        assert re.fullmatch(r"bits=8, nonce=[A-Za-z0-9_-]{36}", refused.headers["mailbox-challenge"])
        for path, body in (("/blips/get", b'{"topics": {"t": {}}}'), ("/blobs/get", b'{"topics": {}}')):
            assert (await site.ask("POST", path, body)).status == 200
        assert (await site.ask("GET", "/health")).status == 200
        assert (await site.ask("OPTIONS", "/blips/store")).status == 200
        bad = await site.ask("POST", "/blips/store", STORE, headers=[("mailbox-proof", "nonsense")])
        assert (bad.status, "mailbox-challenge" in bad.headers) == (429, True)
        assert turnstile.challenged == 2


async def test_the_client_in_the_spec_works() -> None:
    (source,) = re.findall(
        r"```python\n(.*?)```", (Path(protocols.__file__).parent / "challenges.md").read_text(), re.S
    )
    client: dict[str, Any] = {}
    exec(compile(source, "challenges.md", "exec"), client)
    turnstile = Flooded(bits=12)
    async with flooded(turnstile) as site:
        answer = await trio.to_thread.run_sync(client["store"], site.url, STORE)
        assert answer == b'{"watermarks":{"t":{"l":0}}}'
        assert (turnstile.challenged, turnstile.proven) == (1, 1)
        # A store that is refused for another reason is that client's own affair.
        with pytest.raises(urllib.error.HTTPError, match="400"):
            await trio.to_thread.run_sync(client["store"], site.url, b"no json")


async def test_who_is_paired_or_known_is_not_asked_unless_it_asks_for_much() -> None:
    turnstile = Flooded(bits=24)
    async with flooded(turnstile) as site:
        paired = [("authorization", "Bearer paired")]
        for _ in range(5):
            assert (await site.ask("POST", "/blips/store", STORE, headers=paired)).status == 201
        assert (await site.ask("POST", "/blips/store", STORE, headers=[("authorization", "Bearer x")])).status == 201, (
            "the address of a paired phone is known"
        )
    head = Head("POST", "/blips/store", {}, 0, keep_alive=True)
    now_s = trio.current_time() + 60.0  # all at the same moment
    for _ in range(KNOWN_BURST):
        assert turnstile.admit(head, "127.0.0.1", device=None, stores=True, now_s=now_s) is Standing.KNOWN
    with pytest.raises(HttpError, match="flooded"):
        turnstile.admit(head, "127.0.0.1", device=None, stores=True, now_s=now_s)
    assert turnstile.admit(head, "127.0.0.1", device="k3vq7m2a", stores=True, now_s=now_s) is Standing.PAIRED


async def test_with_the_pressure_gone_nobody_is_asked() -> None:
    turnstile = Flooded(bits=24)
    async with flooded(turnstile) as site:
        assert (await site.ask("POST", "/blips/store", STORE)).status == 429
        turnstile.pressure.bits, turnstile.pressure.is_high = 0, False
        assert (await site.ask("POST", "/blips/store", STORE)).status == 201


def test_what_is_on_this_machine_is_exempt_only_if_it_is_trusted() -> None:
    head = Head("POST", "/blips/store", {}, 0, keep_alive=True)
    trusting, wary = Turnstile(HttpLimits()), Turnstile(LIMITS)
    assert (trusting.is_exempt("127.0.0.7"), wary.is_exempt("127.0.0.7")) == (True, False)
    assert trusting.is_exempt("::1")
    assert not trusting.is_exempt("192.0.2.1")
    assert wary.admit(head, "127.0.0.7", device=None, stores=True, now_s=0.0) == 0


async def test_a_paired_phone_has_a_share_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[str] = []

    async def deliver(self: Mailbox, messages: Sequence[tuple[LogName, int, bytes]], *, client: str = "") -> PutResult:
        sources.append(client)
        return await original(self, messages, client=client)

    original = Mailbox.deliver
    monkeypatch.setattr(Mailbox, "deliver", deliver)
    router = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID)
    router.door = OneToken()
    async with serving(router) as site:
        for headers in ((), [("Authorization", "Bearer paired")], [("Authorization", "Bearer wrong")]):
            assert (await site.ask("POST", "/blips/store", STORE, headers=headers)).status == 201
    assert sources == ["127.0.0.1", "device phone", "127.0.0.1"]
