"""Seats for sync sessions, under a clock that jumps."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from node.sync.seats import NoSeat, Seat, Seats
from protocols.limits.replication import SEAT_RATE_MIN, SEAT_TIME_MIN_S, SYNC_SESSION_MAX_S
from protocols.model import MailboxId


def peer(number: int) -> MailboxId:
    return MailboxId(bytes([number]) * 32)


class Room:
    """Sessions that sit until they are ended; `moving` ones transfer all the time."""

    def __init__(self, nursery: trio.Nursery, *, seats_max: int = 4, unproven_max: int = 2) -> None:
        self.seats = Seats(seats_max=seats_max, unproven_max=unproven_max)
        self.sitting: dict[int, Seat] = {}
        self.order: list[int] = []
        self.ended: dict[int, str] = {}
        self._nursery = nursery

    def add(self, number: int, *, proven: bool = False, moving: bool = False) -> None:
        self._nursery.start_soon(self._session, number, proven, moving)

    async def _session(self, number: int, proven: bool, moving: bool) -> None:
        with await self.seats.take(peer(number), proven=proven) as seat:
            self.sitting[number] = seat
            self.order.append(number)
            with seat.patience.scope:
                while True:
                    await trio.sleep(0.5)
                    seat.traffic.bytes_in += SEAT_RATE_MIN if moving else 0
            del self.sitting[number]
            self.ended[number] = seat.patience.why_ended


async def test_strangers_have_only_a_part(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery)
    for number in range(3):
        room.add(number)
    await trio.sleep(0.1)
    assert len(room.sitting) == 2
    room.add(10, proven=True)
    room.add(11, proven=True)
    await trio.sleep(0.1)
    assert {10, 11} <= set(room.sitting)


async def test_who_stands_still_gives_way_to_who_waits(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery)
    room.add(0)
    await trio.sleep(100)
    assert 0 in room.sitting  # nobody waits: as slow as it likes
    room.add(1, moving=True)
    await trio.sleep(SEAT_TIME_MIN_S + 1)
    room.add(2)
    await trio.sleep(0.1)
    assert set(room.sitting) == {1, 2}
    assert "stood still" in room.ended[0]


async def test_who_moves_keeps_its_seat_and_everyone_has_some_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    room = Room(nursery)
    room.add(0, moving=True)
    for number in range(1, 6):
        await trio.sleep(0.01)
        room.add(number)
    await trio.sleep(SEAT_TIME_MIN_S - 1)
    assert set(room.sitting) == {0, 1}
    await trio.sleep(5 * (SEAT_TIME_MIN_S + 2))
    assert 0 in room.sitting
    assert room.order == [0, 1, 2, 3, 4, 5]  # first come, first served


async def test_a_session_has_an_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery)
    room.add(0, moving=True, proven=True)
    await trio.sleep(SYNC_SESSION_MAX_S + 1)
    assert "longer than" in room.ended[0]


async def test_without_waiting(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery)
    room.add(0)
    room.add(1, moving=True)
    await trio.sleep(0.1)
    with pytest.raises(NoSeat), room.seats.take_nowait(peer(2), proven=False):
        raise AssertionError
    await trio.sleep(SEAT_TIME_MIN_S)
    with room.seats.take_nowait(peer(2), proven=False) as seat:
        assert seat.peer == peer(2)
        await trio.sleep(0.1)
        assert set(room.sitting) == {1}
        with pytest.raises(NoSeat), room.seats.take_nowait(peer(3), proven=False):
            raise AssertionError


async def test_strangers_displace_only_strangers(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery, seats_max=2, unproven_max=1)
    room.add(0, proven=True)
    room.add(1, proven=True)
    await trio.sleep(SEAT_TIME_MIN_S + 1)
    room.add(2)
    await trio.sleep(60)
    assert set(room.sitting) == {0, 1}
    room.add(3, proven=True)
    await trio.sleep(0.1)
    assert 3 in room.sitting


async def test_all_of_a_peer_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery)
    room.add(0)
    room.add(1)
    await trio.sleep(0.1)
    room.seats.end_all_of(peer(0), "it lied")
    await trio.sleep(0.1)
    assert room.ended == {0: "it lied"}
    assert set(room.sitting) == {1}


async def test_who_gives_up_waiting_is_forgotten(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(nursery, seats_max=1, unproven_max=1)
    room.add(0, moving=True)
    await trio.sleep(0.1)
    with trio.move_on_after(1):
        with await room.seats.take(peer(1), proven=False):
            raise AssertionError
    room.add(2)
    await trio.sleep(0.1)
    room.sitting[0].patience.end("done")
    await trio.sleep(0.1)
    assert set(room.sitting) == {2}
