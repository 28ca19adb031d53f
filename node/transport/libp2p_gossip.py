"""py-libp2p's gossip made fit to face strangers; see `libp2p_hardening`, whose part it is. tests/hostile/test_gossip.py
attacks it."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import trio
from libp2p.exceptions import ValidationError
from libp2p.host.basic_host import BasicHost
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

from node.transport.libp2p_tasks import TaskGuard, mailbox_id_of
from protocols.limits.transport import (
    ANNOUNCEMENT_BYTES_MAX,
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

__all__ = ["HardenedGossipSub", "HardenedPubsub"]

_GOSSIP_TOPICS_PER_PEER_MAX: Final = 32
_TOPIC_BYTES_MAX: Final = 256


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
    it was registered were kept for ever; whoever subscribed was given the announcements of the last seconds, and those
    made before it was registered, whoever it was."""

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
        return TaskGuard(self._manager)

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        if msg_forwarder == self.pubsub.my_id:
            await super().publish(msg_forwarder, pubsub_msg)

        self._pending_messages.clear()

    async def send_recent_messages(self, peer_id: Any, topic: str) -> None:
        """Nothing: two mailboxes that meet compare what they hold, and a stranger hears of no news."""

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
        host: BasicHost,
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
        return TaskGuard(self._manager)

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
        if msg.from_id != msg_forwarder.to_bytes():
            return  # nobody forwards: somebody repeats what another one has said, at that one's expense
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
