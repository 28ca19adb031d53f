"""What the sessions with each mailbox may cost over time, beside what a single session may.

Every mailbox has an account in seconds of processor time, which fills by itself. A session is charged what it cost (the
processor time of its turns, as measured, and an estimate for what it has the store and the transport do), less what its
useful messages are worth: those that were new here, and those that the peer can't have had from us before. So moving a
million new messages costs an honest mailbox nothing, and whoever keeps us busy for nothing has a share, and then waits.

Mailboxes that the user named or trusts have a share each. All others together have STRANGERS_SHARE, however many
identities they are; those who ask for little notice nothing of it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

from node.store.api import Change, Store
from node.sync.driver import SessionTraffic
from protocols.limits.data import BLOB_BYTES_MAX
from protocols.limits.replication import (
    ACCOUNTS_MAX,
    COST_BYTE_S,
    COST_ITEM_S,
    COST_ROUND_TRIP_S,
    COST_SESSION_S,
    NEED_S,
    NEED_SEEN_S,
    NEWCOMER_BUDGET_MIN_S,
    NEWCOMERS_BUDGET_S,
    NEWCOMERS_SHARE,
    PEER_BUDGET_S,
    PEER_COPIES,
    PEER_COPY_S,
    PEER_RESUME_S,
    PEER_SHARE,
    STRANGERS_SHARE,
    WORTH_MESSAGE_S,
)
from protocols.model import MailboxId
from protocols.sync.deliveries import Deliveries
from protocols.sync.session import SessionResult

__all__ = ["Budgets", "Spending"]

_MESSAGE_BYTES = WORTH_MESSAGE_S / COST_BYTE_S

_CHARGED_AT_LEAST_S = COST_SESSION_S
"""What a session costs is charged in portions, as to do so costs something, too."""

_RATE_MIN = STRANGERS_SHARE / ACCOUNTS_MAX
"""Seconds of budget that any account gets back per second, however many are in need."""


@dataclass(eq=False, slots=True)
class _Account:
    left_s: float
    """Of its budget; negative: it owes."""
    sendable_bytes: float
    """Messages, by their bytes and _MESSAGE_BYTES for each, that it can't have had from us yet."""
    at: float
    """When both were true."""
    stored_bytes: float
    """What had been stored here then."""
    has_own_share: bool
    rests: bool = False
    """Whether it has used up its budget, and waits."""


class Spending:
    """One session's. Figures are taken from its traffic and its progress."""

    def __init__(self, budgets: Budgets, account: _Account, traffic: SessionTraffic, progress: SessionResult) -> None:
        self._budgets = budgets
        self._account = account
        self._traffic = traffic
        self._progress = progress
        self._charged_s = 0.0
        self._counted_s = 0.0
        """What it had cost when that was charged, whatever it was worth."""
        self._sent_bytes = 0.0
        self._worth_s = 0.0

    def is_too_much(self) -> bool:
        """Charges what the session has cost so far, if it is worth the while; whether the account is overdrawn by now.
        What may be part of a message that has not come to its end is not counted yet."""
        if self._cost_s() - self._counted_s >= _CHARGED_AT_LEAST_S:
            self._charge(unfinished_bytes_max=BLOB_BYTES_MAX)
        return self._account.rests

    def end(self) -> None:
        """Charges what it cost in the end."""
        self._charge(unfinished_bytes_max=0)

    def _cost_s(self) -> float:
        """What the session has cost so far."""
        traffic, done = self._traffic, self._progress
        return (
            traffic.processor_s
            + COST_ROUND_TRIP_S * done.round_trips
            + COST_ITEM_S * done.described
            + COST_BYTE_S * (traffic.bytes_in + traffic.bytes_out)
        )

    def _charge(self, *, unfinished_bytes_max: int) -> None:
        traffic, done = self._traffic, self._progress
        self._counted_s = self._cost_s()
        self._budgets.bring_up_to_date(self._account)
        sent_bytes = done.sent_bytes + _MESSAGE_BYTES * done.sent
        worth_bytes = min(sent_bytes - self._sent_bytes, self._account.sendable_bytes)
        self._account.sendable_bytes -= worth_bytes
        self._sent_bytes = sent_bytes
        self._worth_s += COST_BYTE_S * worth_bytes
        unfinished_bytes = min(max(0, traffic.bytes_in - done.received_bytes), unfinished_bytes_max)
        cost_s = COST_SESSION_S + self._counted_s - COST_BYTE_S * unfinished_bytes
        worth_s = self._worth_s + COST_BYTE_S * (done.received_bytes + _MESSAGE_BYTES * done.received)
        net_s = max(0.0, cost_s - worth_s)
        self._budgets.charge(self._account, net_s - self._charged_s)
        self._charged_s = net_s


class Budgets:
    """The accounts of all mailboxes. `has_own_share` says who was named or is trusted by the user."""

    def __init__(self, store: Store, *, has_own_share: Callable[[MailboxId], bool]) -> None:
        self._store = store
        self._has_own_share = has_own_share
        self._accounts: OrderedDict[MailboxId, _Account] = OrderedDict()
        self._stored_bytes = 0.0
        self._held_bytes: float | None = None
        """See `_held`; None: to be asked anew."""
        self._newcomers_s = NEWCOMERS_BUDGET_S
        self._newcomers_at = -math.inf
        self._needy = 0
        self._needy_at = -math.inf
        store.subscribe(self._on_change)

    def begin(self, peer: MailboxId, traffic: SessionTraffic, progress: SessionResult) -> Spending:
        """For a session that begins."""
        return Spending(self, self._account(peer), traffic, progress)

    def turn_away(self, peer: MailboxId) -> float:
        """For how many seconds a mailbox that wants a session has to wait; 0: it need not. To ask in vain costs."""
        pause_s = self.pause_s(peer)
        if pause_s:
            self.charge(self._account(peer), COST_SESSION_S)
        return pause_s

    def pause_s(self, peer: MailboxId) -> float:
        """The same, without asking for one."""
        account = self._accounts.get(peer)
        if account is None:
            return 0.0
        self.bring_up_to_date(account)
        return (PEER_RESUME_S - account.left_s) / self._rate(account) if account.rests else 0.0

    def used_s(self, peer: MailboxId) -> float:
        """What a mailbox has used of PEER_BUDGET_S."""
        account = self._accounts.get(peer)
        if account is None:
            return 0.0
        self.bring_up_to_date(account)
        return PEER_BUDGET_S - account.left_s

    def charge_hint(self, peer: MailboxId, *, messages: int, size: int, useful: int) -> None:
        """Charges what the messages cost that came with a hint, `size` bytes, less what those were worth that were new
        here (`useful` of them)."""
        account = self._account(peer)
        self.bring_up_to_date(account)
        cost_s = COST_SESSION_S + COST_ITEM_S * messages + COST_BYTE_S * size
        worth_s = COST_BYTE_S * (size * useful / messages + _MESSAGE_BYTES * useful)
        self.charge(account, max(0.0, cost_s - worth_s))

    # --- accounts --------------------------------------------------------------------------------------------------

    def charge(self, account: _Account, seconds: float) -> None:
        """Takes so much from an account; gives it back if it is negative."""
        account.left_s = min(PEER_BUDGET_S, max(-PEER_BUDGET_S, account.left_s - seconds))
        if account.left_s <= 0:
            account.rests = True

    def bring_up_to_date(self, account: _Account) -> None:
        """Adds what came to an account by itself since it was looked at last."""
        now_at = trio.current_time()
        passed_s, account.at = now_at - account.at, now_at
        if account.left_s + passed_s * _RATE_MIN >= PEER_BUDGET_S:
            account.left_s = PEER_BUDGET_S  # as mostly, and then nobody needs to be counted
        else:
            account.left_s = min(PEER_BUDGET_S, account.left_s + passed_s * self._rate(account))
        if account.left_s >= PEER_RESUME_S:
            account.rests = False
        held_bytes = self._held()
        new_bytes, account.stored_bytes = self._stored_bytes - account.stored_bytes, self._stored_bytes
        more_bytes = new_bytes + held_bytes * passed_s / PEER_COPY_S
        account.sendable_bytes = min(PEER_COPIES * held_bytes, account.sendable_bytes + more_bytes)

    def _account(self, peer: MailboxId) -> _Account:
        account = self._accounts.get(peer)
        has_own_share = self._has_own_share(peer)
        if account is None:
            now_at = trio.current_time()
            left_s = PEER_BUDGET_S if has_own_share else self._newcomer_s(now_at)
            copies_bytes = PEER_COPIES * self._held()
            account = _Account(left_s, copies_bytes, now_at, self._stored_bytes, has_own_share)
            self._accounts[peer] = account
            if len(self._accounts) > ACCOUNTS_MAX:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(peer)
        account.has_own_share = has_own_share
        return account

    def _newcomer_s(self, now_at: float) -> float:
        """What somebody new begins with: a tenth of what is there for all who are."""
        more_s = NEWCOMERS_SHARE * (now_at - self._newcomers_at)
        self._newcomers_s, self._newcomers_at = min(NEWCOMERS_BUDGET_S, self._newcomers_s + more_s), now_at
        given_s = min(self._newcomers_s / 10, PEER_BUDGET_S)
        self._newcomers_s -= given_s
        return max(given_s, NEWCOMER_BUDGET_MIN_S)

    def _rate(self, account: _Account) -> float:
        """Seconds of budget that an account gets back per second."""
        if account.has_own_share:
            return PEER_SHARE
        now_at = trio.current_time()
        if now_at - self._needy_at >= NEED_SEEN_S:
            self._needy_at = now_at
            self._needy = sum([one.left_s < NEED_S and not one.has_own_share for one in self._accounts.values()])
        return min(PEER_SHARE, STRANGERS_SHARE / max(1, self._needy))

    def _held(self) -> float:
        """All that is held, in bytes and _MESSAGE_BYTES."""
        if self._held_bytes is None:
            held = self._store.statistics()
            self._held_bytes = held.bytes + _MESSAGE_BYTES * held.messages
        return self._held_bytes

    def _on_change(self, change: Change) -> None:
        self._held_bytes = None
        if change.stored:
            self._stored_bytes += Deliveries.of(change.stored).blobs_bytes + _MESSAGE_BYTES * len(change.stored)
