"""Sets of sequence numbers, kept as runs: a log of a million messages without a gap is one pair of numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from protocols.limits.data import SEQ_MAX

__all__ = ["Run", "Runs", "runs_of"]

Run = tuple[int, int]
"""From the first to the last, both included."""


class Runs:
    """A set of seqs. Two runs in it never touch."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in runs:
            self.add(first, last)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= self._lasts[at]

    def __iter__(self) -> Iterator[Run]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Runs({list(self)})"

    @property
    def highest(self) -> int:
        """The highest seq, -1 without any."""
        return self._lasts[-1] if self._lasts else -1

    def add(self, first: int, last: int | None = None) -> None:
        """Adds `first` to `last` (without it, `first` alone)."""
        last = first if last is None else last
        start = bisect_right(self._firsts, first) - 1
        if start < 0 or self._lasts[start] < first - 1:
            start += 1
        end = bisect_right(self._firsts, last + 1)
        if start < end:
            first = min(first, self._firsts[start])
            last = max(last, self._lasts[end - 1])
        self._firsts[start:end] = [first]
        self._lasts[start:end] = [last]

    def touches(self, seq: int) -> bool:
        """Whether adding `seq` makes no further run."""
        return seq in self or seq - 1 in self or seq + 1 in self

    def last_from(self, seq: int) -> int | None:
        """The last seq of the run that `seq` is in, None if it is in none."""
        at = bisect_right(self._firsts, seq) - 1
        return self._lasts[at] if at >= 0 and seq <= self._lasts[at] else None

    def next_from(self, seq: int) -> int | None:
        """The lowest seq that is not below `seq`, None if there is none."""
        at = bisect_right(self._firsts, seq) - 1
        if at >= 0 and seq <= self._lasts[at]:
            return seq
        return self._firsts[at + 1] if at + 1 < len(self._firsts) else None

    def gaps(self, first: int = 0, last: int | None = None) -> Iterator[Run]:
        """What is not in it from `first` to `last` (without it, to the highest)."""
        last = self.highest if last is None else min(last, SEQ_MAX)
        at = max(bisect_right(self._firsts, first) - 1, 0)
        for index in range(at, len(self._firsts)):
            if first > last:
                return
            if self._firsts[index] > first:
                yield first, min(self._firsts[index] - 1, last)
            first = max(first, self._lasts[index] + 1)
        if first <= last:
            yield first, last

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first` to `last` is in it."""
        end = self.last_from(first)
        return end is not None and end >= last


def runs_of(seqs: Iterable[int]) -> Runs:
    """The runs of ascending or other seqs."""
    runs = Runs()
    for seq in seqs:
        runs.add(seq)
    return runs
