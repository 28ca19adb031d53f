"""What reconciliation is measured against: the C++ reference of negentropy, and the ratios that are required of us.

negentropy (range-based reconciliation of 32-byte ids with a timestamp) was measured once, on another day and machine:
the C++ reference, `-O2`, two cores, the best of several repetitions, both sides added up. Its bytes and round trips are
the same everywhere, so that ratios of them hold here; its CPU is not, and no ratio is made of it. Figures are rounded
as they were noted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["BYTES_RATIOS", "MODES", "SHAPES", "BytesRatio", "Negentropy", "negentropy", "negentropy_bytes"]


SHAPES: Final = ("none", "tail", "random", "fresh")
"""Where two mailboxes differ: nowhere, at the ends of logs, anywhere in logs, or everywhere, as one has nothing."""

MODES: Final = ("warm", "cold")
"""Whether both remember when they last held the same, or not."""


class Negentropy(NamedTuple):
    """One case: round trips, bytes both ways, CPU of both sides over a sorted array and over a B-tree."""

    round_trips: int
    bytes: int
    cpu_vector_ms: float
    cpu_btree_ms: float


# By messages, shape and number of differences.
_FIGURES: Final = {
    (10_000, "none", 0): Negentropy(1, 324, 0.30, 0.04),
    (10_000, "random", 10): Negentropy(2, 6_700, 0.8, 0.8),
    (10_000, "random", 100): Negentropy(2, 38_000, 2.2, 4.2),
    (10_000, "random", 1000): Negentropy(2, 155_000, 5.4, 12),
    (100_000, "none", 0): Negentropy(1, 324, 3.3, 0.08),
    (100_000, "random", 1): Negentropy(2, 1_800, 3.4, 0.2),
    (100_000, "random", 10): Negentropy(2, 13_600, 4.9, 1.3),
    (100_000, "random", 100): Negentropy(2, 109_000, 10, 7.3),
    (100_000, "random", 1000): Negentropy(2, 782_000, 19, 25),
    (100_000, "tail", 10): Negentropy(2, 1_700, 4.4, 0.2),
    (100_000, "tail", 100): Negentropy(2, 2_800, 3.4, 0.2),
    (100_000, "tail", 1000): Negentropy(3, 19_900, 3.5, 0.55),
    (1_000_000, "none", 0): Negentropy(1, 338, 32, 0.45),
    (1_000_000, "random", 1): Negentropy(3, 2_300, 34, 1.4),
    (1_000_000, "random", 10): Negentropy(3, 18_900, 48, 4.5),
    (1_000_000, "random", 100): Negentropy(3, 162_000, 82, 22),
    (1_000_000, "random", 1000): Negentropy(3, 1_340_000, 128, 122),
    (1_000_000, "tail", 10): Negentropy(3, 2_200, 33, 0.4),
    (1_000_000, "tail", 100): Negentropy(3, 5_000, 34, 0.4),
    (1_000_000, "tail", 1000): Negentropy(3, 34_000, 35, 0.8),
    (1_000_000, "fresh", 1_000_000): Negentropy(1, 32_000_000, 1507, 1210),
}

_ID_BYTES: Final = 32
VECTOR_BYTES_PER_ITEM: Final = 42
"""The least that its sorted array took (42 to 66)."""


def negentropy(messages: int, shape: str, changed: int) -> Negentropy | None:
    """Its figures in a case, None where it was not measured."""
    return _FIGURES.get((messages, shape, changed))


def negentropy_bytes(messages: int, shape: str, changed: int) -> int | None:
    """Its bytes in a case. To a fresh node it sends every id, whatever their number."""
    if shape == "fresh":
        return _ID_BYTES * messages
    found = negentropy(messages, shape, changed)
    return None if found is None else found.bytes


class BytesRatio(NamedTuple):
    """Required: at most `at_100k` and `at_1m` of negentropy's bytes, in the better one of `modes`. With a `changed` of
    None everything is new."""

    shape: str
    changed: int | None
    modes: tuple[str, ...]
    at_100k: float
    at_1m: float


BYTES_RATIOS: Final = (
    BytesRatio("none", 0, ("warm",), 0.15, 0.15),
    BytesRatio("none", 0, ("cold",), 0.75, 0.75),
    BytesRatio("tail", 10, ("warm",), 0.10, 0.10),
    BytesRatio("tail", 100, ("warm",), 0.35, 0.25),
    BytesRatio("tail", 1000, ("warm", "cold"), 0.40, 0.33),
    BytesRatio("random", 10, ("cold",), 0.20, 0.30),
    BytesRatio("random", 100, ("cold",), 0.08, 0.16),
    BytesRatio("random", 1000, ("cold",), 0.012, 0.06),
    BytesRatio("fresh", None, ("cold",), 0.0025, 0.0025),
)

ROUND_TRIPS_MAX: Final = {"warm": 1, "cold": 2}
ROUND_TRIPS_MANY_MAX: Final = 3
"""For a million messages of which a thousand random ones differ, cold: negentropy takes 15 with frames of 64 KiB, which
ours never exceed."""

CPU_FEW_MS_MAX: Final = 10.0
"""Both sides together, a million messages, up to CPU_FEW_CHANGED changes."""
CPU_FEW_CHANGED: Final = 100
CPU_MANY_MS_MAX: Final = 25.0
CPU_MANY_CHANGED: Final = 1000
MEMORY_RATIO_MAX: Final = 0.05
"""Index bytes per message, of VECTOR_BYTES_PER_ITEM."""
