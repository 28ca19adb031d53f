"""What every transport promises, held against each implementation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from node.config import ListenAddress
from node.transport.api import PeerUnreachable, Stream, StreamBroken, Transport
from node.transport.libp2p import Libp2pTransport
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.addresses import PeerAddress
from protocols.limits.transport import ANNOUNCEMENT_BYTES_MAX
from protocols.model import MailboxId

PROTOCOL = "/mailboxd/test/1"
CHANNEL = "news"


class World:
    """Makes and starts transports of one kind."""

    def __init__(self, kind: str, nursery: trio.Nursery) -> None:
        self._kind = kind
        self._nursery = nursery
        self._memory = MemoryNetwork()
        self._scopes: dict[Transport, trio.CancelScope] = {}

    def make(self, seed: bytes | None = None, port: int = 0, network: str = "test") -> Transport:
        if self._kind == "memory":
            return MemoryTransport(self._memory, MailboxId(seed or os.urandom(32)))
        return Libp2pTransport(
            signing_key_seed=seed or os.urandom(32), listen=ListenAddress("127.0.0.1", port), network=network
        )

    async def start(self, *transports: Transport) -> None:
        for transport in transports:
            await self._nursery.start(self._run, transport)

    async def _run(self, transport: Transport, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:
            self._scopes[transport] = scope
            await transport.run(task_status=task_status)

    async def stop(self, transport: Transport) -> None:
        self._scopes[transport].cancel()
        while transport.addresses():  # noqa: ASYNC110
            await trio.sleep(0.01)

    async def pair(self, handler: Callable[[Stream], Awaitable[None]]) -> tuple[Transport, Transport]:
        a, b = self.make(), self.make()
        b.serve(PROTOCOL, handler)
        await self.start(a, b)
        await a.connect(b.addresses())
        return a, b


@pytest.fixture(params=["memory", "libp2p"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            yield World(request.param, nursery)
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def read_to_end(stream: Stream) -> bytes:
    data = bytearray()
    while chunk := await stream.receive_some(65536):
        data += chunk
    return bytes(data)


async def echo(stream: Stream) -> None:
    while chunk := await stream.receive_some(65536):
        await stream.send_all(chunk)


async def test_echo_and_the_proven_id(world: World) -> None:
    peers: list[MailboxId] = []

    async def handler(stream: Stream) -> None:
        peers.append(stream.peer)
        await echo(stream)

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    assert stream.peer == b.local
    await stream.send_all(b"hello")
    assert await stream.receive_some(100) == b"hello"
    await stream.close()
    assert await stream.receive_some(100) == b""
    assert peers == [a.local]


async def test_half_close_lets_the_other_side_answer(world: World) -> None:
    async def handler(stream: Stream) -> None:
        request = await read_to_end(stream)
        await stream.send_all(request[::-1] * 1000)

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.send_all(b"abc")
    await stream.close()
    assert await read_to_end(stream) == b"cba" * 1000


async def test_streams_work_in_both_directions_of_a_connection(world: World) -> None:
    a, b = world.make(), world.make()
    a.serve(PROTOCOL, echo)
    await world.start(a, b)
    await a.connect(b.addresses())
    await until(lambda: a.local in b.connected())
    stream = await b.open_stream(a.local, PROTOCOL)
    await stream.send_all(b"back")
    assert await stream.receive_some(4) == b"back"


async def test_large_transfer_with_a_reader_that_pauses(world: World) -> None:
    """A pause longer than the 5 s after which py-libp2p's own multiplexer would reset the stream."""
    size = 16 * 1024 * 1024
    received = trio.Event()
    digest = bytearray()

    async def handler(stream: Stream) -> None:
        await trio.sleep(5.5)
        count = 0
        while chunk := await stream.receive_some(65536):
            count += len(chunk)
            digest.extend(chunk[:1])
        assert count == size
        received.set()

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    sent = 0

    async def send() -> None:
        nonlocal sent
        block = os.urandom(256 * 1024)
        for _ in range(size // len(block)):
            await stream.send_all(block)
            sent += len(block)
        await stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(1)
        assert sent < 4 * 1024 * 1024, "the sender must wait for a reader that does not read"
        with trio.fail_after(20):
            await received.wait()
    assert sent == size


async def test_abort_breaks_the_other_side(world: World) -> None:
    broken = trio.Event()

    async def handler(stream: Stream) -> None:
        try:
            await read_to_end(stream)
        except StreamBroken:
            broken.set()
            raise

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.send_all(b"x")
    await stream.abort()
    with trio.fail_after(5):
        await broken.wait()
    with pytest.raises(StreamBroken):
        await stream.send_all(b"more")
    with pytest.raises(StreamBroken):
        await stream.receive_some(1)
    await stream.abort()
    await stream.close()


async def test_a_handler_that_raises_ends_its_stream_and_nothing_else(world: World) -> None:
    calls = 0

    async def handler(stream: Stream) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            await stream.receive_some(1)
            raise ValueError("a bug in a handler")
        await echo(stream)

    a, b = await world.pair(handler)
    other = await a.open_stream(b.local, PROTOCOL)
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.send_all(b"x")
    with pytest.raises(StreamBroken):
        await stream.receive_some(1)
    third = await a.open_stream(b.local, PROTOCOL)
    await third.send_all(b"still here")
    assert await third.receive_some(100) == b"still here"
    await other.abort()


async def test_the_stream_is_closed_when_the_handler_returns(world: World) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send_all(b"bye")

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    assert await read_to_end(stream) == b"bye"
    await stream.abort()


async def test_unknown_protocol(world: World) -> None:
    a, b = await world.pair(echo)
    with pytest.raises(PeerUnreachable, match="does not speak"):
        await a.open_stream(b.local, "/mailboxd/none/1")
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.close()


async def test_unconnected_and_unreachable(world: World) -> None:
    a, b = world.make(), world.make()
    await world.start(a, b)
    with pytest.raises(PeerUnreachable):
        await a.open_stream(b.local, PROTOCOL)
    nobody = MailboxId(bytes(31) + b"\1")
    with pytest.raises(PeerUnreachable):
        await a.connect([PeerAddress("127.0.0.1", 9, nobody)])
    # Whoever answers must be who is asked for.
    answering = b.addresses()[0]
    with pytest.raises(PeerUnreachable):
        await a.connect([PeerAddress(answering.host, answering.port, nobody)])
    with pytest.raises(PeerUnreachable):
        await a.connect([])
    with pytest.raises(PeerUnreachable):
        await a.connect(a.addresses())
    # A failure leaves no ban behind, and a dead address does not hide a good one.
    await a.connect([PeerAddress("127.0.0.1", 9, b.local), answering])
    assert a.connected() == {b.local}


async def test_connection_events(world: World) -> None:
    events: list[tuple[str, MailboxId, bool]] = []
    a, b = world.make(), world.make()
    a.on_connection(lambda peer, up: events.append(("a", peer, up)))

    def faulty(peer: MailboxId, up: bool) -> None:
        events.append(("b", peer, up))
        raise RuntimeError("a bug in a watcher")

    b.on_connection(faulty)
    await world.start(a, b)
    await a.connect(b.addresses())
    await a.connect(b.addresses())
    await until(lambda: len(events) == 2)
    assert sorted(events, key=lambda e: e[0]) == [("a", b.local, True), ("b", a.local, True)]
    await b.disconnect(a.local)
    assert not b.connected()
    await until(lambda: len(events) == 4)
    assert sorted(events[2:], key=lambda e: e[0]) == [("a", b.local, False), ("b", a.local, False)]
    await b.disconnect(a.local)
    await a.connect(b.addresses())
    await until(lambda: a.local in b.connected())


async def test_disconnect_breaks_streams(world: World) -> None:
    a, b = await world.pair(echo)
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.send_all(b"x")
    assert await stream.receive_some(1) == b"x"
    await b.disconnect(a.local)
    with trio.fail_after(5), pytest.raises(StreamBroken):
        await stream.receive_some(1)
    with pytest.raises(StreamBroken):
        await stream.send_all(b"x")


async def test_both_sides_connect_at_once(world: World) -> None:
    a, b = world.make(), world.make()
    a.serve(PROTOCOL, echo)
    b.serve(PROTOCOL, echo)
    await world.start(a, b)
    async with trio.open_nursery() as nursery:
        for one, other in ((a, b), (b, a)):
            for _ in range(3):
                nursery.start_soon(one.connect, other.addresses())
    for one, other in ((a, b), (b, a)):
        stream = await one.open_stream(other.local, PROTOCOL)
        await stream.send_all(b"x")
        assert await stream.receive_some(1) == b"x"


async def test_a_peer_that_restarts_with_the_same_id_and_port(world: World) -> None:
    seed = os.urandom(32)
    a, b = world.make(), world.make(seed)
    b.serve(PROTOCOL, echo)
    await world.start(a, b)
    (address,) = b.addresses()
    await a.connect([address])
    stream = await a.open_stream(b.local, PROTOCOL)
    await world.stop(b)
    assert not b.addresses()
    with trio.fail_after(5), pytest.raises(StreamBroken):
        await stream.receive_some(1)
    await until(lambda: not a.connected())
    with pytest.raises(PeerUnreachable):
        await a.connect([address])
    if isinstance(b, Libp2pTransport):
        b = world.make(seed, address.port)
        b.serve(PROTOCOL, echo)
    await world.start(b)
    assert b.addresses() == (address,)
    await a.connect([address])
    stream = await a.open_stream(b.local, PROTOCOL)
    await stream.send_all(b"again")
    assert await stream.receive_some(5) == b"again"


async def test_many_streams_at_once(world: World) -> None:
    a, b = await world.pair(echo)

    async def one(number: int) -> None:
        stream = await a.open_stream(b.local, PROTOCOL)
        data = number.to_bytes(2, "big") * 8192
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_and_close, stream, data)
            assert await read_to_end(stream) == data

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(one, number)


async def _send_and_close(stream: Stream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.close()


async def test_a_cancelled_send_leaves_the_connection_sound(world: World) -> None:
    ended = trio.Event()

    async def handler(stream: Stream) -> None:
        first = await stream.receive_some(1)
        if first == b"e":
            await stream.send_all(b"e")
            await echo(stream)
            return
        try:
            await trio.sleep(0.5)
            await read_to_end(stream)
        except StreamBroken:
            ended.set()

    a, b = await world.pair(handler)
    healthy = await a.open_stream(b.local, PROTOCOL)
    await healthy.send_all(b"e")
    for _ in range(5):
        stream = await a.open_stream(b.local, PROTOCOL)
        with trio.move_on_after(0.1) as scope:
            await stream.send_all(bytes(8 * 1024 * 1024))
        assert scope.cancelled_caught
        with pytest.raises(StreamBroken):
            await stream.send_all(b"x")
        await stream.abort()
    with trio.fail_after(5):
        await ended.wait()  # the other side does not take the part for the whole
    await healthy.send_all(b"cho")
    await healthy.close()
    assert await read_to_end(healthy) == b"echo"


async def test_a_cancelled_receive_loses_nothing(world: World) -> None:
    async def handler(stream: Stream) -> None:
        for number in range(50):
            await trio.sleep(0.002)
            await stream.send_all(bytes([number]) * 100)

    a, b = await world.pair(handler)
    stream = await a.open_stream(b.local, PROTOCOL)
    data = bytearray()
    while True:
        with trio.move_on_after(0.001):
            chunk = await stream.receive_some(65536)
            if not chunk:
                break
            data += chunk
    assert data == b"".join(bytes([number]) * 100 for number in range(50))


async def test_announcements_reach_the_neighbours_with_the_publishers_id(world: World) -> None:
    """a - b - c: b hears a, c does not, as it could not ask a."""
    heard: list[tuple[str, MailboxId, bytes]] = []
    nodes = {name: world.make() for name in "abc"}

    def listener(name: str) -> Callable[[MailboxId, bytes], None]:
        def hear(publisher: MailboxId, data: bytes) -> None:
            heard.append((name, publisher, data))
            if name == "c":
                raise RuntimeError("a bug in a listener")

        return hear

    for name, node in nodes.items():
        node.listen(CHANNEL, listener(name))
    await world.start(*nodes.values())
    await nodes["b"].connect(nodes["a"].addresses())
    await nodes["b"].connect(nodes["c"].addresses())
    for speaker, hearers in (("b", {"a", "c"}), ("a", {"b"})):
        heard.clear()
        count = 0
        with trio.fail_after(15):
            while hearers - {name for name, _, _ in heard}:
                count += 1
                await nodes[speaker].publish(CHANNEL, b"news %d" % count)  # best effort, so it may take a moment
                await trio.sleep(0.1)
        assert {publisher for _, publisher, _ in heard} == {nodes[speaker].local}
        assert {name for name, _, _ in heard} == hearers
    await nodes["a"].publish(CHANNEL, bytes(ANNOUNCEMENT_BYTES_MAX + 1))
    await nodes["a"].publish(CHANNEL, bytes(ANNOUNCEMENT_BYTES_MAX))
    await until(lambda: ("b", nodes["a"].local, bytes(ANNOUNCEMENT_BYTES_MAX)) in heard)
    assert max(len(data) for _, _, data in heard) == ANNOUNCEMENT_BYTES_MAX


async def test_the_middle_of_a_star_is_heard_by_all_around_it(world: World) -> None:
    """A mesh of a dozen is not enough: those around it can't pass anything on to each other."""
    heard: set[MailboxId] = set()
    middle, *around = (world.make() for _ in range(17))
    for node in (middle, *around):
        node.listen(CHANNEL, lambda _publisher, data, own=node.local: heard.add(own) if data == b"news" else None)
    await world.start(middle, *around)
    for node in around:
        await node.connect(middle.addresses())
    await until(lambda: len(middle.connected()) == len(around))
    await trio.sleep(1)  # they tell each other what they listen to
    await middle.publish(CHANNEL, b"news")
    await until(lambda: heard == {node.local for node in around})


async def test_publishing_alone_or_before_running_does_nothing(world: World) -> None:
    a = world.make()
    await a.publish(CHANNEL, b"nobody is there")
    assert not a.addresses()
    assert not a.connected()
    with pytest.raises(PeerUnreachable):
        await a.connect([PeerAddress("127.0.0.1", 9, MailboxId(bytes(32)))])
    await world.start(a)
    await a.publish(CHANNEL, b"nobody is there")
    await a.disconnect(MailboxId(bytes(32)))
