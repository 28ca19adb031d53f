"""Which bound a plan comes near, what happens there, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.limits.discovery import MDNS_PACKETS_PER_SECOND
from protocols.limits.replication import INDEX_INTERESTS_MAX, PEERS_MAX, SYNC_SESSIONS_IN_MAX
from protocols.limits.transport import INBOUND_CONNECTIONS_MAX
from simulations.analytic.flows import Flow
from simulations.analytic.mdns import Mdns
from simulations.analytic.plan import Network, Plan

__all__ = ["STRAINED", "Strain", "strains_of"]

STRAINED: Final = 0.5
"""From this share of a bound on it is worth telling."""

WIFI_MULTICAST_BYTES_PER_S: Final = 125_000.0
"""What access points give multicast: their lowest rate, 1 Mbit/s, of which a tenth is much already."""

CARD_BYTES: Final = 32e9
"""A usual memory card of a Raspberry Pi."""

PI_MEMORY_BYTES: Final = 1e9
PI_CORE: Final = 0.2
"""A Raspberry Pi's core, measured in the one on which CPU was measured."""

UPLINK_BYTES_PER_S: Final = 1.25e6
"""An ordinary line's 10 Mbit/s upwards."""


@dataclass(frozen=True, slots=True)
class Strain:
    """How much of a bound is used (1: all of it), and what follows beyond."""

    what: str
    used: float
    then: str
    remedy: str

    @property
    def is_broken(self) -> bool:
        return self.used > 1


def strains_of(
    plan: Plan,
    network: Network,
    flow: Flow,
    mdns: Mdns,
    *,
    core_share: float,
    storage_bytes: float,
    memory_bytes: float,
) -> tuple[Strain, ...]:
    """Those of which STRAINED or more is used, the worst first."""
    is_in_lan = not flow.kind.startswith("internet")
    known = network.lan_mailboxes - 1 + (flow.kind == "gateway") if is_in_lan else flow.neighbours
    interests = flow.links[0].count if flow.kind in ("internet", "internet 1") and plan.share < 1 else 0.0
    computer, memory = ("a Raspberry Pi's core", PI_MEMORY_BYTES) if is_in_lan else ("a core", 8e9)
    all_strains = (
        Strain("peer table", known / PEERS_MAX, *_TOO_MANY_NEIGHBOURS),
        Strain("incoming connections", known / INBOUND_CONNECTIONS_MAX, *_TOO_MANY_NEIGHBOURS),
        Strain("mDNS packets", is_in_lan * mdns.packets_per_s / MDNS_PACKETS_PER_SECOND, *_TOO_LOUD),
        Strain("air time of mDNS", is_in_lan * mdns.bytes_per_s / (WIFI_MULTICAST_BYTES_PER_S / 10), *_TOO_LOUD),
        Strain("seats for sessions", flow.busy / SYNC_SESSIONS_IN_MAX, *_BUSY),
        Strain(computer, core_share / (PI_CORE if is_in_lan else 1.0), *_TOO_SLOW),
        Strain("disk of 32 GB", storage_bytes / CARD_BYTES, *_TOO_MUCH),
        Strain(f"memory of {memory / 1e9:.0f} GB", memory_bytes / memory, *_TOO_MUCH),
        Strain("uplink of 10 Mbit/s", _up_bytes_per_s(plan, flow) / UPLINK_BYTES_PER_S, *_TOO_MUCH_SENT),
        Strain("pictures of interests", interests / INDEX_INTERESTS_MAX, *_TOO_MANY_INTERESTS),
    )
    return tuple(sorted((one for one in all_strains if one.used >= STRAINED), key=lambda strain: -strain.used))


def _up_bytes_per_s(plan: Plan, flow: Flow) -> float:
    """To mailboxes over the internet."""
    return sum(link.count * link.outward * plan.message_bytes for link in flow.links if link.is_far)


_TOO_MANY_NEIGHBOURS: Final = (
    "Each mailbox keeps a part of the others; news take two hops, and everybody announces all news.",
    "Several LANs (or VLANs) with a gateway each; or `--no-mdns` with a few `--peer` addresses on most.",
)
_TOO_LOUD: Final = (
    "Packets are dropped, and newcomers are found late; Wi-Fi is slow for everybody, since multicast is sent slowly.",
    "Several LANs (or VLANs) with a gateway each; or `--no-mdns` with `--peer` on those that phones need not find.",
)
_BUSY: Final = (
    "Whoever asks is turned away and comes back within seconds: news arrive in larger portions, later.",
    "Fewer neighbours for each internet mailbox: a tree with smaller branches.",
)
_TOO_SLOW: Final = (
    "News take longer, phones wait.",
    "Fewer neighbours and topics; a faster computer. One process uses one core.",
)
_TOO_MUCH: Final = (
    "The mailbox is full: phones are answered 507, it takes nothing more from others.",
    "Keep fewer topics (`--topic`); a larger disk, more memory.",
)
_TOO_MUCH_SENT: Final = (
    "News queue up.",
    "Smaller branches, and `--topic` in the LANs, so that less goes down to each.",
)
_TOO_MANY_INTERESTS: Final = (
    "Each session with another set of topics goes through all logs: some milliseconds for a hundred thousand.",
    "Smaller branches at the bottom of the tree, or the same topics for neighbouring LANs.",
)
