"""py-libp2p 0.8.1 made fit to face strangers: everything about it that had to be mended, in one place.

Pinned, because some of it replaces private parts. What stays in use: identity keys, Noise, multistream-select, the
host's protocol table with identify and ping, and gossipsub. What is replaced by subclassing: the stream multiplexer
(`libp2p_yamux`), sockets and dialling (`libp2p_tcp`), Noise's messages after the handshake (`libp2p_noise`), the life
of connections, and the reading of gossip (`libp2p_gossip`). Each replacement says which fault it is for;
tests/hostile/test_libp2p.py and test_gossip.py attack each of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network import swarm as swarm_module
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader

from node.transport.libp2p_gossip import HardenedGossipSub, HardenedPubsub
from node.transport.libp2p_noise import NoiseMessages
from node.transport.libp2p_tasks import TaskGuard, mailbox_id_of
from node.transport.libp2p_tcp import TcpSocket
from node.transport.libp2p_yamux import UnreadBudget, Yamux
from protocols.limits.transport import (
    CLOSE_S,
    CONNECTIONS_PER_PEER_MAX,
)
from protocols.model import MailboxId

__all__ = ["HardenedHost", "HardenedSwarm", "run_hardened"]

log = logging.getLogger(__name__)

# It logs other people's mistakes as our errors, with tracebacks, and some of it straight to the root logger, which
# sets up logging behind the program's back.
if "LIBP2P_DEBUG" not in os.environ:
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)
swarm_connection.logging = logging.getLogger("libp2p.network.connection")  # type: ignore[attr-defined,unused-ignore]


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
        return TaskGuard(self._manager)

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
