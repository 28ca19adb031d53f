"""What holds the parts together: a part that fails is started again, and what can't start says so."""

from __future__ import annotations

import logging
import random
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from node.core import Core, supervise
from node.store.api import StoreUnavailable
from node.store.memory import MemoryStore
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.limits.replication import SUPERVISE_PAUSE_FIRST_S, SUPERVISE_PAUSE_MAX_S
from protocols.limits.sync import SALT_BYTES
from protocols.model import MailboxId, Retention
from tests.memory_world import SimulatedClock


class Part:
    """Lives for each of `lives_s` in turn, then fails; after the last it goes on for ever."""

    def __init__(self, *lives_s: float, error: Exception | None = None) -> None:
        self._lives_s = list(lives_s)
        self._error = error
        self.begun_at: list[float] = []

    async def run(self) -> None:
        self.begun_at.append(trio.current_time())
        await trio.sleep(self._lives_s.pop(0) if self._lives_s else float("inf"))
        if self._error:
            raise self._error


async def begun(part: Part, seconds: float) -> list[float]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "the part", part.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return [at - part.begun_at[0] for at in part.begun_at]


async def test_a_failed_part_is_started_again_after_growing_pauses(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    first = SUPERVISE_PAUSE_FIRST_S
    part = Part(0, 0, 0, error=RuntimeError("a fault of ours"))
    assert await begun(part, 1000) == pytest.approx([0, first, 3 * first, 7 * first])
    failures = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(failures) == 3
    assert all("the part failed" in record.getMessage() and record.exc_info for record in failures)


async def test_the_pauses_have_a_limit_and_shrink_after_a_long_life(autojump_clock: MockClock) -> None:
    lives_s = [0.0] * 12 + [SUPERVISE_PAUSE_MAX_S + 1, 0.0]
    at = await begun(Part(*lives_s, error=OSError("no")), 5000)
    pauses_s = [later - earlier for earlier, later in pairwise(at)]
    assert max(pauses_s[:12]) == pytest.approx(SUPERVISE_PAUSE_MAX_S)
    assert pauses_s[12] == pytest.approx(SUPERVISE_PAUSE_MAX_S + 1 + SUPERVISE_PAUSE_FIRST_S)


async def test_a_part_that_ends_by_itself_is_started_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(await begun(Part(0), 100)) == 2
    assert "the part ended" in caplog.text


async def test_a_group_of_errors_is_a_failure_like_any_other(autojump_clock: MockClock) -> None:
    part = Part(0, error=ExceptionGroup("from a nursery", [ValueError("x")]))
    assert len(await begun(part, 100)) == 2


def core_of(store: MemoryStore, transport: MemoryTransport) -> Core:
    return Core.assemble(
        store=store,
        transport=transport,
        clock=SimulatedClock(epoch_s=1_800_000_000.0),
        retention=Retention(),
        network="test",
        sync_interval_s=30.0,
        jitter=random.Random(1),
        salt=lambda: bytes(SALT_BYTES),
    )


class DamagedStore(MemoryStore):
    def scan(self, *args: object, **options: object) -> object:  # type: ignore[override]
        raise StoreUnavailable("the store is damaged")


class DeafTransport(MemoryTransport):
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise OSError("the port is taken")


@pytest.mark.parametrize(
    ("store", "transport", "error"),
    [
        (DamagedStore, MemoryTransport, StoreUnavailable),
        (MemoryStore, DeafTransport, OSError),
    ],
)
async def test_what_cannot_start_ends_the_core(
    store: type[MemoryStore], transport: type[MemoryTransport], error: type[Exception]
) -> None:
    core = core_of(store(), transport(MemoryNetwork(), MailboxId(bytes(32))))
    with pytest.RaisesGroup(error, allow_unwrapped=True, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(core.run)
