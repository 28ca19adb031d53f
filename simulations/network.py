"""The simulated network: LANs and routes between them, how long bytes take, and what is cut, clogged or asleep.

A packet passes hops: the sender's own link into its LAN, then each route towards the other LAN, then the receiver's
link. A hop has latency, jitter, a rate that all who use it share, and bursts in which nothing passes (Gilbert and
Elliott). What can't pass at the moment is held, never lost: streams stall, and break when the stall lasts.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final, Protocol

import trio

from protocols.limits.transport import PING_INTERVAL_S, PING_UNANSWERED_MAX
from simulations.runtime import Timeline, draw
from simulations.scenario import Lan, Link, Route

__all__ = ["SILENCE_S", "Flow", "Machine", "Network", "Rule"]

SILENCE_S: Final = PING_INTERVAL_S * (PING_UNANSWERED_MAX + 1)
"""After so much silence a connection is given up by both sides, as the real transport does."""

_SETTLED: Final = 20.0
"""After so many mean cycles a bursty link has forgotten in which state it was."""


@dataclass(slots=True, eq=False)
class Machine:
    """Something with a place in the network. `number` makes its address."""

    name: str
    group: str
    lan: str
    number: int
    asleep: bool = False

    def is_among(self, names: Sequence[str]) -> bool:
        """Whether it is meant by any of these names of machines, groups or LANs."""
        return self.name in names or self.group in names or self.lan in names


@dataclass(slots=True, eq=False)
class Rule:
    """Something that keeps packets from `a` to `b` from passing. A cut may end by itself; a clog is no silence to the
    transport: only what is sent through it waits."""

    a: Sequence[str]
    b: Sequence[str]
    is_clog: bool = False
    both_ways: bool = False

    def holds(self, source: Machine, target: Machine) -> bool:
        """Whether it concerns this direction."""
        return (source.is_among(self.a) and target.is_among(self.b)) or (
            self.both_ways and target.is_among(self.a) and source.is_among(self.b)
        )


class _Hop:
    """One direction of a link."""

    __slots__ = ("_free_at", "_random", "bad_from", "bad_until", "breaks", "link")

    def __init__(self, link: Link, chance: random.Random) -> None:
        self.link = link
        self._random = chance
        self._free_at = 0.0
        self.bad_from = inf if link.good_s == inf else chance.expovariate(1 / link.good_s)
        self.bad_until = -inf
        self.breaks = False
        if self.bad_from < inf:
            self._draw_burst(self.bad_from)

    def _draw_burst(self, begins_at: float) -> None:
        self.bad_from = begins_at
        self.bad_until = begins_at + self._random.expovariate(1 / max(self.link.bad_s, 0.001))
        self.breaks = self._random.random() < self.link.break_chance

    def _advance(self, now: float) -> None:
        link = self.link
        if now - self.bad_until > _SETTLED * (link.good_s + link.bad_s):
            self.bad_until = now - _SETTLED * link.good_s
        while self.bad_until <= now:
            self._draw_burst(self.bad_until + self._random.expovariate(1 / link.good_s))

    def passes(self, now: float, size: int) -> tuple[float, float, bool]:
        """When the last byte is through, how long it stood still, and whether that broke what it belongs to."""
        link = self.link
        start = now if now > self._free_at else self._free_at
        stalled, breaks = 0.0, False
        if link.good_s < inf:
            self._advance(start)
            if start >= self.bad_from:
                stalled, breaks = self.bad_until - start, self.breaks
                start = self.bad_until
        self._free_at = through = start + size / link.bandwidth_bytes_per_s
        return through + link.latency_s + link.jitter_s * self._random.random(), stalled, breaks


class Flow:
    """One direction between two machines: what is put in comes out later, in order."""

    __slots__ = (
        "_free_version",
        "_last_at",
        "_network",
        "_path",
        "_path_version",
        "_stuck",
        "on_silence",
        "source",
        "target",
    )

    def __init__(self, network: Network, source: Machine, target: Machine, on_silence: Callable[[str], None]) -> None:
        self.source = source
        self.target = target
        self.on_silence = on_silence
        """Called with a reason when nothing passed for too long, or a burst broke what is on its way."""
        self._network = network
        self._last_at = 0.0
        self._free_version = self._path_version = -1
        """The version of the network for which it is known that nothing is in the way, and which way it is."""
        self._path: Sequence[_Hop] = ()
        self._stuck: deque[Callable[[], None]] = deque()

    def send(self, size: int, arrive: Callable[[], None]) -> None:
        """Calls `arrive` when `size` bytes have come to the other end."""
        network = self._network
        now = network.timeline.now_at
        if self._path_version != network.version:
            self._path, self._path_version = network.path(self.source, self.target), network.version
        at, stalled, breaks = network.passage_by(self._path, size)
        if stalled > SILENCE_S:
            self._network.timeline.after(SILENCE_S, partial(self.on_silence, "nothing came through for too long"))
            return
        if breaks:
            self._network.timeline.at(now + stalled / 2, partial(self.on_silence, "the link broke it off"))
            return
        self._last_at = at = max(at, self._last_at)
        self._network.timeline.at(at, partial(self._arrive, arrive))

    def _arrive(self, action: Callable[[], None]) -> None:
        if not self._stuck and self._free_version == self._network.version:
            action()
        elif self._stuck or self._network.is_held(self.source, self.target):
            self._stuck.append(action)
        else:
            self._free_version = self._network.version
            action()

    def go_on(self) -> None:
        """Lets through what waits, if the way is free."""
        while self._stuck and not self._network.is_held(self.source, self.target):
            self._stuck.popleft()()


class _Crossing(Protocol):
    """What the network tells of changes: connections of any kind."""

    @property
    def flows(self) -> tuple[Flow, Flow]: ...

    def break_off(self, reason: str) -> None: ...


@dataclass(eq=False)
class Network:
    """All machines and what lies between them."""

    timeline: Timeline
    seed: int
    lans: dict[str, Lan]
    routes: Sequence[Route]
    machines: dict[str, Machine] = field(default_factory=dict)
    crossings: dict[_Crossing, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules: list[Rule] = []
        self._blocked: dict[tuple[Machine, Machine], tuple[bool, bool]] = {}
        self._hops: dict[tuple[str, str], _Hop] = {}
        self._ways: dict[tuple[str, str], list[tuple[str, str]] | None] = {}
        self._paths: dict[tuple[Machine, Machine], Sequence[_Hop]] = {}
        self._links = {pair: route.link for route in self.routes for pair in (route.lans, route.lans[::-1])}
        self._addresses: dict[Machine, str] = {}
        self._changed = trio.Event()
        self.version = 0
        """Changes with everything that decides who reaches whom."""
        self.on_change: list[Callable[[], None]] = []
        """Called when that changes."""

    def join(self, name: str, group: str, lan: str) -> Machine:
        """A new machine."""
        machine = self.machines[name] = Machine(name, group, lan, len(self.machines))
        return machine

    def address(self, machine: Machine) -> str:
        """Its IP address, which says in which LAN it is."""
        address = self._addresses.get(machine)
        if address is None:
            lan = list(self.lans).index(machine.lan)
            host = f"{(machine.number + 10) // 250}.{(machine.number + 10) % 250 + 1}"
            address = self._addresses[machine] = f"10.{lan}.{host}"
        return address

    def subnet(self, machine: Machine) -> str:
        """Its address with the length of its LAN's prefix."""
        return f"{self.address(machine)}/16"

    # --- how long it takes -----------------------------------------------------------------------------------------

    def passage(self, source: Machine, target: Machine, size: int) -> tuple[float, float, bool]:
        """When `size` bytes that are sent now arrive, how long they stood still on the way, and whether that broke what
        they belong to."""
        return self.passage_by(self.path(source, target), size)

    def passage_by(self, path: Sequence[_Hop], size: int) -> tuple[float, float, bool]:
        """The same by a known way."""
        at, stalled, breaks = self.timeline.now_at, 0.0, False
        for hop in path:
            at, more, broken = hop.passes(at, size)
            stalled += more
            breaks = breaks or broken
        return at, stalled, breaks

    async def travel(self, source: Machine, target: Machine, size: int) -> None:
        """Returns when `size` bytes have come through, which may be never. Raises ConnectionResetError if the link
        broke them off."""
        at, stalled, breaks = self.passage(source, target, size)
        if breaks:
            await trio.sleep(stalled / 2)
            raise ConnectionResetError("the link broke it off")
        await self.timeline.wait_until(at)
        while self.is_held(source, target):
            await self._changed.wait()

    def latency_s(self, source: Machine, target: Machine) -> float:
        """How long a small packet takes at the least."""
        return sum([hop.link.latency_s for hop in self.path(source, target)])

    def multicast_loss(self, source: Machine) -> float:
        """The share of multicast packets that each hearer misses."""
        return self.lans[source.lan].link.multicast_loss

    def path(self, source: Machine, target: Machine) -> Sequence[_Hop]:
        """The way that packets take until something changes; nothing if there is none."""
        key = (source, target)
        if key not in self._paths:
            self._paths[key] = self._find_path(source, target)
        return self._paths[key]

    def _find_path(self, source: Machine, target: Machine) -> Sequence[_Hop]:
        way = self._way(source.lan, target.lan)
        if way is None:
            return ()
        hops = [self._hop((source.name, f"to {source.lan}"), self.lans[source.lan].link)]
        hops += [self._hop(pair, self._links[pair]) for pair in way]
        if way:
            hops.append(self._hop((f"from {target.lan}", target.name), self.lans[target.lan].link))
        return hops

    def _hop(self, key: tuple[str, str], link: Link) -> _Hop:
        if key not in self._hops:
            self._hops[key] = _Hop(link, draw(self.seed, "hop", key))
        return self._hops[key]

    def _way(self, start: str, end: str) -> list[tuple[str, str]] | None:
        """The routes from one LAN to another, as few as possible; None if there is no way."""
        if (start, end) not in self._ways:
            ways: dict[str, list[tuple[str, str]]] = {start: []}
            frontier = deque([start])
            while frontier:
                lan = frontier.popleft()
                for one, other in self._links:
                    if one == lan and other not in ways:
                        ways[other] = [*ways[lan], (one, other)]
                        frontier.append(other)
            self._ways[start, end] = ways.get(end)
        return self._ways[start, end]

    # --- what is in the way ----------------------------------------------------------------------------------------

    def is_cut(self, source: Machine, target: Machine) -> bool:
        """Whether nothing at all passes in this direction: no route, a cut, or somebody sleeps."""
        return self._state(source, target)[0]

    def is_held(self, source: Machine, target: Machine) -> bool:
        """Whether what is sent in this direction has to wait."""
        cut, clogged = self._state(source, target)
        return cut or clogged

    def _state(self, source: Machine, target: Machine) -> tuple[bool, bool]:
        key = (source, target)
        state = self._blocked.get(key)
        if state is None:
            cut = source.asleep or target.asleep or self._way(source.lan, target.lan) is None
            clogged = False
            for rule in self._rules:
                if rule.holds(source, target):
                    cut, clogged = cut or not rule.is_clog, clogged or rule.is_clog
            state = self._blocked[key] = (cut, clogged)
        return state

    def add_rule(self, rule: Rule, *, silently: bool) -> None:
        """Something is in the way from now on. Connections that it cuts break at once, or when their silence has
        lasted."""
        self._rules.append(rule)
        self.changed(silently=silently)

    def has_rule(self, rule: Rule) -> bool:
        """Whether it is still in the way."""
        return rule in self._rules

    def remove_rule(self, rule: Rule) -> None:
        """It is out of the way again."""
        self._rules.remove(rule)
        self.changed()

    def heal(self) -> None:
        """Removes all rules."""
        self._rules.clear()
        self.changed()

    def changed(self, *, silently: bool = True) -> None:
        """Somebody moved, slept, woke, or a rule changed: breaks what can't go on and lets go on what can."""
        self.version += 1
        self._blocked.clear()
        self._paths.clear()
        self._addresses.clear()
        self._changed.set()
        self._changed = trio.Event()
        for watcher in self.on_change:
            watcher()
        for crossing in list(self.crossings):
            there, back = crossing.flows
            if self.is_cut(there.source, there.target) or self.is_cut(back.source, back.target):
                if silently:
                    self.timeline.after(SILENCE_S, partial(self._give_up, crossing))
                else:
                    crossing.break_off("the connection was lost")
            for flow in (there, back):
                flow.go_on()

    def _give_up(self, crossing: _Crossing) -> None:
        there, back = crossing.flows
        if crossing in self.crossings and (
            self.is_cut(there.source, there.target) or self.is_cut(back.source, back.target)
        ):
            crossing.break_off("nothing was heard for too long")
