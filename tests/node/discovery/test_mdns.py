"""mDNS discovery between real network namespaces, with the real sockets."""

from __future__ import annotations

import subprocess
import sys

from tests.netns import Lan
from tests.node.discovery.agent import mailbox_of
from tests.node.discovery.processes import PATIENCE_S, Agent, Other, meet


def test_two_mailboxes_find_each_other_and_say_goodbye(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    found = a.expect("found", b.id)
    assert found["hosts"] == [hb.address]
    assert (found["http_port"], found["p2p_port"], found["version"], found["network"]) == (3411, 4001, 1, "main")
    b.expect("found", a.id)
    b.stop()
    assert "goodbye" in a.expect("lost", b.id)["reason"]
    again = Agent(hb, "b")
    meet(a, again)


def test_a_killed_mailbox_is_lost_and_found_when_it_returns(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    b.kill()
    assert "not answered" in a.expect("lost", b.id)["reason"]
    meet(a, Agent(hb, "b"))


def test_a_cable_that_is_cut_and_plugged_in(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    lan.part(hb)
    a.expect("lost", b.id)
    b.expect("lost", a.id)
    lan.heal(hb)
    meet(a, b)


def test_an_interface_that_goes_down_and_up(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    hb.link_down()
    a.expect("lost", b.id)
    b.expect("lost", a.id)
    hb.link_up()
    meet(a, b)


def test_a_new_address_is_found_while_the_mailbox_runs(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    hb.set_address(f"{lan.prefix}.99")
    found = a.expect("found", b.id)
    assert found["hosts"] == [f"{lan.prefix}.99"]


def test_an_adapter_that_is_pulled_out_and_put_in_again(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    meet(a, b)
    hb.disconnect()
    a.expect("lost", b.id)
    b.expect("lost", a.id)
    hb.connect()
    meet(a, b)


def test_started_without_network_that_comes_later(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host(connected=False)
    a, b = Agent(ha, "a"), Agent(hb, "b")
    hb.connect()
    meet(a, b)


def test_two_mailboxes_of_one_machine(lan: Lan) -> None:
    host = lan.add_host()
    a, b = Agent(host, "a"), Agent(host, "b", http_port=3412)
    assert a.expect("found", b.id)["hosts"] == [host.address]
    assert b.expect("found", a.id)["http_port"] == 3411


def test_two_mailboxes_of_one_machine_without_network(lan: Lan) -> None:
    host = lan.add_host(connected=False)
    a, b = Agent(host, "a"), Agent(host, "b", http_port=3412)
    assert "127.0.0.1" in a.expect("found", b.id)["hosts"]
    b.expect("found", a.id)


def test_a_lan_with_ipv6_only(lan: Lan) -> None:
    hosts = lan.add_host(), lan.add_host()
    for number, host in enumerate(hosts, 1):
        host.ip("-4", "address", "flush", "dev", "eth0")
        host.ip("address", "add", f"fd77::{number}/64", "dev", "eth0", "nodad")
    a, b = Agent(hosts[0], "a"), Agent(hosts[1], "b")
    assert a.expect("found", b.id)["hosts"] == ["fd77::2"]
    b.expect("found", a.id)
    b.stop()
    a.expect("lost", b.id)


def test_a_look_around_without_announcing(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a = Agent(ha, "a")
    code = "import trio; from node.discovery.mdns import discover_once; print(trio.run(discover_once, 1.5))"
    look = hb.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    printed, _ = look.communicate(timeout=PATIENCE_S)
    assert printed.count("Neighbour(") == 1
    assert ha.address in printed
    assert not [line for line in a.said() if "found" in line]


def test_the_port_is_taken_for_a_while(lan: Lan) -> None:
    """By a program that does not share it."""
    ha, hb = lan.add_host(), lan.add_host()
    code = (
        "import socket; s = socket.socket(type=2); s.bind(('', 5353)); print('{\"started\": 1}', flush=True); input()"
    )
    taker = hb.popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    taker.stdout.readline()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    assert b.process.poll() is None
    taker.kill()
    meet(a, b)


def test_the_apps_own_mailbox_is_found_as_http_only(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, app = Agent(ha, "a"), Other(hb, "app", "x")
    found = a.expect("found", str(mailbox_of("x")))
    assert (found["http_port"], found["p2p_port"], found["version"]) == (3000, None, 0)
    assert found["hosts"] == [hb.address]
    app.process.terminate()
    assert "goodbye" in a.expect("lost", str(mailbox_of("x")))["reason"]


def test_the_newer_generation_is_found_though_its_records_have_ttl_zero(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    hub = Other(hb, "swarm", "x")
    a = Agent(ha, "a")
    found = a.expect("found", str(mailbox_of("x")))
    assert (found["http_port"], found["p2p_port"], found["hosts"]) == (3000, None, [hb.address])
    hub.kill()
    a.expect("lost", str(mailbox_of("x")))


def test_an_ordinary_browser_finds_both_instances(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, browser = Agent(ha, "a"), Other(hb, "browse")
    own = mailbox_of("a")
    seen = {line["added"]: line for line in (browser.expect("added"), browser.expect("added"))}
    assert set(seen) == {str(own), own.base32}
    for line in seen.values():
        assert (line["port"], line["addresses"], line["host"]) == (3411, [ha.address], f"{own}.local.")
        assert line["txt"] == {"v": "1", "p": "4001", "n": "main"}
    a.stop()
    assert {browser.expect("removed")["removed"], browser.expect("removed")["removed"]} == set(seen)


def test_the_newer_generations_browser_hears_us_again_and_again(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, browser = Agent(ha, "a"), Other(hb, "swarm-browse")
    for _ in range(3):  # silence of some rounds would retire us there
        line = browser.expect("hub", mailbox_of("a").base32)
        assert (line["port"], line["addresses"]) == (3411, [ha.address])
    assert a.process.poll() is None
