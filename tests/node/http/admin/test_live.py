"""The live stream: the latest of each value, to a bounded number of listeners, and nothing left behind."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from node.http.admin.live import Listener, Live
from node.http.messages import HttpError, Request, Response, Router
from node.http.server import HttpLimits
from tests.node.http.harness import serving, until


async def heard(listener: Listener) -> dict[str, object]:
    """What comes next, by name."""
    with trio.fail_after(10):
        text = (await anext(listener)).decode()
    blocks = [block.split("\ndata: ") for block in text.split("\n\n") if block.startswith("event: ")]
    return {name.removeprefix("event: "): json.loads(data) for name, data in blocks}


async def test_a_listener_hears_what_is_and_what_changes() -> None:
    live = Live()
    live.put("state", {"n": 1})
    listener = live.listen()
    assert await heard(listener) == {"state": {"n": 1}}
    live.put("state", {"n": 1})  # nothing new
    live.put("events", [])
    assert await heard(listener) == {"events": []}
    await listener.aclose()


async def test_a_slow_reader_skips_what_came_in_between() -> None:
    live = Live()
    listener = live.listen()
    for n in range(1000):
        live.put("state", n)
    assert await heard(listener) == {"state": 999}


async def test_a_heartbeat_when_nothing_changes(autojump_clock: trio.testing.MockClock) -> None:
    live = Live(heartbeat_s=15)
    listener = live.listen()
    assert (await anext(listener)).startswith(b":")
    assert trio.current_time() == pytest.approx(15)


async def test_listeners_are_bounded_and_make_room() -> None:
    live = Live(listeners_max=2)
    one, _two = live.listen(), live.listen()
    with pytest.raises(HttpError, match="Too many pages"):
        live.listen()
    await one.aclose()
    await one.aclose()
    assert live.listeners == 1
    live.listen()


async def test_closing_ends_all_of_them() -> None:
    live = Live()
    listener = live.listen()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(StopAsyncIteration):
                await anext(listener)

        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        live.close()
    with pytest.raises(HttpError):
        live.listen()
    live.open()
    live.listen()


async def test_who_is_signed_out_hears_no_more() -> None:
    live = Live()
    signed_in = True
    listener = live.listen(while_true=lambda: signed_in)
    live.put("state", 1)
    await heard(listener)
    signed_in = False
    live.put("state", 2)
    with pytest.raises(StopAsyncIteration):
        await anext(listener)


def streaming(live: Live) -> Router:
    async def stream(_request: Request) -> Response:
        return Response(200, live.listen(), "text/event-stream")

    router = Router()
    router.get("/live", stream)
    return router


async def test_one_that_goes_away_is_noticed() -> None:
    live = Live(heartbeat_s=0.05)
    async with serving(streaming(live)) as site:
        for _ in range(3):
            async with await site.connect() as stream:
                await stream.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: live.listeners == 1)
                await stream.receive_some(100)
            await until(lambda: live.listeners == 0)


async def test_one_that_does_not_read_is_dropped() -> None:
    live = Live()
    limits = HttpLimits(send_stall_s=0.3)
    async with serving(streaming(live), limits=limits) as site, await site.connect() as stream:
        await stream.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: live.listeners == 1)
        with trio.fail_after(30):
            n = 0
            while live.listeners:
                n += 1
                live.put("state", str(n) + "x" * 500_000)
                await trio.sleep(0.01)
