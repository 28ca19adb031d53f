"""The mailbox mode, and what the events tell of."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from node.doors import Doors
from node.http.head import Head
from node.http.messages import HttpError

HEAD = Head("GET", "/health", {}, 0, True)


async def test_closed_doors_answer_503_before_anything_else() -> None:
    asked: list[str] = []
    doors = Doors(is_open=True)
    guard = doors.guard(lambda _head, client: asked.append(client))
    guard(HEAD, "a")
    doors.set(is_open=False)
    with pytest.raises(HttpError) as caught:
        guard(HEAD, "b")
    assert caught.value.status == 503
    assert dict(caught.value.headers)["retry-after"]
    assert asked == ["a"]
    doors.set(is_open=True)
    doors.guard(None)(HEAD, "c")


async def test_what_depends_on_them_begins_anew(autojump_clock: trio.testing.MockClock) -> None:
    doors = Doors(is_open=True)
    runs: list[bool] = []

    async def run(is_open: bool) -> None:
        runs.append(is_open)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(doors.while_so, run)
        for is_open in (True, False, False, True):
            await trio.sleep(1)
            doors.set(is_open=is_open)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert runs == [True, False, True]
