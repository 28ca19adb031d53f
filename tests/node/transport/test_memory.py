"""What only the transport in memory has: a network that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from node.transport.api import PeerUnreachable, Stream, StreamBroken
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.model import MailboxId

PROTOCOL = "/echo/1"


async def echo(stream: Stream) -> None:
    while chunk := await stream.receive_some(65536):
        await stream.send_all(chunk)


@pytest.fixture
async def three() -> AsyncIterator[tuple[MemoryNetwork, list[MemoryTransport]]]:
    network = MemoryNetwork()
    transports = [MemoryTransport(network, MailboxId(bytes([number]) * 32)) for number in range(3)]
    async with trio.open_nursery() as nursery:
        for transport in transports:
            transport.serve(PROTOCOL, echo)
            await nursery.start(transport.run)
        yield network, transports
        nursery.cancel_scope.cancel()


async def test_a_cut_breaks_streams_and_refuses_connections_until_healed(
    three: tuple[MemoryNetwork, list[MemoryTransport]],
) -> None:
    network, (a, b, c) = three
    events: list[tuple[MailboxId, bool]] = []
    a.on_connection(lambda peer, up: events.append((peer, up)))
    for other in (b, c):
        await a.connect(other.addresses())
    to_b = await a.open_stream(b.local, PROTOCOL)
    to_c = await a.open_stream(c.local, PROTOCOL)
    network.cut(b.local, a.local)
    with pytest.raises(StreamBroken):
        await to_b.receive_some(1)
    await to_c.send_all(b"x")
    assert await to_c.receive_some(1) == b"x"
    assert a.connected() == {c.local}
    assert not b.connected()
    assert events == [(b.local, True), (c.local, True), (b.local, False)]
    for one, other in ((a, b), (b, a)):
        with pytest.raises(PeerUnreachable):
            await one.connect(other.addresses())
    network.heal(a.local, b.local)
    await a.connect(b.addresses())
    stream = await b.open_stream(a.local, PROTOCOL)
    await stream.send_all(b"y")
    assert await stream.receive_some(1) == b"y"


async def test_isolation(three: tuple[MemoryNetwork, list[MemoryTransport]]) -> None:
    network, (a, b, c) = three
    await b.connect(a.addresses())
    await b.connect(c.addresses())
    network.isolate(b.local)
    assert not b.connected()
    await a.connect(c.addresses())
    network.heal_all()
    await b.connect(a.addresses())
    assert a.connected() == {b.local, c.local}


async def test_a_stopped_transport_loses_its_connections_and_can_run_again() -> None:
    network = MemoryNetwork()
    a, b = (MemoryTransport(network, MailboxId(bytes([number]) * 32)) for number in range(2))
    async with trio.open_nursery() as nursery:
        await nursery.start(a.run)
        with pytest.raises(OSError, match="runs already"):
            await a.run()
        async with trio.open_nursery() as inner:
            await inner.start(b.run)
            await a.connect(b.addresses())
            address = b.addresses()
            inner.cancel_scope.cancel()
        assert not a.connected()
        with pytest.raises(PeerUnreachable):
            await a.connect(address)
        await nursery.start(b.run)
        assert b.addresses() == address
        await a.connect(address)
        nursery.cancel_scope.cancel()


async def test_too_many_streams_are_refused(three: tuple[MemoryNetwork, list[MemoryTransport]]) -> None:
    _, (a, b, _c) = three
    await a.connect(b.addresses())
    streams = []
    with pytest.raises(PeerUnreachable, match="refused"):
        for _ in range(1000):
            streams.append(await a.open_stream(b.local, PROTOCOL))  # noqa: PERF401  the list is needed at the failure
    await streams[0].abort()
    await a.open_stream(b.local, PROTOCOL)


async def test_time_does_not_pass_in_it(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing in it waits for a clock: with a clock that jumps over all waiting, none is jumped over."""
    network = MemoryNetwork()
    a, b = (MemoryTransport(network, MailboxId(bytes([number]) * 32)) for number in range(2))
    b.serve(PROTOCOL, echo)
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(a.run)
        await nursery.start(b.run)
        await a.connect(b.addresses())
        stream = await a.open_stream(b.local, PROTOCOL)
        await stream.send_all(bytes(1000))
        await stream.close()
        while await stream.receive_some(100):
            pass
        await b.disconnect(a.local)
        assert trio.current_time() == started_s
        nursery.cancel_scope.cancel()
