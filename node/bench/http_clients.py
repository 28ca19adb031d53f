"""Keep-alive clients in a process of their own, so that the server shares no interpreter with its load.

`python -m node.bench.http_clients JSON` takes a `Load` as JSON and prints a `LoadFigures`. Each client sends its next
request when the answer to the last one is complete. Written on bare selectors and httptools: load and server share the
machine's cores, and what the load costs the server can't use.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

import httptools

from node.bench.messages import LOGS_PER_TOPIC, log_name

__all__ = ["Load", "LoadFigures"]

PATIENCE_S: Final = 60.0
_EXPECTED: Final = {"health": 200, "store": 201, "get": 200}
_ID_CHARS: Final = 12
_BASE64_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@dataclass(frozen=True, slots=True)
class Load:
    """`kind` is health, store or get. A store has `messages` messages of `blob_bytes` for a log of the client's own;
    a get asks for as many of the last messages of a log; `topics` topics have logs of `log_messages` each."""

    port: int
    kind: str
    clients: int
    seconds: float
    messages: int
    blob_bytes: int
    topics: int = 0
    log_messages: int = 0


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What was answered within `elapsed_s`, how long a request took, and what the load itself cost."""

    requests: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    answer_bytes: int


class _Client:
    """One connection. Also what httptools calls back."""

    def __init__(self, load: Load, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", load.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(PATIENCE_S)
        self.sent_at_s = 0.0
        self.is_complete = False
        self._load = load
        self._number = number
        self._sent = 0
        self._parser = httptools.HttpResponseParser(self)
        self._request = {"health": self._health, "store": self._store, "get": self._get}[load.kind]
        self._topic, self._log = os.urandom(32).hex(), os.urandom(32).hex()
        # A multiple of three bytes is four characters of base64 without padding; the number of the message makes each
        # content another one.
        filler = load.blob_bytes // 3 * 4 - _ID_CHARS
        self._filler = "".join(_BASE64_DIGITS[byte & 63] for byte in os.urandom(filler))

    def send(self) -> None:
        data = self._request()
        self._sent += 1
        self.is_complete = False
        self.sent_at_s = time.perf_counter()
        self.sock.sendall(data)

    def receive(self) -> int:
        """Takes what has come; returns its size."""
        data = self.sock.recv(1 << 18)
        if not data:
            sys.exit("the mailbox closed a connection")
        self._parser.feed_data(data)
        if self.is_complete and (status := self._parser.get_status_code()) != _EXPECTED[self._load.kind]:
            sys.exit(f"the mailbox answered a {self._load.kind} with HTTP {status}")
        return len(data)

    def on_message_complete(self) -> None:
        self.is_complete = True

    def _health(self) -> bytes:
        return b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def _store(self) -> bytes:
        first = self._sent * self._load.messages
        entries = ",".join(
            f'"{seq}":"{seq:0{_ID_CHARS}d}{self._filler}"' for seq in range(first, first + self._load.messages)
        )
        return _post("/blips/store", f'{{"blips":{{"{self._topic}":{{"{self._log}":{{{entries}}}}}}}}}')

    def _get(self) -> bytes:
        """Of a topic all but the last messages of one log."""
        number = self._number * 7919 + self._sent * 104_729  # primes: clients and requests go different ways
        first = number % self._load.topics * LOGS_PER_TOPIC
        names = [log_name(first + log) for log in range(LOGS_PER_TOPIC)]
        heights = dict.fromkeys([name.log for name in names], self._load.log_messages - 1)
        heights[names[number % LOGS_PER_TOPIC].log] -= self._load.messages
        return _post("/blips/get", json.dumps({"topics": {names[0].topic: heights}}))


def _post(path: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("ascii")


def play(load: Load) -> LoadFigures:
    """Runs for `load.seconds`, and on until every client has had an answer."""
    with selectors.DefaultSelector() as selector:
        for number in range(load.clients):
            client = _Client(load, number)
            selector.register(client.sock, selectors.EVENT_READ, client)
            client.send()
        waits_s: list[float] = []
        answered: set[_Client] = set()
        received = 0
        begun_s = now_s = time.perf_counter()
        while now_s < begun_s + load.seconds or len(answered) < load.clients:
            ready = selector.select(PATIENCE_S)
            if not ready:
                sys.exit(f"no answer within {PATIENCE_S:g} s")
            for key, _ in ready:
                client = key.data
                received += client.receive()
                if client.is_complete:
                    now_s = time.perf_counter()
                    waits_s.append(now_s - client.sent_at_s)
                    answered.add(client)
                    client.send()
    waits_s.sort()
    count = len(waits_s)
    return LoadFigures(
        requests=count,
        elapsed_s=now_s - begun_s,
        p50_ms=1000 * waits_s[count // 2],
        p99_ms=1000 * waits_s[count * 99 // 100],
        answer_bytes=received,
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(play(Load(**json.loads(sys.argv[1]))))))
    except OSError as error:
        sys.exit(f"the mailbox can't be reached: {error}")
