"""Noise's messages after the handshake, against libp2p's own at the other end."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.exceptions import InvalidTag
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter
from noise.connection import NoiseConnection

from node.transport.libp2p_noise import NoiseMessages
from node.transport.libp2p_tcp import TcpSocket
from protocols.limits.transport import RECEIVE_BUFFER_BYTES

_SIZES = (1, 65_519, 65_520, 3, 300_000, 7, 70_000)


def _keys() -> tuple[Any, Any]:
    """Two ends after a handshake."""
    ends = [NoiseConnection.from_name(b"Noise_NN_25519_ChaChaPoly_SHA256") for _ in range(2)]
    ends[0].set_as_initiator()
    ends[1].set_as_responder()
    for end in ends:
        end.start_handshake()
    ends[1].read_message(bytes(ends[0].write_message()))
    ends[0].read_message(bytes(ends[1].write_message()))
    return ends[0], ends[1]


def _ends() -> tuple[NoiseMessages, NoiseTransportReadWriter, trio.SocketStream]:
    """Ours, libp2p's, and the socket of the latter."""
    here, there = map(trio.SocketStream, trio.socket.socketpair())
    ours, theirs = _keys()
    socket = TcpSocket(here)
    established = NoiseTransportReadWriter(RawConnection(socket, True), ours)
    raw = RawConnection(TcpSocket(there), False)
    return NoiseMessages(established, socket), NoiseTransportReadWriter(raw, theirs), there


async def _read(messages: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await messages.read_msg()
    return data


async def test_what_we_send_is_what_libp2p_reads() -> None:
    ours, theirs, _ = _ends()
    sent = [os.urandom(size) for size in _SIZES]
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for piece in sent:
                await ours.write_msg(piece)

        nursery.start_soon(write)
        assert await _read(theirs, sum(_SIZES)) == b"".join(sent)


async def test_what_libp2p_sends_is_what_we_read_however_it_is_cut() -> None:
    ours, theirs, socket = _ends()
    wire = b"".join(
        len(sealed).to_bytes(2, "big") + sealed
        for size in [size for size in _SIZES if size <= 65_519] * 20
        for sealed in [theirs.encrypt(bytes(size))]
    )
    assert len(wire) > 2 * RECEIVE_BUFFER_BYTES
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            await socket.send_all(wire[:1])
            await trio.testing.wait_all_tasks_blocked()
            for start in range(1, len(wire), 99_991):
                await socket.send_all(wire[start : start + 99_991])
            await socket.aclose()

        nursery.start_soon(write)
        got = []
        while message := await ours.read_msg():
            got.append(len(message))
    assert got == [size for size in _SIZES if size <= 65_519] * 20


async def test_a_forged_message_is_not_let_through() -> None:
    ours, theirs, socket = _ends()
    sealed = bytearray(theirs.encrypt(b"genuine"))
    sealed[3] ^= 1
    await socket.send_all(len(sealed).to_bytes(2, "big") + sealed)
    with pytest.raises(InvalidTag):
        await ours.read_msg()


@pytest.mark.parametrize("size", range(16))
async def test_a_message_without_room_for_its_tag_is_refused(size: int) -> None:
    ours, _, socket = _ends()
    await socket.send_all(size.to_bytes(2, "big") + bytes(size))
    with pytest.raises(InvalidTag):
        await ours.read_msg()
