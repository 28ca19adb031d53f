"""Messages shaped like those of the chat app, for tests, the demonstration and benchmarks.

A topic is a conversation of 3 to 10 people; each writes a log of 10 to 1000 messages of 200 to 2000 bytes (both spread
evenly over orders of magnitude, as chats are: many short ones, few long ones), and once in a while somebody sends a
picture of 1 MiB. Several conversations go on at once and people write in bursts, so neighbouring messages belong to
different logs. Ids are 64 hex digits, contents are random bytes, as encrypted messages look.

The same seed gives the same messages on every machine, and a shorter run is the beginning of a longer one.
"""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import httptools
import trio

from protocols.limits.units import MIB

__all__ = [
    "HttpSession",
    "LoadReport",
    "WorkloadError",
    "WorkloadMessage",
    "encode_store",
    "generate",
    "in_requests",
    "send",
]

LOGS_PER_TOPIC: Final = (3, 10)
MESSAGES_PER_LOG: Final = (10, 1000)
MESSAGE_BYTES: Final = (200, 2000)
LARGE_BYTES: Final = MIB
LARGE_EVERY: Final = 20_000
TOPICS_AT_ONCE: Final = 8
BURST_MAX: Final = 4


class WorkloadMessage(NamedTuple):
    """One message: 64 hex digits, 64 hex digits, 0 and up within its log, opaque bytes."""

    topic: str
    log: str
    seq: int
    blob: bytes


class _Log:
    __slots__ = ("left", "name", "seq")

    def __init__(self, rng: random.Random) -> None:
        self.name = rng.randbytes(32).hex()
        self.left = _log_uniform(rng, MESSAGES_PER_LOG)
        self.seq = 0


class _Topic:
    __slots__ = ("logs", "name")

    def __init__(self, rng: random.Random) -> None:
        self.name = rng.randbytes(32).hex()
        self.logs = [_Log(rng) for _ in range(rng.randint(*LOGS_PER_TOPIC))]


def _log_uniform(rng: random.Random, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def generate(
    *,
    messages: int = 100_000,
    seed: int = 1,
    large_every: int = LARGE_EVERY,
    large_bytes: int = LARGE_BYTES,
) -> Iterator[WorkloadMessage]:
    """Yields `messages` messages, one by one. Of every `large_every` the middle one is large (0: none).

    In each log seq counts from 0 without a gap; the last logs may be cut short.
    """
    rng = random.Random(seed)
    topics = [_Topic(rng) for _ in range(TOPICS_AT_ONCE)]
    made = 0
    while made < messages:
        index = rng.randrange(len(topics))
        topic = topics[index]
        log = rng.choice(topic.logs)
        for _ in range(min(rng.randint(1, BURST_MAX), log.left, messages - made)):
            large = large_every and made % large_every == large_every // 2
            size = large_bytes if large else _log_uniform(rng, MESSAGE_BYTES)
            yield WorkloadMessage(topic.name, log.name, log.seq, rng.randbytes(size))
            log.seq += 1
            log.left -= 1
            made += 1
        if not log.left:
            topic.logs.remove(log)
        if not topic.logs:
            topics[index] = _Topic(rng)


def in_requests(
    messages: Iterable[WorkloadMessage],
    *,
    seed: int = 1,
    backlog_messages_max: int = 500,
    request_bytes_max: int = 16 * MIB,
) -> Iterator[list[WorkloadMessage]]:
    """Groups messages into store requests as the app sends them: mostly what was just written (one to a few messages),
    and every twentieth time the backlog of someone who was away (up to `backlog_messages_max`). `request_bytes_max`
    bounds the blobs of a request, except for one that is larger by itself."""
    rng = random.Random(seed)
    request: list[WorkloadMessage] = []
    size, wanted = 0, 1
    for message in messages:
        if request and (len(request) >= wanted or size + len(message.blob) > request_bytes_max):
            yield request
            request, size = [], 0
            backlog = rng.random() < 0.05
            wanted = _log_uniform(rng, (5, backlog_messages_max)) if backlog else _log_uniform(rng, (1, 4))
        request.append(message)
        size += len(message.blob)
    if request:
        yield request


def encode_store(messages: Sequence[WorkloadMessage]) -> bytes:
    """The JSON body of `/blips/store` for these messages."""
    # Written by hand: ids and base64 need no escaping, and a load generator must cost less than what it loads.
    topics: dict[str, dict[str, list[str]]] = {}
    for topic, log, seq, blob in messages:
        encoded = base64.b64encode(blob).decode("ascii")
        topics.setdefault(topic, {}).setdefault(log, []).append(f'"{seq}":"{encoded}"')
    inner = ",".join(
        f'"{topic}":{{' + ",".join(f'"{log}":{{' + ",".join(entries) + "}" for log, entries in logs.items()) + "}"
        for topic, logs in topics.items()
    )
    return b'{"blips":{' + inner.encode("ascii") + b"}}"


class WorkloadError(Exception):
    """The mailbox did not take the load; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was sent and acknowledged. `body_bytes` are those of the request bodies."""

    requests: int
    messages: int
    blob_bytes: int
    body_bytes: int
    elapsed_s: float


class _Answer:
    """httptools' callbacks; it has no other interface."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class HttpSession:
    """One keep-alive connection, one request at a time, as a phone has it. Makes no effort to retry."""

    def __init__(self, stream: trio.abc.Stream, host: str) -> None:
        self._stream = stream
        self._host = host

    @classmethod
    async def open(cls, url: str) -> HttpSession:
        """Connects to the base URL `http://HOST:PORT`. Raises WorkloadError."""
        host, port = _host_port(url)
        try:
            stream = await trio.open_tcp_stream(host, port)
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        except OSError as error:
            raise WorkloadError(f"{url} can't be reached: {error}") from error
        return cls(stream, url.removeprefix("http://"))

    async def request(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Sends one request, returns status and body. Raises WorkloadError if the connection breaks."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body:
            head += "Content-Type: application/json\r\n"
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        try:
            await self._stream.send_all(head.encode("ascii") + b"\r\n" + body)
            while not answer.complete:
                data = await self._stream.receive_some(64 * 1024)
                if not data:
                    raise WorkloadError("the mailbox closed the connection in the middle of an answer")
                parser.feed_data(data)
        except (trio.BrokenResourceError, httptools.HttpParserError) as error:
            raise WorkloadError(f"the connection broke: {error}") from error
        return int(parser.get_status_code()), bytes(answer.body)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _host_port(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    if not url.startswith("http://") or not port.isdigit():
        raise WorkloadError(f"{url!r} is not of the form http://HOST:PORT")
    return host.strip("[]"), int(port)


async def send(
    requests: Iterable[Sequence[WorkloadMessage]],
    urls: Sequence[str],
    *,
    connections: int = 8,
    progress: Callable[[int], None] | None = None,
) -> LoadReport:
    """Stores `requests` over `connections` keep-alive connections, dealt out in turn over the mailboxes `urls`.

    Returns when all are acknowledged. `progress` gets the number of messages acknowledged so far. The order in which
    requests arrive is only kept within a connection. Raises WorkloadError at the first that is not stored.
    """
    source = iter(requests)
    done = {"requests": 0, "messages": 0, "blob_bytes": 0, "body_bytes": 0}

    async def worker(url: str) -> None:
        session = await HttpSession.open(url)
        try:
            for messages in source:
                body = encode_store(messages)
                status, answer = await session.request("POST", "/blips/store", body)
                if status != 201:
                    reason = answer[:200].decode("utf-8", "replace")
                    raise WorkloadError(f"{url} answered {status} to a store: {reason}")
                done["requests"] += 1
                done["messages"] += len(messages)
                done["blob_bytes"] += sum(len(message.blob) for message in messages)
                done["body_bytes"] += len(body)
                if progress is not None:
                    progress(done["messages"])
        finally:
            with trio.CancelScope(shield=True):
                await session.aclose()

    begun = trio.current_time()
    try:
        async with trio.open_nursery() as nursery:
            for number in range(connections):
                nursery.start_soon(worker, urls[number % len(urls)])
    except* WorkloadError as group:
        raise _first(group) from None
    return LoadReport(**done, elapsed_s=trio.current_time() - begun)


def _first(group: BaseExceptionGroup[WorkloadError]) -> WorkloadError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WorkloadError)
    return error
