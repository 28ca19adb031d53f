"""What a neighbour and a hint cost, beside what the planning model takes them for."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
import trio

from node.config import ListenAddress
from node.transport.libp2p import Libp2pTransport
from simulations.analytic import costs

pytestmark = pytest.mark.benchmark

AROUND = 30
IDLE_S = 20.0
HINTS = 100


async def test_an_idle_connection_and_a_hint() -> None:
    """All mailboxes are in one process: what it needs is divided among the two ends of each connection."""
    heard = 0

    def hear(_publisher: object, _data: bytes) -> None:
        nonlocal heard
        heard += 1

    async with trio.open_nursery() as nursery:
        middle, *around = (
            Libp2pTransport(
                signing_key_seed=hashlib.sha256(b"%d" % number).digest(),
                listen=ListenAddress("127.0.0.1", 0),
                network="bench",
            )
            for number in range(AROUND + 1)
        )
        for transport in (middle, *around):
            transport.listen("news", hear)
            await nursery.start(transport.run)
        alone = await cpu_share(IDLE_S)
        for transport in around:
            await transport.connect(middle.addresses())
        await trio.sleep(10)
        connected = await cpu_share(IDLE_S)
        began_s = time.process_time()
        for _ in range(HINTS):
            await middle.publish("news", os.urandom(round(costs.hint_bytes(AROUND))))
            await trio.sleep(0.15)
        hints = time.process_time() - began_s - connected * 0.15 * HINTS
        nursery.cancel_scope.cancel()
    assert heard > 0.9 * HINTS * AROUND
    print(f"\nof a core, for an end of an idle connection: {(connected - alone) / (2 * AROUND):.6f}")
    print(f"  the model takes it for {costs.CONNECTION_CPU:.6f}")
    print(f"CPU seconds for a copy of a hint, sent or heard: {hints / (2 * heard):.6f}")
    print(f"  the model takes it for {costs.HINT_CPU_S:.6f}")


async def cpu_share(for_s: float) -> float:
    """Of one core, what this process needs meanwhile."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await trio.sleep(for_s)
    return (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
