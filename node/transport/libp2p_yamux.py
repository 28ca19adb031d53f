"""Yamux (`/yamux/1.0.0`), the protocol that carries many streams over one connection.

It takes the place of py-libp2p's own, on the same wire (https://github.com/hashicorp/yamux/blob/master/spec.md),
because that one can't be made safe from outside: it does not enforce the receive window, starts a task for every SYN,
breaks the connection when a write is cancelled, resets a stream whose reader pauses for five seconds, and reports a
killed peer as an orderly end.

Theory of operation. Each connection has three tasks. The reader takes decrypted chunks, and hands what belongs to a
stream to that stream's buffer; it never waits for a consumer, because the window bounds what may arrive. The writer is
the only one that touches the socket: senders put whole frames into a bounded queue, so that cancelling a sender can't
leave half a frame. The keeper pings a silent peer and gives up on a dead one. When any of them ends, the connection
fails as a whole, and every stream learns why.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from types import TracebackType
from typing import Any, Final

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from node.transport.libp2p_noise import PLAINTEXT_BYTES_MAX
from protocols.limits.transport import (
    CLOSE_S,
    CONTROL_QUEUE_FRAMES_MAX,
    PING_INTERVAL_S,
    PING_UNANSWERED_MAX,
    RECEIVE_STRETCH_FRAMES,
    REFUSED_STREAMS_MAX,
    SEND_BATCH_BYTES,
    SEND_QUEUE_BYTES,
    SEND_STALL_S,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    STREAMS_PER_PEER_MAX,
    UNREAD_BYTES_PER_CONNECTION_MAX,
    UNREAD_BYTES_TOTAL_MAX,
)
from protocols.model import MailboxId
from protocols.pieces import Pieces

__all__ = ["UnreadBudget", "Yamux", "YamuxStream"]

log = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("!BBHII")  # version, type, flags, stream id, length
_DATA, _WINDOW_UPDATE, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8
_PAYLOAD_BYTES_MAX: Final = PLAINTEXT_BYTES_MAX - _HEADER.size  # so that one frame is one Noise message
_STREAM_ID_MAX: Final = 2**32 - 1


class UnreadBudget:
    """Counts the bytes that all connections of a host hold unread, up to `UNREAD_BYTES_TOTAL_MAX`."""

    def __init__(self) -> None:
        self.unread_bytes = 0


def _name(peer_id: Any) -> str:
    """What logs call a peer."""
    try:
        return MailboxId.from_peer_id(str(peer_id.to_base58())).short
    except ValueError:
        return str(peer_id)


class _ProtocolError(Exception):
    """The other side broke Yamux's rules; the connection ends."""


class YamuxStream(IMuxedStream):  # type: ignore[misc]
    """One stream. `read` and `write` raise libp2p's stream exceptions, which its callers understand."""

    def __init__(self, conn: Yamux, stream_id: int, *, opened_by_us: bool) -> None:
        self.muxed_conn = conn
        self.stream_id = stream_id
        self.opened_by_us = opened_by_us
        self._send_window = STREAM_WINDOW_BYTES
        self._receive_window = STREAM_WINDOW_BYTES  # what the peer may still send
        self._window_size = STREAM_WINDOW_BYTES  # what we top it up to
        self._unread = Pieces()
        self._counted_bytes = 0  # of what is unread; nothing any more once the connection has forgotten the stream
        self._broken: str | None = None
        self._end_received = False
        self._end_sent = False
        self._discard = False
        self.for_application = False  # whether a mailbox's own protocol uses it, not libp2p's
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    # --- for consumers ---

    async def read(self, n: int | None = None) -> bytes:
        """1 to `n` bytes (None: what there is). Raises MuxedStreamEOF at the orderly end, MuxedStreamReset if the
        stream or its connection broke."""
        await trio.lowlevel.checkpoint()
        while not len(self._unread):
            if self._end_received:
                raise MuxedStreamEOF("the other side ended the stream")
            if self._broken is not None:
                raise MuxedStreamReset(self._broken)
            await self._readers.park()
        data = self._unread.take(len(self._unread) if n is None or n < 0 else n)
        self.muxed_conn._consumed(self, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Sends everything, waiting while the other side or the socket is slow. A cancelled write leaves whole frames
        behind: the connection stays sound."""
        await trio.lowlevel.checkpoint()
        conn = self.muxed_conn
        view = memoryview(data)
        while view:
            if self._broken is not None:
                raise MuxedStreamReset(self._broken)
            if self._end_sent:
                raise MuxedStreamClosed("the stream was closed by us")
            if self._send_window <= 0:
                await self._writers.park()
            elif conn._queue_is_full():
                await conn._room.park()
            else:
                chunk = view[: min(len(view), self._send_window, _PAYLOAD_BYTES_MAX)]
                self._send_window -= len(chunk)
                conn._enqueue(self, _HEADER.pack(0, _DATA, 0, self.stream_id, len(chunk)), chunk)
                view = view[len(chunk) :]

    async def close(self) -> None:
        """Ends our direction, after everything that was written."""
        if self._broken is None and not self._end_sent:
            self._end_sent = True
            self.muxed_conn._enqueue(self, _HEADER.pack(0, _WINDOW_UPDATE, _FIN, self.stream_id, 0))
            self._writers.unpark_all()
            self.muxed_conn._room.unpark_all()
            self.muxed_conn._forget_if_done(self)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def reset(self) -> None:
        """Throws the stream away in both directions. Never raises, does not wait."""
        if self._broken is None and not (self._end_sent and self._end_received):
            self.muxed_conn._reset_stream(self, "the stream was reset by us")
        else:
            self.muxed_conn._drop_unread(self)
            self.muxed_conn._forget(self)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def finish(self) -> None:
        """For whoever served a stream and is done with it: ends our direction, gives the other side a moment to end
        its own, and then lets go of the stream whatever the other side does. Never raises."""
        await self.close()
        if self.is_closed:
            await self.reset()
            return
        self._discard = True
        self.muxed_conn._drop_unread(self)
        with trio.move_on_after(CLOSE_S):
            while not self._end_received and self._broken is None:
                await self._readers.park()
        if not self._end_received and self._broken is None:
            # In the queue behind our data and our end, so that these still arrive.
            self.muxed_conn._enqueue(self, _HEADER.pack(0, _WINDOW_UPDATE, _RST, self.stream_id, 0))
            self._break_off("the stream was served")
        self.muxed_conn._forget(self)

    def set_deadline(self, ttl: int) -> bool:
        raise NotImplementedError("use trio's cancel scopes")

    def get_remote_address(self) -> tuple[str, int] | None:
        address: tuple[str, int] | None = self.muxed_conn.get_remote_address()
        return address

    @property
    def is_closed(self) -> bool:
        return self._broken is not None or (self._end_sent and self._end_received)

    async def __aenter__(self) -> YamuxStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- for the connection ---

    def _break_off(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
            self._readers.unpark_all()
            self._writers.unpark_all()


class Yamux(IMuxedConn):  # type: ignore[misc]
    """One connection. `start` runs it and returns when it is over; it never raises because of the peer."""

    def __init__(self, secured_conn: Any, peer_id: Any, *, budget: UnreadBudget | None = None) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self._budget = budget if budget is not None else UnreadBudget()
        self._initiator = bool(secured_conn.is_initiator)
        self._next_id = 1 if self._initiator else 2
        self._last_peer_id = 0
        self._streams: dict[int, YamuxStream] = {}
        self._inbound = 0
        self._refused = 0
        self._unread_bytes = 0
        self._failure: str | None = None
        self._scope = trio.CancelScope()
        self._accepted, self._to_accept = trio.open_memory_channel[YamuxStream](STREAMS_PER_PEER_MAX)
        self._frames: deque[tuple[YamuxStream, bytes, bytes | memoryview]] = deque()
        """Whose it is, header and payload."""
        self._queued_bytes = 0
        self._control: deque[bytes] = deque()
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._heard = False
        self._idle_since_s = trio.current_time()
        self._writing_since_s: float | None = None
        self.frames_handled = 0
        """Frames that came, or pieces of one: how much there was to do."""
        # The frame that is being read.
        self._head = bytearray()
        self._body_left = 0
        self._body_stream: YamuxStream | None = None
        self._body_flags = 0

    # --- libp2p's interface ---

    @property
    def is_initiator(self) -> bool:
        return self._initiator

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and self._failure is None

    @property
    def is_closed(self) -> bool:
        return self._failure is not None

    def idle_s(self) -> float:
        """For how long no mailbox's protocol has had a stream here; 0 while one has."""
        if any(stream.for_application for stream in self._streams.values()):
            return 0.0
        return trio.current_time() - self._idle_since_s

    def get_transport_addresses(self) -> list[Any]:
        return []  # nothing here needs them, and building them from IPv6 scope ids raises

    def get_connection_type(self) -> Any:
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        address: tuple[str, int] | None = self.secured_conn.get_remote_address()
        return address

    async def start(self) -> None:
        """Runs the connection until it fails or is closed."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_part, self._read_forever)
                    nursery.start_soon(self._run_part, self._write_forever)
                    nursery.start_soon(self._run_part, self._keep_alive)
                    self.event_started.set()
        finally:
            self.fail("the connection was closed")
            self.event_started.set()
            with trio.move_on_after(CLOSE_S, shield=True):
                await _close_quietly(self.secured_conn)

    async def close(self) -> None:
        """Sends what is queued and a goodbye, then closes. Never raises, takes no more than a few seconds."""
        if not self.is_closed and self.event_started.is_set():
            self._control.append(_HEADER.pack(0, _GO_AWAY, 0, 0, 0))
            self._work.unpark_all()
            with trio.move_on_after(1.0, shield=True):
                while self._failure is None and (self._frames or self._control or self._writing_since_s is not None):
                    await self._drained.park()
        self.fail("the connection was closed by us")
        with trio.move_on_after(CLOSE_S, shield=True):
            await _close_quietly(self.secured_conn)

    async def open_stream(self) -> YamuxStream:
        await trio.lowlevel.checkpoint()
        if self._failure is not None:
            raise MuxedConnUnavailable(self._failure)
        if len(self._streams) - self._inbound >= STREAMS_PER_PEER_MAX:
            raise MuxedStreamError(f"{STREAMS_PER_PEER_MAX} streams are open already")
        if self._next_id > _STREAM_ID_MAX:
            self.fail("all stream numbers are used up")  # a new connection starts afresh
            raise MuxedConnUnavailable("all stream numbers are used up")
        stream = YamuxStream(self, self._next_id, opened_by_us=True)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        self._enqueue(stream, _HEADER.pack(0, _WINDOW_UPDATE, _SYN, stream.stream_id, 0))
        return stream

    async def accept_stream(self) -> YamuxStream:
        try:
            return await self._to_accept.receive()
        except trio.EndOfChannel:
            raise MuxedConnUnavailable(self._failure or "the connection was closed") from None

    def fail(self, reason: str) -> None:
        """Ends the connection at once: every stream breaks with `reason`."""
        if self._failure is not None:
            return
        self._failure = reason
        for stream in list(self._streams.values()):
            self._drop_unread(stream)
            stream._break_off(reason)
        self._streams.clear()
        self._frames.clear()
        self._control.clear()
        self._accepted.close()
        self.event_closed.set()
        for lot in (self._room, self._work, self._drained):
            lot.unpark_all()
        self._scope.cancel()

    # --- sending ---

    def _queue_is_full(self) -> bool:
        return self._queued_bytes >= SEND_QUEUE_BYTES

    def _enqueue(self, stream: YamuxStream, header: bytes, payload: bytes | memoryview = b"") -> None:
        self._frames.append((stream, header, payload))
        self._queued_bytes += len(header) + len(payload)
        self._work.unpark_all()

    def _answer(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        if len(self._control) >= CONTROL_QUEUE_FRAMES_MAX:
            raise _ProtocolError("it makes us answer more than it reads")
        self._control.append(_HEADER.pack(0, kind, flags, stream_id, value))
        self._work.unpark_all()

    def _next_batch(self) -> bytes:
        # Many frames at a time: encryption and system calls are what sending costs.
        parts: list[bytes | memoryview] = []
        size = 0
        while self._control and size < SEND_BATCH_BYTES:
            parts.append(self._control.popleft())
            size += _HEADER.size
        while self._frames and size < SEND_BATCH_BYTES:
            _, header, payload = self._frames.popleft()
            parts += (header, payload)
            self._queued_bytes -= len(header) + len(payload)
            size += len(header) + len(payload)
        return b"".join(parts)

    async def _write_forever(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._room.unpark_all()
                self._writing_since_s = trio.current_time()
                await self.secured_conn.write(batch)
                self._writing_since_s = None
            else:
                self._drained.unpark_all()
                await self._work.park()

    async def _keep_alive(self) -> None:
        unanswered = 0
        ping = 0
        while True:
            await trio.sleep(PING_INTERVAL_S)
            if self._writing_since_s is not None and trio.current_time() - self._writing_since_s > SEND_STALL_S:
                raise _ProtocolError(f"it took nothing from us for {SEND_STALL_S:.0f} s")
            # Counted in ticks, not in time: when we were stopped ourselves, it is not the peer who was silent.
            if self._heard:
                self._heard = False
                unanswered = 0
                continue
            if unanswered >= PING_UNANSWERED_MAX:
                raise _ProtocolError("it does not answer any more")
            unanswered += 1
            ping = (ping + 1) & _STREAM_ID_MAX
            self._answer(_PING, _SYN, 0, ping)

    async def _run_part(self, part: Any) -> None:
        try:
            await part()
        except _ProtocolError as error:
            log.debug("the connection to mailbox %s is cut: %s", _name(self.peer_id), error)
            self.fail(f"the connection was cut: {error}")
        except Exception as error:
            # Whatever the socket, Noise or a forged message raises: it is the end of this connection, not of the host.
            log.debug("the connection to %s is lost: %r", self.peer_id, error)
            self.fail("the connection was lost")

    # --- receiving ---

    async def _read_forever(self) -> None:
        while True:
            chunk = await self.secured_conn.read(None)
            if not chunk:
                raise ConnectionError("closed by the peer")
            self._heard = True
            await self._feed(memoryview(chunk))

    async def _feed(self, chunk: memoryview) -> None:
        while chunk:
            self.frames_handled += 1
            if self.frames_handled % RECEIVE_STRETCH_FRAMES == 0:
                await trio.lowlevel.checkpoint()
            if self._body_left:
                part = chunk[: self._body_left]
                chunk = chunk[len(part) :]
                self._body_left -= len(part)
                self._on_data(part)
                if not self._body_left:
                    self._on_body_end()
                continue
            missing = _HEADER.size - len(self._head)
            self._head += chunk[:missing]
            chunk = chunk[missing:]
            if len(self._head) == _HEADER.size:
                version, kind, flags, stream_id, value = _HEADER.unpack(self._head)
                self._head.clear()
                if version != 0:
                    raise _ProtocolError(f"its Yamux version is {version}")
                self._on_header(kind, flags, stream_id, value)

    def _on_header(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        if kind == _PING:
            if flags & _SYN:
                self._answer(_PING, _ACK, 0, value)
        elif kind == _GO_AWAY:
            raise ConnectionError("it said goodbye")
        elif kind == _WINDOW_UPDATE:
            stream = self._on_stream_frame(flags, stream_id)
            if stream is not None:
                # Capped, because the sum of honest updates never comes near it.
                stream._send_window = min(stream._send_window + value, _STREAM_ID_MAX)
                stream._writers.unpark_all()
                self._on_end_flags(stream, flags)
        elif kind == _DATA:
            stream = self._on_stream_frame(flags, stream_id)
            # Checked before a byte of it is kept. A frame for an unknown stream (we may just have reset it) can be no
            # longer than any window either.
            allowed = STREAM_WINDOW_BYTES_MAX if stream is None else stream._receive_window
            if value > allowed:
                raise _ProtocolError(f"it sent {value} bytes where {allowed} were allowed")
            if stream is not None:
                stream._receive_window -= value
            self._body_left, self._body_stream, self._body_flags = value, stream, flags
            if not value:
                self._on_body_end()
        else:
            raise _ProtocolError(f"it sent a frame of unknown type {kind}")

    def _on_stream_frame(self, flags: int, stream_id: int) -> YamuxStream | None:
        if not flags & _SYN:
            return self._streams.get(stream_id)
        if stream_id % 2 == (1 if self._initiator else 0) or stream_id <= self._last_peer_id:
            raise _ProtocolError(f"it opened stream {stream_id}, which is not its next")
        self._last_peer_id = stream_id
        # Counted until *we* are done with it, not until the peer resets it: opening and resetting in a loop must not
        # start more tasks than staying open.
        if self._inbound >= STREAMS_PER_PEER_MAX:
            self._refused += 1
            if self._refused > REFUSED_STREAMS_MAX:
                raise _ProtocolError("it opens streams without end")
            self._answer(_WINDOW_UPDATE, _RST, stream_id, 0)
            return None
        stream = YamuxStream(self, stream_id, opened_by_us=False)
        self._streams[stream_id] = stream
        self._inbound += 1
        self._answer(_WINDOW_UPDATE, _ACK, stream_id, 0)
        self._accepted.send_nowait(stream)  # has room for every stream that we allow
        return stream

    def _on_data(self, part: memoryview) -> None:
        stream = self._body_stream
        if stream is None or stream._broken is not None or stream._end_received or stream._discard:
            return
        if (
            self._unread_bytes + len(part) > UNREAD_BYTES_PER_CONNECTION_MAX
            or self._budget.unread_bytes + len(part) > UNREAD_BYTES_TOTAL_MAX
        ):
            self._reset_stream(stream, "too much was sent that nobody has read yet")
            return
        stream._unread.add(part)
        stream._counted_bytes += len(part)
        self._unread_bytes += len(part)
        self._budget.unread_bytes += len(part)
        stream._readers.unpark_all()

    def _on_body_end(self) -> None:
        if self._body_stream is not None:
            self._on_end_flags(self._body_stream, self._body_flags)
            self._body_stream = None

    def _on_end_flags(self, stream: YamuxStream, flags: int) -> None:
        if flags & _RST:
            self._drop_frames(stream)
            stream._break_off("the other side reset the stream")
            if stream.opened_by_us:
                self._forget(stream)
        elif flags & _FIN:
            stream._end_received = True
            stream._readers.unpark_all()
            self._forget_if_done(stream)

    # --- bookkeeping ---

    def _consumed(self, stream: YamuxStream, size: int) -> None:
        self._count_off(stream, size)
        if stream._broken is not None or stream._end_received or self._failure is not None:
            return
        used = stream._window_size - stream._receive_window - len(stream._unread)
        if used * 2 >= stream._window_size:
            # The reader keeps up, so a larger window makes a long path faster.
            if stream._window_size < STREAM_WINDOW_BYTES_MAX:
                stream._window_size *= 2
            grant = stream._window_size - stream._receive_window - len(stream._unread)
            stream._receive_window += grant
            try:
                self._answer(_WINDOW_UPDATE, 0, stream.stream_id, grant)
            except _ProtocolError as error:
                self.fail(f"the connection was cut: {error}")

    def _count_off(self, stream: YamuxStream, size: int) -> None:
        size = min(size, stream._counted_bytes)
        stream._counted_bytes -= size
        self._unread_bytes -= size
        self._budget.unread_bytes -= size

    def _drop_unread(self, stream: YamuxStream) -> None:
        self._count_off(stream, len(stream._unread))
        stream._unread.clear()

    def _drop_frames(self, stream: YamuxStream) -> None:
        if any(owner is stream for owner, _, _ in self._frames):
            self._frames = deque(entry for entry in self._frames if entry[0] is not stream)
            self._queued_bytes = sum(len(header) + len(payload) for _, header, payload in self._frames)
            self._room.unpark_all()

    def _reset_stream(self, stream: YamuxStream, reason: str) -> None:
        self._drop_unread(stream)
        if self._failure is None:
            opening = any(owner is stream and header[2:4] == b"\0\1" for owner, header, _ in self._frames)
            self._drop_frames(stream)
            if not opening:  # else the other side has never heard of it
                try:
                    self._answer(_WINDOW_UPDATE, _RST, stream.stream_id, 0)
                except _ProtocolError as error:
                    self.fail(f"the connection was cut: {error}")
        stream._break_off(reason)
        self._room.unpark_all()
        self._forget(stream)

    def _forget_if_done(self, stream: YamuxStream) -> None:
        if stream._end_sent and stream._end_received:
            self._forget(stream)

    def _forget(self, stream: YamuxStream) -> None:
        if self._streams.pop(stream.stream_id, None) is not None:
            # What nobody reads goes with the stream; who still does may.
            self._count_off(stream, stream._counted_bytes)
            if not stream.opened_by_us:
                self._inbound -= 1
            if stream.for_application:
                self._idle_since_s = trio.current_time()


async def _close_quietly(conn: Any) -> None:
    try:
        await conn.close()
    except Exception as error:
        log.debug("closing a connection: %r", error)
