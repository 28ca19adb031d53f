"""Frames out of a stream, for the small protocols; a sync's driver counts and waits in its own way."""

from __future__ import annotations

from node.transport.api import Stream
from protocols.sync.wire import FrameDecoder

__all__ = ["next_frame"]


async def next_frame(stream: Stream, decoder: FrameDecoder, *, piece_bytes: int = 65536) -> bytes | None:
    """The next whole frame, read in pieces of so many bytes at the most; None if the stream ends before it does. Raises
    StreamBroken, and RemoteProtocolError for a frame that `decoder` finds too long."""
    while (frame := decoder.next_frame()) is None:
        data = await stream.receive_some(piece_bytes)
        if not data:
            return None
        decoder.feed(data)
    return frame
