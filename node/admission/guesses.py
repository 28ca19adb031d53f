"""How often passwords may be tried: wrong ones by one, with growing pauses, and by all strangers together; and any, as
each costs something."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from protocols.limits.admission import (
    ADMISSION_PAUSE_FIRST_S,
    ADMISSION_PAUSE_MAX_S,
    EXCHANGES_BURST,
    EXCHANGES_INTERVAL_S,
    EXCHANGES_TOTAL_BURST,
    EXCHANGES_TOTAL_INTERVAL_S,
    GUESSERS_REMEMBERED_MAX,
    GUESSES_FORGET_S,
    GUESSES_FREE,
    GUESSES_TOTAL_BURST,
    GUESSES_TOTAL_INTERVAL_S,
)

__all__ = ["Exchanges", "Guesses"]


@dataclass(slots=True)
class _Guesser:
    wrong: int = 0
    last_at: float = 0.0
    next_at: float = 0.0


class Guesses:
    """Counts guesses of whoever can be told apart by a text. Times are any monotonic clock's seconds."""

    def __init__(self) -> None:
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()
        self._left = float(GUESSES_TOTAL_BURST)
        self._left_at: float | None = None
        self._open = 0
        self.turned_away = 0

    def begin(self, who: str, now: float, *, known: bool = False) -> float:
        """0 if `who` may try a password now; it counts as wrong until `right` is called, and `over` must be, whatever
        comes of it. Otherwise the seconds until it may. `known` are those who don't count with all strangers together.
        """
        guesser = self._guessers.get(who)
        if guesser is None or now - guesser.last_at > GUESSES_FORGET_S:
            guesser = _Guesser()
        pause_s = max(guesser.next_at - now, 0.0 if known else self._all_pause_s(now))
        if pause_s > 0:
            self.turned_away += 1
            return pause_s
        # Only who guesses is remembered: else those who are turned away, who cost nothing, would push out the others.
        self._guessers[who] = guesser
        self._guessers.move_to_end(who)
        if len(self._guessers) > GUESSERS_REMEMBERED_MAX:
            self._guessers.popitem(last=False)
        self._open += 1
        if not known:
            self._left -= 1
        guesser.wrong += 1
        guesser.last_at = now
        doublings = guesser.wrong - GUESSES_FREE
        if doublings >= 0:
            guesser.next_at = now + min(ADMISSION_PAUSE_MAX_S, ADMISSION_PAUSE_FIRST_S * 2.0 ** min(doublings, 20))
        return 0.0

    def over(self) -> None:
        """A guess that was begun is decided, or never will be."""
        self._open -= 1

    def right(self, who: str, *, known: bool = False) -> None:
        """The last guess of `who` was right: as if it had not been."""
        if self._guessers.pop(who, None) is not None and not known:
            self._left = min(GUESSES_TOTAL_BURST, self._left + 1)

    def forget(self) -> None:
        """There is another password now: what was tried on the old one says nothing about it. The bound on all together
        goes on."""
        self._guessers.clear()

    def _all_pause_s(self, now: float) -> float:
        if self._left_at is not None:
            self._left = min(GUESSES_TOTAL_BURST, self._left + (now - self._left_at) / GUESSES_TOTAL_INTERVAL_S)
        self._left_at = now
        if self._left >= 1:
            return 0.0
        if self._left + self._open >= 1:  # some that are under way will turn out right
            return ADMISSION_PAUSE_FIRST_S
        return (1.0 - self._left) * GUESSES_TOTAL_INTERVAL_S


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float

    def pause_s(self, now: float, *, burst: int, interval_s: float) -> float:
        """Fills it up to now; in how many seconds there is one in it."""
        self.left = min(float(burst), self.left + (now - self.at) / interval_s)
        self.at = now
        return max(0.0, 1.0 - self.left) * interval_s


class Exchanges:
    """Counts whole exchanges over the password, right or wrong, of whoever can be told apart by a text."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self._all = _Bucket(EXCHANGES_TOTAL_BURST, 0.0)

    def pause_s(self, who: str, now: float, *, named: bool = False) -> float:
        """In how many seconds `who` may have one; 0: now. `named` are those who don't count with all together."""
        bucket = self._of.get(who)
        own_s = 0.0 if bucket is None else bucket.pause_s(now, burst=EXCHANGES_BURST, interval_s=EXCHANGES_INTERVAL_S)
        all_s = self._all.pause_s(now, burst=EXCHANGES_TOTAL_BURST, interval_s=EXCHANGES_TOTAL_INTERVAL_S)
        return max(own_s, 0.0 if named else all_s)

    def begun(self, who: str, now: float, *, named: bool = False) -> None:
        """One has begun."""
        bucket = self._of.setdefault(who, _Bucket(EXCHANGES_BURST, now))
        self._of.move_to_end(who)
        if len(self._of) > GUESSERS_REMEMBERED_MAX:
            self._of.popitem(last=False)
        bucket.left -= 1
        if not named:
            self._all.left -= 1
