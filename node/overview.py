"""What the dashboard shows, as plain JSON values: cheap enough to be made every second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from node.core import VERSION, Core
from node.doors import Doors
from node.history import Reading
from node.standing import is_strange, plain_standing, standing
from node.status import Administration
from node.store.api import Census
from node.sync.peers import Peer
from node.sync.toy_peer import ToyPeer, ToyPeers
from protocols.limits.shedding import LIVE_NEIGHBOURS_MAX

__all__ = ["Overview"]

# What needs a person comes first, then what is well, then what is gone.
_ORDER: Final = (
    "full-here", "kept-out", "clock", "network", "version", "refused", "full-there", "unreachable", "behind", "syncing",
    "same", "new", "away",
)  # fmt: skip


class Overview:
    """Reads a mailbox's parts. `urls` are where phones reach it."""

    def __init__(
        self, core: Core, *, plain: ToyPeers, administration: Administration, doors: Doors, urls: Sequence[str]
    ) -> None:
        self._core = core
        self._plain = plain
        self._administration = administration
        self._doors = doors
        self._urls = urls

    def reading(self) -> Reading:
        """The counters for the history."""
        totals = self._core.mailbox.store.statistics()
        return Reading(**self._administration.relayed(), messages=totals.messages, bytes=totals.bytes)

    def state(self) -> dict[str, Any]:
        """How it is, and how it stands with its neighbours."""
        mailbox = self._core.mailbox
        totals = mailbox.store.statistics()
        return {
            "mailbox_id": str(self._core.transport.local),
            "name": self._administration.name,
            "version": VERSION,
            "started_s": self._administration.started_s,
            "serving": self._doors.is_open,
            "urls": self._urls,
            "retention_s": mailbox.retention.retention_s,
            "messages": totals.messages,
            "logs": totals.logs,
            "topics": totals.topics,
            "bytes": totals.bytes,
            "used_bytes": totals.used_bytes,
            "storage_limit": totals.storage_limit_bytes,
            "room": self._administration.room(),
            "full": mailbox.is_full,
            "at_limit": mailbox.is_at_limit,
            "evicted": mailbox.store.evictions.messages,
            "relayed": self._administration.relayed(),
            **self._neighbours(),
        }

    def _neighbours(self) -> dict[str, Any]:
        # Strangers who were never in step and are gone again are nobody's business, and could be many.
        known = [
            _neighbour(peer)
            for peer in self._core.engine.table.all()
            if peer.fixed or peer.discovered or peer.last_sync_s is not None or peer.sessions
        ]
        known += [_plain(peer) for peer in self._plain.peers]
        # Those that are the user's own, or were in step once, before strangers: nobody can crowd them out.
        known.sort(key=lambda one: (not one["named"] and one["last_sync_s"] is None, _ORDER.index(one["standing"])))
        return {
            "neighbours": known[:LIVE_NEIGHBOURS_MAX],
            "standings": Counter(one["standing"] for one in known if not one["strange"]),
            "strangers": sum(one["strange"] for one in known),
        }

    def shares(self, census: Census) -> dict[str, Any]:
        """The largest topics, the rest, and the oldest message."""
        totals = self._core.mailbox.store.statistics()
        shown = [share._asdict() for share in census.topics]
        oldest_s = census.oldest_s
        return {
            "topics": shown,
            "others": {
                "topics": max(0, totals.topics - len(shown)),
                "messages": max(0, totals.messages - sum(share.messages for share in census.topics)),
                "bytes": max(0, totals.bytes - sum(share.bytes for share in census.topics)),
            },
            "oldest_s": oldest_s,
            "next_expiry_s": None if oldest_s is None else oldest_s + self._core.mailbox.retention.retention_s,
        }


def _neighbour(peer: Peer) -> dict[str, Any]:
    return {
        "mailbox_id": str(peer.mailbox_id),
        "standing": standing(peer),
        "reason": peer.reason,
        "last_sync_s": peer.last_sync_s,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "progress": None if peer.progress is None else peer.progress._asdict(),
        "address": next((str(address) for address in peer.addresses), None),
        "named": bool(peer.fixed),
        "strange": is_strange(peer),
    }


def _plain(peer: ToyPeer) -> dict[str, Any]:
    return {
        "mailbox_id": peer.mailbox_id or "",
        "standing": plain_standing(peer),
        "reason": peer.reason,
        "last_sync_s": peer.last_sync_s,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "progress": None,
        "address": peer.url,
        "named": True,
        "strange": False,
    }
