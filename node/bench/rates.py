"""Rates and waiting times."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["BenchError", "Rate", "middle", "rate_of"]


class BenchError(Exception):
    """A measurement could not be carried out or gave a wrong result; the message is fit for a user."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How much was done per second, and how long one request waited."""

    messages_per_s: float
    p50_ms: float
    p99_ms: float


def rate_of(messages: int, begun_s: float, waits_s: Sequence[float]) -> Rate:
    """The rate of `messages` since `begun_s` (of `time.perf_counter`), with the time that each request took."""
    elapsed_s = time.perf_counter() - begun_s
    ordered = sorted(waits_s)
    return Rate(messages / elapsed_s, 1000 * ordered[len(ordered) // 2], 1000 * ordered[len(ordered) * 99 // 100])


def middle(rates: Sequence[Rate]) -> Rate:
    """The median of several rounds, figure by figure."""
    return Rate(
        median(rate.messages_per_s for rate in rates),
        median(rate.p50_ms for rate in rates),
        median(rate.p99_ms for rate in rates),
    )
