"""Turns what goes on in a mailbox into events: neighbours met and lost, syncs, refusals, trouble with the store."""

from __future__ import annotations

import math
from dataclasses import dataclass

import trio

from node.core import Core
from node.events import Event, EventKind, Events
from node.store.api import StoreError
from node.sync.peers import PeerState, SessionEnd
from protocols.limits.tools import EVENT_MERGE_S, EVENT_NEIGHBOURS_MAX, EVENT_SUM_S
from protocols.model import MailboxId

__all__ = ["tell_of"]


@dataclass(slots=True)
class _Sum:
    """What several syncs with one neighbour moved that are told of as one event."""

    event: Event
    began_s: float
    received: int = 0
    sent: int = 0


class _Teller:
    def __init__(self, core: Core, events: Events) -> None:
        self._core = core
        self._events = events
        self._sums: dict[MailboxId, _Sum] = {}

    def on_connection(self, mailbox_id: MailboxId, up: bool) -> None:
        """Told of those only with whom we have synced or whom the user named: strangers may come and go at will."""
        peer = self._core.engine.table.get(mailbox_id)
        if peer is None or not (peer.fixed or peer.last_sync_s is not None):
            return
        if trio.current_effective_deadline() == -math.inf:  # we are stopping: it is we who go
            return
        if up:
            self._events.tell_or_again(EventKind.MET, "connected", mailbox_id, within_s=EVENT_MERGE_S)
        else:
            self._events.tell_or_again(EventKind.LOST, "the connection was lost", mailbox_id, within_s=EVENT_MERGE_S)

    def on_session(self, end: SessionEnd) -> None:
        """A sync is over."""
        peer = self._core.engine.table.get(end.peer)
        if peer is None:
            return
        if end.error is not None:
            # Told once: what is tried again every few seconds and fails alike is no news.
            if peer.state is PeerState.REFUSED:
                self._events.tell_or_again(EventKind.REFUSED, end.error, end.peer, within_s=math.inf)
            return
        moved = end.result.received or end.result.sent
        if moved or (end.result.full and end.peer not in self._sums):
            self._tell_moved(end.peer, end.result.received, end.result.sent)

    def on_brought(self, mailbox_id: MailboxId, received: int) -> None:
        """Messages have come with a hint. Whoever sends some does not know who takes them."""
        self._tell_moved(mailbox_id, received, 0)

    def _tell_moved(self, mailbox_id: MailboxId, received: int, sent: int) -> None:
        last = self._sums.get(mailbox_id)
        now_s = self._core.mailbox.clock.now_s()
        goes_on = last is not None and now_s < last.began_s + EVENT_SUM_S
        if last and goes_on and last.event is self._events.latest(EventKind.SYNCED, mailbox_id, within_s=EVENT_MERGE_S):
            last.received += received
            last.sent += sent
            self._events.tell_again(last.event, _moved(last.received, last.sent))
            return
        self._sums.pop(mailbox_id, None)
        if len(self._sums) >= EVENT_NEIGHBOURS_MAX:
            self._sums.pop(next(iter(self._sums)))
        event = self._events.tell(EventKind.SYNCED, _moved(received, sent), mailbox_id)
        self._sums[mailbox_id] = _Sum(event, now_s, received, sent)

    def on_trouble(self, error: StoreError) -> None:
        """The store could not do something."""
        self._events.tell_or_again(EventKind.STORE, str(error), within_s=EVENT_MERGE_S)


def tell_of(core: Core, events: Events) -> None:
    """From now on `events` are told of what goes on in `core`. Before it runs."""
    teller = _Teller(core, events)
    core.transport.on_connection(teller.on_connection)
    core.engine.on_session(teller.on_session)
    core.engine.brought.watch(teller.on_brought)
    core.mailbox.on_trouble(teller.on_trouble)


def _moved(received: int, sent: int) -> str:
    if not received and not sent:
        return "compared: both hold the same"
    parts = [f"{count:,} {word}" for count, word in ((received, "received"), (sent, "sent")) if count]
    return f"in step: {' and '.join(parts)}"
