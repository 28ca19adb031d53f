"""Somebody who sits in between and writes down what goes by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["recorder"]


@contextmanager
def recorder(host: str, port: int) -> Iterator[tuple[int, bytearray]]:
    """A relay to `host` and `port` that writes down every byte of both directions; gives its own port."""
    heard = bytearray()
    listening = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                heard.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            mailbox = socket.create_connection((host, port))
            for pair in ((client, mailbox), (mailbox, client)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1], heard
    finally:
        listening.close()
