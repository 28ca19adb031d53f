"""The driver carries out what a session asks of the world, and ends it when the world fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from node.store.api import Arrival, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from node.sync.claims import Claims
from node.sync.driver import SessionTraffic, run_session
from node.sync.index import LogIndex
from node.transport.api import Stream
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import SYNC_COMMITS_UNDER_WAY_MAX, SYNC_FRAME_TIMEOUT_S
from protocols.model import LogName, MailboxId, digest_of
from protocols.sync.effects import Claim, Commit, Delivery, Receive, Release, Send, SessionAborted, Settle, Span
from protocols.sync.session import SessionResult
from protocols.sync.wire import encode_frame

LOG = LogName("t", "l")
Session = Generator[Any, Any, SessionResult]


class Pipe(Stream):
    """A stream from which some pieces come, and then its end, or nothing more; it takes `room` bytes."""

    peer = MailboxId(bytes(32))

    def __init__(self, *pieces: bytes, ends: bool = True, room: float = math.inf) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.room = room
        self.sent = b""

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.room -= len(data)
        if self.room < 0:
            await trio.sleep_forever()
        self.sent += data

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces and not self.ends:
            await trio.sleep_forever()
        return self.pieces.pop(0) if self.pieces else b""

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def abort(self) -> None:
        await trio.lowlevel.checkpoint()


class SlowStore(MemoryStore):
    """Takes a second for each batch; `fails` says what becomes of it."""

    fails: Exception | None = None
    under_way = most_under_way = batches = 0

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None) -> Any:
        self.batches += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(1)
        self.under_way -= 1
        if self.fails is not None:
            raise self.fails
        return await super().put(arrivals, origin=origin)


def delivery(seq: int) -> Delivery:
    return Delivery(LOG, seq, b"%d" % seq, digest_of(b"%d" % seq), 100)


async def drive(
    session: Session,
    *,
    stream: Stream | None = None,
    store: MemoryStore | None = None,
    claims: Claims | None = None,
    traffic: SessionTraffic | None = None,
    is_full: Callable[[], bool] = lambda: False,
    alive_from_s: Callable[[], int] = lambda: 0,
) -> SessionResult:
    async with MemoryStore() as other:
        return await run_session(
            session,
            stream or Pipe(),
            store=store or other,
            index=LogIndex(store or other),
            claims=claims or Claims(now_at=trio.current_time),
            traffic=traffic or SessionTraffic(),
            is_full=is_full,
            alive_from_s=alive_from_s,
            turns=trio.Lock(),
        )


async def test_what_has_died_since_it_was_asked_for_is_not_stored() -> None:
    def session() -> Session:
        yield Commit([delivery(2)._replace(first_stored_s=300)])
        assert not (yield Settle())
        yield Commit([delivery(1)])
        assert (yield Settle())  # so that nobody looks for it again
        return SessionResult()

    store = MemoryStore()
    await drive(session(), store=store, alive_from_s=lambda: 200)
    assert [item.seq for item in await store.items(LOG, 0, 9)] == [2]


async def test_frames_that_are_followed_by_others_go_out_with_them() -> None:
    pieces: list[bytes] = []

    class Recorded(Pipe):
        async def send_all(self, data: bytes) -> None:
            pieces.append(data)
            await super().send_all(data)

    def session() -> Session:
        yield Send(b"one", is_followed=True)
        yield Settle()
        yield Send(b"two", is_followed=True)
        yield Send(b"three")
        yield Send(b"four")
        return SessionResult()

    traffic = SessionTraffic()
    await drive(session(), stream=Recorded(), traffic=traffic)
    first = b"".join(map(encode_frame, (b"one", b"two", b"three")))
    assert pieces == [first, encode_frame(b"four")]
    assert traffic.bytes_out == sum(map(len, pieces))


def claiming(seen: list[Any], *spans: Span) -> Session:
    seen.append((yield Claim(spans)).spans)
    return SessionResult()


async def test_nothing_is_claimed_without_room() -> None:
    for is_full in (True, False):
        seen: list[Any] = []
        traffic = SessionTraffic()
        await drive(claiming(seen, Span(LOG, 0, 9)), traffic=traffic, is_full=lambda is_full=is_full: is_full)
        assert seen == [[] if is_full else [Span(LOG, 0, 9)]]
        assert traffic.full == is_full


async def test_what_a_failed_session_claimed_is_free_and_what_a_good_one_did_is_not() -> None:
    def failing() -> Session:
        yield Claim([Span(LOG, 0, 9)])
        raise RemoteProtocolError("malformed", "a lie")

    claims = Claims(now_at=trio.current_time)
    earlier = claims.begin()
    with pytest.raises(RemoteProtocolError):
        await drive(failing(), claims=claims)
    assert claims.take(earlier, [Span(LOG, 0, 4)]) == [Span(LOG, 0, 4)]
    await drive(claiming([], Span(LOG, 5, 9)), claims=claims)
    assert claims.take(earlier, [Span(LOG, 0, 9)]) == [Span(LOG, 0, 4)]


async def test_what_did_not_come_is_released() -> None:
    def session() -> Session:
        yield Claim([Span(LOG, 0, 9)])
        yield Release([Span(LOG, 3, 3)], [Span(LOG, 0, 2)])
        return SessionResult()

    claims = Claims(now_at=trio.current_time)
    earlier = claims.begin()
    await drive(session(), claims=claims)
    assert claims.take(earlier, [Span(LOG, 0, 9)]) == [Span(LOG, 3, 3)]


async def test_a_session_ends_when_all_is_stored(autojump_clock: MockClock) -> None:
    def session() -> Session:
        for seq in range(10):
            yield Commit([delivery(seq)], watermarks=[(LOG, 4)] if seq == 9 else ())
        return SessionResult()

    async with SlowStore() as store:
        await drive(session(), store=store)
        assert [item.seq for item in await store.items(LOG, 0, 99)] == list(range(10))
        assert store.most_under_way == SYNC_COMMITS_UNDER_WAY_MAX


async def test_watermarks_are_adopted(autojump_clock: MockClock) -> None:
    def session() -> Session:
        yield Commit([delivery(5)], watermarks=[(LOG, 7)])
        return SessionResult()

    async with SlowStore() as store:
        await drive(session(), store=store)
        assert (await store.watermarks([LOG]))[LOG] == 5


@pytest.mark.parametrize("failure", [StoreFull("no room"), StoreUnavailable("a bad sector")])
@pytest.mark.parametrize("then", ["more", "settle", "wait and settle", "end"])
async def test_a_store_that_fails_ends_the_session(failure: Exception, then: str, autojump_clock: MockClock) -> None:
    """At the next batch, or when it is to be durable: nothing is acknowledged that is not stored."""

    def session() -> Session:
        yield Commit([delivery(0)])
        if then == "more":
            for seq in range(1, 100):
                yield Commit([delivery(seq)])
        elif then == "wait and settle":
            yield Receive()
            yield Receive()
        if then != "end":
            yield Settle()
            raise AssertionError("it goes on")
        return SessionResult()

    class Waits(Pipe):
        async def receive_some(self, max_bytes: int) -> bytes:
            await trio.sleep(2)
            return b""

    traffic = SessionTraffic()
    async with SlowStore() as store:
        store.fails = failure
        with pytest.raises(SessionAborted, match=str(failure)):
            await drive(session(), store=store, stream=Waits(), traffic=traffic)
        assert store.batches <= 2 * SYNC_COMMITS_UNDER_WAY_MAX, "it went on"
    assert traffic.full == isinstance(failure, StoreFull)


def receiving(frames: list[Any]) -> Session:
    while (frame := (yield Receive())) is not None:
        frames.append(frame)
    return SessionResult()


async def test_frames_come_in_pieces_and_the_stream_ends_between_two() -> None:
    frames: list[Any] = []
    data = encode_frame(b"one") + encode_frame(b"two")
    traffic = SessionTraffic()
    await drive(receiving(frames), stream=Pipe(data[:5], data[5:9], data[9:]), traffic=traffic)
    assert frames == [b"one", b"two"]
    assert (traffic.bytes_in, traffic.bytes_out) == (len(data), 0)


async def test_a_stream_that_ends_within_a_frame_is_broken() -> None:
    frames: list[Any] = []
    for cut in (1, 4, 6):
        with pytest.raises(SessionAborted, match="in the middle of a message"):
            await drive(receiving(frames), stream=Pipe(encode_frame(b"whole"), encode_frame(b"two")[:cut]))
    assert frames == [b"whole"] * 3


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_who_sends_no_whole_frame_is_not_waited_for(pieces: int, autojump_clock: MockClock) -> None:
    stream = Pipe(*[b"\0"] * min(pieces, 3), *[b"\5"] * max(0, pieces - 3), ends=False)
    begun_at = trio.current_time()
    with pytest.raises(SessionAborted, match="no whole message"):
        await drive(receiving([]), stream=stream)
    assert trio.current_time() - begun_at == pytest.approx(SYNC_FRAME_TIMEOUT_S, abs=1.0)


async def test_who_takes_nothing_is_not_waited_for(autojump_clock: MockClock) -> None:
    def session() -> Session:
        for _ in range(3):
            yield Send(bytes(96))
        return SessionResult()

    traffic = SessionTraffic()
    begun_at = trio.current_time()
    with pytest.raises(SessionAborted, match="took nothing"):
        await drive(session(), stream=Pipe(room=250), traffic=traffic)
    assert trio.current_time() - begun_at == pytest.approx(SYNC_FRAME_TIMEOUT_S, abs=1.0)
    assert traffic.bytes_out == 200


async def test_a_slow_session_that_goes_on_is_waited_for(autojump_clock: MockClock) -> None:
    """The patience is for one frame, not for all; our own store may take its time, too."""

    class Slow(Pipe):
        async def receive_some(self, max_bytes: int) -> bytes:
            await trio.sleep(0.9 * SYNC_FRAME_TIMEOUT_S)
            return await super().receive_some(max_bytes)

    def session() -> Session:
        for seq in range(3):
            assert (yield Receive()) == b"x"
            for _ in range(40):
                yield Commit([delivery(seq)])
            yield Settle()
        return SessionResult()

    async with SlowStore() as store:
        await drive(session(), store=store, stream=Slow(*[encode_frame(b"x")] * 3))


async def test_a_session_is_closed_when_it_is_cancelled() -> None:
    closed: list[str] = []

    def session() -> Session:
        try:
            yield Receive()
        finally:
            closed.append("closed")
        return SessionResult()

    claims = Claims(now_at=trio.current_time)
    with trio.move_on_after(0.01):
        running = session()
        await drive(running, stream=Pipe(ends=False), claims=claims)
    assert closed == ["closed"]
    assert running.gi_frame is None
    assert claims.held == 0
