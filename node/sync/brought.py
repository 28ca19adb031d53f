"""Takes the messages that come with hints, under the same rules as those that a session fetches.

Nothing depends on it: whatever is not taken here (the clocks differ, there is no room, too many wait) is asked for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

import trio

from node.mailbox import Mailbox
from node.store.api import Arrival, StoreError, StoreFull
from node.sync.budgets import Budgets
from node.sync.claims import Claims
from node.sync.index import LogIndex
from node.sync.peers import EngineCounters
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import HINTS_OF_ONE_WAITING_MAX, HINTS_WAITING_MAX
from protocols.model import LogName, MailboxId, digest_of, handle_of
from protocols.sync.effects import Span
from protocols.sync.hints import STATE_PREFIX_BYTES, Hint
from protocols.sync.interest import Interest

__all__ = ["Brought"]

log = logging.getLogger(__name__)

_Waiting = tuple[MailboxId, Hint, Callable[[], None]]
"""Who says what, and what is to be done then."""


class Brought:
    """What hints have brought, on its way into the store."""

    def __init__(
        self,
        mailbox: Mailbox,
        index: LogIndex,
        claims: Claims,
        budgets: Budgets,
        counters: EngineCounters,
        interest: Interest | None,
        heeded: Callable[[MailboxId], object],
    ) -> None:
        """`heeded` is None of those from whom nothing is taken now: hints of theirs may still be waiting."""
        self._mailbox = mailbox
        self._index = index
        self._claims = claims
        self._budgets = budgets
        self._interest = interest
        self._counters = counters
        self._heeded = heeded
        self._waiting, self._next = trio.open_memory_channel[_Waiting](HINTS_WAITING_MAX)
        self._waiting_of: Counter[MailboxId] = Counter()
        self._watchers: list[Callable[[MailboxId, int], None]] = []

    def watch(self, watcher: Callable[[MailboxId, int], None]) -> None:
        """`watcher` is told who has brought how many new messages. It must not block or raise."""
        self._watchers.append(watcher)

    def take_soon(self, publisher: MailboxId, hint: Hint, then: Callable[[], None]) -> None:
        """Has the messages of a hint taken, and calls `then` when what is taken of them is stored and the index has it;
        at once if there are none, or too many hints wait. `then` must not raise."""
        if hint.messages and self._waiting_of[publisher] < HINTS_OF_ONE_WAITING_MAX:
            with suppress(trio.WouldBlock):
                self._waiting.send_nowait((publisher, hint, then))
                self._waiting_of[publisher] += 1
                return
        then()

    async def run(self) -> None:
        """Takes them until cancelled."""
        async for first in self._next:
            waiting = {first[0]: [first]}
            with suppress(trio.WouldBlock):
                while True:
                    one = self._next.receive_nowait()
                    waiting.setdefault(one[0], []).append(one)
            self._waiting_of.clear()
            # What waits of several shares commits, and one look at the index.
            if len(waiting) == 1:
                await self._take_all(waiting[first[0]])
            else:
                async with trio.open_nursery() as nursery:
                    for theirs in waiting.values():
                        nursery.start_soon(self._take_all, theirs)
            await _tried("what hints brought is not in the index", self._look)
            for _, _, then in chain.from_iterable(waiting.values()):
                then()

    async def _take_all(self, theirs: Sequence[_Waiting]) -> None:
        """What waits of one mailbox, one after the other."""
        for publisher, hint, _ in theirs:
            what = f"what a hint of {publisher.short} brought was not stored"
            await _tried(what, partial(self._take, publisher, hint))

    async def _look(self) -> None:
        await self._index.view(self._mailbox.alive_from_s())

    async def _take(self, publisher: MailboxId, hint: Hint) -> None:
        offered = self._alive(hint)
        states = {handle_of(one.name): hint.logs[handle_of(one.name)].state for one in offered}
        if self._index.has_states(states, STATE_PREFIX_BYTES):
            return  # nothing is, or somebody else was quicker
        if self._heeded(publisher) is None or self._mailbox.is_full or self._budgets.pause_s(publisher):
            return
        torn = await self._torn(offered)
        keys = sorted({(one.name, one.seq) for one in offered if one.name not in torn})
        spans = [Span(name, seq, seq) for name, seq in keys]
        admitted = await self._mailbox.store.admit(
            spans, origin=publisher, is_full=self._mailbox.is_at_limit, is_news=True
        )
        affordable, _ = self._claims.affordable(admitted.wanted)
        holder = self._claims.begin()
        stored, is_over = 0, False
        try:
            wanted = {(span.name, span.first) for span in affordable}
            arrivals = [one for one in offered if (one.name, one.seq) in wanted]
            if arrivals:
                stored = (await self._mailbox.take(arrivals, origin=publisher, asked=False)).stored
            # Sessions that are under way leave out what has come, also what they are fetching: whoever claims may never
            # deliver. Not what was dropped or held already: by saying another blob again and again under the name of
            # one that they would bring, somebody could keep that from them.
            if stored == len(arrivals):
                self._claims.release(holder, (), affordable)
            is_over = True
        except StoreFull:
            self._claims.refuse(affordable)
            raise
        finally:
            self._claims.end(holder, in_good_order=is_over)
        self._counters.synced_in += stored
        for watcher in self._watchers if stored else ():
            watcher(publisher, stored)
        size = sum(len(one.blob) for one in offered)
        self._budgets.charge_hint(publisher, messages=len(offered), size=size, useful=stored)

    async def _torn(self, offered: Sequence[Arrival]) -> Collection[LogName]:
        """Logs of which something may be missing here before what is offered, or between. It may have died or been let
        go wherever it was: the watermark that tells so comes with a session. Without it we would ask phones for all of
        that, and it would live once more."""
        keys = {(one.name, one.seq) for one in offered}
        # Of each log the highest seq that follows none that is known.
        loose = {
            name: seq
            for name, seq in sorted(keys)
            if seq > 0 and (name, seq - 1) not in keys and not self._index.holds(name, seq - 1)
        }
        if not loose:
            return ()
        watermarks = await self._mailbox.store.watermarks(list(loose))
        return {name for name, seq in loose.items() if (known := watermarks[name]) is None or seq > known + 1}

    def _alive(self, hint: Hint) -> Sequence[Arrival]:
        """Those of a topic that we keep that are alive here. None at all if we don't agree on the time: their age would
        not be what it is."""
        now_s, retention = self._mailbox.clock.now_s(), self._mailbox.retention
        if abs(hint.clock_s - now_s) > CLOCK_SKEW_MAX_S:
            return ()
        alive_from_s = retention.alive_from(now_s)
        return [
            Arrival(name, seq, blob, digest_of(blob), retention.clamp(first_stored_s, now_s))
            for name, seq, first_stored_s, blob in hint.messages
            if first_stored_s >= alive_from_s and (self._interest is None or self._interest.covers(name.topic))
        ]


async def _tried(failing: str, work: Callable[[], Awaitable[None]]) -> None:
    """Does something of which nobody depends on whether it succeeds."""
    try:
        await work()
    except StoreError as error:
        log.debug("%s: %s", failing, error)
    except Exception:  # a fault of ours: it must not end what others depend on
        log.exception("%s", failing)
