"""A hostile libp2p peer: real TCP, real Noise, and from there on whatever bytes it likes."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.security.noise.messages import NoiseHandshakePayload
from libp2p.security.noise.patterns import PatternXX
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.utils import encode_delim, encode_uvarint

from node.transport.libp2p_tasks import peer_id_of
from node.transport.libp2p_tcp import TcpSocket
from protocols.addresses import PeerAddress

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
MULTISTREAM = encode_delim(b"/multistream/1.0.0")


def frame(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHII", 0, kind, flags, stream_id, length) + body


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, len(body), body)


class _ForgedPattern(PatternXX):  # type: ignore[misc]
    """Claims the victim's key, with a signature made by the attacker's."""

    victim: Any = None

    def make_handshake_payload(self, extensions: Any = None) -> Any:
        honest = super().make_handshake_payload(extensions)
        return NoiseHandshakePayload(self.victim, honest.id_sig, honest.extensions)


class _ForgingNoise(NoiseTransport):  # type: ignore[misc]
    victim: Any = None

    def get_pattern(self) -> Any:
        pattern = _ForgedPattern(self.local_peer, self.libp2p_privkey, self.noise_privkey, None)
        pattern.victim = self.victim
        return pattern


class Attacker:
    """One connection up to Yamux. `conn` takes raw frames with `write` and gives decrypted ones with `read(None)`."""

    def __init__(self, conn: Any, key_pair: KeyPair) -> None:
        self.conn = conn
        self.key_pair = key_pair
        self.peer_id = ID.from_pubkey(key_pair.public_key)

    async def send(self, *frames: bytes) -> None:
        await self.conn.write(b"".join(frames))

    async def open(self, stream_id: int, protocol: str) -> None:
        await self.send(
            frame(WINDOW_UPDATE, SYN, stream_id, 0), data(stream_id, MULTISTREAM + encode_delim(protocol.encode()))
        )

    async def read_until_cut(self, timeout_s: float = 10) -> bytes:
        """Everything that the host says until it closes the connection."""
        said = bytearray()
        with trio.fail_after(timeout_s):
            while True:
                try:
                    said += await self.conn.read(None)
                except Exception:
                    return bytes(said)

    async def drain(self) -> None:
        """Reads for as long as the connection lives, so that the host's answers don't pile up."""
        try:
            while True:
                await self.conn.read(None)
        except Exception:
            return

    async def alive(self, timeout_s: float = 3) -> bool:
        """Whether the host still answers pings on this connection, also after it had a moment to think about what came
        before them."""
        try:
            for _ in range(2):
                mark = int.from_bytes(os.urandom(4), "big")
                await self.send(frame(PING, SYN, 0, mark))
                said = bytearray()
                with trio.fail_after(timeout_s):
                    while frame(PING, ACK, 0, mark) not in said:
                        said += await self.conn.read(None)
                await trio.sleep(0.05)
        except Exception:
            return False
        return True

    def gossip(self, topic: str, payload: bytes, **overrides: Any) -> bytes:
        """A signed gossip frame; `overrides` are fields of the message that are set after signing (or before, for
        `topics` and `from_id`)."""
        message = rpc_pb2.Message(
            data=payload,
            topicIDs=overrides.pop("topics", [topic]),
            from_id=overrides.pop("from_id", self.peer_id.to_bytes()),
            seqno=os.urandom(8),
        )
        message.signature = self.key_pair.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
        message.key = self.key_pair.public_key.serialize()
        for name, value in overrides.items():
            setattr(message, name, value)
        return length_prefixed(rpc_pb2.RPC(publish=[message]))


def length_prefixed(rpc: rpc_pb2.RPC) -> bytes:
    raw = rpc.SerializeToString()
    return bytes(encode_uvarint(len(raw))) + raw


@asynccontextmanager
async def attack(
    address: PeerAddress, *, key_pair: KeyPair | None = None, claim: Any = None, source_ip: str | None = None
) -> AsyncIterator[Attacker]:
    """A connection to `address`. `claim` is a public key to pretend to, `source_ip` an address of ours to come from."""
    keys = key_pair or create_new_key_pair(os.urandom(32))
    stream = await trio.open_tcp_stream(address.host, address.port, local_address=source_ip)
    try:
        raw = RawConnection(TcpSocket(stream), True)
        noise = _ForgingNoise if claim is not None else NoiseTransport
        transport = noise(keys, noise_privkey=create_noise_key_pair().private_key)
        if claim is not None:
            transport.victim = claim
        with trio.fail_after(5):
            await raw.write(MULTISTREAM + encode_delim(b"/noise"))
            await expect(raw, MULTISTREAM + encode_delim(b"/noise"))
            secured = await transport.secure_outbound(raw, peer_id_of(address.mailbox_id))
            await secured.write(MULTISTREAM + encode_delim(b"/yamux/1.0.0"))
            await expect(secured, MULTISTREAM + encode_delim(b"/yamux/1.0.0"))
        yield Attacker(secured, keys)
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def expect(conn: Any, expected: bytes) -> None:
    got = await conn.read(len(expected))
    if got != expected:
        raise ConnectionError(f"expected {expected!r}, got {got!r}")
