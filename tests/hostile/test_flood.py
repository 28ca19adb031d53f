"""What a paired phone is owed in a flood, over real sockets: its stores are taken and its connections kept."""

from __future__ import annotations

import trio

from node.http.limits import HttpLimits
from node.http.toy import toy_router
from protocols.limits.shedding import HTTP_STRANGERS_STORES_AT_ONCE, HTTP_STRANGERS_STORES_MAX
from tests.hostile.test_shedding import STORE, OneToken
from tests.node.http.harness import MAILBOX_ID, StuckStore, mailbox_over, serving, until

PAIRED = [("Authorization", "Bearer paired")]


async def test_a_paired_phones_store_is_taken_while_strangers_have_all_their_places() -> None:
    stuck = StuckStore()
    router = toy_router(mailbox_over(stuck), MAILBOX_ID)
    router.door = OneToken()
    limits = HttpLimits(trust_loopback=False, connections_per_client_max=1000)
    async with serving(router, limits=limits) as site, trio.open_nursery() as nursery:
        answers: list[int] = []

        async def store(*headers: tuple[str, str]) -> None:
            answers.append((await site.ask("POST", "/blips/store", STORE, headers=headers)).status)

        for _ in range(HTTP_STRANGERS_STORES_MAX):
            nursery.start_soon(store)
        await until(lambda: router.load() == 1.0)
        assert stuck.waiting == HTTP_STRANGERS_STORES_AT_ONCE, "the others wait before they reach the writer"
        head = b"POST /blips/store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        refused = await site.send(head % 10_000_000)  # no byte of the body is sent
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1\r\n" in refused
        nursery.start_soon(store, *PAIRED)
        await until(lambda: stuck.waiting == HTTP_STRANGERS_STORES_AT_ONCE + 1)
        assert not answers
        stuck.go_on.set()
        await until(lambda: len(answers) == HTTP_STRANGERS_STORES_MAX + 1)
        assert set(answers) == {201}
        assert router.load() == 0.0
