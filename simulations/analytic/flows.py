"""How often things happen to each kind of mailbox in a plan.

A *link* joins two neighbours. A message crosses each link that it must cross once: with its hint, if it is small and
most of those who hear the hint lack it; else as part of a session that the side which lacks it opens after the hint.
Messages that come close together share a hint, and hints a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import log
from typing import Final

from protocols.limits.replication import (
    HINT_COALESCE_S,
    HINT_ECHOES,
    HINT_SPREAD_S,
    SYNC_CALM_DOUBLINGS_MAX,
    SYNC_FEW_PEERS,
    SYNC_SESSIONS_IN_MAX,
)
from protocols.limits.sync import HINT_CONTENT_BYTES_MAX, HINT_MESSAGES_MAX
from protocols.model import LogName
from protocols.sync.hints import content_bytes
from simulations.analytic.plan import Network, Plan

__all__ = ["Flow", "Link", "comparisons", "flows_of", "session_s", "spread_s", "told_s"]

_ROUND_TRIPS: Final = 4
"""Of a hint's session: the stream's opening, hello, the question, the messages and their acknowledgement."""

_MOST: Final = 0.5
"""A message comes with its hint if such a share of those who hear it lack it."""

_SOME_LOG: Final = LogName("0" * 64, "0" * 64)
"""Names as the app's are."""

_FIRST_OF_TWO: Final = 14 / 15
"""Both neighbours draw their next comparison from 0.8 to 1.2 of the pause; the earlier one counts for both."""


@dataclass(frozen=True, slots=True)
class Link:
    """`count` neighbours of one kind. `inward` and `outward` are the messages a second that each gives and takes,
    `asked_inward` and `asked_outward` those of them that don't come with their hint, `hints` the hints that each
    publishes, `neighbours` how many hear them. `is_far`: over the internet, and one of the two was given the address of
    the other."""

    count: float
    inward: float
    outward: float
    hints: float
    neighbours: float
    is_far: bool = False
    asked_inward: float = 0.0
    asked_outward: float = 0.0


@dataclass(frozen=True, slots=True)
class Flow:
    """What one mailbox of a kind does, each second. `kept` are messages that come to be kept."""

    kind: str
    mailboxes: int
    kept: float
    announced: float
    """Messages that it publishes a hint of."""
    links: Sequence[Link]
    plan: Plan

    @property
    def neighbours(self) -> float:
        return sum(link.count for link in self.links)

    @property
    def hints(self) -> float:
        """Hints that it publishes; each goes to every neighbour."""
        return coalesced(self.announced, HINT_COALESCE_S)

    @property
    def hints_heard(self) -> float:
        return sum(link.count * link.hints for link in self.links)

    @property
    def asked(self) -> float:
        """Sessions that it opens for news."""
        return sum(
            link.count * coalesced(link.asked_inward, self._window_s(link, link.neighbours)) for link in self.links
        )

    @property
    def served(self) -> float:
        """Sessions that others open with it for news."""
        return sum(self._served(link) for link in self.links)

    @property
    def busy(self) -> float:
        """How many of those are under way at once, on average."""
        return sum(self._served(link) * session_s(self.plan, is_far=link.is_far) for link in self.links)

    @property
    def received(self) -> float:
        """Messages that come from other mailboxes."""
        return sum(link.count * link.inward for link in self.links)

    @property
    def sent(self) -> float:
        """Messages that go to other mailboxes."""
        return sum(link.count * link.outward for link in self.links)

    @property
    def moved_in_sessions(self) -> float:
        """Messages that come from and go to other mailboxes in sessions."""
        return sum(link.count * (link.asked_inward + link.asked_outward) for link in self.links)

    @property
    def moved_with_hints(self) -> float:
        """Those that come and go with hints."""
        return self.received + self.sent - self.moved_in_sessions

    @property
    def received_with_hints(self) -> float:
        """Those of them that come."""
        return sum(link.count * (link.inward - link.asked_inward) for link in self.links)

    @property
    def hints_taken(self) -> float:
        """Hints that bring such messages."""
        return sum(link.count * coalesced(link.inward - link.asked_inward, HINT_COALESCE_S) for link in self.links)

    @property
    def compared(self) -> float:
        """Full sessions that find both equal, on both sides, once a pair has been calm for long."""
        return sum(link.count / self.comparison_pause_s(link) for link in self.links)

    def comparison_pause_s(self, link: Link, doublings: int = SYNC_CALM_DOUBLINGS_MAX) -> float:
        """Between two comparisons with one neighbour, by whichever side is the first to be due."""
        if link.is_far:
            return self.plan.sync_interval_s
        sides = [
            self.plan.sync_interval_s * (1.0 if neighbours <= SYNC_FEW_PEERS else neighbours * 2.0**doublings)
            for neighbours in (link.neighbours, self.neighbours)
        ]
        return min(sides) * (_FIRST_OF_TWO if sides[0] == sides[1] else 1.0)

    def _served(self, link: Link) -> float:
        return link.count * coalesced(link.asked_outward, self._window_s(link, self.neighbours))

    def _window_s(self, link: Link, audience: float) -> float:
        return (
            HINT_COALESCE_S
            + _turn_s(self.plan, is_far=link.is_far) * audience / 2
            + session_s(self.plan, is_far=link.is_far)
        )


def coalesced(rate: float, window_s: float) -> float:
    """How often something happens that takes with it all that comes within a window after the first."""
    return rate / (1 + rate * window_s)


def session_s(plan: Plan, *, is_far: bool) -> float:
    """How long a hint's session takes."""
    round_trip_s = plan.internet_round_trip_s if is_far else plan.lan_round_trip_s
    return _ROUND_TRIPS * round_trip_s + plan.commit_s


def _turn_s(plan: Plan, *, is_far: bool) -> float:
    """For each of those who are told of news, so much longer they spread what they ask."""
    return max(HINT_SPREAD_S, 2 * session_s(plan, is_far=is_far) / SYNC_SESSIONS_IN_MAX)


def spread_s(plan: Plan, audience: float, askers: float, *, is_far: bool) -> float:
    """From the moment in which a mailbox stores a message until so many of its neighbours hold it."""
    session = session_s(plan, is_far=is_far)
    return HINT_COALESCE_S + _turn_s(plan, is_far=is_far) * audience * askers / (askers + 1) + session


def told_s(plan: Plan, *, is_far: bool) -> float:
    """The same, if the message comes with its hint."""
    round_trip_s = plan.internet_round_trip_s if is_far else plan.lan_round_trip_s
    return HINT_COALESCE_S + round_trip_s / 2 + plan.commit_s


def comparisons(flow: Flow, link: Link, duration_s: float) -> float:
    """Full sessions of one pair within so long after they have met, the first of them included. With those whom a
    mailbox meets first in a crowd it compares once more, as it has seen no crowd yet."""
    pauses = (flow.comparison_pause_s(link, min(calm, SYNC_CALM_DOUBLINGS_MAX)) for calm in range(1, 10_000))
    is_crowd = not link.is_far and flow.neighbours > SYNC_FEW_PEERS and duration_s > flow.plan.sync_interval_s
    count = 1 + (SYNC_FEW_PEERS / flow.neighbours if is_crowd else 0.0)
    for at_s in accumulate(pauses):
        if at_s > duration_s:
            break
        count += 1
    return count


def _echo(plan: Plan, network: Network) -> float:
    """The share of a LAN's mailboxes that announce what another one of it has announced."""
    near, others = network.lan_neighbours, max(network.lan_mailboxes - 1, 1)
    if network.is_meshed:
        return min(1.0, HINT_ECHOES / others)
    # Nobody is silent before those who announced it have told all of its own neighbours; and whoever fetched it within
    # the time in which news are gathered has not heard of others yet.
    needed = log(near) / -log(1 - near / others)
    return min(1.0, (HINT_ECHOES + needed + HINT_COALESCE_S / _turn_s(plan, is_far=False)) / others)


def _left_out(plan: Plan, announced: float) -> float:
    """The share of the messages that somebody announces which find no room in its hints."""
    message_bytes = content_bytes(_SOME_LOG, b"") + plan.message_bytes
    room = min(HINT_MESSAGES_MAX, HINT_CONTENT_BYTES_MAX // message_bytes)
    return max(0.0, 1 - room / (1 + announced * HINT_COALESCE_S))


def _asked(link: Link, share: float) -> Link:
    """The same link, if such a share of its messages does not come with hints."""
    return replace(link, asked_inward=share * link.inward, asked_outward=share * link.outward)


def flows_of(plan: Plan, network: Network) -> list[Flow]:
    """What happens to each kind of mailbox: in a LAN, gateways, internet mailboxes from the bottom to the top."""
    written = plan.written_per_s
    lan = written * network.lan_mailboxes
    everywhere = written * plan.mailboxes
    foreign = plan.share * (everywhere - lan) if network.levels else 0.0
    near = network.lan_neighbours
    has_gateway = bool(network.levels)
    echo = _echo(plan, network)
    per_link = written * (network.lan_mailboxes - 1) / near if near else 0.0  # else it comes over others
    kept = lan + foreign
    gateway_near = near + has_gateway

    announced = written + echo * (kept - written)
    hints = coalesced(announced, HINT_COALESCE_S)
    gateway_hints = coalesced(kept, HINT_COALESCE_S)
    asked = per_link * _left_out(plan, announced)
    member = Link(near, per_link, per_link, hints, near, asked_inward=asked, asked_outward=asked)
    if not has_gateway:
        return [Flow("in a LAN", plan.mailboxes, kept, announced, (member,), plan)]

    top = coalesced(everywhere, HINT_COALESCE_S)
    of_gateway, of_top = _left_out(plan, kept), _left_out(plan, everywhere)
    # Of those who hear a gateway only the one above it lacks what another one of the LAN has written.
    asked_up = lan * of_gateway if near <= 1 else lan - written * (1 - of_gateway)
    # Of those below an internet mailbox so many keep a message's topic.
    asked_down = foreign * of_top if plan.share >= _MOST else foreign
    flows: list[Flow] = []
    if near:
        from_gateway = (per_link + foreign) * of_gateway
        to_gateway = replace(member, count=1, inward=per_link + foreign, hints=gateway_hints, neighbours=gateway_near)
        to_gateway = replace(to_gateway, asked_inward=from_gateway)
        others = replace(member, count=near - 1)
        flows.append(Flow("in a LAN", plan.mailboxes - network.lans, kept, announced, (others, to_gateway), plan))
    above = network.children(0) + (len(network.levels) > 1)
    members = replace(member, outward=per_link + foreign, asked_outward=(per_link + foreign) * of_gateway)
    upward = Link(1, foreign, lan, top, above, is_far=True, asked_inward=asked_down, asked_outward=asked_up)
    flows.append(Flow("gateway", network.lans, kept, kept, (members, upward), plan))

    below = replace(upward, inward=lan, outward=foreign, hints=gateway_hints, neighbours=gateway_near)
    below = replace(below, asked_inward=asked_up, asked_outward=asked_down)
    for level, count in enumerate(network.levels):
        children = network.children(level)
        links = [replace(below, count=children)]
        subtree, own_near = below.inward * children, children
        others_wrote = everywhere - subtree
        if level + 1 < len(network.levels):
            parent_near = network.children(level + 1) + (level + 2 < len(network.levels))
            link = Link(1, others_wrote, subtree, top, parent_near, is_far=True)
            links.append(_asked(link, of_top))
            own_near += 1
        kind = "internet" if len(network.levels) == 1 else f"internet {level + 1}"
        flows.append(Flow(kind, count, everywhere, everywhere, tuple(links), plan))
        link = Link(0, subtree, others_wrote, top, own_near, is_far=True)
        below = _asked(link, of_top)
    return flows
