"""Puts a scenario's timeline of faults into the world, each at its time, and takes those that end away again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import trio

from simulations.machines import Host
from simulations.network import Network, Rule
from simulations.phones import Phone
from simulations.recorder import Recorder
from simulations.scenario import (
    Churn,
    ClockChange,
    Clog,
    Crash,
    Cut,
    DiskFull,
    Fault,
    Heal,
    Pause,
    Reset,
    Start,
    Stop,
    Upgrade,
    Walk,
    WipeDisk,
)

__all__ = ["Faults"]

_OfOne: TypeAlias = Reset | Crash | Stop | Start | Pause | DiskFull | WipeDisk | ClockChange | Churn

_HEALING_S: Final = (5.0, 60.0)
"""How long after a heal it is looked at."""


class Faults:
    """All faults of one world."""

    def __init__(
        self,
        network: Network,
        recorder: Recorder,
        hosts: Mapping[str, Host],
        phones: Mapping[str, Phone],
        chance: random.Random,
    ) -> None:
        self._network = network
        self._timeline = network.timeline
        self._recorder = recorder
        self._hosts = hosts
        self._phones = phones
        self._random = chance

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Each at its time."""
        for fault in faults:
            self._timeline.at(fault.at_s, partial(self._begin, fault))

    def _begin(self, fault: Fault) -> None:
        match fault:
            case Cut():
                self._cut(fault)
            case Clog():
                self._clog(fault)
            case Heal():
                self._recorder.moment("before the heal")
                self._recorder.happened("heal", (), "everything passes again")
                self._network.heal()
                self._healed()
            case Walk():
                self._walk(fault)
            case Upgrade():
                self._upgrade(fault)
            case _:
                kind, text, act = self._happening_to_one(fault)
                self._recorder.happened(kind, fault.who, f"{', '.join(fault.who)}: {text}")
                for host in self._among(fault.who):
                    act(host)
                if isinstance(fault, Churn):
                    over = partial(self._recorder.happened, "end-of-churn", fault.who, "all stay from now on")
                    self._timeline.after(fault.for_s, over)

    def _happening_to_one(self, fault: _OfOne) -> tuple[str, str, Callable[[Host], None]]:
        """What a fault that befalls single mailboxes is called, and what it does to each."""
        match fault:
            case Reset():
                return "reset", "all connections are reset", self._reset
            case Crash():
                return "crash", "crashes", partial(self._crash, fault.restart_after_s)
            case Stop():
                return "stop", "is stopped", Host.stop
            case Start():
                return "start", "is started", Host.start
            case Pause():
                return "pause", f"sleeps for {fault.for_s:.0f} s", partial(self._pause, fault.for_s)
            case DiskFull():
                return "disk-full", "has no room on its disk", partial(self._fill, fault.for_s)
            case WipeDisk():
                return "wipe-disk", "loses its disk", partial(self._wipe, fault.restart_after_s)
            case ClockChange():
                return "clock-change", f"its clock steps by {fault.step_s:+.0f} s", partial(_set, fault)
            case Churn():
                return "churn", "comes and goes", partial(self._churn, fault)

    def _among(self, names: Sequence[str]) -> list[Host]:
        return [host for host in self._hosts.values() if host.machine.is_among(names)]

    def _healed(self) -> None:
        """How they come together again is worth seeing."""
        for after_s in _HEALING_S:
            self._timeline.after(after_s, partial(self._recorder.moment, f"{after_s:.0f} s after the heal"))

    # --- the network -----------------------------------------------------------------------------------------------

    def _cut(self, cut: Cut) -> None:
        how = "to" if cut.one_way else "and"
        self._recorder.moment("before the cut")
        text = f"nothing passes from {', '.join(cut.a)} {how} {', '.join(cut.b)}"
        self._recorder.happened("cut", (*cut.a, *cut.b), text)
        rule = Rule(cut.a, cut.b, both_ways=not cut.one_way)
        self._network.add_rule(rule, silently=cut.silently)
        if cut.for_s is not None:
            self._timeline.after(cut.for_s, partial(self._uncut, rule, "end-of-cut"))

    def _clog(self, clog: Clog) -> None:
        text = f"what goes from {', '.join(clog.a)} to {', '.join(clog.b)} waits"
        self._recorder.happened("clog", (*clog.a, *clog.b), text)
        rule = Rule(clog.a, clog.b, is_clog=True)
        self._network.add_rule(rule, silently=True)
        self._timeline.after(clog.for_s, partial(self._uncut, rule, "end-of-clog"))

    def _uncut(self, rule: Rule, kind: str) -> None:
        if not self._network.has_rule(rule):
            return
        if not rule.is_clog:
            self._recorder.moment("before the heal")
            self._healed()
        self._recorder.happened(kind, (*rule.a, *rule.b), "it passes again")
        self._network.remove_rule(rule)

    def _reset(self, host: Host) -> None:
        if host.transport is not None:
            host.transport.break_all()

    def _walk(self, walk: Walk) -> None:
        self._recorder.happened("walk", walk.who, f"{', '.join(walk.who)}: to {walk.to_lan}")
        for host in self._among(walk.who):
            host.machine.lan = walk.to_lan
            self._network.changed()
            host.moved()
        for phone in self._phones.values():
            if phone.machine.is_among(walk.who):
                phone.machine.lan = walk.to_lan
                self._network.changed()
                phone.moved()

    # --- machines --------------------------------------------------------------------------------------------------

    def _crash(self, restart_after_s: float | None, host: Host) -> None:
        host.crash()
        if restart_after_s is None:
            host.is_wanted = False
        else:
            self._timeline.after(restart_after_s, partial(self._restart, host))

    def _restart(self, host: Host) -> None:
        if host.is_wanted:
            self._recorder.happened("start", (host.name,), f"{host.name}: back")
            host.start()

    def _wipe(self, restart_after_s: float, host: Host) -> None:
        host.crash()
        host.wipe()
        self._recorder.wiped(host)
        self._timeline.after(restart_after_s, partial(self._restart, host))

    def _pause(self, for_s: float, host: Host) -> None:
        host.sleep(asleep=True)
        self._timeline.after(for_s, partial(self._wake, host))

    def _wake(self, host: Host) -> None:
        self._recorder.happened("end-of-pause", (host.name,), f"{host.name}: awake")
        host.sleep(asleep=False)

    def _fill(self, for_s: float, host: Host) -> None:
        host.disk.is_full = True
        self._timeline.after(for_s, partial(self._empty, host))

    def _empty(self, host: Host) -> None:
        self._recorder.happened("end-of-disk-full", (host.name,), f"{host.name}: room again")
        host.disk.is_full = False

    def _churn(self, churn: Churn, host: Host) -> None:
        until = churn.at_s + churn.for_s

        def go_down() -> None:
            if trio.current_time() < until and host.is_wanted:
                host.crash()
                self._recorder.happened("crash", (host.name,), f"{host.name}: gone")
                back_at = min(until, trio.current_time() + self._random.expovariate(1 / churn.down_s))
                self._timeline.at(back_at, come_up)

        def come_up() -> None:
            if host.is_wanted:
                host.start()
                self._recorder.happened("start", (host.name,), f"{host.name}: back")
                self._timeline.after(self._random.expovariate(1 / churn.up_s), go_down)

        self._timeline.after(self._random.expovariate(1 / churn.up_s), go_down)

    def _upgrade(self, upgrade: Upgrade) -> None:
        for number, host in enumerate(self._among(upgrade.who)):
            self._timeline.after(number * upgrade.every_s, partial(self._upgrade_one, host, upgrade.to_version))

    def _upgrade_one(self, host: Host, version: int) -> None:
        self._recorder.happened("upgrade", (host.name,), f"{host.name}: speaks version {version} from now on")
        host.stop()
        host.sync_version = version
        self._timeline.after(2.0, host.start)


def _set(change: ClockChange, host: Host) -> None:
    host.clock.change(step_s=change.step_s, drift_ppm=change.drift_ppm)
