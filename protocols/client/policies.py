"""The times of the app's two generations: how long it waits after a poll that worked, and after one that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["POLICIES", "Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """One generation's times, in seconds. `family` is that of the routes it uses."""

    family: str
    after_success_s: float
    after_error_s: Sequence[tuple[int, float]]  # from so many errors in a row on
    timeout_s: float
    keeps_turn: bool  # one mailbox a turn, else each on its own clock

    def pause_s(self, failures: int) -> float:
        """How long to wait after a poll with which so many failed in a row."""
        if not failures:
            return self.after_success_s
        return next(pause_s for least, pause_s in reversed(self.after_error_s) if failures >= least)


POLICIES: Final[Mapping[str, Policy]] = {
    "round-robin": Policy("blobs", 5.0, [(1, 15.0)], 60.0, keeps_turn=True),
    "each": Policy("blips", 2.5, [(1, 2.5), (5, 5.5), (10, 10.5)], 10.0, keeps_turn=False),
}
