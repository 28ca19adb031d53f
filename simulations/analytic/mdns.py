"""How much mDNS a LAN carries: everybody asks, and everybody whom the question does not name answers, to all."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.limits.discovery import (
    MDNS_KNOWN_ANSWERS_MAX,
    MDNS_QUERY_INTERVAL_MAX_S,
    MDNS_QUERY_INTERVAL_S,
    MDNS_REPEAT_S,
)
from simulations.analytic.costs import announcement_bytes, query_bytes

__all__ = ["Mdns", "mdns_of"]


@dataclass(frozen=True, slots=True)
class Mdns:
    """All packets and bytes a second on the air of one LAN; each mailbox and each phone hears them all."""

    packets_per_s: float
    bytes_per_s: float


def mdns_of(mailboxes: int) -> Mdns:
    """In a quiet LAN: everybody is known to everybody, and asks now and then."""
    others = mailboxes - 1
    named = min(others, MDNS_KNOWN_ANSWERS_MAX // 2)  # each has two names
    pause_s = min(MDNS_QUERY_INTERVAL_S * max(1.0, 2 * others / MDNS_KNOWN_ANSWERS_MAX), MDNS_QUERY_INTERVAL_MAX_S)
    asked = mailboxes / pause_s
    heard = asked * (others - named) / mailboxes if others else 0.0  # questions that one of them has to answer
    answers = mailboxes * heard / (1 + heard * MDNS_REPEAT_S)
    return Mdns(asked + answers, asked * query_bytes(named) + answers * announcement_bytes())
