"""Which of the required ratios hold for reconciliation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from node.bench.claims import Claim
from node.bench.yardstick import (
    BYTES_RATIOS,
    CPU_FEW_CHANGED,
    CPU_FEW_MS_MAX,
    CPU_MANY_CHANGED,
    CPU_MANY_MS_MAX,
    MEMORY_RATIO_MAX,
    MODES,
    ROUND_TRIPS_MANY_MAX,
    ROUND_TRIPS_MAX,
    VECTOR_BYTES_PER_ITEM,
)

if TYPE_CHECKING:
    from node.bench.reconcile import ReconcileCase

__all__ = ["bytes_claims", "reconcile_claims"]

_SIZES: Final = (100_000, 1_000_000)
_CPU_MESSAGES: Final = 1_000_000


def reconcile_claims(cases: Sequence[ReconcileCase]) -> tuple[Claim, ...]:
    """Everything that can be said about these cases."""
    return (
        *(claim for _, claim in bytes_claims(cases)),
        *_round_trips(cases),
        *_cpu(cases),
        *_memory(cases),
    )


def bytes_claims(cases: Sequence[ReconcileCase]) -> Iterator[tuple[ReconcileCase, Claim]]:
    """For each required ratio of bytes the case that is measured by it: the better one of the modes that count. Nothing
    where one of them is missing."""
    for messages in _SIZES:
        for ratio in BYTES_RATIOS:
            changed = messages if ratio.changed is None else ratio.changed
            found = [
                case
                for case in cases
                if (case.messages, case.shape, case.changed) == (messages, ratio.shape, changed)
                and case.mode in ratio.modes
            ]
            if len(found) < len(ratio.modes):
                continue
            best = min(found, key=lambda case: case.bytes)
            assert best.ratio_bytes is not None, "negentropy was measured in every case of which something is required"
            limit = ratio.at_100k if messages == _SIZES[0] else ratio.at_1m
            mode = best.mode if len(ratio.modes) == 1 else f"best mode ({best.mode})"
            yield best, Claim(f"bytes ÷ negentropy: {_place(best)}, {mode}", best.ratio_bytes, limit)


def _place(case: ReconcileCase) -> str:
    what = case.shape if case.shape in ("none", "fresh") else f"{case.shape} {case.changed:,}"
    return f"{case.messages:,} messages, {what}"


def _round_trips(cases: Sequence[ReconcileCase]) -> Iterator[Claim]:
    """The most round trips of a size and mode. A fresh mailbox has never synced: nothing is required of it warm."""
    for messages in _SIZES:
        for mode, limit in ROUND_TRIPS_MAX.items():
            found = [
                case
                for case in cases
                if (case.messages, case.mode) == (messages, mode) and (mode, case.shape) != ("warm", "fresh")
            ]
            many = [case for case in found if _is_many(case) and mode == "cold"]
            usual = [case for case in found if case not in many]
            if usual:
                yield _most(usual, "round trips", lambda case: case.round_trips, limit)
            if many:
                yield _most(many, "round trips", lambda case: case.round_trips, ROUND_TRIPS_MANY_MAX)


def _is_many(case: ReconcileCase) -> bool:
    return (case.messages, case.shape, case.changed) == (1_000_000, "random", 1000)


def _most(cases: Sequence[ReconcileCase], what: str, figure: Callable[[ReconcileCase], float], limit: float) -> Claim:
    worst = max(cases, key=figure)
    return Claim(f"{what}: {_place(worst)}, {worst.mode}", figure(worst), limit)


def _cpu(cases: Sequence[ReconcileCase]) -> Iterator[Claim]:
    """Of each difference that was measured in both modes the better one, and of these the dearest."""
    by_place: dict[tuple[str, int], list[ReconcileCase]] = {}
    for case in cases:
        if case.messages == _CPU_MESSAGES and case.shape != "fresh":
            by_place.setdefault((case.shape, case.changed), []).append(case)
    best = [min(both, key=lambda case: case.cpu_ms) for both in by_place.values() if len(both) == len(MODES)]
    few = [case for case in best if case.changed <= CPU_FEW_CHANGED]
    many = [case for case in best if case.changed == CPU_MANY_CHANGED]
    for chosen, limit in ((few, CPU_FEW_MS_MAX), (many, CPU_MANY_MS_MAX)):
        if chosen:
            yield _most(chosen, "CPU ms, both sides, better mode", lambda case: case.cpu_ms, limit)


def _memory(cases: Sequence[ReconcileCase]) -> Iterator[Claim]:
    for messages in _SIZES:
        found = [case for case in cases if case.messages == messages]
        if found:
            yield _most(
                found,
                "index bytes per message ÷ negentropy",
                lambda case: case.index_bytes_per_message / VECTOR_BYTES_PER_ITEM,
                MEMORY_RATIO_MAX,
            )
