"""py-libp2p 0.8.1 made fit to face strangers: everything about it that had to be mended, in one place.

Pinned, because some of it replaces private parts. What stays in use: identity keys, Noise, multistream-select, the
host's protocol table with identify and ping, and gossipsub. What is replaced by subclassing: the stream multiplexer
(`libp2p_yamux`), sockets and dialling (`libp2p_tcp`), Noise's messages after the handshake (`libp2p_noise`), the life
of connections, and the reading of gossip. Each replacement says which fault it is for; tests/hostile/test_libp2p.py
and test_gossip.py attack each of them.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.exceptions import ValidationError
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network import swarm as swarm_module
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader

from node.transport.libp2p_noise import NoiseMessages
from node.transport.libp2p_tcp import TcpSocket
from node.transport.libp2p_yamux import UnreadBudget, Yamux
from protocols.limits.transport import (
    ANNOUNCEMENT_BYTES_MAX,
    CLOSE_S,
    CONNECTIONS_PER_PEER_MAX,
    GOSSIP_CONTROLS_MAX,
    GOSSIP_IDS_MAX,
    GOSSIP_MESSAGES_BURST,
    GOSSIP_MESSAGES_PER_S,
    GOSSIP_PUBLISHER_MESSAGES_BURST,
    GOSSIP_PUBLISHER_MESSAGES_PER_S,
    GOSSIP_PUBLISHERS_MAX,
    GOSSIP_RPC_BYTES_MAX,
)
from protocols.model import MailboxId

__all__ = ["HardenedHost", "HardenedPubsub", "HardenedSwarm", "mailbox_id_of", "peer_id_of", "run_hardened"]

log = logging.getLogger(__name__)

_GOSSIP_TOPICS_PER_PEER_MAX: Final = 32
_TOPIC_BYTES_MAX: Final = 256

# It logs other people's mistakes as our errors, with tracebacks, and some of it straight to the root logger, which
# sets up logging behind the program's back.
if "LIBP2P_DEBUG" not in os.environ:
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)
swarm_connection.logging = logging.getLogger("libp2p.network.connection")  # type: ignore[attr-defined,unused-ignore]


def peer_id_of(mailbox_id: MailboxId) -> Any:
    """libp2p's PeerId object of a mailbox."""
    return ID.from_base58(mailbox_id.peer_id)


def mailbox_id_of(peer_id: Any) -> MailboxId:
    """The mailbox of a PeerId. Raises ValueError if its key is not Ed25519."""
    return MailboxId.from_peer_id(str(peer_id.to_base58()))


# --- tasks -----------------------------------------------------------------------------------------------------


class _TaskGuard:
    """A service's manager whose tasks can't end the service.

    Fault: any exception in any task, most of which work for one remote peer, ends the service and with it the host;
    a task with more than 1,000 children does too, and finding a task's parent costs a walk over all tasks.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def run_task(
        self, async_fn: Callable[..., Awaitable[None]], *args: object, daemon: bool = False, name: str | None = None
    ) -> None:
        nursery = self._manager._task_nursery
        if nursery is not None and not self._manager.is_finished:
            nursery.start_soon(self._run, async_fn, args, daemon, name=name or getattr(async_fn, "__name__", "task"))

    def run_daemon_task(self, async_fn: Callable[..., Awaitable[None]], *args: object, name: str | None = None) -> None:
        self.run_task(async_fn, *args, daemon=True, name=name)

    @staticmethod
    async def _run(async_fn: Callable[..., Awaitable[None]], args: tuple[object, ...], daemon: bool) -> None:
        while True:
            try:
                await async_fn(*args)
            except Exception as error:
                log.warning("libp2p's %s failed: %r", getattr(async_fn, "__name__", "task"), error)
            if not daemon:
                return
            await trio.sleep(1.0)


# --- connections -----------------------------------------------------------------------------------------------


class HardenedSwarm(swarm_module.Swarm):  # type: ignore[misc]
    """The set of connections. Sockets come from outside (`accept`, `dial`), already counted and with a deadline.

    Faults mended by replacing the parts concerned: inbound slots and tasks were held until shutdown (so that after 250
    connections nobody got in); IP limits were skipped on IPv6; a failed dial banned the peer for a minute; closing
    took 100 ms for each connection, one after the other; the auto-connector and the pruner dialled and closed on
    their own account.
    """

    def __init__(self, key_pair: Any, *, on_change: Callable[[MailboxId, bool], None]) -> None:
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        # Noise alone: with TLS, SecIO or plaintext on offer, whoever likes can claim another's identity.
        noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
        upgrader = TransportUpgrader({NOISE_PROTOCOL_ID: noise}, {YAMUX_PROTOCOL_ID: Yamux})
        super().__init__(
            peer_id, peerstore, upgrader, transports=[], connection_config=ConnectionConfig(min_connections=0)
        )
        self.notifees.clear()  # the tag store's, which remembers everyone for ever
        self._on_change = on_change
        self._budget = UnreadBudget()

    @property
    def manager(self) -> Any:
        return _TaskGuard(self._manager)

    async def run(self) -> None:
        self.event_background_nursery_created.set()
        await trio.sleep_forever()

    async def accept(self, socket: TcpSocket) -> Any:
        """Secures an accepted socket and adds its connection. Raises any Exception; the caller closes the socket."""
        secured = await self.upgrader.upgrade_security(RawConnection(socket, False), False)
        return await self._establish(secured, socket, "inbound")

    async def dial(self, socket: TcpSocket, peer_id: Any) -> Any:
        """Secures an outgoing socket to `peer_id` and adds its connection. Raises any Exception, also if someone else
        answers; the caller closes the socket."""
        raw = RawConnection(socket, True)
        secured = await self.upgrader.upgrade_security(raw, True, peer_id)
        return await self._establish(secured, socket, "outbound")

    async def _establish(self, secured: Any, socket: TcpSocket, direction: str) -> Any:
        peer_id = secured.get_remote_peer()
        mailbox_id_of(peer_id)  # other kinds of key are refused here: nothing later has to expect them
        if peer_id == self.self_id:
            raise ConnectionError("that is this mailbox itself")
        secured.conn = NoiseMessages(secured.conn, socket)
        await self.upgrader.muxer_multistream.select_transport(secured)
        return await self.add_conn(Yamux(secured, peer_id, budget=self._budget), direction)

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        conn = swarm_connection.SwarmConn(muxed_conn, self, direction=direction)
        try:
            self.manager.run_task(muxed_conn.start)
            await muxed_conn.event_started.wait()
            self.manager.run_task(self._live, conn)
            await conn.event_started.wait()
        except BaseException:
            muxed_conn.fail("the connection was not completed")
            raise
        if muxed_conn.is_closed or conn.is_closed:
            raise ConnectionError("the connection was lost at once")
        peers = self.connections.setdefault(muxed_conn.peer_id, [])
        peers.append(conn)
        if len(peers) > CONNECTIONS_PER_PEER_MAX:
            # The newest counts: a mailbox that was restarted must not wait until its old connections are found dead.
            peers[0].muxed_conn.fail("the peer has connected anew")
        if len(peers) == 1:
            self._on_change(mailbox_id_of(muxed_conn.peer_id), True)
        self.manager.run_task(self._notify, "connected", conn)
        return conn

    async def _live(self, conn: Any) -> None:
        try:
            await conn.start()
        finally:
            conn.muxed_conn.fail("the connection was closed")
            self.remove_conn(conn)
            if not conn.is_closed:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await conn.close()

    def remove_conn(self, swarm_conn: Any) -> None:
        peer_id = swarm_conn.muxed_conn.peer_id
        conns = self.connections.get(peer_id, [])
        if swarm_conn in conns:
            conns.remove(swarm_conn)
            if not conns:
                del self.connections[peer_id]
                self._on_change(mailbox_id_of(peer_id), False)

    async def notify_disconnected(self, conn: Any) -> None:
        await self._notify("disconnected", conn)

    async def close_peer(self, peer_id: Any) -> None:
        await self._close_all(self.get_connections(peer_id))

    async def close(self) -> None:
        self._closing = True
        await self._close_all(self.get_connections())
        manager = getattr(self, "_manager", None)
        if manager is not None:
            await manager.stop()

    @staticmethod
    async def _close_all(conns: list[Any]) -> None:
        async with trio.open_nursery() as nursery:
            for conn in conns:
                nursery.start_soon(conn.muxed_conn.close)


class HardenedHost(BasicHost):  # type: ignore[misc]
    """The protocol table. Faults mended: an exception while a stream's protocol is agreed on (bad UTF-8 is enough) or
    in its handler ended the host; identify ran by itself on every connection in tasks whose failure ends the program,
    and took from every stranger what it liked."""

    def __init__(self, network: HardenedSwarm) -> None:
        super().__init__(network, announce_addrs=[], disable_identify_address_discovery=True)
        network.notifees.clear()  # the one that runs identify by itself; who asks us is still answered
        self.multiselect.remove_handler(ID_PUSH)
        network.set_stream_handler(self._guarded_stream_handler)

    async def _guarded_stream_handler(self, net_stream: Any) -> None:
        muxed = net_stream.muxed_stream
        try:
            await self._swarm_stream_handler(net_stream)
            await muxed.finish()
        except Exception as error:
            log.debug("a stream from %s failed: %r", muxed.muxed_conn.peer_id, error)
        finally:
            await muxed.reset()


# --- gossip ----------------------------------------------------------------------------------------------------


class _Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = self._burst
        self._updated_s = trio.current_time()

    def _refill(self) -> None:
        now_s = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now_s - self._updated_s) * self._rate)
        self._updated_s = now_s

    def take(self, count: int) -> float:
        """Takes `count`, there or not; returns for how many seconds whoever took them has to wait."""
        self._refill()
        self._tokens -= count
        return max(0.0, -self._tokens / self._rate)

    def take_nowait(self) -> bool:
        """Takes one if it is there; says whether."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class HardenedGossipSub(GossipSub):  # type: ignore[misc]
    """What we publish goes to everybody who is connected, and what others publish goes no further: only who is
    connected with a publisher can ask it for its news. A mesh would fail the mailbox in the middle of a star (of 32
    around it 12 heard it), and in a network of many LANs it would carry every announcement to all of them.

    Gossip's own limits are off (they count messages of all publishers against the neighbour who forwards them), and so
    are scores and the parts that adapt to them; the limits of `HardenedPubsub` hold instead.

    Faults mended: every PRUNE made an entry for its topic, whatever that was, and had us dial whom it named; an IWANT
    could name one announcement a thousand times, and got it as often; scores and more of whoever came and went before
    it was registered were kept for ever."""

    def __init__(self, hears: Callable[[MailboxId], bool] = lambda _mailbox_id: True) -> None:
        self._hears = hears
        super().__init__(
            # 1.1 at the most: later versions add control messages that we have no use for and strangers could abuse.
            protocols=[PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=8,
            degree_low=6,
            degree_high=12,
            heartbeat_interval=1,  # by default two minutes, so that a lost neighbour was replaced after two minutes
            prune_back_off=10,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
            do_px=False,
        )
        self.scorer = None

    def control_of(self, control: Any) -> Any:
        """What counts of a control message: about our own topics, no more than GOSSIP_CONTROLS_MAX of each kind."""
        kept = rpc_pb2.ControlMessage()
        for name in ("ihave", "graft", "prune"):
            ours = [entry for entry in getattr(control, name) if entry.topicID in self.mesh]
            getattr(kept, name).extend(ours[:GOSSIP_CONTROLS_MAX])
        for ihave in kept.ihave:
            del ihave.messageIDs[GOSSIP_IDS_MAX:]
        for prune in kept.prune:
            prune.ClearField("peers")
            prune.backoff = min(prune.backoff, self.prune_back_off)
        wanted = dict.fromkeys(message_id for iwant in control.iwant for message_id in iwant.messageIDs)
        if wanted:
            kept.iwant.add(messageIDs=list(wanted)[:GOSSIP_CONTROLS_MAX])
        return kept

    def forget(self, peer_id: Any) -> None:
        """Forgets a peer that is gone, whether or not it was ever registered."""
        self.remove_peer(peer_id)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    @property
    def manager(self) -> Any:
        return _TaskGuard(self._manager)

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        if msg_forwarder == self.pubsub.my_id:
            await super().publish(msg_forwarder, pubsub_msg)

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: Any, origin: Any, msg_id: bytes | None = None
    ) -> Iterable[Any]:
        subscribed = {peer for topic in topic_ids for peer in self.pubsub.peer_topics.get(topic, ())} - {origin}
        return {peer for peer in subscribed if self._hears(mailbox_id_of(peer))}

    def gossip_heartbeat(self) -> defaultdict[Any, dict[str, list[bytes]]]:
        # Names of announcements would tell a stranger when there was news.
        gossip = super().gossip_heartbeat().items()
        return defaultdict(dict, {peer: names for peer, names in gossip if self._hears(mailbox_id_of(peer))})

    def _periodic_security_cleanup(self) -> None:
        super()._periodic_security_cleanup()
        self.recent_message_deliveries.clear()  # grows by one for each message if nobody adapts to it


class HardenedPubsub(Pubsub):  # type: ignore[misc]
    """Gossip's reading side: one neighbour's messages one after the other, at a bounded rate (who sends more is read
    more slowly), each of bounded size and for exactly one of our network's topics.

    Faults mended: an undecodable frame or key ended the host; every message started a task; a message could name any
    number of topics, each of which left traces for ever.
    """

    def __init__(
        self,
        host: HardenedHost,
        router: HardenedGossipSub,
        *,
        topic_prefix: str,
        hears: Callable[[MailboxId], bool] = lambda _mailbox_id: True,
    ) -> None:
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=GOSSIP_RPC_BYTES_MAX)
        self._hears = hears
        self.max_subscriptions_per_peer = _GOSSIP_TOPICS_PER_PEER_MAX
        self._topic_prefix = topic_prefix
        self._buckets: dict[Any, _Bucket] = {}
        self._publishers: OrderedDict[bytes, _Bucket] = OrderedDict()
        # Never the same twice, also if the host is restarted within a second.
        self.counter = time.time_ns()

    @property
    def manager(self) -> Any:
        return _TaskGuard(self._manager)

    async def continuously_read_stream(self, stream: Any) -> None:
        peer_id = stream.muxed_conn.peer_id
        async with aclosing(_read_frames(stream.muxed_stream)) as frames:
            async for frame in frames:
                rpc = rpc_pb2.RPC()
                rpc.ParseFromString(frame)
                if (bucket := self._buckets.get(peer_id)) is None:
                    bucket = self._buckets[peer_id] = _Bucket(rate=GOSSIP_MESSAGES_PER_S, burst=GOSSIP_MESSAGES_BURST)
                await trio.sleep(bucket.take(1 + len(rpc.publish) + len(rpc.subscriptions) // 8))
                await self._handle(peer_id, rpc)

    async def _handle(self, peer_id: Any, rpc: Any) -> None:
        for subscription in rpc.subscriptions[:_GOSSIP_TOPICS_PER_PEER_MAX]:
            self.handle_subscription(peer_id, subscription)
        if not self._hears(mailbox_id_of(peer_id)):
            return  # neither its announcements nor its questions for ours
        for message in rpc.publish:
            if self._is_subscribed_to_msg(message):
                await self.push_msg(peer_id, message)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc_pb2.RPC(control=self.router.control_of(rpc.control)), peer_id)

    async def stream_handler(self, stream: Any) -> None:
        try:
            await self.continuously_read_stream(stream)
        finally:
            peer_id = stream.muxed_conn.peer_id
            if not self._peer_is_connected(peer_id):
                self._handle_dead_peer(peer_id)

    def _handle_dead_peer(self, peer_id: Any) -> None:
        super()._handle_dead_peer(peer_id)
        if not self._peer_is_connected(peer_id):
            self._buckets.pop(peer_id, None)
            self.router.forget(peer_id)

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        if len(msg.topicIDs) == 1 and len(msg.data) <= ANNOUNCEMENT_BYTES_MAX and len(msg.seqno) <= 32:
            await super().push_msg(msg_forwarder, msg)

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Called once the publisher's signature has been verified, so that nobody can use up another one's rate."""
        if msg_forwarder != self.my_id and not self._may_publish(msg.from_id):
            self._mark_msg_seen(msg)  # dropped for good, by whomever else it comes
            raise ValidationError("the publisher sends too much")
        await super().validate_msg(msg_forwarder, msg)

    def _may_publish(self, publisher: bytes) -> bool:
        bucket = self._publishers.pop(publisher, None)
        if bucket is None:
            bucket = _Bucket(rate=GOSSIP_PUBLISHER_MESSAGES_PER_S, burst=GOSSIP_PUBLISHER_MESSAGES_BURST)
        self._publishers[publisher] = bucket
        if len(self._publishers) > GOSSIP_PUBLISHERS_MAX:
            self._publishers.popitem(last=False)
        return bucket.take_nowait()

    def handle_subscription(self, origin_id: Any, sub_message: Any) -> None:
        topic = sub_message.topicid
        if topic.startswith(self._topic_prefix) and len(topic) <= _TOPIC_BYTES_MAX:
            super().handle_subscription(origin_id, sub_message)


async def _read_frames(stream: Any) -> AsyncGenerator[bytes, None]:
    """Frames with a varint length in front. Raises ValueError for one that is too long, and the stream's errors."""
    buffer = bytearray()
    while True:
        head = _decode_varint(buffer)
        if head is not None:
            size, start = head
            if size > GOSSIP_RPC_BYTES_MAX:
                raise ValueError(f"a gossip frame of {size} bytes")
            if len(buffer) >= start + size:
                frame = bytes(buffer[start : start + size])
                del buffer[: start + size]
                yield frame
                continue
        buffer += await stream.read(65536)


def _decode_varint(buffer: bytearray) -> tuple[int, int] | None:
    value = 0
    for index, byte in enumerate(buffer[:5]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, index + 1
    if len(buffer) >= 5:
        raise ValueError("the length of a gossip frame never ends")
    return None


@asynccontextmanager
async def run_hardened(
    seed: bytes,
    *,
    topic_prefix: str,
    on_change: Callable[[MailboxId, bool], None],
    hears: Callable[[MailboxId], bool] = lambda _mailbox_id: True,
) -> AsyncIterator[tuple[HardenedSwarm, HardenedHost, HardenedPubsub]]:
    """Runs swarm, host and gossip for the Ed25519 key made from the 32 bytes of `seed`. Gossip is exchanged with those
    only whom it `hears`.

    On leaving, connections are closed in good order within a few seconds, also when cancelled: leaving
    `host.run()` alone would leave them open.
    """
    swarm = HardenedSwarm(create_new_key_pair(seed), on_change=on_change)
    host = HardenedHost(swarm)
    router = HardenedGossipSub(hears)
    pubsub = HardenedPubsub(host, router, topic_prefix=topic_prefix, hears=hears)
    try:
        async with (
            host.run([]),
            background_trio_service(router),
            background_trio_service(pubsub),
        ):
            await pubsub.wait_until_ready()
            try:
                yield swarm, host, pubsub
            finally:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await host.close()
    finally:
        pubsub.seen_messages.stop()  # a thread
