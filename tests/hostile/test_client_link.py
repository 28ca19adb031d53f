"""Mailboxes that answer slowly, endlessly, wrongly or not at all, as a client meets them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.client.link import Link
from node.client.seat import _endpoint_id
from protocols.challenges import Challenger
from protocols.client.address import Mailbox
from protocols.client.answers import Cause, Refused
from protocols.limits.client import CLIENT_ANSWER_BYTES_MAX, CLIENT_HEAD_BYTES_MAX

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def read_request(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


@asynccontextmanager
async def answering(serve: Serve) -> AsyncIterator[Link]:
    """A link to somebody who does `serve` with each connection."""

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # when the client has had enough
            await serve(stream)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        link = Link(Mailbox(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"))
        yield link
        await link.aclose()
        nursery.cancel_scope.cancel()


def always(answer: bytes) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        while await read_request(stream):
            await stream.send_all(answer)

    return serve


async def refusal(serve: Serve) -> Refused:
    async with answering(serve) as link:
        with pytest.raises(Refused) as raised:
            await link.request("POST", "/blips/store", b"{}")
    return raised.value


async def test_a_refusal_with_a_pause() -> None:
    refused = await refusal(always(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nLater"))
    assert (refused.cause, refused.retry_after_s, str(refused)) == (Cause.BUSY, 7.0, "HTTP 503: Later")


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * (2 * CLIENT_HEAD_BYTES_MAX),
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ],
)
async def test_what_is_no_answer(answer: bytes) -> None:
    assert (await refusal(always(answer))).cause in (Cause.FAULTY, Cause.UNREACHABLE)


async def test_an_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.client.link.CLIENT_ANSWER_BYTES_MAX", 10 * 1024 * 1024)
    sent = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"100000\r\n" + bytes(1024 * 1024) + b"\r\n")
            sent += 1

    assert "more than" in str(await refusal(flood))
    assert sent < 30
    assert CLIENT_ANSWER_BYTES_MAX > 64 * 1024 * 1024


async def test_silence_and_dripping_end(autojump_clock: trio.testing.MockClock) -> None:
    """On a stream in memory, so that the clock can jump."""
    for drips in (False, True):
        ours, theirs = trio.testing.memory_stream_pair()
        link = Link(Mailbox("http://127.0.0.1:1"))
        link._stream, link._used_at = ours, trio.current_time()

        async def drip(stream: trio.abc.Stream = theirs, drips: bool = drips) -> None:
            await stream.receive_some()
            letters = (bytes([letter]) for letter in b"HTTP/1.1 200 OK\r\n")
            while drips:
                await stream.send_all(next(letters))
                await trio.sleep(3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            begun_at = trio.current_time()
            with pytest.raises(Refused):
                await link.request("GET", "/health")
            assert trio.current_time() - begun_at < 60
            nursery.cancel_scope.cancel()


async def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    connections = 0

    async def once(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with answering(once) as link:
        for _ in range(3):
            assert await link.request("GET", "/health") == b"{}"
            await trio.sleep(0.02)
    assert connections == 3


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def once(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\n{}")

    async with answering(once) as link:
        assert await link.request("GET", "/health") == b"{}"


async def test_a_flooded_mailbox_gets_the_work_that_it_asks_for() -> None:
    challenger = Challenger(bytes(32))
    bits = 8
    asked: list[bytes] = []

    async def flooded(stream: trio.SocketStream) -> None:
        while request := await read_request(stream):
            asked.append(request)
            proof = [line[15:] for line in request.decode().split("\r\n") if line.startswith("mailbox-proof: ")]
            if proof:
                challenger.take(proof[0], "me", bits, 1000.0)
                await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                continue
            challenge = challenger.challenge("me", bits, 1000.0)
            head = f"HTTP/1.1 429 X\r\nRetry-After: 2\r\nMailbox-Challenge: {challenge}\r\nContent-Length: 0\r\n\r\n"
            await stream.send_all(head.encode())

    async with answering(flooded) as link:
        assert await link.request("POST", "/blips/store", b"{}") == b""
        with pytest.raises(Refused) as raised:  # for reading, nobody may ask for work
            await link.request("POST", "/blips/get", b"{}")
        assert raised.value.cause is Cause.BUSY
        bits = 24
        with pytest.raises(Refused, match="more work"):
            await link.request("POST", "/blips/store", b"{}")
    assert len(asked) == 4


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"HTTP/1.1 ", b"200 OK\r\n", b"\r\n", b"Content-Length: ", b"9\r\n",
                                 b"Transfer-Encoding: chunked\r\n", b"5\r\n", b"{}", b"\x00\xff", b": "]), max_size=12),
       st.binary(max_size=40))  # fmt: skip
def test_no_bytes_break_it(pieces: list[bytes], rest: bytes) -> None:
    async def main() -> None:
        async def once(stream: trio.SocketStream) -> None:
            await read_request(stream)
            await stream.send_all(b"".join(pieces) + rest)

        async with answering(once) as link:
            with suppress(Refused):
                assert isinstance(await link.request("GET", "/health"), bytes)

    trio.run(main)


@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_health_may_say_anything(value: object) -> None:
    found = _endpoint_id(json.dumps(value).encode())
    assert found is None or isinstance(found, str)


async def test_a_link_that_is_closed_in_mid_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a client that ends while it asks."""
    async with answering(always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as link:
        send = link._send

        async def send_and_close(stream: trio.abc.Stream, request: bytes) -> None:
            await send(stream, request)
            await link.aclose()

        monkeypatch.setattr(link, "_send", send_and_close)
        with pytest.raises(Refused, match="broke"):
            await link.request("GET", "/health")
