"""A client's socket."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

import trio

__all__ = ["ClientSocket"]

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ClientSocket:
    """An accepted socket; takes `sock` over, which must not block.

    Trio's own gives up its turn in each send, too: that and what it takes is a tenth of a short request's cost. This
    one does so once in each `recv`, and else only where it must wait.
    """

    shakes_hands = False
    """Whether there is work to do before the first byte can be read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def recv(self, bytes_max: int) -> bytes:
        """What has come, up to `bytes_max`; empty at the end. Raises OSError."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            data = self._sock.recv(bytes_max)
        except BlockingIOError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            with suppress(BlockingIOError):
                return self._sock.recv(bytes_max)

    async def send(self, data: bytes | memoryview) -> int:
        """Sends some of `data`, at least a byte; returns how much. Raises OSError."""
        while True:
            with suppress(BlockingIOError):
                return self._sock.send(data)
            await trio.lowlevel.wait_writable(self._sock)

    async def shutdown(self) -> None:
        """Nothing more will be sent, and what comes is of no interest. Raises OSError."""
        self._sock.shutdown(socket.SHUT_WR)

    async def drain(self, bytes_max: int) -> bytes:
        """After `shutdown`: what has come, up to `bytes_max`, to be thrown away. Raises OSError."""
        return await self.recv(bytes_max)

    def reset_on_close(self) -> None:
        """Closing will reset the connection, so that nobody takes what came for everything."""
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def close(self) -> None:
        """Closes the socket."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
