"""Yamux against an other side that says exactly what a test has it say: what is counted as unread is given back."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from trio.testing import memory_stream_pair

from node.transport.libp2p_yamux import UnreadBudget, Yamux, YamuxStream
from protocols.limits.transport import RECEIVE_STRETCH_FRAMES, STREAM_WINDOW_BYTES

HEADER = struct.Struct("!BBHII")  # version, type, flags, stream id, length
DATA, WINDOW_UPDATE = 0, 1
SYN, ACK, FIN, RST = 1, 2, 4, 8


class Encrypted:
    """What Yamux takes for a connection under Noise."""

    is_initiator = True

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(n))

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()


@dataclass(frozen=True, slots=True)
class Pair:
    """Our end, and the raw bytes of the other one."""

    ours: Yamux
    budget: UnreadBudget
    theirs: Any

    async def say(self, kind: int, flags: int, stream: YamuxStream, data: bytes = b"") -> None:
        await self.theirs.send_all(HEADER.pack(0, kind, flags, stream.stream_id, len(data)) + data)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with connected() as both:
        yield both


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    ours, theirs = memory_stream_pair()
    budget = UnreadBudget()
    muxed = Yamux(Encrypted(ours), "other", budget=budget)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxed.start)
        await muxed.event_started.wait()
        yield Pair(muxed, budget, theirs)
        nursery.cancel_scope.cancel()


async def test_what_is_left_unread_at_the_end_is_counted_off(pair: Pair) -> None:
    """Else whoever answers more than we read would use up, bit by bit, what all may hold unread."""
    for _ in range(20):
        stream = await pair.ours.open_stream()
        await pair.say(DATA, ACK, stream, bytes(STREAM_WINDOW_BYTES // 2))
        assert pair.budget.unread_bytes == STREAM_WINDOW_BYTES // 2
        await pair.say(WINDOW_UPDATE, FIN, stream)
        await stream.close()
        assert pair.budget.unread_bytes == 0


async def test_what_comes_after_we_ended_is_counted_off(pair: Pair) -> None:
    stream = await pair.ours.open_stream()
    await stream.close()
    await pair.say(DATA, ACK, stream, bytes(1000))
    assert pair.budget.unread_bytes == 1000
    await pair.say(WINDOW_UPDATE, FIN, stream)
    assert pair.budget.unread_bytes == 0


async def test_who_has_ended_may_read_to_the_end(pair: Pair) -> None:
    stream = await pair.ours.open_stream()
    await stream.close()
    await pair.say(DATA, ACK, stream, b"all of it")
    await pair.say(WINDOW_UPDATE, FIN, stream)
    assert await stream.read(3) == b"all"
    assert await stream.read() == b" of it"
    with pytest.raises(MuxedStreamEOF):
        await stream.read()
    assert pair.budget.unread_bytes == 0


async def test_nothing_is_kept_that_comes_after_the_end(pair: Pair) -> None:
    stream = await pair.ours.open_stream()
    await pair.say(DATA, ACK | FIN, stream, b"the end")
    await pair.say(DATA, 0, stream, b"and more")
    assert pair.budget.unread_bytes == len(b"the end")
    assert await stream.read() == b"the end"
    with pytest.raises(MuxedStreamEOF):
        await stream.read()


async def test_a_body_in_pieces_across_our_end(pair: Pair) -> None:
    stream = await pair.ours.open_stream()
    await pair.theirs.send_all(HEADER.pack(0, DATA, ACK | FIN, stream.stream_id, 8) + b"half")
    await trio.testing.wait_all_tasks_blocked()
    await stream.close()
    await pair.theirs.send_all(b"more")
    await trio.testing.wait_all_tasks_blocked()
    assert pair.budget.unread_bytes == 0
    assert await stream.read() == b"halfmore"


async def test_a_reset_counts_off(pair: Pair) -> None:
    stream = await pair.ours.open_stream()
    await pair.say(DATA, ACK, stream, bytes(1000))
    await pair.say(WINDOW_UPDATE, RST, stream)
    assert pair.budget.unread_bytes == 0


async def test_the_end_of_the_connection_counts_off() -> None:
    async with connected() as pair:
        for flags in (0, FIN):
            stream = await pair.ours.open_stream()
            await pair.say(DATA, ACK | flags, stream, bytes(1000))
        assert pair.budget.unread_bytes == 2000
        pair.ours.fail("it is over")
        assert pair.budget.unread_bytes == 0


class ReadAhead(Encrypted):
    """Has received everything already: like the real one it waits only for what has not come yet."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(memory_stream_pair()[0])
        self._pieces = pieces

    async def read(self, n: int | None = None) -> bytes:
        return self._pieces.pop(0) if self._pieces else await super().read(n)


async def test_thousands_of_frames_that_come_together_hold_nobody_up() -> None:
    for_nobody = HEADER.pack(0, WINDOW_UPDATE, 0, 98, 0)
    count = 20 * RECEIVE_STRETCH_FRAMES
    muxed = Yamux(ReadAhead([for_nobody * count, *([for_nobody] * count)]), "other")
    at_turns = [0]

    async def others() -> None:
        while muxed.frames_handled < 2 * count:
            await trio.lowlevel.checkpoint()
            at_turns.append(muxed.frames_handled)
        muxed.fail("the test is over")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await muxed.start()
    assert max(now - before for before, now in pairwise(at_turns)) <= 2 * RECEIVE_STRETCH_FRAMES
