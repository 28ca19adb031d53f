"""Decides when to talk to which mailbox, and keeps the score.

Each known peer has a task of its own. It syncs when the two meet, when the peer announces news, when the user asks, and
every interval (with jitter); a sync by either side counts for both. Peers that can't be reached are tried again with
backoff, peers that break the protocol are shunned for a while, and nothing that any of them does ends the engine.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from node.admission.doorkeeper import Doorkeeper, KeptOut
from node.discovery.api import Found, Lost, Neighbour
from node.mailbox import Mailbox
from node.store.api import StoreError
from node.sync.brought import Brought
from node.sync.budgets import Budgets, Spending
from node.sync.claims import Claims
from node.sync.driver import SessionTraffic, run_session
from node.sync.index import LogIndex
from node.sync.news import News
from node.sync.pause import Pause
from node.sync.peers import EngineCounters, Peer, PeerState, PeerTable, SessionEnd, SyncReport, sync_with
from node.sync.refusals import BUSY, SHARE_USED_UP, TOO_MANY, UNADMITTED, put_off, refusal_code
from node.sync.seats import NoSeat, Seat, Seats
from node.sync.telling import KEPT_WITHIN_LIMIT, progress_teller, tell, what_is_left
from node.transport.api import PeerUnreachable, Stream, StreamBroken, Transport
from protocols.addresses import PeerAddress
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import (
    HINT_LOGS_PENDING_MAX,
    PEER_DIAL_GRACE_S,
    PEER_FORGET_S,
    PEER_RETRY_FIRST_S,
    PEER_RETRY_MAX_S,
    PEER_SESSIONS_MAX,
    SYNC_DIALS_MAX,
    SYNC_SESSIONS_IN_MAX,
    SYNC_SESSIONS_OUT_MAX,
    SYNC_STRANGERS_IN_MAX,
    SYNC_STRANGERS_OUT_MAX,
)
from protocols.limits.sync import SYNC_VERSION_MAX, SYNC_VERSION_MIN
from protocols.model import MailboxId
from protocols.sync.effects import SessionAborted
from protocols.sync.hints import STATE_PREFIX_BYTES, Hint, wanted
from protocols.sync.interest import Interest
from protocols.sync.session import SessionConfig, SessionRefused, SessionResult, initiate, refusal, respond
from protocols.sync.wire import encode_frame

__all__ = ["SYNC_PROTOCOL", "SyncEngine"]

log = logging.getLogger(__name__)

SYNC_PROTOCOL: Final = "/mailboxd/sync/1"
"""The name by which streams for sync sessions are opened; the versions are agreed upon in them."""


class SyncEngine:
    """Keeps this mailbox in step with all others that it knows. Construct before the transport runs, then `run`."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        index: LogIndex,
        transport: Transport,
        doorkeeper: Doorkeeper,
        network: str,
        software: str,
        interval_s: float,
        fixed_peers: Sequence[PeerAddress] = (),
        jitter: random.Random,
        salt: Callable[[], bytes],
        interest: Interest | None = None,
        sessions_in_max: int = SYNC_SESSIONS_IN_MAX,
        versions: tuple[int, int] = (SYNC_VERSION_MIN, SYNC_VERSION_MAX),
        pause: Callable[[], Pause] = Pause,
    ) -> None:
        self._mailbox = mailbox
        self._index = index
        self._transport = transport
        self._door = doorkeeper
        self._network = network
        self._software = software
        self._interval_s = interval_s
        self._jitter = jitter
        self._salt = salt
        self._versions = versions
        self.interest = interest  # the topics that are kept in step with others; None: all
        self._claims = Claims()
        self._turns = trio.Lock()
        self._dials = trio.CapacityLimiter(SYNC_DIALS_MAX)
        self.seats_out = Seats(seats_max=SYNC_SESSIONS_OUT_MAX, unproven_max=SYNC_STRANGERS_OUT_MAX)
        self.seats_in = Seats(seats_max=sessions_in_max, unproven_max=min(SYNC_STRANGERS_IN_MAX, sessions_in_max // 2))
        self._nursery: trio.Nursery | None = None
        self._tended: dict[MailboxId, Peer] = {}
        self.table = PeerTable(pause=pause)
        self.budgets = Budgets(mailbox.store, has_own_share=self._has_own_share)
        self.counters = EngineCounters()
        self._watchers: list[Callable[[SessionEnd], None]] = []
        self.brought = Brought(mailbox, index, self._claims, self.budgets, self.counters, interest, self._heeded)
        self.news = News(
            mailbox=mailbox,
            index=index,
            transport=transport,
            channel=f"/mailboxd/news/4/{network}",
            heard=self._on_hint,
            lied=self._on_bad_hint,
            interest=interest,
            hears=doorkeeper.is_admitted,
            peers=self.table,
            chance=jitter.random,
            counters=self.counters,
        )
        doorkeeper.report_to(self._on_admission, is_named=self.table.is_named)
        doorkeeper.admission.watch(self._on_policy)
        transport.serve(SYNC_PROTOCOL, self._on_stream)
        transport.on_connection(self._on_connection)
        self._fixed_peers = fixed_peers

    # --- what happens in the world -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(self.news.run)
                nursery.start_soon(self.brought.run)
                self.name_peers(self._fixed_peers)
                for peer in self.table.all():
                    self._start(peer)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @property
    def spans_claimed(self) -> int:
        """How many spans of logs are remembered as being fetched."""
        return self._claims.held

    def on_session(self, watcher: Callable[[SessionEnd], None]) -> None:
        """`watcher` is told of every session that ends. It must not block or raise."""
        self._watchers.append(watcher)

    def report(self, event: Found | Lost) -> None:
        """Takes what discovery found or lost."""
        match event:
            case Found(neighbour):
                self._found(neighbour)
            case Lost(mailbox_id, reason):
                if peer := self.table.get(mailbox_id):
                    log.debug("mailbox %s: %s", mailbox_id.short, reason)  # discovery has told it already
                    peer.discovered = frozenset()

    def _found(self, neighbour: Neighbour) -> None:
        if neighbour.p2p_port is None or neighbour.network != self._network:
            return  # the app's own mailboxes speak only to phones; other networks are none of our business
        peer = self._meet(neighbour.mailbox_id)
        if peer is None:
            return
        port = neighbour.p2p_port
        addresses = frozenset(PeerAddress(host, port, neighbour.mailbox_id) for host in neighbour.hosts)
        if addresses == peer.discovered:
            return
        peer.discovered = addresses
        if neighbour.mailbox_id not in self._transport.connected():
            # One of the two dials at once; the other only if that did not work.
            grace_s = 0.0 if self._transport.local < neighbour.mailbox_id else PEER_DIAL_GRACE_S
            self._due_in(peer, grace_s)

    def _on_connection(self, mailbox_id: MailboxId, up: bool) -> None:
        peer = self._meet(mailbox_id)
        if peer is None:
            if up and self._nursery is not None:
                # We have no room for it. It must not count on us, nor take it that we are told what it tells.
                self._nursery.start_soon(self._transport.disconnect, mailbox_id)
            return
        if not up:
            stopping = trio.current_effective_deadline() == -math.inf
            if peer.stand(PeerState.UNREACHABLE, "the connection was lost") and not stopping:
                # Strangers who come and go are not worth a line each: they could fill a disk with them.
                level = logging.INFO if peer.fixed or peer.last_sync_s is not None else logging.DEBUG
                log.log(level, "mailbox %s: the connection was lost", mailbox_id.short)
            self._due_in(peer, PEER_RETRY_FIRST_S)
            return
        log.debug("mailbox %s: connected", mailbox_id.short)  # the sync that follows tells more
        peer.failures = peer.calm_syncs = 0
        peer.asks_until_at = 0.0  # it may have been started anew, and then knows nothing of it
        # On meeting one side starts; the other steps in if that did not work.
        self._due_in(peer, 0.0 if self._transport.local < mailbox_id else PEER_DIAL_GRACE_S)

    def _on_hint(self, publisher: MailboxId, hint: Hint) -> None:
        peer = self._heeded(publisher)
        if peer is not None:  # else someone nearer will have it soon and say so
            self.brought.take_soon(publisher, hint, partial(self._follow, peer, hint))

    def _heeded(self, mailbox_id: MailboxId) -> Peer | None:
        """A mailbox, if its news are listened to now."""
        is_near = mailbox_id in self._transport.connected() and self._door.is_admitted(mailbox_id)
        peer = self.table.get(mailbox_id) if is_near else None
        return peer if peer is not None and trio.current_time() >= peer.shunned_until_at else None

    def _follow(self, peer: Peer, hint: Hint) -> None:
        """Has the peer asked for what a hint is about, if we don't hold it."""
        states = wanted(hint, self.interest)
        if self._index.has_states(states, STATE_PREFIX_BYTES) and not hint.overflow:
            return
        if hint.overflow or len(peer.hinted) + len(states) > HINT_LOGS_PENDING_MAX:
            peer.hinted.clear()
            peer.told_of_much = True
            self._due_in(peer, peer.hint_pause_s)
        else:
            if not peer.hinted:
                latest_s = min(peer.turn_s * len(hint.audience), self._interval_s)
                peer.ask_at = trio.current_time() + latest_s * self._jitter.random() + peer.hint_pause_s
            peer.hinted.update(states)
            peer.rearm()

    def _on_bad_hint(self, publisher: MailboxId, error: RemoteProtocolError) -> None:
        peer = self.table.get(publisher)
        if peer is not None and trio.current_time() >= peer.shunned_until_at:
            self._failed(peer, error, incoming=True)

    def _on_admission(self, mailbox_id: MailboxId, error: Exception | None) -> None:
        """Another mailbox has asked to be let in, and this came of it."""
        peer = self._meet(mailbox_id)
        if peer is None or trio.current_time() < peer.shunned_until_at:
            return
        if error is None:
            self._due_in(peer, PEER_DIAL_GRACE_S)  # the one that asked begins
        else:
            self._failed(peer, error, incoming=True)

    def _on_policy(self, affected: frozenset[MailboxId] | None) -> None:
        """Who is let in has changed: these, or all, begin anew."""
        for peer in self.table.all():
            if affected is not None and peer.mailbox_id not in affected:
                continue
            for seats in (self.seats_in, self.seats_out):
                seats.end_all_of(peer.mailbox_id, "who is let in was changed")
            peer.failures = 0
            self._due_in(peer, PEER_RETRY_FIRST_S)
            if self._nursery is not None and peer.mailbox_id in self._transport.connected():
                self._nursery.start_soon(self._transport.disconnect, peer.mailbox_id)

    async def _on_stream(self, stream: Stream) -> None:
        peer = self._meet(stream.peer)
        if peer is None or trio.current_time() < peer.shunned_until_at:
            await stream.abort()
            return
        if not self._door.is_admitted(stream.peer):
            with suppress(StreamBroken):
                await stream.send_all(encode_frame(refusal(UNADMITTED, self._door.why_not(stream.peer))))
            return
        if pause_s := self.budgets.turn_away(stream.peer):
            with suppress(StreamBroken):
                await stream.send_all(encode_frame(refusal(BUSY, SHARE_USED_UP, math.ceil(pause_s))))
            return
        try:
            if peer.sessions >= PEER_SESSIONS_MAX:
                raise NoSeat
            with self.seats_in.take_nowait(peer.mailbox_id, proven=peer.trusted) as seat:
                await self._converse(peer, stream, seat, only=None, incoming=True)
        except NoSeat:
            log.debug("mailbox %s: turned away, too many syncs at once", peer.mailbox_id.short)
            with suppress(StreamBroken):
                await stream.send_all(encode_frame(refusal(BUSY, TOO_MANY)))

    # --- peers -------------------------------------------------------------------------------------------------

    def _meet(self, mailbox_id: MailboxId) -> Peer | None:
        if mailbox_id == self._transport.local:
            return None
        added = self.table.add(mailbox_id, now_at=trio.current_time())
        if added is None:
            return None
        peer, gone = added
        for other in gone:
            other.poke()
        peer.last_seen_at = trio.current_time()
        self._start(peer)
        return peer

    def name_peers(self, addresses: Sequence[PeerAddress]) -> None:
        """These are the addresses that the user names now. Whom nobody knows any more is parted with."""
        self._fixed_peers = addresses
        for address in addresses:
            self._meet(address.mailbox_id)
        changed, gone = self.table.name(addresses)
        for peer in changed:
            self._due_in(peer, 0.0)
        for peer in gone:
            peer.poke()
            if self._nursery is not None:
                self._nursery.start_soon(self._transport.disconnect, peer.mailbox_id)

    def _start(self, peer: Peer) -> None:
        # By peer, not by id: the task of one that was forgotten, and is met again now, may still be busy.
        if self._nursery is not None and self._tended.get(peer.mailbox_id) is not peer:
            self._tended[peer.mailbox_id] = peer
            self._nursery.start_soon(self._tend, peer)

    def _due_in(self, peer: Peer, seconds: float) -> None:
        """Asks for a full sync in so many seconds from now at the latest."""
        peer.due_at = min(peer.due_at, trio.current_time() + seconds) if peer.due_at else trio.current_time() + seconds
        peer.rearm()

    def _rest(self, peer: Peer) -> None:
        """After a sync, by whichever side."""
        pause_s = self._interval_s * peer.intervals_to_next(len(self._transport.connected()))
        peer.due_at = trio.current_time() + pause_s * self._jitter.uniform(0.8, 1.2)
        peer.rearm()

    def _retry(self, peer: Peer) -> None:
        peer.failures += 1
        longest_s = min(PEER_RETRY_MAX_S, self._interval_s)
        pause_s = min(longest_s, PEER_RETRY_FIRST_S * 2.0 ** min(peer.failures, 10))
        peer.due_at = trio.current_time() + pause_s * self._jitter.uniform(0.8, 1.2)

    async def _tend(self, peer: Peer) -> None:
        """One peer's task, for as long as it is in the table."""
        try:
            while self.table.get(peer.mailbox_id) is peer:
                await peer.pause.take(peer.next_at)
                try:
                    await self._attend(peer)
                except Exception:  # a fault of ours: it must not end the other peers' tasks
                    log.exception("mailbox %s: attending to it failed", peer.mailbox_id.short)
                    self._retry(peer)
        finally:
            if self._tended.get(peer.mailbox_id) is peer:
                del self._tended[peer.mailbox_id]
            peer.answer(SyncReport(peer.mailbox_id, error="this mailbox is no longer known"))

    async def _attend(self, peer: Peer) -> None:
        now_at = trio.current_time()
        connected = peer.mailbox_id in self._transport.connected()
        if connected:
            peer.last_seen_at = now_at
        elif not peer.addresses and now_at - peer.last_seen_at > PEER_FORGET_S:
            self.table.remove(peer)
            return
        full = peer.is_due(now_at)
        waits_until_at = max(peer.shunned_until_at, peer.asks_until_at)
        if pause_s := self.budgets.pause_s(peer.mailbox_id):
            waits_until_at = max(waits_until_at, now_at + pause_s)
            if connected and not peer.sessions:
                peer.stand(PeerState.BEHIND, put_off(pause_s))
        if not connected or now_at < waits_until_at:
            peer.hinted.clear()  # whoever comes back is synced with anyway
        if now_at < waits_until_at:
            peer.due_at = waits_until_at
            peer.answer(SyncReport(peer.mailbox_id, error=peer.reason))
        elif full or (peer.hinted and now_at >= peer.ask_at):
            await self._sync(peer, full=full)

    async def _sync(self, peer: Peer, *, full: bool) -> None:
        only: list[bytes] | None = None
        try:
            if not full:
                only = await self._news_of(peer)
                if not only:
                    return
            if (refused := self._door.refuses(peer.mailbox_id)) is not None:
                raise KeptOut(refused)
            await self._reach(peer)
            await self._door.admit(peer.mailbox_id)
            with await self.seats_out.take(peer.mailbox_id, proven=peer.trusted) as seat:
                stream = await self._transport.open_stream(peer.mailbox_id, SYNC_PROTOCOL)
                await self._converse(peer, stream, seat, only=only, incoming=False)
        except (KeptOut, RemoteProtocolError) as error:
            self._failed(peer, error, incoming=False)
        except (PeerUnreachable, StreamBroken) as error:
            if peer.stand(PeerState.UNREACHABLE, str(error)):
                log.info("mailbox %s is unreachable: %s", peer.mailbox_id.short, error)
            self._retry(peer)
            peer.answer(SyncReport(peer.mailbox_id, error=str(error)))
        except StoreError as error:
            self._retry(peer)
            peer.answer(SyncReport(peer.mailbox_id, error=str(error)))

    async def _reach(self, peer: Peer) -> None:
        if peer.mailbox_id in self._transport.connected():
            return
        if not peer.addresses:
            raise PeerUnreachable("no address is known; it has to come to us")
        async with self._dials:
            await self._transport.connect(peer.addresses)

    async def _news_of(self, peer: Peer) -> list[bytes]:
        """The handles of hinted logs that differ from ours."""
        hinted, peer.hinted = peer.hinted, {}
        view = await self._index.view(self._mailbox.alive_from_s())
        return [
            handle for handle, prefix in hinted.items() if (view.state(handle) or b"")[:STATE_PREFIX_BYTES] != prefix
        ]

    # --- one session -------------------------------------------------------------------------------------------

    async def _converse(
        self, peer: Peer, stream: Stream, seat: Seat, *, only: Sequence[bytes] | None, incoming: bool
    ) -> None:
        """Runs a session on a fresh stream, whoever opened it, and notes how it ended."""
        config = SessionConfig(
            now_s=self._mailbox.clock.now_s(),
            retention=self._mailbox.retention,
            network=self._network,
            versions=self._versions,
            software=self._software,
            salt=self._salt(),
            only=only,
            checkpoint=peer.checkpoint,
            is_full=self._mailbox.is_full,
            interest=self.interest,
            peer_interest=None if peer.interest is None else Interest(peer.interest),
        )
        traffic = seat.traffic
        progress = SessionResult()
        spending = self.budgets.begin(peer.mailbox_id, traffic, progress)
        before = (peer.state, peer.reason)
        is_hinted = not incoming and (only is not None or peer.told_of_much)
        if only is None and not incoming:
            peer.forget_hints()  # a full sync covers them
        peer.stand(PeerState.SYNCING, "")
        peer.sessions += 1
        peer.under_way.append(progress)
        failure: str | None = None
        began_at = trio.current_time()
        try:
            result = await run_session(
                respond(config, progress) if incoming else initiate(config, progress),
                stream,
                store=self._mailbox.store,
                index=self._index,
                claims=self._claims,
                traffic=traffic,
                turns=self._turns,
                is_full=lambda: self._mailbox.is_full,
                is_at_limit=lambda: self._mailbox.is_at_limit,
                is_news=only is not None,
                alive_from_s=self._mailbox.alive_from_s,
                signed_only=self._mailbox.signed_only,
                on_progress=progress_teller(peer),
                go_on=partial(self._check_spending, peer, spending),
                patience=seat.patience,
            )
        except (SessionRefused, RemoteProtocolError) as error:
            self._restore(peer, before)
            failure = str(error)
            await stream.close()  # in good order: the reason is on its way to the peer
            self._failed(peer, error, incoming=incoming)
        except SessionAborted as error:
            self._restore(peer, before)
            failure = str(error)
            await stream.abort()
            self._failed(peer, error, incoming=incoming)
        except BaseException as error:
            self._restore(peer, before)
            failure = "it was cancelled" if isinstance(error, trio.Cancelled) else repr(error)
            with trio.CancelScope(shield=True):
                await stream.abort()
            raise
        else:
            if only is not None and result.received and not incoming:
                peer.session_s = min(peer.session_s, trio.current_time() - began_at)
            await stream.close()
            self._succeeded(peer, result, traffic, before, incoming=incoming)
            tell(peer, result, loudly=before[0] not in (PeerState.IN_SYNC, PeerState.SYNCING))
        finally:
            spending.end()
            peer.sessions -= 1
            peer.under_way.remove(progress)
            if is_hinted:
                peer.has_followed_hint(progress)
            bytes_in, bytes_out = traffic.bytes_in, traffic.bytes_out
            peer.bytes_in += bytes_in
            peer.bytes_out += bytes_out
            self.counters.sessions += 1
            self.counters.round_trips += progress.round_trips
            self.counters.bytes_in += bytes_in
            self.counters.bytes_out += bytes_out
            end = SessionEnd(peer.mailbox_id, incoming, began_at, progress, bytes_in, bytes_out, failure)
            for watcher in self._watchers:
                watcher(end)

    def _has_own_share(self, mailbox_id: MailboxId) -> bool:
        return self.table.is_named(mailbox_id) or self._door.admission.is_trusted(mailbox_id)

    def _check_spending(self, peer: Peer, spending: Spending) -> None:
        """Ends a session that has cost too much, whoever began it. Raises SessionRefused."""
        if spending.is_too_much():
            pause_s = math.ceil(self.budgets.pause_s(peer.mailbox_id))
            raise SessionRefused(BUSY, SHARE_USED_UP, by_peer=False, pause_s=pause_s)

    @staticmethod
    def _restore(peer: Peer, before: tuple[PeerState, str]) -> None:
        """Undoes "syncing", unless another session has found something else meanwhile."""
        if peer.state is PeerState.SYNCING:
            peer.stand(*before)

    def _succeeded(
        self,
        peer: Peer,
        result: SessionResult,
        traffic: SessionTraffic,
        before: tuple[PeerState, str],
        *,
        incoming: bool,
    ) -> None:
        self.counters.synced_in += result.received
        self.counters.synced_out += result.sent
        peer.failures = peer.strikes = 0
        peer.proven = True
        peer.software = result.software
        peer.last_sync_s = self._mailbox.clock.now_s()
        peer.last_sync_bytes = traffic.bytes_in + traffic.bytes_out
        peer.last_sync_round_trips = result.round_trips
        peer.interest = None if result.peer_interest is None else result.peer_interest.packed
        peer.topics_shared = None if result.interest is None else len(result.interest)
        if result.checkpoint is not None:
            peer.agreed(result.checkpoint)
        reason = what_is_left(result, traffic, incoming=incoming)
        if reason:
            peer.stand(PeerState.BEHIND, reason)
        elif result.full:
            peer.stand(PeerState.IN_SYNC, KEPT_WITHIN_LIMIT if result.unwanted else "")
        else:
            self._restore(peer, before)  # a hint's session says nothing about all other logs
        if result.full:
            idle = (bool(reason) or not result.equal) and not (result.received or result.sent or result.merged)
            peer.idle_syncs = peer.idle_syncs + 1 if idle else 0
            moved = result.received or result.sent or result.merged
            peer.calm_syncs = 0 if reason or moved else peer.calm_syncs + 1
            self._rest(peer)
        if not result.complete and not traffic.leaves:
            # If it was the peer's sync, the next step is the peer's as well, and ours only if it doesn't come.
            self._due_in(peer, PEER_DIAL_GRACE_S if incoming else PEER_RETRY_FIRST_S)
        elif result.skipped and not traffic.leaves:
            self._due_in(peer, PEER_DIAL_GRACE_S)  # whoever was to bring it may not have done so
        if result.full and peer.waiting:  # who waits asked for all to be compared, which no hint's session does
            peer.answer(
                SyncReport(
                    peer.mailbox_id,
                    received=result.received,
                    sent=result.sent,
                    bytes=peer.last_sync_bytes,
                    round_trips=result.round_trips,
                    error=reason or None,
                )
            )

    def _failed(self, peer: Peer, error: Exception, *, incoming: bool) -> None:
        reason = str(error) or type(error).__name__
        is_busy = isinstance(error, SessionRefused) and error.code == BUSY
        peer.proven = peer.proven and is_busy  # to be turned away says nothing of whether it keeps in step
        match error:
            case SessionRefused() if is_busy:
                state, reason = PeerState.BEHIND, peer.waits(error)
            case SessionRefused():
                state = PeerState.REFUSED
                if error.code == UNADMITTED:
                    self._door.doubt(peer.mailbox_id)
            case KeptOut():
                state = PeerState.REFUSED
            case RemoteProtocolError():
                state, reason = PeerState.REFUSED, f"it broke the protocol: {reason}"
                peer.shun()
                for seats in (self.seats_in, self.seats_out):
                    seats.end_all_of(peer.mailbox_id, reason)
            case _ if peer.mailbox_id in self._transport.connected():
                state = PeerState.BEHIND
            case _:
                state = PeerState.UNREACHABLE
        level = logging.WARNING if state is PeerState.REFUSED else logging.INFO
        if isinstance(error, KeptOut) and not (peer.fixed or peer.last_sync_s is not None):
            level = logging.DEBUG  # strangers could fill a disk with it; `peers` tells it
        if peer.stand(state, reason, refusal_code(error)):
            log.log(level, "mailbox %s: sync failed: %s", peer.mailbox_id.short, reason)
        if not incoming:
            self._retry(peer)
            if isinstance(error, KeptOut) and error.pause_s is not None:
                peer.due_at = trio.current_time() + error.pause_s + PEER_RETRY_FIRST_S
            peer.answer(SyncReport(peer.mailbox_id, error=reason))

    # --- for the user ------------------------------------------------------------------------------------------

    async def sync_now(self, mailbox_id: MailboxId | None = None) -> list[SyncReport]:
        """Syncs with one peer or with all, at once, and returns how it went. An unknown peer gives an empty list."""
        known = self.table.all() if mailbox_id is None else [self.table.get(mailbox_id)]
        return await sync_with([peer for peer in known if peer is not None])
