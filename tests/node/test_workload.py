"""The workload: the same for everybody, shaped like the app, and sent so that a refusal is noticed."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
import trio

from node.workload import HttpSession, WorkloadError, WorkloadMessage, encode_store, generate, in_requests, send


def test_the_same_seed_gives_the_same_messages_everywhere() -> None:
    digest = sha256()
    for topic, log, seq, blob in generate(messages=1000, seed=7):
        digest.update(f"{topic}{log}{seq}".encode() + blob)
    assert digest.hexdigest() == "6ee29d6cf01ba8de53a6b45c81713c1a2adf38bc7ccada374294170e910da1e6"
    assert next(generate(seed=7)) != next(generate(seed=8))


def test_a_short_run_is_the_beginning_of_a_long_one() -> None:
    assert list(generate(messages=300)) == list(itertools.islice(generate(messages=5000), 300))


@pytest.mark.parametrize("messages", [0, 1, 2, 777])
def test_gives_exactly_as_many_as_asked_for(messages: int) -> None:
    assert sum(1 for _ in generate(messages=messages)) == messages


def test_is_shaped_like_the_app() -> None:
    logs: dict[str, Counter[str]] = defaultdict(Counter)
    sizes = []
    for topic, log, seq, blob in generate(messages=30_000, large_bytes=4096):
        assert seq == logs[topic][log], "every log counts from 0 without a gap"
        logs[topic][log] += 1
        sizes.append(len(blob))
        assert len(bytes.fromhex(topic)) == len(bytes.fromhex(log)) == 32
    assert all(200 <= size <= 2000 or size == 4096 for size in sizes)
    assert sizes.count(4096) == 1, "of every 20,000 the middle one"
    assert 500 < sorted(sizes)[len(sizes) // 2] < 800, "spread evenly over the orders of magnitude"
    assert len(logs) > 8, "conversations end and others begin"
    assert all(len(counts) <= 10 for counts in logs.values())
    assert max(max(counts.values()) for counts in logs.values()) <= 1000
    finished = sorted(counts.total() for counts in logs.values())
    assert finished[0] < finished[-1] / 2, "no two conversations are alike"


def test_neighbouring_messages_belong_to_different_logs() -> None:
    messages = list(generate(messages=1000))
    changes = sum(a.log != b.log for a, b in itertools.pairwise(messages))
    assert changes > 250


def test_requests_lose_nothing_and_keep_the_order() -> None:
    requests = list(in_requests(generate(messages=3000)))
    assert list(itertools.chain.from_iterable(requests)) == list(generate(messages=3000))
    sizes = [len(request) for request in requests]
    assert sorted(sizes)[len(sizes) // 2] <= 4, "most requests are what was just written"
    assert max(sizes) > 20, "and some are backlogs"


def test_requests_are_bounded() -> None:
    for request in in_requests(
        generate(messages=2000, large_every=100, large_bytes=60_000), backlog_messages_max=50, request_bytes_max=50_000
    ):
        assert len(request) <= 50
        assert len(request) == 1 or sum(len(m.blob) for m in request) <= 50_000


def test_the_body_is_what_the_api_asks_for() -> None:
    messages = [
        WorkloadMessage("t1", "a", 0, b"x"),
        WorkloadMessage("t1", "a", 1, b""),
        WorkloadMessage("t2", "b", 0, bytes(range(256))),
    ]
    assert json.loads(encode_store(messages)) == {
        "blips": {
            "t1": {"a": {"0": "eA==", "1": ""}},
            "t2": {"b": {"0": base64.b64encode(bytes(range(256))).decode()}},
        }
    }
    assert json.loads(encode_store([])) == {"blips": {}}


class Recorder:
    """A server that keeps the bodies and answers what it is told; it knows just enough HTTP."""

    def __init__(self, status: int = 201) -> None:
        self.bodies: list[bytes] = []
        self.connections = 0
        self.status = status
        self.cut = False

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some()
                if not data:
                    return
                buffer += data
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(buffer) < size:
                buffer += await stream.receive_some()
            body, buffer = buffer[:size], buffer[size:]
            self.bodies.append(body)
            if self.cut:
                await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{")
                return
            await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nhello" % self.status)


@asynccontextmanager
async def serving(recorder: Recorder) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, recorder.handle, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_sends_everything_once_over_all_mailboxes() -> None:
    one, two = Recorder(), Recorder()
    async with serving(one) as url_one, serving(two) as url_two:
        seen: list[int] = []
        report = await send(
            in_requests(generate(messages=500)), [url_one, url_two], connections=4, progress=seen.append
        )
    assert one.connections == two.connections == 2, "connections are kept alive"
    assert one.bodies
    assert two.bodies
    assert report.messages == 500 == max(seen)
    assert report.requests == len(one.bodies) + len(two.bodies)
    assert report.body_bytes == sum(map(len, one.bodies + two.bodies))
    got = {
        (topic, log, int(seq), base64.b64decode(blob))
        for body in one.bodies + two.bodies
        for topic, logs in json.loads(body)["blips"].items()
        for log, blobs in logs.items()
        for seq, blob in blobs.items()
    }
    assert got == set(generate(messages=500))


async def test_a_refused_store_is_an_error_with_the_answer() -> None:
    async with serving(Recorder(507)) as url:
        with pytest.raises(WorkloadError, match="507 to a store: hello"):
            await send(in_requests(generate(messages=50)), [url])


async def test_a_cut_answer_is_an_error() -> None:
    recorder = Recorder()
    recorder.cut = True
    async with serving(recorder) as url:
        with pytest.raises(WorkloadError, match="in the middle"):
            await send(in_requests(generate(messages=50)), [url], connections=1)


async def test_nobody_there_is_an_error() -> None:
    async with serving(Recorder()) as url:
        pass
    with pytest.raises(WorkloadError, match="can't be reached"):
        await send(in_requests(generate(messages=50)), [url])


@pytest.mark.parametrize("url", ["127.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x"])
async def test_a_wrong_url_is_an_error(url: str) -> None:
    with pytest.raises(WorkloadError, match="form"):
        await HttpSession.open(url)
