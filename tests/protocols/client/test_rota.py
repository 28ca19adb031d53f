"""Whose turn it is, by the app's own times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.client.policies import POLICIES
from protocols.client.rota import Rota, Turn

EACH = POLICIES["each"]


def rota_of(*mailboxes: str, policy: str = "each") -> Rota[str]:
    rota: Rota[str] = Rota(POLICIES[policy])
    for mailbox in mailboxes:
        rota.meet(mailbox, 0.0)
    return rota


def take(rota: Rota[str], now_s: float) -> Turn[str]:
    turn = rota.begin(now_s)
    assert turn is not None
    return turn


def test_new_ones_are_polled_at_once_and_at_the_same_time() -> None:
    rota = rota_of("a", "b")
    turns = [take(rota, 0.0), take(rota, 0.0)]
    assert turns == [Turn("a", True), Turn("b", True)]
    assert rota.begin(0.0) is None
    for turn in turns:
        rota.end(turn, 1.0, failed=False)
    assert rota.due_at() == 1.0 + EACH.after_success_s


def test_failures_slow_down_and_one_success_resets() -> None:
    rota, now_s, pauses = rota_of("a"), 0.0, []
    for _ in range(12):
        rota.end(take(rota, now_s), now_s, failed=True)
        pauses.append(rota.due_at() - now_s)
        now_s = rota.due_at()
    assert pauses == [2.5] * 4 + [5.5] * 5 + [10.5] * 3
    rota.end(take(rota, now_s), now_s, failed=False)
    assert rota.failures("a") == 0
    assert rota.due_at() == now_s + 2.5


def test_a_dead_one_does_not_hold_up_the_other() -> None:
    rota = rota_of("dead", "alive")
    take(rota, 0.0)  # never ends
    now_s = 0.0
    for _ in range(5):
        turn = take(rota, now_s)
        assert turn.mailbox == "alive"
        rota.end(turn, now_s, failed=False)
        now_s = rota.due_at()
    assert now_s == 5 * EACH.after_success_s


def test_round_robin_moves_on_after_an_error_too() -> None:
    rota, now_s, order = rota_of("a", "b", "c", policy="round-robin"), 0.0, []
    for failed in (False, True, False, False):
        turn = take(rota, now_s)
        assert rota.begin(now_s + 100) is None  # one at a time
        order.append(turn.mailbox)
        rota.end(turn, now_s, failed=failed)
        assert rota.due_at() == now_s + (15.0 if failed else 5.0)
        now_s = rota.due_at()
    assert order == ["a", "b", "c", "a"]


def test_hurried_polls_keep_the_floor() -> None:
    rota = rota_of("a")
    rota.end(take(rota, 0.0), 0.1, failed=False)
    rota.hurry(0.2)
    assert rota.due_at() == 1.0
    turn = take(rota, 1.0)
    rota.hurry(1.1)  # while it is under way: there may be news behind it
    rota.end(turn, 1.2, failed=False)
    assert rota.due_at() == 2.0


def test_own_messages_go_soon_and_without_a_poll() -> None:
    rota = rota_of("a", "b")
    rota.end(take(rota, 0.0), 0.0, failed=False)
    rota.end(take(rota, 0.0), 0.0, failed=True)
    rota.push(0.5)
    rota.push(0.59)  # gathers, but is not put off
    assert rota.due_at() == 0.6
    turn = take(rota, 0.6)
    assert turn == Turn("a", False)
    rota.end(turn, 0.7, failed=False)
    assert rota.due_at() == 2.5  # the polls are where they were
    assert take(rota, 2.5).polls


def test_who_asks_for_time_gets_it() -> None:
    rota = rota_of("a", "b")
    rota.end(take(rota, 0.0), 0.0, failed=True, retry_after_s=30.0)
    rota.hurry(1.0)
    rota.push(1.0)
    assert take(rota, 1.1).mailbox == "b"
    assert rota.begin(29.9) is None
    assert take(rota, 30.0).mailbox == "a"


def test_a_lost_one_is_not_polled_and_a_lost_turn_is_no_harm() -> None:
    rota = rota_of("a")
    turn = take(rota, 0.0)
    rota.lose("a")
    rota.end(turn, 1.0, failed=False)
    assert rota.begin(1000.0) is None
    assert rota.due_at() == float("inf")


@given(
    st.sampled_from(["each", "round-robin"]),
    st.lists(st.tuples(st.sampled_from(["meet", "lose", "hurry", "push", "begin", "end", "fail", "wait"]),
                       st.integers(0, 3)), max_size=80),
)  # fmt: skip
def test_whoever_is_here_gets_a_turn_before_long(policy: str, acts: list[tuple[str, int]]) -> None:
    rota: Rota[int] = Rota(POLICIES[policy])
    now_s, under_way = 0.0, []
    for act, number in acts:
        now_s += 0.05
        if act == "wait":
            now_s += 3.0
        elif act == "begin":
            turn = rota.begin(now_s)
            assert turn is None or turn.mailbox not in [other.mailbox for other in under_way if other.mailbox in rota]
            under_way += [turn] if turn else []
        elif act in ("end", "fail") and under_way:
            rota.end(under_way.pop(number % len(under_way)), now_s, failed=act == "fail", retry_after_s=float(number))
        elif act == "meet":
            if number not in [turn.mailbox for turn in under_way]:
                rota.meet(number, now_s)
        elif act == "lose":
            rota.lose(number)
            under_way = [turn for turn in under_way if turn.mailbox != number]
        elif act in ("hurry", "push"):
            rota.hurry(now_s) if act == "hurry" else rota.push(now_s)
    for turn in under_way:
        rota.end(turn, now_s, failed=False)
    polled = set()
    for _ in range(40):
        now_s = max(now_s, rota.due_at())
        if now_s == float("inf"):
            break
        turn = rota.begin(now_s)
        assert turn is not None
        polled |= {turn.mailbox} if turn.polls else set()
        rota.end(turn, now_s, failed=False)
    assert polled == set(rota)
