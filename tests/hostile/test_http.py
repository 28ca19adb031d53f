"""Hostile HTTP through the front door: a clear refusal, bounded cost, nothing stored, and the node goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Sequence

import psutil
import pytest
import trio
import trio.testing

from node.http.messages import HttpError, Request, Response, Router
from node.http.server import HttpLimits
from node.store.api import Arrival, PutResult, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from protocols.limits.http import HTTP_BODY_BYTES_MAX, HTTP_BODY_FREE_BYTES, HTTP_STORES_WAITING_MAX
from protocols.limits.units import MIB
from tests.node.http.harness import Site, StuckStore, answers, receive_all, serving, serving_toy, until

STORE = b'{"blobs":{"t":{"l":{"0":"AAAA"}}}}'
GET = b'{"topics":{"t":{}}}'
NOTHING = {"blobs_by_topic": {"t": {"blobs": {}, "missing": {}}}}


def request(*lines: str, body: bytes = b"") -> bytes:
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body


def store(*headers: str, body: bytes = STORE) -> bytes:
    lines = ["POST /blobs/store HTTP/1.1", "Host: a", "Content-Type: application/json"]
    return request(*lines, *(headers or (f"Content-Length: {len(body)}",)), body=body)


async def holds(site: Site) -> object:
    """What the mailbox holds in topic `t`."""
    answer = await site.ask("POST", "/blobs/get", GET)
    return json.loads(answer.body)


async def expect(site: Site, data: bytes, status: int, *, half_close: bool = False) -> None:
    """One request gets exactly one answer with `status`, the connection is closed, and nothing was stored."""
    (answer,) = answers(await site.send(data, half_close=half_close))
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.body.count(b"\n") <= 1
    assert await holds(site) == NOTHING


CHUNKED = "Transfer-Encoding: chunked"

CASES = {
    "1 no Host": (request("GET /health HTTP/1.1"), 400),
    "1 two Hosts": (request("GET /health HTTP/1.1", "Host: a", "Host: b"), 400),
    "2 conflicting lengths": (store("Content-Length: 34", "Content-Length: 33"), 400),
    "3 negative length": (store("Content-Length: -1"), 400),
    "3 length with plus": (store("Content-Length: +34"), 400),
    "3 length of 21 digits": (store("Content-Length: " + "1" * 21), 400),
    "4 gzip, chunked": (store("Transfer-Encoding: gzip, chunked"), 501),
    "5 bad chunk size": (store(CHUNKED, body=b"zz\r\n"), 400),
    "5 chunk size with sign": (store(CHUNKED, body=b"+22\r\n" + STORE + b"\r\n0\r\n\r\n"), 400),
    "6 bad chunk footer": (store(CHUNKED, body=b"22\r\n" + STORE + b"xx0\r\n\r\n"), 400),
    "7 space before colon": (request("GET /health HTTP/1.1", "Host : a"), 400),
    "8 NUL in a header": (request("GET /health HTTP/1.1", "Host: a", "x: \0"), 400),
    "9 raw UTF-8 in the path": (request("GET /h\xc3\xa9 HTTP/1.1", "Host: a"), 400),
    "9 space in the path": (request("GET /he alth HTTP/1.1", "Host: a"), 400),
    "10 TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "10 garbage": (b"\xde\xad\xbe\xef" * 10, 400),
    "11 endless header": (b"GET /health HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 17_000, 431),
    "11 endless request line": (b"GET /" + b"y" * 17_000, 431),
    "13 length and chunks": (store("Content-Length: 34", CHUNKED), 400),
    "14 length of 20 digits": (store("Content-Length: " + "9" * 20), 413),
    "15 complete header of 20 KB": (request("GET /health HTTP/1.1", "Host: a", "x: " + "y" * 20_000), 431),
    "16 a thousand headers": (request("GET /health HTTP/1.1", "Host: a", *["x: y"] * 1000), 431),
    "17 HTTP/1.9": (request("GET /health HTTP/1.9", "Host: a"), 505),
    "17 h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "18 absolute form": (request("GET http://a/health HTTP/1.1", "Host: a"), 400),
    "19 CONNECT": (request("CONNECT a:443 HTTP/1.1", "Host: a:443"), 405),
    "20 bare LF": (b"GET /health HTTP/1.1\nHost: a\n\n", 400),
    "20 one bare LF": (b"GET /health HTTP/1.1\r\nHost: a\nx: y\r\n\r\n", 400),
    "20 obs-fold": (request("GET /health HTTP/1.1", "Host: a", "x: y", " z"), 400),
    "26 length over the limit": (store(f"Content-Length: {HTTP_BODY_BYTES_MAX + 1}"), 413),
    "Expect of something else": (store("Content-Length: 34", "Expect: a-miracle"), 417),
}


@pytest.mark.parametrize("case", CASES)
async def test_bad_http_is_refused_and_the_connection_closed(case: str) -> None:
    data, status = CASES[case]
    async with serving_toy() as site:
        await expect(site, data, status)


@pytest.mark.parametrize("case", CASES)
async def test_what_follows_bad_http_is_never_taken_for_a_request(case: str) -> None:
    """Request smuggling: a proxy may have read the bytes that follow as another user's request."""
    data, status = CASES[case]
    async with serving_toy() as site:
        await expect(site, data + store(), status)


async def test_12_end_in_the_middle_of_a_body() -> None:
    async with serving_toy() as site:
        await expect(site, store(f"Content-Length: {len(STORE) + 1}"), 400, half_close=True)
        await expect(site, store(CHUNKED, body=b"22\r\n" + STORE + b"\r\n"), 400, half_close=True)
        await expect(site, b"GET /health HTTP/1.1\r\nHost", 400, half_close=True)


# --- time ----------------------------------------------------------------------------------------------------------

HASTY = HttpLimits(
    head_timeout_s=0.3, body_window_s=0.3, body_timeout_s=3.0, idle_timeout_s=0.3, send_stall_s=0.4, linger_s=0.3
)


@pytest.mark.parametrize(
    "start", [b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: a\r\n", b"GET /health\r\n", b"G"]
)
async def test_21_23_a_head_that_does_not_end(start: bytes) -> None:
    async with serving_toy(limits=HASTY) as site:
        await expect(site, start, 408)


async def test_23_a_head_that_drips() -> None:
    """A byte now and then does not extend the time."""
    async with serving_toy(limits=HASTY) as site:
        async with await site.connect() as stream:
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.02)
        assert site.statistics.responses[408] == 1
        assert await site.is_alive()


@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_24_a_body_that_stalls(framing: str) -> None:
    data = store(f"Content-Length: {len(STORE)}", body=STORE[:10])
    if framing == "chunked":
        data = store(CHUNKED, body=b"22\r\n" + STORE[:10])
    async with serving_toy(limits=HASTY) as site:
        await expect(site, data, 408)


async def test_24_a_body_that_drips_is_cut_off_and_a_slow_one_is_not() -> None:
    """Below and above the minimum rate, each at a distance that a busy machine doesn't bridge."""
    limits = HttpLimits(body_window_s=0.5, body_rate_min=4000)  # 2000 bytes in every half second
    body = STORE + b" " * 20_000
    head = store(f"Content-Length: {len(body)}", body=b"")
    async with serving_toy(limits=limits) as site:
        async with await site.connect() as stream:
            await stream.send_all(head)
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                for at in range(0, len(body), 10):
                    await stream.send_all(body[at : at + 10])
                    await trio.sleep(0.05)
        assert site.statistics.responses[408] == 1
        assert await holds(site) == NOTHING
        async with await site.connect() as stream:
            await stream.send_all(head)
            for at in range(0, len(body), 4000):
                await stream.send_all(body[at : at + 4000])
                await trio.sleep(0.1)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 201 ")


async def test_24_a_body_as_a_whole_has_its_time_too() -> None:
    limits = HttpLimits(body_window_s=0.2, body_rate_min=50, body_timeout_s=0.6)
    async with serving_toy(limits=limits) as site:
        async with await site.connect() as stream:
            await stream.send_all(store("Content-Length: 1000000", body=b""))
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b" " * 100)
                    await trio.sleep(0.05)
        assert site.statistics.responses[408] == 1


async def test_25_a_client_that_does_not_read_is_broken_off() -> None:
    store_ = MemoryStore()
    async with serving_toy(store_, limits=HASTY) as site:
        for seq in range(12):
            await site.ask(
                "POST", "/blobs/store", json.dumps({"blobs": {"t": {"l": {str(seq): "AAAA" * MIB}}}}).encode()
            )
        async with await site.connect() as stream:
            await stream.send_all(
                request(
                    "POST /blobs/get HTTP/1.1",
                    "Host: a",
                    "Content-Type: application/json",
                    f"Content-Length: {len(GET)}",
                    body=GET,
                )
            )
            await until(lambda: site.statistics.connections == 0)
            with pytest.raises(trio.BrokenResourceError):  # a reset, not an end: nobody takes the part for the whole
                await receive_all(stream)
        assert await site.is_alive()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving_toy(limits=HASTY) as site:
        async with await site.connect() as stream:
            with trio.fail_after(30):
                await stream.send_all(request("GET /health HTTP/1.1", "Host: a"))
                (answer,) = answers(await receive_all(stream), ["GET"])
                assert answer.status == 200
        async with await site.connect() as stream:
            with trio.fail_after(30):
                assert await receive_all(stream) == b""


# --- size and memory -----------------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    return STORE[:-1] + b" " * (size - len(STORE)) + b"}"


async def test_26_exactly_the_limit_passes_and_a_byte_more_does_not() -> None:
    async with serving_toy() as site:
        refused = await site.ask("POST", "/blobs/store", padded(HTTP_BODY_BYTES_MAX + 1))
        assert refused.status == 413
        assert await holds(site) == NOTHING
        assert (await site.ask("POST", "/blobs/store", padded(HTTP_BODY_BYTES_MAX))).status == 201


async def test_26_the_limit_counts_in_chunks_too() -> None:
    chunk = b"%x\r\n%b\r\n" % (MIB, b" " * MIB)
    head = store(CHUNKED, body=b"")
    body = [b"%x\r\n%b\r\n" % (len(STORE), STORE)] + [chunk] * (HTTP_BODY_BYTES_MAX // MIB)
    rest = HTTP_BODY_BYTES_MAX - len(STORE) - (len(body) - 2) * MIB
    async with serving_toy() as site:
        (answer,) = answers(await site.send(head, *body, b"0\r\n\r\n"))
        assert answer.status == 413
        assert await holds(site) == NOTHING
        last = b"%x\r\n%b\r\n0\r\n\r\n" % (rest, b" " * rest)
        assert (await site.send(head.replace(b"Host", b"Connection: close\r\nHost"), *body[:-1], last)).startswith(
            b"HTTP/1.1 201 "
        )


async def test_a_length_is_not_allocated_before_it_arrives() -> None:
    process = psutil.Process()
    async with serving_toy() as site:
        streams = []
        before = process.memory_info().rss
        for _ in range(60):
            stream = await site.connect()
            await stream.send_all(store(f"Content-Length: {HTTP_BODY_BYTES_MAX}", body=b"{"))
            streams.append(stream)
        await until(lambda: site.statistics.connections == 60)
        assert process.memory_info().rss - before < 64 * MIB
        assert await site.is_alive()
        for stream in streams:
            await stream.aclose()


async def test_bodies_under_way_are_bounded_together_and_small_ones_still_pass() -> None:
    limits = HttpLimits(bodies_bytes_max=8 * MIB)
    async with serving_toy(limits=limits) as site:
        streams = []
        for _ in range(2):
            stream = await site.connect()
            await stream.send_all(store(f"Content-Length: {4 * MIB + 200_000}", body=b" " * (4 * MIB)))
            streams.append(stream)
        await until(lambda: site.statistics.bodies_bytes >= 2 * (4 * MIB - HTTP_BODY_FREE_BYTES))
        refused = await site.ask("POST", "/blobs/store", padded(4 * MIB))
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert (await site.ask("POST", "/blobs/store", STORE)).status == 201
        for stream in streams:
            await stream.aclose()
        await until(lambda: site.statistics.connections == 0)
        assert (await site.ask("POST", "/blobs/store", padded(4 * MIB))).status == 201


# --- bodies that are not what they should be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Type", "text/plain")], 415),
        ([("Content-Type", "text/json")], 415),
        ([("Content-Type", "application/x-www-form-urlencoded")], 415),
        ([("Content-Type", "")], 415),
        ([("Content-Type", "application/jsonp")], 415),
        ([("Content-Type", "application/+json")], 415),
        ([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], 415),
        ([("Content-Type", "APPLICATION/JSON; charset=utf-8")], 201),
        ([("Content-Type", "application/vnd.x+json ;a=b")], 201),
        ([("Content-Type", "application/json"), ("Content-Encoding", "identity")], 201),
    ],
)
async def test_27_28_media_types(headers: Sequence[tuple[str, str]], status: int) -> None:
    async with serving_toy() as site:
        assert (await site.ask("POST", "/blobs/store", STORE, headers=headers)).status == status
        assert (await holds(site) == NOTHING) is (status != 201)


async def test_27_no_media_type_at_all() -> None:
    async with serving_toy() as site:
        await expect(
            site,
            request("POST /blobs/store HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 34", body=STORE),
            415,
        )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (STORE[:-1], 400),
        (b'{"blobs":{"t":{"l":{"0":"AAAA","0":"AAAB"}}}}', 400),
        (b'{"blobs":{},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"blobs":{"t":{"l":{"0":NaN}}}}', 400),
        (b'{"blobs":{"t":{"l":{"18446744073709551616":"AAAA"}}}}', 422),
        (b'{"blobs":{"t":{"l":{"-1":"AAAA"}}}}', 422),
        (b'{"blobs":{"t":{"l":{"0":"AAAA","1":"*"}}}}', 422),
        (b'{"blobs":{"t":{"l":{"0":"AAAA"}},"t:u":{"l":{"0":"AAAA"}}}}', 400),
        (b'{"blobs":{"t":{"l":{"0":"AAAA"}}},"blobs":{}}', 422),
    ],
)
async def test_29_30_bad_json_stores_nothing_not_even_its_good_part(body: bytes, status: int) -> None:
    async with serving_toy() as site:
        answer = await site.ask("POST", "/blobs/store", body)
        assert answer.status == status
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert await holds(site) == NOTHING


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/health/../health",
        "/%2e%2e/x",
        "/health%00",
        "//health",
        "/health/",
        "/HEALTH",
        "/blobs%2Fget",
        "/blobs/get/",
        "/admin/status",
        "/metrics",
    ],
)
async def test_31_other_spellings_of_a_path_lead_nowhere(path: str) -> None:
    async with serving_toy() as site:
        answer = await site.ask("GET", path)
        assert (answer.status, answer.body) == (404, b"")


async def test_36_a_script_in_a_request_comes_back_as_nothing_that_runs() -> None:
    script = "<script>alert(1)</script>"
    async with serving_toy() as site:
        for body in (json.dumps({"topics": {f"{script}:": {}}}), json.dumps({"topics": {script: {}}}), script):
            answer = await site.ask("POST", "/blobs/get", body.encode())
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] in ("application/json", "text/plain; charset=utf-8")
        answer = await site.ask("GET", f"/health?{script}")
        assert script.encode() not in answer.body


# --- many ---------------------------------------------------------------------------------------------------------


async def test_22_pipelined_requests_are_answered_one_by_one_in_order() -> None:
    bodies = [b'{"blobs":{"t":{"l":{"%d":"AAAA"}}}}' % n for n in range(20)]
    data = b"".join(store(body=body) for body in bodies)
    data += store(CHUNKED, body=b"22\r\n" + STORE + b"\r\n0\r\n\r\n")
    get = request(
        "POST /blobs/get HTTP/1.1",
        "Host: a",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(GET)}",
        body=GET,
    )
    async with serving_toy() as site:
        found = answers(await site.send(data + get + data), ["POST"] * 22)
        assert [answer.status for answer in found] == [201] * 21 + [200]
        assert len(json.loads(found[-1].body)["blobs_by_topic"]["t"]["blobs"]["l"]) == 20
        assert site.statistics.responses == {201: 21, 200: 1}  # what came after `close` was not looked at


async def test_33_a_burst_from_one_address_gets_429() -> None:
    limits = HttpLimits(requests_per_client_rate=0.01, requests_per_client_burst=5, trust_loopback=False)
    async with serving_toy(limits=limits) as site:
        found = [await site.ask("POST", "/blobs/store", STORE) for _ in range(7)]
        assert [answer.status for answer in found] == [201] * 5 + [429] * 2
        assert int(found[-1].headers["retry-after"]) > 0


async def test_33_too_many_stores_waiting_get_429_and_reads_go_on() -> None:
    stuck = StuckStore()
    async with serving_toy(stuck) as site, trio.open_nursery() as nursery:
        results: list[int] = []

        async def one() -> None:
            results.append((await site.ask("POST", "/blobs/store", STORE)).status)

        for _ in range(HTTP_STORES_WAITING_MAX):
            nursery.start_soon(one)
        await until(lambda: stuck.waiting == HTTP_STORES_WAITING_MAX)
        refused = await site.ask("POST", "/blobs/store", STORE)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 0
        assert await holds(site) == NOTHING
        stuck.go_on.set()
        await until(lambda: len(results) == HTTP_STORES_WAITING_MAX)
        assert set(results) == {201}


async def test_connections_per_client_are_bounded() -> None:
    limits = HttpLimits(connections_per_client_max=3, trust_loopback=False)
    async with serving_toy(limits=limits) as site:
        held = [await site.connect() for _ in range(3)]
        await until(lambda: site.statistics.connections == 3)
        assert answers(await site.send())[0].status == 503
        await held[0].aclose()
        await until(lambda: site.statistics.connections < 3)
        assert await site.is_alive()
        for stream in held[1:]:
            await stream.aclose()


async def test_idle_connections_make_room_when_all_are_taken() -> None:
    limits = HttpLimits(connections_max=3)
    async with serving_toy(limits=limits) as site:
        idle = await site.connect()
        await idle.send_all(request("GET /health HTTP/1.1", "Host: a"))
        assert (await idle.receive_some()).startswith(b"HTTP/1.1 200 ")
        busy = [await site.connect() for _ in range(2)]
        for stream in busy:
            await stream.send_all(b"POST ")
        assert await site.is_alive()  # on a fourth connection
        with trio.fail_after(30):
            assert await idle.receive_some() == b""
        for stream in [idle, *busy]:
            await stream.aclose()


async def test_hundreds_of_connections_are_served() -> None:
    async with serving_toy() as site:
        streams = [await site.connect() for _ in range(400)]
        try:
            assert await site.is_alive()
            for stream in streams[::40]:
                await stream.send_all(request("GET /health HTTP/1.1", "Host: a"))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        finally:
            for stream in streams:
                await stream.aclose()


# --- faults within -------------------------------------------------------------------------------------------------


class FailingStore(MemoryStore):
    """Raises what it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreFull("the storage limit is reached"), 507),
        (StoreUnavailable("the disk failed"), 503),
        (RuntimeError("bug"), 500),
    ],
)
async def test_34_a_store_that_fails(error: Exception, status: int) -> None:
    async with serving_toy(FailingStore(error)) as site:
        answer = await site.ask("POST", "/blobs/store", STORE)
        assert answer.status == status
        assert ("retry-after" in answer.headers) is (status == 503)
        assert b"bug" not in answer.body
        assert answer.headers["access-control-allow-origin"] == "*"
        assert await holds(site) == NOTHING


async def test_a_stream_that_fails_halfway_breaks_the_connection() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise HttpError(503, "no")

    async def handler(_request: Request) -> Response:
        return Response(200, body())

    router = Router()
    router.get("/", handler)
    async with serving(router) as site, await site.connect() as stream:
        await stream.send_all(request("GET / HTTP/1.1", "Host: a"))
        with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
            await receive_all(stream)


async def test_a_reset_in_the_middle_of_anything_hurts_nobody() -> None:
    async with serving_toy() as site:
        for data in (
            b"",
            b"GET /hea",
            store(f"Content-Length: {len(STORE) + 5}"),
            store() * 50,
            store("Content-Length: 34", "Expect: 100-continue", body=b""),
        ):
            sock = socket.create_connection(("127.0.0.1", site.port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(data)
            sock.close()
        assert await site.is_alive()
        await until(lambda: site.statistics.connections == 0)
