"""How long the transport takes: round trips between two processes, and gossip. What one stream carries tells
`mailboxd bench transfer`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import pytest
import trio

from node.config import ListenAddress
from node.transport.libp2p import Libp2pTransport
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.model import MailboxId
from tests.node.transport.processes import other_process

pytestmark = pytest.mark.benchmark
MIB = 1024 * 1024


def make() -> Libp2pTransport:
    return Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress("127.0.0.1", 0), network="test")


def milliseconds(samples: list[float]) -> str:
    ordered = sorted(samples)
    return (
        f"median {1000 * statistics.median(ordered):.2f} ms, "
        f"p95 {1000 * ordered[int(len(ordered) * 0.95)]:.2f} ms, worst {1000 * ordered[-1]:.2f} ms"
    )


async def timed(count: int, action: Callable[[], object]) -> list[float]:
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        await action()  # type: ignore[misc]
        samples.append(time.perf_counter() - started)
    return samples


async def test_libp2p_speed() -> None:
    ours = make()
    async with trio.open_nursery() as nursery, other_process() as (_, address):
        await nursery.start(ours.run)

        async def reconnect() -> None:
            await ours.disconnect(address.mailbox_id)
            await ours.connect([address])

        print(f"\nconnect (with disconnect): {milliseconds(await timed(20, reconnect))}")

        async def open_and_close() -> None:
            await (await ours.open_stream(address.mailbox_id, "/echo/1")).abort()

        print(f"open a stream: {milliseconds(await timed(100, open_and_close))}")
        stream = await ours.open_stream(address.mailbox_id, "/echo/1")
        for size in (100, 4096, 65536):
            block = os.urandom(size)

            async def round_trip(block: bytes = block) -> None:
                await stream.send_all(block)
                left = len(block)
                while left:
                    left -= len(await stream.receive_some(left))

            print(f"round trip of {size} B: {milliseconds(await timed(200, round_trip))}")
        nursery.cancel_scope.cancel()


async def test_gossip_latency() -> None:
    arrived: dict[bytes, trio.Event] = {}
    ours = make()
    ours.listen("pongs", lambda _publisher, data: arrived[data].set())
    async with trio.open_nursery() as nursery, other_process() as (_, address):
        await nursery.start(ours.run)
        await ours.connect([address])
        samples, lost = [], 0
        for number in range(60):
            data = str(number).encode()
            arrived[data] = trio.Event()
            started = time.perf_counter()
            await ours.publish("pings", data)
            with trio.move_on_after(2) as scope:
                await arrived[data].wait()
                samples.append(time.perf_counter() - started)
            lost += scope.cancelled_caught
            await trio.sleep(0.05)
        print(f"\ngossip there and back (two hops): {milliseconds(samples)}; lost {lost} of 60")
        nursery.cancel_scope.cancel()


async def test_gossip_over_ten_mailboxes() -> None:
    """All in this process, each connected to the next two: the time until the last of nine has heard."""
    transports = [make() for _ in range(10)]
    heard: dict[bytes, int] = {}

    def count(_publisher: MailboxId, data: bytes) -> None:
        heard[data] = heard.get(data, 0) + 1

    async with trio.open_nursery() as nursery:
        for transport in transports:
            transport.listen("news", count)
            await nursery.start(transport.run)
        for index, transport in enumerate(transports):
            for step in (1, 2):
                await transport.connect(transports[(index + step) % 10].addresses())
        await trio.sleep(2)
        samples, complete = [], 0
        for number in range(50):
            data = str(number).encode()
            started = time.perf_counter()
            await transports[number % 10].publish("news", data)
            with trio.move_on_after(2):
                while heard.get(data, 0) < 9:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                samples.append(time.perf_counter() - started)
                complete += 1
            await trio.sleep(0.05)
        print(f"\ngossip to nine others: {milliseconds(samples)}; complete {complete} of 50")
        nursery.cancel_scope.cancel()


async def test_memory_transport_speed() -> None:
    network = MemoryNetwork()
    a, b = (MemoryTransport(network, MailboxId(bytes([number]) * 32)) for number in range(2))
    total, block = 64 * MIB, bytes(64 * 1024)
    async with trio.open_nursery() as nursery:

        async def sink(stream: object) -> None:
            while await stream.receive_some(65536):  # type: ignore[attr-defined]
                pass

        b.serve("/sink/1", sink)
        await nursery.start(a.run)
        await nursery.start(b.run)
        await a.connect(b.addresses())
        stream = await a.open_stream(b.local, "/sink/1")
        started = time.perf_counter()
        for _ in range(total // len(block)):
            await stream.send_all(block)
        await stream.close()
        assert await stream.receive_some(1) == b""
        print(f"\nmemory transport: {total / MIB / (time.perf_counter() - started):.0f} MiB/s")
        nursery.cancel_scope.cancel()
