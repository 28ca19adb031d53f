"""What is planned: how many mailboxes in how many LANs, what they carry, and what joins the LANs.

In each LAN all mailboxes find each other by mDNS, and every two of them are neighbours, up to the size of the peer
table. One of them, the *gateway*, is given the address of an internet mailbox (`--peer`). Internet mailboxes form a
tree: each is given the address of the one above it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Final

from node.config import RunConfig
from protocols.limits.data import RETENTION_DEFAULT_S
from protocols.limits.replication import PEERS_MAX

__all__ = ["Network", "Plan"]

_DAY_S: Final = 86_400.0

_SYNC_INTERVAL_S: Final[float] = {one.name: one for one in fields(RunConfig)}["sync_interval_s"].default  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Plan:
    """One network. Round trips and links are those of a good Wi-Fi and an ordinary internet line."""

    mailboxes: int
    """In LANs; the internet mailboxes come on top."""
    lan_mailboxes: int = 25
    """In each LAN, the gateway included."""
    branch: int = 100
    """LANs, or internet mailboxes, below one internet mailbox."""
    messages_per_day: float = 200.0
    """Written by the phones of one mailbox together."""
    message_bytes: int = 300
    log_messages: float = 30.0
    """Messages of a week in one log: one author in one topic."""
    share: float = 1.0
    """Of the messages of other LANs, the share that is of topics which a LAN keeps in step (`--topic`)."""
    phones: float = 5.0
    """For each mailbox."""
    phone_logs: float = 100.0
    """Logs in all topics of one phone: it names each of them in every question."""
    sync_interval_s: float = _SYNC_INTERVAL_S
    retention_s: float = RETENTION_DEFAULT_S
    lan_round_trip_s: float = 0.01
    internet_round_trip_s: float = 0.07
    commit_s: float = 0.01
    """How long a disk takes to make something durable."""

    @property
    def written_per_s(self) -> float:
        """Messages that are new at one mailbox."""
        return self.messages_per_day / _DAY_S


@dataclass(frozen=True, slots=True)
class Network:
    """What comes of a plan. `levels` are the numbers of internet mailboxes, from those below which the LANs are up to
    the one at the top; empty for a single LAN."""

    lans: int
    lan_mailboxes: int
    levels: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan) -> Network:
        """Raises ValueError for a plan of fewer than two mailboxes, or a tree that does not branch."""
        if plan.mailboxes < 2 or plan.lan_mailboxes < 1 or plan.branch < 2:
            raise ValueError(
                "a plan needs two mailboxes or more, one or more in a LAN, and a tree that branches in two"
            )
        lans = ceil(plan.mailboxes / plan.lan_mailboxes)
        levels: list[int] = []
        below = lans
        while below > 1:
            below = ceil(below / plan.branch)
            levels.append(below)
        return cls(lans, ceil(plan.mailboxes / lans), tuple(levels))

    @property
    def is_meshed(self) -> bool:
        """Whether every two mailboxes of a LAN are neighbours: the peer table has room for all."""
        return self.lan_mailboxes - 1 <= PEERS_MAX

    @property
    def lan_neighbours(self) -> float:
        """Of a mailbox in its LAN: all others, as far as the peer table has room. Whoever finds no room looks for
        others, until nearly all tables are full."""
        return min(self.lan_mailboxes - 1, PEERS_MAX)

    @property
    def lan_hops(self) -> int:
        """Between two mailboxes of a LAN: those that are no neighbours have some in common."""
        return 1 if self.is_meshed else 2

    @property
    def hops(self) -> int:
        """Between the two mailboxes that are farthest apart."""
        return self.lan_hops if not self.levels else 2 * self.lan_hops + 2 * len(self.levels)

    def children(self, level: int) -> float:
        """Neighbours below an internet mailbox of a level, on average."""
        return (self.lans if level == 0 else self.levels[level - 1]) / self.levels[level]
