"""The initiator: compares, moves what it found both ways, and compares again, until nothing differs."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import RemoteProtocolError
from protocols.limits.sync import SESSION_ITEMS_MAX, SESSION_ROUNDS_MAX, SESSION_TURNS_MAX
from protocols.sync.codec import encode
from protocols.sync.common import Context, Steps, claim, read_dead, receive
from protocols.sync.effects import Commit, Release, Send, Settle, Span
from protocols.sync.messages import (
    Done,
    FetchedLog,
    Named,
    Names,
    OfferedLog,
    Seqs,
    Standing,
    Survey,
    Surveyed,
    Tell,
    Transfer,
    Want,
)
from protocols.sync.parcels import Expected, receive_messages, send_messages
from protocols.sync.search import Question, Reply, Search
from protocols.sync.spans import UNKNOWN_SEQS, after, count, minus, spans_by_name
from protocols.sync.work import DifferingLog, Work

__all__ = ["Initiator", "reply_to"]


def reply_to(question: Question) -> type[Reply]:
    """What answers a question."""
    if isinstance(question, Survey):
        return Surveyed
    return Named if isinstance(question, Names) else Standing


class Initiator:
    """What the initiator does after the hellos. `first` may go out with the hello; then give `run` its answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._result = context.result
        self._rows_total = context.budget.rows_left
        self._turns = 1
        self._wants_ack = False
        self._begin(again=False)

    def _begin(self, *, again: bool) -> None:
        self._work = Work(self._context)
        self._search = Search(self._context, self._work, again=again)
        self._has_failed = False  # something that was found in this round was not moved
        self._has_moved = False

    def first(self) -> Question:
        """The opening question."""
        return self._search.opening()

    def run(self, reply: Reply) -> Steps[None]:
        """Everything from the first answer to the last acknowledgement."""
        self._search.take(reply)
        for rounds_left in reversed(range(SESSION_ROUNDS_MAX)):
            yield from self._round()
            if self._is_exhausted:
                break
            if not self._has_failed and self._result.full:
                self._result.checkpoint = self._context.checkpoint()
            self._result.equal = not self._work.found
            # After a hint, what was found is all that was asked for; what comes meanwhile has a hint of its own.
            is_done = not self._result.full and not self._has_failed
            if self._result.equal or is_done:
                break
            if not self._has_moved:
                if self._result.full and self._search.look_inside():
                    yield from self._round()
                break
            has_died = yield Settle()
            if has_died:  # it would be found again: what counts is who was alive when the session began
                break
            if rounds_left:
                yield from self._look_again()
        self._result.complete = self._search.finished
        self._result.settled = self._search.finished and not self._has_failed
        yield Settle()
        yield Send(encode(Done(self._result.settled, self._result.equal, self._wants_ack)))
        if self._wants_ack:
            self._result.round_trips += 1
            yield from receive(Done)

    def _look_again(self) -> Steps[None]:
        """Begins another round, in which both sides look at what they hold now."""
        yield from self._context.look_again()
        self._begin(again=True)
        opening = self._search.opening()
        self._context.given.clear()
        yield from self._ask(opening)

    @property
    def _is_exhausted(self) -> bool:
        """Whether the session should end in good order because of a limit; a following one goes on."""
        return (
            self._result.described >= SESSION_ITEMS_MAX
            or self._turns >= SESSION_TURNS_MAX // 2
            or self._context.budget.rows_left < self._rows_total // 2
        )

    def _round(self) -> Steps[None]:
        """Asks until nothing is left to ask, and moves what is found meanwhile."""
        while True:
            is_last = self._search.finished or self._is_exhausted
            if self._work.due or is_last:
                while not self._work.empty:
                    yield from self._transfer()
                self._has_failed = self._has_failed or self._work.has_dropped
            if is_last and (self._search.finished or self._is_exhausted):
                break
            if self._search.asks_items:
                yield from self._inspect()
            else:
                yield from self._ask(self._search.question())

    def _ask(self, question: Question) -> Steps[None]:
        yield Send(encode(question))
        self._turns += 1
        self._result.round_trips += 1
        reply = yield from receive(reply_to(question))
        self._search.take(reply)

    def _inspect(self) -> Steps[None]:
        yield Send(encode(self._search.inspection.next_ask()))
        self._turns += 1
        self._result.round_trips += 1
        tell = yield from receive(Tell)
        yield from self._search.inspection.take(tell)

    # --- transfer ----------------------------------------------------------------------------------------------

    def _transfer(self) -> Steps[None]:
        """Fetches a portion, offers a portion; what came is being stored while the next one is on its way."""
        fetch = yield from self._claim()
        offers = self._work.take_offers().logs
        merges = self._work.take_merges()
        if fetch or offers or merges:
            offered = [OfferedLog(log.name, spans, not log.offers) for log, spans in offers]
            yield Send(encode(Transfer([FetchedLog(log.handle, spans) for log, spans in fetch], offered, merges)))
            self._turns += 1
            self._result.round_trips += 1
            self._wants_ack = self._wants_ack or bool(offers or merges)
            want = yield from receive(Want)
            self._context.given.update(offers[number][0].handle for number, _ in want.offers if number < len(offers))
            self._context.given.update(log.handle for log in merges)
            self._has_moved = self._has_moved or bool(merges or want.earlier or want.offers)
            self._take_earlier(offers, want)
            if fetch:
                yield from self._receive(fetch)
            if want.offers:
                yield from self._send(offers, want)
        merges_mine, self._work.merges_mine = self._work.merges_mine, []
        watermarks, self._work.watermarks = self._work.watermarks, []
        self._result.merged += len(merges_mine)
        self._has_moved = self._has_moved or bool(merges_mine)
        if merges_mine or watermarks:
            yield Commit((), merges_mine, watermarks)

    def _claim(self) -> Steps[list[tuple[DifferingLog, list[Seqs]]]]:
        """What to fetch next, as far as nobody else is doing so, ascending by handle."""
        logs = self._work.take_needs().logs
        if not logs:
            return []
        granted = yield from claim(self._context, [Span(log.name, *span) for log, spans in logs for span in spans])
        by_name, unwanted = spans_by_name(granted.spans), spans_by_name(granted.unwanted)
        fetch: list[tuple[DifferingLog, list[Seqs]]] = []
        for log, spans in logs:
            ours = by_name.pop(log.name, [])
            asked = count(spans) - count(unwanted.get(log.name, ()))
            if count(ours) < asked:
                self._result.skipped += min(asked - count(ours), UNKNOWN_SEQS)
                log.has_failed = self._has_failed = True
            if ours:
                fetch.append((log, ours))
        fetch.sort(key=lambda one: one[0].handle)
        dead = yield from read_dead(self._context, [(log.name, spans) for log, spans in fetch])
        for index, items in dead:
            self._work.merge_theirs(fetch[index][0].handle, items)
        return fetch

    def _take_earlier(self, offers: Sequence[tuple[DifferingLog, list[Seqs]]], want: Want) -> None:
        for number, items in want.earlier:
            if number >= len(offers):
                raise RemoteProtocolError("unrequested", "a date of something that was not offered")
            name = offers[number][0].name
            for item in items:
                kept_s = self._context.clamp(item.first_stored_s)
                self._work.merges_mine.append((name, item._replace(first_stored_s=kept_s)))

    def _receive(self, fetch: Sequence[tuple[DifferingLog, list[Seqs]]]) -> Steps[None]:
        expected = [Expected(log.name, spans) for log, spans in fetch]
        stopped_at = yield from receive_messages(self._context, expected)
        self._has_moved = self._has_moved or any(came.got for came in expected)
        lost: list[Span] = []
        for number, ((log, spans), came) in enumerate(zip(fetch, expected, strict=True)):
            left: list[Seqs] = []
            if stopped_at is not None and number >= stopped_at[0]:
                left = list(spans) if number > stopped_at[0] else after(spans, stopped_at[1])
            missing = minus(came.missing(), left)
            lost += [Span(log.name, *span) for span in missing]
            if gone := [(first, last) for first, last in missing if last - first < UNKNOWN_SEQS]:
                self._result.gone += count(gone)
                log.has_failed = self._has_failed = True
                if not (came.got or log.handle in self._context.given):
                    self._search.doubt(log.handle)
            if left:
                self._work.needed_still(log, left)
            elif not (log.needs or log.has_failed) and came.watermark is not None and self._context.adopts_watermarks:
                self._work.watermarks.append((log.name, came.watermark))
        if stopped_at is not None and not any(came.got for came in expected):
            raise RemoteProtocolError("no-progress", "an answer that stops before it begins")
        yield Release(lost, [Span(came.name, *span) for came in expected for span in came.came()])

    def _send(self, offers: Sequence[tuple[DifferingLog, list[Seqs]]], want: Want) -> Steps[None]:
        wanted: list[tuple[int, Span]] = []
        for number, spans in want.offers:
            if number >= len(offers) or minus(spans, offers[number][1]):
                raise RemoteProtocolError("unrequested", "a wish for what was not offered")
            wanted += [(number, Span(offers[number][0].name, *span)) for span in spans]
        stopped_at = yield from send_messages(self._context, wanted)
        if stopped_at is None:
            return
        for number, spans in want.offers:
            if number >= stopped_at[0]:
                left = after(spans, stopped_at[1]) if number == stopped_at[0] else list(spans)
                self._work.offered_still(offers[number][0], left)
