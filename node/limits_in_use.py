"""The bounds that an operator may want to look at, with how much of each is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from node.config import OperatorLimits
from node.core import Core
from node.http.server import HttpStatistics
from node.http.turnstile import Turnstile
from protocols.limits import discovery, http, replication, shedding, sync, transport

__all__ = ["SHOWN", "LimitsInUse", "value_of"]

_ROOMS: Final = (discovery, http, replication, shedding, sync, transport)

SHOWN: Final[Mapping[str, str | None]] = {
    "HTTP_CONNECTIONS_MAX": "connections",
    "HTTP_CONNECTIONS_PER_CLIENT_MAX": "connections-per-client",
    "HTTP_REQUESTS_PER_CLIENT_RATE": "requests-per-client",
    "HTTP_REQUESTS_PER_CLIENT_BURST": None,
    "HTTP_HEAD_BYTES_MAX": None,
    "HTTP_HEAD_TIMEOUT_S": None,
    "HTTP_BODY_BYTES_MAX": None,
    "HTTP_BODY_TIMEOUT_S": None,
    "HTTP_BODY_RATE_MIN": None,
    "HTTP_IDLE_TIMEOUT_S": None,
    "HTTP_SEND_STALL_S": None,
    "HTTP_BODIES_BYTES_MAX": "bodies-memory",
    "HTTP_STORES_WAITING_MAX": None,
    "HTTP_READS_MAX": None,
    "HTTP_ANSWERS_BYTES_MAX": None,
    "HTTP_CLIENTS_REMEMBERED_MAX": None,
    "STRANGERS_BUSY_S": None,
    "CHALLENGE_BITS_MAX": None,
    "INBOUND_CONNECTIONS_MAX": None,
    "INBOUND_CONNECTIONS_PER_IP_MAX": None,
    "CONNECTIONS_PER_PEER_MAX": None,
    "STREAMS_PER_PEER_MAX": None,
    "UNREAD_BYTES_PER_CONNECTION_MAX": None,
    "SYNC_SESSIONS_IN_MAX": "sync-sessions",
    "SYNC_STRANGERS_IN_MAX": None,
    "SYNC_SESSIONS_OUT_MAX": None,
    "PEER_SESSIONS_MAX": None,
    "PEER_SHARE": None,
    "PEER_BUDGET_S": None,
    "STRANGERS_SHARE": None,
    "SESSION_ROWS_MAX": None,
    "SYNC_SESSION_MAX_S": None,
    "TRANSFER_BYTES_MAX": None,
    "PEERS_MAX": None,
    "PEER_SHUN_MAX_S": None,
    "NEIGHBOURS_LIVE_MAX": None,
    "NEIGHBOURS_WAITING_MAX": None,
    "MDNS_PACKETS_PER_SECOND": None,
    "GOSSIP_MESSAGES_PER_S": None,
}
"""Names in `protocols.limits`, and the option of `run` that changes it, if one does."""


def value_of(name: str) -> float:
    """The value that a bound has unless it is changed."""
    value: float = next(vars(room)[name] for room in _ROOMS if name in vars(room))
    return value


class LimitsInUse:
    """Those of a running mailbox."""

    def __init__(
        self, core: Core, operator: OperatorLimits, *, statistics: HttpStatistics, turnstile: Turnstile
    ) -> None:
        self._core = core
        self._http = statistics
        self._turnstile = turnstile
        self._set = {
            "HTTP_CONNECTIONS_MAX": operator.connections,
            "HTTP_CONNECTIONS_PER_CLIENT_MAX": operator.connections_per_client,
            "HTTP_REQUESTS_PER_CLIENT_RATE": operator.requests_per_client,
            "HTTP_BODIES_BYTES_MAX": operator.bodies_bytes,
            "SYNC_SESSIONS_IN_MAX": operator.sync_sessions,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each: `used` is None where nothing is counted, `option` where none changes it."""
        used = self._used()
        return [
            {"name": name, "value": self._set.get(name, value_of(name)), "used": used.get(name), "option": option}
            for name, option in SHOWN.items()
        ]

    def _used(self) -> dict[str, float]:
        http, pressure = self._http, self._turnstile.pressure
        engine = self._core.engine
        known = engine.table.all()
        return {
            "HTTP_CONNECTIONS_MAX": http.connections,
            "HTTP_CONNECTIONS_PER_CLIENT_MAX": http.busiest_client,
            "HTTP_BODIES_BYTES_MAX": http.bodies_bytes,
            "HTTP_STORES_WAITING_MAX": round(http.load * value_of("HTTP_STORES_WAITING_MAX")),
            "HTTP_CLIENTS_REMEMBERED_MAX": len(self._turnstile.acquaintances),
            "STRANGERS_BUSY_S": round(pressure.busy_s, 1),
            "CHALLENGE_BITS_MAX": pressure.bits,
            "SYNC_SESSIONS_IN_MAX": engine.seats_in.taken,
            "SYNC_SESSIONS_OUT_MAX": engine.seats_out.taken,
            "PEER_BUDGET_S": round(max((engine.budgets.used_s(one.mailbox_id) for one in known), default=0.0), 3),
            "PEERS_MAX": len(known),
        }
