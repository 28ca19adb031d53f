"""What only the real transport has: sockets, other processes, supervision."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import libp2p
import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import PingService
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from node.config import ListenAddress
from node.transport import libp2p as libp2p_module
from node.transport.api import PeerUnreachable, Stream, StreamBroken
from node.transport.libp2p import Libp2pTransport
from protocols.addresses import PeerAddress
from protocols.limits.transport import PING_INTERVAL_S, PING_UNANSWERED_MAX
from protocols.model import MailboxId
from tests.node.transport.processes import other_process


def make(
    host: str = "127.0.0.1", port: int = 0, *, seed: bytes | None = None, network: str = "test"
) -> Libp2pTransport:
    return Libp2pTransport(signing_key_seed=seed or os.urandom(32), listen=ListenAddress(host, port), network=network)


@pytest.fixture
async def started() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            yield nursery
        nursery.cancel_scope.cancel()


async def echo(stream: Stream) -> None:
    while chunk := await stream.receive_some(65536):
        await stream.send_all(chunk)


async def until(condition: object, timeout_s: float = 10) -> None:
    assert callable(condition)
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


# --- the other side dies ----------------------------------------------------------------------------------------------


async def test_a_killed_peer_breaks_the_stream_and_is_reported(started: trio.Nursery) -> None:
    ours = make()
    events: list[bool] = []
    ours.on_connection(lambda _peer, up: events.append(up))
    await started.start(ours.run)
    async with other_process() as (process, address):
        await ours.connect([address])
        stream = await ours.open_stream(address.mailbox_id, "/echo/1")
        await stream.send_all(b"x")
        assert await stream.receive_some(1) == b"x"
        process.kill()
        with trio.fail_after(2), pytest.raises(StreamBroken):
            await stream.receive_some(1)  # broken, not an orderly end
        await until(lambda: events == [True, False])
        with pytest.raises(PeerUnreachable):
            await ours.connect([address])


async def test_a_frozen_peer_is_noticed_and_reached_again_once_it_thaws(started: trio.Nursery) -> None:
    ours = make()
    await started.start(ours.run)
    async with other_process() as (process, address):
        await ours.connect([address])
        stream = await ours.open_stream(address.mailbox_id, "/echo/1")
        process.send_signal(signal.SIGSTOP)
        try:
            with trio.fail_after(PING_INTERVAL_S * (PING_UNANSWERED_MAX + 2) + 4), pytest.raises(StreamBroken):
                await stream.receive_some(1)
            await until(lambda: not ours.connected())
        finally:
            process.send_signal(signal.SIGCONT)
        await ours.connect([address])
        stream = await ours.open_stream(address.mailbox_id, "/echo/1")
        await stream.send_all(b"thawed")
        assert await stream.receive_some(10) == b"thawed"


# --- addresses --------------------------------------------------------------------------------------------------------


async def test_a_taken_port_is_an_error_that_says_what_to_do(started: trio.Nursery) -> None:
    first = make()
    await started.start(first.run)
    port = first.addresses()[0].port
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(OSError, match=rf"can't listen .*{port}.*--p2p"):
            await make(host, port).run()
    with pytest.raises(OSError, match="does not have that address"):
        await make("192.0.2.1").run()
    with pytest.raises(OSError, match="has no address"):
        await make("no-such-name.invalid").run()


async def test_a_wildcard_is_spelled_out_loopback_first(started: trio.Nursery) -> None:
    wildcard = make("0.0.0.0")
    wildcard.serve("/echo/1", echo)
    assert wildcard.addresses() == ()
    await started.start(wildcard.run)
    addresses = wildcard.addresses()
    assert addresses[0].host == "127.0.0.1"
    assert not any(ipaddress.ip_address(address.host).is_unspecified for address in addresses)
    assert len({address.port for address in addresses}) == 1
    assert PeerAddress.parse(str(addresses[0])) == addresses[0]
    other = make()
    await started.start(other.run)
    for address in addresses:
        await other.connect([address])
        await other.disconnect(wildcard.local)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6_is_served_and_counted(started: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """libp2p knows no remote address on IPv6, so that limits by address would not hold."""
    monkeypatch.setattr("node.transport.libp2p_tcp.INBOUND_CONNECTIONS_PER_IP_MAX", 2)
    server = make("::1")
    server.serve("/echo/1", echo)
    try:
        await started.start(server.run)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert str(server.addresses()[0]).startswith("/ip6/::1/tcp/")
    peers = [make() for _ in range(4)]
    for peer in peers:
        await started.start(peer.run)
        try:
            await peer.connect(server.addresses())
        except PeerUnreachable:
            continue
    await until(lambda: len(server.connected()) == 2)
    await until(lambda: sum(1 for peer in peers if peer.connected()) == 2)


async def test_a_name_is_resolved_on_both_sides(started: trio.Nursery) -> None:
    server, client = make("localhost"), make()
    server.serve("/echo/1", echo)
    await started.start(server.run)
    await started.start(client.run)
    assert len({address.port for address in server.addresses()}) == 1
    await client.connect([PeerAddress("localhost", server.addresses()[0].port, server.local)])
    assert client.connected() == {server.local}


async def test_a_silent_address_only_delays(started: trio.Nursery) -> None:
    """One address accepts and says nothing, as a host behind the wrong firewall; the next one is tried meanwhile."""
    server, client = make(), make()
    await started.start(server.run)
    await started.start(client.run)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        port = silent.getsockname()[1]
        with trio.fail_after(3):
            await client.connect([PeerAddress("127.0.0.1", port, server.local), *server.addresses()])


# --- networks, supervision --------------------------------------------------------------------------------------------


async def test_networks_share_nothing(started: trio.Nursery) -> None:
    heard: list[bytes] = []
    one, other = make(network="one"), make(network="other")
    for transport in (one, other):
        transport.serve("/echo/1", echo)
        transport.listen("news", lambda _publisher, data: heard.append(data))
        await started.start(transport.run)
    await one.connect(other.addresses())
    with pytest.raises(PeerUnreachable, match="does not speak"):
        await one.open_stream(other.local, "/echo/1")
    await trio.sleep(0.3)
    for _ in range(5):
        await one.publish("news", b"x")
        await trio.sleep(0.05)
    assert not heard


async def test_who_is_not_to_hear_gets_no_announcement_however_it_comes(started: trio.Nursery) -> None:
    """Nor those of the last seconds when it comes, nor those that are made while it does."""
    mailbox, friend, stranger = make(), make(), make()
    mailbox.hears = lambda peer: peer == friend.local
    heard: list[tuple[str, bytes]] = []
    friend.listen("news", lambda _, data: heard.append(("friend", data)))
    stranger.listen("news", lambda _, data: heard.append(("stranger", data)))
    mailbox.listen("news", lambda *_: None)
    for transport in (mailbox, friend, stranger):
        await started.start(transport.run)
    await friend.connect(mailbox.addresses())
    await trio.sleep(0.5)
    await mailbox.publish("news", b"before")
    await until(lambda: heard)

    async def speak(count: int) -> None:
        for number in range(count):
            await mailbox.publish("news", b"%d" % number)
            await trio.sleep(0.01)

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak, 50)
            await stranger.connect(mailbox.addresses())
        await stranger.disconnect(mailbox.local)
    assert len(heard) > 30  # gossip bounds what one publisher may say
    assert not [data for who, data in heard if who == "stranger"]
    pubsub = mailbox._pubsub
    assert pubsub is not None
    assert not pubsub.router._pending_messages


async def test_the_host_is_restarted_with_everything_kept(
    started: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(libp2p_module, "RESTART_BACKOFF_S", 0.05)
    heard: list[tuple[MailboxId, bytes]] = []
    events: list[bool] = []
    server, client = make(), make()
    server.serve("/echo/1", echo)
    server.listen("news", lambda publisher, data: heard.append((publisher, data)))
    client.listen("news", lambda _publisher, _data: None)
    server.on_connection(lambda _peer, up: events.append(up))
    await started.start(server.run)
    await started.start(client.run)
    addresses = server.addresses()
    for _ in range(2):
        events.clear()
        await client.connect(addresses)
        stream = await client.open_stream(server.local, "/echo/1")
        await until(lambda: events == [True])
        swarm = server._swarm
        assert swarm is not None

        async def fail() -> None:
            raise RuntimeError("a fault that nobody foresaw")

        with caplog.at_level(logging.CRITICAL):
            swarm._manager.run_task(fail)  # past the guard
            with pytest.raises(StreamBroken):
                await stream.receive_some(1)
        await until(lambda: events == [True, False])
        await until(lambda old=swarm: server._swarm not in (None, old))
        await until(lambda: not client.connected())
        assert server.addresses() == addresses
    await client.connect(addresses)
    stream = await client.open_stream(server.local, "/echo/1")
    await stream.send_all(b"back")
    assert await stream.receive_some(10) == b"back"
    with trio.fail_after(10):
        while not heard:
            await client.publish("news", b"still heard")
            await trio.sleep(0.1)
    assert heard[0] == (client.local, b"still heard")


async def test_newcomers_wait_while_the_host_is_restarted(
    started: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(libp2p_module, "RESTART_BACKOFF_S", 1.0)
    server, client = make(), make()
    await started.start(server.run)
    await started.start(client.run)
    assert server._swarm is not None
    with caplog.at_level(logging.CRITICAL):
        server._swarm._manager.cancel()
        await until(lambda: server._swarm is None)
        await client.connect(server.addresses())
    assert client.connected() == {server.local}


async def test_cancelling_run_ends_within_seconds_and_frees_the_port(started: trio.Nursery) -> None:
    seed = os.urandom(32)
    peers = [make() for _ in range(5)]
    server = make(seed=seed)
    server.serve("/echo/1", echo)
    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await server.run(task_status=task_status)

    await started.start(run)
    address = server.addresses()[0]
    for peer in peers:
        await started.start(peer.run)
        await peer.connect([address])
        await peer.open_stream(server.local, "/echo/1")
    scope.cancel()
    with trio.fail_after(5):
        await until(lambda: not any(peer.connected() for peer in peers))
        await until(lambda: not server.addresses())
    again = make(port=address.port, seed=seed)
    await started.start(again.run)
    assert again.addresses() == (address,)


def test_the_identity_is_that_of_the_seed() -> None:
    seed = bytes(range(32))
    # RFC 8032's public key is what any Ed25519 library makes of the seed; PyNaCl is another than libp2p's path to it.
    from nacl.signing import SigningKey  # noqa: PLC0415

    assert make(seed=seed).local == MailboxId(SigningKey(seed).verify_key.encode())
    with pytest.raises(ValueError, match="32 bytes"):
        make(seed=b"short")


def test_the_command_line_does_not_pay_for_libp2p() -> None:
    """Importing libp2p takes a second on a Pi, so that nothing but its own modules may do it at import."""
    code = "import sys, node.transport, node.transport.api, node.transport.memory; sys.exit('libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- others on the same wire ------------------------------------------------------------------------------------------


async def test_an_unmodified_py_libp2p_host_can_talk_to_us(started: trio.Nursery) -> None:
    """Same wire, other multiplexer: dialling both ways, identify, ping, a large echo."""
    server = make()
    server.serve("/echo/1", echo)
    await started.start(server.run)
    host = libp2p.new_host(
        key_pair=create_new_key_pair(os.urandom(32)), listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]
    )
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        try:
            peer = info_from_p2p_addr(Multiaddr(str(server.addresses()[0])))
            await host.connect(peer)
            assert len(await PingService(host).ping(peer.peer_id, 2)) == 2
            identify = await host.new_stream(peer.peer_id, ["/ipfs/id/1.0.0"])
            assert b"/echo/1/test" in await identify.read(65536)
            stream = await host.new_stream(peer.peer_id, ["/echo/1/test"])
            block = os.urandom(1024 * 1024)
            received = bytearray()

            async def send() -> None:
                await stream.write(block)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                while len(received) < len(block):
                    received += await stream.read(65536)
            assert received == block
            assert {str(peer) for peer in server.connected()} == {
                str(MailboxId(host.get_public_key().to_bytes())),
            }
            await stream.close()
            await host.disconnect(peer.peer_id)
            await until(lambda: not server.connected())

            async def answer(net_stream: Any) -> None:
                await net_stream.write(await net_stream.read(5) + b" from py-libp2p")
                await net_stream.close()

            host.set_stream_handler("/answer/1/test", answer)
            theirs = PeerAddress.parse(str(host.get_addrs()[0]))
            await server.connect([theirs])
            ours = await server.open_stream(theirs.mailbox_id, "/answer/1")
            await ours.send_all(b"hello")
            await ours.close()
            answered = bytearray()
            while chunk := await ours.receive_some(100):
                answered += chunk
            assert answered == b"hello from py-libp2p"
        finally:
            with trio.move_on_after(5, shield=True):
                await host.close()


async def test_nothing_of_a_stream_can_be_read_on_the_wire(started: trio.Nursery) -> None:
    server, client = make(), make()
    server.serve("/echo/1", echo)
    await started.start(server.run)
    await started.start(client.run)
    target = server.addresses()[0]
    wire = bytearray()

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for data in source:
                wire.extend(data)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def tap(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(target.host, target.port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(copy, near, far)
            nursery.start_soon(copy, far, near)

    listeners = await started.start(trio.serve_tcp, tap, 0)
    await client.connect([PeerAddress("127.0.0.1", listeners[0].socket.getsockname()[1], server.local)])
    stream = await client.open_stream(server.local, "/echo/1")
    secret = b"words between two mailboxes " * 100
    await stream.send_all(secret)
    await stream.close()
    received = bytearray()
    while chunk := await stream.receive_some(65536):
        received += chunk
    assert received == secret
    assert len(wire) > 2 * len(secret), "or nothing went through the tap"
    assert b"/noise" in wire  # agreed on in the clear
    for hidden in (secret[:28], b"/yamux", b"/echo/1"):
        assert hidden not in wire
