"""The wires between real machines: which Ethernet frame goes where, and when it arrives. No sockets, no own clock.

Theory of operation. Every machine's cable ends here, so that whatever happens to a network happens in one place and on
any kernel (few have all of netem, tbf and nft): latency, jitter, bandwidth, bursts of loss, one-way cuts, clogs. LANs
are groups of cables that hear each other's multicast. What a machine sends to another LAN it sends to the gateway's
Ethernet address; we find the receiver by its IP address and hand the frame over if there is a route, as a router would.
On its way a frame passes hops, the same as in the simulated world: the sender's link into its LAN, each route, and
behind a route the receiver's link. Each hop has a queue and weather of its own, which all who use it share.

Frames are bytes as they come from the cable (Ethernet II without preamble); times are seconds of any steady clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Final

from protocols.limits.simulation import WIRE_CLOGGED_FRAMES_MAX, WIRE_FLOWS_MAX, WIRE_QUEUE_MAX_S
from simulations.real.segments import Segment, reset_of, segment_of
from simulations.scenario import Link

__all__ = ["Arrival", "Cable", "Wires"]

_IPV4: Final = b"\x08\x00"
_BROADCAST: Final = b"\xff" * 6


@dataclass(slots=True)
class Cable:
    """A machine's cable. `groups` are the names that mean it beside its own and that of its LAN."""

    name: str
    mac: bytes
    address: IPv4Address
    lan: str
    groups: frozenset[str] = frozenset()

    def is_one_of(self, names: frozenset[str]) -> bool:
        """Whether any of the names of LANs, groups and machines means it."""
        return self.name in names or self.lan in names or not names.isdisjoint(self.groups)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that comes out of `cable` at `at_s`."""

    at_s: float
    cable: Cable
    frame: bytes


@dataclass(frozen=True, slots=True)
class _Rule:
    """Nothing passes from `a` to `b` (`clog`: until it is lifted)."""

    a: frozenset[str]
    b: frozenset[str]
    clog: bool

    def stops(self, source: Cable, target: Cable) -> bool:
        return source.is_one_of(self.a) and target.is_one_of(self.b)


class _Hop:
    """One direction of a link. Its weather follows Gilbert and Elliott: good and bad times take turns."""

    __slots__ = ("_free_at_s", "_is_bad", "_random", "_turns_at_s", "breaks", "link")

    def __init__(self, link: Link, chance: random.Random) -> None:
        self.link = link
        self.breaks = False
        """Whether the present bad time breaks the connections that it meets."""
        self._random = chance
        self._free_at_s = 0.0
        self._is_bad = False
        self._turns_at_s: float | None = None

    def passes(self, at_s: float, size: int) -> float | None:
        """When a frame that comes at `at_s` is through; None if it is lost."""
        link = self.link
        if self._is_bad_at(at_s):
            return None
        starts_s = max(at_s, self._free_at_s)
        if starts_s - at_s > WIRE_QUEUE_MAX_S:
            return None
        self._free_at_s = starts_s + size / link.bandwidth_bytes_per_s
        return self._free_at_s + link.latency_s + link.jitter_s * self._random.random()

    def _is_bad_at(self, at_s: float) -> bool:
        link = self.link
        if link.bad_s <= 0 or link.good_s == float("inf"):
            return False
        if self._turns_at_s is None:
            self._turns_at_s = at_s + self._random.expovariate(1 / link.good_s)
        while self._turns_at_s <= at_s:
            self._is_bad = not self._is_bad
            self._turns_at_s += self._random.expovariate(1 / (link.bad_s if self._is_bad else link.good_s))
            self.breaks = self._is_bad and self._random.random() < link.break_chance
        return self._is_bad


@dataclass(slots=True)
class _Way:
    """One direction between two machines."""

    hops: list[_Hop] | None
    """None: there is no way."""
    rule: _Rule | None
    last_s: float = 0.0
    held: list[bytes] = field(default_factory=list)


class Wires:
    """All cables and what lies between them. All randomness comes from `seed`."""

    def __init__(self, lans: Mapping[str, Link], routes: Mapping[frozenset[str], Link], *, gateway: bytes, seed: int):
        self._lans = lans
        self._routes = routes
        self._gateway = gateway
        self._seed = seed
        self._random = random.Random(seed)
        self._cables: dict[str, Cable] = {}
        self._by_mac: dict[bytes, Cable] = {}
        self._by_address: dict[bytes, Cable] = {}
        self._ways: dict[tuple[str, str], _Way] = {}
        self._hops: dict[tuple[str, str], _Hop] = {}
        self._rules: dict[int, _Rule] = {}
        self._asleep: set[str] = set()
        self._flows: dict[bytes, tuple[str, str, Segment]] = {}
        self.carried_bytes: dict[tuple[str, str], int] = {}
        """(from, to) -> bytes of the IP packets with TCP in them that were handed over."""

    # --- what is plugged in where ----------------------------------------------------------------------------------

    def plug_in(self, cable: Cable) -> None:
        """A new machine."""
        self._cables[cable.name] = cable
        self._by_mac[cable.mac] = cable
        self._by_address[cable.address.packed] = cable

    def walk(self, name: str, lan: str, address: IPv4Address) -> None:
        """The machine is on another LAN now, with a new address."""
        cable = self._cables[name]
        del self._by_address[cable.address.packed]
        cable.lan, cable.address = lan, address
        self._by_address[address.packed] = cable
        for key in [key for key in self._ways if name in key]:
            del self._ways[key]

    def connected(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs of these machines between which frames pass both ways now."""
        cables = [self._cables[name] for name in names]
        return [
            (one.name, other.name)
            for number, one in enumerate(cables)
            for other in cables[number + 1 :]
            if self._passes(one, other) and self._passes(other, one)
        ]

    def _passes(self, source: Cable, target: Cable) -> bool:
        way = self._way(source, target)
        return way.hops is not None and way.rule is None and not self._asleep & {source.name, target.name}

    # --- faults ----------------------------------------------------------------------------------------------------

    def block(self, key: int, a: Sequence[str], b: Sequence[str], *, clog: bool = False) -> None:
        """From now on nothing passes from `a` to `b`; with `clog` it is held back instead. `key` names the rule."""
        self._rules[key] = _Rule(frozenset(a), frozenset(b), clog)
        self._look_again()

    def unblock(self, keys: Sequence[int], now_s: float) -> list[Arrival]:
        """Lifts these rules (unknown ones are fine); returns what had been held back."""
        for key in keys:
            self._rules.pop(key, None)
        return self._look_again(now_s)

    def sleep(self, name: str) -> None:
        """The machine neither sends nor hears."""
        self._asleep.add(name)

    def wake(self, name: str) -> None:
        """It does again."""
        self._asleep.discard(name)

    def reset(self, a: Sequence[str], b: Sequence[str] | None, now_s: float) -> list[Arrival]:
        """Breaks the TCP connections that were seen between `a` and `b` (None: anyone), on both sides."""
        ones, others = frozenset(a), None if b is None else frozenset(b)
        arrivals: list[Arrival] = []
        for flow, (sender, receiver, _) in list(self._flows.items()):
            source, target = self._cables[sender], self._cables[receiver]
            there = source.is_one_of(ones) and (others is None or target.is_one_of(others))
            back = target.is_one_of(ones) and (others is None or source.is_one_of(others))
            if there or back:
                arrivals += self._break(flow, now_s)
        return arrivals

    def _break(self, flow: bytes, now_s: float) -> Iterator[Arrival]:
        """A RST to both ends. It counts only with exactly the number that its receiver expects next: that of the last
        segment seen in this direction, and the one that its sender has acknowledged in the other."""
        sender, receiver, segment = self._flows.pop(flow)
        source, target = self._cables[sender], self._cables[receiver]
        for cable, packet in ((target, reset_of(segment)), (source, reset_of(segment, back=True))):
            yield Arrival(now_s, cable, self._addressed(packet, cable))

    def _addressed(self, packet: bytes, cable: Cable) -> bytes:
        return cable.mac + self._gateway + _IPV4 + packet

    def _look_again(self, now_s: float = 0.0) -> list[Arrival]:
        """After a change of rules: which ways they stop."""
        arrivals: list[Arrival] = []
        for (source, target), way in self._ways.items():
            way.rule = self._rule(self._cables[source], self._cables[target])
            if way.rule is None and way.held:
                held, way.held = way.held, []
                arrivals += [Arrival(now_s, self._cables[target], frame) for frame in held]
        return arrivals

    # --- frames ----------------------------------------------------------------------------------------------------

    def carry(self, name: str, frame: bytes, now_s: float) -> Iterator[Arrival]:
        """What becomes of a frame that came out of the machine `name`."""
        source = self._cables[name]
        if len(frame) < 14 or name in self._asleep:
            return
        destination = frame[:6]
        if destination[0] & 1:
            for target in self._cables.values():
                if target.lan == source.lan and target is not source:
                    yield from self._pass(source, target, frame, now_s)
        elif destination == self._gateway:
            found = self._by_address.get(frame[30:34]) if frame[12:14] == _IPV4 else None
            if found is not None and found.lan != source.lan:
                yield from self._pass(source, found, found.mac + self._gateway + frame[12:], now_s)
        else:
            found = self._by_mac.get(destination)
            if found is not None and found.lan == source.lan and found is not source:
                yield from self._pass(source, found, frame, now_s)

    def _pass(self, source: Cable, target: Cable, frame: bytes, now_s: float) -> Iterator[Arrival]:
        way = self._way(source, target)
        if way.hops is None or target.name in self._asleep:
            return
        if way.rule is not None:
            if way.rule.clog and len(way.held) < WIRE_CLOGGED_FRAMES_MAX:
                way.held.append(frame)
            return
        at_s = now_s
        for hop in way.hops:
            loss = hop.link.multicast_loss if frame[0] & 1 and frame[:6] != _BROADCAST else 0.0
            through_s = None if loss and self._random.random() < loss else hop.passes(at_s, len(frame))
            if through_s is None:
                yield from self._lose(hop, frame, now_s)
                return
            at_s = through_s
        way.last_s = max(way.last_s, at_s)  # jitter changes no order: TCP would take that for loss
        self._note(source, target, frame)
        yield Arrival(way.last_s, target, frame)

    def _lose(self, hop: _Hop, frame: bytes, now_s: float) -> Iterator[Arrival]:
        segment = segment_of(frame) if hop.breaks else None
        if segment is not None and segment.flow in self._flows:
            yield from self._break(segment.flow, now_s)

    def _note(self, source: Cable, target: Cable, frame: bytes) -> None:
        segment = segment_of(frame)
        if segment is None:
            return
        key = (source.name, target.name)
        self.carried_bytes[key] = self.carried_bytes.get(key, 0) + segment.packet_bytes
        if segment.ends or (len(self._flows) >= WIRE_FLOWS_MAX and segment.flow not in self._flows):
            self._flows.pop(segment.flow, None)
            return
        self._flows[segment.flow] = (source.name, target.name, segment)

    def _way(self, source: Cable, target: Cable) -> _Way:
        key = (source.name, target.name)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = _Way(self._path(source, target), self._rule(source, target))
        return way

    def _path(self, source: Cable, target: Cable) -> list[_Hop] | None:
        lans = self._lans_between(source.lan, target.lan)
        if lans is None:
            return None
        hops = [self._hop(source.name, f"to {source.lan}", self._lans[source.lan])]
        hops += [self._hop(one, other, self._routes[frozenset((one, other))]) for one, other in pairwise(lans)]
        if len(lans) > 1:
            hops.append(self._hop(f"from {target.lan}", target.name, self._lans[target.lan]))
        return hops

    def _hop(self, begin: str, end: str, link: Link) -> _Hop:
        hop = self._hops.get((begin, end))
        if hop is None:
            hop = self._hops[begin, end] = _Hop(link, random.Random(f"{self._seed} {begin} {end}"))
        return hop

    def _lans_between(self, start: str, end: str) -> list[str] | None:
        """The LANs on the shortest way, both ends included."""
        ways = [[start]]
        reached = {start}
        for way in ways:  # grows meanwhile
            if way[-1] == end:
                return way
            for route in self._routes:
                for lan in route - reached if way[-1] in route else ():
                    reached.add(lan)
                    ways.append([*way, lan])
        return None

    def _rule(self, source: Cable, target: Cable) -> _Rule | None:
        """What stops this way; a cut comes before a clog."""
        stopping = [rule for rule in self._rules.values() if rule.stops(source, target)]
        return min(stopping, key=lambda rule: rule.clog, default=None)
