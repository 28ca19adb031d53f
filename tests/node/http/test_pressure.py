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
    PULSE_LATE_S,
    PULSE_S,
    STRAIN_CHALLENGE_S,
    STRAIN_STRANGERS_RATE,
    STRANGERS_WAIT_S,
)


def play(
    pressure: Pressure,
    time_s: float,
    *,
    late_s: float = 0.0,
    wait_s: float = 0.0,
    strangers: float = 0.0,
    proven: float = 0.0,
    share: float = 0,
) -> None:
    """Rates are per second."""
    for _ in range(round(time_s / PULSE_S)):
        pressure.look(
            elapsed_s=PULSE_S,
            late_s=late_s,
            wait_s=wait_s,
            share=share,
            strangers=round(strangers * PULSE_S),
            proven=round(proven * PULSE_S),
        )


LATE_S = 4 * PULSE_LATE_S
FLOOD = 100 * STRAIN_STRANGERS_RATE


def test_quiet_times_ask_for_nothing() -> None:
    pressure = Pressure()
    play(pressure, 60, strangers=FLOOD)  # many, and all served in time
    play(pressure, 60, late_s=PULSE_LATE_S * 0.9, strangers=FLOOD)
    assert (pressure.is_high, pressure.bits) == (False, 0)


def test_strain_that_is_not_strangers_doing_is_not_laid_on_them() -> None:
    pressure = Pressure()
    play(pressure, 60, late_s=LATE_S, strangers=STRAIN_STRANGERS_RATE / 2)
    assert (pressure.is_high, pressure.bits) == (False, 0)


def test_one_long_computation_is_no_flood() -> None:
    pressure = Pressure()
    play(pressure, 5, strangers=FLOOD)
    play(pressure, PULSE_S, late_s=2.0, strangers=FLOOD)
    play(pressure, 1, strangers=FLOOD)
    assert (pressure.is_high, pressure.bits) == (False, 0)


@pytest.mark.parametrize("cause", [{"late_s": LATE_S}, {"share": 0.9}, {"wait_s": 4 * STRANGERS_WAIT_S}])
def test_a_flood_costs_within_a_second_and_is_forgiven_within_a_minute(cause: dict[str, float]) -> None:
    pressure = Pressure()
    play(pressure, STRAIN_CHALLENGE_S, strangers=FLOOD, **cause)
    assert (pressure.is_high, pressure.bits) == (True, 0), "there was no time to tell a flood from a moment"
    play(pressure, 1.0, strangers=FLOOD, **cause)
    assert (pressure.is_high, pressure.bits) == (True, CHALLENGE_BITS_FIRST)
    play(pressure, 60)
    assert (pressure.is_high, pressure.bits, pressure.strain < 0.01) == (False, 0, True)


def test_how_long_strangers_wait_is_told_as_an_average() -> None:
    pressure = Pressure()
    play(pressure, 2, wait_s=0.5)
    assert 0.49 < pressure.wait_s <= 0.5


def test_too_many_proofs_make_them_dearer_and_then_cheaper_again() -> None:
    pressure = Pressure()
    play(pressure, 2, late_s=LATE_S, strangers=FLOOD)
    play(pressure, 3.5, late_s=LATE_S, strangers=FLOOD, proven=1000)
    assert CHALLENGE_BITS_FIRST + 2 <= pressure.bits <= CHALLENGE_BITS_FIRST + 4
    play(pressure, 60, late_s=LATE_S, strangers=FLOOD, proven=1000)
    assert pressure.bits == CHALLENGE_BITS_MAX
    steps = CHALLENGE_BITS_MAX - CHALLENGE_BITS_FIRST + 1
    play(pressure, CALM_S * steps + 2 * CALM_S)
    assert pressure.bits == 0


looks = st.tuples(
    st.floats(0.001, 10),
    st.floats(0, 60),
    st.floats(0, 60),
    st.floats(0, 1),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)


@given(st.lists(looks, max_size=60))
def test_whatever_happens_it_stays_within_its_bounds_and_comes_to_rest(
    happened: list[tuple[float, float, float, float, int, int]],
) -> None:
    pressure = Pressure()
    for elapsed_s, late_s, wait_s, share, strangers, proven in happened:
        pressure.look(
            elapsed_s=elapsed_s, late_s=late_s, wait_s=wait_s, share=share, strangers=strangers, proven=proven
        )
        assert pressure.bits == 0 or CHALLENGE_BITS_FIRST <= pressure.bits <= CHALLENGE_BITS_MAX
    play(pressure, 120)
    assert (pressure.is_high, pressure.bits) == (False, 0)
