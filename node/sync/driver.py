"""Runs one sync session over one stream: carries out the effects that the sans-IO session asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from node.aside import processor_s
from node.signed import SignedOnly
from node.store.api import PutResult, Store, StoredItem, StoreError, StoreFull
from node.sync.claims import ClaimHolder, Claims
from node.sync.index import LogIndex
from node.transport.api import Stream, StreamBroken
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import SYNC_COMMITS_UNDER_WAY_MAX, SYNC_FRAME_TIMEOUT_S, SYNC_RECEIVE_BYTES
from protocols.limits.units import KIB
from protocols.sync.deliveries import Deliveries
from protocols.sync.effects import (
    Claim,
    Commit,
    Delivery,
    Effect,
    GiveWay,
    Granted,
    OpenView,
    ReadItems,
    ReadMessages,
    ReadWatermarks,
    Receive,
    Release,
    Send,
    SessionAborted,
    Settle,
    Span,
)
from protocols.sync.session import SessionRefused, SessionResult
from protocols.sync.wire import FrameDecoder, encode_frame

__all__ = ["Patience", "SessionTraffic", "run_session"]

_SLACK_S: Final = 1.0
"""So much longer than need be a wait may take."""

_LIGHT_ROWS: Final = 1024
_LIGHT_BYTES: Final = 8 * KIB
"""So many logs are hashed, and so many bytes understood, in less than a millisecond or two."""

_ITEM_BYTES: Final = 64


@dataclass(slots=True)
class SessionTraffic:
    """What went over the wire, length prefixes included, and whether the store ran out of room. `processor_s` is the
    processor time of its turns."""

    bytes_in: int = 0
    bytes_out: int = 0
    processor_s: float = 0.0
    full: bool = False
    unsigned: bool = False
    """Whether something was left because this mailbox takes signed messages only."""

    @property
    def leaves(self) -> bool:
        """Whether we have left something: trying again at once would change nothing."""
        return self.full or self.unsigned


@dataclass(eq=False, slots=True)
class Patience:
    """How long a session may take as a whole (until `ends_at`, trio's clock), and how long it waits for its peer: one
    scope for both, as a new one for each wait was a tenth of what an idle session cost."""

    ends_at: float = math.inf
    why_ended: str = "it took too long; it goes on"
    """What the session failed for if it has to end for none of the waits."""
    scope: trio.CancelScope = field(init=False)
    _failing: str = ""
    _is_over: bool = False

    def __post_init__(self) -> None:
        self.scope = trio.CancelScope(deadline=self.ends_at)

    def wait(self, failing: str) -> None:
        """What follows ends the session, for this reason, if it takes too long. One deadline serves for all waits of a
        moment."""
        self._failing = failing
        soonest_at = trio.current_time() + SYNC_FRAME_TIMEOUT_S
        if not soonest_at <= self.scope.deadline < self.ends_at:
            self.scope.deadline = min(soonest_at + _SLACK_S, self.ends_at)

    def rest(self) -> None:
        """What follows is nothing that the peer has a part in."""
        self._failing = ""
        if self.scope.deadline != self.ends_at:
            self.scope.deadline = self.ends_at

    def end(self, why: str) -> None:
        """Ends the session."""
        self._is_over, self.why_ended = True, why
        self.scope.cancel()

    @property
    def reason(self) -> str:
        """Why the session has ended, if the scope has ended it."""
        if self._is_over or not self._failing or trio.current_time() >= self.ends_at:
            return self.why_ended
        return f"{self._failing} for {SYNC_FRAME_TIMEOUT_S:.0f} s"


@dataclass(slots=True)
class _Driver:
    stream: Stream
    store: Store
    index: LogIndex
    claims: Claims
    holder: ClaimHolder
    traffic: SessionTraffic
    patience: Patience
    is_full: Callable[[], bool]
    is_at_limit: Callable[[], bool]
    is_news: bool
    alive_from_s: Callable[[], int]
    signed_only: SignedOnly | None
    on_progress: Callable[[], None]
    go_on: Callable[[], None]
    turns: trio.Lock
    stack: AsyncExitStack
    nursery: trio.Nursery | None = None
    """For what is stored beside the session; most sessions have no need of it."""
    next_commit: Commit | None = None
    """Not begun yet: mostly there is nothing to do but wait for it, which needs no task of its own."""
    decoder: FrameDecoder = field(default_factory=FrameDecoder)
    unsent: bytes = b""
    """Frames that go out with the next one."""
    slots: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(SYNC_COMMITS_UNDER_WAY_MAX))
    has_let_die: bool = False
    failure: StoreError | None = None
    rows: int = 0
    """In the last picture."""
    frame_bytes: int = 0
    """Of the last frame that came."""
    read_bytes: int = 0
    """Of what was read last, about."""

    @property
    def is_light(self) -> bool:
        """Whether the session has nothing to do before its next effect that takes longer than a moment, so that it
        needs not wait for its turn: in mailboxes that hold the same, waiting would be a fifth of what it costs."""
        return self.rows <= _LIGHT_ROWS and self.frame_bytes <= _LIGHT_BYTES and self.read_bytes <= _LIGHT_BYTES

    async def perform(self, effect: Effect) -> object:
        """The result of one effect. Raises SessionAborted if it can't be had, RemoteProtocolError for a bad frame,
        SessionRefused if it is not to be had any more."""
        try:
            match effect:
                case Receive():
                    if self.next_commit is not None:
                        await self._begin()
                    return await self._receive()
                case Send(frame, is_followed):
                    if self.next_commit is not None:
                        await self._begin()
                    self.unsent += encode_frame(frame)
                    if not is_followed:
                        await self._send()
                    return None
                case Settle():
                    await self._settle()
                    return self.has_let_die
                case Release(lost, came):
                    self.claims.release(self.holder, lost, came)
                    return None
                case Commit():
                    self.on_progress()
                    await self._commit(effect)
                    return None
                case _:
                    await self._begin()
                    self.patience.rest()
                    return await self._perform_here(effect)
        except StreamBroken as error:
            raise SessionAborted(f"the connection broke: {error}") from error
        except StoreError as error:
            raise SessionAborted(str(error)) from error

    async def _perform_here(self, effect: Effect) -> object:
        """An effect that the peer has no part in."""
        match effect:
            case OpenView(alive_from_s, interest):
                view = await self.index.view(alive_from_s, interest)
                self.rows = len(view)
                return view
            case ReadItems(spans):
                items = await self.store.items_of(spans)
                self.read_bytes = _ITEM_BYTES * sum(map(len, items))
                return items
            case ReadMessages(spans, alive_from_s, page_bytes, after):
                self.on_progress()
                page = await self.store.messages(spans, alive_from_s=alive_from_s, page_bytes=page_bytes, after=after)
                self.read_bytes = _ITEM_BYTES * len(page) + len(page.data)
                return page
            case ReadWatermarks(names):
                known = await self.store.watermarks(names)
                return [known[name] for name in names]
            case Claim(spans):
                return await self._claim(spans)
            case GiveWay():
                await trio.lowlevel.checkpoint()
                return None
            case _:
                raise AssertionError(effect)

    async def _send(self) -> None:
        data, self.unsent = self.unsent, b""
        self.patience.wait("the peer took nothing")
        await self.stream.send_all(data)
        self.traffic.bytes_out += len(data)

    async def _receive(self) -> bytes | None:
        self.go_on()
        self.patience.wait("the peer sent no whole message")
        while (frame := self.decoder.next_frame()) is None:
            data = await self.stream.receive_some(SYNC_RECEIVE_BYTES)
            self.traffic.bytes_in += len(data)
            if not data:
                if not self.decoder.at_boundary:
                    raise SessionAborted("the connection ended in the middle of a message")
                break
            self.decoder.feed(data)
        self.frame_bytes = len(frame or b"")
        return frame

    async def _claim(self, spans: Sequence[Span]) -> Granted:
        if self.is_full():
            self.traffic.full = True
            return Granted([])
        if self.signed_only is not None:
            worth = self.signed_only.worth_asking(spans)
            self.traffic.unsigned = self.traffic.unsigned or len(worth) < len(spans)
            spans = worth
        admitted = await self.store.admit(
            spans, origin=self.stream.peer, is_full=self.is_at_limit(), is_news=self.is_news
        )
        wanted, no_room = self.claims.affordable(admitted.wanted)
        self.traffic.full = self.traffic.full or bool(admitted.refused or no_room)
        # What there was no room for is treated as what was let go to make room: it is not to come, for now.
        return Granted(self.claims.take(self.holder, wanted), [*admitted.evicted, *no_room])

    async def _commit(self, commit: Commit) -> None:
        self._check()
        before = self.next_commit
        if before is not None and not commit.deliveries:
            # What belongs to the messages just received comes behind them, in the same turn.
            merges, watermarks = [*before.merges, *commit.merges], [*before.watermarks, *commit.watermarks]
            self.next_commit = Commit(before.deliveries, merges, watermarks)
            return
        await self._begin()
        self.next_commit = commit

    async def _begin(self) -> None:
        """Stores beside the session what the last commit was about."""
        commit, self.next_commit = self.next_commit, None
        if commit is None:
            return
        self.patience.rest()
        await self.slots.acquire()
        if self.nursery is None:
            self.nursery = await self.stack.enter_async_context(trio.open_nursery())
        self.nursery.start_soon(self._store_beside, commit)

    async def _store_beside(self, commit: Commit) -> None:
        try:
            await self._store(commit)
        finally:
            self.slots.release()

    async def store_last(self) -> None:
        """Stores here and now what the last commit was about."""
        commit, self.next_commit = self.next_commit, None
        if commit is not None:
            self.patience.rest()
            await self._store(commit)

    async def _store(self, commit: Commit) -> None:
        peer = self.stream.peer
        try:
            alive_from_s = self.alive_from_s()  # a session may last, and a clock may be set meanwhile
            alive = Deliveries.of(commit.deliveries).from_s(alive_from_s)
            self.has_let_die = self.has_let_die or len(alive) < len(commit.deliveries)
            deliveries: Sequence[Delivery] = alive
            if self.signed_only is not None:
                deliveries = await self.signed_only.genuine(alive)
                self.traffic.unsigned = self.traffic.unsigned or len(deliveries) < len(alive)
            watermarks = dict(commit.watermarks)
            if deliveries:
                reached = (await self._put(deliveries)).watermarks
                # Mostly the messages themselves have brought it there, and there is nothing more to be committed.
                watermarks = {name: n for name, n in watermarks.items() if _is_below(reached.get(name), n)}
            if commit.merges:
                await self.store.merge([StoredItem(name, item) for name, item in commit.merges], origin=peer)
            if watermarks:
                await self.store.adopt_watermarks(watermarks)
        except StoreError as error:
            self.traffic.full = self.traffic.full or isinstance(error, StoreFull)
            self.failure = self.failure or error

    async def _put(self, deliveries: Sequence[Delivery]) -> PutResult:
        """Stores messages; if there is no room for all, at least those that are small beside the largest one. Raises
        StoreError."""
        try:
            return await self.store.put(deliveries, origin=self.stream.peer)
        except StoreFull:
            largest_bytes = max(len(delivery.blob) for delivery in deliveries)
            refused = [delivery for delivery in deliveries if 2 * len(delivery.blob) >= largest_bytes]
            others = [delivery for delivery in deliveries if 2 * len(delivery.blob) < largest_bytes]
            try:
                if others:
                    await self.store.put(others, origin=self.stream.peer)
            except StoreFull:
                refused += others
            self.claims.refuse([Span(one.name, one.seq, one.seq) for one in refused])
            raise

    async def _settle(self) -> None:
        await self.store_last()
        if self.slots.value == SYNC_COMMITS_UNDER_WAY_MAX:  # nothing is being stored
            self._check()
            return
        self.patience.rest()
        for _ in range(SYNC_COMMITS_UNDER_WAY_MAX):
            await self.slots.acquire()
        for _ in range(SYNC_COMMITS_UNDER_WAY_MAX):
            self.slots.release()
        self._check()

    def _check(self) -> None:
        if self.failure:
            raise self.failure


def _is_below(watermark: int | None, other: int) -> bool:
    return watermark is None or watermark < other


async def run_session(
    session: Generator[Effect, Any, SessionResult],
    stream: Stream,
    *,
    store: Store,
    index: LogIndex,
    claims: Claims,
    traffic: SessionTraffic,
    is_full: Callable[[], bool],
    is_at_limit: Callable[[], bool] = lambda: False,
    is_news: bool = False,
    alive_from_s: Callable[[], int] = lambda: 0,
    turns: trio.Lock,
    signed_only: SignedOnly | None = None,
    on_progress: Callable[[], None] = lambda: None,
    patience: Patience | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> SessionResult:
    """Drives `session` to its end and counts its bytes in `traffic`. With `is_full` nothing is taken; with
    `is_at_limit` only what may push out others (see `Store.admit`, also for `is_news`), with `signed_only` only what is
    signed; never what has died since it was asked for, going by `alive_from_s`. What takes some time to compute
    is done in `turns`, so that everybody else waits for one session at a time. `on_progress` is called whenever
    messages are moved, `go_on` before each wait for the peer: it may raise SessionRefused. `patience` bounds the whole
    session, and ends it if its holder wishes.

    Raises SessionAborted (the world failed), RemoteProtocolError (the peer broke the protocol) or SessionRefused. What
    was committed until then stays. The stream is neither closed nor aborted here.
    """
    holder = claims.begin()
    patience = patience or Patience()
    outcome: SessionResult | Exception | None = None
    try:
        stack = AsyncExitStack()
        driver = _Driver(
            stream,
            store,
            index,
            claims,
            holder,
            traffic,
            patience,
            is_full,
            is_at_limit,
            is_news,
            alive_from_s,
            signed_only,
            on_progress,
            go_on,
            turns,
            stack,
        )
        with patience.scope:
            async with stack:
                try:
                    outcome = await _drive(session, driver)
                except Exception as error:
                    outcome = error  # raised outside the nursery, so that it doesn't come wrapped in a group
                    await driver.store_last()
                    patience.rest()
        if outcome is None:
            outcome = SessionAborted(patience.reason)
    finally:
        session.close()
        claims.end(holder, in_good_order=isinstance(outcome, SessionResult))
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None
    return outcome


async def _drive(session: Generator[Effect, Any, SessionResult], driver: _Driver) -> SessionResult:
    result: object = None
    failure: Exception | None = None
    while True:
        try:
            if driver.is_light:
                effect = _step(session, result, failure, driver.traffic)
            else:
                async with driver.turns:
                    effect = _step(session, result, failure, driver.traffic)
        except StopIteration as stop:
            await driver.perform(Settle())
            value: SessionResult = stop.value
            return value
        failure = None
        try:
            result = await driver.perform(effect)
        except (SessionAborted, SessionRefused, RemoteProtocolError) as error:
            failure = error


def _step(
    session: Generator[Effect, Any, SessionResult],
    result: object,
    failure: Exception | None,
    traffic: SessionTraffic,
) -> Effect:
    """One turn of the session, measured."""
    begun_s = processor_s()
    try:
        return session.throw(failure) if failure else session.send(result)
    finally:
        traffic.processor_s += processor_s() - begun_s
