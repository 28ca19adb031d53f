"""Retention is replicated state: over many hops, restarts and wrong clocks no message lives longer than its week, none
is served after it, and none is lost before it, but for what the quota recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.store._reader_pool import Readers
from node.store._writer import Writer
from node.store.api import Store
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from protocols.limits.data import SEQ_MAX
from protocols.model import LogName, Retention
from tests.memory_world import SimulatedMailbox, World

LOG = LogName("topic", "log")
RETENTION: Final = Retention(6 * 3600)
MAILBOXES: Final = 3
SYNC_INTERVAL_S: Final = 300.0
SKEW_MAX_S: Final = 240.0
"""Of one clock; two of them are then less apart than mailboxes tolerate."""

STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(0, MAILBOXES - 1)),
        st.tuples(st.just("restart"), st.integers(0, MAILBOXES - 1)),
        st.tuples(st.just("hours"), st.integers(1, 4)),
        st.tuples(st.just("minutes"), st.integers(1, 59)),
        st.tuples(st.just("sync"), st.integers(0, MAILBOXES - 1)),
    ),
    min_size=4,
    max_size=14,
)


class Village:
    """A chain of mailboxes, each knowing the next, so that messages hop; and what must hold of what was stored."""

    def __init__(self, world: World, errors_s: Sequence[float], stores: Sequence[Store]) -> None:
        self._world = world
        self._errors_s = errors_s
        self._stores = stores
        self._mailboxes: list[SimulatedMailbox] = []
        self._born: dict[int, tuple[float, int]] = {}  # seq -> when it was stored, and where

    async def begin(self) -> None:
        for index, error_s in enumerate(self._errors_s):
            peers = tuple(self._mailboxes[-1:])
            mailbox = await self._world.start(
                f"m{index}",
                peers=peers,
                store=self._stores[index],
                retention=RETENTION,
                sync_interval_s=SYNC_INTERVAL_S,
            )
            mailbox.clock.error_s = error_s
            self._mailboxes.append(mailbox)

    async def step(self, what: str, number: int) -> None:
        if what == "store":
            seq = len(self._born)
            self._born[seq] = trio.current_time(), number
            await self._mailboxes[number].core.mailbox.deliver([(LOG, seq, b"message %d" % seq)])
        elif what == "restart":
            await self._restart(number)
        elif what == "sync":
            await self._mailboxes[number].core.engine.sync_now()
        else:
            await trio.sleep(number * {"hours": 3600, "minutes": 60}[what])
        await self.check()

    async def _restart(self, index: int) -> None:
        old = self._mailboxes[index]
        old.scope.cancel()
        await trio.sleep(1)
        peers = tuple(self._mailboxes[max(0, index - 1) : index])
        new = await self._world.start(
            f"m{index}", peers=peers, store=old.store, retention=RETENTION, sync_interval_s=SYNC_INTERVAL_S
        )
        new.clock.error_s = old.clock.error_s
        self._mailboxes[index] = new

    async def check(self) -> None:
        for index, mailbox in enumerate(self._mailboxes):
            page = await mailbox.core.mailbox.read({LOG.topic: {}})
            served = {seq for entry in page.entries for seq, _ in entry.messages}
            for seq, (at, where) in self._born.items():
                age_s = trio.current_time() - at
                if seq in served:
                    assert age_s < RETENTION.retention_s + 2 * SKEW_MAX_S, f"{seq} lives on in {index}"
                elif where == index:
                    # Dates are rounded down to the hour, so it may miss up to one of them.
                    assert age_s > RETENTION.retention_s - 3600 - 2 * SKEW_MAX_S, f"{seq} was lost in {index}"
            for item in await mailbox.store.items(LOG, 0, SEQ_MAX):
                at, where = self._born[item.seq]
                said_s = self._mailboxes[where].clock.now_s() - trio.current_time() + at
                assert item.first_stored_s <= said_s, f"{item.seq} was dated later by a hop"

    async def end(self) -> None:
        """After its time everything is gone everywhere."""
        await trio.sleep(RETENTION.retention_s + 3600)
        await self.check()
        for mailbox in self._mailboxes:
            assert not list(await mailbox.store.items(LOG, 0, SEQ_MAX))


ERRORS_S: Final = st.lists(st.floats(-SKEW_MAX_S, SKEW_MAX_S), min_size=MAILBOXES, max_size=MAILBOXES)


async def live(steps: Sequence[tuple[str, int]], errors_s: Sequence[float], seed: int, stores: Sequence[Store]) -> None:
    async with trio.open_nursery() as nursery:
        village = Village(World(nursery, seed=seed), errors_s, stores)
        await village.begin()
        for what, number in steps:
            await village.step(what, number)
        await village.end()
        nursery.cancel_scope.cancel()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, ERRORS_S, st.integers(0, 99))
def test_no_message_lives_longer_or_shorter_than_its_time(
    steps: Sequence[tuple[str, int]], errors_s: Sequence[float], seed: int
) -> None:
    stores = [MemoryStore() for _ in range(MAILBOXES)]
    trio.run(live, steps, errors_s, seed, stores, clock=trio.testing.MockClock(autojump_threshold=0))


class Patience:
    """A clock that does not jump while a thread works for somebody."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self.at_work = 0
        jump = self.clock._autojump

        def jump_if_idle() -> None:
            if self.at_work:
                time.sleep(0.0002)  # lets the threads have Python's lock
            else:
                jump()

        monkeypatch.setattr(self.clock, "_autojump", jump_if_idle)
        for kind, name in ((Writer, "do"), (Readers, "run"), (Readers, "run_short")):
            monkeypatch.setattr(kind, name, self._counted(getattr(kind, name)))

    @contextmanager
    def working(self) -> Iterator[None]:
        self.at_work += 1
        try:
            yield
        finally:
            self.at_work -= 1

    def _counted(self, original: Any) -> Any:
        async def counted(owner: Any, work: Any) -> Any:
            with self.working():
                return await original(owner, work)

        return counted


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, ERRORS_S, st.integers(0, 99))
def test_nor_does_one_on_a_disk(steps: Sequence[tuple[str, int]], errors_s: Sequence[float], seed: int) -> None:
    async def play(patience: Patience, directory: Path) -> None:
        async with AsyncExitStack() as stack:
            with patience.working():
                stores = [
                    await stack.enter_async_context(SqliteStore.open(directory / f"{number}.db"))
                    for number in range(MAILBOXES)
                ]
            await live(steps, errors_s, seed, stores)
            patience.at_work += 1  # until all are closed

    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as monkeypatch:
        patience = Patience(monkeypatch)
        trio.run(play, patience, Path(directory), clock=patience.clock)
