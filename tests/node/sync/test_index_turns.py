"""The index among many who ask at once, and cancelled at any moment: nobody gets a picture that is out of date."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from node.store.api import Arrival
from node.store.memory import MemoryStore
from node.sync import index as index_module
from node.sync.index import IndexView, LogIndex
from node.sync.index_reading import Pace
from protocols.limits.replication import INDEX_LEAF_LOGS_MAX
from protocols.model import LogName, digest_of, handle_of
from protocols.sync.interest import Interest

NAMES = [LogName("t", f"{number}") for number in range(20)]


class GatedStore(MemoryStore):
    """A store that reads when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.gate.set()

    async def columns_of(self, *args: Any, **options: Any) -> Any:
        await self.gate.wait()
        return await super().columns_of(*args, **options)


async def put(store: MemoryStore, seq: int, *names: LogName) -> None:
    await store.put([Arrival(name, seq, b"%d" % seq, digest_of(b"%d" % seq), 100) for name in names])


async def fingerprint(store: MemoryStore) -> str:
    fresh = LogIndex(store)
    await fresh.load()
    return (await fresh.view(0)).fingerprint


async def test_who_asks_while_another_one_reads_waits_for_what_it_reads() -> None:
    async with GatedStore() as store:
        await put(store, 0, *NAMES)
        index = LogIndex(store)
        await index.load()
        store.gate = trio.Event()
        await put(store, 1, NAMES[3])
        seen: list[IndexView] = []

        async def look() -> None:
            seen.append(await index.view(0))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
            assert not seen, "a picture without what was committed before"
            store.gate.set()
        assert {view.fingerprint for view in seen} == {await fingerprint(store)}


async def test_cancelled_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had been read is not forgotten, and what had not is read by the next one."""
    scope = trio.CancelScope()
    left = 0

    class Checkpoints(Pace):
        async def spend(self, *, blocks: int = 0, messages: int = 0) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                scope.cancel()
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(index_module, "Pace", Checkpoints)
    async with MemoryStore() as store:
        await put(store, 0, *NAMES[:10])
        index = LogIndex(store)
        await index.load()
        for moment in range(1, 1000):
            await put(store, moment, *NAMES[moment % 7 :: 5])
            left = moment
            with trio.CancelScope() as scope:
                await index.view(0)
            left = 0
            assert (await index.view(0)).fingerprint == await fingerprint(store)
            if not scope.cancelled_caught:
                break
        assert 10 < moment < 999


async def test_states_are_held_if_all_are() -> None:
    async with MemoryStore() as store:
        await put(store, 0, *NAMES[:2])
        index = LogIndex(store)
        await index.load()
        view = await index.view(0)
        states = {handle_of(name): (view.state(handle_of(name)) or b"")[:8] for name in NAMES[:2]}
        assert index.has_states(states, 8)
        assert index.has_states({}, 8)
        for handle in states:
            assert not index.has_states(states | {handle: b"12345678"}, 8)
        assert not index.has_states(states | {handle_of(NAMES[2]): b"12345678"}, 8)


async def test_a_picture_tells_whether_it_leaves_something_out() -> None:
    """Of what has died here a session must tell those who still hold it."""
    async with MemoryStore() as store:
        for seq, age_s in enumerate((100, 200)):
            await store.put([Arrival(NAMES[0], seq, b"", digest_of(b""), age_s)])
        await store.put([Arrival(NAMES[1], 0, b"", digest_of(b""), 100)])
        index = LogIndex(store)
        await index.load()
        interest = Interest.of(["t"])
        for boundary_s, is_partial, logs in ((100, False, 2), (101, True, 1), (200, True, 1), (201, True, 0)):
            for view in (await index.view(boundary_s), await index.view(boundary_s, interest)):
                assert (view.is_partial, len(view)) == (is_partial, logs)


async def test_a_log_that_has_gone_is_in_no_picture() -> None:
    """However it went, and whatever was known of it."""
    async with MemoryStore() as store:
        for name in NAMES[:3]:
            for seq, age_s in enumerate((100, 200)):
                await store.put([Arrival(name, seq, b"", digest_of(b""), age_s)])
        index = LogIndex(store)
        await index.load()
        assert len(await index.view(150)) == 3
        store._forget(NAMES[1], [(0, digest_of(b"")), (1, digest_of(b""))])
        index.mark(NAMES[1], 0)
        view = await index.view(150)
        assert [*view.names()] == sorted((NAMES[0], NAMES[2]), key=handle_of)
        assert view.find(handle_of(NAMES[1])) is None


async def test_small_leaves_are_joined_when_most_logs_have_gone() -> None:
    names = [LogName("t", f"{number}") for number in range(5000)]
    async with MemoryStore() as store:
        await store.put([Arrival(name, 0, b"", digest_of(b""), 100 + (at % 50 == 0)) for at, name in enumerate(names)])
        index = LogIndex(store)
        await index.load()
        assert len((await index.view(0)).leaves) > 5000 // INDEX_LEAF_LOGS_MAX
        await store.expire(101, messages_max=10_000)
        view = await index.view(0)
        assert (len(view), len(view.leaves)) == (100, 1)
