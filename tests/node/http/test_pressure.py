"""When strangers have to work: not in quiet times, soon in a flood, and not for long after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.pressure import Pressure
from protocols.limits.shedding import (
    CALM_S,
    CHALLENGE_BITS_FIRST,
    CHALLENGE_BITS_MAX,
    KNOCKS_RATE,
    PULSE_S,
    STRAIN_CHALLENGE_S,
    STRANGERS_BUSY_S,
)


def play(
    pressure: Pressure,
    time_s: float,
    *,
    busy_s: float = 0.0,
    knocks: float = 0.0,
    proven: float = 0.0,
    share: float = 0,
) -> None:
    """Rates are per second."""
    for _ in range(round(time_s / PULSE_S)):
        pressure.look(
            elapsed_s=PULSE_S,
            busy_s=busy_s,
            share=share,
            knocks=round(knocks * PULSE_S),
            proven=round(proven * PULSE_S),
        )


BUSY_S = 4 * STRANGERS_BUSY_S


def test_quiet_times_ask_for_nothing() -> None:
    pressure = Pressure()
    play(pressure, 60, knocks=KNOCKS_RATE * 0.9)  # many, and all served in time
    play(pressure, 60, busy_s=STRANGERS_BUSY_S * 0.9, share=0.45)
    assert (pressure.is_high, pressure.bits) == (False, 0)


def test_a_moment_is_no_flood() -> None:
    pressure = Pressure()
    play(pressure, PULSE_S, busy_s=60.0, share=1.0)
    assert (pressure.is_high, pressure.bits) == (False, 0)


@pytest.mark.parametrize("cause", [{"busy_s": BUSY_S}, {"share": 0.9}])
def test_a_flood_costs_within_a_second_and_is_forgiven_within_a_minute(cause: dict[str, float]) -> None:
    pressure = Pressure()
    play(pressure, STRAIN_CHALLENGE_S, **cause)
    assert (pressure.is_high, pressure.bits) == (True, 0), "there was no time to tell a flood from a moment"
    play(pressure, 1.0, **cause)
    assert (pressure.is_high, pressure.bits) == (True, CHALLENGE_BITS_FIRST)
    play(pressure, 60)
    assert (pressure.is_high, pressure.bits, pressure.strain < 0.01) == (False, 0, True)


def test_too_many_connections_are_rationed_and_cost_no_work() -> None:
    pressure = Pressure()
    play(pressure, 60, knocks=4 * KNOCKS_RATE)
    assert (pressure.is_high, pressure.bits) == (True, 0)
    play(pressure, 60)
    assert not pressure.is_high


def test_too_many_proofs_make_them_dearer_and_then_cheaper_again() -> None:
    pressure = Pressure()
    play(pressure, 2, busy_s=BUSY_S)
    play(pressure, 3.5, busy_s=BUSY_S, proven=1000)
    assert CHALLENGE_BITS_FIRST + 2 <= pressure.bits <= CHALLENGE_BITS_FIRST + 4
    play(pressure, 60, busy_s=BUSY_S, proven=1000)
    assert pressure.bits == CHALLENGE_BITS_MAX
    steps = CHALLENGE_BITS_MAX - CHALLENGE_BITS_FIRST + 1
    play(pressure, CALM_S * steps + 2 * CALM_S)
    assert pressure.bits == 0


looks = st.tuples(st.floats(0.001, 10), st.floats(0, 60), st.floats(0, 1), st.integers(0, 10**6), st.integers(0, 10**6))


@given(st.lists(looks, max_size=60))
def test_whatever_happens_it_stays_within_its_bounds_and_comes_to_rest(
    happened: list[tuple[float, float, float, int, int]],
) -> None:
    pressure = Pressure()
    for elapsed_s, busy_s, share, knocks, proven in happened:
        pressure.look(elapsed_s=elapsed_s, busy_s=busy_s, share=share, knocks=knocks, proven=proven)
        assert pressure.bits == 0 or CHALLENGE_BITS_FIRST <= pressure.bits <= CHALLENGE_BITS_MAX
    play(pressure, 120)
    assert (pressure.is_high, pressure.bits) == (False, 0)
