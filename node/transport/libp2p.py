"""Mailboxes over libp2p: TCP, Noise, Yamux, gossipsub. What had to be mended in it is in `libp2p_hardening`.

`network` keeps networks apart that can reach each other: it is part of every protocol id on the wire
(`/mailboxd/sync/1/main`) and of every gossip topic (`/mailboxd/main/news`), so that mailboxes of different networks may
connect but share nothing.

Importing this module loads libp2p: 0.7 s and 60 MB. Only what runs a mailbox imports it.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils import encode_delim, read_delim

from node.addresses import spell_out
from node.config import ListenAddress
from node.transport.api import PeerUnreachable, Stream, StreamBroken, StreamHandler, Transport
from node.transport.libp2p_gossip import HardenedPubsub
from node.transport.libp2p_hardening import HardenedSwarm, run_hardened
from node.transport.libp2p_tasks import mailbox_id_of, peer_id_of
from node.transport.libp2p_tcp import Gate, TcpSocket, bind
from node.transport.libp2p_yamux import YamuxStream
from protocols.addresses import PeerAddress
from protocols.limits.transport import (
    ANNOUNCEMENT_BYTES_MAX,
    CLOSE_S,
    DIAL_S,
    DIAL_STAGGER_S,
    DIALS_MAX,
    HANDSHAKE_S,
    OPEN_STREAM_S,
    RESTART_BACKOFF_MAX_S,
    RESTART_BACKOFF_S,
)
from protocols.model import MailboxId

__all__ = ["Libp2pTransport"]

log = logging.getLogger(__name__)

_MULTISTREAM = "/multistream/1.0.0"


class _Libp2pStream(Stream):
    def __init__(self, muxed: YamuxStream, peer: MailboxId) -> None:
        self.peer = peer
        self._muxed = muxed

    async def send_all(self, data: bytes) -> None:
        try:
            await self._muxed.write(data)
        except trio.Cancelled:
            # Part of it has gone: make sure that the other side can't take it for the whole.
            await self._muxed.reset()
            raise
        except Exception as error:
            raise StreamBroken(f"the stream to {self.peer.short} broke: {error}") from error

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            return await self._muxed.read(max_bytes)
        except MuxedStreamEOF:
            return b""
        except Exception as error:
            raise StreamBroken(f"the stream from {self.peer.short} broke: {error}") from error

    async def close(self) -> None:
        await self._muxed.close()

    async def abort(self) -> None:
        await self._muxed.reset()


class Libp2pTransport(Transport):
    """A mailbox's libp2p host under supervision.

    `signing_key_seed` are the 32 secret bytes of the Ed25519 identity. The listening sockets live as long as `run`, so
    that a restarted host keeps its port, and whoever knocks meanwhile just waits.
    """

    def __init__(self, *, signing_key_seed: bytes, listen: ListenAddress, network: str) -> None:
        if len(signing_key_seed) != 32:
            raise ValueError(f"the seed of an Ed25519 key has 32 bytes, not {len(signing_key_seed)}")
        self._seed = signing_key_seed
        self.local = MailboxId(create_new_key_pair(signing_key_seed).public_key.to_bytes())
        self._listen = listen
        self._network = network
        self._protocols: dict[str, StreamHandler] = {}
        self._channels: dict[str, Callable[[MailboxId, bytes], None]] = {}
        self._watchers: list[Callable[[MailboxId, bool], None]] = []
        self._connected: set[MailboxId] = set()
        self._listeners: list[trio.SocketListener] = []
        self._swarm: HardenedSwarm | None = None
        self._pubsub: HardenedPubsub | None = None
        self._up = trio.Event()
        self._dials: dict[MailboxId, trio.Lock] = {}
        self._random = random.Random()

    # --- running ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._listeners = await bind(self._listen)
        try:
            async with trio.open_nursery() as nursery:
                gate = Gate(self._accept, is_friend=lambda conn: self.hears(mailbox_id_of(conn.muxed_conn.peer_id)))
                for listener in self._listeners:
                    nursery.start_soon(gate.accept_forever, listener, nursery)
                nursery.start_soon(self._supervise)
                await self._up.wait()
                task_status.started()
        finally:
            listeners, self._listeners = self._listeners, []
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()

    async def _supervise(self) -> None:
        backoff_s = RESTART_BACKOFF_S
        while True:
            started_s = trio.current_time()
            try:
                await self._run_host()
                log.error("the libp2p host ended by itself")
            except Exception:
                log.exception("the libp2p host failed")
            if trio.current_time() - started_s > RESTART_BACKOFF_MAX_S:
                backoff_s = RESTART_BACKOFF_S
            pause_s = backoff_s * self._random.uniform(0.5, 1.5)
            log.warning("the libp2p host is restarted in %.1f s; everything else goes on", pause_s)
            await trio.sleep(pause_s)
            backoff_s = min(2 * backoff_s, RESTART_BACKOFF_MAX_S)

    async def _run_host(self) -> None:
        prefix = f"/mailboxd/{self._network}/"
        try:
            async with (
                run_hardened(self._seed, topic_prefix=prefix, on_change=self._on_change, hears=self.hears) as (
                    swarm,
                    host,
                    pubsub,
                ),
                trio.open_nursery() as nursery,
            ):
                for protocol, handler in self._protocols.items():
                    host.set_stream_handler(self._wire_id(protocol), self._handler_of(protocol, handler))
                for channel in self._channels:
                    nursery.start_soon(self._hand_out, channel, await pubsub.subscribe(self._topic(channel)))
                self._swarm, self._pubsub = swarm, pubsub
                self._up.set()
                await swarm.manager.wait_finished()
        finally:
            self._swarm = self._pubsub = None
            self._up = trio.Event()
            for peer in list(self._connected):
                self._on_change(peer, False)

    def _on_change(self, peer: MailboxId, up: bool) -> None:
        if up == (peer in self._connected):
            return
        (self._connected.add if up else self._connected.discard)(peer)
        for watcher in self._watchers:
            try:
                watcher(peer, up)
            except Exception:
                log.exception("a connection handler failed")

    async def _accept(self, socket: TcpSocket) -> Any:
        await self._up.wait()  # while the host is being restarted, newcomers wait; the gate bounds how long
        if self._swarm is None:
            raise ConnectionError("the host is gone")
        return await self._swarm.accept(socket)

    # --- streams ---

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self._protocols[protocol] = handler

    def _wire_id(self, protocol: str) -> str:
        return f"{protocol}/{self._network}"

    def _handler_of(self, protocol: str, handler: StreamHandler) -> Callable[[Any], Any]:
        async def handle(net_stream: Any) -> None:
            muxed: YamuxStream = net_stream.muxed_stream
            muxed.for_application = True
            try:
                await handler(_Libp2pStream(muxed, mailbox_id_of(muxed.muxed_conn.peer_id)))
            except StreamBroken as error:
                log.debug("serving %s ended: %s", protocol, error)
                await muxed.reset()
            except Exception:
                log.exception("the handler of %s failed", protocol)
                await muxed.reset()

        return handle

    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        await trio.lowlevel.checkpoint()
        swarm = self._swarm
        conns = [] if swarm is None else swarm.get_connections(peer_id_of(peer))
        if not conns:
            raise PeerUnreachable(f"{peer.short} is not connected")
        muxed_conn = conns[-1].muxed_conn  # the newest is the one least likely to be dead
        wire_id = self._wire_id(protocol)
        stream: YamuxStream | None = None
        try:
            with trio.fail_after(OPEN_STREAM_S):
                stream = await muxed_conn.open_stream()
                # Both steps of the negotiation in one go saves a round trip.
                await stream.write(encode_delim(_MULTISTREAM.encode()) + encode_delim(wire_id.encode()))
                for expected in (_MULTISTREAM, wire_id):
                    if (await read_delim(stream)).decode() != expected:
                        raise PeerUnreachable(f"{peer.short} does not speak {wire_id}")
        except BaseException as error:
            if stream is not None:
                await stream.reset()
            if isinstance(error, PeerUnreachable) or not isinstance(error, Exception):
                raise
            raise PeerUnreachable(f"no stream to {peer.short}: {_reason(error)}") from error
        stream.for_application = True
        return _Libp2pStream(stream, peer)

    # --- announcements ---

    def listen(self, channel: str, handler: Callable[[MailboxId, bytes], None]) -> None:
        self._channels[channel] = handler

    def _topic(self, channel: str) -> str:
        return f"/mailboxd/{self._network}/{channel}"

    async def _hand_out(self, channel: str, subscription: Any) -> None:
        while True:
            message = await subscription.get()
            try:
                # `from_id` is whose signature was verified, not who passed it on.
                publisher = mailbox_id_of(type(self._pubsub.my_id)(message.from_id)) if self._pubsub else self.local
                if publisher != self.local:
                    self._channels[channel](publisher, message.data)
            except Exception:
                log.exception("the handler of announcements on %s failed", channel)

    async def publish(self, channel: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if len(data) > ANNOUNCEMENT_BYTES_MAX:
            log.error("an announcement of %d bytes on %s was not sent: it is too large", len(data), channel)
        elif self._pubsub is not None:
            try:
                await self._pubsub.publish(self._topic(channel), data)
            except Exception as error:
                log.warning("an announcement on %s was not sent: %r", channel, error)

    # --- connections ---

    def on_connection(self, handler: Callable[[MailboxId, bool], None]) -> None:
        self._watchers.append(handler)

    def addresses(self) -> Sequence[PeerAddress]:
        bound = [listener.socket.getsockname()[:2] for listener in self._listeners]
        return tuple(PeerAddress(host, port, self.local) for host, port in spell_out(bound))

    def connected(self) -> frozenset[MailboxId]:
        return frozenset(self._connected)

    def hosts_of(self, peer: MailboxId) -> frozenset[str]:
        conns = [] if self._swarm is None else self._swarm.get_connections(peer_id_of(peer))
        ends = [conn.muxed_conn.get_remote_address() for conn in conns]
        return frozenset(end[0].partition("%")[0].removeprefix("::ffff:") for end in ends if end is not None)

    async def connect(self, addresses: Sequence[PeerAddress]) -> None:
        await trio.lowlevel.checkpoint()
        peers = {address.mailbox_id for address in addresses}
        if len(peers) != 1 or self.local in peers:
            raise PeerUnreachable("addresses of exactly one other mailbox are needed")
        peer = peers.pop()
        lock = self._dials.setdefault(peer, trio.Lock())
        try:
            async with lock:
                if peer not in self._connected:
                    await self._dial_all(peer, list(dict.fromkeys(addresses))[:DIALS_MAX])
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._dials.pop(peer, None)

    async def _dial_all(self, peer: MailboxId, addresses: Sequence[PeerAddress]) -> None:
        """Each address gets a head start over the next one, which begins at once if it fails."""
        reasons: list[str] = []

        async def attempt(address: PeerAddress, failed: trio.Event) -> None:
            try:
                await self._dial(address)
            except Exception as error:
                reasons.append(f"{address.host} port {address.port}: {_reason(error)}")
                failed.set()
            else:
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(DIAL_STAGGER_S):
                    await failed.wait()
        if peer not in self._connected:
            raise PeerUnreachable(f"{peer.short} can't be reached ({'; '.join(reasons) or 'connection lost'})")

    async def _dial(self, address: PeerAddress) -> None:
        swarm = self._swarm
        if swarm is None:
            raise ConnectionError("our own network part is being restarted")
        with trio.fail_after(DIAL_S):
            stream = await trio.open_tcp_stream(address.host, address.port)
        try:
            with trio.fail_after(HANDSHAKE_S):
                await swarm.dial(TcpSocket(stream), peer_id_of(address.mailbox_id))
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            raise

    async def disconnect(self, peer: MailboxId) -> None:
        swarm = self._swarm
        if swarm is not None:
            with trio.move_on_after(CLOSE_S, shield=True):
                await swarm.close_peer(peer_id_of(peer))
            self._forget_closed(swarm, peer)

    def _forget_closed(self, swarm: HardenedSwarm, peer: MailboxId) -> None:
        for conn in swarm.get_connections(peer_id_of(peer)):
            swarm.remove_conn(conn)


def _reason(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PeerIDMismatchesPubkey):
            return "another mailbox answers there; its identity was changed, or somebody poses as it"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError):
        # trio says that all attempts failed; why they did is in the cause.
        causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else (error,)
        numbers = dict.fromkeys(cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno)
        return ", ".join(os.strerror(number).lower() for number in numbers) or error.strerror or str(error)
    return str(error) or type(error).__name__
