"""The switch: a process of its own that holds the other ends of all cables and carries frames between them.

    python -m simulations.real.switch CONTROL      (a descriptor; `Switch` does that)

It is told what to do in JSON over a socket whose messages keep their boundaries, and does it at once. When that socket
closes it ends, and with it all cables. A process of its own, because a phone's JSON must not make a wire slow.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from simulations.real.namespaces import GATEWAY_MAC
from simulations.real.wire import Arrival, Cable, Wires
from simulations.scenario import Link, Scenario

__all__ = ["Switch", "SwitchError"]

_MESSAGE_BYTES_MAX: Final = 1 << 20
_FRAME_BYTES_MAX: Final = 65_600
_FRAMES_AT_ONCE: Final = 32
_ANSWER_TIMEOUT_S: Final = 10.0


class SwitchError(Exception):
    """The switch is gone or refuses; the message is fit for a user."""


class Switch:
    """The player's handle of the switch process."""

    def __init__(self, scenario: Scenario, *, seed: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE_BYTES_MAX)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "simulations.real.switch", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parents[2],
                start_new_session=True,  # Ctrl-C is for the player, which then ends us
            )
        self._socket = ours
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._tell(
            "begin",
            {lan.name: asdict(lan.link) for lan in scenario.lans},
            [[*route.lans, asdict(route.link)] for route in scenario.routes],
            seed,
        )

    def close(self) -> None:
        """Ends it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def plug_in(self, cable: Cable, descriptor: int) -> None:
        """A new cable. The descriptor is the switch's from now on. Raises SwitchError."""
        message = ["plug-in", cable.name, cable.mac.hex(), str(cable.address), cable.lan, sorted(cable.groups)]
        try:
            self._tell(*message, descriptors=[descriptor])
        finally:
            os.close(descriptor)

    def walk(self, name: str, lan: str, address: IPv4Address) -> None:
        """The machine is on another LAN now, with this address. Raises SwitchError."""
        self._tell("walk", name, lan, str(address))

    def block(self, key: int, a: Sequence[str], b: Sequence[str], *, clog: bool = False) -> None:
        """See `Wires.block`. Raises SwitchError."""
        self._tell("block", key, list(a), list(b), clog)

    def unblock(self, keys: Iterable[int]) -> None:
        """See `Wires.unblock`. Raises SwitchError."""
        self._tell("unblock", list(keys))

    def reset(self, a: Sequence[str], b: Sequence[str] | None = None) -> None:
        """See `Wires.reset`. Raises SwitchError."""
        self._tell("reset", list(a), None if b is None else list(b))

    def sleep(self, name: str) -> None:
        """See `Wires.sleep`. Raises SwitchError."""
        self._tell("sleep", name)

    def wake(self, name: str) -> None:
        """See `Wires.wake`. Raises SwitchError."""
        self._tell("wake", name)

    def traffic(self) -> dict[tuple[str, str], int]:
        """(from, to) -> bytes carried so far, see `Wires.carried_bytes`. Raises SwitchError."""
        return {(source, target): count for source, target, count in self._ask("traffic")}

    def connected(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """See `Wires.connected`. Raises SwitchError."""
        return [(one, other) for one, other in self._ask("connected", list(names))]

    def _tell(self, *message: object, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            raise SwitchError(f"the switch between the machines is gone: {error}") from error

    def _ask(self, *message: object) -> Any:
        """Blocks, for a millisecond: a thread would cost as much."""
        self._tell(*message)
        try:
            answer = self._socket.recv(_MESSAGE_BYTES_MAX)
        except OSError as error:
            raise SwitchError(f"the switch between the machines does not answer: {error}") from error
        if not answer:
            raise SwitchError("the switch between the machines has ended")
        return json.loads(answer)


# --- the process ---------------------------------------------------------------------------------------------------


class _Process:
    """The loop: frames in, frames out when their time has come, and orders."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._cables: dict[int, str] = {}
        self._descriptors: dict[str, int] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._number = 0
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._wires = Wires({}, {}, gateway=b"", seed=0)

    def run(self) -> None:
        """Until the other end closes."""
        while True:
            # select() on the epoll: its timeout has microseconds, that of epoll only milliseconds.
            timeout_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready = select.select([self._poll.fileno()], [], [], timeout_s)[0]
            for descriptor, _ in self._poll.poll(0) if ready else ():
                if descriptor == self._control.fileno():
                    if not self._obey():
                        return
                else:
                    self._take(descriptor)
            self._hand_over()

    def _take(self, descriptor: int) -> None:
        name = self._cables[descriptor]
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = os.read(descriptor, _FRAME_BYTES_MAX)
            except OSError:  # nothing more, or the interface is down
                return
            self._schedule(self._wires.carry(name, frame, time.monotonic()))

    def _schedule(self, arrivals: Iterable[Arrival]) -> None:
        for arrival in arrivals:
            self._number += 1
            descriptor = self._descriptors[arrival.cable.name]
            heapq.heappush(self._waiting, (arrival.at_s, self._number, descriptor, arrival.frame))

    def _hand_over(self) -> None:
        now_s = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, descriptor, frame = heapq.heappop(self._waiting)
            with suppress(OSError):  # the machine's queue is full or its interface down: lost, as on a real wire
                os.write(descriptor, frame)

    def _obey(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES_MAX, 1)
        if not message:
            return False
        order, *words = json.loads(message)
        now_s = time.monotonic()
        match order:
            case "begin":
                self._begin(*words)
            case "plug-in":
                self._plug_in(descriptors[0], *words)
            case "walk":
                self._wires.walk(words[0], words[1], IPv4Address(words[2]))
            case "block":
                self._wires.block(words[0], words[1], words[2], clog=words[3])
            case "unblock":
                self._schedule(self._wires.unblock(words[0], now_s))
            case "reset":
                self._schedule(self._wires.reset(words[0], words[1], now_s))
            case "sleep":
                self._wires.sleep(*words)
            case "wake":
                self._wires.wake(*words)
            case "traffic":
                self._answer([[*pair, count] for pair, count in self._wires.carried_bytes.items()])
            case "connected":
                self._answer(self._wires.connected(words[0]))
        return True

    def _answer(self, value: object) -> None:
        self._control.send(json.dumps(value).encode())

    def _begin(self, lans: Mapping[str, Mapping[str, float]], routes: Sequence[Sequence[Any]], seed: int) -> None:
        self._wires = Wires(
            {name: Link(**link) for name, link in lans.items()},
            {frozenset((one, other)): Link(**link) for one, other, link in routes},
            gateway=bytes.fromhex(GATEWAY_MAC.replace(":", "")),
            seed=seed,
        )

    def _plug_in(self, descriptor: int, name: str, mac: str, address: str, lan: str, groups: Sequence[str]) -> None:
        self._wires.plug_in(Cable(name, bytes.fromhex(mac), IPv4Address(address), lan, frozenset(groups)))
        self._cables[descriptor] = name
        self._descriptors[name] = descriptor
        self._poll.register(descriptor, select.EPOLLIN)


def main() -> None:
    """Runs the switch on the descriptor named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _Process(control).run()


if __name__ == "__main__":
    main()
