"""Who may hold a sync session: few at once, and nobody who stands still keeps others waiting.

A session takes a seat. When all are taken and another peer wants one, the slowest session that had its time gives way
(what it brought stays; it goes on later). Peers of whom we don't know yet that they keep in step have only a part of
the seats, so that any number of strangers who say nothing leaves room for those who do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

import trio

from node.sync.driver import Patience, SessionTraffic
from protocols.limits.replication import SEAT_RATE_MIN, SEAT_TIME_MIN_S, SYNC_SESSION_MAX_S
from protocols.model import MailboxId

__all__ = ["NoSeat", "Seat", "Seats"]


_TOO_LONG: Final = f"it took longer than {SYNC_SESSION_MAX_S:.0f} s; it goes on"


class NoSeat(Exception):
    """All seats are taken by sessions that get on."""


@dataclass(eq=False, slots=True)
class Seat:
    """One session's, which must end when `patience` does. Leave it by leaving its context."""

    peer: MailboxId
    proven: bool
    taken_at: float
    patience: Patience
    leave: Callable[[Seat], None]
    traffic: SessionTraffic = field(default_factory=SessionTraffic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave(self)

    @property
    def is_ended(self) -> bool:
        """Whether its session has been told to end."""
        return self.patience.scope.cancel_called

    def rate(self, now_at: float) -> float:
        """Bytes per second so far."""
        return (self.traffic.bytes_in + self.traffic.bytes_out) / max(now_at - self.taken_at, 0.001)


@dataclass(eq=False, slots=True)
class _Ticket:
    """Somebody who waits for a seat."""

    proven: bool
    wake: trio.Event = field(default_factory=trio.Event)


class Seats:
    """`seats_max` sessions at once, `unproven_max` of them with peers that are not `proven`."""

    def __init__(self, *, seats_max: int, unproven_max: int) -> None:
        self._seats_max = seats_max
        self._unproven_max = unproven_max
        self._seats: dict[Seat, None] = {}
        self._waiting: list[_Ticket] = []

    @property
    def taken(self) -> int:
        """How many seats are taken."""
        return self._held()

    async def take(self, peer: MailboxId, *, proven: bool) -> Seat:
        """A seat; waits for one."""
        if not self._waiting and self._free(proven):
            return self._sit(peer, proven)
        ticket = _Ticket(proven)
        self._waiting.append(ticket)
        try:
            while not self._is_next(ticket):
                if not self._free(proven):
                    self._displace(proven)
                with trio.move_on_after(SEAT_TIME_MIN_S / 5):  # meanwhile another session may have had its time
                    await ticket.wake.wait()
                ticket.wake = trio.Event()
            return self._sit(peer, proven)
        finally:
            self._waiting.remove(ticket)
            self._wake()

    def take_nowait(self, peer: MailboxId, *, proven: bool) -> Seat:
        """The same without waiting. Raises NoSeat."""
        if not self._free(proven) and not self._displace(proven):
            raise NoSeat
        return self._sit(peer, proven)

    def end_all_of(self, peer: MailboxId, why: str) -> None:
        """Ends a peer's sessions."""
        for seat in self._seats:
            if seat.peer == peer:
                seat.patience.end(why)

    def _sit(self, peer: MailboxId, proven: bool) -> Seat:
        now_at = trio.current_time()
        seat = Seat(peer, proven, now_at, Patience(now_at + SYNC_SESSION_MAX_S, _TOO_LONG), self._leave)
        self._seats[seat] = None
        return seat

    def _leave(self, seat: Seat) -> None:
        self._seats.pop(seat, None)
        self._wake()

    def _held(self, *, proven: bool | None = None) -> int:
        return sum([not seat.is_ended and proven in (None, seat.proven) for seat in self._seats])

    def _free(self, proven: bool) -> bool:
        if len(self._seats) < (self._seats_max if proven else min(self._seats_max, self._unproven_max)):
            return True  # as mostly
        return self._held() < self._seats_max and (proven or self._held(proven=False) < self._unproven_max)

    def _displace(self, proven: bool) -> bool:
        """Ends the slowest session that had its time; whether there was one. Strangers displace only strangers."""
        now_at = trio.current_time()
        slow = [
            seat
            for seat in self._seats
            if not seat.is_ended
            and now_at - seat.taken_at >= SEAT_TIME_MIN_S
            and seat.rate(now_at) < SEAT_RATE_MIN
            and (proven or not seat.proven)
        ]
        if not slow:
            return False
        min(slow, key=lambda seat: (seat.proven, seat.rate(now_at), seat.taken_at)).patience.end(
            "it stood still while others waited; it goes on later"
        )
        return True

    def _is_next(self, ticket: _Ticket) -> bool:
        """Whether it is the turn of `ticket`: the one that waits longest of those for whom there is room."""
        free: dict[bool, bool] = {}
        for one in self._waiting:
            if one.proven not in free:
                free[one.proven] = self._free(one.proven)
            if free[one.proven]:
                return one is ticket
        return False

    def _wake(self) -> None:
        for ticket in self._waiting:
            ticket.wake.set()
