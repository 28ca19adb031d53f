"""What the project claims about a figure, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Claim"]


@dataclass(frozen=True, slots=True)
class Claim:
    """`what` is at most `limit` (at least, where `is_floor`)."""

    what: str
    measured: float
    limit: float
    is_floor: bool = False
    holds: bool = field(init=False)

    def __post_init__(self) -> None:
        holds = self.measured >= self.limit if self.is_floor else self.measured <= self.limit
        object.__setattr__(self, "holds", holds)
