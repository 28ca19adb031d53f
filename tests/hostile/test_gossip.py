"""Attacks on gossip through the libp2p host's socket. After each of them it serves an honest peer as before."""

from __future__ import annotations

import os
import time
from collections import deque

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.pubsub.pb import rpc_pb2

from node.transport.libp2p_tasks import peer_id_of
from protocols.limits.transport import (
    GOSSIP_CONTROLS_MAX,
    GOSSIP_MESSAGES_BURST,
    GOSSIP_MESSAGES_PER_S,
    STREAM_WINDOW_BYTES,
)
from protocols.model import MailboxId
from tests.hostile.libp2p_attacker import FIN, WINDOW_UPDATE, Attacker, attack, data, frame, length_prefixed
from tests.hostile.libp2p_victim import TOPIC, Victim, settle, task_count, victim

__all__ = ["victim"]


@pytest.mark.parametrize("protocol", ["/meshsub/1.0.0", "/meshsub/1.1.0"])
async def test_2_undecodable_gossip(victim: Victim, protocol: str) -> None:
    garbage = [b"\x05\xff\xff\xff\xff\xff", b"\xff" * 20, b"\xff\xff\xff\x7f", b"\x02\xff\xff"]
    async with attack(victim.transport.addresses()[0]) as attacker:
        for number, body in enumerate(garbage):
            await attacker.open(2 * number + 1, protocol)
            await attacker.send(data(2 * number + 1, body))
        assert await attacker.alive()


async def test_2b_gossip_that_can_be_decoded_but_makes_no_sense(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        control = rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"zz", b"\x00", b"ff" * 4000])],
            iwant=[rpc_pb2.ControlIWant(messageIDs=[b"('a', 'b')", b"ff"])],
            graft=[rpc_pb2.ControlGraft(topicID="\x00"), rpc_pb2.ControlGraft(topicID=TOPIC)],
            prune=[rpc_pb2.ControlPrune(topicID="nobody's")],
        )
        subscriptions = [
            rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"{prefix}{number}")
            for prefix in ("foreign/", "/mailboxd/test/")
            for number in range(15)
        ]
        nonsense = [
            attacker.gossip(TOPIC, b"no id", from_id=b""),
            attacker.gossip(TOPIC, b"odd id", from_id=b"\xff\x00\xff"),
            attacker.gossip(TOPIC, b"odd id and key", from_id=b"\x12\x20" + bytes(32), key=b"\x08\x63\x12\x00"),
            attacker.gossip(TOPIC, b"many topics", topics=[TOPIC, *(f"t{n}" for n in range(500))]),
            attacker.gossip(TOPIC, b"no signature", signature=b""),
            attacker.gossip(TOPIC, b"short signature", signature=b"0123456789"),
            attacker.gossip(TOPIC, bytes(20_000)),
            length_prefixed(rpc_pb2.RPC(control=control)),
            length_prefixed(rpc_pb2.RPC(subscriptions=subscriptions)),
        ]
        # Each on its own stream: one that ends its stream must not hide the next.
        for number, body in enumerate(nonsense):
            await attacker.open(2 * number + 1, "/meshsub/1.1.0")
            await attacker.send(data(2 * number + 1, body))
        assert await attacker.alive()
        await attacker.open(99, "/meshsub/1.1.0")
        await attacker.send(data(99, attacker.gossip(TOPIC, b"sound")))
        await settle(lambda: victim.heard)
        assert [payload for _, payload in victim.heard] == [b"sound"]
        pubsub = victim.transport._pubsub
        assert pubsub is not None
        assert "/mailboxd/test/14" in pubsub.peer_topics, "or this test shows nothing"
        assert not [topic for topic in pubsub.peer_topics if not topic.startswith("/mailboxd/test/")]
        assert len(pubsub.router.recent_message_deliveries) <= 1
        assert len(pubsub.router.time_since_last_publish) <= 1


async def test_2c_gossip_flood_is_read_slowly_not_queued(victim: Victim) -> None:
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, "/meshsub/1.1.0")
        tasks = task_count()
        flood = b"".join(attacker.gossip(TOPIC, b"%d" % number) for number in range(1000))
        assert len(flood) < STREAM_WINDOW_BYTES
        for start in range(0, len(flood), 50_000):
            await attacker.send(data(1, flood[start : start + 50_000]))
        assert await attacker.alive()
        started_s = trio.current_time()
        await trio.sleep(2)
        passed_s = trio.current_time() - started_s + 1
        pubsub = victim.transport._pubsub
        assert pubsub is not None
        assert len(pubsub.seen_messages.cache) <= GOSSIP_MESSAGES_BURST + passed_s * GOSSIP_MESSAGES_PER_S
        assert task_count() < tasks + 20


async def test_2d_control_messages_leave_no_traces(victim: Victim) -> None:
    """Of topics that nobody has, and of peers to dial."""
    pubsub = victim.transport._pubsub
    assert pubsub is not None
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, "/meshsub/1.1.0")
        stranger = rpc_pb2.PeerInfo(peerID=attacker.peer_id.to_bytes())
        foreign = [rpc_pb2.ControlPrune(topicID=f"{number}", backoff=10**9) for number in range(2000)]
        ours = [rpc_pb2.ControlPrune(topicID=TOPIC, backoff=10**9, peers=[stranger]) for _ in range(100)]
        for control in (
            rpc_pb2.ControlMessage(prune=foreign),
            rpc_pb2.ControlMessage(prune=ours),
            rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=f"{number}") for number in range(2000)]),
        ):
            await attacker.send(data(1, length_prefixed(rpc_pb2.RPC(control=control))))
        assert await attacker.alive()
        await settle(lambda: attacker.peer_id in pubsub.router.back_off.get(TOPIC, {}))
        assert pubsub.router.back_off.keys() <= {TOPIC}
        assert max(pubsub.router.back_off[TOPIC].values()) < time.time() + 3600
        assert all(tracked.keys() <= {TOPIC} for tracked in pubsub.router.graft_flood_tracking.values())


async def test_2d_what_is_asked_for_is_sent_once(victim: Victim) -> None:
    pubsub = victim.transport._pubsub
    assert pubsub is not None
    wants = [rpc_pb2.ControlIWant(messageIDs=[b"aa", b"bb"] * 100) for _ in range(3)]
    (kept,) = pubsub.router.control_of(rpc_pb2.ControlMessage(iwant=wants)).iwant
    assert list(kept.messageIDs) == [b"aa", b"bb"]
    wants = [rpc_pb2.ControlIWant(messageIDs=[b"%04d" % number for number in range(1000)])]
    (kept,) = pubsub.router.control_of(rpc_pb2.ControlMessage(iwant=wants)).iwant
    assert len(kept.messageIDs) == GOSSIP_CONTROLS_MAX


async def test_2e_who_came_and_went_is_forgotten(victim: Victim) -> None:
    """Whatever an identity made the host keep goes with its connection, also if it was never quite registered."""
    bounded = ("_publishers", "seen_messages", "validation_cache", "mcache")  # by number or by time

    def strangers_remembered() -> dict[str, int]:
        found = {at: size for at, size in containers_of(victim.transport).items() if size >= 10}
        return {at: size for at, size in found.items() if not any(name in at for name in bounded)}

    before = strangers_remembered()
    for number in range(24):
        async with attack(victim.transport.addresses()[0]) as attacker:
            await attacker.open(1, "/meshsub/1.1.0")
            topics = [TOPIC, f"/mailboxd/test/{number}"]
            subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in topics]
            control = rpc_pb2.ControlMessage(
                ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"%02d" % number])],
                iwant=[rpc_pb2.ControlIWant(messageIDs=[b"%02d" % number])],
                graft=[rpc_pb2.ControlGraft(topicID=TOPIC)],
                prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=10**6)],
            )
            await attacker.send(data(1, length_prefixed(rpc_pb2.RPC(subscriptions=subscriptions, control=control))))
            await attacker.send(data(1, attacker.gossip(TOPIC, b"%d" % number)))
            assert await attacker.alive()
            if number % 2:  # ends its gossip before its connection
                await attacker.send(frame(WINDOW_UPDATE, FIN, 1, 0))
                assert await attacker.alive()
    await settle(lambda: strangers_remembered() == before)


def containers_of(root: object) -> dict[str, int]:
    """The sizes of all that our transport and libp2p keep things in, by where it is reached."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    to_see = [(root, "")]
    while to_see:
        it, at = to_see.pop()
        if id(it) in seen:
            continue
        seen.add(id(it))
        inside: list[tuple[object, str]] = []
        if isinstance(it, dict):
            inside = [(value, f"{at}[…]") for value in it.values()]
        elif isinstance(it, list | tuple | set | frozenset | deque):
            inside = [(value, f"{at}[…]") for value in it]
        elif type(it).__module__.split(".")[0] in ("libp2p", "node"):
            slots = [name for kind in type(it).__mro__ for name in getattr(kind, "__slots__", ())]
            values = {name: getattr(it, name) for name in slots if hasattr(it, name)} | getattr(it, "__dict__", {})
            to_see += [(value, f"{at}.{name}") for name, value in values.items()]
            continue
        if inside:
            sizes[at] = max(sizes.get(at, 0), len(inside))
            to_see += inside
    return sizes


async def test_5c_gossip_in_anothers_name_is_not_heard(victim: Victim) -> None:
    celebrity = create_new_key_pair(os.urandom(32))
    async with attack(victim.transport.addresses()[0]) as attacker:
        name = peer_id_of(MailboxId(celebrity.public_key.to_bytes())).to_bytes()
        await attacker.open(1, "/meshsub/1.1.0")
        forged = attacker.gossip(TOPIC, b"forged", from_id=name)
        with_key = attacker.gossip(TOPIC, b"forged", from_id=name, key=celebrity.public_key.serialize())
        ourselves = attacker.gossip(TOPIC, b"forged", from_id=peer_id_of(victim.transport.local).to_bytes())
        await attacker.send(
            data(1, forged), data(1, with_key), data(1, ourselves), data(1, attacker.gossip(TOPIC, b"own"))
        )
        await settle(lambda: victim.heard)
        assert victim.heard == [(MailboxId(attacker.key_pair.public_key.to_bytes()), b"own")]


async def test_5d_what_others_said_is_not_heard_again(victim: Victim) -> None:
    """Nobody forwards. Whoever repeats what another one has said uses up that one's rate, and what it may cost us."""
    celebrity = Attacker(None, create_new_key_pair(os.urandom(32)))
    async with attack(victim.transport.addresses()[0]) as attacker:
        await attacker.open(1, "/meshsub/1.1.0")
        await attacker.send(data(1, celebrity.gossip(TOPIC, b"yesterday's")), data(1, attacker.gossip(TOPIC, b"own")))
        await settle(lambda: victim.heard)
        assert victim.heard == [(MailboxId(attacker.key_pair.public_key.to_bytes()), b"own")]
        pubsub = victim.transport._pubsub
        assert pubsub is not None
        assert celebrity.peer_id.to_bytes() not in pubsub._publishers
