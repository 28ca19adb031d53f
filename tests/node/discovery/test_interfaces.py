"""Which links are used and which addresses are announced."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface

import ifaddr
import pytest

from node.discovery.interfaces import Link, Network, read_network
from protocols.limits.discovery import MDNS_ANNOUNCED_ADDRESSES_MAX, MDNS_INTERFACES_MAX


@dataclass
class Ip:
    ip: str | tuple[str, int, int]
    network_prefix: int


@dataclass
class Adapter:
    name: str
    index: int
    ips: list[Ip]


LO = Adapter("lo", 1, [Ip("127.0.0.1", 8), Ip(("::1", 0, 0), 128)])
LAN = Adapter("eth0", 2, [Ip("192.168.1.5", 24), Ip(("fe80::1", 0, 2), 64), Ip(("fd00::5%2", 0, 2), 64)])


async def read(monkeypatch: pytest.MonkeyPatch, *adapters: Adapter) -> Network:
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)
    monkeypatch.setattr("node.discovery.interfaces._state", lambda name: "up")
    return await read_network()


async def test_loopback_only_if_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [link.name for link in (await read(monkeypatch, LO, LAN)).links] == ["eth0"]
    assert (await read(monkeypatch, LO)).announced(()) == ("127.0.0.1", "::1")
    assert (await read(monkeypatch)).links == ()


async def test_link_local_ipv6_and_odd_entries_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Adapter("tun0", 3, [Ip("0.0.0.0", 0), Ip("10.8.0.1", 77), Ip(("fe80::2", 0, 3), 64)])
    network = await read(monkeypatch, LO, LAN, odd)
    assert network.announced(()) == ("192.168.1.5", "fd00::5")
    assert len(network.links) == 1


async def test_a_machine_full_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Adapter(f"br{n}", n + 10, [Ip(f"172.18.{n}.1", 24)]) for n in range(200)]
    network = await read(monkeypatch, *reversed(many), LAN)
    assert len(network.links) == MDNS_INTERFACES_MAX
    assert network.links[0].name == "eth0"
    assert len(network.announced(())) == MDNS_ANNOUNCED_ADDRESSES_MAX


async def test_addresses_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(ifaddr, "get_adapters", fail)
    assert (await read_network()).links == ()


async def test_the_machine_itself() -> None:
    """Whatever it has: it can be read, and twice alike."""
    assert await read_network() == await read_network()


@pytest.mark.parametrize(
    ("bound", "announced"),
    [
        ((), ("10.0.0.5", "192.168.1.5", "fd00::5")),
        (("0.0.0.0",), ("10.0.0.5", "192.168.1.5")),
        (("::",), ("fd00::5",)),
        (("0.0.0.0", "::"), ("10.0.0.5", "192.168.1.5", "fd00::5")),
        (("192.168.1.5", "127.0.0.1"), ("192.168.1.5",)),
        (("127.0.0.1",), ()),
    ],
)
def test_only_what_is_listened_on_is_announced(bound: tuple[str, ...], announced: tuple[str, ...]) -> None:
    lan = Link(2, "eth0", "up", (ip_interface("192.168.1.5/24"), ip_interface("fd00::5/64")))
    network = Network((lan, Link(3, "wlan0", "up", (ip_interface("10.0.0.5/8"),))))
    assert network.announced(bound) == announced
