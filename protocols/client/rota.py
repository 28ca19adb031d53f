"""Whose turn it is: which mailbox is polled next, and when.

Theory of operation. Each mailbox has the time of its next poll. A success or a failure sets it by the policy, a refusal
with `Retry-After` moves it away, and nothing brings it nearer than that. `hurry` makes polls early. `push` is for own
messages, which go out at once and without a poll, but not to those that just failed: the poll will bring them.

With a policy that keeps the turn, mailboxes come one after the other; an error moves on to the next as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Generic, NamedTuple, TypeVar

from protocols.client.policies import Policy
from protocols.limits.client import CLIENT_GATHER_S, CLIENT_POLL_FLOOR_S

__all__ = ["Rota", "Turn"]

K = TypeVar("K")


class Turn(NamedTuple, Generic[K]):
    """It is time to talk with `mailbox`; without `polls` only to bring it what is new."""

    mailbox: K
    polls: bool


@dataclass(slots=True)
class _Entry:
    poll_at: float
    push_at: float = inf
    not_before: float = -inf  # what a mailbox asked for itself
    floor: float = -inf  # polls follow each other no closer than this
    failures: int = 0
    is_busy: bool = False

    @property
    def due_at(self) -> float:
        return max(min(max(self.poll_at, self.floor), self.push_at), self.not_before)


class Rota(Generic[K]):
    """Keeps the turns of mailboxes, each known by a key. Times are seconds of any steady clock."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._entries: dict[K, _Entry] = {}
        self._turn = 0
        self._is_hurried = False  # since the turn under way began

    def __contains__(self, mailbox: K) -> bool:
        return mailbox in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def failures(self, mailbox: K) -> int:
        """How many turns of it failed in a row."""
        return self._entries[mailbox].failures

    def meet(self, mailbox: K, now_s: float) -> None:
        """A mailbox is here: a new one is polled at once, nothing changes for a known one."""
        self._entries.setdefault(mailbox, _Entry(now_s))

    def lose(self, mailbox: K) -> None:
        """A mailbox is gone."""
        self._entries.pop(mailbox, None)

    def hurry(self, now_s: float) -> None:
        """The next polls are early, as soon as the floor allows."""
        self._is_hurried = True
        for entry in self._entries.values():
            entry.poll_at = min(entry.poll_at, now_s)

    def push(self, now_s: float) -> None:
        """There is something to bring to all mailboxes: soon, so that what comes in a burst goes in one request."""
        if self.policy.keeps_turn:
            self.hurry(now_s)
            return
        for entry in self._entries.values():
            if not entry.failures:
                entry.push_at = min(entry.push_at, now_s + CLIENT_GATHER_S)

    def due_at(self) -> float:
        """When the next turn is; infinite while there is none to wait for."""
        return min((entry.due_at for entry in self._waiting().values()), default=inf)

    def begin(self, now_s: float) -> Turn[K] | None:
        """The turn that is due, if any. It must `end`."""
        for mailbox, entry in sorted(self._waiting().items(), key=lambda item: item[1].due_at):
            if entry.due_at > now_s:
                return None
            polls = max(entry.poll_at, entry.floor) <= now_s
            self._is_hurried = False
            entry.is_busy, entry.push_at = True, inf
            if polls:
                entry.poll_at, entry.floor = inf, now_s + CLIENT_POLL_FLOOR_S
            return Turn(mailbox, polls)
        return None

    def end(self, turn: Turn[K], now_s: float, *, failed: bool, retry_after_s: float = 0.0) -> None:
        """The turn is over. `retry_after_s` is what the mailbox asked for, 0 for nothing."""
        entry = self._entries.get(turn.mailbox)
        if self.policy.keeps_turn:
            self._turn += 1
        if entry is None:
            return
        entry.is_busy = False
        entry.failures = entry.failures + 1 if failed else 0
        entry.not_before = now_s + retry_after_s
        next_s = now_s + self.policy.pause_s(entry.failures)
        if failed:
            entry.poll_at, entry.push_at = next_s, inf  # the poll will bring what is left
        else:
            entry.poll_at = min(entry.poll_at, next_s)
        if self.policy.keeps_turn:
            for other in self._entries.values():
                other.poll_at = now_s if self._is_hurried else next_s

    def _waiting(self) -> dict[K, _Entry]:
        if self.policy.keeps_turn and self._entries:
            if any(entry.is_busy for entry in self._entries.values()):
                return {}
            mailbox = list(self._entries)[self._turn % len(self._entries)]
            return {mailbox: self._entries[mailbox]}
        return {mailbox: entry for mailbox, entry in self._entries.items() if not entry.is_busy}
