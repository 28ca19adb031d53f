"""Attacks a mailbox from many loopback addresses for some seconds, then prints as JSON what it sent.

A process of its own, kept to one core: real attackers have computers of their own.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import Counter
from contextlib import suppress

import trio

_BODY = b'{"blips": {"flood": {"log%d": {"%d": "' + b"QUJD" * 70 + b'"}}}}'
_GET = b'{"topics": {"festival": {}}}'


def request(path: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (path, len(body)) + body


class Flooder:
    """`sent` counts requests or connections, `answers` by status."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0
        self.answers: Counter[str] = Counter()

    async def connect(self, number: int) -> trio.SocketStream:
        sock = trio.socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.bind((f"127.0.{2 + number // 250}.{1 + number % 250}", 0))
        await sock.connect(("127.0.0.1", self.port))
        return trio.SocketStream(sock)

    async def again(self, number: int, what: str) -> None:
        """Does it for ever, whatever comes back."""
        while True:
            try:
                async with await self.connect(number) as stream:
                    await getattr(self, what)(number, stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                self.answers["broken"] += 1
                await trio.sleep(0.01)

    async def _ask(self, stream: trio.SocketStream, data: bytes) -> bool:
        await stream.send_all(data)
        self.sent += 1
        answer = await stream.receive_some(65536)
        self.answers[answer[9:12].decode("latin-1") or "closed"] += 1
        return bool(answer) and b"connection: close" not in answer

    async def store(self, number: int, stream: trio.SocketStream) -> None:
        seq = 0
        while await self._ask(stream, request(b"/blips/store", _BODY % (number, seq))):
            seq += 1

    async def get(self, number: int, stream: trio.SocketStream) -> None:
        while await self._ask(stream, request(b"/blips/get", _GET)):
            pass

    async def connections(self, number: int, stream: trio.SocketStream) -> None:
        await self._ask(stream, b"GET /health HTTP/1.0\r\nHost: a\r\n\r\n")

    async def slowloris(self, number: int, stream: trio.SocketStream) -> None:
        self.sent += 1
        for byte in b"POST /blips/store HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 1000:
            await stream.send_all(bytes([byte]))
            await trio.sleep(1.0)

    async def garbage(self, number: int, stream: trio.SocketStream) -> None:
        self.sent += 1
        await stream.send_all(os.urandom(2000))
        with trio.move_on_after(1.0):
            self.answers[(await stream.receive_some(65536))[9:12].decode("latin-1") or "closed"] += 1


async def main(port: int, what: str, seconds: float, connections: int, addresses: int) -> None:
    flooder = Flooder(port)
    with trio.move_on_after(seconds), suppress(BaseExceptionGroup):
        async with trio.open_nursery() as nursery:
            for number in range(connections):
                nursery.start_soon(flooder.again, number % addresses, what)
    print(json.dumps({"sent": flooder.sent, "answers": flooder.answers.most_common(5)}))


if __name__ == "__main__":
    if len(cores := os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(cores)})
    trio.run(main, int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
