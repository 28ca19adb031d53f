"""Nobody has a mailbox try addresses for it that it could not try itself."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface

import pytest
import trio
import trio.testing

from node import reach as module
from node.config import ListenAddress
from node.discovery.interfaces import Link, Network
from node.reach import Reach, Whereabouts, where_it_may_be
from node.transport.libp2p import Libp2pTransport
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.limits.tools import REACH_HOSTS_MAX, REACH_TRIALS_MAX
from protocols.model import MailboxId
from protocols.reach import Outcome, Trial

LAN = Link(1, "eth0", "up", (ip_interface("192.168.1.5/24"), ip_interface("fd00:1::5/64")))
VPN = Link(2, "wg0", "up", (ip_interface("10.8.0.5/16"),))
NETWORK = Network((LAN, VPN))


@pytest.mark.parametrize(
    ("named", "announced", "ends", "tried"),
    [
        ([], ["192.168.1.9"], ["192.168.1.9"], ["192.168.1.9"]),
        ([], ["192.168.1.9", "fd00:1::9", "10.8.0.1", "172.16.0.1"], ["192.168.1.9"], ["192.168.1.9", "fd00:1::9"]),
        ([], ["10.8.0.1"], ["192.168.1.9"], []),  # a network that only we are in
        ([], ["10.8.0.1", "192.168.1.9"], ["10.8.7.7"], ["10.8.0.1"]),
        ([], ["172.16.0.1"], ["172.16.0.1"], ["172.16.0.1"]),  # behind a router: it is there, or it could not connect
        ([], ["172.16.0.2"], ["172.16.0.1"], []),
        ([], ["192.168.1.5", "127.0.0.1", "192.168.1.9"], ["127.0.0.1"], ["192.168.1.5", "127.0.0.1"]),
        ([], ["192.168.1.5"], [], []),
        (["172.16.0.9", "printer.lan"], [], ["192.168.1.9"], ["172.16.0.9"]),  # the user's own word
        ([], ["localhost", "printer.lan", "", "1.1"], ["192.168.1.9"], []),
    ],
)
def test_where_it_is_looked_for(named: list[str], announced: list[str], ends: list[str], tried: list[str]) -> None:
    assert where_it_may_be(Whereabouts(named, announced), ends, NETWORK) == tried


def test_few_addresses_are_tried() -> None:
    announced = [f"192.168.1.{number}" for number in range(10, 200)]
    assert len(where_it_may_be(Whereabouts((), announced), ["192.168.1.9"], NETWORK)) == REACH_HOSTS_MAX


async def test_over_real_connections_only_where_the_asker_comes_from_is_tried(nursery: trio.Nursery) -> None:
    """A neighbour that announces somebody else's addresses is told nothing of them."""
    seeds = (b"1" * 32, b"2" * 32)
    asker, helper = (
        Libp2pTransport(signing_key_seed=seed, listen=ListenAddress("127.0.0.1", 0), network="main") for seed in seeds
    )
    asking = Reach(asker, "main", lambda _peer: Whereabouts())
    Reach(helper, "main", lambda _peer: Whereabouts((), ("127.0.0.1", "10.99.0.1", "172.31.255.1", "198.51.100.7")))
    await nursery.start(asker.run)
    await nursery.start(helper.run)
    await asker.connect(helper.addresses())
    port = asker.addresses()[0].port
    with trio.fail_after(30):
        assert await asking.ask(helper.local, [port]) == [Trial(port, "127.0.0.1", Outcome.OPEN)]
        assert await asking.ask(helper.local, [port]) == []  # so soon


async def test_however_many_ask_few_are_tried_at_once(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[Sequence[tuple[int, str]]] = []

    async def never(targets: Sequence[tuple[int, str]]) -> list[Trial]:
        under_way.append(targets)
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(module, "_try", never)
    network = MemoryNetwork()
    helper = MemoryTransport(network, MailboxId(bytes(32)))
    Reach(helper, "main", lambda _peer: Whereabouts(("192.0.2.1",)))
    await nursery.start(helper.run)
    for number in range(1, 3 * REACH_TRIALS_MAX):
        transport = MemoryTransport(network, MailboxId(bytes(31) + bytes([number])))
        asking = Reach(transport, "main", lambda _peer: Whereabouts())
        await nursery.start(transport.run)
        await transport.connect(helper.addresses())
        nursery.start_soon(asking.ask, helper.local, [80])
    with trio.fail_after(30):
        while len(under_way) < REACH_TRIALS_MAX:  # noqa: ASYNC110  nobody tells
            await trio.sleep(0.01)
    await trio.sleep(0.2)
    assert len(under_way) == REACH_TRIALS_MAX
    nursery.cancel_scope.cancel()
