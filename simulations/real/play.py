"""Plays a scenario on real processes and judges what was seen."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.cli.cluster import ClusterError
from node.cli.signals import until_signal
from protocols.limits.simulation import REAL_SAMPLE_INTERVAL_MIN_S, REAL_SAMPLES_MAX
from protocols.model import MailboxId
from simulations.checking import members_of, names_of
from simulations.real.disks import Disk, DiskError, scratch_folder
from simulations.real.feasible import feasible
from simulations.real.judge import Judge
from simulations.real.ledger import Ledger
from simulations.real.mailboxes import MailboxError, RealMailbox
from simulations.real.namespaces import NamespaceError, why_no_namespaces
from simulations.real.network import Network
from simulations.real.observer import Observer
from simulations.real.phones import RealPhone
from simulations.real.switch import SwitchError
from simulations.real.timeline import Timeline
from simulations.recording import Glimpse, Happening, Recording, Watch
from simulations.scenario import ClockChange, DiskFull, Scenario

__all__ = ["RealWorldError", "play_real", "why_not_playable"]

_CLOCK_STEP_S: Final = 1.0
_START_AGAIN_S: Final = 1.0
_WHOLE_EVERY: Final = 10
"""Every so many samples everything is read: what should have expired would not be among what is new."""


class RealWorldError(Exception):
    """The scenario was not played; the message is one line for a user."""


def why_not_playable(scenario: Scenario) -> str | None:
    """Why `play_real` would refuse this scenario on this machine, in one line; None if it would not."""
    if reasons := feasible(scenario):
        return f"{scenario.name} can't be played on real processes: {'; '.join(reasons)}"
    return why_no_namespaces()


def play_real(scenario: Scenario, seed: int, *, watch: Watch | None = None) -> Recording:
    """Plays `scenario` on real processes in real time: `duration_s` and the time that mailboxes take to start. `watch`
    is called at each sample. `seed` draws what is drawn (writing times, losses, churn); real time draws the rest.

    Needs root on Linux. Raises RealWorldError if the scenario or this machine don't allow it, and KeyboardInterrupt.
    Nothing is left of it in any case: no process, no network, no file.
    """
    if reason := why_not_playable(scenario):
        raise RealWorldError(reason)
    try:
        play = partial(until_signal, _Play(scenario, seed, watch).run, note="stopping the mailboxes …")
        return trio.run(play, restrict_keyboard_interrupt_to_checkpoints=True)
    except* (MailboxError, DiskError, NamespaceError, SwitchError, ClusterError, OSError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise RealWorldError(f"{scenario.name} could not be played on real processes: {error}") from error
    except* KeyboardInterrupt:
        raise KeyboardInterrupt from None


class _Play:
    """One play, from an empty folder to the verdicts."""

    def __init__(self, scenario: Scenario, seed: int, watch: Watch | None) -> None:
        self._scenario = scenario
        self._seed = seed
        self._watch = watch
        self._begun_at = 0.0
        self._happenings: list[Happening] = []
        self._glimpsed = 0
        self._titles: list[str] = []
        self._mailboxes: dict[str, RealMailbox] = {}
        self._phones: dict[str, RealPhone] = {}
        self._names: dict[MailboxId, str] = {}
        retention_s = max((group.retention_s for group in scenario.mailboxes), default=0.0)
        self._ledger = Ledger(retention_s=retention_s)
        self._uses_clocks = any(isinstance(fault, ClockChange) for fault in scenario.faults) or any(
            group.clock_offset_s or group.clock_drift_ppm for group in scenario.mailboxes
        )

    async def run(self) -> Recording:
        began = time.monotonic()
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            network = stack.enter_context(Network(self._scenario, seed=self._seed))
            self._set_up(network, folder, stack)
            observer = Observer(network, self._mailboxes, self._ledger, self._topics())
            judge = Judge(self._scenario, self._mailboxes, self._ledger, observer, network)
            try:
                await self._play(network, observer, judge)
            finally:
                for mailbox in self._mailboxes.values():
                    mailbox.kill()
            return self._recording(observer, judge, time.monotonic() - began)

    # --- before ----------------------------------------------------------------------------------------------------

    def _set_up(self, network: Network, folder: Path, stack: ExitStack) -> None:
        scenario = self._scenario
        full = [name for fault in scenario.faults if isinstance(fault, DiskFull) for name in fault.who]
        small_disks = members_of(scenario, full)
        for group in scenario.mailboxes:
            for name in names_of(group):
                machine = network.add(name, group.name, group.lan)
                disk = stack.enter_context(Disk(folder / name)) if name in small_disks else None
                mailbox = self._mailboxes[name] = RealMailbox(machine, group, folder, disk=disk)
                self._names[mailbox.process.identity.mailbox_id] = name
        for mailbox in self._mailboxes.values():
            mailbox.options = self._options(mailbox)
        for phones in scenario.phones:
            for name in names_of(phones):
                machine = network.add(name, phones.name, phones.lan)
                self._phones[name] = RealPhone(
                    machine, phones, self._ledger, seed=self._seed, now_s=self._now_s, name_of=self._names
                )

    def _options(self, mailbox: RealMailbox) -> list[str]:
        group = mailbox.group
        peers = [name for name in members_of(self._scenario, group.peers) if name != mailbox.name]
        return [
            "--http=0.0.0.0:3411",
            "--p2p=0.0.0.0:4001",
            f"--sync-interval={group.sync_interval_s}",
            f"--retention={group.retention_s:.0f}s",
            f"--storage-limit={group.storage_limit_bytes or 'none'}",
            *(f"--peer={self._mailboxes[name].address}" for name in peers),
        ]

    def _topics(self) -> list[str]:
        return sorted({topic for phones in self._scenario.phones for topic in phones.topics})

    # --- the play --------------------------------------------------------------------------------------------------

    async def _play(self, network: Network, observer: Observer, judge: Judge) -> None:
        scenario = self._scenario
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for mailbox in self._mailboxes.values():
                    if mailbox.group.starts_at_s <= 0:
                        starting.start_soon(self._start, mailbox)
            self._begun_at = trio.current_time()
            timeline = Timeline(
                network,
                self._mailboxes,
                self._phones,
                self._ledger,
                seed=self._seed,
                now_s=self._now_s,
                happened=self._happened,
                start=lambda mailbox: nursery.start_soon(self._start, mailbox),
            )
            for mailbox in self._mailboxes.values():
                if mailbox.group.starts_at_s > 0:
                    nursery.start_soon(self._start_later, mailbox)
            for number, phone in enumerate(self._phones.values()):
                nursery.start_soon(self._run_phone, phone, random.Random(f"{self._seed} {number}").random())
            nursery.start_soon(timeline.run, scenario.faults)
            if self._uses_clocks:
                nursery.start_soon(self._drift)
            await self._look(observer, judge)
            nursery.cancel_scope.cancel()

    async def _run_phone(self, phone: RealPhone, share: float) -> None:
        await trio.sleep(share)  # no two are switched on at once
        await phone.run()

    async def _start(self, mailbox: RealMailbox) -> None:
        while True:
            try:
                return await mailbox.start(needs_clock=self._uses_clocks)
            except MailboxError:
                if mailbox.disk is None or not mailbox.disk.is_full:
                    raise
            await trio.sleep(_START_AGAIN_S)  # as a service manager would: without room it ends at once

    async def _start_later(self, mailbox: RealMailbox) -> None:
        await trio.sleep(max(0.0, mailbox.group.starts_at_s - self._now_s()))
        self._happened(Happening(self._now_s(), "start", (mailbox.name,), ""))
        await self._start(mailbox)

    async def _drift(self) -> None:
        last_s = self._now_s()
        while True:
            await trio.sleep(_CLOCK_STEP_S)
            elapsed_s, last_s = self._now_s() - last_s, self._now_s()
            for mailbox in self._mailboxes.values():
                if mailbox.drift_ppm:
                    mailbox.set_clock(mailbox.clock_error_s + elapsed_s * mailbox.drift_ppm / 1e6)

    async def _look(self, observer: Observer, judge: Judge) -> None:
        """Samples until the end of the play."""
        scenario = self._scenario
        interval_s = max(REAL_SAMPLE_INTERVAL_MIN_S, scenario.duration_s / REAL_SAMPLES_MAX)
        self._titles.append("the beginning")
        number = 0
        calm = converged = False
        while True:
            at_s = self._now_s()
            is_last = at_s >= scenario.duration_s
            await observer.sample(at_s, whole=is_last or number % _WHOLE_EVERY == 0)
            for mailbox in self._mailboxes.values():
                if words := mailbox.why_gone():
                    judge.died(mailbox.name, at_s, words)
                    self._happened(Happening(at_s, "violation", (mailbox.name,), f"{mailbox.name} ended: {words}"))
            judge.look(at_s)
            if not calm and at_s >= scenario.calm_from_s:
                calm = True
                self._titles.append("all is calm")
            if calm and not converged and observer.series.groups[-1] == 1:
                converged = True
                self._titles.append("all hold the same")
            if is_last:
                self._titles.append("the end")
            titles, self._titles = self._titles, []
            if titles:
                observer.moment("; ".join(dict.fromkeys(titles)))
            self._show(observer, at_s)
            if is_last:
                return
            number += 1
            await trio.sleep(max(0.0, number * interval_s - self._now_s()))

    def _show(self, observer: Observer, at_s: float) -> None:
        if self._watch is None:
            return
        news, self._glimpsed = self._happenings[self._glimpsed :], len(self._happenings)
        series = observer.series
        self._watch(
            Glimpse(
                at_s,
                series.held_share[-1],
                series.groups[-1],
                series.up[-1],
                len(self._mailboxes),
                series.messages[-1],
                news,
            )
        )

    def _now_s(self) -> float:
        return trio.current_time() - self._begun_at

    def _happened(self, happening: Happening) -> None:
        self._happenings.append(happening)
        if happening.kind in ("cut", "heal", "end-of-cut", "walk", "disk-full"):
            self._titles.append(happening.text or happening.kind.replace("-", " "))

    # --- after -----------------------------------------------------------------------------------------------------

    def _recording(self, observer: Observer, judge: Judge, wall_s: float) -> Recording:
        series = observer.series
        return Recording(
            scenario=self._scenario.name,
            title=self._scenario.title,
            seed=self._seed,
            world="real",
            simulated_s=self._scenario.duration_s,
            wall_s=wall_s,
            trace_hash="",
            happenings=tuple(sorted(self._happenings, key=lambda one: one.at_s)),
            sampled_s=series.sampled_s,
            held_share=series.held_share,
            groups=series.groups,
            up=series.up,
            messages=series.messages,
            traffic_bytes=series.traffic_bytes,
            moments=observer.moments,
            spreads=self._ledger.spreads(),
            totals=observer.totals(),
            verdicts=judge.verdicts(),
        )
