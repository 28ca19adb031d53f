"""Plain mailboxes: those that only speak the phones' API, named with `--peer http(s)://…`.

Every sync interval, and soon after news, each is asked like a phone would ask it, with our watermarks as heights, about
the topics that we hold (its API can't list others). What it has and we lack is taken; what it lacks (by its answer and
its `missing`) is given.

That API knows no age: whatever crosses a plain mailbox starts a new week there, and once more where another mailbox
takes it. This can't be told from the wire. What can be prevented is that it goes on for ever: nothing at or below our
watermark is taken, nothing that was ever traded with a plain mailbox is taken again once we let it go, and nothing is
given to the same one twice (`toy_ledger`).
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from node.http.client import ClientError, exchange
from node.mailbox import Mailbox
from node.store.api import Arrival, Change, StoreError
from node.sync.index import LogIndex
from node.sync.peers import PeerState
from node.sync.toy_ledger import LedgerError, ToyLedger, Traded
from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.replication import (
    TOY_PEER_ANSWER_BYTES_MAX,
    TOY_PEER_NAMES_SLICE,
    TOY_PEER_NEWS_S,
    TOY_PEER_REFUSED_MAX,
    TOY_PEER_STORE_BYTES,
    TOY_PEER_TIMEOUT_S,
    TOY_PEER_TOPICS_MAX,
)
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.toy_answers import TopicAnswer, decode_get_answer
from protocols.toy_api import Family, encode_get, encode_store

__all__ = ["ToyPeer", "ToyPeers"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True)
class ToyPeer:
    """One plain mailbox and how we stand with it."""

    url: str
    family: Family = Family.BLIPS
    mailbox_id: str | None = None
    state: PeerState = PeerState.BEHIND
    reason: str = "not met yet"
    last_sync_s: float | None = None
    round_trips: int = 0
    last_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    received: int = 0
    sent: int = 0
    failures: int = 0
    news: trio.Event = field(default_factory=trio.Event)
    refused: set[Traded] = field(default_factory=set)
    """What it did not take for its size, until we restart or there is much of it."""


class ToyPeers:
    """Keeps in step with all plain mailboxes of `urls`. `own_id` and `is_met` tell which are reached otherwise.
    `why_not` says why the mailbox that answers at a URL, with this id, is not to be used.
    With `only_topics` no others are exchanged."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        mailbox: Mailbox,
        index: LogIndex,
        ledger: ToyLedger,
        interval_s: float,
        jitter: random.Random,
        own_id: str,
        is_met: Callable[[str], bool],
        why_not: Callable[[str, str | None], str | None] = lambda _url, _mailbox_id: None,
        only_topics: Set[str] = frozenset(),
    ) -> None:
        self.peers = [ToyPeer(url) for url in urls]
        self._mailbox = mailbox
        self._index = index
        self._ledger = ledger
        self._ledger_lock = trio.Lock()
        self._locks = {peer.url: trio.Lock() for peer in self.peers}
        self._interval_s = interval_s
        self._jitter = jitter
        self._own_id = own_id
        self._is_met = is_met
        self._why_not = why_not
        self._only_topics = only_topics
        self._nursery: trio.Nursery | None = None
        self._received_before = self._sent_before = 0  # with those that are named no longer
        mailbox.store.subscribe(self._on_change)

    @property
    def received(self) -> int:
        """Messages taken from all since the start."""
        return self._received_before + sum(peer.received for peer in self.peers)

    @property
    def sent(self) -> int:
        """Messages given to all since the start."""
        return self._sent_before + sum(peer.sent for peer in self.peers)

    def _on_change(self, change: Change) -> None:
        if change.stored:
            for peer in self.peers:
                if change.origin != peer.url:
                    peer.news.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for peer in self.peers:
                    nursery.start_soon(self._tend, peer)
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._ledger.close()

    def name(self, urls: Sequence[str]) -> None:
        """Other mailboxes than before; of those that stay, what is known stays."""
        before = {peer.url: peer for peer in self.peers}
        for gone in [peer for url, peer in before.items() if url not in urls]:
            self._received_before += gone.received
            self._sent_before += gone.sent
        self.peers = [before.get(url) or ToyPeer(url) for url in urls]
        self._locks |= {url: trio.Lock() for url in urls if url not in self._locks}
        for peer in before.values():
            peer.news.set()  # those that are gone must notice
        for peer in self.peers:
            if peer.url not in before and self._nursery is not None:
                self._nursery.start_soon(self._tend, peer)

    async def _tend(self, peer: ToyPeer) -> None:
        while peer in self.peers:
            await self.sync(peer)
            pause_s = self._interval_s * self._jitter.uniform(0.8, 1.2)
            with trio.move_on_after(pause_s):
                if not peer.failures:
                    await peer.news.wait()
                    await trio.sleep(TOY_PEER_NEWS_S)  # what comes in a burst goes in one request
                    peer.news = trio.Event()
                else:
                    await trio.sleep_forever()

    async def sync(self, peer: ToyPeer) -> str | None:
        """One pass with one plain mailbox; returns why it failed, None if it did not."""
        async with self._locks[peer.url]:
            before = peer.state
            peer.state, peer.round_trips, peer.last_bytes = PeerState.SYNCING, 0, 0
            try:
                peer.state, peer.reason = await self._pass(peer)
            except ClientError as error:
                peer.state = PeerState.UNREACHABLE if error.status is None else PeerState.REFUSED
                peer.reason = str(error)
            except (RemoteProtocolError, UnicodeError) as error:
                peer.state, peer.reason = PeerState.REFUSED, f"it is no mailbox: {error}"
            except (StoreError, LedgerError) as error:
                peer.state, peer.reason = PeerState.BEHIND, str(error)
            if peer.state is PeerState.IN_SYNC:
                peer.failures = 0
                return None
            peer.failures += 1
            if before is not peer.state:
                log.info("plain mailbox %s: %s", peer.url, peer.reason)
            return peer.reason

    async def _pass(self, peer: ToyPeer) -> tuple[PeerState, str]:
        peer.mailbox_id = _endpoint_id(await self._exchange(peer, "GET", "/health"))
        if peer.mailbox_id == self._own_id:
            return PeerState.REFUSED, "this is our own address"
        if (why_not := self._why_not(peer.url, peer.mailbox_id)) is not None:
            return PeerState.REFUSED, why_not
        if peer.mailbox_id is not None and self._is_met(peer.mailbox_id):
            return PeerState.IN_SYNC, "it is met directly, which is better"
        now_s = int(self._mailbox.clock.now_s())
        await self._with_ledger(partial(self._ledger.forget_before, now_s - 2 * self._mailbox.retention.retention_s))
        view = await self._index.view(self._mailbox.alive_from_s())
        # Topics that we were told to keep are asked about even while we hold nothing of them.
        logs: dict[str, list[LogName]] = {topic: [] for topic in self._only_topics}
        for at, name in enumerate(view.names()):
            if not self._only_topics or name.topic in self._only_topics:
                logs.setdefault(name.topic, []).append(name)
            if at % TOY_PEER_NAMES_SLICE == 0:
                await trio.lowlevel.checkpoint()
        topics = sorted(logs)
        for start in range(0, len(topics), TOY_PEER_TOPICS_MAX):
            await self._sync_topics(peer, {topic: logs[topic] for topic in topics[start : start + TOY_PEER_TOPICS_MAX]})
        peer.last_sync_s = self._mailbox.clock.now_s()
        return PeerState.IN_SYNC, ""

    async def _sync_topics(self, peer: ToyPeer, logs: Mapping[str, Sequence[LogName]]) -> None:
        watermarks = await self._mailbox.store.watermarks([name for names in logs.values() for name in names])
        heights = {
            topic: {name.log: watermark for name in names if (watermark := watermarks[name]) is not None}
            for topic, names in logs.items()
        }
        answers = await self._get(peer, heights)
        for topic, names in logs.items():
            answer = answers.get(topic, TopicAnswer({}, {}))
            theirs = {LogName(topic, one) for one in answer.messages}
            for name in sorted({*names, *theirs}):
                await self._sync_log(peer, name, watermarks.get(name), answer)

    async def _sync_log(self, peer: ToyPeer, name: LogName, watermark: int | None, answer: TopicAnswer) -> None:
        alive_from_s = self._mailbox.alive_from_s()
        above = 0 if watermark is None else watermark + 1
        theirs = {seq: blob for seq, blob in answer.messages.get(name.log, {}).items() if seq >= above}
        missing = answer.missing.get(name.log, ())
        first = min([above, *missing])
        held = await self._mailbox.store.items(name, first, SEQ_MAX) if first <= SEQ_MAX else ()
        await self._take(peer, name, theirs, held)
        asked_for = set(missing)
        lacking = [
            item
            for item in held
            if item.first_stored_s >= alive_from_s
            and (item.seq in asked_for or (item.seq >= above and item.seq not in theirs))
        ]
        await self._give(peer, name, lacking)

    async def _take(self, peer: ToyPeer, name: LogName, theirs: Mapping[int, bytes], held: Sequence[Item]) -> None:
        have = {(item.seq, item.digest) for item in held}
        handle = handle_of(name)
        offered = {Traded(handle, seq, digest_of(blob)): blob for seq, blob in theirs.items()}
        wanted = [traded for traded in offered if (traded.seq, traded.digest) not in have]
        known = await self._with_ledger(partial(self._ledger.peers_of, wanted))
        wanted = [traded for traded in wanted if traded not in known]
        if not wanted:
            return
        stamp_s = self._mailbox.retention.stamp(self._mailbox.clock.now_s())
        await self._note(peer, wanted)  # before they are stored: after a crash one is rather not taken than taken twice
        result = await self._mailbox.take(
            [Arrival(name, traded.seq, offered[traded], traded.digest, stamp_s) for traded in wanted], origin=peer.url
        )
        peer.received += result.stored

    async def _give(self, peer: ToyPeer, name: LogName, lacking: Sequence[Item]) -> None:
        handle = handle_of(name)
        by_key = {Traded(handle, item.seq, item.digest): item for item in lacking}
        known = await self._with_ledger(partial(self._ledger.peers_of, list(by_key)))
        due = [t for t in by_key if peer.url not in known.get(t, ()) and t not in peer.refused]
        for batch in _batches(due, by_key):
            await self._give_batch(peer, name, batch)

    async def _give_batch(self, peer: ToyPeer, name: LogName, batch: Sequence[Traded]) -> None:
        """In smaller parts if it is too much for the other side: what stands before it may take less than it."""
        blobs = await self._mailbox.store.blobs(name, [(traded.seq, traded.digest) for traded in batch])
        messages = [(name, t.seq, blob) for t, blob in zip(batch, blobs, strict=True) if blob is not None]
        if not messages:
            return
        try:
            await self._exchange(peer, "POST", self._path(peer, "store"), encode_store(peer.family, messages))
        except ClientError as error:
            if error.status != 413:
                raise
            if len(batch) == 1:
                if len(peer.refused) >= TOY_PEER_REFUSED_MAX:
                    peer.refused.clear()
                peer.refused.update(batch)
                return
            half = len(batch) // 2
            await self._give_batch(peer, name, batch[:half])
            await self._give_batch(peer, name, batch[half:])
            return
        peer.sent += len(messages)
        await self._note(peer, batch)

    async def _note(self, peer: ToyPeer, traded: Sequence[Traded]) -> None:
        now_s = int(self._mailbox.clock.now_s())
        await self._with_ledger(partial(self._ledger.note, peer.url, traded, now_s=now_s))

    async def _get(self, peer: ToyPeer, heights: Mapping[str, Mapping[str, int]]) -> Mapping[str, TopicAnswer]:
        body = encode_get(heights)
        try:
            answer = await self._exchange(peer, "POST", self._path(peer, "get"), body)
        except ClientError as error:
            if error.status not in (404, 405):
                raise
            # An older generation calls them blobs.
            peer.family = Family.BLOBS if peer.family is Family.BLIPS else Family.BLIPS
            answer = await self._exchange(peer, "POST", self._path(peer, "get"), body)
        return await trio.to_thread.run_sync(decode_get_answer, answer, peer.family)

    def _path(self, peer: ToyPeer, what: str) -> str:
        return f"/{peer.family.value}/{what}"

    async def _exchange(self, peer: ToyPeer, method: str, path: str, body: bytes = b"") -> bytes:
        call = partial(
            exchange,
            peer.url,
            method,
            path,
            body,
            timeout_s=TOY_PEER_TIMEOUT_S,
            answer_bytes_max=TOY_PEER_ANSWER_BYTES_MAX,
        )
        with trio.move_on_after(TOY_PEER_TIMEOUT_S * 6):
            answer = await trio.to_thread.run_sync(call, abandon_on_cancel=True)
            peer.round_trips += 1
            peer.bytes_in += len(answer)
            peer.bytes_out += len(body)
            peer.last_bytes += len(answer) + len(body)
            return answer
        raise ClientError(f"{peer.url} was too slow")

    async def _with_ledger(self, action: Callable[[], _T]) -> _T:
        async with self._ledger_lock:
            return await trio.to_thread.run_sync(action)


def _batches(due: Sequence[Traded], items: Mapping[Traded, Item]) -> Iterator[list[Traded]]:
    """In requests that even the oldest generation takes; never two variants of one seq in one request."""
    batch: list[Traded] = []
    size = 0
    for traded in due:
        bytes_ = items[traded].size
        if batch and (size + bytes_ > TOY_PEER_STORE_BYTES or batch[-1].seq == traded.seq):
            yield batch
            batch, size = [], 0
        batch.append(traded)
        size += bytes_
    if batch:
        yield batch


def _endpoint_id(health: bytes) -> str | None:
    try:
        answer = json.loads(health)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("bad-answer", "its /health is not JSON") from None
    found = answer.get("endpoint_id") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else None
