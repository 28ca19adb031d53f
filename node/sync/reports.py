"""Convergence reports: asks another mailbox for one, and answers those who ask. See `protocols/report/report.md`.

The asker looks at what it holds before and after the other one states what it holds. If nothing changed in between,
there is a moment at which both statements are true, whatever the clocks say; else both state again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import trio

from node.admission.doorkeeper import Doorkeeper
from node.identity import Identity
from node.mailbox import Mailbox
from node.store.api import StoreError
from node.sync.index import IndexView, LogIndex
from node.transport.api import PeerUnreachable, Stream, StreamBroken, Transport
from node.transport.frames import next_frame
from protocols.errors import RemoteProtocolError
from protocols.limits.sync import (
    REPORT_ANSWERS_MAX,
    REPORT_NONCE_BYTES,
    REPORT_REST_FACTOR,
    REPORT_SILENCE_MIN_S,
    REPORT_SLICE_LOGS,
    REPORT_TIMEOUT_S,
    REPORT_TOPICS_MAX,
    REPORT_TRIES_MAX,
    REPORT_WORD_S,
)
from protocols.model import MailboxId, topic_hash_of
from protocols.report.exchange import (
    PROTOCOL,
    Call,
    Frame,
    Greeting,
    Part,
    Refusal,
    Statements,
    decode,
    encode,
    meet,
    parts_of,
)
from protocols.report.statement import Meeting, Signed, Statement, TopicDigest, digest_of_rows
from protocols.report.verdict import judge
from protocols.sync.interest import Interest
from protocols.sync.wire import FrameDecoder, encode_frame

__all__ = ["Report", "ReportFailed", "Reports"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class ReportFailed(Exception):
    """There is no report; the message is one line for a user."""


class Report(NamedTuple):
    """Both statements, the asker's first."""

    asker: Signed
    answerer: Signed


class Reports:
    """One mailbox's. Construct before the transport runs. `entropy(n)` gives n random bytes."""

    def __init__(
        self,
        *,
        identity: Identity,
        mailbox: Mailbox,
        index: LogIndex,
        transport: Transport,
        doorkeeper: Doorkeeper,
        network: str,
        interest: Interest | None,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._identity = identity
        self._mailbox = mailbox
        self._index = index
        self._transport = transport
        self._door = doorkeeper
        self._network = network
        self._interest = interest
        self._entropy = entropy
        self._asked: dict[MailboxId, _Asked] = {}
        self._stating = trio.Lock()
        self._rests_until_at = 0.0
        transport.serve(PROTOCOL, self._on_stream)

    async def ask(self, peer: MailboxId) -> Report:
        """A report with a connected mailbox. Raises ReportFailed."""
        if not self._door.is_admitted(peer):
            raise ReportFailed(f"no report with mailbox {peer.short}: the two don't let each other in; see `peers`")
        try:
            with trio.fail_after(REPORT_TIMEOUT_S):
                stream = await self._transport.open_stream(peer, PROTOCOL)
                try:
                    report = await self._ask(_Conversation(stream))
                except BaseException:
                    with trio.CancelScope(shield=True):
                        await stream.abort()
                    raise
                await stream.close()
                return report
        except PeerUnreachable as error:
            raise ReportFailed(f"mailbox {peer.short} can't be asked for a report: {error}") from None
        except (StreamBroken, RemoteProtocolError, StoreError) as error:
            raise ReportFailed(f"the report with mailbox {peer.short} failed: {error}") from None
        except trio.TooSlowError:
            raise ReportFailed(f"mailbox {peer.short} did not state within {REPORT_TIMEOUT_S:.0f} s") from None

    async def _ask(self, talk: _Conversation) -> Report:
        asks = self._greeting()
        await talk.send(asks)
        met = meet(self._transport.local, asks, talk.peer, await talk.receive(Greeting))
        if isinstance(met, Refusal):
            raise ReportFailed(f"no report with mailbox {talk.peer.short}: {met.text}")
        meeting, interest = met
        for _ in range(REPORT_TRIES_MAX):
            before, begun_s = await self._view(meeting, interest), self._now_s()
            await talk.send(Call())
            theirs = await talk.receive_statement()
            after, ended_s = await self._view(meeting, interest), self._now_s()
            if before.fingerprint == after.fingerprint:
                statement = Statement(meeting, self._transport.local, begun_s, ended_s, await _topics(after))
                mine = statement.sign(self._identity.seed)
                judge(mine, theirs)  # what does not belong together is not worth a file
                await talk.send_statement(mine)
                return Report(mine, theirs)
        raise ReportFailed(f"messages kept coming in while mailbox {talk.peer.short} was asked; try again later")

    # --- answering -------------------------------------------------------------------------------------------------

    async def _on_stream(self, stream: Stream) -> None:
        talk = _Conversation(stream)
        with suppress(StreamBroken):
            if not self._door.is_admitted(stream.peer):
                await talk.send(Refusal("admission", self._door.why_not(stream.peer)))
            elif trio.current_time() < self._rests_until_at or not self._make_room(talk.peer):
                await talk.send(Refusal("busy", "there was a report just now; ask again in a while"))
            else:
                await self._answer_once(talk)

    def _make_room(self, peer: MailboxId) -> bool:
        """Whether one more asker can be answered. Who asks anew has given up what it asked before; else the one that
        has been silent longest gives way."""
        if (before := self._asked.pop(peer, None)) is not None:
            before.scope.cancel()
        if len(self._asked) < REPORT_ANSWERS_MAX:
            return True
        silent = min(self._asked, key=lambda one: self._asked[one].waits_since_at)
        if trio.current_time() - self._asked[silent].waits_since_at < REPORT_SILENCE_MIN_S:
            return False
        self._asked.pop(silent).scope.cancel()
        return True

    async def _answer_once(self, talk: _Conversation) -> None:
        asked = self._asked[talk.peer] = _Asked(trio.CancelScope(deadline=trio.current_time() + REPORT_TIMEOUT_S))
        try:
            with asked.scope:
                try:
                    await self._answer(talk, asked)
                except (RemoteProtocolError, StoreError) as error:
                    log.info("report for mailbox %s: %s", talk.peer.short, error)
                    await talk.send(Refusal(getattr(error, "code", "store"), str(error)))
                except trio.TooSlowError:
                    log.info("report for mailbox %s: it said nothing for a while", talk.peer.short)
        finally:
            if self._asked.get(talk.peer) is asked:
                del self._asked[talk.peer]
            rest_s = REPORT_REST_FACTOR * asked.busy_s
            self._rests_until_at = max(self._rests_until_at, trio.current_time()) + rest_s

    async def _answer(self, talk: _Conversation, asked: _Asked) -> None:
        async with asked.waiting():
            asks, answers = await talk.receive(Greeting), self._greeting()
        met = meet(talk.peer, asks, self._transport.local, answers)
        if isinstance(met, Refusal):
            await talk.send(met)
            return
        await talk.send(answers)
        meeting, interest = met
        calls = 0
        mine: Signed | None = None
        while True:
            async with asked.waiting():
                frame = await talk.receive_any()
            if isinstance(frame, Part) and mine is not None:
                async with asked.waiting():
                    theirs = await talk.receive_statement(frame)
                verdict = judge(theirs, mine)
                outcome = "both hold the same" if verdict.converged else f"{len(verdict.differences)} topics differ"
                log.info("signed a report with mailbox %s: %s", talk.peer.short, outcome)
                return
            calls += 1
            if not isinstance(frame, Call) or calls > REPORT_TRIES_MAX:
                raise RemoteProtocolError("state", f"a {type(frame).__name__} out of turn")
            async with self._stating:
                begun_at = trio.current_time()
                try:
                    view, now_s = await self._view(meeting, interest), self._now_s()
                    statement = Statement(meeting, self._transport.local, now_s, now_s, await _topics(view))
                    mine = statement.sign(self._identity.seed)
                finally:
                    asked.busy_s += trio.current_time() - begun_at
            async with asked.waiting():
                await talk.send_statement(mine)

    def _greeting(self) -> Greeting:
        return Greeting(
            self._entropy(REPORT_NONCE_BYTES),
            self._network,
            self._now_s(),
            self._mailbox.alive_from_s(),
            self._interest,
        )

    def _now_s(self) -> int:
        return int(self._mailbox.clock.now_s())

    async def _view(self, meeting: Meeting, interest: Interest | None) -> IndexView:
        return await self._index.view(meeting.boundary_s, interest)


@dataclass(eq=False, slots=True)
class _Asked:
    """One asker that is being answered."""

    scope: trio.CancelScope
    busy_s: float = 0.0
    """Work for it, also if it goes away in the middle."""
    waits_since_at: float = math.inf
    """Since when it is waited for; infinite while it is not."""

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """While it is to say something. Raises trio.TooSlowError."""
        self.waits_since_at = trio.current_time()
        with trio.fail_after(REPORT_WORD_S):
            yield
        self.waits_since_at = math.inf


async def _topics(view: IndexView) -> list[TopicDigest]:
    """The digests of all topics of a picture, ascending by hash. Raises RemoteProtocolError if there are too many."""
    rows: dict[str, list[bytes]] = {}
    size = 32
    pieces = (bytes(piece[at : at + size]) for piece in view.rows(0, len(view)) for at in range(0, len(piece), size))
    logs = zip(view.names(), pieces, strict=True)
    while slice_ := list(islice(logs, REPORT_SLICE_LOGS)):
        for name, row in slice_:
            rows.setdefault(name.topic, []).append(row)
        await trio.lowlevel.checkpoint()
    if len(rows) > REPORT_TOPICS_MAX:
        raise RemoteProtocolError("limit", f"more than {REPORT_TOPICS_MAX} topics are too many for a report")
    topics = []
    for number, (topic, logs_of) in enumerate(rows.items()):
        topics.append(TopicDigest(topic_hash_of(topic), len(logs_of), digest_of_rows(logs_of)))
        if number % REPORT_SLICE_LOGS == 0:
            await trio.lowlevel.checkpoint()
    return sorted(topics)


class _Conversation:
    """One stream in frames."""

    def __init__(self, stream: Stream) -> None:
        self.peer = stream.peer
        self._stream = stream
        self._frames = FrameDecoder()

    async def send(self, frame: Frame) -> None:
        await self._stream.send_all(encode_frame(encode(frame)))

    async def send_statement(self, signed: Signed) -> None:
        for part in parts_of(signed):
            await self.send(part)

    async def receive_any(self) -> Frame:
        frame = await next_frame(self._stream, self._frames)
        if frame is None:
            raise StreamBroken("the other mailbox said no more")
        return decode(frame)

    async def receive(self, kind: type[_T]) -> _T:
        frame = await self.receive_any()
        if isinstance(frame, Refusal):
            raise RemoteProtocolError(frame.code, f"it refused: {frame.text}")
        if not isinstance(frame, kind):
            raise RemoteProtocolError("state", f"a {type(frame).__name__} out of turn")
        return frame

    async def receive_statement(self, first: Part | None = None) -> Signed:
        statements = Statements()
        part = first
        while True:
            signed = statements.take(part if part is not None else await self.receive(Part))
            if signed is not None:
                return signed
            part = None
