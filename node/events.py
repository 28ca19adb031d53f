"""What happened lately, for people: one stream that whoever wants to tell of something writes to, and pages read.

Bounded: of each kind the latest are held, so that strangers who cause many of one kind push out no other. Something
that goes on (a neighbour that is lost and met again, messages that trickle in) is one event that is told anew, not a
hundred.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from node.clock import Clock
from protocols.limits.tools import EVENT_CHARS_MAX, EVENTS_OF_A_KIND_MAX
from protocols.model import MailboxId

__all__ = ["Event", "EventKind", "Events"]

log = logging.getLogger(__name__)


class EventKind(enum.Enum):
    """What sort of thing happened; the values are those of the dashboard and of the metrics."""

    STARTED = "started"
    MET = "met"
    LOST = "lost"
    SYNCED = "synced"
    REFUSED = "refused"
    STORE = "store"
    SETTINGS = "settings"
    ACCESS = "access"


@dataclass(slots=True)
class Event:
    """`number` stays when the event is told anew, `time_s` (Unix seconds) is when that was last, `times` how often.
    `text` is for people and may hold what strangers chose."""

    number: int
    kind: EventKind
    mailbox_id: MailboxId | None
    time_s: float
    text: str
    times: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "number": self.number,
            "kind": self.kind.value,
            "mailbox_id": None if self.mailbox_id is None else str(self.mailbox_id),
            "time_s": self.time_s,
            "text": self.text,
            "times": self.times,
        }


class Events:
    """The stream. From the trio thread only. `counts` are totals since the start, of what was told by kind."""

    def __init__(self, clock: Clock, *, of_a_kind_max: int = EVENTS_OF_A_KIND_MAX) -> None:
        self._clock = clock
        self._held = {kind: deque[Event](maxlen=of_a_kind_max) for kind in EventKind}
        self._listeners: list[Callable[[Event], None]] = []
        self._number = 0
        self.revision = 0
        """Rises with everything that is told."""
        self.counts: Counter[EventKind] = Counter()

    def tell(self, kind: EventKind, text: str, mailbox_id: MailboxId | None = None) -> Event:
        """A new event."""
        self._number += 1
        event = Event(self._number, kind, mailbox_id, self._clock.now_s(), _short(text))
        self._held[kind].append(event)
        self._announce(event)
        return event

    def tell_again(self, event: Event, text: str) -> None:
        """The same as `event`, once more, now."""
        event.time_s, event.text, event.times = self._clock.now_s(), _short(text), event.times + 1
        if event not in self._held[event.kind]:
            self._held[event.kind].append(event)
        self._announce(event)

    def latest(self, kind: EventKind, mailbox_id: MailboxId | None, *, within_s: float) -> Event | None:
        """The last event of that kind about that mailbox, if it is younger than that."""
        since_s = self._clock.now_s() - within_s
        found = [e for e in self._held[kind] if e.mailbox_id == mailbox_id and e.time_s >= since_s]
        return found[-1] if found else None

    def tell_or_again(
        self, kind: EventKind, text: str, mailbox_id: MailboxId | None = None, *, within_s: float
    ) -> None:
        """Like `tell`, but as one with the last of its kind about that mailbox, if that is younger than `within_s`."""
        before = self.latest(kind, mailbox_id, within_s=within_s)
        if before is None:
            self.tell(kind, text, mailbox_id)
        else:
            self.tell_again(before, text)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """`listener` is called with every event when it is told, and told again. It must not block."""
        self._listeners.append(listener)

    def recent(self, events_max: int) -> list[Event]:
        """The latest first."""
        held = [event for ring in self._held.values() for event in ring]
        return sorted(held, key=lambda event: (event.time_s, event.number), reverse=True)[:events_max]

    def _announce(self, event: Event) -> None:
        self.revision += 1
        self.counts[event.kind] += 1
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # whoever tells of something has other things to do
                log.exception("a listener of the events failed")


def _short(text: str) -> str:
    return text if len(text) <= EVENT_CHARS_MAX else text[: EVENT_CHARS_MAX - 1] + "…"
