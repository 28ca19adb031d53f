"""The stream of events: what is kept, what is told as one, and what a flood can't do."""

from __future__ import annotations

import pytest

from node.events import Event, EventKind, Events
from protocols.limits.tools import EVENT_CHARS_MAX
from protocols.model import MailboxId

A, B = MailboxId(bytes(32)), MailboxId(bytes(31) + b"\1")


class Watch:
    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0

    def now_s(self) -> float:
        return self.time_s


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_the_latest_come_first(watch: Watch) -> None:
    events = Events(watch)
    for number in range(5):
        watch.time_s += 1
        events.tell(EventKind.MET, f"event {number}", A)
    assert [event.text for event in events.recent(3)] == ["event 4", "event 3", "event 2"]


def test_many_of_one_kind_push_out_no_other(watch: Watch) -> None:
    events = Events(watch, of_a_kind_max=3)
    events.tell(EventKind.SETTINGS, "the name was changed")
    for number in range(1000):
        events.tell(EventKind.REFUSED, "wrong password", MailboxId(number.to_bytes(32)))
    kinds = [event.kind for event in events.recent(1000)]
    assert kinds.count(EventKind.REFUSED) == 3
    assert kinds.count(EventKind.SETTINGS) == 1
    assert events.counts[EventKind.REFUSED] == 1000


def test_what_goes_on_is_one_event(watch: Watch) -> None:
    events = Events(watch)
    events.tell_or_again(EventKind.LOST, "gone", A, within_s=60)
    watch.time_s += 50
    events.tell_or_again(EventKind.LOST, "gone again", A, within_s=60)
    watch.time_s += 50
    events.tell_or_again(EventKind.LOST, "gone", B, within_s=60)
    (of_b, of_a) = events.recent(10)
    assert (of_a.text, of_a.times, of_a.time_s) == ("gone again", 2, watch.time_s - 50)
    assert of_b.times == 1
    watch.time_s += 100
    events.tell_or_again(EventKind.LOST, "gone", A, within_s=60)
    assert len(events.recent(10)) == 3


def test_listeners_hear_all_and_can_not_break_it(watch: Watch) -> None:
    events = Events(watch)
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("no")

    events.subscribe(broken)
    events.subscribe(heard.append)
    event = events.tell(EventKind.STORE, "x" * 10_000)
    events.tell_again(event, "y")
    assert heard == [event, event]
    assert events.revision == 2
    assert event.to_dict()["text"] == "y"
    assert len(events.tell(EventKind.STORE, "x" * 10_000).text) == EVENT_CHARS_MAX


def test_one_that_was_pushed_out_can_be_told_again(watch: Watch) -> None:
    events = Events(watch, of_a_kind_max=1)
    first = events.tell(EventKind.SYNCED, "a", A)
    events.tell(EventKind.SYNCED, "b", B)
    events.tell_again(first, "a")
    assert events.recent(10) == [first]
