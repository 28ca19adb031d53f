"""Two mailboxes end equal, in how many round trips, and what a session reports."""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet

import pytest

from protocols.limits.data import CLOCK_SKEW_MAX_S, SEQ_MAX, VARIANTS_MAX
from protocols.limits.sync import ABOUT_LOGS_MAX, BATCH_BYTES_MAX, LOG_RUNS_MAX
from protocols.model import LogName, Retention, digest_of, handle_of
from protocols.sync.common import Steps
from protocols.sync.effects import Commit, OpenView, Settle
from protocols.sync.session import SessionRefused, SessionResult, initiate, respond
from tests.protocols.operation_maker import Author
from tests.protocols.sync.world import HOUR_S, NOW_S, Box, Side, View, assert_equal, name_of, run_pair, sync


def filled(logs: int, messages: int) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(messages):
            box.put(name_of(log), seq, b"%d/%d" % (log, seq))
    return box


@pytest.mark.parametrize("logs", [0, 1, 16, 17, 200])
def test_equal_mailboxes_take_one_round_trip(logs: int) -> None:
    one, other = filled(logs, 3), filled(logs, 3)
    outcome = sync(one, other)
    assert outcome.initiator.result is not None
    assert outcome.initiator.result.round_trips == 1
    assert outcome.initiator.result.complete
    assert outcome.frames == 3  # hello, hello, done
    assert outcome.bytes < 450


def test_two_sessions_that_have_come_equally_far_are_two() -> None:
    first, second = SessionResult(), SessionResult()
    under_way = [first, second]
    under_way.remove(second)
    assert under_way[0] is first  # an equal one in its place would be missed when it ends


@pytest.mark.parametrize("is_hinted", [False, True])
def test_the_pictures_of_a_session_go_when_it_is_over(is_hinted: bool) -> None:
    kept: WeakSet[View] = WeakSet()

    class Watched(Box):
        def perform(self, effect: Any) -> Any:
            done = super().perform(effect)
            if isinstance(done, View):
                kept.add(done)
            return done

    one, other = Watched(), Watched()
    for log in range(40):
        one.put(name_of(log), 0, b"common")
        other.put(name_of(log), 0, b"common")
    one.put(name_of(3), 1, b"one")
    other.put(name_of(4), 1, b"other")
    gc.disable()
    try:
        sync(one, other, only=[handle_of(name_of(4)), handle_of(name_of(50))] if is_hinted else None)
        assert not kept, "they wait until somebody looks for garbage"
    finally:
        gc.enable()
    assert name_of(4) in one.logs and one.logs[name_of(4)].keys() == {0, 1}


@pytest.mark.parametrize("messages", [1, 63, 64, 65, 1000])
def test_a_fresh_mailbox_takes_everything(messages: int) -> None:
    one, other = Box(), filled(5, messages)
    result = sync(one, other).initiator.result
    assert result is not None
    assert (result.received, result.sent, result.complete) == (5 * messages, 0, True)
    assert_equal(one, other)
    assert one.settled == one.commits > 0


def test_a_fresh_mailbox_is_given_everything() -> None:
    one, other = filled(5, 100), Box()
    outcome = sync(one, other)
    assert outcome.initiator.result is not None and outcome.responder.result is not None
    assert (outcome.initiator.result.sent, outcome.responder.result.received) == (500, 500)
    assert_equal(one, other)
    assert other.settled == other.commits > 0, "acknowledged before it was durable"


def test_news_on_both_sides_of_one_log() -> None:
    one, other = filled(30, 100), filled(30, 100)
    one.put(name_of(3), 100, b"one")
    other.put(name_of(3), 101, b"other")
    other.put(name_of(77), 0, b"a new log")
    result = sync(one, other).initiator.result
    assert result is not None
    assert (result.received, result.sent) == (2, 1)
    assert_equal(one, other)


def test_who_was_given_something_looks_again_when_it_is_stored() -> None:
    """Before that, the same would be offered and taken a second time."""
    one, other = filled(3, 10), Box()
    seen: list[type] = []

    def watched(session: Steps[SessionResult]) -> Steps[SessionResult]:
        result: object = None
        while True:
            try:
                effect = session.send(result)
            except StopIteration as stop:
                found: SessionResult = stop.value
                return found
            seen.append(type(effect))
            result = yield effect

    outcome = run_pair(Side(one, initiate(one.config())), Side(other, watched(respond(other.config()))))
    assert outcome.responder.result is not None and outcome.responder.result.received == 30
    again = seen.index(OpenView, seen.index(Commit))
    assert seen[again - 1] is Settle


def test_a_hint_takes_two_round_trips() -> None:
    one, other = filled(100, 10), filled(100, 10)
    other.put(name_of(7), 10, b"news")
    result = sync(one, other, only=[handle_of(name_of(7))]).initiator.result
    assert result is not None
    assert (result.received, result.round_trips, result.full) == (1, 2, False)
    assert_equal(one, other)


def test_a_hint_about_an_unknown_log() -> None:
    one, other = filled(100, 10), filled(100, 10)
    other.put(name_of(700), SEQ_MAX, b"news")
    outcome = sync(one, other, only=[handle_of(name_of(700)), handle_of(name_of(701))])
    assert outcome.initiator.result is not None and outcome.responder.result is not None
    assert (outcome.initiator.result.received, outcome.initiator.result.round_trips) == (1, 3)  # and its name
    assert not outcome.responder.result.full
    assert_equal(one, other)


def test_a_hint_leaves_other_logs_alone() -> None:
    one, other = Box(), filled(3, 1)
    sync(one, other, only=[handle_of(name_of(1))])
    assert list(one.logs) == [name_of(1)]


@pytest.mark.parametrize("held", [0, LOG_RUNS_MAX - 1], ids=["unknown logs", "known logs"])
def test_a_hint_about_logs_of_more_gaps_than_fit_into_a_frame(held: int) -> None:
    one, other = Box(), Box()
    names = [name_of(number) for number in range(120)]
    for name in names:
        for run in range(LOG_RUNS_MAX):
            for box in (one, other) if run < held else (other,):
                box.put(name, run << 57, b"%d" % run)
    equal = name_of(120)  # where one side has no room to say what it holds, it is still seen that both hold the same
    for box in (one, other):
        box.put(equal, 1 << 57, b"both")
    result = sync(one, other, only=[*map(handle_of, names), handle_of(equal)]).initiator.result
    assert result is not None and result.settled
    assert result.received == len(names) * (LOG_RUNS_MAX - held)
    assert_equal(one, other)


def test_a_session_is_about_so_many_logs_at_the_most() -> None:
    one, other = Box(), filled(3, 1)
    handles = [handle_of(name_of(number)) for number in range(ABOUT_LOGS_MAX + 1)]
    sync(one, other, only=handles[:-1])
    assert_equal(one, other)
    with pytest.raises(ValueError, match="limited"):
        next(initiate(one.config(only=handles)))


def test_a_message_of_many_frames_passes_both_ways() -> None:
    one, other = Box(), Box()
    huge = bytes(range(256)) * (3 * BATCH_BYTES_MAX // 256)
    one.put(name_of(1), 0, huge)
    other.put(name_of(2), 0, huge + b"!")
    other.put(name_of(2), 1, b"")
    sync(one, other)
    assert_equal(one, other)
    assert one.logs[name_of(2)][0][digest_of(huge + b"!")][1] == huge + b"!"


def test_gaps_and_the_highest_sequence_number() -> None:
    one, other = Box(), Box()
    for seq in (0, 63, 64, 2**32, 2**63, SEQ_MAX):
        other.put(name_of(1), seq, b"%d" % seq)
    one.put(name_of(1), 5, b"five")
    sync(one, other)
    assert_equal(one, other)


def test_first_stored_merges_to_the_minimum_on_both_sides() -> None:
    one, other = Box(), Box()
    old, new = int(NOW_S) // HOUR_S * HOUR_S - 5 * HOUR_S, int(NOW_S) // HOUR_S * HOUR_S
    one.put(name_of(1), 0, b"a", old)
    other.put(name_of(1), 0, b"a", new)
    one.put(name_of(1), 1, b"b", new)
    other.put(name_of(1), 1, b"b", old)
    outcome = sync(one, other)
    assert outcome.initiator.result is not None and outcome.responder.result is not None
    assert (outcome.initiator.result.received, outcome.initiator.result.sent) == (0, 0)
    assert (outcome.initiator.result.merged, outcome.responder.result.merged) == (1, 1)
    assert_equal(one, other)
    assert one.logs[name_of(1)][1][digest_of(b"b")][0] == old


def test_the_same_variants_are_kept_on_both_sides() -> None:
    one, other = Box(), Box()
    for number in range(VARIANTS_MAX):
        one.put(name_of(1), 0, b"one%d" % number)
        other.put(name_of(1), 0, b"other%d" % number)
    sync(one, other)
    assert_equal(one, other)
    assert len(one.logs[name_of(1)][0]) == VARIANTS_MAX


@pytest.mark.parametrize("shorter_first", [True, False])
def test_what_one_side_let_go_is_no_difference(shorter_first: bool) -> None:
    short, long = Box(retention=Retention(24 * HOUR_S)), Box()
    stamp = int(NOW_S) // HOUR_S * HOUR_S
    for age_h in range(0, 160, 8):
        long.put(name_of(age_h), 0, b"%d" % age_h, stamp - age_h * HOUR_S)
    one, other = (short, long) if shorter_first else (long, short)
    sync(one, other)
    assert set(short.logs) == {name_of(age_h) for age_h in (0, 8, 16)}
    again = sync(one, other)
    assert again.initiator.result is not None
    assert (again.initiator.result.received, again.initiator.result.sent) == (0, 0)


def test_hours_that_change_between_two_clocks() -> None:
    turn = int(NOW_S) // HOUR_S * HOUR_S + HOUR_S
    for early, late in ((0, 1), (1, 0)):
        boxes = [Box(now_s=turn - 2), Box(now_s=turn + 2)]
        for number, box in enumerate(boxes):
            box.put(name_of(number), 0, b"news")
            box.put(name_of(9), 0, b"both")
            box.put(name_of(number), 1, b"dies now", turn - 7 * 24 * HOUR_S)
        sync(boxes[early], boxes[late])
        assert_equal(*boxes)


@pytest.mark.parametrize("initiator_is_ahead", [False, True])
@pytest.mark.parametrize("left", [0, 1])
def test_what_dies_on_one_side_during_a_session_is_not_brought_back(initiator_is_ahead: bool, left: int) -> None:
    ahead, behind = Box(), Box()
    for box in (ahead, behind):
        for seq in range(1 + left):
            box.put(name_of(1), seq, b"%d" % seq)
    ahead.put(name_of(2), 0, b"news")
    behind.put(name_of(3), 0, b"more")

    def expire(count: int, frame: bytes) -> bytes:
        if count == 3:  # both have taken their first pictures
            del ahead.logs[name_of(1)][0]
            if not left:
                del ahead.logs[name_of(1)]
            ahead.touch(name_of(1))
        return frame

    pair = (ahead, behind) if initiator_is_ahead else (behind, ahead)
    outcome = sync(*pair, on_frame=expire)
    results = [side.result for side in (outcome.initiator, outcome.responder)]
    assert [(one.received, one.sent, one.gone, one.skipped) for one in results if one is not None] == [(1, 1, 0, 0)] * 2
    assert 0 not in ahead.logs.get(name_of(1), {})
    assert 0 in behind.logs[name_of(1)]


def test_a_watermark_spares_a_newcomer_from_asking() -> None:
    one, other = Box(), Box()
    for seq in range(5, 10):
        other.put(name_of(1), seq, b"%d" % seq)
    other.watermarks[name_of(1)] = 9  # 0 to 4 have expired
    sync(one, other)
    assert one.watermarks[name_of(1)] == 9
    third = Box()
    sync(other, third)
    assert third.watermarks[name_of(1)] == 9


def test_no_watermark_from_a_peer_that_forgets_earlier() -> None:
    one, other = Box(), Box(retention=Retention(24 * HOUR_S))
    other.put(name_of(1), 5, b"5")
    other.watermarks[name_of(1)] = 5
    sync(one, other)
    sync(other, one)
    assert name_of(1) not in one.watermarks


def test_no_watermark_while_something_is_missing() -> None:
    one, other = Box(refuse_claims=True), Box()
    other.put(name_of(1), 5, b"5")
    one.put(name_of(1), 7, b"7")
    other.watermarks[name_of(1)] = 6
    result = sync(one, other).initiator.result
    assert result is not None
    assert result.skipped > 0 == result.received
    assert name_of(1) not in one.watermarks


def refused(one: Box, other: Box) -> tuple[SessionRefused, SessionRefused]:
    outcome = run_pair(Side(one, initiate(one.config())), Side(other, respond(other.config())))
    errors = (outcome.initiator.error, outcome.responder.error)
    assert isinstance(errors[0], SessionRefused) and isinstance(errors[1], SessionRefused)
    return errors[0], errors[1]


def test_wrong_clocks_are_refused_and_both_know() -> None:
    for skew in (CLOCK_SKEW_MAX_S + 1, -CLOCK_SKEW_MAX_S - 1):
        mine, theirs = refused(Box(), Box(now_s=NOW_S + skew))
        assert (mine.code, mine.by_peer, theirs.by_peer) == ("clock", True, False)
        assert "601 s" in mine.text == theirs.text
    sync(Box(), Box(now_s=NOW_S + CLOCK_SKEW_MAX_S))


def test_other_networks_are_refused() -> None:
    mine, theirs = refused(Box(), Box(network="other"))
    assert mine.code == theirs.code == "network"


@pytest.mark.parametrize("few_ask", [True, False])
def test_a_few_logs_against_very_many(few_ask: bool) -> None:
    """The one that has few can only list; the other must not answer with a list of thousands."""
    few, many = Box(), filled(5000, 1)
    for log in range(10):
        few.put(name_of(log, topic=1), 0, b"mine")
    few.put(name_of(77), 1, b"one more")
    one, other = (few, many) if few_ask else (many, few)
    outcome = sync(one, other)
    assert_equal(one, other)
    assert len(few.logs) == 5010
    assert outcome.bytes < 5000 * (130 + 45 + 45) * 1.2


def test_variants_that_would_not_be_kept_do_not_travel() -> None:
    one, other = Box(), Box()
    old, new = int(NOW_S) // HOUR_S * HOUR_S - HOUR_S, int(NOW_S) // HOUR_S * HOUR_S
    name = LogName("topic", "not a key")
    for number in range(VARIANTS_MAX):
        one.put(name, 0, b"old%d" % number, old)
        other.put(name, 0, b"new%d" % number, new)
    for initiator, responder in ((other, one), (one, other)):
        result = sync(initiator, responder).initiator.result
        assert result is not None
        assert (result.received, result.sent) == ((VARIANTS_MAX, 0) if initiator is other else (0, 0))
    assert_equal(one, other)


@pytest.mark.parametrize("genuine_asks", [True, False])
def test_a_genuine_copy_gets_through_although_older_forgeries_fill_the_key(genuine_asks: bool) -> None:
    alice, forged, true = Author(), Box(), Box()
    for number in range(VARIANTS_MAX):
        forged.put(alice.name, 0, b"old%d" % number, int(NOW_S) // HOUR_S * HOUR_S - 2 * HOUR_S)
    true.put(alice.name, 0, alice.blob(0))
    sync(*((true, forged) if genuine_asks else (forged, true)))
    assert_equal(true, forged)
    assert digest_of(alice.blob(0)) in forged.logs[alice.name][0]


def test_a_coarser_granule_kills_nothing() -> None:
    """A mailbox that keeps messages for ten minutes, to the second, beside one with a week, to the hour."""
    for short_asks in (True, False):
        short, long = Box(retention=Retention(600)), Box()
        short.put(name_of(1), 0, b"seconds", int(NOW_S) - 30)
        long.put(name_of(2), 0, b"hours")
        for _ in range(3):
            sync(*((short, long) if short_asks else (long, short)))
        assert short.items(name_of(1), 0, 0)[0].first_stored_s == int(NOW_S) - 30
        assert long.items(name_of(1), 0, 0)[0].size == 7


@pytest.mark.parametrize("expired_asks", [True, False])
def test_what_has_died_on_one_side_dies_on_the_other(expired_asks: bool) -> None:
    """The same message was stored twice while the two could not talk; the first time counts."""
    stamp = int(NOW_S) // HOUR_S * HOUR_S
    old, young = Box(), Box()
    old.put(name_of(1), 0, b"twice", stamp - 8 * 24 * HOUR_S)  # expired, waiting for its removal
    young.put(name_of(1), 0, b"twice", stamp - 2 * 24 * HOUR_S)
    one, other = (old, young) if expired_asks else (young, old)
    sync(one, other)
    assert young.items(name_of(1), 0, 0)[0].first_stored_s == stamp - 8 * 24 * HOUR_S
    assert_equal(one, other)


def test_no_watermark_for_the_responder_while_something_is_missing() -> None:
    one, other = Box(), Box(refuse_claims=True)
    one.put(name_of(1), 5, b"5")
    other.put(name_of(1), 7, b"7")
    one.watermarks[name_of(1)] = 6
    outcome = sync(one, other)
    assert outcome.responder.result is not None
    assert outcome.responder.result.skipped > 0 == outcome.responder.result.received
    assert name_of(1) not in other.watermarks
    other.refuse_claims = False
    sync(one, other)
    assert other.watermarks[name_of(1)] == 5  # a store raises it only to below what it holds, and over that
