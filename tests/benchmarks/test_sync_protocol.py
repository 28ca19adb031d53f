"""What the sync protocol costs in bytes, round trips and CPU, without network and disk: 100,000 messages in 1,000 logs.

Bytes of reconciliation (hello, ask, tell, done) and of transfer are printed apart. CPU is that of both sides' protocol
code, without the test's dictionaries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from protocols.model import handle_of
from protocols.sync import effects as fx
from protocols.sync.codec import BLOBS
from protocols.sync.session import initiate, respond
from tests.protocols.sync.world import Box, Side, View, assert_equal, name_of, run_pair

LOGS, LENGTH = 1000, 100
TRANSFER, WANT = 5, 6


class Measured(Box):
    """A mailbox whose picture is ready before the session, as an index has it."""

    picture: View | None = None

    def perform(self, effect: Any) -> Any:
        if isinstance(effect, fx.OpenView) and self.picture is not None:
            return self.picture
        return super().perform(effect)


def timed(session: Generator[Any, Any, Any], spent_s: list[float]) -> Generator[Any, Any, Any]:
    """The same session, adding up the time that it runs itself."""
    value: Any = None
    while True:
        start_s = time.perf_counter()
        try:
            effect = session.send(value)
        except StopIteration as stop:
            return stop.value
        finally:
            spent_s[0] += time.perf_counter() - start_s
        value = yield effect


def filled(kept: Callable[[int, int], bool]) -> Measured:
    box = Measured()
    for log in range(LOGS):
        for seq in range(LENGTH):
            if kept(log, seq):
                box.put(name_of(log), seq, b"%d/%d" % (log, seq) * 40)
    return box


def differences(shape: str, count: int) -> set[tuple[int, int]]:
    rng = random.Random(count)
    if shape == "tail":
        per_log = -(-count // LOGS)
        return {
            (log, LENGTH - 1 - back) for log in rng.sample(range(LOGS), min(count, LOGS)) for back in range(per_log)
        }
    return {divmod(number, LENGTH) for number in rng.sample(range(LOGS * LENGTH), count)}


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ("none", 0),
        ("hint", 1),
        ("tail", 10),
        ("random", 10),
        ("tail", 1000),
        ("random", 1000),
        ("fresh", LOGS * LENGTH),
    ],
)
def test_cost_of_a_session(shape: str, count: int) -> None:
    lacking = {(7, LENGTH - 1)} if shape == "hint" else differences(shape, count) if count < LOGS * LENGTH else None
    one = Measured() if lacking is None else filled(lambda log, seq: (log, seq) not in lacking)
    other = filled(lambda log, seq: True)
    for box in (one, other):
        box.picture = box.view(box.config().alive_from_s)
    spent_s = [0.0]
    by_kind: dict[int, int] = {}

    def count_bytes(_: int, frame: bytes) -> bytes:
        by_kind[frame[1]] = by_kind.get(frame[1], 0) + len(frame) + 4
        return frame

    only = [handle_of(name_of(7))] if shape == "hint" else None
    outcome = run_pair(
        Side(one, timed(initiate(one.config(only=only)), spent_s)),
        Side(other, timed(respond(other.config()), spent_s)),
        on_frame=count_bytes,
    )
    result = outcome.initiator.result
    assert result is not None and result.received == count
    one.picture = other.picture = None
    assert_equal(one, other)
    blobs = by_kind.pop(BLOBS, 0)
    requests = by_kind.pop(TRANSFER, 0) + by_kind.pop(WANT, 0)
    print(
        f"\n{shape:7} {count:6} differences: reconciliation {sum(by_kind.values()):9,} B, requests {requests:9,} B, "
        f"messages {blobs:11,} B (payload {result.received_bytes:,}), {result.round_trips:4} round trips, "
        f"{outcome.frames:5} frames, {spent_s[0] * 1000:8.1f} ms CPU"
    )
