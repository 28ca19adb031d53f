"""What runs of sequence numbers don't show is found all the same; what does not fit into one answer, or into one
session, comes with the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.limits.sync import INSIDE_LOGS_MAX, INSIDE_ROWS_MAX
from protocols.model import LogName, handle_of
from protocols.sync import answers, common, initiator, responder, telling
from protocols.sync.session import Checkpoint
from tests.protocols.sync.test_properties import Twins
from tests.protocols.sync.world import HOUR_S, NOW_S, Box, Outcome, assert_equal, name_of, sync

STAMP_S = int(NOW_S) // HOUR_S * HOUR_S
LOG = name_of(7)


def filled(logs: int, messages: int = 3, *, age_h: int = 2) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(messages):
            box.put(name_of(log), seq, b"%d/%d" % (log, seq), STAMP_S - age_h * HOUR_S)
    return box


def earlier(box: Box) -> None:
    box.put(LOG, 1, b"7/1", STAMP_S - 5 * HOUR_S)


def later(box: Box) -> None:
    del box.logs[LOG][1]
    box.put(LOG, 1, b"7/1", STAMP_S - HOUR_S)


def variant(box: Box) -> None:
    box.put(LOG, 1, b"another", STAMP_S)


def other_content(box: Box) -> None:
    del box.logs[LOG][1]
    box.put(LOG, 1, b"another", STAMP_S)


def equal_after(outcome: Outcome, one: Box, other: Box) -> bool:
    assert_equal(one, other)
    assert outcome.initiator.result is not None
    return outcome.initiator.result.equal


@pytest.mark.parametrize("change", [earlier, later, variant, other_content])
@pytest.mark.parametrize("changes_at", ["initiator", "responder"])
@pytest.mark.parametrize("asked", ["cold", "warm", "warm here", "warm there", "hint"])
def test_the_same_runs_and_yet_a_difference(change: Callable[[Box], None], changes_at: str, asked: str) -> None:
    one, other = filled(30), filled(30)
    marks = (
        Checkpoint(one.serial) if asked in ("warm", "warm here") else None,
        Checkpoint(other.serial) if asked in ("warm", "warm there") else None,
    )
    change(one if changes_at == "initiator" else other)
    outcome = sync(
        one, other, checkpoints=marks, only=[handle_of(LOG), handle_of(name_of(8))] if asked == "hint" else None
    )
    assert equal_after(outcome, one, other) or asked == "hint"  # which asks once, and claims nothing afterwards


@pytest.mark.parametrize("seq", [40, 63, 65, 199])
@pytest.mark.parametrize("kind", ["earlier", "variant", "other content"])
@pytest.mark.parametrize("changes_at", ["initiator", "responder"])
@pytest.mark.parametrize("lets_go_at", ["initiator", "responder", "both"])
@pytest.mark.parametrize("asked", ["cold", "warm", "another log"])
def test_what_one_side_has_let_go_does_not_hide_what_differs_in_the_rest(
    seq: int, kind: str, changes_at: str, lets_go_at: str, asked: str
) -> None:
    name = name_of(1)
    changed = name_of(0) if asked == "another log" else name
    boxes = filled(2, 200), filled(2, 200)
    marks = tuple(Checkpoint(box.serial) if asked == "warm" else None for box in boxes)
    for box, role in zip(boxes, ("initiator", "responder"), strict=True):
        if lets_go_at in (role, "both"):
            first, last = (0, 39) if role == "initiator" else (66, 127)
            box.lets_go(name, first, last)
        if changes_at == role and seq in box.logs[changed]:
            if kind == "other content":
                del box.logs[changed][seq]
            blob = b"%d/%d" % (changed == name, seq) if kind == "earlier" else b"another"
            box.put(changed, seq, blob, STAMP_S - (5 if kind == "earlier" else 0) * HOUR_S)
    sync(*boxes, checkpoints=(marks[0], marks[1]))
    assert boxes[0].items(name_of(0), 0, 1000) == boxes[1].items(name_of(0), 0, 1000)
    for box, other in (boxes, boxes[::-1]):
        first, last = box.let_go.get(name, (1, 0))
        theirs = [item for item in other.items(name, 0, 1000) if not first <= item.seq <= last]
        assert set(theirs) <= set(box.items(name, 0, 1000))
        assert not any(first <= item.seq <= last for item in box.items(name, 0, 1000))
    again = sync(*boxes)
    assert again.initiator.result is not None
    assert again.responder.result is not None
    assert again.initiator.result.received == again.responder.result.received == 0
    assert again.initiator.result.settled
    # Each block in which one side alone has something is told once, and the rest is compared by fingerprints.
    assert again.initiator.result.described <= 64 * 3
    assert again.bytes <= 700 + 45 * again.initiator.result.described


def test_where_much_can_t_be_moved_a_session_looks_into_some_logs_and_others_into_others() -> None:
    one, other = filled(200, 10), filled(200, 10)
    for log in range(200):
        other.lets_go(name_of(log), 0, 4)
        other.put(name_of(log), 7, b"another", STAMP_S)
    rest = {name_of(log) for log in range(200)}
    sessions = 0
    while rest and sessions < 80:
        before = len(rest)
        sync(one, other, salt=b"%08d" % sessions)
        sessions += 1
        rest = {name for name in rest if one.items(name, 5, 9) != other.items(name, 5, 9)}
        assert before - len(rest) <= 4 * INSIDE_LOGS_MAX
    assert not rest
    assert sessions > 1


def test_what_can_t_be_moved_does_not_hide_other_logs_however_many_there_are() -> None:
    one, other = filled(1200, 2), filled(1200, 2)
    for log in range(0, 1200, 2):
        other.lets_go(name_of(log), 0, 0)
    for log in range(1, 1200, 2):
        other.put(name_of(log), 1, b"another", STAMP_S)
    rest = {name_of(log) for log in range(1, 1200, 2)}
    sessions = 0
    while rest and sessions < 60:
        before = len(rest)
        outcome = sync(one, other, salt=b"%08d" % sessions)
        assert outcome.initiator.result is not None
        assert outcome.initiator.result.round_trips < 16
        sessions += 1
        rest = {name for name in rest if one.items(name, 0, 1) != other.items(name, 0, 1)}
        assert before - len(rest) <= INSIDE_ROWS_MAX
    assert not rest
    assert sessions > 1


def test_dates_that_are_in_the_future_of_both() -> None:
    """As after both clocks were set back: one session makes them equal, and brings them down to the present."""
    for mine_h, theirs_h in ((2, 3), (3, 2)):
        one, other = filled(3), filled(3)
        one.put(LOG, 0, b"news", STAMP_S + mine_h * HOUR_S)
        other.put(LOG, 0, b"news", STAMP_S + theirs_h * HOUR_S)
        outcome = sync(one, other)
        assert equal_after(outcome, one, other)
        assert [side.result and side.result.merged for side in (outcome.initiator, outcome.responder)] == [1, 1]
        assert one.items(LOG, 0, 0)[0].first_stored_s == STAMP_S


@pytest.mark.parametrize("rows_max", [2, 3, 7])
def test_a_region_whose_rows_do_not_fit_into_one_answer(rows_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_ROWS_MAX", rows_max)
    one, other = filled(40), filled(40)
    for log in range(0, 40, 3):
        other.put(name_of(log), 0, b"%d/0" % log, STAMP_S - 9 * HOUR_S)
    assert equal_after(sync(one, other), one, other)


def test_a_place_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of logs whose handles begin alike come in one answer, wherever that would have ended."""
    for rows_max in (2, 3, 4):
        monkeypatch.setattr(telling, "_ROWS_MAX", rows_max)
        one, other = filled(12), filled(12)
        with Twins({name_of(4), name_of(5)}):
            for log in range(12):
                other.put(name_of(log), 0, b"%d/0" % log, STAMP_S - 9 * HOUR_S)
            assert equal_after(sync(one, other), one, other)


def alike() -> tuple[LogName, LogName]:
    """Two logs whose handles begin with the same 20 bits and more."""
    seen: dict[bytes, LogName] = {}
    for number in range(100_000):
        name = name_of(number, topic=1)
        other = seen.setdefault(handle_of(name)[:3], name)
        if other != name:
            return other, name
    raise AssertionError("very unlikely")


@pytest.mark.parametrize("mine", [range(3), range(6), range(3, 6), range(0)])
@pytest.mark.parametrize("theirs", [range(3), range(6), range(3, 6), range(2, 4)])
@pytest.mark.parametrize("others", [0, 5])
def test_a_log_that_is_taken_for_another(mine: range, theirs: range, others: int) -> None:
    """Each has a log that the other lacks, and fragments can't tell them apart."""
    one, other = filled(others), filled(others)
    my_log, their_log = alike()
    for seq in mine:
        one.put(my_log, seq, b"mine", STAMP_S)
    for seq in theirs:
        other.put(their_log, seq, b"theirs", STAMP_S)
    outcome = sync(one, other)
    assert equal_after(outcome, one, other)
    assert outcome.responder.result is not None
    assert outcome.responder.result.received == len(mine), "given once"


@pytest.mark.parametrize("body_bytes", [300, 600, 1500])
@pytest.mark.parametrize("shape", ["strangers", "one is empty", "news"])
def test_lists_that_do_not_fit_into_one_answer(body_bytes: int, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer says how far it goes, and the next one goes on from there."""
    monkeypatch.setattr(answers, "CONTROL_BODY_BYTES", body_bytes)
    one, other = Box(), Box()
    for log in range(150):
        for seq in range(log % 7 + 1):
            if shape != "one is empty" and log % 5:
                one.put(name_of(log), 3 * seq, b"", STAMP_S)
            if shape == "news" or log % 3:
                other.put(name_of(log), 3 * seq, b"", STAMP_S)
    marks = (Checkpoint(one.serial), Checkpoint(other.serial)) if shape == "news" else (None, None)
    for log in range(0, 150, 4):
        other.put(name_of(log), 100 + log, b"news", STAMP_S)
    assert equal_after(sync(one, other, checkpoints=marks), one, other)


def sessions_until_equal(one: Box, other: Box, sessions_max: int) -> int:
    """How many sessions it takes; all but the last say that they did not come to an end."""
    for number in range(1, sessions_max + 1):
        outcome = sync(one, other)
        assert outcome.initiator.result is not None and outcome.responder.result is not None
        assert outcome.responder.result.complete == outcome.initiator.result.settled
        if outcome.initiator.result.equal:
            assert outcome.initiator.result.complete
            assert_equal(one, other)
            return number
        assert outcome.initiator.result.checkpoint is None or outcome.initiator.result.complete
    raise AssertionError(f"not equal after {sessions_max} sessions")


def forks(logs: int, messages: int) -> tuple[Box, Box]:
    one, other = filled(logs, messages), filled(logs, messages)
    for log in range(logs):
        for seq in range(0, messages, 3):
            other.put(name_of(log), seq, b"fork", STAMP_S)
    return one, other


def test_more_items_than_a_session_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "SESSION_ITEMS_MAX", 2_000)
    monkeypatch.setattr(responder, "SESSION_ITEMS_MAX", 2_000)
    monkeypatch.setattr(telling, "CONTROL_BODY_BYTES", 20_000)  # some 400 items
    one, other = forks(3, 1500)
    assert 2 <= sessions_until_equal(one, other, 6) <= 5


def test_more_questions_than_a_session_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "SESSION_TURNS_MAX", 16)
    monkeypatch.setattr(responder, "SESSION_TURNS_MAX", 16)
    monkeypatch.setattr(telling, "CONTROL_BODY_BYTES", 4_000)
    one, other = forks(3, 1000)
    assert 2 <= sessions_until_equal(one, other, 12) <= 10


def test_more_hashing_than_a_session_may_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "SESSION_ROWS_MAX", 2_000)
    monkeypatch.setattr(telling, "CONTROL_BODY_BYTES", 5_000)
    one, other = forks(3, 3000)
    assert 2 <= sessions_until_equal(one, other, 12) <= 10


def test_logs_of_many_gaps_differ_in_dates_and_seqs() -> None:
    """Too many runs to be told: compared by the hashes of their rows, then of their blocks."""
    one, other = filled(3), filled(3)
    gaps = LogName("t", "gaps")
    for seq in range(0, 20_000, 3):
        for box in (one, other):
            box.put(gaps, seq, b"", STAMP_S - HOUR_S)
    one.put(gaps, 10_000, b"mine", STAMP_S)
    other.put(gaps, 40_000, b"theirs", STAMP_S)
    other.put(gaps, 300, b"", STAMP_S - 2 * HOUR_S)
    outcome = sync(one, other)
    assert equal_after(outcome, one, other)
    assert outcome.bytes < 8_000
