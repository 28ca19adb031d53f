"""One side's logs: cut, listed and matched by the beginnings of their handles, as the spec has it."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import FINGERPRINT_BYTES
from protocols.model import LogName
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Runs
from protocols.sync.listing import NO_LISTING, entries_of, entry_bytes, fits, pack_entries
from protocols.sync.messages import Standing
from protocols.sync.reconcile import Budget
from protocols.sync.regions import END, FP, Region
from protocols.sync.tables import KeyedTable
from protocols.sync.wire import unpack
from tests.protocols.sync import by_the_spec as spec
from tests.protocols.sync.world import Log, View

KEY = bytes(range(32))

# Handles that have much in common, some even their whole places, which an attacker could make.
places = st.one_of(
    st.integers(0, END - 1),
    st.integers(0, 40),
    st.integers(0, 40).map(lambda bits: bits << 58),
    st.integers(0, 40).map(lambda bits: 0xABCDEF << 40 | bits << 12),
)
handles = st.sets(st.tuples(places, st.sampled_from([0, 1])), max_size=30).map(
    lambda found: sorted(place.to_bytes(8, "big") + bytes([7 * last] * 8) for place, last in found)
)

numbers = st.one_of(st.integers(0, 200), st.integers(0, SEQ_MAX))


def table_of(handles: list[bytes], budget: Budget | None = None) -> KeyedTable:
    logs: list[Log] = [
        (handle, LogName("t", handle.hex()), spec.blake(handle, 16), [], [row], 0) for row, handle in enumerate(handles)
    ]
    return KeyedTable(View(logs, 0, is_partial=False), key=KEY, budget=budget or Budget())


def places_of(handles: list[bytes]) -> list[int]:
    return [int.from_bytes(handle[:8], "big") for handle in handles]


@given(handles, st.data())
def test_a_listed_log_is_told_from_all_others(handles: list[bytes], data: st.DataObject) -> None:
    table, mine = table_of(handles), places_of(handles)
    rows = [row for row in range(len(handles)) if data.draw(st.booleans())]
    listing = table.listing(np.array(rows, np.int64))
    fragments = listing.fragments.tolist()
    if rows:
        assert listing.width == spec.fragment_bits([mine[row] for row in rows], mine)
    assert fragments == [mine[row] >> 64 - listing.width for row in rows]
    found = table.match(listing.width, listing.fragments)
    for index, row in enumerate(rows):
        if mine.count(mine[row]) == 1:
            assert (found.rows[index], found.maybe(index)) == (row, range(0))
        else:  # their names must be asked for
            assert found.rows[index] == -1
            assert row in found.maybe(index)


@given(handles, st.integers(1, 64), st.lists(st.integers(0, END - 1), max_size=8), st.data())
def test_fragments_of_others_are_matched(
    handles: list[bytes], width: int, theirs: list[int], data: st.DataObject
) -> None:
    table, mine = table_of(handles), places_of(handles)
    some = st.sampled_from(mine) if mine else st.integers(0, END - 1)
    fragments = sorted(place >> 64 - width for place in [*theirs, *data.draw(st.lists(some, max_size=8))])
    lo = data.draw(st.integers(0, len(mine)))
    hi = data.draw(st.integers(lo, len(mine)))
    found = table.match(width, np.array(fragments, np.uint64), [(lo, hi, len(fragments))])
    for index, fragment in enumerate(fragments):
        fitting = [row for row in range(lo, hi) if mine[row] >> 64 - width == fragment]
        if len(fitting) == 1 and fragments.count(fragment) == 1:
            assert (found.rows[index], found.maybe(index)) == (fitting[0], range(0))
        else:
            assert found.rows[index] == -1
            assert list(found.maybe(index)) == fitting
        every = [row for row in range(len(mine)) if mine[row] >> 64 - width == fragment]
        assert list(table.beginning_with(width, fragment)) == every


@given(handles, st.integers(1, 12), st.data())
def test_parts_are_even_and_none_is_empty(handles: list[bytes], parts: int, data: st.DataObject) -> None:
    table, mine = table_of(handles), places_of(handles)
    if not mine:
        return
    lo = data.draw(st.integers(0, len(mine) - 1))
    hi = data.draw(st.integers(lo + 1, len(mine)))
    found = table.cuts(lo, hi, parts)
    cuts = [place for place, _ in found]
    assert len(cuts) < parts
    bounds = [table.bounds(place, END)[0] for place in cuts]
    assert bounds == [row for _, row in found]
    assert all(one < other for one, other in zip([lo, *bounds], [*bounds, hi], strict=True) if cuts)
    assert cuts == [spec.cut_between(mine[row - 1], mine[row]) for row in bounds]
    if len(set(mine)) == len(mine):
        wanted = {lo + (hi - lo) * part // parts for part in range(1, parts)} - {lo}
        assert set(bounds) == wanted


@given(handles, st.lists(st.tuples(st.integers(0, END - 1), st.integers(1, END)), max_size=40))
def test_the_rows_of_many_regions(handles: list[bytes], places: list[tuple[int, int]]) -> None:
    table, mine = table_of(handles), places_of(handles)
    regions = [Region(lower, upper, FP) for lower, upper in places]
    for region, (lo, hi) in zip(regions, table.all_bounds(regions), strict=True):
        assert (lo, hi) == (bisect_left(mine, region.lower), bisect_left(mine, region.upper))


@given(handles, st.data())
def test_fingerprints_of_some_rows(handles: list[bytes], data: st.DataObject) -> None:
    table = table_of(handles)
    content = [handle + spec.blake(handle, 16) for handle in handles]
    chosen = [row for row in range(len(handles)) if data.draw(st.booleans())]
    others = [row for row in range(len(handles)) if row not in chosen]
    expected = spec.table_fingerprint(KEY, [content[row] for row in chosen])
    assert table.of_rows(np.array(chosen, np.int64)) == expected
    assert table.rest(np.array(others, np.int64)) == expected
    assert table.row_hashes(chosen) == b"".join(spec.row_hash(KEY, content[row]) for row in chosen)


def test_all_hashing_is_paid_for() -> None:
    """To the last row, and not one more."""
    handles = [bytes([number]) + bytes(15) for number in range(10)]
    rows = np.arange(10)
    for spend in (
        lambda table: table.fingerprint(0, 10),
        lambda table: table.rest(np.zeros(0, np.int64)),
        lambda table: table.of_rows(rows),
        lambda table: table.row_hashes(range(10)),
        lambda table: table.entries(rows),
    ):
        ample = Budget(1_000)
        spend(table_of(handles, ample))
        cost = 1_000 - ample.rows_left
        assert cost >= len(handles)
        budget = Budget(2 * cost - 1)
        table = table_of(handles, budget)
        spend(table)
        with pytest.raises(RemoteProtocolError) as error:
            spend(table)
        assert error.value.code == "budget"


@given(st.lists(st.lists(st.tuples(numbers, numbers), max_size=40), max_size=40), st.integers(0, 40_000))
def test_what_surely_fits_does_fit(logs: list[list[tuple[int, int]]], room_bytes: int) -> None:
    """Runs with gaps of one seq at least, the largest numbers among them."""
    held = [spans_of_gaps(gaps) for gaps in logs]
    flat = [run for runs in held for run in runs]
    counts = np.array([len(runs) for runs in held], np.int64)
    firsts, lasts = (np.array([run[end] for run in flat], np.uint64) for end in (0, 1))
    entries = entries_of(Runs(counts, firsts, lasts), bytes(FINGERPRINT_BYTES * int((counts == 0).sum())))
    if fits(entries, room_bytes):
        assert int(entry_bytes(entries).sum()) <= room_bytes
        assert len(b"".join(pack_entries(entries))) <= room_bytes


def spans_of_gaps(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    end = -2
    for gap, length in gaps:
        first = end + 2 + gap
        end = first + length
        if end > SEQ_MAX:
            break
        runs.append((first, end))
    return runs


@given(st.sets(st.integers(0, 200)).map(sorted))
def test_which_of_few_or_many_logs_differ_stands_in_a_bitmap(indices: list[int]) -> None:
    count = len(indices)
    runs = Runs(np.ones(count, np.int64), np.zeros(count, np.uint64), np.zeros(count, np.uint64))
    frame = encode(Standing(indices, entries_of(runs, b""), NO_LISTING, b""))
    told = decode(frame)
    assert isinstance(told, Standing)
    assert list(told.differing) == indices
    bits = sum(1 << index for index in indices)
    assert unpack(frame)[1] == bits.to_bytes(-(-bits.bit_length() // 8), "little")
