"""One conversation with mailboxes that lie or are of another mind."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.client.answers import Cause, Refused
from protocols.client.book import Book
from protocols.client.exchange import Ask, Effect, Give, Keep, Load, Outcome, exchange
from protocols.limits.client import CLIENT_LOGS_PER_TOPIC_MAX, CLIENT_MISSING_MAX, CLIENT_REFUSALS_MAX, CLIENT_RUNS_MAX
from protocols.model import LogName
from protocols.toy_answers import TopicAnswer

ANNA = LogName("t", "anna")


def book_of(own: int = 0, **held: range) -> Book:
    book = Book("me", ["t"])
    for _ in range(own):
        book.write(*book.place("t"))
    for log, seqs in held.items():
        book.take(LogName("t", log), dict.fromkeys(seqs, b"x"))
    return book


def play(book: Book, answers: list[Any], *, now_s: float = 1000.0) -> tuple[Outcome, list[Effect]]:
    """A poll of a mailbox that gives `answers` to what it is asked, in this order; then nothing and all well."""
    steps = exchange(book, "box", polls=True, now_s=now_s)
    left, seen = list(answers), []
    result: Any = None
    while True:
        try:
            effect = steps.throw(result) if isinstance(result, Refused) else steps.send(result)
        except StopIteration as stop:
            return stop.value, seen
        seen.append(effect)
        if isinstance(effect, Ask | Give):
            result = left.pop(0) if left else {}
        else:
            result = [b"x"] * len(effect.keys) if isinstance(effect, Load) else None


def missing(seqs: list[int], log: str = "anna") -> dict[str, TopicAnswer]:
    return {"t": TopicAnswer({}, {log: seqs})}


def test_what_it_calls_missing_again_and_again_is_given_once_a_minute() -> None:
    book = book_of(anna=range(3))
    gives = []
    for now_s in (1000.0, 1002.5, 1005.0, 1061.0):
        _, seen = play(book, [missing([0, 1, 2])], now_s=now_s)
        gives.append(sum(isinstance(effect, Give) for effect in seen))
    assert gives == [1, 0, 0, 1]


def test_only_what_we_hold_of_what_we_named_is_given() -> None:
    book = book_of(anna=range(3))
    lists = {"anna": [1, 7, 2**64 - 1], "bob": [0, 1]}
    _, seen = play(book, [{"t": TopicAnswer({}, lists), "other": TopicAnswer({}, {"x": [0]})}])
    assert [effect.messages for effect in seen if isinstance(effect, Give)] == [[(ANNA, 1, b"x")]]


def test_endless_lists_are_cut() -> None:
    book = book_of(anna=range(3))
    outcome, _ = play(book, [missing(list(range(4 * CLIENT_MISSING_MAX)))])
    assert outcome.given == 3


def test_topics_that_were_not_asked_for_and_too_many_logs_are_not_taken() -> None:
    book = book_of()
    logs = {f"log{number}": {0: b"x"} for number in range(CLIENT_LOGS_PER_TOPIC_MAX + 5)}
    outcome, seen = play(book, [{"t": TopicAnswer(logs, {}), "other": TopicAnswer({"a": {0: b"x"}}, {})}])
    assert outcome.received == CLIENT_LOGS_PER_TOPIC_MAX
    assert {name.topic for effect in seen if isinstance(effect, Keep) for name, _, _ in effect.messages} == {"t"}
    assert book.rejected == 5


def test_a_log_of_holes_is_not_followed_for_ever() -> None:
    book = book_of()
    outcome, _ = play(book, [{"t": TopicAnswer({"anna": {2 * seq: b"x" for seq in range(2 * CLIENT_RUNS_MAX)}}, {})}])
    assert outcome.received == CLIENT_RUNS_MAX


@pytest.mark.parametrize("cause", [Cause.BAD, Cause.TOO_LARGE])
def test_one_message_that_it_does_not_take_holds_up_no_other(cause: Cause) -> None:
    book = book_of(anna=range(4))
    no = Refused(cause, "no")
    # All four, then the first two, the third alone, which is the bad one, and the fourth.
    outcome, seen = play(book, [missing([0, 1, 2, 3]), no, {}, no, no, {}])
    assert [len(effect.messages) for effect in seen if isinstance(effect, Give)] == [4, 2, 2, 1, 1]
    assert (outcome.given, outcome.refused) == (3, None)
    _, seen = play(book, [missing([2])], now_s=2000.0)  # and is not offered again
    assert not any(isinstance(effect, Give) for effect in seen)


def test_who_takes_nothing_at_all_is_out_of_order() -> None:
    book = book_of(anna=range(100))
    outcome, seen = play(book, [missing(list(range(100))), *[Refused(Cause.BAD, "no")] * 1000])
    assert outcome.failed
    assert sum(isinstance(effect, Give) and len(effect.messages) == 1 for effect in seen) <= CLIENT_REFUSALS_MAX + 1


def test_a_full_one_is_still_read_and_not_called_failed() -> None:
    book = book_of(own=1)
    full = Refused(Cause.FULL, "full", retry_after_s=60.0)
    news = {"t": TopicAnswer({"anna": {0: b"x"}}, {"me": [0]})}
    outcome, _ = play(book, [news, full])
    assert (outcome.received, outcome.given, outcome.failed) == (1, 0, False)
    assert outcome.refused is full
    outcome, seen = play(book, [missing([0], "me")], now_s=1030.0)
    assert not any(isinstance(effect, Give) for effect in seen)
    assert outcome.refused is not None
    assert book.behind("box") == 1
    outcome, _ = play(book, [], now_s=1061.0)  # brings it before it asks
    assert (outcome.given, outcome.refused, book.behind("box")) == (1, None, 0)
