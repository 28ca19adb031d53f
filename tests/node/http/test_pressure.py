"""When strangers have to wait and to work: not in quiet times, soon in a flood, and not for long after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.pressure import Pressure
from protocols.limits.shedding import (
    CALM_S,
    CHALLENGE_BITS_FIRST,
    CHALLENGE_BITS_MAX,
    PACE_MAX_S,
    PULSE_LATE_S,
    PULSE_S,
    STRAIN_STRANGERS_RATE,
)


def play(
    pressure: Pressure,
    time_s: float,
    *,
    late_s: float = 0.0,
    strangers: float = 0.0,
    proven: float = 0.0,
    share: float = 0,
) -> None:
    """Rates are per second."""
    for _ in range(round(time_s / PULSE_S)):
        pressure.look(
            elapsed_s=PULSE_S,
            late_s=late_s,
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
    assert (pressure.pace_s, pressure.bits) == (0, 0)


def test_strain_that_is_not_strangers_doing_is_not_laid_on_them() -> None:
    pressure = Pressure()
    play(pressure, 60, late_s=LATE_S, strangers=STRAIN_STRANGERS_RATE / 2)
    assert (pressure.pace_s, pressure.bits) == (0, 0)


def test_one_long_computation_is_no_flood() -> None:
    pressure = Pressure()
    play(pressure, 5, strangers=FLOOD)
    play(pressure, PULSE_S, late_s=2 * PULSE_LATE_S, strangers=FLOOD)
    play(pressure, 1, strangers=FLOOD)
    assert (pressure.pace_s, pressure.bits) == (0, 0)


@pytest.mark.parametrize("cause", [{"late_s": LATE_S}, {"share": 0.9}])
def test_a_flood_is_slowed_down_within_a_second_and_forgiven_within_a_minute(cause: dict[str, float]) -> None:
    pressure = Pressure()
    play(pressure, 1.0, strangers=FLOOD, **cause)
    assert pressure.bits == CHALLENGE_BITS_FIRST
    play(pressure, 1.0, strangers=FLOOD, **cause)
    assert pressure.pace_s == PACE_MAX_S
    play(pressure, 60)
    assert (pressure.pace_s, pressure.bits, pressure.strain < 0.01) == (0, 0, True)


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


looks = st.tuples(st.floats(0.001, 10), st.floats(0, 60), st.floats(0, 1), st.integers(0, 10**6), st.integers(0, 10**6))


@given(st.lists(looks, max_size=60))
def test_whatever_happens_it_stays_within_its_bounds_and_comes_to_rest(
    happened: list[tuple[float, float, float, int, int]],
) -> None:
    pressure = Pressure()
    for elapsed_s, late_s, share, strangers, proven in happened:
        pressure.look(elapsed_s=elapsed_s, late_s=late_s, share=share, strangers=strangers, proven=proven)
        assert 0 <= pressure.pace_s <= PACE_MAX_S
        assert pressure.bits == 0 or CHALLENGE_BITS_FIRST <= pressure.bits <= CHALLENGE_BITS_MAX
    play(pressure, 120)
    assert (pressure.pace_s, pressure.bits) == (0, 0)
