"""Carries out what the table of neighbours wants: tries addresses, tells what was found and lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from node.discovery.api import Found, Report
from node.discovery.rate import Bucket
from node.discovery.table import Endpoint, Job, NeighbourTable
from protocols.limits.discovery import PROBES_LIVE_MAX, PROBES_WAITING_MAX, PROBES_WAITING_PER_SECOND

__all__ = ["Probe", "Prober"]

log = logging.getLogger(__name__)

_TICK_S: Final = 0.05  # soonest next look at the table, however much is heard
_GATHER_S: Final = 0.1  # addresses of a mailbox that answer within so long are reported together


class Probe(Protocol):
    """See `node.discovery.probe.probe`."""

    def __call__(
        self, endpoints: Sequence[Endpoint], *, timeout_s: float, on_answer: Callable[[Endpoint], None]
    ) -> Awaitable[tuple[Endpoint, ...]]: ...


class Prober:
    """Runs beside whoever fills `table`; `wake` it when something was sighted."""

    def __init__(self, table: NeighbourTable, report: Report, probe: Probe, *, timeout_s: float) -> None:
        self._table = table
        self._report = report
        self._probe = probe
        self._timeout_s = timeout_s
        self._wake = trio.Event()
        self._tries = Bucket(
            per_second=PROBES_WAITING_PER_SECOND, burst=PROBES_WAITING_PER_SECOND, now_s=trio.current_time()
        )
        self._probing = {True: 0, False: 0}  # live, waiting

    def wake(self) -> None:
        """Has the table looked at soon."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                now_s = trio.current_time()
                self._table.expire(now_s)
                self._deliver()
                free = PROBES_WAITING_MAX - self._probing[False]
                jobs = self._table.due(
                    now_s,
                    live_max=PROBES_LIVE_MAX - self._probing[True],
                    waiting_max=min(free, int(self._tries.available(now_s))),
                )
                for job in jobs:
                    if not job.live:
                        self._tries.take(now_s)
                    self._probing[job.live] += 1
                    nursery.start_soon(self._try, job)
                await trio.sleep(_TICK_S)
                with trio.move_on_at(self._table.next_due_s()):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _try(self, job: Job) -> None:
        so_far: list[Endpoint] = []
        first = trio.Event()

        def answered(endpoint: Endpoint) -> None:
            so_far.append(endpoint)
            first.set()

        async def report_early() -> None:
            """The first answers are news; the silent addresses may take their time."""
            await first.wait()
            await trio.sleep(_GATHER_S)
            self._table.probed(job.mailbox_id, so_far, trio.current_time(), final=False)
            self._deliver()

        answers: tuple[Endpoint, ...] = ()
        try:
            if len(job.endpoints) == 1:  # there are no others to wait for
                answers = await self._probe(job.endpoints, timeout_s=self._timeout_s, on_answer=answered)
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(report_early)
                    answers = await self._probe(job.endpoints, timeout_s=self._timeout_s, on_answer=answered)
                    nursery.cancel_scope.cancel()
        finally:
            self._probing[job.live] -= 1
            self._table.probed(job.mailbox_id, answers, trio.current_time(), final=True)
            self._wake.set()
        self._deliver()

    def _deliver(self) -> None:
        for event in self._table.take_events():
            if isinstance(event, Found):
                log.info("mailbox %s is at %s", event.neighbour.mailbox_id.short, ", ".join(event.neighbour.hosts))
            else:
                log.info("mailbox %s is gone: %s", event.mailbox_id.short, event.reason)
            try:
                self._report(event)
            except Exception:
                log.exception("what discovery reports was not taken")
