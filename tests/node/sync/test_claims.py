"""Claims: no message is fetched twice, and none is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.sync import claims as claims_module
from node.sync.claims import ClaimHolder, Claims
from protocols.limits.data import SEQ_MAX
from protocols.limits.replication import CLAIM_PATIENCE_S, CLAIMS_OVER_MAX, CLAIMS_PER_LOG_MAX, REFUSED_PAUSE_S
from protocols.limits.sync import TRANSFER_SPANS_MAX
from protocols.model import LogName
from protocols.sync.effects import Span

NAME, OTHER = LogName("topic", "log"), LogName("topic", "other")


def test_what_one_session_claims_another_does_not_get() -> None:
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    assert claims.take(one, [Span(NAME, 10, 19)]) == [Span(NAME, 10, 19)]
    assert claims.take(other, [Span(NAME, 0, 30), Span(OTHER, 10, 19)]) == [
        Span(NAME, 0, 9),
        Span(NAME, 20, 30),
        Span(OTHER, 10, 19),
    ]
    assert claims.take(one, [Span(NAME, 10, 19)]) == [Span(NAME, 10, 19)]  # its own


def test_what_had_no_room_is_not_asked_for_for_a_while() -> None:
    now_at = 0.0
    claims = Claims(now_at=lambda: now_at)
    claims.refuse([Span(NAME, 5, 5), Span(NAME, 3, 3)])
    now_at = 100.0
    claims.refuse([Span(OTHER, 7, 7)])
    asked = [Span(NAME, 0, 4), Span(NAME, 5, 9), Span(OTHER, 8, 9)]
    free = [Span(NAME, 0, 2), Span(NAME, 4, 4), Span(NAME, 6, 9), Span(OTHER, 8, 9)]
    assert claims.affordable(asked) == (free, [Span(NAME, 3, 3), Span(NAME, 5, 5)])
    now_at = REFUSED_PAUSE_S
    assert claims.affordable(asked) == (asked, [])
    assert claims.affordable([Span(OTHER, 7, 7)]) == ([], [Span(OTHER, 7, 7)])


def test_of_how_many_logs_it_is_known_that_there_was_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "REFUSED_LOGS_MAX", 2)
    claims = Claims(now_at=lambda: 0.0)
    spans = [Span(LogName("topic", str(log)), 0, 0) for log in range(3)]
    claims.refuse(spans)
    assert claims.affordable(spans) == (spans[:1], spans[1:])


def test_what_was_fetched_stays_claimed_for_sessions_that_began_before() -> None:
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    claims.take(one, [Span(NAME, 0, 9)])
    claims.end(one, in_good_order=True)
    later = claims.begin()
    assert claims.take(other, [Span(NAME, 0, 9)]) == []
    assert claims.take(later, [Span(NAME, 0, 9)]) == [Span(NAME, 0, 9)]  # it sees the store as it is now


def test_what_a_broken_session_claimed_is_free() -> None:
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    claims.take(one, [Span(NAME, 0, 9)])
    claims.end(one, in_good_order=False)
    assert claims.take(other, [Span(NAME, 0, 9)]) == [Span(NAME, 0, 9)]


def test_what_did_not_come_is_free() -> None:
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    claims.take(one, [Span(NAME, 0, 9)])
    claims.release(one, [Span(NAME, 4, 5)])
    assert claims.take(other, [Span(NAME, 0, 9)]) == [Span(NAME, 4, 5)]


def test_nobody_is_kept_waiting_by_those_who_claim_and_do_not_deliver() -> None:
    now_s = 0.0
    claims = Claims(now_at=lambda: now_s)
    liar, honest = claims.begin(), claims.begin()
    claims.take(liar, [Span(NAME, 0, SEQ_MAX)])
    assert claims.take(honest, [Span(NAME, 0, 9)]) == []
    claims.release(liar, [Span(NAME, 0, SEQ_MAX)], [Span(NAME, 20, 20)])  # something else, to look busy
    claims.end(liar, in_good_order=True)
    again = claims.begin()
    claims.take(again, [Span(NAME, 0, SEQ_MAX)])  # before anybody else asks
    now_s = CLAIM_PATIENCE_S - 1
    assert claims.take(honest, [Span(NAME, 0, 9)]) == []
    now_s = CLAIM_PATIENCE_S
    assert claims.take(honest, [Span(NAME, 0, 9), Span(OTHER, 0, 9)]) == [Span(NAME, 0, 9), Span(OTHER, 0, 9)]


def test_who_waits_does_not_fetch_what_came_meanwhile() -> None:
    now_s = 0.0
    claims = Claims(now_at=lambda: now_s)
    one, other = claims.begin(), claims.begin()
    claims.take(one, [Span(NAME, 0, 9)])
    assert claims.take(other, [Span(NAME, 0, 4)]) == []
    claims.release(one, [], [Span(NAME, 0, 4)])
    now_s = 2 * CLAIM_PATIENCE_S
    assert claims.take(other, [Span(NAME, 0, 9)]) == []  # what came is here; the rest is waited for from now on
    now_s += CLAIM_PATIENCE_S
    assert claims.take(other, [Span(NAME, 0, 9)]) == [Span(NAME, 5, 9)]


def test_what_is_remembered_is_bounded() -> None:
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    gaps = [Span(NAME, 2 * seq, 2 * seq) for seq in range(TRANSFER_SPANS_MAX)]
    assert claims.take(one, gaps) == gaps
    assert claims.held == CLAIMS_PER_LOG_MAX
    assert claims.take(other, gaps) == gaps[:-CLAIMS_PER_LOG_MAX]  # the rest may be fetched twice
    for _ in range(2 * CLAIMS_OVER_MAX):
        short = claims.begin()
        claims.take(short, [Span(OTHER, 0, 0)])
        claims.end(short, in_good_order=True)
    assert claims.held == 2 * CLAIMS_PER_LOG_MAX + CLAIMS_OVER_MAX


def test_a_few_seconds_hints_do_not_have_a_large_transfer_done_twice() -> None:
    claims = Claims(now_at=lambda: 0.0)
    large, other = claims.begin(), claims.begin()
    fetched = [Span(NAME, 0, 99_999)]
    claims.release(large, (), claims.take(large, fetched))
    claims.end(large, in_good_order=True)
    for seq in range(2 * CLAIMS_OVER_MAX):
        hint = claims.begin()
        claims.release(hint, (), [Span(OTHER, seq, seq)])
        claims.end(hint, in_good_order=True)
    assert claims.held == CLAIMS_OVER_MAX
    latest = 2 * CLAIMS_OVER_MAX - 1
    assert claims.take(other, [*fetched, Span(OTHER, 0, 0), Span(OTHER, latest, latest)]) == [Span(OTHER, 0, 0)]


def test_when_too_much_is_claimed_what_follows_is_granted_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "CLAIMS_MAX", 3)
    claims = Claims(now_at=lambda: 0.0)
    one, other = claims.begin(), claims.begin()
    spans = [Span(LogName("topic", f"{number}"), 0, 9) for number in range(5)]
    assert claims.take(one, spans) == spans
    assert claims.held == 3
    assert claims.take(other, spans) == spans[3:]
    claims.end(one, in_good_order=False)
    assert claims.take(other, spans) == spans


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "take", "take", "release", "end", "break"]),
        st.integers(0, 5),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(steps)
def test_against_sets(taken: list[tuple[str, int, int, int]]) -> None:
    """Nothing is granted to two sessions that are under way; nothing is kept when all have ended."""
    claims = Claims(now_at=lambda: 0.0)
    active: list[ClaimHolder] = []
    owned: dict[ClaimHolder, set[int]] = {}
    for what, which, low, length in taken:
        if what == "begin":
            active.append(claims.begin())
            owned[active[-1]] = set()
            continue
        if not active:
            continue
        holder = active[which % len(active)]
        span = Span(NAME, low, low + length)
        if what == "take":
            granted = {seq for _, first, last in claims.take(holder, [span]) for seq in range(first, last + 1)}
            assert granted <= set(range(low, low + length + 1))
            for other in active:
                assert other is holder or not granted & owned[other]
            assert owned[holder] & set(range(low, low + length + 1)) <= granted
            owned[holder] |= granted
        elif what == "release":
            claims.release(holder, [span])
            owned[holder] -= set(range(low, low + length + 1))
        else:
            active.remove(holder)
            claims.end(holder, in_good_order=what == "end")
    for holder in active:
        claims.end(holder, in_good_order=True)
    fresh = claims.begin()
    assert claims.take(fresh, [Span(NAME, 0, 50)]) == [Span(NAME, 0, 50)]
    assert claims.held == 1
