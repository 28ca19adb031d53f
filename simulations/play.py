"""Plays a scenario in one deterministic world and tells how it went."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from node.sync.peers import SessionEnd
from protocols.model import LogName
from simulations.disk import SimulatedStore
from simulations.faults import Faults
from simulations.invariants import INVARIANTS
from simulations.judges import Judges
from simulations.machines import Host, Surroundings
from simulations.multicast import Multicast
from simulations.network import Machine, Network
from simulations.phones import Key, Phone
from simulations.recorder import Recorder
from simulations.recording import Glimpse, Recording, Watch
from simulations.runtime import Timeline, Trace, draw
from simulations.scenario import Mailboxes, Phones, Scenario, Upgrade
from simulations.scheduling import run_world
from simulations.transport import Exchange

__all__ = ["play"]

_SAMPLES: Final = 240

_HINT_LOSS: Final = 0.01
"""The share of hints that gossip loses: enough that nothing may depend on them."""


def play(scenario: Scenario, seed: int, *, watch: Watch | None = None) -> Recording:
    """Runs the world of `scenario` from its beginning to its end, the same way for the same `seed`. `watch` is shown a
    glimpse at each sample."""
    begun_s = time.perf_counter()
    world = _World(scenario, seed, watch)
    with _heard(world.judges.errors):
        run_world(world.run, seed, world.timeline)
    return world.recording(time.perf_counter() - begun_s)


@contextmanager
def _heard(errors: logging.Handler) -> Iterator[None]:
    """What the node (or the world's ports) logs as an error comes to the judges; the rest is nobody's business here."""
    loggers = [logging.getLogger(name) for name in ("node", "simulations")]
    before = [(one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(errors)
        one.setLevel(logging.ERROR)
        one.propagate = False
    try:
        yield
    finally:
        for one, (level, propagates) in zip(loggers, before, strict=True):
            one.removeHandler(errors)
            one.setLevel(level)
            one.propagate = propagates


class _World:
    """All parts of one run, and the run itself."""

    def __init__(self, scenario: Scenario, seed: int, watch: Watch | None) -> None:
        self._scenario = scenario
        self._seed = seed
        self._watch = watch
        self._shown = 0
        self.timeline = Timeline()
        self._trace = Trace(self.timeline)
        self._network = Network(self.timeline, seed, {lan.name: lan for lan in scenario.lans}, scenario.routes)
        self._exchange = Exchange(self._network, self._trace, hint_loss=_HINT_LOSS, chance=draw(seed, "gossip"))
        self._multicast = Multicast(self._network, draw(seed, "multicast"), self._accepts)
        self._hosts: dict[str, Host] = {}
        self._phones: dict[str, Phone] = {}
        self._recorder = Recorder(self._network, self._exchange, self._trace, self._hosts)
        self.judges = Judges(scenario, self._recorder, self._network, INVARIANTS)
        self._recorder.judge = self.judges

    async def run(self) -> None:
        """The whole run."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.timeline.run)
            self._people(nursery)
            faults = Faults(self._network, self._recorder, self._hosts, self._phones, draw(self._seed, "faults"))
            faults.schedule(self._scenario.faults)
            await self._sample()
            self._recorder.moment("at the end")
            nursery.cancel_scope.cancel()

    def recording(self, wall_s: float) -> Recording:
        """What came of it."""
        scenario, recorder = self._scenario, self._recorder
        return Recording(
            scenario=scenario.name,
            title=scenario.title,
            seed=self._seed,
            world="simulated",
            simulated_s=scenario.duration_s,
            wall_s=wall_s,
            trace_hash=self._trace.digest(),
            happenings=recorder.happenings,
            sampled_s=recorder.sampled_s,
            held_share=recorder.held_share,
            groups=recorder.groups,
            up=recorder.up,
            messages=recorder.messages,
            traffic_bytes=recorder.traffic_bytes,
            moments=recorder.moments,
            spreads=recorder.spreads(),
            totals=recorder.totals(),
            verdicts=self.judges.verdicts(),
        )

    # --- who is there ----------------------------------------------------------------------------------------------

    def _people(self, nursery: trio.Nursery) -> None:
        """Puts all machines in their places and has them begin."""
        around = Surroundings(
            seed=self._seed,
            network=self._network,
            exchange=self._exchange,
            multicast=self._multicast,
            trace=self._trace,
            nursery=nursery,
            on_store=self._watch_store,
            on_started=self._started,
            on_session=self._session_ended,
            on_wrote=self.wrote,
        )
        places: list[tuple[Mailboxes, Machine, list[Machine]]] = []
        for spec in self._scenario.mailboxes:
            places += [(spec, self._network.join(name, spec.name, spec.lan), []) for name in _names(spec)]
        for spec, machine, peers in places:
            peers += [other for _, other, _ in places if other is not machine and other.is_among(spec.peers)]
            host = self._hosts[machine.name] = Host(spec, machine, around, peers)
            self.timeline.at(spec.starts_at_s, host.start)
        for fault in self._scenario.faults:
            if isinstance(fault, Upgrade):
                for host in self._hosts.values():
                    if host.machine.is_among(fault.who):
                        host.sync_version = fault.from_version
        for phones in self._scenario.phones:
            for name in _names(phones):
                machine = self._network.join(name, phones.name, phones.lan)
                phone = self._phones[name] = Phone(phones, machine, self._network, seed=self._seed, witness=self)
                nursery.start_soon(phone.run, self._host_at, self._multicast)

    def _host_at(self, address: str) -> Host | None:
        transport = self._exchange.at(address)
        return None if transport is None else self._hosts[transport.machine.name]

    def _accepts(self, address: str) -> Machine | None:
        host = self._host_at(address)
        return host.machine if host is not None and host.is_up else None

    # --- what happens ----------------------------------------------------------------------------------------------

    def _watch_store(self, host: Host, store: SimulatedStore) -> None:
        self._recorder.follow(host, store)

    def _started(self, host: Host) -> None:
        self._trace.note(f"up {host.name}")
        self.judges.started(host)

    def _session_ended(self, host: Host, end: SessionEnd) -> None:
        result = end.result
        self._trace.note(
            f"session {host.name} {end.incoming} {end.bytes_in} {end.bytes_out} {result.round_trips} "
            f"{result.received} {result.sent} {end.error}"
        )
        self.judges.session_ended(host, end)

    def wrote(self, phone: str, name: LogName, seq: int) -> None:
        """See `Witness`."""
        self._recorder.wrote(phone, name, seq)

    def acknowledged(self, host: Host, messages: Sequence[Key]) -> None:
        """See `Witness`."""
        self._recorder.acknowledged(host, messages)

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        """See `Witness`."""
        self._recorder.served(host, name, seq, blob)
        self.judges.served(host, name, seq, blob)

    async def _sample(self) -> None:
        every_s = self._scenario.duration_s / _SAMPLES
        for number in range(1, _SAMPLES + 1):
            await trio.sleep_until(number * every_s)
            self._recorder.sample()
            self.judges.sampled()
            if self._watch is not None:
                self._watch(self._glimpse())

    def _glimpse(self) -> Glimpse:
        recorder = self._recorder
        new, self._shown = recorder.happenings[self._shown :], len(recorder.happenings)
        return Glimpse(
            at_s=recorder.sampled_s[-1],
            held_share=recorder.held_share[-1],
            groups=recorder.groups[-1],
            up=recorder.up[-1],
            mailboxes=sum(host.is_correct for host in self._hosts.values()),
            messages=recorder.messages[-1],
            happenings=new,
        )


def _names(spec: Mailboxes | Phones) -> list[str]:
    return [spec.name] if spec.count == 1 else [f"{spec.name}-{number}" for number in range(1, spec.count + 1)]
