"""The machines of a play: a network namespace each, with a cable to the switch, on one LAN or another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Final

import trio

from node.workload import HttpSession
from simulations.real.namespaces import Namespace
from simulations.real.switch import Switch
from simulations.real.wire import Cable
from simulations.scenario import Scenario

__all__ = ["Machine", "Network"]

_PREFIX_BITS: Final = 16
_FIRST_NET: Final = 100


class Machine:
    """A computer or a phone: its own network with one cable. `address` is its present one."""

    def __init__(self, name: str, group: str, namespace: Namespace, lan: str, address: IPv4Address) -> None:
        self.name = name
        self.group = group
        self.namespace = namespace
        self.lan = lan
        self.address = address

    def is_one_of(self, names: Sequence[str]) -> bool:
        """Whether one of the names of machines, groups and LANs means it."""
        return self.name in names or self.group in names or self.lan in names

    async def open(self, host: str, port: int) -> HttpSession:
        """An HTTP connection from this machine. Raises OSError."""
        with self.namespace.entered():
            sock = trio.socket.socket()
        try:
            sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            await sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return HttpSession(trio.SocketStream(sock), f"{host}:{port}")

    def datagrams(self) -> trio.socket.SocketType:
        """A UDP socket of this machine. Raises OSError."""
        with self.namespace.entered():
            return trio.socket.socket(type=trio.socket.SOCK_DGRAM)


class Network:
    """All machines and the switch between them. A context manager; nothing is left of it afterwards."""

    def __init__(self, scenario: Scenario, *, seed: int) -> None:
        self._stack = ExitStack()
        self._lans = {lan.name: number for number, lan in enumerate(scenario.lans)}
        self._numbers = itertools.count(1)
        self.machines: dict[str, Machine] = {}
        self.switch = Switch(scenario, seed=seed)
        self._stack.callback(self.switch.close)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, group: str, lan: str) -> Machine:
        """A new machine on a LAN. Raises NamespaceError or SwitchError."""
        number = next(self._numbers)
        namespace = self._stack.enter_context(Namespace())
        machine = Machine(name, group, namespace, lan, self._address(lan, number))
        mac = bytes([0x02, 0, 0, 1, number >> 8, number & 0xFF])
        cable = Cable(name, mac, machine.address, lan, frozenset((group,)))
        self.switch.plug_in(cable, namespace.plug_in(mac=mac.hex(":")))
        self._settle(machine)
        self.machines[name] = machine
        return machine

    def walk(self, machine: Machine, lan: str) -> None:
        """Takes a machine to another LAN, where it has another address. Raises NamespaceError or SwitchError."""
        machine.lan = lan
        machine.address = self._address(lan, int(machine.address) & 0xFFFF)
        self.switch.walk(machine.name, lan, machine.address)
        self._settle(machine)

    def named(self, names: Sequence[str]) -> Iterator[Machine]:
        """The machines that these names of machines, groups and LANs mean."""
        return (machine for machine in self.machines.values() if machine.is_one_of(names))

    def _address(self, lan: str, number: int) -> IPv4Address:
        return IPv4Address(f"10.{_FIRST_NET + self._lans[lan]}.0.0") + number

    def _settle(self, machine: Machine) -> None:
        gateway = self._address(machine.lan, 0xFFFE)
        machine.namespace.settle(address=str(machine.address), prefix_bits=_PREFIX_BITS, gateway=str(gateway))
