"""Keeps what an open dashboard shows up to date, and costs nothing while none is open."""

from __future__ import annotations

import logging
from typing import Any

import trio

from node.events import Events
from node.history import History
from node.http.admin.live import Live
from node.overview import Overview
from node.store.api import Store, StoreError
from protocols.limits.shedding import CENSUS_PAUSE_S, CENSUS_SHARE, LIVE_TICK_S, LIVE_TOPICS_MAX
from protocols.limits.tools import EVENTS_SHOWN_MAX

__all__ = ["Feed"]

log = logging.getLogger(__name__)


class Feed:
    """Fills `live` with `state`, `topics`, `events` and `history`."""

    def __init__(self, live: Live, *, overview: Overview, events: Events, history: History, store: Store) -> None:
        self._live = live
        self._overview = overview
        self._events = events
        self._history = history
        self._store = store
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        """Runs until cancelled; then all streams end."""
        self._live.open()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count)
                while True:
                    await self._somebody()
                    self._tick()
                    with trio.move_on_after(LIVE_TICK_S):
                        await self._live.arrived.wait()
        finally:
            self._live.close()

    async def _somebody(self) -> None:
        while not self._live.listeners:
            await self._live.arrived.wait()

    def _tick(self) -> None:
        live = self._live
        live.put("state", self._overview.state())
        self._put_if_new("events", self._events.revision, self._recent)
        self._put_if_new("history", self._history.revision, self._history.to_dict)

    def _put_if_new(self, name: str, revision: int, make: Any) -> None:
        if self._told.get(name) != revision:
            self._told[name] = revision
            self._live.put(name, make())

    def _recent(self) -> list[dict[str, Any]]:
        return [event.to_dict() for event in self._events.recent(EVENTS_SHOWN_MAX)]

    async def _count(self) -> None:
        """What is counted by topic is dear: seldom, and only while somebody looks."""
        while True:
            await self._somebody()
            began_at = trio.current_time()
            try:
                census = await self._store.census(topics_max=LIVE_TOPICS_MAX)
            except StoreError as error:
                log.info("topics could not be counted: %s", error)
            else:
                self._live.put("topics", self._overview.shares(census))
            took_s = trio.current_time() - began_at
            await trio.sleep(max(CENSUS_PAUSE_S, took_s / CENSUS_SHARE))
