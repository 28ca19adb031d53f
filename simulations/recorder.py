"""Writes down a run: who came to hold what and when, what phones were promised, and how it looks at each sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import trio

from node.store.api import Change, StoredItem
from protocols.model import Item, LogName
from simulations.disk import SimulatedStore
from simulations.machines import Host
from simulations.network import Network
from simulations.recording import (
    Happening,
    MailboxSample,
    MailboxTotals,
    MessageSpread,
    Moment,
)
from simulations.runtime import EPOCH_S, Trace
from simulations.transport import Exchange

__all__ = ["Holding", "Recorder", "Way"]

_LOWER: Final = 0.02
"""So much less must be held, on the average, than ever before for another look: most runs sink slowly."""

Held = tuple[LogName, int, bytes]
"""What a mailbox holds: log, seq and digest."""


class StoreJudge(Protocol):
    """Whoever judges what mailboxes store."""

    def evicted(self, host: Host, removed: Sequence[StoredItem]) -> None:
        """A mailbox has let go of these to make room."""

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        """A mailbox has stored a message that `origin` (None: a phone) brought; `again` if it held it already."""
        ...


class _Nobody:
    def evicted(self, host: Host, removed: Sequence[StoredItem]) -> None: ...

    def stored(self, host: Host, stored: StoredItem, origin: object, *, again: bool) -> None:
        pass


@dataclass(slots=True)
class Way:
    """The way of one message. `by` are the mailboxes that came to hold it and when."""

    number: int
    written_s: float
    first_stored_s: int | None = None
    acknowledged_s: float | None = None
    delivered_s: float = 0.0
    """When a phone gave it to a mailbox for the last time: its life begins anew with that."""
    is_dated_well: bool = True
    """Whether those to whom phones gave it knew the date."""
    by: dict[str, float] = field(default_factory=dict)
    fetched: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """How often each mailbox has taken this content (its digest) from another one since a phone brought it last."""
    cut_short: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """How often it has died at each mailbox since then with a date from before it was written."""


@dataclass(slots=True)
class Holding:
    """What one mailbox holds durably, and a sum over it that is equal where the sets are."""

    items: dict[Held, int] = field(default_factory=dict)
    """-> first stored (Unix seconds)."""
    keys: Counter[tuple[LogName, int]] = field(default_factory=Counter)
    """How many variants it holds of each."""
    total: int = 0
    promised: dict[tuple[LogName, int], float] = field(default_factory=dict)
    """Acknowledged to phones -> when."""
    evicted: set[Held] = field(default_factory=set)
    """What was let go to make room, and recorded as such."""
    changed_at: float = 0.0
    """When it last became another: a message more or less, or another date."""

    @property
    def key(self) -> tuple[int, int]:
        """Equal where the sets are."""
        return len(self.items), self.total


@dataclass
class Recorder:
    """Everything that is worth telling of a run, as it happens."""

    network: Network
    exchange: Exchange
    trace: Trace
    hosts: dict[str, Host]
    ways: dict[tuple[LogName, int], Way] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sampled_s: list[float] = []
        self.held_share: list[float] = []
        self.groups: list[int] = []
        self.up: list[int] = []
        self.messages: list[int] = []
        self.traffic_bytes: list[int] = []
        self._moments: list[Moment] = []
        self._extremes: dict[str, Moment] = {}
        self._lowest_share = 1.0
        self._bytes_before = 0
        self.judge: StoreJudge = _Nobody()
        self._sums: dict[Held, int] = {}

    # --- what happens ----------------------------------------------------------------------------------------------

    def happened(self, kind: str, who: Sequence[str], text: str) -> None:
        """Puts something on the timeline."""
        self.trace.note(f"{kind} {','.join(who)}")
        self.happenings.append(Happening(trio.current_time(), kind, tuple(who), text))

    def wrote(self, phone: str, name: LogName, seq: int) -> None:
        """A phone wrote a message."""
        self.trace.note(f"wrote {phone} {name.topic} {seq}")
        self.ways[name, seq] = Way(len(self.ways), trio.current_time())

    def acknowledged(self, host: Host, messages: Sequence[tuple[LogName, int]]) -> None:
        """A mailbox promised a phone to keep these."""
        now = trio.current_time()
        self.trace.note(f"acknowledged {host.name} {len(messages)}")
        promised = self.holding(host.name).promised
        for key in messages:
            promised[key] = now
            way = self.ways.get(key)
            if way is not None and way.acknowledged_s is None:
                way.acknowledged_s = now

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None:
        """A phone was given a message."""
        self.trace.note(f"served {host.name} {name.topic} {name.log} {seq} {len(blob)}")

    # --- what is held ----------------------------------------------------------------------------------------------

    def holding(self, name: str) -> Holding:
        """What a mailbox holds."""
        found = self.holdings.get(name)
        if found is None:
            found = self.holdings[name] = Holding()
        return found

    def follow(self, host: Host, store: SimulatedStore) -> None:
        """Watches a process's store."""
        store.subscribe(partial(self._changed, host))

    def wiped(self, host: Host) -> None:
        """A mailbox has lost everything, and with it its promises."""
        self.holdings[host.name] = Holding(changed_at=trio.current_time())

    def _changed(self, host: Host, change: Change) -> None:
        holding = self.holding(host.name)
        now = holding.changed_at = trio.current_time()
        self.trace.note(f"put {host.name} {len(change.stored)} {len(change.merged)} {len(change.removed)}")
        for name, seq, blob, digest, first_stored_s in change.stored:
            stored, held = StoredItem(name, Item(seq, digest, first_stored_s, len(blob))), (name, seq, digest)
            again = held in holding.items
            self.judge.stored(host, stored, change.origin, again=again)
            if not again:
                holding.keys[name, seq] += 1
            holding.items[held] = first_stored_s
            holding.total ^= self._sum(held)
            way = self.ways.get((name, seq))
            if way is not None:
                if change.origin is None:
                    way.delivered_s = now
                    way.fetched.clear()
                    way.cut_short.clear()
                    way.is_dated_well = way.is_dated_well and host.knows_the_date
                way.by.setdefault(host.name, now)
                way.first_stored_s = min(way.first_stored_s or first_stored_s, first_stored_s)
        for merged in change.merged:
            holding.items[_key(merged)] = merged.item.first_stored_s
            way = self.ways.get((merged.name, merged.item.seq))
            if way is not None and way.first_stored_s is not None:
                way.first_stored_s = min(way.first_stored_s, merged.item.first_stored_s)
        if change.is_eviction:
            self.judge.evicted(host, change.removed)
            for removed in change.removed:
                holding.evicted.add(_key(removed))
                holding.promised.pop(_key(removed)[:2], None)
        for removed in change.removed:
            way = self.ways.get((removed.name, removed.item.seq))
            if way is not None and removed.item.first_stored_s < host.retention.stamp(EPOCH_S + way.written_s):
                key = host.name, removed.item.digest
                way.cut_short[key] = way.cut_short.get(key, 0) + 1
            holding.total ^= self._sum(_key(removed))
            del holding.items[_key(removed)]
            holding.keys[_key(removed)[:2]] -= 1
            if not holding.keys[_key(removed)[:2]]:
                del holding.keys[_key(removed)[:2]]

    def _sum(self, held: Held) -> int:
        known = self._sums.get(held)
        if known is None:
            digest = hashlib.blake2b(repr(held).encode(), digest_size=8).digest()
            known = self._sums[held] = int.from_bytes(digest)
        return known

    # --- how it looks ----------------------------------------------------------------------------------------------

    def sample(self) -> None:
        """One point of each series."""
        running = [host for host in self.hosts.values() if host.is_up and host.is_correct]
        holdings = [self.holding(host.name) for host in running]
        different = {holding.key: holding for holding in holdings}
        union = set().union(*(holding.items for holding in different.values()))
        held = sum(len(holding.items) for holding in holdings)
        self.sampled_s.append(trio.current_time())
        share = held / (len(union) * len(running)) if union else 1.0
        self.held_share.append(share)
        groups, up = len(different), len(running)
        if share < self._lowest_share - _LOWER:
            self._lowest_share = share
            self._extremes["share"] = self._look("they differ most")
        if up < min(self.up, default=up):
            self._extremes["up"] = self._look("fewest are up")
        self.groups.append(groups)
        self.up.append(up)
        self.messages.append(len(union))
        self.traffic_bytes.append(self.exchange.bytes - self._bytes_before)
        self._bytes_before = self.exchange.bytes
        self.trace.note(f"sample {held} {self.exchange.bytes}")

    def moment(self, title: str) -> None:
        """Remembers the whole network as it is now."""
        self._moments.append(self._look(title))

    @property
    def moments(self) -> list[Moment]:
        """Those that somebody wanted to see, and those at which a sample was at its extreme."""
        return sorted([*self._moments, *self._extremes.values()], key=lambda moment: moment.at_s)

    def _look(self, title: str) -> Moment:
        numbers: dict[int, int] = {}
        samples: list[MailboxSample] = []
        for host in self.hosts.values():
            holding = self.holding(host.name)
            group = numbers.setdefault(holding.total, len(numbers))
            samples.append(MailboxSample(host.name, host.machine.lan, host.is_up, len(holding.items), group))
        connected = sorted(
            (a.name, b.name)
            for crossing in self.network.crossings
            for a, b in [(crossing.flows[0].source, crossing.flows[0].target)]
            if not self.network.is_held(a, b)
        )
        return Moment(trio.current_time(), title, samples, connected)

    def spreads(self) -> list[MessageSpread]:
        """The ways of all messages."""
        return [MessageSpread(way.written_s, way.acknowledged_s, sorted(way.by.values())) for way in self.ways.values()]

    def totals(self) -> list[MailboxTotals]:
        """What each mailbox did."""
        return [
            MailboxTotals(
                name=host.name,
                behaviour=host.spec.behaviour.value,
                sessions=host.sessions,
                round_trips=host.round_trips,
                bytes_in=host.bytes_in,
                bytes_out=host.bytes_out,
                messages=len(self.holding(host.name).items),
                crashes=host.crashes,
            )
            for host in self.hosts.values()
        ]


def _key(stored: StoredItem) -> Held:
    return (stored.name, stored.item.seq, stored.item.digest)
