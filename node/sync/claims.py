"""Who fetches what: over all sessions no message is fetched twice.

A session claims spans before it asks for them. They stay its own until it ends, and then as long as a session is under
way that began before: that one still believes that they are missing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.limits import CLAIMS_MAX
from protocols.model import LogName
from protocols.sync.effects import Span
from protocols.sync.messages import Seqs
from protocols.sync.spans import minus, union

__all__ = ["ClaimHolder", "Claims"]


@dataclass(eq=False, slots=True)
class ClaimHolder:
    """One session. `began` and `ended` count sessions' beginnings."""

    began: int
    ended: int | None = None


class Claims:
    """All claims of this mailbox."""

    def __init__(self) -> None:
        self._clock = 0
        self._active: set[ClaimHolder] = set()
        self._logs: dict[LogName, dict[ClaimHolder, list[Seqs]]] = {}
        self._count = 0

    @property
    def held(self) -> int:
        """How many spans are remembered."""
        return self._count

    def begin(self) -> ClaimHolder:
        """A new session."""
        self._clock += 1
        holder = ClaimHolder(self._clock)
        self._active.add(holder)
        return holder

    def take(self, holder: ClaimHolder, spans: Sequence[Span]) -> list[Span]:
        """Claims what is free of these, and returns it."""
        granted: list[Span] = []
        for name, first, last in spans:
            held = self._logs.setdefault(name, {})
            free: Sequence[Seqs] = [(first, last)]
            for other, theirs in held.items():
                if other is not holder and (other.ended is None or other.ended > holder.began):
                    free = minus(free, theirs)
            if free and self._count < CLAIMS_MAX:
                before = held.get(holder, [])
                held[holder] = union(before, free)
                self._count += len(held[holder]) - len(before)
            elif not held:
                del self._logs[name]
            granted += [Span(name, *span) for span in free]
        return granted

    def release(self, holder: ClaimHolder, spans: Sequence[Span]) -> None:
        """What did not come is free again."""
        for name, first, last in spans:
            held = self._logs.get(name, {})
            if holder in held:
                before = held[holder]
                held[holder] = minus(before, [(first, last)])
                self._count += len(held[holder]) - len(before)

    def end(self, holder: ClaimHolder, *, in_good_order: bool) -> None:
        """The session is over. What it fetched in good order stays claimed for those that began before it ended."""
        self._active.discard(holder)
        self._clock += 1
        holder.ended = self._clock if in_good_order else 0
        oldest = min((one.began for one in self._active), default=self._clock + 1)
        for name in list(self._logs):
            held = self._logs[name]
            for other in [one for one in held if one.ended is not None and one.ended < oldest]:
                self._count -= len(held.pop(other))
            if not held:
                del self._logs[name]
