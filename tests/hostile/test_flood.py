"""What a paired phone is owed in a flood, over real sockets: its stores are taken and its connections kept, it gets as
far as showing its token, and who shares its address does not count against it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from node.http import shares
from node.http.limits import HttpLimits
from node.http.messages import Principal
from node.http.toy import toy_router
from node.http.turns import Turns
from node.http.turnstile import Turnstile
from node.store.api import ReadPage
from node.store.memory import MemoryStore
from protocols.limits.shedding import (
    FRESH_S,
    HTTP_STRANGERS_GETS_MAX,
    HTTP_STRANGERS_READS_MAX,
    HTTP_STRANGERS_STORES_AT_ONCE,
    HTTP_STRANGERS_STORES_MAX,
    HTTP_STRANGERS_STORING_BYTES,
    KNOWN_BURST,
)
from tests.hostile.test_shedding import LIMITS, STORE, Flooded, OneToken
from tests.node.http.harness import MAILBOX_ID, PATIENCE_S, Site, StuckStore, mailbox_over, serving, until

PAIRED = [("Authorization", "Bearer paired")]
PHONE = b"GET /health HTTP/1.1\r\nHost: a\r\nauthorization: Bearer paired\r\n\r\n"
STRANGER = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class NoTurns(Turns):
    """Of a server that is so busy that no stranger ever has its turn."""

    def take_nowait(self) -> bool:
        return False

    async def run(self) -> None:
        await trio.sleep_forever()


class Overrun(Flooded):
    """A server under such a flood."""

    def __init__(self, limits: HttpLimits = LIMITS) -> None:
        super().__init__(bits=0, limits=limits)
        self.turns = NoTurns()


@asynccontextmanager
async def site_with(turnstile: Turnstile, limits: HttpLimits = LIMITS) -> AsyncIterator[Site]:
    router = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID)
    router.door = OneToken()
    async with serving(router, limits=limits, turnstile=turnstile) as site:
        with trio.fail_after(PATIENCE_S):
            yield site


async def is_served(stream: trio.SocketStream, request: bytes) -> bool:
    await stream.send_all(request)
    return (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_a_paired_phones_store_is_taken_while_strangers_have_all_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "STRANGERS_STORE_WAIT_S", 1e9)  # the load tells the places only
    stuck = StuckStore()
    router = toy_router(mailbox_over(stuck), MAILBOX_ID)
    router.door = OneToken()
    async with serving(router, limits=LIMITS, turnstile=Flooded(bits=0)) as site, trio.open_nursery() as nursery:
        answers: list[int] = []

        async def store(source: str, *headers: tuple[str, str]) -> None:
            answers.append((await site.ask("POST", "/blips/store", STORE, headers=headers, source=source)).status)

        for number in range(HTTP_STRANGERS_STORES_MAX):
            nursery.start_soon(store, f"127.0.{2 + number // 100}.{1 + number % 100}")
        await until(lambda: router.load() == 1.0)
        assert stuck.waiting == HTTP_STRANGERS_STORES_AT_ONCE, "the others wait before they reach the writer"
        head = b"POST /blips/store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        refused = await site.send(head % 10_000, source="127.0.7.7")  # no byte of the body is sent
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: " in refused
        nursery.start_soon(store, "127.0.8.8", *PAIRED)
        await until(lambda: stuck.waiting == HTTP_STRANGERS_STORES_AT_ONCE + 1)
        assert not answers
        stuck.go_on.set()
        await until(lambda: len(answers) == HTTP_STRANGERS_STORES_MAX + 1)
        assert set(answers) == {201}
        assert router.load() == 0.0


async def test_strangers_large_stores_go_one_by_one_and_not_at_all_under_strain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "STRANGERS_STORE_WAIT_S", 0.2)
    stuck = StuckStore()
    router = toy_router(mailbox_over(stuck), MAILBOX_ID)
    router.door = OneToken()
    turnstile = Flooded(bits=0)
    large = b'{"blips": {"t": {"l": {"0": "%b"}}}}' % (b"QUJD" * (HTTP_STRANGERS_STORING_BYTES // 6))
    async with serving(router, limits=LIMITS, turnstile=turnstile) as site, trio.open_nursery() as nursery:
        answers: list[int] = []

        async def store(source: str, *headers: tuple[str, str]) -> None:
            answers.append((await site.ask("POST", "/blips/store", large, headers=headers, source=source)).status)

        for number in range(3):
            nursery.start_soon(store, f"127.0.0.{2 + number}")
        await until(lambda: stuck.waiting == 1 and router.load() > 0)
        for _ in range(2):
            nursery.start_soon(store, "127.0.0.9", *PAIRED)
        await until(lambda: stuck.waiting == 3)
        await until(lambda: router.load() == 1.0)  # they have waited for long: that is strain, however few they are
        head = b"POST /blips/store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%b\r\n"
        for length in (b"Content-Length: 10000000\r\n", b"Transfer-Encoding: chunked\r\n"):
            refused = await site.send(head % length)  # no byte of the body is sent
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in refused
        stuck.go_on.set()
        await until(lambda: len(answers) == 5)
        assert set(answers) == {201}


class StuckReads(MemoryStore):
    """Reads nothing for anybody until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.waiting = 0

    async def read(self, *arguments: Any, **options: Any) -> ReadPage:
        self.waiting += 1
        await self.go_on.wait()
        return await super().read(*arguments, **options)


async def test_a_paired_phones_get_is_read_while_strangers_wait_for_theirs() -> None:
    stuck = StuckReads()
    router = toy_router(mailbox_over(stuck), MAILBOX_ID)
    router.door = OneToken()
    get = b'{"topics": {"t": {}}}'
    async with serving(router, limits=LIMITS, turnstile=Flooded(bits=0)) as site, trio.open_nursery() as nursery:
        answers: list[int] = []

        async def ask(source: str, *headers: tuple[str, str]) -> None:
            answers.append((await site.ask("POST", "/blips/get", get, headers=headers, source=source)).status)

        for number in range(HTTP_STRANGERS_GETS_MAX):
            nursery.start_soon(ask, f"127.0.{2 + number // 100}.{1 + number % 100}")
        await until(lambda: stuck.waiting == HTTP_STRANGERS_READS_MAX)
        await until(lambda: site.statistics.connections == HTTP_STRANGERS_GETS_MAX)
        await ask("127.0.7.7")
        assert answers == [503]
        nursery.start_soon(ask, "127.0.7.8", *PAIRED)
        await until(lambda: stuck.waiting == HTTP_STRANGERS_READS_MAX + 1)
        stuck.go_on.set()
        await until(lambda: len(answers) == HTTP_STRANGERS_GETS_MAX + 2)
        assert set(answers[1:]) == {200}


async def test_who_shows_a_token_does_not_wait_behind_strangers() -> None:
    turnstile = Overrun()
    async with site_with(turnstile) as site, await site.connect("127.0.0.5") as waiting:
        await waiting.send_all(STRANGER)
        await until(lambda: len(turnstile.turns) == 1)
        for source in ("127.0.0.5", "127.0.0.6"):  # from the same address, and from one where nobody was before
            async with await site.connect(source) as phone:
                assert await is_served(phone, PHONE)
        wrong = await site.connect("127.0.0.7")
        await wrong.send_all(PHONE.replace(b"paired", b"wrong"))
        await until(lambda: len(turnstile.turns) == 2)
        await wrong.aclose()


async def test_who_sends_in_small_pieces_takes_a_turn_for_each() -> None:
    turnstile = Turnstile(LIMITS)
    body = STORE.ljust(200)
    pieces = [b"POST /blips/store HTTP/1.1\r\n", b"Host: a\r\nContent-Type: application/json\r\n"]
    pieces += [b"Content-Length: %d\r\n\r\n" % len(body), body[:50], body[50:100], body[100:]]
    async with site_with(turnstile) as site:
        for headers, turns in ((b"", 6), (b"Authorization: Bearer paired\r\n", 1)):  # known by the second piece
            before = turnstile.turns.taken
            async with await site.connect(f"127.0.0.{2 + turns}") as stream:
                for number, piece in enumerate(pieces):
                    await stream.send_all(piece + (headers if number == 1 else b""))
                    if number < turns:
                        await until(lambda number=number, before=before: turnstile.turns.taken > before + number)  # type: ignore[misc]
                    else:
                        await trio.sleep(0.02)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 201 ")
            assert turnstile.turns.taken - before == turns, "a phone does not wait once it has shown its token"


async def test_a_phone_that_asks_for_much_waits_like_others_and_keeps_its_connection() -> None:
    limits = HttpLimits(trust_loopback=False, connections_max=8)
    turnstile = Overrun(limits)
    async with site_with(turnstile, limits) as site, await site.connect() as phone:
        for _ in range(KNOWN_BURST):
            assert await is_served(phone, PHONE)
        await phone.send_all(PHONE * 20)
        await until(lambda: len(turnstile.turns) == 1)
        others = [await site.connect(f"127.0.0.{2 + number}") for number in range(16)]
        for stream in others:
            await stream.send_all(STRANGER)
        await until(lambda: site.statistics.accepted == 17)
        with trio.move_on_after(0.05):
            assert await phone.receive_some() != b"", "its connection was closed to make room"
        for stream in others:
            await stream.aclose()


async def test_where_all_connections_are_taken_strangers_make_room_for_a_phone() -> None:
    limits = HttpLimits(trust_loopback=False, connections_max=16)
    turnstile = Overrun(limits)
    async with site_with(turnstile, limits) as site:
        mine = [await site.connect("127.0.0.9") for _ in range(3)]
        for stream in mine:
            assert await is_served(stream, PHONE)
        theirs = [await site.connect(f"127.0.3.{1 + number}") for number in range(12)]
        for stream in theirs:
            await stream.send_all(STRANGER)
        await until(lambda: len(turnstile.turns) == 12)
        for number in range(20):  # phones that come from where nobody has been, and stay
            phone = await site.connect(f"127.0.4.{1 + number}")
            assert await is_served(phone, PHONE)
            mine.append(phone)
            if len(mine) == 15:
                break
        for stream in mine:
            assert await is_served(stream, PHONE), "a paired phone's connection was closed"
        assert not await theirs[-1].receive_some(), "who has waited least makes room"
        assert len(turnstile.turns) == 1, "the first in the queue stays"
        for stream in [*mine, *theirs]:
            await stream.aclose()


async def test_no_stranger_goes_for_one_who_has_a_connection_already() -> None:
    limits = HttpLimits(trust_loopback=False, connections_max=8)
    turnstile = Overrun(limits)
    async with site_with(turnstile, limits) as site:
        first = [await site.connect(f"127.0.0.{2 + number}") for number in range(7)]
        for stream in first:
            await stream.send_all(STRANGER)
        await until(lambda: len(turnstile.turns) == 7)
        assert (await site.send(STRANGER, source="127.0.0.2")).startswith(b"HTTP/1.1 503 ")
        assert len(turnstile.turns) == 7
        another = await site.connect("127.0.0.99")
        await until(lambda: len(turnstile.turns) == 6)
        for stream in [another, *first]:
            await stream.aclose()


async def test_paired_phones_behind_one_router_are_not_counted_as_one() -> None:
    limits = HttpLimits(trust_loopback=False, connections_per_client_max=4)
    router = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID)

    class ManyTokens(OneToken):
        def identify(self, headers: Mapping[str, str], *, is_here: bool = False) -> Principal:
            return Principal(headers.get("authorization"))

    router.door = ManyTokens()
    async with serving(router, limits=limits) as site:
        phones = []
        for number in range(12):
            phone = await site.connect()
            assert await is_served(phone, PHONE.replace(b"paired", b"%d" % number))
            phones.append(phone)
        strangers = [await site.connect() for _ in range(4)]
        for stream in strangers:
            assert await is_served(stream, STRANGER)
        assert (await site.send(STRANGER)).startswith(b"HTTP/1.1 503 ")
        for stream in [*phones, *strangers]:
            await stream.aclose()
        await until(lambda: site.statistics.connections == 0)


async def test_a_phone_gets_in_where_somebody_else_has_all_connections_of_its_address() -> None:
    limits = HttpLimits(trust_loopback=False, connections_per_client_max=4)
    async with site_with(Turnstile(limits), limits) as site, await site.connect() as phone:
        assert await is_served(phone, PHONE)
        idle = await site.connect()
        assert await is_served(idle, STRANGER)
        slow = [await site.connect() for _ in range(3)]
        for stream in slow:
            await stream.send_all(b"GET /")
        await trio.sleep(1.5 * FRESH_S)
        another = await site.connect()
        assert await is_served(another, PHONE)
        assert await idle.receive_some() == b"", "who does nothing makes room"
        extra = await site.connect()  # once more all of them are taken, and nobody is idle
        await extra.send_all(b"GET /")
        await until(lambda: site.statistics.connections == 6)
        third = await site.connect()
        assert await is_served(third, PHONE)
        assert await is_served(phone, PHONE)
        for stream in [idle, *slow, another, extra, third]:
            await stream.aclose()


async def test_strangers_connections_are_rationed_in_a_flood_only() -> None:
    turnstile = Flooded(bits=0)
    async with site_with(turnstile) as site:
        turnstile.pressure.is_high = False
        for _ in range(20):
            assert (await site.ask("GET", "/health")).status == 200
        turnstile.pressure.is_high = True
        before = site.statistics.turned_away
        for _ in range(20):
            try:
                await site.ask("GET", "/health")
            except (OSError, trio.BrokenResourceError):
                break
        assert site.statistics.turned_away == before + 1
        async with await site.connect("127.0.0.2") as another:
            assert await is_served(another, STRANGER)
