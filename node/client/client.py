"""A client of mailboxes: finds them, brings them what is written, fetches what is new, and forgets nothing of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from node.client.deliveries import Deliveries, Message
from node.client.desk import Desk
from node.client.link import Link
from node.client.seat import Seat
from node.client.store import ClientStore, ClientStoreError, state_of
from node.discovery.api import Discovery, Found, Lost
from protocols.client.address import Mailbox
from protocols.client.answers import Cause
from protocols.client.book import Book, Check, Key
from protocols.client.policies import POLICIES, Policy
from protocols.client.rota import Rota, Turn
from protocols.limits.client import (
    CLIENT_CARRY_S,
    CLIENT_FORGET_INTERVAL_S,
    CLIENT_GAP_PATIENCE_S,
    CLIENT_MAILBOXES_MAX,
    CLIENT_STORE_BYTES_MAX,
)
from protocols.limits.data import BLOB_BYTES_MAX
from protocols.model import LogName
from protocols.toy_api import Family

__all__ = ["Client", "MailboxState", "open_client"]

_T = TypeVar("_T")
_FORGET_AT_A_TIME = 500
_FULL_PAUSE_S = 1.0
_ANY_AGE_S = 2.0**60  # whatever the clock said when a message came


@dataclass(frozen=True, slots=True)
class MailboxState:
    """How the client stands with one mailbox. `reason` says why it is not well, `is_shut_out` that it wants a token, or
    another one; `behind` counts own messages that it is not known to hold."""

    url: str
    mailbox_id: str | None
    is_named: bool
    is_well: bool
    is_shut_out: bool
    reason: str
    behind: int


class Client:
    """See `open_client`. All methods are for trio tasks of the loop in which it was opened."""

    def __init__(self, desk: Desk, book: Book, policy: Policy, *, gap_patience_s: float) -> None:
        self._desk = desk
        self._book = book
        self._rota: Rota[str] = Rota(policy)
        self._family = Family(policy.family)
        self._gap_patience_s = gap_patience_s
        self._seats: dict[str, Seat] = {}
        self._wake = trio.Event()
        self._news = trio.Event()
        self._retired: list[Link] = []
        self._held_bytes = 0
        self._too_much = trio.Event()
        self._nearby: dict[str, Mailbox] = {}
        self._watchers: list[Callable[[MailboxState, bool], None]] = []
        self._deliveries = Deliveries(desk, book, self._wait_for_news, self._announce)

    # --- what an application does ------------------------------------------------------------------------------------

    @property
    def own_log(self) -> str:
        """The id of the log in which this client writes, the same in each topic."""
        return self._book.own_log

    async def publish(self, topic: str, content: bytes | Callable[[LogName, int], bytes]) -> int:
        """Writes a message; returns its seq once it can't get lost any more. It goes out to all mailboxes from then on.
        A `content` that depends on its place (for a signature) is made by a function of log and seq.
        Raises KeyError for a topic that the client was not opened with, ValueError for more than 48 MiB."""
        name, seq = self._book.place(topic)
        blob = content(name, seq) if callable(content) else content
        if len(blob) > BLOB_BYTES_MAX:
            raise ValueError(f"a message has {BLOB_BYTES_MAX} bytes at the most")
        self._book.write(name, seq)
        states = {name: state_of(self._book.record(name))}
        now_s = time.time()
        await self._desk.do(lambda: self._desk.store.keep([(name, seq, blob)], states, at_s=now_s), durable=True)
        self._rota.push(trio.current_time())
        self._wake.set()
        return seq

    def messages(self) -> AsyncIterator[Message]:
        """The messages of others, each once and in the order of its log, as they come. That a message was taken is
        written down when the next one is asked for, or when the client is left without an error: after a crash only the
        one that was being worked on comes again. One task at a time."""
        return self._deliveries

    def trigger(self) -> None:
        """Polls all mailboxes now: the user pulled the list down, the network changed."""
        self._rota.hurry(trio.current_time())
        self._wake.set()

    async def flushed(self, mailboxes: int = 1) -> None:
        """Waits until at least so many mailboxes hold all that was written until now."""
        while sum(self._is_flushed(seat) for seat in self._seats.values()) < mailboxes:
            await self._wait_for_news()

    async def caught_up(self) -> None:
        """Waits until a mailbox has been asked what is new and the application has taken all of that. What waits for
        messages before it does not count. For use beside the task that takes `messages`."""
        while not (self._deliveries.is_idle and any(self._book.ledger(s.ledger).has_met for s in self._seats.values())):
            await self._wait_for_news()

    def _is_flushed(self, seat: Seat) -> bool:
        return seat.is_open and self._book.behind(seat.ledger) == 0

    # --- mailboxes ---------------------------------------------------------------------------------------------------

    def mailboxes(self) -> list[MailboxState]:
        """The mailboxes that are known at present."""
        return [self._state(seat) for seat in self._seats.values()]

    def watch(self, watcher: Callable[[MailboxState, bool], None]) -> None:
        """Has `watcher` called whenever a mailbox is met, gets well or unwell (True), or is gone (False)."""
        self._watchers.append(watcher)

    def add(self, address: Mailbox) -> None:
        """Talks to a named mailbox from now on. The same URL with another token or pin replaces the former."""
        self._drop(address.url)
        self._seat(address.url, self._new_seat(address, is_named=True))
        if address.mailbox_id is not None:
            self._drop(_found_key(str(address.mailbox_id)))

    def remove(self, url: str) -> None:
        """Talks to a named mailbox no more; what it was sent stays known."""
        self._drop(url)

    def _state(self, seat: Seat) -> MailboxState:
        refused = None if seat.outcome is None else seat.outcome.refused
        if seat.outcome is None:
            reason = "not reached yet"
        elif refused is None:
            reason = ""
        else:
            reason = str(refused)
        behind = self._book.behind(seat.ledger) if seat.is_open else 0
        return MailboxState(
            seat.link.mailbox.url,
            seat.mailbox_id,
            is_named=seat.is_named,
            is_well=reason == "",
            is_shut_out=refused is not None and refused.cause is Cause.UNAUTHORISED,
            reason=reason,
            behind=behind,
        )

    def _new_seat(self, address: Mailbox, *, is_named: bool) -> Seat:
        return Seat(Link(address), self._desk, self._book, self._family, is_named=is_named, on_news=self._received)

    def _seat(self, key: str, seat: Seat) -> None:
        self._seats[key] = seat
        self._rota.meet(key, trio.current_time())
        self._wake.set()
        self._tell(seat)

    def _drop(self, key: str) -> None:
        seat = self._seats.pop(key, None)
        if seat is not None:
            self._rota.lose(key)
            self._retired.append(seat.link)
            self._wake.set()
            self._tell(seat, is_here=False)

    def _tell(self, seat: Seat, *, is_here: bool = True) -> None:
        state = self._state(seat)
        for watcher in self._watchers:
            watcher(state, is_here)

    def _report(self, event: Found | Lost) -> None:
        """What discovery says."""
        if isinstance(event, Lost):
            self._nearby.pop(str(event.mailbox_id), None)
            self._drop(_found_key(str(event.mailbox_id)))
        elif event.neighbour.hosts:
            host, port = event.neighbour.hosts[0], event.neighbour.http_port
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            mailbox_id = str(event.neighbour.mailbox_id)
            self._nearby[mailbox_id] = Mailbox(url, mailbox_id=event.neighbour.mailbox_id)
            self._meet_nearby(mailbox_id)

    def _meet_nearby(self, mailbox_id: str) -> None:
        """Talks to a mailbox that discovery found, unless it is a named one that can be reached by its name."""
        key, address = _found_key(mailbox_id), self._nearby[mailbox_id]
        for seat in self._seats.values():
            if seat.is_named and seat.mailbox_id == mailbox_id and not (seat.outcome and seat.outcome.failed):
                return
        present = self._seats.get(key)
        if present is not None and present.link.mailbox == address:
            return
        self._drop(key)
        if len(self._seats) < CLIENT_MAILBOXES_MAX:
            self._seat(key, self._new_seat(address, is_named=False))

    # --- turns -------------------------------------------------------------------------------------------------------

    async def _run(self, discovery: Discovery | None, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            if discovery is not None:
                nursery.start_soon(discovery.run, None, self._report)
            nursery.start_soon(self._forget)
            task_status.started()
            try:
                while True:
                    self._wake = trio.Event()
                    while self._retired:
                        await self._retired.pop().aclose()
                    while (turn := self._rota.begin(trio.current_time())) is not None:
                        nursery.start_soon(self._take_turn, turn)
                    with trio.move_on_at(self._rota.due_at()):
                        await self._wake.wait()
            finally:
                with trio.CancelScope(shield=True):
                    for seat in self._seats.values():
                        await seat.link.aclose()

    async def _take_turn(self, turn: Turn[str]) -> None:
        seat = self._seats[turn.mailbox]
        was_well = self._state(seat).is_well
        outcome = await seat.talk(polls=turn.polls, listens=self._listens)
        if self._seats.get(turn.mailbox) is not seat:  # replaced or gone meanwhile
            self._retired.append(seat.link)
            self._wake.set()
            return
        retry_after_s = outcome.refused.retry_after_s if outcome.refused is not None and outcome.failed else 0.0
        self._rota.end(turn, trio.current_time(), failed=outcome.failed, retry_after_s=retry_after_s)
        is_new = seat.outcome is None
        seat.outcome = outcome
        if seat.is_named and seat.mailbox_id in self._nearby:
            if outcome.failed:
                self._meet_nearby(seat.mailbox_id)
            else:
                self._drop(_found_key(seat.mailbox_id))
        if is_new or was_well != self._state(seat).is_well:
            self._tell(seat)
        self._wake.set()
        self._look_at_gaps()
        self._announce()

    # --- news --------------------------------------------------------------------------------------------------------

    def _look_at_gaps(self) -> None:
        answering = {seat.ledger for seat in self._seats.values() if seat.outcome and not seat.outcome.failed}
        self._book.give_up(trio.current_time(), patience_s=self._gap_patience_s, answering=answering)

    @property
    def _listens(self) -> bool:
        """Whether there is room for more."""
        return self._held_bytes < CLIENT_STORE_BYTES_MAX

    def _received(self, size: int) -> None:
        self._held_bytes += size
        if self._held_bytes >= CLIENT_STORE_BYTES_MAX:
            self._too_much.set()
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _wait_for_news(self) -> None:
        """Until something may have changed for those who wait."""
        with trio.move_on_after(1.0 if self._book.is_waiting else float("inf")):
            await self._news.wait()
            return
        self._look_at_gaps()

    # --- forgetting --------------------------------------------------------------------------------------------------

    async def _forget(self) -> None:
        """Drops what is too old, or too much. What the application has not taken is kept; if that is too much, nothing
        more is asked for until it takes some."""
        while True:
            await self._forget_once(time.time() - CLIENT_CARRY_S, bytes_max=None)
            held_bytes = await self._desk.do(self._desk.store.bytes_held)
            if held_bytes >= CLIENT_STORE_BYTES_MAX:
                await self._forget_once(_ANY_AGE_S, bytes_max=held_bytes - CLIENT_STORE_BYTES_MAX * 3 // 4)
            self._held_bytes = await self._desk.do(self._desk.store.bytes_held)
            self._too_much = trio.Event()
            if self._held_bytes >= CLIENT_STORE_BYTES_MAX:
                await trio.sleep(_FULL_PAUSE_S)
                continue
            with trio.move_on_after(CLIENT_FORGET_INTERVAL_S):
                await self._too_much.wait()

    async def _forget_once(self, before_s: float, *, bytes_max: int | None) -> None:
        while True:
            oldest = await self._desk.do(partial(self._desk.store.oldest, before_s, _FORGET_AT_A_TIME))
            done: list[Key] = []
            for name, seq, size in oldest:
                if bytes_max is not None and bytes_max <= 0:
                    break
                if self._book.is_taken(name, seq):
                    done.append((name, seq))
                    bytes_max = None if bytes_max is None else bytes_max - size
            await self._desk.do(partial(self._desk.store.forget, done))
            if not done or len(oldest) < _FORGET_AT_A_TIME:
                return


def _found_key(mailbox_id: str) -> str:
    return f"mdns:{mailbox_id}"


@asynccontextmanager
async def open_client(
    data_dir: Path,
    *,
    topics: Iterable[str],
    mailboxes: Iterable[Mailbox] = (),
    discovery: Discovery | None = None,
    own_log: str | None = None,
    policy: str = "each",
    check: Check | None = None,
    gap_patience_s: float = CLIENT_GAP_PATIENCE_S,
) -> AsyncIterator[Client]:
    """A running client with its memory in `data_dir`, which no other program may use at the same time.

    It follows `topics` and talks to the named `mailboxes` and to those that `discovery` finds (for example
    `MdnsDiscovery()`). `own_log` names the log to write in when the directory is new; otherwise it gets a random id.
    `policy` is the generation of the app whose times it keeps (`each` or `round-robin`). `check` turns messages away;
    delivery waits `gap_patience_s` for messages that nobody has.

    Raises ClientStoreError, at once or later, when nothing can be written any more.
    """
    topics = list(topics)
    store = await trio.to_thread.run_sync(partial(ClientStore, data_dir, own_log=own_log))
    try:
        book = Book(store.own_log, topics, check=check)
        for name, record in await trio.to_thread.run_sync(store.records, topics):
            book.restore(name, record)
        desk = Desk(store)
        client = Client(desk, book, POLICIES[policy], gap_patience_s=gap_patience_s)
        failure: Exception | None = None
        async with trio.open_nursery() as outer:
            await outer.start(desk.run)
            async with trio.open_nursery() as nursery:
                for address in mailboxes:
                    client.add(address)
                await nursery.start(client._run, discovery)
                try:
                    yield client
                    await client._deliveries.taken()
                except Exception as error:  # the caller's own: it comes out as it came in, in no group
                    failure = error
                nursery.cancel_scope.cancel()
            outer.cancel_scope.cancel()
        if failure is not None:
            raise failure
    except BaseExceptionGroup as group:
        cause = group.subgroup(ClientStoreError)
        if cause is None:
            raise
        raise _first(cause) from None
    finally:
        store.close()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
