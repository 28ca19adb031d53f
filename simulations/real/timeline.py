"""The faults of a scenario, done to real machines at their times."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence

import trio

from simulations.real.ledger import Ledger
from simulations.real.mailboxes import RealMailbox
from simulations.real.network import Machine, Network
from simulations.real.phones import RealPhone
from simulations.recording import Happening
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
    Walk,
    WipeDisk,
)

__all__ = ["Timeline", "kind_of"]


def kind_of(fault: Fault) -> str:
    """A fault's name in lower case with hyphens."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(fault).__name__).lower()


class Timeline:
    """Does the faults and tells `happened` of each and of its end. Raises what mailboxes and networks raise."""

    def __init__(
        self,
        network: Network,
        mailboxes: Mapping[str, RealMailbox],
        phones: Mapping[str, RealPhone],
        ledger: Ledger,
        *,
        seed: int,
        now_s: Callable[[], float],
        happened: Callable[[Happening], None],
        start: Callable[[RealMailbox], object],
    ) -> None:
        self._network = network
        self._mailboxes = mailboxes
        self._phones = phones
        self._ledger = ledger
        self._random = random.Random(f"{seed} timeline")
        self._now_s = now_s
        self._happened = happened
        self._start = start
        self._keys = itertools.count(1)
        self._rules: dict[int, Callable[[], None]] = {}
        """What a running cut or clog is told about when it is healed."""

    async def run(self, faults: Sequence[Fault]) -> None:
        """Does all of them; returns when the last one is over."""
        async with trio.open_nursery() as nursery:
            for fault in faults:
                nursery.start_soon(self._play, fault)

    async def _play(self, fault: Fault) -> None:
        await self._until(fault.at_s)
        match fault:
            case Cut() | Clog():
                await self._block(fault)
            case Heal():
                self._tell(fault, ())
                self._unblock(list(self._rules))
            case Reset(who=who):
                self._tell(fault, who)
                self._network.switch.reset(who)
            case Walk(who=who, to_lan=lan):
                self._tell(fault, who, f"{_names(who)} walk to {lan}")
                self._walk(who, lan)
            case ClockChange():
                self._change_clocks(fault)
            case _:
                await self._do_to_machines(fault)

    async def _do_to_machines(self, fault: Fault) -> None:
        match fault:
            case Crash(who=who, restart_after_s=after_s):
                self._tell(fault, who)
                await self._down(who, after_s, RealMailbox.crash)
            case WipeDisk(who=who, restart_after_s=after_s):
                self._tell(fault, who)
                await self._down(who, after_s, self._wipe)
            case Stop(who=who):
                self._tell(fault, who)
                await self._stop(who)
            case Start(who=who):
                await self._restart(who)
            case Pause(who=who, for_s=for_s):
                self._tell(fault, who)
                await self._pause(fault, who, for_s)
            case DiskFull(who=who, for_s=for_s):
                self._tell(fault, who)
                await self._fill(fault, who, for_s)
            case Churn(who=who):
                self._tell(fault, who)
                async with trio.open_nursery() as nursery:
                    for mailbox in self._named(who):
                        nursery.start_soon(self._come_and_go, mailbox, fault, self._random.random())
                self._tell_end(fault, who)

    # --- the network -----------------------------------------------------------------------------------------------

    async def _block(self, fault: Cut | Clog) -> None:
        a, b = fault.a, fault.b
        self._tell(fault, (*a, *b), f"{_names(a)} {'→' if _is_one_way(fault) else '↔'} {_names(b)}")
        switch = self._network.switch
        if isinstance(fault, Cut) and not fault.silently:
            switch.reset(a, b)
        ways = [(a, b)] if _is_one_way(fault) else [(a, b), (b, a)]
        keys = [next(self._keys) for _ in ways]
        over = trio.Event()
        for key, (source, target) in zip(keys, ways, strict=True):
            switch.block(key, source, target, clog=isinstance(fault, Clog))
            self._rules[key] = over.set
        with trio.move_on_after(float("inf") if fault.for_s is None else fault.for_s):
            await over.wait()
            return
        self._unblock(keys)
        self._tell_end(fault, (*a, *b))

    def _unblock(self, keys: Sequence[int]) -> None:
        self._network.switch.unblock(keys)
        for key in keys:
            if over := self._rules.pop(key, None):
                over()

    def _walk(self, who: Sequence[str], lan: str) -> None:
        for machine in list(self._network.named(who)):
            self._network.walk(machine, lan)
            if phone := self._phones.get(machine.name):
                phone.moved()

    # --- machines --------------------------------------------------------------------------------------------------

    async def _down(self, who: Sequence[str], after_s: float | None, how: Callable[[RealMailbox], None]) -> None:
        phones = self._phones_named(who)
        for phone in phones:
            phone.turn_off()
        gone = [mailbox for mailbox in self._named(who) if mailbox.is_up]
        for mailbox in gone:
            how(mailbox)
        if after_s is None:
            return
        await trio.sleep(after_s)
        for phone in phones:
            phone.turn_on()
        for mailbox in gone:
            self._begin(mailbox)

    def _wipe(self, mailbox: RealMailbox) -> None:
        mailbox.wipe()
        self._ledger.wiped(mailbox.name)

    async def _stop(self, who: Sequence[str]) -> None:
        for phone in self._phones_named(who):
            phone.turn_off()
        async with trio.open_nursery() as nursery:
            for mailbox in self._named(who):
                nursery.start_soon(mailbox.stop)

    async def _restart(self, who: Sequence[str]) -> None:
        for phone in self._phones_named(who):
            phone.turn_on()
        for mailbox in self._named(who):
            self._begin(mailbox)

    def _begin(self, mailbox: RealMailbox) -> None:
        if not mailbox.is_up:
            self._happened(Happening(self._now_s(), "start", (mailbox.name,), ""))
            self._start(mailbox)

    async def _pause(self, fault: Fault, who: Sequence[str], for_s: float) -> None:
        mailboxes, phones = self._named(who), self._phones_named(who)
        machines: list[Machine] = [*(one.machine for one in mailboxes), *(one.machine for one in phones)]
        for machine in machines:
            self._network.switch.sleep(machine.name)
        for mailbox in mailboxes:
            mailbox.pause()
        for phone in phones:
            phone.turn_off()
        await trio.sleep(for_s)
        for mailbox in mailboxes:
            mailbox.resume()
        for machine in machines:
            self._network.switch.wake(machine.name)
        for phone in phones:
            phone.turn_on()
        self._tell_end(fault, who)

    async def _fill(self, fault: Fault, who: Sequence[str], for_s: float) -> None:
        disks = [mailbox.disk for mailbox in self._named(who) if mailbox.disk is not None]
        for disk in disks:
            disk.fill()
        await trio.sleep(for_s)
        for disk in disks:
            disk.free()
        self._tell_end(fault, who)

    async def _come_and_go(self, mailbox: RealMailbox, churn: Churn, seed: float) -> None:
        draw = random.Random(seed)
        ends_s = churn.at_s + churn.for_s
        while True:
            up_until_s = self._now_s() + draw.expovariate(1 / churn.up_s)
            if up_until_s >= ends_s:
                return
            await self._until(up_until_s)
            if mailbox.is_up:
                self._happened(Happening(self._now_s(), "crash", (mailbox.name,), ""))
                mailbox.crash()
            await self._until(min(ends_s, self._now_s() + draw.expovariate(1 / churn.down_s)))
            self._begin(mailbox)

    # --- clocks ----------------------------------------------------------------------------------------------------

    def _change_clocks(self, fault: ClockChange) -> None:
        self._tell(fault, fault.who, f"{_names(fault.who)}: the clock steps by {fault.step_s:+g} s")
        for mailbox in self._named(fault.who):
            if fault.drift_ppm is not None:
                mailbox.drift_ppm = fault.drift_ppm
            mailbox.set_clock(mailbox.clock_error_s + fault.step_s)

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _named(self, who: Sequence[str]) -> list[RealMailbox]:
        return [mailbox for mailbox in self._mailboxes.values() if mailbox.machine.is_one_of(who)]

    def _phones_named(self, who: Sequence[str]) -> list[RealPhone]:
        return [phone for phone in self._phones.values() if phone.machine.is_one_of(who)]

    async def _until(self, at_s: float) -> None:
        await trio.sleep(max(0.0, at_s - self._now_s()))

    def _tell(self, fault: Fault, who: Sequence[str], text: str = "") -> None:
        self._happened(Happening(self._now_s(), kind_of(fault), tuple(who), text))

    def _tell_end(self, fault: Fault, who: Sequence[str]) -> None:
        self._happened(Happening(self._now_s(), f"end-of-{kind_of(fault)}", tuple(who), ""))


def _is_one_way(fault: Cut | Clog) -> bool:
    return isinstance(fault, Clog) or fault.one_way


def _names(who: Sequence[str]) -> str:
    return ", ".join(who)
