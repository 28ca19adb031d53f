"""What stores and gets take of the mailbox, and how much of it is for whom.

Each standing has places for stores of its own, so that nobody is turned away because of those below. Of what strangers
want only little is carried out at once, and of large answers no page without a pause after it while others are about:
what the store's threads compute for them is what a phone waits for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from node.http.limits import MemoryBudget
from node.http.messages import HttpError
from node.http.standing import Standing
from node.mailbox import Mailbox
from node.store.api import Position, ReadPage
from protocols.limits.http import (
    HTTP_ANSWER_WAIT_S,
    HTTP_ANSWERS_BYTES_MAX,
    HTTP_READS_MAX,
    HTTP_STORES_WAITING_MAX,
)
from protocols.limits.shedding import (
    COMPANY_S,
    HTTP_STRANGERS_ANSWERS_BYTES_MAX,
    HTTP_STRANGERS_GETS_MAX,
    HTTP_STRANGERS_READS_MAX,
    HTTP_STRANGERS_STORES_AT_ONCE,
    HTTP_STRANGERS_STORES_MAX,
    HTTP_STRANGERS_STORING_BYTES,
    PAGE_PAUSE,
    STRANGERS_STORE_WAIT_S,
)

__all__ = ["Gate", "Share"]

_STORES_MAX: Final = {
    Standing.STRANGER: HTTP_STRANGERS_STORES_MAX,
    Standing.KNOWN: HTTP_STORES_WAITING_MAX,
    Standing.PAIRED: HTTP_STORES_WAITING_MAX,
}
_T = TypeVar("_T")


class Share:
    """Pages being read, and memory for large answers: what all requests have a share of, or strangers (`gives_way`) of
    all that."""

    def __init__(
        self,
        *,
        reads_max: int,
        answers_bytes_max: int,
        of: Share | None = None,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reads = trio.Semaphore(reads_max)
        self._answers = MemoryBudget(answers_bytes_max)
        self._of = of
        self._gives_way = gives_way

    async def read(
        self, mailbox: Mailbox, query: Mapping[str, Mapping[str, int]], after: Position | None, page_bytes: int
    ) -> ReadPage:
        """A page, once it is its turn."""
        try:
            self._reads.acquire_nowait()  # as mostly: no turn for others, who wait for nothing
        except trio.WouldBlock:
            await self._reads.acquire()
        try:
            if self._of is not None:
                of = self._of
                return await self._paused(lambda: of.read(mailbox, query, after, page_bytes))
            return await mailbox.read(query, after=after, page_bytes=page_bytes)
        finally:
            self._reads.release()

    async def write(self, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """A page's JSON; strangers' pages are written few at a time, too, because that keeps everybody waiting."""
        if self._of is None:
            return await work()
        async with self._reads:
            return await self._paused(work)

    async def _paused(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Does it, and pauses if others are about."""
        begun_s = trio.current_time()
        done = await work()
        if self._gives_way():
            await trio.sleep(PAGE_PAUSE * (trio.current_time() - begun_s))
        return done

    async def reserve(self, size: int) -> int:
        """Waits for memory; returns how much was taken. Raises HttpError if it takes too long."""
        with trio.move_on_after(HTTP_ANSWER_WAIT_S):
            return await self._take(size)
        raise HttpError.busy(503, "Too many large answers are under way.", retry_after_s=2)

    async def _take(self, size: int) -> int:
        held = await self._answers.take(size)
        if self._of is not None:
            try:
                await self._of._take(held)
            except BaseException:
                self._answers.give_back(held)
                raise
        return held

    def give_back(self, held: int) -> None:
        """Returns memory."""
        self._answers.give_back(held)
        if self._of is not None:
            self._of.give_back(held)


class Gate:
    """What all stores and gets share."""

    def __init__(self) -> None:
        self._stores = dict.fromkeys(Standing, 0)
        self._strangers_stored = MemoryBudget(HTTP_STRANGERS_STORING_BYTES)
        self._waiting_since_s: dict[object, float] = {}
        self._strangers_gets = 0
        self._company_until_s = float("-inf")
        self._all = Share(reads_max=HTTP_READS_MAX, answers_bytes_max=HTTP_ANSWERS_BYTES_MAX)
        self._strangers = Share(
            reads_max=HTTP_STRANGERS_READS_MAX,
            answers_bytes_max=HTTP_STRANGERS_ANSWERS_BYTES_MAX,
            of=self._all,
            gives_way=lambda: trio.current_time() < self._company_until_s,
        )

    def load(self) -> float:
        """The share of places for stores that is taken, where it is largest; 1 also if strangers' stores wait long."""
        places = max(count / _STORES_MAX[standing] for standing, count in self._stores.items())
        if not self._waiting_since_s:
            return places
        wait_s = trio.current_time() - next(iter(self._waiting_since_s.values()))
        return max(places, min(1.0, wait_s / STRANGERS_STORE_WAIT_S))

    def check_room_for_store(self, standing: Standing) -> None:
        """Raises HttpError if there is none."""
        if self._stores[standing] >= _STORES_MAX[standing]:
            raise HttpError.busy(429, "Too many stores are waiting.", retry_after_s=1)

    def check_room_for_get(self, standing: Standing) -> None:
        """Raises HttpError if there is none."""
        if standing is Standing.STRANGER and self._strangers_gets >= HTTP_STRANGERS_GETS_MAX:
            raise HttpError.busy(503, "Too many gets are waiting.", retry_after_s=2)

    @asynccontextmanager
    async def storing(self, standing: Standing, size: int) -> AsyncIterator[None]:
        """Holds a place for a store of so many bytes, once it is its turn. Raises HttpError if there is no room to
        wait."""
        self.check_room_for_store(standing)
        self._note(standing)
        self._stores[standing] += 1
        try:
            if standing is not Standing.STRANGER:
                yield
                return
            async with self._strangers_turn(size):
                yield
        finally:
            self._stores[standing] -= 1

    @asynccontextmanager
    async def _strangers_turn(self, size: int) -> AsyncIterator[None]:
        ticket = object()
        self._waiting_since_s[ticket] = trio.current_time()
        try:
            taken = await self._strangers_stored.take(
                max(size, HTTP_STRANGERS_STORING_BYTES // HTTP_STRANGERS_STORES_AT_ONCE)
            )
        finally:
            del self._waiting_since_s[ticket]
        try:
            yield
        finally:
            self._strangers_stored.give_back(taken)

    @asynccontextmanager
    async def getting(self, standing: Standing) -> AsyncIterator[Share]:
        """Gives what a get has its share of, until its answer begins. Raises HttpError if there is no room to wait."""
        self.check_room_for_get(standing)
        self._note(standing)
        if standing is not Standing.STRANGER:
            yield self._all
            return
        self._strangers_gets += 1
        try:
            yield self._strangers
        finally:
            self._strangers_gets -= 1

    def _note(self, standing: Standing) -> None:
        if standing is not Standing.STRANGER:
            self._company_until_s = trio.current_time() + COMPANY_S
