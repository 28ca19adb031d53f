"""The phones' API through the front door: shapes, statuses, watermarks, `missing`, CORS, and large answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from node.http import shares, toy
from node.http.toy import toy_router
from node.mailbox import Mailbox
from node.store.api import Position, ReadPage, StoreUnavailable
from node.store.memory import MemoryStore
from protocols.limits.http import HTTP_ANSWERS_BYTES_MAX, HTTP_BODY_FREE_BYTES, HTTP_PAGE_BYTES
from protocols.limits.units import MIB
from protocols.model import LogName, Retention
from protocols.toy_answers import decode_get_answer
from protocols.toy_api import Family, encode_get, encode_store
from tests.node.http.harness import MAILBOX_ID, Answer, Site, mailbox_over, serving, serving_toy

TOPIC = "5f" * 32
AUTHOR = "a0" * 32


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def store(site: Site, topics: Mapping[str, Any], family: str = "blobs") -> Answer:
    body = {
        family: {
            topic: {log: {str(seq): b64(blob) for seq, blob in seqs.items()} for log, seqs in logs.items()}
            for topic, logs in topics.items()
        }
    }
    return await site.ask("POST", f"/{family}/store", json.dumps(body).encode())


async def get(site: Site, query: Mapping[str, Any], family: str = "blobs") -> Any:
    answer = await site.ask("POST", f"/{family}/get", json.dumps({"topics": query}).encode())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)[f"{family}_by_topic"]


async def test_health_names_the_mailbox() -> None:
    async with serving_toy() as site:
        answer = await site.ask("GET", "/health?x=y")
        assert json.loads(answer.body) == {"status": "ok", "endpoint_id": str(MAILBOX_ID)}
        assert len(str(MAILBOX_ID)) == 43
        head = await site.ask("HEAD", "/health")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))


@pytest.mark.parametrize(
    ("stored", "read"), [("blobs", "blobs"), ("blobs", "blips"), ("blips", "blobs"), ("blips", "blips")]
)
async def test_both_families_share_one_store(stored: str, read: str) -> None:
    async with serving_toy() as site:
        answer = await store(site, {TOPIC: {AUTHOR: {0: b"hello", 2: b""}}}, stored)
        assert answer.status == 201
        if stored == "blobs":
            assert answer.body == b""
        else:
            assert json.loads(answer.body) == {"watermarks": {TOPIC: {AUTHOR: 0}}}
        assert await get(site, {TOPIC: {}}, read) == {
            TOPIC: {read: {AUTHOR: {"0": b64(b"hello"), "2": ""}}, "missing": {}}
        }


async def test_the_wrong_familys_field_is_missing() -> None:
    async with serving_toy() as site:
        assert (await site.ask("POST", "/blips/store", b'{"blobs":{}}')).status == 422
        assert (await site.ask("POST", "/blobs/store", b'{"blips":{}}')).status == 422


async def test_watermarks_cover_every_log_in_the_request() -> None:
    async with serving_toy() as site:
        await store(site, {"t": {"a": {0: b"", 1: b"", 3: b""}}})
        request = {"t": {"a": {2: b""}, "b": {7: b""}, "c": {}}, "u": {}}
        answer = await store(site, request, "blips")
        assert answer.status == 201
        assert json.loads(answer.body) == {"watermarks": {"t": {"a": 3, "b": None, "c": None}, "u": {}}}
        again = await store(site, {"t": {"a": {}}}, "blips")
        assert json.loads(again.body) == {"watermarks": {"t": {"a": 3}}}


async def test_missing_follows_the_watermark() -> None:
    async with serving_toy() as site:
        await store(site, {"t": {"a": {0: b"", 1: b"", 6: b"six"}, "no head": {2: b""}}})
        found = await get(site, {"t": {"a": 3, "no head": 4, "unknown": 1, "-": 0}, "unknown": {}})
        assert found == {
            "t": {
                "blobs": {"a": {"6": b64(b"six")}},
                "missing": {"a": [2, 3], "no head": [0, 1, 3, 4], "unknown": [0, 1], "-": [0]},
            },
            "unknown": {"blobs": {}, "missing": {}},
        }


async def test_an_enormous_height_costs_little_and_claims_nothing() -> None:
    async with serving_toy() as site:
        heights = {f"log {n}": 2**64 - 1 for n in range(50)}
        missing = (await get(site, {"t": heights}))["t"]["missing"]
        assert missing.keys() == heights.keys()  # an author left out would count as complete
        assert all(seqs[0] == 0 for seqs in missing.values())
        assert sum(len(seqs) for seqs in missing.values()) < 20_000


async def test_the_answer_is_in_the_order_of_the_api() -> None:
    ids = ["\U0001f600", "z", "Z", "\uffff", "é", "a"]
    async with serving_toy() as site:
        await store(site, {topic: {log: {10: b"", 9: b"", 2: b""} for log in ids} for topic in ids})
        answer = await site.ask("POST", "/blobs/get", json.dumps({"topics": {topic: {} for topic in ids}}).encode())
        found = json.loads(answer.body)["blobs_by_topic"]
        ordered = sorted(ids, key=str.encode)
        assert list(found) == ordered
        for topic in found.values():
            assert list(topic) == ["blobs", "missing"]
            assert list(topic["blobs"]) == ordered
            assert all(list(seqs) == ["2", "9", "10"] for seqs in topic["blobs"].values())
        assert b" " not in answer.body


async def test_the_first_stored_of_two_blobs_is_served_and_repeats_change_nothing() -> None:
    memory = MemoryStore()
    async with serving_toy(memory) as site:
        for blob in (b"first", b"second", b"first"):
            assert (await store(site, {"t": {"a": {0: blob}}})).status == 201
        assert memory.statistics().messages == 2
        served = (await get(site, {"t": {}}))["t"]["blobs"]["a"]["0"]
        assert base64.b64decode(served) in (b"first", b"second")  # the same hour: the smaller digest, on every mailbox


@pytest.mark.parametrize("origin", [None, "http://anywhere.example", "null"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/none", 404),
        ("GET", "/blobs/get", 405),
        ("POST", "/blobs/get", 400),
        ("OPTIONS", "/none", 200),
        ("OPTIONS", "/blobs/store", 200),
        ("PUT", "/none", 404),
    ],
)
async def test_cors_is_on_every_answer(origin: str | None, method: str, path: str, status: int) -> None:
    async with serving_toy() as site:
        answer = await site.ask(
            method, path, b"{" if method == "POST" else None, headers=[("Origin", origin)] if origin else []
        )
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "*"
        assert answer.headers["vary"] == "origin, access-control-request-method, access-control-request-headers"
        assert "access-control-allow-credentials" not in answer.headers
        assert "access-control-max-age" not in answer.headers
        if method == "OPTIONS":
            assert answer.body == b""
            assert answer.headers["access-control-allow-methods"] == "*"
            assert answer.headers["access-control-allow-headers"] == "*"
        if status in (404, 405):
            assert answer.body == b""
        if status == 405:
            assert answer.headers["allow"] == "POST"


async def test_checks_come_in_their_order() -> None:
    async with serving_toy() as site:
        text = [("Content-Type", "text/plain"), ("Content-Length", str(65 * MIB))]
        assert (await site.ask("POST", "/none", b"", headers=text)).status == 404
        assert (await site.ask("POST", "/health", b"", headers=text)).status == 405
        assert (await site.ask("POST", "/blobs/get", b"", headers=text)).status == 415
        assert (await site.ask("POST", "/blobs/get", b"{", headers=text[1:])).status == 413
        assert (await site.ask("POST", "/blobs/get", b"{")).status == 400


# --- large answers ------------------------------------------------------------------------------------------------


def get_request(body: bytes) -> bytes:
    head = "POST /blobs/get HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def many(count: int, size: int) -> list[tuple[LogName, int, bytes]]:
    return [(LogName(f"t{n % 3}", f"l{n % 7}"), n, bytes([n % 256]) * size) for n in range(count)]


@pytest.mark.parametrize(("count", "size"), [(3, 10), (400, 1000), (9, MIB), (6000, 2000), (2, 3 * MIB), (2, 40 * MIB)])
async def test_an_answer_of_any_size_is_complete(count: int, size: int) -> None:
    messages = many(count, size)
    store_ = MemoryStore()
    async with serving_toy(store_) as site:
        await mailbox_over(store_).deliver(messages)
        answer = await site.ask(
            "POST", "/blips/get", encode_get({"t0": {"l0": 0, "x": 5}, "t1": {}, "t2": {}, "t3": {}})
        )
        assert ("transfer-encoding" in answer.headers) is (count * size > 4 * HTTP_BODY_FREE_BYTES)
        found = decode_get_answer(answer.body, Family.BLIPS)
        assert list(found) == ["t0", "t1", "t2", "t3"]
        expected = {(name, seq): blob for name, seq, blob in messages if seq or name != ("t0", "l0")}
        assert {
            (LogName(t, log), seq): blob
            for t, topic in found.items()
            for log, seqs in topic.messages.items()
            for seq, blob in seqs.items()
        } == expected
        assert found["t0"].missing["x"] == [0, 1, 2, 3, 4, 5]


async def test_a_long_answer_is_read_in_pages_and_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[shares.MemoryBudget] = []

    class Budget(shares.MemoryBudget):
        def __init__(self, bytes_max: int) -> None:
            super().__init__(bytes_max)
            budgets.append(self)

    monkeypatch.setattr(shares, "MemoryBudget", Budget)
    store_ = MemoryStore()
    pages: list[int] = []

    class Watched(Mailbox):
        async def read(
            self, query: Mapping[str, Mapping[str, int]], *, after: Position | None = None, page_bytes: int = 1
        ) -> ReadPage:
            page = await super().read(query, after=after, page_bytes=page_bytes)
            pages.append(sum(len(blob) for entry in page.entries for _, blob in entry.messages))
            return page

    mailbox = Watched(store_, clock=mailbox_over(store_).clock, retention=Retention())
    await mailbox.deliver(many(8000, 1000))
    async with serving(toy_router(mailbox, MAILBOX_ID)) as site:
        body = encode_get({"t0": {}, "t1": {}, "t2": {}})
        answer = await site.ask("POST", "/blobs/get", body)
        assert (
            sum(len(m) for t in decode_get_answer(answer.body, Family.BLOBS).values() for m in t.messages.values())
            == 8000
        )
        assert len(pages) > 7
        assert mailbox.served == 8000
        assert max(pages) <= HTTP_PAGE_BYTES
        request = get_request(body)
        for _ in range(5):  # clients that go away in the middle
            async with await site.connect() as stream:
                await stream.send_all(request)
                await stream.receive_some(10)
        with trio.fail_after(30):
            while site.statistics.connections:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert budgets[0].held_bytes == 0


async def test_a_large_answer_waits_for_memory_and_then_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "HTTP_ANSWERS_BYTES_MAX", 1000)
    monkeypatch.setattr(shares, "HTTP_ANSWER_WAIT_S", 0.2)
    held: list[shares.MemoryBudget] = []

    class Budget(shares.MemoryBudget):
        def __init__(self, bytes_max: int) -> None:
            super().__init__(bytes_max)
            assert self.take_nowait(bytes_max)
            held.append(self)

    monkeypatch.setattr(shares, "MemoryBudget", Budget)
    async with serving_toy() as site:
        await site.ask("POST", "/blobs/store", encode_store(Family.BLOBS, many(2000, 1000)))
        small, large = encode_get({"unknown": {}}), encode_get({"t0": {}})
        refused = await site.ask("POST", "/blobs/get", large)
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert (await site.ask("POST", "/blobs/get", small)).status == 200
        for budget in held:
            budget.give_back(budget.held_bytes)
        monkeypatch.setattr(shares, "HTTP_ANSWER_WAIT_S", 30.0)
        assert (await site.ask("POST", "/blobs/get", large)).status == 200


class FailingReads(MemoryStore):
    """Reads fail after a number of pages."""

    def __init__(self, good_pages: int) -> None:
        super().__init__()
        self.good_pages = good_pages

    async def read(self, query: Mapping[str, Mapping[str, int]], **options: Any) -> ReadPage:
        if not self.good_pages:
            raise StoreUnavailable("the disk failed")
        self.good_pages -= 1
        return await super().read(query, **options)


async def test_a_read_that_fails_before_the_answer_has_begun_is_a_503() -> None:
    async with serving_toy(FailingReads(0)) as site:
        answer = await site.ask("POST", "/blobs/get", encode_get({"t0": {}}))
        assert (answer.status, answer.body) == (503, b"the disk failed.\n")


async def test_a_read_that_fails_later_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    store_ = FailingReads(3)
    async with serving_toy(store_) as site:
        await mailbox_over(store_).deliver(many(20_000, 1000))
        body = encode_get({"t0": {}})
        request = get_request(body)
        async with await site.connect() as stream:
            await stream.send_all(request)
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                async for _ in stream:
                    pass
        assert await site.is_alive()
    assert "broke off" in caplog.text


async def test_a_hundred_thousand_topics_in_one_get() -> None:
    query: dict[str, dict[str, int]] = {f"topic {n}": {} for n in range(99_000)}
    async with serving_toy() as site:
        answer = await site.ask("POST", "/blips/get", encode_get(query))
        assert decode_get_answer(answer.body, Family.BLIPS).keys() == query.keys()


async def test_large_requests_are_decoded_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    real = toy.decode_store

    def watched(*arguments: Any) -> Any:
        try:
            trio.lowlevel.current_task()
            threads.append(False)
        except RuntimeError:
            threads.append(True)
        return real(*arguments)

    monkeypatch.setattr(toy, "decode_store", watched)
    async with serving_toy() as site:
        for count in (1, 1000):
            assert (await site.ask("POST", "/blobs/store", encode_store(Family.BLOBS, many(count, 300)))).status == 201
    assert threads == [False, True]


def test_one_stream_fits_into_the_budget_many_times() -> None:
    assert HTTP_ANSWERS_BYTES_MAX >= 16 * 4 * HTTP_PAGE_BYTES
