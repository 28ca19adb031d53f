"""What a mailbox tells about itself: the dictionaries behind `mailboxd status --json`, `peers --json` and `sync`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import trio

from node.core import VERSION, Core
from node.doors import Doors
from node.events import EventKind, Events
from node.http.admin.port import AdminError
from node.limits_in_use import LimitsInUse
from node.reach import Reach
from node.store.api import StoreError
from node.sync.peers import Peer, SyncReport
from node.sync.toy_peer import ToyPeer, ToyPeers
from node.transport.api import TransportError
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import PEER_BUDGET_S
from protocols.limits.tools import REACH_NEIGHBOURS_MAX, REACH_PORTS_MAX
from protocols.model import MailboxId

__all__ = ["Administration"]


class Administration:
    """Answers the administration's questions about a running mailbox; implements `node.http.admin.port.AdminPort`."""

    def __init__(
        self,
        core: Core,
        *,
        plain: ToyPeers,
        reach: Reach,
        ports: Sequence[int],
        mailbox_id: MailboxId,
        name: str | None,
        events: Events,
        limits: LimitsInUse,
        doors: Doors,
        notice: Callable[[MailboxId], str | None] = lambda _mailbox_id: None,
    ) -> None:
        """`ports` are those on which others should reach this mailbox. `notice` says what is odd about a neighbour."""
        self._core = core
        self._reach = reach
        self._ports = [*dict.fromkeys(ports)][:REACH_PORTS_MAX]
        self._plain = plain
        self._mailbox_id = mailbox_id
        self._events = events
        self._limits = limits
        self._notice = notice
        self.name = name
        self._doors = doors
        self.started_s = core.mailbox.clock.now_s()

    async def status(self) -> dict[str, Any]:
        """The contract's fields and a few more for people. Raises AdminError if the store fails."""
        mailbox = self._core.mailbox
        counters = self._core.engine.counters
        try:
            view = await self._core.index.view(mailbox.alive_from_s())
        except StoreError as error:
            raise AdminError(503, str(error)) from error
        totals = mailbox.store.statistics()
        interest = self._core.engine.interest
        return {
            "mailbox_id": str(self._mailbox_id),
            "peer_id": self._mailbox_id.peer_id,
            "name": self.name,
            "serving": self._doors.is_open,
            "version": VERSION,
            "started": rfc3339(self.started_s),
            "retention_s": mailbox.retention.retention_s,
            "messages": totals.messages,
            "logs": totals.logs,
            "topics": totals.topics,
            "bytes": totals.bytes,
            "topics_synced": None if interest is None else len(interest),
            "storage_limit": totals.storage_limit_bytes,
            "storage_used": totals.used_bytes,
            "evicted": self._evicted(),
            "store": self._store(),
            "room": self.room(),
            "fingerprint": view.fingerprint,
            "relayed": self.relayed(),
            "sessions": {
                "count": counters.sessions,
                "round_trips": counters.round_trips,
                "bytes_in": counters.bytes_in,
                "bytes_out": counters.bytes_out,
            },
            "audit": self._audit(),
            "admission": self._admission(),
            "limits": self._limits.rows(),
            "require_signed": mailbox.signed_only is not None,
            "peers": await self.peers(),
        }

    def rename(self, name: str | None) -> None:
        """Another name for people."""
        self.name = name

    def room(self) -> dict[str, int] | None:
        """The narrowest of the bounds that there are: what is left for messages, and of how much."""
        rooms = self._core.mailbox.store.rooms()
        return min(rooms, key=lambda room: room.free_bytes)._asdict() if rooms else None

    def relayed(self) -> dict[str, int]:
        """Messages since the start: from and to phones, from and to other mailboxes."""
        mailbox, counters = self._core.mailbox, self._core.engine.counters
        return {
            "stored": mailbox.stored,
            "served": mailbox.served,
            "synced_in": counters.synced_in + self._plain.received,
            "synced_out": counters.synced_out + self._plain.sent,
        }

    def event_counts(self) -> dict[str, int]:
        """How many events of each kind there were since the start."""
        return {kind.value: self._events.counts[kind] for kind in EventKind}

    def _admission(self) -> dict[str, Any]:
        """Who is let in, in figures."""
        admission = self._core.doorkeeper.admission
        return {
            "password": admission.password is not None,
            "only_trusted": admission.only_trusted,
            "trusted": len(admission.trusted),
            "distrusted": len(admission.distrusted),
            "devices": len(admission.devices),
            "guesses_turned_away": self._core.doorkeeper.guesses.turned_away,
        }

    def _store(self) -> dict[str, Any]:
        """How the store's disk is, and what to do about it."""
        health = self._core.mailbox.store.health
        return {"state": health.trouble.value, "reason": health.reason, "remedy": health.remedy}

    def _evicted(self) -> dict[str, Any]:
        """What was let go before its time since the start, and why."""
        evictions = self._core.mailbox.store.evictions
        why = "the storage limit was reached; the oldest messages of whoever held most gave way"
        return {
            "messages": evictions.messages,
            "bytes": evictions.bytes,
            "young": evictions.young,
            "why": why if evictions.messages else "",
        }

    def _audit(self) -> dict[str, Any]:
        """How far the index has been compared with the store."""
        audit = self._core.audit
        return {
            "checked": audit.checked,
            "of": self._core.index.blocks_held(),
            "found": audit.found,
            "last_pass": None if audit.last_pass_s is None else rfc3339(audit.last_pass_s),
        }

    async def verify(self) -> dict[str, Any]:
        """Compares the whole index with the store now. Raises AdminError if the store fails."""
        try:
            report = await self._core.audit.check_now()
        except StoreError as error:
            raise AdminError(503, str(error)) from error
        return {"blocks": report.blocks, "differences": report.differences}

    async def reach(self) -> dict[str, Any]:
        """What some of the connected mailboxes say of how this one can be reached, each with `trials` or an `error`."""
        answers: list[dict[str, Any]] = []

        async def ask(peer: MailboxId) -> None:
            answer: dict[str, Any] = {"mailbox_id": str(peer), "trials": [], "error": None}
            try:
                for trial in await self._reach.ask(peer, self._ports):
                    answer["trials"].append(
                        {"port": trial.port, "host": trial.host, "outcome": trial.outcome.name.lower()}
                    )
            except (TransportError, RemoteProtocolError) as error:
                answer["error"] = str(error)
            answers.append(answer)

        async with trio.open_nursery() as nursery:
            for peer in sorted(self._core.transport.connected())[:REACH_NEIGHBOURS_MAX]:
                nursery.start_soon(ask, peer)
        return {"neighbours": answers}

    async def peers(self) -> list[dict[str, Any]]:
        """One dictionary for each known mailbox, in the order of their ids; plain ones after the others."""
        return [
            *(self._peer(peer) for peer in self._core.engine.table.all()),
            *(_plain_peer(peer) for peer in self._plain.peers),
        ]

    def _peer(self, peer: Peer) -> dict[str, Any]:
        share_used = self._core.engine.budgets.used_s(peer.mailbox_id) / PEER_BUDGET_S
        return {**_peer(peer, self._notice(peer.mailbox_id)), "share_used": round(share_used, 3)}

    async def sync(self, peer: str | None) -> dict[str, Any]:
        """Syncs with one mailbox or all and tells how it went. Raises AdminError for an unknown one."""
        try:
            wanted = None if peer is None else MailboxId.parse(peer)
        except ValueError as error:
            raise AdminError(400, str(error)) from None
        if wanted is not None and self._core.engine.table.get(wanted) is None:
            raise AdminError(404, f"mailbox {peer} is not known here; `mailboxd peers` lists those that are")
        reports = [_report(report) for report in await self._core.engine.sync_now(wanted)]
        if wanted is None:
            reports += [await self._sync_plain(plain) for plain in self._plain.peers]
        return {"syncs": reports}

    async def _sync_plain(self, peer: ToyPeer) -> dict[str, Any]:
        received, sent, traffic = peer.received, peer.sent, peer.bytes_in + peer.bytes_out
        error = await self._plain.sync(peer)
        return {
            "mailbox_id": peer.mailbox_id or peer.url,
            "received": peer.received - received,
            "sent": peer.sent - sent,
            "bytes": peer.bytes_in + peer.bytes_out - traffic,
            "round_trips": peer.round_trips,
            "error": error,
        }


def _report(sync: SyncReport) -> dict[str, Any]:
    """One peer's line in the answer to a sync that the user asked for."""
    return {
        "mailbox_id": str(sync.mailbox_id),
        "received": sync.received,
        "sent": sync.sent,
        "bytes": sync.bytes,
        "round_trips": sync.round_trips,
        "error": sync.error,
    }


def rfc3339(time_s: float) -> str:
    """Unix seconds as an RFC 3339 date in UTC, to the second."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _peer(peer: Peer, notice: str | None) -> dict[str, Any]:
    return {
        "mailbox_id": str(peer.mailbox_id),
        "state": peer.state.value,
        "reason": peer.reason,
        "notice": notice,
        "last_sync": None if peer.last_sync_s is None else rfc3339(peer.last_sync_s),
        "last_sync_bytes": peer.last_sync_bytes,
        "last_sync_round_trips": peer.last_sync_round_trips,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "progress": None if peer.progress is None else peer.progress._asdict(),
        "topics_shared": peer.topics_shared,
        "software": peer.software,
        "addresses": [str(address) for address in peer.addresses],
    }


def _plain_peer(peer: ToyPeer) -> dict[str, Any]:
    return {
        "mailbox_id": peer.mailbox_id or peer.url,
        "state": peer.state.value,
        "reason": peer.reason,
        "notice": None,
        "last_sync": None if peer.last_sync_s is None else rfc3339(peer.last_sync_s),
        "last_sync_bytes": peer.last_bytes,
        "last_sync_round_trips": peer.round_trips,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "progress": None,
        "topics_shared": None,
        "software": "",
        "addresses": [peer.url],
        "share_used": 0.0,
    }
