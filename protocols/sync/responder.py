"""The responder: answers one request after the other until the initiator has done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits.sync import SESSION_ITEMS_MAX, SESSION_TURNS_MAX
from protocols.model import Item, LogName, handle_of
from protocols.sync import answers
from protocols.sync.codec import decode, encode
from protocols.sync.common import Context, SessionRefused, Steps, claim, read_dead
from protocols.sync.effects import Commit, Receive, Release, Send, Settle, Span
from protocols.sync.messages import (
    About,
    Ask,
    Done,
    MergedLog,
    Message,
    Named,
    Names,
    News,
    OfferedLog,
    Refuse,
    Seqs,
    Standing,
    Survey,
    Surveyed,
    Tell,
    Transfer,
    Want,
)
from protocols.sync.parcels import Expected, receive_messages, send_messages
from protocols.sync.spans import UNKNOWN_SEQS, count, minus, spans_by_name
from protocols.sync.telling import Telling

__all__ = ["Responder"]

_EARLIER_LOGS_MAX: Final = 32
_EARLIER_ITEMS_MAX: Final = 32
"""Dates that fit into one answer; others come out in the sessions that follow, or the messages die by themselves."""


class Responder:
    """What the responder does after the hellos."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._result = context.result
        self._telling = Telling(context)
        self._result.full = False

    def answer(self, question: News | About | Survey | Names | Ask) -> Steps[Standing | Surveyed | Named | Tell]:
        """The answer to a question."""
        match question:
            case News() | Survey() | About():
                return (yield from self._compare(question))
            case Names():
                return answers.named(self._context, question)
            case Ask():
                return (yield from self._inspect(question))

    def _compare(self, question: News | Survey | About) -> Steps[Standing | Surveyed]:
        self._result.full = not isinstance(question, About)
        if question.again:
            yield Settle()  # what we were just given is to be in the picture, or it would come a second time
            yield from self._context.look_again()
            self._telling = Telling(self._context)
        match question:
            case News():
                return answers.news(self._context, question)
            case Survey():
                return answers.surveyed(self._context, question)
            case About():
                return answers.about(self._context, question)

    def _inspect(self, ask: Ask) -> Steps[Tell]:
        self._telling.accept(ask)
        if ask.region is not None:
            return self._telling.rows(*ask.region)
        tell = yield from self._telling.tell()
        if self._result.described > 2 * SESSION_ITEMS_MAX:
            raise RemoteProtocolError("limit", "more questions than an honest session has")
        return tell

    def run(self) -> Steps[None]:
        """Serves requests until Done, or until the stream ends between two requests."""
        for _ in range(SESSION_TURNS_MAX):
            frame = yield Receive()
            if frame is None:
                self._result.complete = False
                return
            message: Message = decode(frame)
            self._result.round_trips += 1
            match message:
                case News() | About() | Survey() | Names() | Ask():
                    reply = yield from self.answer(message)
                    yield Send(encode(reply))
                case Transfer():
                    yield from self._transfer(message)
                case Done():
                    yield from self._done(message)
                    return
                case Refuse():
                    raise SessionRefused(message.code, message.text, by_peer=True, pause_s=message.pause_s)
                case _:
                    raise RemoteProtocolError("state", f"{type(message).__name__} at the wrong moment")
        raise RemoteProtocolError("limit", f"more than {SESSION_TURNS_MAX} requests in one session")

    def _done(self, done: Done) -> Steps[None]:
        self._result.complete = self._result.settled = done.is_complete
        self._result.equal = done.is_equal and done.is_complete
        if done.is_complete and self._result.full:
            self._result.checkpoint = self._context.checkpoint()
        yield Settle()  # the acknowledgement speaks for everything that we were given
        if done.ack:
            yield Send(encode(Done(done.is_complete, done.is_equal)))

    # --- transfer ----------------------------------------------------------------------------------------------

    def _transfer(self, request: Transfer) -> Steps[None]:
        """Says what is wanted of an offer, sends what is asked for, and takes what was wanted."""
        yield from self._merge(request.merges)
        wanted = yield from self._choose(request.offers)
        dead = yield from read_dead(self._context, [(log.name, log.spans) for log in request.offers])
        earlier = [(number, items[:_EARLIER_ITEMS_MAX]) for number, items in dead[:_EARLIER_LOGS_MAX]]
        want = Want([(number, spans) for number, spans in enumerate(wanted) if spans], earlier)
        yield Send(encode(want), is_followed=bool(request.fetch))
        if request.fetch:
            named = [(number, self._context.name(log.handle)) for number, log in enumerate(request.fetch)]
            spans = [
                (number, Span(name, *span))
                for number, name in named
                if name is not None
                for span in request.fetch[number].spans
            ]
            yield from send_messages(self._context, spans)
        if any(wanted):
            yield from self._take(request.offers, wanted)

    def _merge(self, merges: Sequence[MergedLog]) -> Steps[None]:
        known: list[tuple[LogName, Item]] = []
        for log in merges:
            name = self._context.name(log.handle)
            if name is None:
                continue  # it has expired since it was told
            known += [
                (name, item._replace(first_stored_s=self._context.clamp(item.first_stored_s))) for item in log.items
            ]
        if known:
            self._result.merged += len(known)
            yield Commit((), known)

    def _choose(self, offers: Sequence[OfferedLog]) -> Steps[list[list[Seqs]]]:
        """What we want of each offer: everything that no other session is fetching."""
        if not offers:
            return []
        for log in offers:
            self._context.check_covered(log.name)
        alive = [minus(log.spans, self._context.died(handle_of(log.name))) for log in offers]
        granted = yield from claim(
            self._context, [Span(log.name, *span) for log, spans in zip(offers, alive, strict=True) for span in spans]
        )
        by_name, unwanted = spans_by_name(granted.spans), spans_by_name(granted.unwanted)
        wanted = [by_name.get(log.name, []) for log in offers]
        for log, offered, spans in zip(offers, alive, wanted, strict=True):
            asked = count(offered) - count(unwanted.get(log.name, ()))
            self._result.skipped += min(max(0, asked - count(spans)), UNKNOWN_SEQS)
        return wanted

    def _take(self, offers: Sequence[OfferedLog], wanted: Sequence[Sequence[Seqs]]) -> Steps[None]:
        expected = [Expected(log.name, spans) for log, spans in zip(offers, wanted, strict=True)]
        stopped_at = yield from receive_messages(self._context, expected)
        watermarks: list[tuple[LogName, int]] = []
        lost: list[Span] = []
        for number, (log, came) in enumerate(zip(offers, expected, strict=True)):
            missing = came.missing()
            lost += [Span(log.name, *span) for span in missing]
            is_whole = count(came.spans) == count(log.spans) and not missing
            is_reached = stopped_at is None or number < stopped_at[0]
            if is_whole and is_reached and log.is_last and came.watermark is not None:
                watermarks.append((log.name, came.watermark))
        yield Release(lost, [Span(came.name, *span) for came in expected for span in came.came()])
        if watermarks and self._context.adopts_watermarks:
            yield Commit((), (), watermarks)
