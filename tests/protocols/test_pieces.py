"""A queue of bytes behaves as one string of them, and holds little beside them."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from protocols.pieces import Pieces

_SIZES = st.one_of(st.integers(1, 20), st.integers(4000, 4200), st.integers(1, 70_000))


@given(st.lists(st.one_of(st.tuples(st.just("add"), _SIZES, _SIZES), st.tuples(st.just("take"), _SIZES, _SIZES))))
def test_bytes_come_out_as_they_went_in(steps: list[tuple[str, int, int]]) -> None:
    pieces, plain, count = Pieces(), b"", 0
    for what, size, other in steps:
        if what == "add":
            count += 1
            data = bytes([count % 256]) * (size - 1) + b"\xff"
            whole = data + bytes(other % 5000)
            pieces.add(data if other % 2 else memoryview(whole)[:size])
            plain += data
        else:
            assert pieces.peek(other) == plain[:other]
            assert pieces.take(size) == plain[:size]
            plain = plain[size:]
        assert len(pieces) == len(plain)
    assert pieces.take(len(plain) + 1) == plain
    pieces.add(b"more")
    pieces.clear()
    assert not len(pieces)
    assert pieces.take(10) == b""


def _held_bytes(pieces: Pieces, parts: list[memoryview]) -> int:
    tracemalloc.start()
    try:
        for part in parts:
            pieces.add(part)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_small_pieces_cost_their_own_bytes() -> None:
    whole = bytes(1 << 16)
    assert _held_bytes(Pieces(), [memoryview(whole)[at : at + 1] for at in range(50_000)]) < 60_000


def test_a_part_of_much_does_not_keep_the_rest() -> None:
    pieces = Pieces()
    tracemalloc.start()
    try:
        for _ in range(100):
            pieces.add(memoryview(bytes(1 << 16))[:5000])
        assert tracemalloc.get_traced_memory()[0] < 100 * 5000 * 1.3
        pieces.take(100 * 5000 - 10)
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
