"""Who may hold a sync session: few at once, and nobody who stands still keeps others waiting.

A session takes a seat. When all are taken and another peer wants one, the slowest session that had its time gives way
(what it brought stays; it goes on later). Peers of whom we don't know yet that they keep in step have only a part of
the seats, so that any number of strangers who say nothing leaves room for those who do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from node.sync.driver import SessionTraffic
from protocols.limits.replication import SEAT_RATE_MIN, SEAT_TIME_MIN_S, SYNC_SESSION_MAX_S
from protocols.model import MailboxId

__all__ = ["NoSeat", "Seat", "Seats"]


class NoSeat(Exception):
    """All seats are taken by sessions that get on."""


@dataclass(eq=False, slots=True)
class Seat:
    """One session's. Whoever runs the session does so within `scope`; `why_ended` says why that was cancelled."""

    peer: MailboxId
    proven: bool
    taken_at: float
    scope: trio.CancelScope
    traffic: SessionTraffic = field(default_factory=SessionTraffic)
    why_ended: str = f"it took longer than {SYNC_SESSION_MAX_S:.0f} s; it goes on"

    def end(self, why: str) -> None:
        """Ends the session."""
        self.why_ended = why
        self.scope.cancel()

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
        self._seats: set[Seat] = set()
        self._waiting: list[_Ticket] = []

    @property
    def taken(self) -> int:
        """How many seats are taken."""
        return self._held()

    @asynccontextmanager
    async def take(self, peer: MailboxId, *, proven: bool) -> AsyncIterator[Seat]:
        """A seat for as long as the context lasts; waits for one."""
        ticket = _Ticket(proven)
        self._waiting.append(ticket)
        try:
            while not self._is_next(ticket):
                if not self._free(proven):
                    self._displace(proven)
                with trio.move_on_after(SEAT_TIME_MIN_S / 5):  # meanwhile another session may have had its time
                    await ticket.wake.wait()
                ticket.wake = trio.Event()
        finally:
            self._waiting.remove(ticket)
            self._wake()
        async with self._sit(peer, proven) as seat:
            yield seat

    @asynccontextmanager
    async def take_nowait(self, peer: MailboxId, *, proven: bool) -> AsyncIterator[Seat]:
        """The same without waiting. Raises NoSeat."""
        if not self._free(proven) and not self._displace(proven):
            raise NoSeat
        async with self._sit(peer, proven) as seat:
            yield seat

    def end_all_of(self, peer: MailboxId, why: str) -> None:
        """Ends a peer's sessions."""
        for seat in self._seats:
            if seat.peer == peer:
                seat.end(why)

    @asynccontextmanager
    async def _sit(self, peer: MailboxId, proven: bool) -> AsyncIterator[Seat]:
        now_at = trio.current_time()
        seat = Seat(peer, proven, now_at, trio.CancelScope(deadline=now_at + SYNC_SESSION_MAX_S))
        self._seats.add(seat)
        try:
            yield seat
        finally:
            self._seats.discard(seat)
            self._wake()

    def _held(self, *, proven: bool | None = None) -> int:
        return sum(not seat.scope.cancel_called and proven in (None, seat.proven) for seat in self._seats)

    def _free(self, proven: bool) -> bool:
        return self._held() < self._seats_max and (proven or self._held(proven=False) < self._unproven_max)

    def _displace(self, proven: bool) -> bool:
        """Ends the slowest session that had its time; whether there was one. Strangers displace only strangers."""
        now_at = trio.current_time()
        slow = [
            seat
            for seat in self._seats
            if not seat.scope.cancel_called
            and now_at - seat.taken_at >= SEAT_TIME_MIN_S
            and seat.rate(now_at) < SEAT_RATE_MIN
            and (proven or not seat.proven)
        ]
        if not slow:
            return False
        min(slow, key=lambda seat: (seat.proven, seat.rate(now_at), seat.taken_at)).end(
            "it stood still while others waited; it goes on later"
        )
        return True

    def _is_next(self, ticket: _Ticket) -> bool:
        """Whether it is the turn of `ticket`: the one that waits longest of those for whom there is room."""
        return next((one for one in self._waiting if self._free(one.proven)), None) is ticket

    def _wake(self) -> None:
        for ticket in self._waiting:
            ticket.wake.set()
