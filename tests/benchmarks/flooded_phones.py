"""Honest phones for measuring what a flood feels like: each stores and gets on a connection of its own."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

import trio

__all__ = ["Felt", "newcomers", "play"]

_GIVE_UP_S = 10.0  # as the app does


@dataclass
class Felt:
    """What phones saw: the time of each request, how much the mailbox (process `pid`) computed meanwhile, and requests
    that were not answered as they should be."""

    pid: int
    took_s: list[float] = field(default_factory=list)
    work_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def at(self, share: float) -> float:
        """The time in which this share of all requests was answered, in seconds."""
        return _quantile(self.took_s, share)

    def work_at(self, share: float) -> float:
        """How much the mailbox computed, in seconds, while that share of all requests waited."""
        return _quantile(self.work_s, share)

    def cpu_s(self) -> float:
        """The mailbox's CPU time so far; Linux tells it to whoever asks (man clock_getcpuclockid)."""
        return time.clock_gettime((~self.pid << 3) | 2)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


class _Phone:
    """`address` is where it is; without a token it is a stranger."""

    def __init__(self, port: int, name: str, address: str, token: str | None, felt: Felt) -> None:
        self._port = port
        self._name = name
        self._address = address
        self._authorization = b"" if token is None else b"Authorization: Bearer %b\r\n" % token.encode()
        self._felt = felt
        self._stream: trio.SocketStream | None = None
        self._turn = 0

    async def turn(self) -> None:
        """A store and a get."""
        self._turn += 1
        store = {"blips": {f"of {self._name}": {"log": {str(self._turn): "aGVsbG8="}}}}
        await self._ask("/blips/store", store, b"201")
        await self._ask("/blips/get", {"topics": {f"of {self._name}": {"log": self._turn - 1}}}, b"200")

    async def leave(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
            self._stream = None

    async def _ask(self, path: str, document: object, wanted: bytes) -> None:
        body = json.dumps(document).encode()
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        begun_s, before_s = time.perf_counter(), self._felt.cpu_s()
        trouble: str | None = "no answer in time"
        with trio.move_on_after(_GIVE_UP_S):
            try:
                status = await self._exchange(head % (path.encode(), self._authorization, len(body)) + body)
                trouble = None if status == wanted else status.decode()
            except (OSError, trio.BrokenResourceError) as error:
                trouble = type(error.__cause__ or error).__name__
        self._felt.took_s.append(time.perf_counter() - begun_s)
        self._felt.work_s.append(self._felt.cpu_s() - before_s)
        if trouble is not None:
            self._felt.errors[trouble] += 1
            await self.leave()

    async def _exchange(self, request: bytes) -> bytes:
        if self._stream is None:
            sock = trio.socket.socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await sock.bind((self._address, 0))
            await sock.connect(("127.0.0.1", self._port))
            self._stream = trio.SocketStream(sock)
        await self._stream.send_all(request)
        answer = b""
        while not (head := answer.partition(b"\r\n\r\n"))[1] or len(head[2]) < _length(head[0]):
            more = await self._stream.receive_some()
            if not more:
                raise ConnectionResetError("closed")
            answer += more
        if b"connection: close" in head[0]:
            await self.leave()
        return answer[9:12]


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])


async def play(
    port: int, addresses: list[str], *, tokens: list[str | None], every_s: float, seconds: float, felt: Felt
) -> None:
    """One phone at each address, with a turn of two requests `every_s` seconds, on a connection that it keeps."""

    async def phone(number: int) -> None:
        one = _Phone(port, f"phone {number}", addresses[number], tokens[number], felt)
        await trio.sleep(random.uniform(0, every_s))
        while trio.current_time() < end_s:
            await one.turn()
            await trio.sleep(every_s * random.uniform(0.9, 1.1))
        await one.leave()

    end_s = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for number in range(len(addresses)):
            nursery.start_soon(phone, number)


async def newcomers(port: int, network: str, *, token: str, every_s: float, seconds: float, felt: Felt) -> None:
    """A paired phone that comes on a new connection from an address where nobody was before, again and again.
    `network` is the beginning of these addresses, three numbers long."""
    end_s = trio.current_time() + seconds
    number = 0
    async with trio.open_nursery() as nursery:
        while trio.current_time() < end_s:
            number = number % 250 + 1
            nursery.start_soon(_visit, _Phone(port, f"newcomer {number}", f"{network}.{number}", token, felt))
            await trio.sleep(every_s)


async def _visit(phone: _Phone) -> None:
    await phone.turn()
    await phone.leave()
