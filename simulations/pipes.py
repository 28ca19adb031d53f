"""One direction of a stream over the simulated network: bytes come in order, wait for room, and may break off."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from node.transport.api import StreamBroken
from protocols.limits.transport import STREAM_WINDOW_BYTES
from simulations.network import Flow
from simulations.runtime import Alarm

__all__ = ["Carrier", "Pipe"]


class Carrier(Protocol):
    """The connection in which a pipe lies."""

    async def turn(self) -> None:
        """Gives others their turn, now and then."""
        ...

    def send(self, flow: Flow, size: int, arrive: Callable[[], None]) -> None:
        """Sends a frame, of which so many bytes are the stream's; `arrive` is called when it has come."""
        ...


class Pipe:
    """One direction of a stream."""

    __slots__ = (
        "_arrived",
        "_broken",
        "_connection",
        "_flow",
        "_inbox",
        "_is_ended",
        "_on_way",
        "_reader",
        "_window",
        "_writer",
    )

    def __init__(self, connection: Carrier, flow: Flow) -> None:
        self._connection = connection
        self._flow = flow
        self._inbox = bytearray()
        self._on_way: deque[bytes] = deque()
        self._window = STREAM_WINDOW_BYTES
        """How much more may be sent before something is read."""
        self._arrived = False
        """Whether the end has come through."""
        self._is_ended = False
        self._broken: str | None = None
        self._reader: Alarm | None = None
        self._writer: Alarm | None = None

    async def send_all(self, data: bytes) -> None:
        await self._connection.turn()
        at = 0
        while at < len(data):
            if self._broken is not None:
                raise StreamBroken(self._broken)
            if self._is_ended:
                raise StreamBroken("the stream was closed by us")
            if self._window:
                piece = data[at : at + self._window]
                at += len(piece)
                self._window -= len(piece)
                self._on_way.append(piece)
                self._connection.send(self._flow, len(piece), self._deliver)
            else:
                self._writer = Alarm()
                await self._writer.wait()

    async def receive_some(self, max_bytes: int) -> bytes:
        if self._inbox or self._arrived or self._broken is not None:
            await self._connection.turn()
        while not self._inbox:
            if self._broken is not None:
                raise StreamBroken(self._broken)
            if self._arrived:
                return b""
            self._reader = Alarm()
            await self._reader.wait()
        data = bytes(self._inbox[:max_bytes])
        del self._inbox[:max_bytes]
        self._window += len(data)
        if self._writer is not None:
            self._writer.ring()
        return data

    def _deliver(self) -> None:
        if self._broken is None:
            self._inbox += self._on_way.popleft()
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.ring()
            self._reader = None

    def end(self) -> None:
        """Nothing more is sent."""
        if not self._is_ended and self._broken is None:
            self._is_ended = True
            self._connection.send(self._flow, 0, self._arrive_end)

    def _arrive_end(self) -> None:
        self._arrived = True
        self._wake_reader()

    def break_off(self, reason: str, came_through: float = 0.0) -> None:
        """Ends it in the middle. What has come stays readable, as does a share of what was on its way."""
        if self._broken is None:
            self._broken = reason
            if self._on_way:
                self._inbox += self._on_way[0][: int(came_through * len(self._on_way[0]))]
            self._wake_reader()
            if self._writer is not None:
                self._writer.ring()

    @property
    def is_finished(self) -> bool:
        return self._is_ended or self._broken is not None
