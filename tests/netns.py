"""Real networks on one machine: network namespaces with veth pairs on a bridge, for tests between real processes.

    def test_it(lan: Lan) -> None:
        a, b = lan.add_host(), lan.add_host()
        process = a.popen([sys.executable, "-m", "node.cli", "run"])

The `lan` fixture is there for every test (tests/conftest.py). It needs root and iproute2 and skips with the reason
otherwise.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Host", "Lan", "lan", "why_no_namespaces"]

ROOT = Path(__file__).resolve().parent.parent
_lans = itertools.count()


def why_no_namespaces() -> str | None:
    """Why namespaces can't be made here, or None if they can."""
    if shutil.which("ip") is None:
        return "needs the `ip` command (iproute2)"
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    name = f"mbxtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces can't be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Host:
    """A network namespace with one interface, `eth0`, on the LAN."""

    def __init__(self, lan: Lan, number: int, *, connected: bool) -> None:
        self.name = f"{lan.name}h{number}"
        self.address = f"{lan.prefix}.{number}"
        self._lan = lan
        self._number = number
        self._processes: list[subprocess.Popen[Any]] = []
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        if connected:
            self.connect()

    def ip(self, *words: str) -> None:
        """Runs `ip` in this namespace; raises RuntimeError with its complaint."""
        _ip("-n", self.name, *words)

    def connect(self) -> None:
        """Plugs in `eth0` with `address`/24 and a route for multicast."""
        port = f"p{self._number}"
        _ip("-n", self._lan.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("-n", self._lan.name, "link", "set", port, "master", "br0", "up")
        self.ip("link", "set", "eth0", "up")
        self.set_address(self.address)

    def disconnect(self) -> None:
        """Takes `eth0` away altogether, like an adapter that is pulled out."""
        self.ip("link", "del", "eth0")

    def link_down(self) -> None:
        """Sets `eth0` down; it keeps its address."""
        self.ip("link", "set", "eth0", "down")

    def link_up(self) -> None:
        """Sets `eth0` up again."""
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "replace", "224.0.0.0/4", "dev", "eth0")

    def set_address(self, address: str) -> None:
        """Gives `eth0` this IPv4 address (/24) instead of the one it had."""
        self.ip("-4", "address", "flush", "dev", "eth0")
        self.ip("address", "add", f"{address}/24", "dev", "eth0")
        self.ip("route", "replace", "224.0.0.0/4", "dev", "eth0")
        self.address = address

    def command(self, words: Sequence[str]) -> list[str]:
        """The command line that runs `words` in this namespace."""
        return ["ip", "netns", "exec", self.name, *words]

    def popen(self, words: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a process here, in the project's root unless `cwd` says otherwise. It is killed with the LAN."""
        options.setdefault("cwd", ROOT)
        process = subprocess.Popen(self.command(words), **options)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


class Lan:
    """A bridge in a namespace of its own, 10.77.X.0/24, and the hosts on it. Nothing of it touches the machine's own
    network. A context manager."""

    def __init__(self) -> None:
        self.number = next(_lans)
        self.name = f"mbx{os.getpid()}n{self.number}"
        self.prefix = f"10.77.{self.number % 250}"
        self.hosts: list[Host] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> Lan:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self.name, "link", "set", "br0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def add_host(self, *, connected: bool = True) -> Host:
        """A new host; `connected` False leaves it with nothing but loopback until `connect`."""
        host = Host(self, next(self._numbers), connected=connected)
        self.hosts.append(host)
        return host

    def part(self, host: Host) -> None:
        """Cuts the host's cable at the bridge: its own interface stays as it is but loses its carrier."""
        _ip("-n", self.name, "link", "set", f"p{host._number}", "down")

    def heal(self, host: Host) -> None:
        """Plugs the cable in again."""
        _ip("-n", self.name, "link", "set", f"p{host._number}", "up")


@pytest.fixture
def lan() -> Iterator[Lan]:
    """An empty LAN; skips the test where there can't be one."""
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(reason)
    with Lan() as made:
        yield made
