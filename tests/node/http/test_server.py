"""The server itself: listening, keep-alive, bodies, streaming, shutdown."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import AsyncIterator

import pytest
import trio

from node.config import ListenAddress
from node.http.messages import HttpError, Request, Response, Router
from node.http.server import HttpLimits, open_listeners, serve_http
from tests.node.http.harness import answers, receive_all, serving, until

LOOPBACK = "127.0.0.1"


async def echo(request: Request) -> Response:
    return Response(200, f"{request.method} {request.path} {request.query} ".encode() + request.body, "text/plain")


async def fail(_request: Request) -> Response:
    raise ZeroDivisionError("a bug")


async def refuse(_request: Request) -> Response:
    raise HttpError(409, "No.\r\nX: y", headers=(("x-reason", "test"),))


def router() -> Router:
    table = Router(headers=(("x-always", "here"),))
    table.get("/echo", echo)
    table.post("/echo", echo, takes_json=False, body_bytes_max=300_000)
    table.get("/fail", fail)
    table.get("/refuse", refuse)
    table.get("/stream", stream)
    return table


async def stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(5):
            await trio.lowlevel.checkpoint()
            yield b"%d" % number * 50_000

    return Response(200, pieces(), "text/plain")


WHOLE = b"".join(b"%d" % number * 50_000 for number in range(5))


def plain(*lines: str, body: bytes = b"") -> bytes:
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


# --- listening -----------------------------------------------------------------------------------------------------


async def test_listens_on_every_address_and_says_where() -> None:
    wanted = [ListenAddress(LOOPBACK, 0), ListenAddress("::1", 0), ListenAddress("0.0.0.0", 0)]
    listeners = await open_listeners(wanted)
    assert [listener.address.host for listener in listeners] == [LOOPBACK, "::1", "0.0.0.0"]
    assert all(listener.address.port for listener in listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, listeners, router())
        for listener in listeners:
            host = LOOPBACK if listener.address.host == "0.0.0.0" else listener.address.host
            async with await trio.open_tcp_stream(host, listener.address.port) as connection:
                await connection.send_all(plain("GET /echo HTTP/1.1", "Host: a", "Connection: close"))
                assert answers(await receive_all(connection), ["GET"])[0].status == 200
        nursery.cancel_scope.cancel()


async def test_both_wildcards_share_a_port() -> None:
    (first,) = await open_listeners([ListenAddress("0.0.0.0", 0)])
    port = first.address.port
    first.close()
    listeners = await open_listeners([ListenAddress("0.0.0.0", port), ListenAddress("::", port)])
    assert len(listeners) == 2
    for listener in listeners:
        listener.close()


async def test_the_ipv6_wildcard_alone_takes_ipv4_too() -> None:
    listeners = await open_listeners([ListenAddress("::", 0)])
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, listeners, router())
        async with await trio.open_tcp_stream(LOOPBACK, listeners[0].address.port) as connection:
            await connection.send_all(plain("GET /echo HTTP/1.1", "Host: a", "Connection: close"))
            assert answers(await receive_all(connection), ["GET"])[0].status == 200
        nursery.cancel_scope.cancel()


async def test_a_taken_port_is_an_error_that_says_what_to_do_and_nothing_stays_open() -> None:
    (taken,) = await open_listeners([ListenAddress(LOOPBACK, 0)])
    (free,) = await open_listeners([ListenAddress(LOOPBACK, 0)])
    free.close()
    with pytest.raises(
        OSError, match=r"can't listen on 127\.0\.0\.1:\d+: another program uses that port; .*choose"
    ) as caught:
        await open_listeners([free.address, taken.address])
    assert caught.value.errno == errno.EADDRINUSE
    taken.close()
    (again,) = await open_listeners([free.address])
    again.close()


async def test_an_address_of_another_machine_and_a_name_that_is_none() -> None:
    with pytest.raises(OSError, match="no interface of this machine has that address"):
        await open_listeners([ListenAddress("192.0.2.1", 0)])
    with pytest.raises(OSError, match="there is no such host"):
        await open_listeners([ListenAddress("no-such-host.invalid", 0)])


# --- requests --------------------------------------------------------------------------------------------------------


async def test_one_connection_serves_many_requests() -> None:
    async with serving(router()) as site, await site.connect() as connection:
        for number in range(5):
            await connection.send_all(
                plain(f"POST /echo?{number} HTTP/1.1", "Host: a", "Content-Length: 3", body=b"abc")
            )
            (answer,) = answers(await connection.receive_some(), ["POST"])
            assert answer.body == f"POST /echo {number} abc".encode()
            assert answer.headers["x-always"] == "here"
            assert "connection" not in answer.headers
            assert "date" in answer.headers
        assert site.statistics.accepted == 1


async def test_a_request_may_arrive_byte_by_byte_with_an_empty_line_before_it() -> None:
    data = plain("", "POST /echo HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 3", body=b"abc")[2:]
    async with serving(router()) as site:
        (answer,) = answers(await site.send(b"\r\n", *(bytes([byte]) for byte in data)))
        assert answer.body == b"POST /echo  abc"
        (answer,) = answers(await site.send(b"\r\n" + data))
        assert answer.body == b"POST /echo  abc"


async def test_chunks_become_one_body() -> None:
    head = plain("POST /echo HTTP/1.1", "Host: a", "Connection: close", "Transfer-Encoding: Chunked")
    async with serving(router()) as site:
        (answer,) = answers(await site.send(head, b"3\r\nabc\r\n", b"1;x=y\r\n", b"d\r\n0\r\nt: u\r\n\r\n"))
        assert answer.body == b"POST /echo  abcd"


async def test_expect_100_continue() -> None:
    head = plain("POST /echo HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 3", "Expect: 100-continue")
    async with serving(router()) as site, await site.connect() as connection:
        await connection.send_all(head)
        assert await connection.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send_all(b"abc")
        assert answers(await receive_all(connection))[0].body == b"POST /echo  abc"


async def test_expect_100_continue_is_refused_before_the_body_is_sent() -> None:
    head = plain("POST /echo HTTP/1.1", "Host: a", "Content-Length: 300001", "Expect: 100-continue")
    async with serving(router()) as site:
        (answer,) = answers(await site.send(head, half_close=True))
        assert answer.status == 413
        assert answer.headers["connection"] == "close"


async def test_http10_is_never_told_to_continue() -> None:
    head = plain("POST /echo HTTP/1.0", "Content-Length: 3", "Expect: 100-continue")
    async with serving(router()) as site:
        (answer,) = answers(await site.send(head, b"abc"))
        assert answer.body == b"POST /echo  abc"


async def test_the_limit_of_open_files_is_raised_for_the_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(600, hard), hard))
    try:
        async with serving(router()):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(1512, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_body_limit_of_one_route_is_exact() -> None:
    async with serving(router()) as site:
        assert (await site.ask("POST", "/echo", b"x" * 300_000)).body.endswith(b"x" * 300_000)
        assert (await site.ask("POST", "/echo", b"x" * 300_001)).status == 413


async def test_head_is_get_without_a_body() -> None:
    async with serving(router()) as site:
        get, head = [await site.ask(method, "/echo") for method in ("GET", "HEAD")]
        assert head.body == b""
        assert int(head.headers["content-length"]) == len(b"HEAD /echo  ")
        assert get.status == head.status == 200
        assert (await site.ask("HEAD", "/stream")).body == b""


async def test_an_unknown_path_and_a_wrong_method_keep_the_connection() -> None:
    lines = [
        ("GET", "/none", 404),
        ("POST", "/none", 404),
        ("DELETE", "/echo", 405),
        ("POST", "/fail", 405),
        ("GET", "/echo", 200),
    ]
    data = b"".join(plain(f"{m} {p} HTTP/1.1", "Host: a", "Content-Length: 3", body=b"abc") for m, p, _ in lines)
    end = plain("GET /none HTTP/1.1", "Host: a", "Connection: close")
    async with serving(router()) as site:
        found = answers(await site.send(data + end), [m for m, _, _ in lines] + ["GET"])
        assert [answer.status for answer in found] == [status for _, _, status in lines] + [404]
        assert found[0].body == found[2].body == b""
        assert found[2].headers["allow"] == "GET,HEAD,POST"
        assert found[3].headers["allow"] == "GET,HEAD"


async def test_a_refusal_is_one_line() -> None:
    async with serving(router()) as site:
        answer = await site.ask("GET", "/refuse")
        assert (answer.status, answer.body, answer.headers["x-reason"]) == (409, b"No. X: y\n", "test")


async def test_a_handler_that_fails_costs_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    data = plain("GET /fail HTTP/1.1", "Host: a") + plain("GET /echo HTTP/1.1", "Host: a", "Connection: close")
    async with serving(router()) as site:
        found = answers(await site.send(data), ["GET", "GET"])
        assert [answer.status for answer in found] == [500, 200]
        assert b"bug" not in found[0].body
    assert "ZeroDivisionError" in caplog.text


async def test_a_stream_goes_out_in_chunks_and_to_http10_until_the_end() -> None:
    async with serving(router()) as site:
        answer = await site.ask("GET", "/stream")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == WHOLE
        data = await site.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        assert body == WHOLE
        assert b"chunked" not in head


async def test_a_stream_is_closed_if_the_client_goes() -> None:
    closed = trio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                await trio.sleep(0.01)
                yield b"x" * 100_000
        finally:
            closed.set()

    async def handler(_request: Request) -> Response:
        return Response(200, endless())

    table = Router()
    table.get("/", handler)
    async with serving(table) as site:
        connection = await site.connect()
        await connection.send_all(plain("GET / HTTP/1.1", "Host: a"))
        await connection.receive_some()
        await connection.aclose()
        with trio.fail_after(30):
            await closed.wait()


async def test_a_half_closed_client_gets_its_answer() -> None:
    async with serving(router()) as site:
        assert (
            answers(await site.send(plain("GET /echo HTTP/1.1", "Host: a"), half_close=True), ["GET"])[0].status == 200
        )


# --- shutdown ----------------------------------------------------------------------------------------------------


class Slow:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def __call__(self, _request: Request) -> Response:
        self.begun.set()
        await self.go_on.wait()
        return Response(200, b"done")


async def test_shutdown_finishes_what_is_under_way_and_closes_the_rest() -> None:
    slow = Slow()
    table = router()
    table.get("/slow", slow)
    async with serving(table) as site:
        idle = await site.connect()
        await idle.send_all(plain("GET /echo HTTP/1.1", "Host: a"))
        await idle.receive_some()
        busy = await site.connect()
        await busy.send_all(plain("GET /slow HTTP/1.1", "Host: a"))
        await slow.begun.wait()
        site.cancel_scope.cancel()
        with trio.fail_after(30):
            assert await idle.receive_some() == b""
            with pytest.raises(OSError, match="connect"):
                await site.connect()
            slow.go_on.set()
            (answer,) = answers(await receive_all(busy), ["GET"])
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")


async def test_shutdown_does_not_wait_for_ever() -> None:
    slow = Slow()
    table = Router()
    table.get("/slow", slow)
    async with serving(table, limits=HttpLimits(grace_s=0.2)) as site:
        busy = await site.connect()
        await busy.send_all(plain("GET /slow HTTP/1.1", "Host: a"))
        await slow.begun.wait()
        site.cancel_scope.cancel()
        with trio.fail_after(30):
            assert await receive_all(busy) == b""


async def test_no_file_descriptors_left_is_waited_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = await open_listeners([ListenAddress(LOOPBACK, 0)])
    real = socket.socket.accept
    failures = 3

    def accept(self: socket.socket) -> tuple[socket.socket, object]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, listeners, router())
        async with await trio.open_tcp_stream(LOOPBACK, listeners[0].address.port) as connection:
            await connection.send_all(plain("GET /echo HTTP/1.1", "Host: a", "Connection: close"))
            assert answers(await receive_all(connection), ["GET"])[0].status == 200
        nursery.cancel_scope.cancel()
    assert caplog.text.count("Too many open files") == 3


async def test_statistics_count() -> None:
    async with serving(router()) as site:
        await site.ask("GET", "/echo")
        await site.ask("GET", "/none")
        await site.send(b"\0")
        await until(lambda: site.statistics.connections == 0)
        assert site.statistics.responses == {200: 1, 404: 1, 400: 1}
        assert (site.statistics.accepted, site.statistics.bad_requests, site.statistics.turned_away) == (3, 1, 0)


def test_sockets_do_not_wait_for_more_before_they_send() -> None:
    """Nagle's algorithm with delayed acknowledgements would hold small answers for 40 ms."""

    async def main() -> int:
        (listener,) = await open_listeners([ListenAddress(LOOPBACK, 0)])
        client = socket.create_connection((LOOPBACK, listener.address.port))
        accepted, _ = await listener.socket.accept()
        value: int = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for sock in (client, accepted, listener):
            sock.close()
        return value

    assert trio.run(main)


# --- turns -----------------------------------------------------------------------------------------------------------


async def test_many_requests_at_once_leave_others_their_turn() -> None:
    requests = 300
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def count(_request: Request) -> Response:
        return Response(200, b"%d" % turns, "text/plain")

    table = Router()
    table.get("/turns", count)
    head = plain("GET /turns HTTP/1.1", "Host: x")
    last = plain("GET /turns HTTP/1.1", "Host: x", "Connection: close")
    async with serving(table) as site, trio.open_nursery() as nursery:
        nursery.start_soon(another)
        data = await site.send(head * (requests - 1) + last)
        nursery.cancel_scope.cancel()
    seen = [int(answer.body) for answer in answers(data, ["GET"] * requests)]
    assert len(seen) == requests
    assert all(before < after for before, after in zip(seen, seen[2:], strict=False))  # trio shuffles a round's tasks
