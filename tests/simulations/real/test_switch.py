"""Namespaces joined by the switch, with real TCP over it. Needs root; skips with the reason otherwise."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from simulations.real.namespaces import Namespace, why_no_namespaces
from simulations.real.switch import Switch
from simulations.real.wire import Cable
from simulations.scenario import Lan, Link, Route, Scenario

SCENARIO = Scenario(
    name="wires",
    title="Wires",
    duration_s=1,
    calm_from_s=0,
    settle_s=1,
    lans=(Lan("left", Link(latency_s=0.02)), Lan("right", Link(latency_s=0.02))),
    mailboxes=(),
    routes=(Route(("left", "right"), Link(latency_s=0.1)),),
)


class Machines:
    """a and b on the left, c on the right."""

    def __init__(self, stack: ExitStack) -> None:
        self.switch = Switch(SCENARIO, seed=1)
        stack.callback(self.switch.close)
        self.namespaces: dict[str, Namespace] = {}
        for number, (name, lan) in enumerate({"a": 0, "b": 0, "c": 1}.items(), start=2):
            namespace = self.namespaces[name] = stack.enter_context(Namespace())
            mac = bytes([2, 0, 0, 0, 1, number])
            cable = Cable(name, mac, self.address(name, lan), SCENARIO.lans[lan].name)
            self.switch.plug_in(cable, namespace.plug_in(mac=mac.hex(":")))
            self.settle(name, lan)

    @staticmethod
    def address(name: str, lan: int) -> IPv4Address:
        return IPv4Address(f"10.{100 + lan}.0.{ord(name)}")

    def settle(self, name: str, lan: int) -> None:
        self.namespaces[name].settle(
            address=str(self.address(name, lan)), prefix_bits=16, gateway=f"10.{100 + lan}.255.254"
        )

    def listen(self, name: str) -> socket.socket:
        with self.namespaces[name].entered():
            return socket.create_server(("0.0.0.0", 4001))

    def connect(self, name: str, address: IPv4Address) -> socket.socket:
        with self.namespaces[name].entered():
            return socket.create_connection((str(address), 4001), timeout=5)


@pytest.fixture
def machines() -> Iterator[Machines]:
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield Machines(stack)


def test_tcp_crosses_links_and_routes_and_resets_break_it(machines: Machines) -> None:
    with machines.listen("c") as listener, machines.connect("a", machines.address("c", 1)) as near:
        far, peer = listener.accept()
        assert peer[0] == str(machines.address("a", 0))
        began = time.monotonic()
        near.sendall(bytes(100_000))
        left = 100_000
        while left:
            left -= len(far.recv(left))
        assert time.monotonic() - began > 0.1, "the route's latency is felt"
        assert 100_000 < machines.switch.traffic()["a", "c"] < 110_000
        machines.switch.reset(["a"])
        far.settimeout(5)
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        far.close()


def test_cuts_stall_connections_and_walks_give_new_addresses(machines: Machines) -> None:
    names = ["a", "b", "c"]
    with machines.listen("b") as listener, machines.connect("a", machines.address("b", 0)) as near:
        far, _ = listener.accept()
        far.settimeout(0.3)
        machines.switch.block(1, ["a"], ["b"])
        assert machines.switch.connected(names) == [("a", "c"), ("b", "c")]
        near.sendall(b"late")
        with pytest.raises(TimeoutError):
            far.recv(4)
        machines.switch.unblock([1])
        far.settimeout(10)
        assert far.recv(4) == b"late"
        far.close()
        machines.switch.walk("b", "right", machines.address("b", 1))
        machines.settle("b", 1)
        with machines.connect("c", machines.address("b", 1)), listener.accept()[0]:
            pass


def test_nothing_is_left_when_whoever_made_it_is_killed() -> None:
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(reason)
    program = """
import os, signal
from contextlib import ExitStack
from tests.simulations.real.test_switch import Machines
stack = ExitStack()
machines = Machines(stack)
print(machines.switch._process.pid, os.readlink("/proc/self/ns/net"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    switch, network = done.stdout.split()
    assert network == str(Path("/proc/self/ns/net").readlink())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{switch}/cmdline").exists() and Path(f"/proc/{switch}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the switch outlives the player"
        time.sleep(0.05)
