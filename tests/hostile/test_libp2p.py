"""Attacks on the libp2p host through its socket. After each of them it serves an honest peer as before."""

from __future__ import annotations

import os
import struct
from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.utils import encode_delim

from node.transport import libp2p_tcp
from protocols.limits.transport import (
    HANDSHAKE_S,
    STREAM_WINDOW_BYTES,
    STREAMS_PER_PEER_MAX,
    UNREAD_BYTES_PER_CONNECTION_MAX,
)
from tests.hostile.libp2p_attacker import (
    ACK,
    DATA,
    MULTISTREAM,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Attacker,
    attack,
    data,
    expect,
    frame,
)
from tests.hostile.libp2p_victim import DEAF, ECHO, FAULTY, Victim, make, settle, task_count, victim

__all__ = ["victim"]

CUT = (trio.BrokenResourceError, BaseLibp2pError, ConnectionError)
"""What the attacker sees when the host ends the connection."""


# --- the seven ways in which a remote could crash or lock out the host ------------------------------------------------


async def test_1_bad_utf8_while_a_streams_protocol_is_agreed_on(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.send(frame(WINDOW_UPDATE, SYN, 1, 0), data(1, b"\x02\xff\n"))
        await attacker.send(frame(WINDOW_UPDATE, SYN, 3, 0), data(3, MULTISTREAM + b"\x02\xff\n"))
        assert await attacker.alive()


async def test_1b_bad_bytes_before_encryption(victim: Victim) -> None:
    address = victim.transport.addresses()[0]
    for garbage in (b"\x02\xff\n", b"\xff" * 12, b"\x00", os.urandom(4096), MULTISTREAM + b"\x02\xff\n"):
        stream = await trio.open_tcp_stream(address.host, address.port)
        await stream.send_all(garbage)
        await stream.aclose()


async def test_3_a_handler_that_raises(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        for stream_id in range(1, 41, 2):
            await attacker.open(stream_id, f"{FAULTY}/test")
        assert await attacker.alive()


async def test_4_inbound_connections_give_their_slots_and_tasks_back(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_tcp, "INBOUND_CONNECTIONS_MAX", 8)
    await trio.sleep(0.2)
    tasks = task_count()
    for _ in range(20):
        async with attack(victim.transport.addresses()[0]) as attacker:
            assert await attacker.alive()
    await settle(lambda: task_count() <= tasks)
    assert len(victim.transport.connected()) == 1
    swarm = victim.transport._swarm
    assert swarm is not None
    assert len(swarm.peerstore.peer_data_map) < 10


@pytest.mark.parametrize("security", ["/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0"])
async def test_5_only_noise_is_offered(victim: Victim, security: str) -> None:
    address = victim.transport.addresses()[0]
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        await stream.send_all(MULTISTREAM + encode_delim(security.encode()))
        said = bytearray()
        with trio.fail_after(5):
            while not said.endswith(encode_delim(b"na")):
                said += await stream.receive_some(100)
        assert said == MULTISTREAM + encode_delim(b"na")


async def test_5b_claiming_anothers_key_fails(victim: Victim) -> None:
    celebrity = create_new_key_pair(os.urandom(32)).public_key
    peers = victim.transport.connected()
    with pytest.raises(CUT):
        async with attack(victim.transport.addresses()[0], claim=celebrity):
            pass
    assert victim.transport.connected() == peers


async def test_5d_other_kinds_of_key_are_refused(victim: Victim) -> None:
    with pytest.raises(CUT):
        async with attack(victim.transport.addresses()[0], key_pair=create_secp256k1_key_pair()):
            pass
    assert len(victim.transport.connected()) == 1


async def test_6_the_receive_window_is_enforced(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, f"{DEAF}/test")
        block = data(1, bytes(60_000))
        sent = 0
        with pytest.raises(CUT):
            for _ in range(5000):
                await attacker.send(block)
                sent += len(block)
                assert victim.unread_bytes <= STREAM_WINDOW_BYTES
                await trio.lowlevel.checkpoint()
        assert sent < 64 * STREAM_WINDOW_BYTES  # what fits into the sockets' buffers beyond the window
    await settle(lambda: victim.unread_bytes == 0)


async def test_6b_a_frame_longer_than_the_window_is_refused_by_its_header(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, f"{DEAF}/test")
        await attacker.send(frame(DATA, 0, 1, 2**32 - 1, bytes(100)))
        await attacker.read_until_cut()
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.send(frame(DATA, 0, 77, 2**32 - 1, bytes(100)))  # of a stream that never was
        await attacker.read_until_cut()


async def test_6c_unread_bytes_are_bounded_over_all_streams(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker, trio.open_nursery() as nursery:
        nursery.start_soon(attacker.drain)
        for stream_id in range(1, 2 * STREAMS_PER_PEER_MAX, 2):
            await attacker.open(stream_id, f"{DEAF}/test")
            for _ in range(4):
                await attacker.send(data(stream_id, bytes(60_000)))
        muxed = victim.connection_of(attacker)
        await settle(lambda: muxed._last_peer_id == 2 * STREAMS_PER_PEER_MAX - 1 and not muxed._body_left)
        await trio.sleep(0.3)
        # Resetting the stream that goes too far frees what it held: one window at the most.
        lowest = UNREAD_BYTES_PER_CONNECTION_MAX - STREAM_WINDOW_BYTES
        assert lowest <= victim.unread_bytes <= UNREAD_BYTES_PER_CONNECTION_MAX
        assert victim.unread_bytes == sum(len(stream._unread) for stream in muxed._streams.values())
        nursery.cancel_scope.cancel()
    await settle(lambda: victim.unread_bytes == 0)


async def test_7_syn_flood(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker, trio.open_nursery() as nursery:
        nursery.start_soon(attacker.drain)
        tasks = task_count()
        most = 0
        with pytest.raises(CUT):  # it is cut off
            for start in range(1, 40_000, 200):
                await attacker.send(*(frame(WINDOW_UPDATE, SYN, n, 0) for n in range(start, start + 200, 2)))
                await trio.lowlevel.checkpoint()
                most = max(most, task_count() - tasks)
            await trio.sleep(1)
            await attacker.send(frame(PING, SYN, 0, 1))
            await trio.sleep(1)
            await attacker.send(frame(PING, SYN, 0, 2))
        assert most <= STREAMS_PER_PEER_MAX + 20
    await settle(lambda: task_count() <= tasks)


async def test_7b_opening_and_resetting_in_a_loop(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker, trio.open_nursery() as nursery:
        nursery.start_soon(attacker.drain)
        tasks = task_count()
        most = 0
        for start in range(1, 20_000, 100):
            try:
                await attacker.send(
                    *(frame(WINDOW_UPDATE, flag, n, 0) for n in range(start, start + 100, 2) for flag in (SYN, RST))
                )
            except Exception:
                break
            await trio.lowlevel.checkpoint()
            most = max(most, task_count() - tasks)
        assert most <= STREAMS_PER_PEER_MAX + 20
        nursery.cancel_scope.cancel()


async def test_1000_streams_of_one_peer_are_refused(victim: Victim) -> None:
    """The ones beyond the limit are reset; those within it go on working."""
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, f"{ECHO}/test")
        await attacker.send(*(frame(WINDOW_UPDATE, SYN, n, 0) for n in range(3, 2003, 2)))
        await attacker.send(data(1, b"still served"))
        said = bytearray()
        with trio.fail_after(5):
            while b"still served" not in said:
                said += await attacker.conn.read(None)
        resets = said.count(struct.pack("!BBH", 0, WINDOW_UPDATE, RST))
        assert resets >= 1000 - STREAMS_PER_PEER_MAX


# --- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack("!BBHII", 1, DATA, 0, 1, 0),  # another version
        frame(9, 0, 1, 0),  # another type
        frame(WINDOW_UPDATE, SYN, 2, 0),  # one of our numbers
        frame(WINDOW_UPDATE, SYN, 1, 0) * 2,  # the same number twice
    ],
)
async def test_broken_yamux_rules_end_the_connection(victim: Victim, bad: bytes) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.send(bad)
        await attacker.read_until_cut()


async def test_unknown_streams_and_endless_windows_are_borne(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, f"{ECHO}/test")
        await attacker.send(
            *(frame(WINDOW_UPDATE, 0, 1, 2**32 - 1) for _ in range(100)),
            frame(WINDOW_UPDATE, 0, 99, 5),
            frame(WINDOW_UPDATE, ACK, 1, 0),
            data(99, b"nobody's"),
            frame(PING, ACK, 0, 12345),
        )
        assert await attacker.alive()


async def test_pings_whose_answers_are_not_read(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        pings = frame(PING, SYN, 0, 1) * 5000
        with pytest.raises(CUT), trio.fail_after(10):
            while True:
                await attacker.send(pings)


async def test_garbage_instead_of_noise_messages(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.conn.conn.read_writer.write_msg(os.urandom(100))
        await attacker.read_until_cut()


async def test_silent_sockets_lock_nobody_out(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one address and from many. The newcomer in the fixture's end comes from the same address as most of them."""
    address = victim.transport.addresses()[0]
    async with AsyncExitStack() as stack:
        for number in range(300):
            source = "127.0.0.1" if number < 200 else f"127.0.1.{number - 199}"
            stream = await trio.open_tcp_stream(address.host, address.port, local_address=source)
            await stack.enter_async_context(stream)
        newcomer = make()
        async with trio.open_nursery() as nursery:
            await nursery.start(newcomer.run)
            with trio.fail_after(HANDSHAKE_S - 1):
                await newcomer.connect([address])
                stream_ = await newcomer.open_stream(victim.transport.local, ECHO)
                await stream_.send_all(b"x")
                assert await stream_.receive_some(1) == b"x"
            nursery.cancel_scope.cancel()


async def test_a_silent_socket_is_closed(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_tcp, "HANDSHAKE_S", 0.2)
    address = victim.transport.addresses()[0]
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        with trio.fail_after(5):
            while await stream.receive_some(100):
                pass


async def test_connections_from_one_address_are_bounded(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_tcp, "INBOUND_CONNECTIONS_PER_IP_MAX", 4)
    address = victim.transport.addresses()[0]
    async with AsyncExitStack() as stack:
        attackers = [await stack.enter_async_context(attack(address, source_ip="127.0.0.9")) for _ in range(10)]
        alive = [attacker for attacker in attackers if await attacker.alive()]
        assert len(alive) == 4
        # Once they have been idle for a while, room is made for a newcomer.
        monkeypatch.setattr(libp2p_tcp, "INBOUND_IDLE_S", 0.0)
        newcomer: Attacker = await stack.enter_async_context(attack(address, source_ip="127.0.0.9"))
        assert await newcomer.alive()
        assert len([attacker for attacker in alive if await attacker.alive()]) == 3


async def test_handshakes_without_end_are_answered_for_a_while_only(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who connects anew again and again costs 10 ms each time. Others, and who only says nothing, are not concerned."""
    monkeypatch.setattr(libp2p_tcp, "_is_here", lambda ip: ip == "127.0.0.1")
    monkeypatch.setattr(libp2p_tcp, "HANDSHAKES_PER_IP_BURST", 4)
    monkeypatch.setattr(libp2p_tcp, "HANDSHAKES_PER_IP_RATE", 0.01)
    transport = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        address = transport.addresses()[0]
        async with AsyncExitStack() as stack:
            for _ in range(20):
                silent = await trio.open_tcp_stream(address.host, address.port, local_address="127.0.0.9")
                await stack.enter_async_context(silent)
        answered = 0
        for _ in range(20):
            try:
                async with attack(address, source_ip="127.0.0.9") as attacker:
                    answered += await attacker.alive()
            except Exception:  # cut off in the middle of its handshake
                continue
        assert answered == 4
        async with attack(address, source_ip="127.0.0.1") as friend:
            assert await friend.alive()
        async with attack(address, source_ip="127.0.0.10") as other:
            assert await other.alive()
        nursery.cancel_scope.cancel()


async def test_connections_of_one_peer_are_bounded(victim: Victim) -> None:
    keys = create_new_key_pair(os.urandom(32))
    async with AsyncExitStack() as stack:
        many = [
            await stack.enter_async_context(attack(victim.transport.addresses()[0], key_pair=keys)) for _ in range(8)
        ]
        alive = [attacker for attacker in many if await attacker.alive()]
        assert alive == many[-4:]


async def test_negotiation_that_never_ends_holds_no_more_than_its_stream(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.send(frame(WINDOW_UPDATE, SYN, 1, 0), data(1, MULTISTREAM))
        for _ in range(50):
            await attacker.send(data(1, encode_delim(b"ls")), data(1, encode_delim(b"/none")))
        assert await attacker.alive()


async def test_expect_notices_a_wrong_answer() -> None:
    """The attacker's own check: without it a refused handshake could pass for an attack that was survived."""

    class Conn:
        async def read(self, n: int) -> bytes:
            return b"x" * n

    with pytest.raises(ConnectionError):
        await expect(Conn(), b"y")
