"""Streams out of two pipes, for transports that have no wire: what those of memory and of the simulator share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from node.transport.api import Stream, StreamHandler
from protocols.model import MailboxId

__all__ = ["Pipe", "PipeStream", "serve_stream"]

log = logging.getLogger(__name__)


class Pipe(Protocol):
    """One direction of a stream, with one sender and one receiver; both raise StreamBroken."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self, max_bytes: int) -> bytes: ...

    def end(self) -> None:
        """Nothing more is sent."""
        ...

    def break_off(self, reason: str) -> None:
        """Ends it in the middle."""
        ...


class PipeStream(Stream):
    """One end of a stream. `on_end` is called when it was closed, aborted or broken from here."""

    def __init__(
        self, peer: MailboxId, incoming: Pipe, outgoing: Pipe, *, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self.peer = peer
        self._incoming = incoming
        self._outgoing = outgoing
        self._on_end = on_end

    async def send_all(self, data: bytes) -> None:
        try:
            await self._outgoing.send_all(data)
        except trio.Cancelled:
            # Part of it may have gone: as with the real thing, nothing sensible can follow.
            self._break_off("a send was cancelled in the middle")
            raise

    async def receive_some(self, max_bytes: int) -> bytes:
        return await self._incoming.receive_some(max_bytes)

    async def close(self) -> None:
        self._outgoing.end()
        self._on_end()

    async def abort(self) -> None:
        self._break_off("the stream was reset")
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _break_off(self, reason: str) -> None:
        self._incoming.break_off(reason)
        self._outgoing.break_off(reason)
        self._on_end()


async def serve_stream(handler: StreamHandler, stream: Stream, protocol: str) -> None:
    """Runs a handler on a stream that somebody has opened; its faults are logged."""
    try:
        await handler(stream)
    except Exception:
        log.exception("the handler of %s failed", protocol)
        await stream.abort()
    except BaseException:
        await stream.abort()
        raise
    else:
        await stream.close()
