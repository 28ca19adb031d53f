"""Who fetches what: over all sessions no message is fetched twice, and nobody keeps others from fetching it for long.

A session claims spans before it asks for them. What then comes stays its own until it ends, and as long as a session is
under way that began before: that one still believes that it is missing here. What does not come is given back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import attrgetter, itemgetter

import trio

from protocols.limits.replication import (
    CLAIM_PATIENCE_S,
    CLAIMS_MAX,
    CLAIMS_OVER_MAX,
    CLAIMS_PER_LOG_MAX,
    CLAIMS_WAITED_MAX,
    REFUSED_LOGS_MAX,
    REFUSED_PAUSE_S,
)
from protocols.model import LogName
from protocols.sync.effects import Span
from protocols.sync.messages import Seqs
from protocols.sync.spans import minus, union

__all__ = ["ClaimHolder", "Claims"]

_Spans = dict[LogName, list[Seqs]]


@dataclass(eq=False, slots=True)
class ClaimHolder:
    """One session. `began` and `ended` count sessions' beginnings; `asked` are spans on their way, `came` those that
    are here."""

    began: int
    ended: int | None = None
    asked: _Spans = field(default_factory=dict)
    came: _Spans = field(default_factory=dict)
    held: int = 0
    fetched: int = 0
    """Messages, at the most, that it has brought, once it is over."""

    def change(self, claims: _Spans, name: LogName, spans: list[Seqs]) -> None:
        """Makes `spans` all that is claimed of a log in `claims`, one of the two above."""
        self.held += len(spans) - len(claims.pop(name, ()))
        if spans:
            claims[name] = spans


class Claims:
    """All claims of this mailbox. `now_at` is the time in seconds."""

    def __init__(self, *, now_at: Callable[[], float] = trio.current_time) -> None:
        self._now_at = now_at
        self._clock = 0
        self._active: dict[ClaimHolder, None] = {}
        self._over: deque[ClaimHolder] = deque()
        self._waited: dict[LogName, tuple[float, list[Seqs]]] = {}
        """Since when some session has asked in vain for these spans, which others are fetching."""
        self._refused: dict[LogName, tuple[float, list[Seqs]]] = {}
        """Until when these spans are not asked for, as there was no room for them; those that end first come first."""

    @property
    def held(self) -> int:
        """How many spans are remembered."""
        return sum(holder.held for holder in chain(self._active, self._over))

    def begin(self) -> ClaimHolder:
        """A new session."""
        self._clock += 1
        holder = ClaimHolder(self._clock)
        self._active[holder] = None
        return holder

    def take(self, holder: ClaimHolder, spans: Sequence[Span]) -> list[Span]:
        """Claims what is free of these (ascending within a log), and returns it."""
        granted: list[Span] = []
        room = CLAIMS_MAX - self.held
        for name, asked in _by_log(spans):
            missing = free = asked
            for other in self._others(holder):
                missing = minus(missing, other.came.get(name, ()))
                free = minus(free, other.came.get(name, ()))
                free = minus(free, other.asked.get(name, ()))
            if free != missing and self._has_waited(name, minus(missing, free)):
                free = missing
            if free and room > 0:
                room -= len(free)
                holder.change(holder.asked, name, _some(union(holder.asked.get(name, ()), free), free))
            granted += [Span(name, *span) for span in free]
        return granted

    def refuse(self, spans: Iterable[Span]) -> None:
        """The store had no room for these: nobody asks for them for REFUSED_PAUSE_S."""
        until_at = self._now_at() + REFUSED_PAUSE_S
        for name, refused in _by_log(spans):
            _, before = self._refused.pop(name, (until_at, []))
            self._refused[name] = until_at, _some(union(before, refused), refused)
        while len(self._refused) > REFUSED_LOGS_MAX:
            del self._refused[next(iter(self._refused))]

    def affordable(self, spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
        """These spans (ascending within a log) without what the store had no room for lately, and that."""
        while self._refused and self._refused[next(iter(self._refused))][0] <= self._now_at():
            del self._refused[next(iter(self._refused))]
        if not self._refused:
            return list(spans), []
        free: list[Span] = []
        refused: list[Span] = []
        for name, asked in _by_log(spans):
            left = minus(asked, self._refused[name][1] if name in self._refused else ())
            free += [Span(name, *span) for span in left]
            refused += [Span(name, *span) for span in minus(asked, left)]
        return free, refused

    def release(self, holder: ClaimHolder, lost: Sequence[Span], came: Sequence[Span] = ()) -> None:
        """Of what was asked for, `lost` did not come, and is free again; `came` did (ascending within a log)."""
        for name, spans in _by_log(came):
            holder.change(holder.asked, name, minus(holder.asked.get(name, ()), spans))
            holder.change(holder.came, name, _some(union(holder.came.get(name, ()), spans), spans))
            self._has_come(name, spans)
        for name, spans in _by_log(lost):
            holder.change(holder.asked, name, minus(holder.asked.get(name, ()), spans))

    def end(self, holder: ClaimHolder, *, in_good_order: bool) -> None:
        """The session is over. What it fetched in good order stays claimed for those that began before it ended."""
        del self._active[holder]
        self._clock += 1
        if in_good_order and holder.held:
            holder.ended = self._clock
            holder.fetched = sum(last - first + 1 for first, last in chain.from_iterable(holder.came.values()))
            self._over.append(holder)
        if self._over:
            oldest = min((one.began for one in self._active), default=self._clock + 1)
            while self._over and (self._over[0].ended or 0) < oldest:
                self._over.popleft()
        if len(self._over) > CLAIMS_OVER_MAX:
            # What took little to fetch: a few seconds' hints must not have a large transfer done twice.
            self._over.remove(min(self._over, key=attrgetter("fetched")))

    def _others(self, holder: ClaimHolder) -> Iterator[ClaimHolder]:
        """Whose claims count for a session."""
        yield from (other for other in self._active if other is not holder)
        yield from (other for other in self._over if other.ended and other.ended > holder.began)

    def _has_waited(self, name: LogName, denied: Sequence[Seqs]) -> bool:
        """Whether a session that is denied these spans has waited for long enough: whoever claims and does not deliver
        must not keep others from it, however often."""
        now_at = self._now_at()
        since_at, before = self._waited.get(name, (now_at, []))
        if now_at - since_at >= CLAIM_PATIENCE_S:
            self._waited.pop(name, None)
            return True
        while len(self._waited) >= CLAIMS_WAITED_MAX:
            oldest = next(iter(self._waited))
            if now_at - self._waited[oldest][0] < CLAIM_PATIENCE_S:
                return True
            del self._waited[oldest]
        if len(before) < CLAIMS_PER_LOG_MAX:
            self._waited[name] = since_at, union(before, denied)
        return False

    def _has_come(self, name: LogName, spans: Sequence[Seqs]) -> None:
        if name in self._waited:
            since_at, waited = self._waited.pop(name)
            if left := minus(waited, spans):
                self._waited[name] = since_at, left


def _by_log(spans: Iterable[Span]) -> Iterator[tuple[LogName, list[Seqs]]]:
    for name, group in groupby(spans, key=itemgetter(0)):
        yield name, [(first, last) for _, first, last in group]


def _some(spans: list[Seqs], latest: list[Seqs]) -> list[Seqs]:
    """As many claims as are remembered of one log; the latest, if they are too many."""
    return spans if len(spans) <= CLAIMS_PER_LOG_MAX else latest[-CLAIMS_PER_LOG_MAX:]
