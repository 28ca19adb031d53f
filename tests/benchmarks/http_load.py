"""Keep-alive clients in a process of their own: `python -m tests.benchmarks.http_load PORT CLIENTS SECONDS KIND`.

Prints one line of JSON: requests per second, and the 50th and 99th percentile of the latency in milliseconds. Written
on bare selectors, so that the load costs less of the shared cores than what it measures.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import sys
import time


class _Client:
    def __init__(self, port: int, number: int, kind: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kind = kind
        self.seq = 0
        self.topic = os.urandom(32).hex()
        self.log = os.urandom(32).hex()
        self.blob = base64.b64encode(os.urandom(300)).decode()
        self.sent_at = 0.0
        self.expect = b"HTTP/1.1 201" if kind == "store" else b"HTTP/1.1 200"

    def send(self) -> None:
        if self.kind == "health":
            data = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        else:
            body = f'{{"blobs":{{"{self.topic}":{{"{self.log}":{{"{self.seq}":"{self.blob}"}}}}}}}}'.encode()
            head = "POST /blobs/store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            self.seq += 1
        self.sent_at = time.perf_counter()
        self.sock.sendall(data)


def main(port: int, clients: int, seconds: float, kind: str) -> None:
    selector = selectors.DefaultSelector()
    for number in range(clients):
        client = _Client(port, number, kind)
        selector.register(client.sock, selectors.EVENT_READ, client)
        client.send()
    latencies: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for key, _ in selector.select(1):
            answer = key.data.sock.recv(65536)  # small answers come in one piece
            if not answer.startswith(key.data.expect):
                sys.exit(f"unexpected answer: {answer[:200]!r}")
            latencies.append(time.perf_counter() - key.data.sent_at)
            key.data.send()
    elapsed = time.perf_counter() - begun
    latencies.sort()
    count = len(latencies)
    figures = {
        "rate": count / elapsed,
        "p50_ms": 1000 * latencies[count // 2],
        "p99_ms": 1000 * latencies[count * 99 // 100],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
