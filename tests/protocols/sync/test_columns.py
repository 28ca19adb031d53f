"""Columns and listings: what is packed comes back, in as few bytes as is said; what is not so packed is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import LOG_RUNS_MAX
from protocols.sync import columns, listing
from protocols.sync.columns import (
    ascending_bytes_max,
    pack_ascending,
    pack_varint_list,
    pack_varints,
    unpack_ascending,
    unpack_varint_list,
    unpack_varints,
    varint_bytes,
)
from protocols.sync.effects import Runs
from protocols.sync.listing import (
    Entries,
    Listing,
    entry_bytes,
    listing_bytes,
    pack_entries,
    pack_listing,
    run_lists,
    same_runs,
    select,
    unpack_entries,
    unpack_listing,
)
from protocols.sync.spans import after, count, minus, spans_of, union

numbers = st.one_of(
    st.integers(0, 300), st.integers(0, SEQ_MAX), st.sampled_from([2**k for k in range(64)] + [SEQ_MAX])
)


@given(st.lists(numbers, max_size=50))
def test_varints(values: list[int]) -> None:
    column = np.array(values, np.uint64)
    packed = pack_varints(column)
    assert unpack_varints(packed, "x").tolist() == unpack_varint_list(packed, "x") == values
    assert len(packed) == varint_bytes(column).sum() == sum(max(1, -(-value.bit_length() // 7)) for value in values)


sized = st.lists(st.integers(128, 2**14 - 1), min_size=1, max_size=60)


@given(st.one_of(st.lists(st.integers(0, 127)), sized, st.tuples(numbers, st.integers(0, 20_000), sized)))
def test_varints_of_lists(values: list[int] | tuple[int, int, list[int]]) -> None:
    """Whichever way is taken: it comes to the same."""
    listed = values if isinstance(values, list) else [values[0], *values[2], values[1]]
    packed = pack_varint_list(listed)
    assert packed == pack_varints(np.array(listed, np.uint64))
    assert unpack_varint_list(packed, "x") == listed


@given(
    st.lists(
        st.sampled_from([b"\x80\x01", b"\xff\x7f", b"\x80\x00", b"\x80\x80", b"\x01\x01"]), min_size=9, max_size=40
    )
)
def test_varints_in_pairs(pairs: list[bytes]) -> None:
    _read_alike(b"".join(pairs))


@given(st.binary(max_size=30))
def test_varints_have_one_form(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert pack_varints(unpack_varints(data, "x")) == data


@given(st.lists(st.sampled_from([b"\x00", b"\x7f", b"\x80\x01", b"\xff\x7f", b"\x80\x80\x01", b"\x80\x00", b"\x80"])))
def test_varints_of_many_kinds(parts: list[bytes]) -> None:
    """Whichever way is taken: all numbers, or none if one is cut off or too long."""
    data = b"".join(parts) + bytes(40)
    if (numbers := _read_alike(data)) is not None:
        assert pack_varints(numbers) == data


def _read_alike(data: bytes) -> npt.NDArray[np.uint64] | None:
    """The numbers, which both ways of reading must find, or None if both must refuse them."""
    try:
        numbers = unpack_varints(data, "x")
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            unpack_varint_list(data, "x")
        return None
    assert unpack_varint_list(data, "x") == numbers.tolist()
    return numbers


@given(st.integers(1, 64), st.data())
def test_ascending_numbers(width: int, data: st.DataObject) -> None:
    values = sorted(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=80)))
    packed = pack_ascending(np.array(values, np.uint64), width)
    assert unpack_ascending(packed, len(values), width, "x").tolist() == values
    assert len(packed) <= ascending_bytes_max(len(values), width)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(1, 64))
def test_whatever_is_said_to_ascend(data: bytes, how_many: int, width: int) -> None:
    with suppress(RemoteProtocolError):
        found = unpack_ascending(data, how_many, width, "x").tolist()
        assert len(found) == how_many
        assert found == sorted(found)
        assert not found or found[-1] < 2**width


@st.composite
def some_runs(draw: st.DrawFn) -> list[tuple[int, int]]:
    ends = sorted(draw(st.sets(numbers, max_size=12)))
    runs: list[tuple[int, int]] = []
    for first, last in zip(ends[0::2], ends[1::2], strict=False):
        if not runs or first > runs[-1][1] + 1:
            runs.append((first, last))
    return runs


@st.composite
def some_entries(draw: st.DrawFn) -> Entries:
    logs = draw(st.lists(some_runs(), max_size=8))
    many = [not runs and draw(st.booleans()) for runs in logs]
    flat = [run for runs in logs for run in runs]
    return Entries(
        Runs(
            np.array([len(runs) for runs in logs], np.int64),
            np.array([first for first, _ in flat], np.uint64),
            np.array([last for _, last in flat], np.uint64),
        ),
        np.array(many, np.bool_),
        bytes(range(8)) * sum(many),
    )


@given(some_entries(), st.data())
def test_entries(entries: Entries, data: st.DataObject) -> None:
    packed = pack_entries(entries)
    again = unpack_entries(packed, len(entries))
    assert run_lists(again.runs, range(len(again))) == run_lists(entries.runs, range(len(entries)))
    assert (again.many.tolist(), again.hashes) == (entries.many.tolist(), entries.hashes)
    assert same_runs(again.runs, entries.runs).all()
    assert sum(map(len, packed)) <= entry_bytes(entries).sum()
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(entries), max_size=len(entries))), np.bool_)
    part = select(entries, chosen)
    indices = np.flatnonzero(chosen).tolist()
    assert run_lists(part.runs, range(len(part))) == run_lists(entries.runs, indices)
    assert len(part.hashes) == 8 * int(part.many.sum())


@contextmanager
def numpy_alone() -> Iterator[None]:
    """Few numbers are handled as many are."""
    with patch.object(columns, "FEW", 0), patch.object(listing, "FEW", 0):
        yield


@given(some_entries())
def test_few_entries_stand_as_many_do(entries: Entries) -> None:
    packed, sizes = pack_entries(entries), entry_bytes(entries).tolist()
    with numpy_alone():
        assert (pack_entries(entries), entry_bytes(entries).tolist()) == (packed, sizes)


@given(st.lists(st.binary(max_size=12), min_size=3, max_size=3), st.integers(0, 8), st.integers(0, 2))
def test_few_entries_are_refused_as_many_are(fields: list[bytes], how_many: int, hashes: int) -> None:
    def understood() -> list[list[tuple[int, int]]] | None:
        try:
            return run_lists(unpack_entries([*fields, bytes(8 * hashes)], how_many).runs, range(how_many))
        except RemoteProtocolError:
            return None

    few = understood()
    with numpy_alone():
        assert understood() == few


@given(some_entries(), some_entries())
def test_runs_are_compared_log_by_log(one: Entries, other: Entries) -> None:
    size = min(len(one), len(other))
    chosen = [select(entries, np.arange(len(entries)) < size) for entries in (one, other)]
    lists = [run_lists(entries.runs, range(size)) for entries in chosen]
    assert same_runs(chosen[0].runs, chosen[1].runs).tolist() == [a == b for a, b in zip(*lists, strict=True)]


@given(some_entries(), st.integers(20, 64), st.data())
def test_listings(entries: Entries, width: int, data: st.DataObject) -> None:
    size = len(entries)
    places = st.lists(st.integers(0, 2**width - 1), min_size=size, max_size=size, unique=width < 64)
    fragments = sorted(data.draw(places))
    packed = pack_listing(Listing(width, np.array(fragments, np.uint64), entries))
    again = unpack_listing(packed)
    assert again.fragments.tolist() == fragments
    assert not packed or len(packed[2]) <= listing_bytes(width, size)


def test_a_log_of_many_runs_is_not_described_by_them() -> None:
    runs = [(2 * number, 2 * number) for number in range(LOG_RUNS_MAX)]
    entries = Entries(
        Runs(
            np.array([LOG_RUNS_MAX], np.int64),
            np.array([first for first, _ in runs], np.uint64),
            np.array([last for _, last in runs], np.uint64),
        ),
        np.zeros(1, np.bool_),
    )
    assert run_lists(unpack_entries(pack_entries(entries), 1).runs, [0]) == [runs]


seqs = st.sets(st.integers(0, 40))


@given(seqs, seqs, st.integers(0, 41))
def test_spans_are_sets(one: set[int], other: set[int], at: int) -> None:
    spans = [list(spans_of(sorted(values))) for values in (one, other)]

    def members(found: list[tuple[int, int]]) -> list[int]:
        return [seq for first, last in found for seq in range(first, last + 1)]

    assert members(spans[0]) == sorted(one)
    assert members(minus(*spans)) == sorted(one - other)
    assert members(union(*spans)) == sorted(one | other)
    assert members(after(spans[0], at)) == sorted(seq for seq in one if seq >= at)
    assert count(spans[0]) == len(one)
