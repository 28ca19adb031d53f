"""A server on a real port for tests, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import trio

from node.clock import SystemClock
from node.config import ListenAddress
from node.http.messages import Router
from node.http.server import HttpLimits, HttpStatistics, open_listeners, serve_http
from node.http.toy import toy_router
from node.http.turnstile import Turnstile
from node.mailbox import Mailbox
from node.store.api import Arrival, PutResult, Store
from node.store.memory import MemoryStore
from protocols.model import MailboxId, Retention

MAILBOX_ID = MailboxId(bytes(range(32)))
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as h11 reads it."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Site:
    """A server that runs. `cancel_scope` shuts it down."""

    port: int
    statistics: HttpStatistics
    cancel_scope: trio.CancelScope

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self, source: str = "127.0.0.1") -> trio.SocketStream:
        """A connection from that loopback address."""
        sock = trio.socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.bind((source, 0))
        await sock.connect(("127.0.0.1", self.port))
        return trio.SocketStream(sock)

    async def send(self, *pieces: bytes, half_close: bool = False, source: str = "127.0.0.1") -> bytes:
        """Sends `pieces` on a connection of their own, and returns what comes back until the server closes."""
        with trio.fail_after(PATIENCE_S):
            async with await self.connect(source) as stream:
                try:
                    for piece in pieces:
                        await stream.send_all(piece)
                    if half_close:
                        await stream.send_eof()
                except trio.BrokenResourceError:  # refused before all was sent; the answer is what counts
                    pass
                return await receive_all(stream)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        source: str = "127.0.0.1",
    ) -> Answer:
        """One request on a connection of its own; JSON unless `headers` say something else."""
        given = {name.lower() for name, _ in headers}
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", *(f"{n}: {v}" for n, v in headers)]
        if "host" not in given:
            lines.append(f"Host: 127.0.0.1:{self.port}")
        if body is not None:
            if "content-type" not in given:
                lines.append("Content-Type: application/json")
            if not given & {"content-length", "transfer-encoding"}:
                lines.append(f"Content-Length: {len(body)}")
        data = await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"), body or b"", source=source)
        (answer,) = answers(data, [method])
        return answer

    async def is_alive(self) -> bool:
        """Whether it still answers."""
        return (await self.ask("GET", "/health")).status == 200


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that the server does in its own time."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def receive_all(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    async for piece in stream:
        data += piece
    return bytes(data)


def answers(data: bytes, methods: Sequence[str] = ("POST",)) -> list[Answer]:
    """All the responses in `data`, as answers to requests with `methods`. Fails if they are not proper HTTP."""
    found: list[Answer] = []
    for method in methods:
        if not data:
            break
        connection = h11.Connection(h11.CLIENT)
        headers = [("host", "x")]
        connection.send(h11.Request(method=method, target="/", headers=headers))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        connection.receive_data(b"")
        body = bytearray()
        head: h11.Response | None = None
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                assert isinstance(event, h11.InformationalResponse), event
        assert head is not None
        found.append(Answer(head.status_code, {n.decode(): v.decode() for n, v in head.headers}, bytes(body)))
        data = connection.trailing_data[0]
    assert not data
    return found


@asynccontextmanager
async def serving(
    router: Router, *, limits: HttpLimits | None = None, turnstile: Turnstile | None = None
) -> AsyncIterator[Site]:
    """Serves `router` on a free loopback port."""
    statistics = HttpStatistics()
    async with trio.open_nursery() as nursery:
        listeners = await open_listeners([ListenAddress("127.0.0.1", 0)])
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await serve_http(
                    listeners,
                    router,
                    limits=limits,
                    statistics=statistics,
                    turnstile=turnstile,
                    task_status=task_status,
                )

        await nursery.start(run)
        try:
            yield Site(listeners[0].address.port, statistics, scope)
        finally:
            scope.cancel()


class StuckStore(MemoryStore):
    """Commits nothing until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.waiting = 0

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        self.waiting += 1
        await self.go_on.wait()
        return await super().put(arrivals, origin=origin, client=client)


def mailbox_over(store: Store) -> Mailbox:
    """A mailbox with a week's retention over `store`."""
    return Mailbox(store, clock=SystemClock(), retention=Retention())


@asynccontextmanager
async def serving_toy(store: Store | None = None, *, limits: HttpLimits | None = None) -> AsyncIterator[Site]:
    """The phones' API over `store`."""
    mailbox = mailbox_over(MemoryStore() if store is None else store)
    async with serving(toy_router(mailbox, MAILBOX_ID), limits=limits) as site:
        yield site
