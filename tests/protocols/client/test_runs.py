"""Sets of sequence numbers against Python's own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocols.client.runs import Runs, runs_of

SEQS = st.sets(st.integers(0, 60))
RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair))))


def members(runs: Runs) -> set[int]:
    return {seq for first, last in runs for seq in range(first, last + 1)}


@given(RUNS)
def test_what_was_added_is_in_it_and_runs_never_touch(added: list[tuple[int, int]]) -> None:
    runs = Runs(added)
    expected = {seq for first, last in added for seq in range(first, last + 1)}
    assert members(runs) == expected
    assert runs.highest == max(expected, default=-1)
    ends = list(runs)
    assert all(first <= last for first, last in ends)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(ends))


@given(SEQS, st.integers(0, 70))
def test_look_ups(seqs: set[int], seq: int) -> None:
    runs = runs_of(seqs)
    assert (seq in runs) == (seq in seqs)
    assert runs.next_from(seq) == min((other for other in seqs if other >= seq), default=None)
    end = seq
    while end + 1 in seqs:
        end += 1
    assert runs.last_from(seq) == (end if seq in seqs else None)
    assert runs.touches(seq) == bool({seq - 1, seq, seq + 1} & seqs)


@given(SEQS, st.integers(0, 70), st.integers(0, 70))
def test_gaps(seqs: set[int], first: int, last: int) -> None:
    runs = runs_of(seqs)
    gaps = list(runs.gaps(first, last))
    assert {seq for start, end in gaps for seq in range(start, end + 1)} == set(range(first, last + 1)) - seqs
    assert runs.covers(first, max(first, last)) == (set(range(first, max(first, last) + 1)) <= seqs)


def test_the_whole_range_fits() -> None:
    top = 2**64 - 1
    runs = runs_of([0, top])
    assert list(runs.gaps()) == [(1, top - 1)]
    runs.add(1, top - 1)
    assert list(runs) == [(0, top)]
