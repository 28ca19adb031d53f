"""Hostile announcements: ten thousand names, absurd addresses, garbage, forgeries. Through the front door, which here
is the multicast group of a real LAN between network namespaces."""

from __future__ import annotations

import psutil

from protocols.limits.discovery import (
    MDNS_SOURCE_PACKETS_BURST,
    MDNS_SOURCE_PACKETS_PER_SECOND,
    NEIGHBOURS_LIVE_PER_HOST_MAX,
    NEIGHBOURS_WAITING_MAX,
)
from tests.netns import Lan
from tests.node.discovery.agent import mailbox_of
from tests.node.discovery.processes import Agent, Talker, meet


def memory_mib(agent: Agent) -> float:
    """`ip netns exec` replaces itself by the agent, so its process is the agent's."""
    return float(psutil.Process(agent.process.pid).memory_info().rss) / 2**20


def test_a_flood_of_names_hurts_nobody(lan: Lan) -> None:
    ha, hb, hc, hd = (lan.add_host() for _ in range(4))
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    before_mib = memory_mib(a)
    flooder = Talker(hc, "tests.hostile.mdns_flooder", "b", hb.address, "1")
    d = Agent(hd, "d")  # comes while the flood runs
    a.expect("found", d.id)
    d.expect("found", a.id)
    flooded = flooder.expect("flooded")
    again = Agent(hc, "c")  # and an honest one beside the flooder, on its machine, after it
    lines = a.said()
    assert not [line for line in lines if line.get("lost") in (b.id, d.id)]
    assert not [line for line in lines if line.get("found") == b.id]  # nor was b moved
    found = [line for line in lines if "found" in line and line["found"] not in (b.id, d.id, again.id)]
    assert len({line["found"] for line in found}) <= 2 * NEIGHBOURS_LIVE_PER_HOST_MAX  # behind two addresses
    assert {host for line in found for host in line["hosts"]} <= {hb.address, hc.address}
    growth_mib = memory_mib(a) - before_mib
    cpu_s = psutil.Process(a.process.pid).cpu_times()
    statistics = a.stop()
    print(f"{flooded}; a: {statistics}, grew {growth_mib:.1f} MiB, {cpu_s.user + cpu_s.system:.2f} s of CPU")
    assert statistics["waiting"] <= NEIGHBOURS_WAITING_MAX
    assert statistics["dropped"] > 0  # the flood was over the limits, or this test shows nothing
    assert growth_mib < 30
    assert a.process.returncode == 0


def test_many_source_addresses_push_out_no_one_who_lives(lan: Lan) -> None:
    ha, hb, hc = (lan.add_host() for _ in range(3))
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    for number in range(100, 130):
        hc.ip("address", "add", f"{lan.prefix}.{number}/24", "dev", "eth0")
    flooder = Talker(hc, "tests.hostile.mdns_flooder", "b", hb.address, "1")
    flooder.expect("flooded")
    assert not [line for line in a.said() if b.id in (line.get("lost"), line.get("found"))]
    assert a.stop()["waiting"] <= NEIGHBOURS_WAITING_MAX


def test_announcements_lead_nowhere_but_to_the_lan(lan: Lan) -> None:
    """A name with a public address and a loopback address: nobody is found, although something listens on loopback."""
    ha, hc = lan.add_host(), lan.add_host()
    a = Agent(ha, "a")
    flooder = Talker(hc, "tests.hostile.mdns_flooder", "x", "127.0.0.1", "1")
    flooder.expect("flooded")
    hosts = {host for line in a.said() if "found" in line for host in line["hosts"]}
    assert hosts <= {hc.address}
    assert mailbox_of("a")  # our own listener at our own address did not count as somebody
    assert a.stop()["neighbours"] <= NEIGHBOURS_LIVE_PER_HOST_MAX


def test_the_rates_leave_room_for_a_house_full_of_mailboxes() -> None:
    """A machine with a few mailboxes announces three times in three seconds and answers once a second."""
    assert MDNS_SOURCE_PACKETS_BURST >= 10 * 3
    assert MDNS_SOURCE_PACKETS_PER_SECOND >= 10
