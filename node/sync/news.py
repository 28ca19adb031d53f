"""Tells other mailboxes which logs have news, and hears it from them.

A hint carries a log's handle and the beginning of its state, so whoever holds the same already has nothing to do. Small
messages come with it where most of those who hear it lack them: they need not be asked for, and nobody relies on it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import repeat

import trio

from node.mailbox import Mailbox
from node.store.api import Change, StoreError
from node.sync.index import LogIndex
from node.sync.peers import EngineCounters, PeerTable
from node.transport.api import Transport
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import HINT_COALESCE_S, HINT_ECHOES, HINT_HEARD_MAX, HINT_LOGS_PENDING_MAX
from protocols.limits.sync import HINT_CONTENT_BYTES_MAX, HINT_MESSAGES_MAX
from protocols.model import LogName, MailboxId, handle_of
from protocols.sync.deliveries import Deliveries, Stretch
from protocols.sync.hints import (
    SHORT_ID_BYTES,
    STATE_PREFIX_BYTES,
    Hint,
    HintedLog,
    HintedMessage,
    content_bytes,
    decode_hint,
    encode_hints,
)
from protocols.sync.interest import Interest

__all__ = ["News"]

log = logging.getLogger(__name__)


class News:
    """Publishes what changes here, a few times a second at the most, and hands on what others publish."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        index: LogIndex,
        transport: Transport,
        channel: str,
        heard: Callable[[MailboxId, Hint], None],
        lied: Callable[[MailboxId, RemoteProtocolError], None],
        interest: Interest | None,
        hears: Callable[[MailboxId], bool],
        peers: PeerTable,
        chance: Callable[[], float],
        counters: EngineCounters,
    ) -> None:
        """`hears` says which mailboxes hear of news, `chance` draws from 0 to 1."""
        self._mailbox = mailbox
        self._index = index
        self._transport = transport
        self._channel = channel
        self._heard = heard
        self._lied = lied
        self._interest = interest
        self._hears = hears
        self._peers = peers
        self._chance = chance
        self._counters = counters
        self._told: OrderedDict[bytes, tuple[bytes, frozenset[bytes]]] = OrderedDict()
        """Handle -> the state that was heard announced last (its beginning), and which of those who were near then know
        it from those who announced it."""
        self._near_of: frozenset[MailboxId] = frozenset()
        self._near: frozenset[bytes] = frozenset()
        """The short ids of those who are near, as of when they were `_near_of`."""
        self._pending: set[LogName] = set()
        self._overflow = False
        self._small = _Small()
        self._wake = trio.Event()
        mailbox.store.subscribe(self._on_change)
        transport.listen(channel, self._on_announcement)

    def _on_change(self, change: Change) -> None:
        if change.origin is not None and self._transport.connected() <= {change.origin}:
            return  # nobody else could hear it
        # What expired is gone everywhere at the same hour: only what came is news.
        for stretch in Deliveries.of(change.stored).stretches:
            self._pending.add(stretch.name)
            self._small.add(stretch)
        self._pending.update([name for name, _ in change.merged])
        if len(self._pending) > HINT_LOGS_PENDING_MAX:
            self._pending.clear()
            self._small = _Small()
            self._overflow = True
        if self._pending or self._overflow:
            self._wake.set()

    def _on_announcement(self, publisher: MailboxId, data: bytes) -> None:
        self._peers.count(publisher, bytes_in=len(data))
        try:
            hint = decode_hint(data)
        except RemoteProtocolError as error:
            log.debug("a hint from %s was not understood: %s", publisher.short, error)
            self._lied(publisher, error)
        else:
            self._note(publisher, hint)
            self._heard(publisher, hint)

    @property
    def logs_waiting(self) -> int:
        """Of how many logs the news has yet to be announced, or is remembered to be more than comes with a hint."""
        return max(len(self._pending), len(self._small))

    @property
    def states_remembered(self) -> int:
        """Of how many logs it is remembered who announced their state."""
        return len(self._told)

    @property
    def audience_remembered(self) -> int:
        """How many mailboxes are remembered as told, of the log for which they are most."""
        return max((len(told) for _, told in self._told.values()), default=0)

    def _note(self, publisher: MailboxId, hint: Hint) -> None:
        """Remembers who needs not be told by us. Of those whom a hint names only they count who are near: a liar could
        name others for ever."""
        connected = self._transport.connected()
        if connected is not self._near_of:
            self._near_of, self._near = connected, frozenset(map(_short, connected))
        near = self._near
        now_told = (hint.audience & near) | {_short(publisher)}
        for handle, log in hint.logs.items():
            state, told = self._told.pop(handle, (log.state, now_told))
            is_more = state == log.state and not told <= now_told
            self._told[handle] = (log.state, now_told | (told & near) if is_more else now_told)
        while len(self._told) > HINT_HEARD_MAX:
            self._told.popitem(last=False)

    def _told_of(self, handle: bytes, state: bytes) -> frozenset[bytes]:
        """Who has heard of this state from somebody else."""
        prefix, told = self._told.get(handle, (b"", frozenset()))
        return told if prefix == state[:STATE_PREFIX_BYTES] else frozenset()

    def _is_silent(self, told: frozenset[bytes], near: frozenset[bytes]) -> bool:
        """Whether everybody near has heard of something, and it is not our turn to repeat it."""
        return near <= told and self._chance() * len(near) > HINT_ECHOES

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await self._wake.wait()
            # What comes in a burst goes out as one hint. Those to whom a phone gave the same do not speak at once: one
            # does, and the others need not.
            await trio.sleep(HINT_COALESCE_S * (0.5 + self._chance()))
            self._wake = trio.Event()
            names, self._pending = self._pending, set()
            small, self._small = self._small, _Small()
            overflow, self._overflow = self._overflow, False
            if not any(map(self._hears, self._transport.connected())):
                continue  # whoever connects later is synced with anyway
            try:
                await self._publish(names, small, overflow)
            except StoreError as error:
                log.warning("news could not be announced: %s", error)

    async def _publish(self, names: set[LogName], small: _Small, overflow: bool) -> None:
        view = await self._index.view(self._mailbox.alive_from_s())
        logs: dict[bytes, HintedLog] = {}
        messages: list[HintedMessage] = []
        audience = [peer for peer in self._transport.connected() if self._hears(peer)]
        near = frozenset(map(_short, audience))
        for name in sorted(names):
            handle = handle_of(name)
            state = view.state(handle)
            if state is None or (self._interest is not None and not self._interest.covers(name.topic)):
                continue
            told = self._told_of(handle, state)
            if self._is_silent(told, near):
                continue
            logs[handle] = HintedLog.of(name.topic, state)
            if (ours := small.of(name)) and not overflow:
                lacking = sum(_short(peer) not in told and self._peers.keeps(peer, name.topic) for peer in audience)
                if 2 * lacking >= len(audience):
                    messages += ours
                    self._counters.synced_out += lacking * len(ours)
        clock_s = int(self._mailbox.clock.now_s()) if messages else 0
        near_keys = [peer.public_key for peer in audience]
        for data in encode_hints(logs, overflow=overflow, audience=near_keys, clock_s=clock_s, messages=messages):
            await self._transport.publish(self._channel, data)
            for peer in audience:
                self._peers.count(peer, bytes_out=len(data))


class _Small:
    """What is small of what has come since the last hint, and comes with the next one."""

    __slots__ = ("_bytes", "_count", "_logs")

    def __init__(self) -> None:
        self._logs: dict[LogName, list[HintedMessage] | None] = {}
        """None for a log of which more has come than fits: it takes a session anyway."""
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, stretch: Stretch) -> None:
        """Takes these messages, if there is room for all of them."""
        name, size, seqs, blobs, _, first_stored_s = stretch
        kept = self._logs.get(name, [])
        size += len(seqs) * content_bytes(name, b"")
        if kept is None or self._count + len(seqs) > HINT_MESSAGES_MAX or self._bytes + size > HINT_CONTENT_BYTES_MAX:
            # What had room until now stays out as well, and leaves it to other logs.
            self._count -= len(kept or ())
            self._bytes -= sum(content_bytes(name, one.blob) for one in kept or ())
            self._logs[name] = None
            return
        self._count += len(seqs)
        self._bytes += size
        kept += map(HintedMessage, repeat(name), seqs, first_stored_s, blobs)
        self._logs[name] = kept

    def of(self, name: LogName) -> Sequence[HintedMessage]:
        """All that has come of a log, or nothing."""
        return self._logs.get(name) or ()


def _short(mailbox_id: MailboxId) -> bytes:
    return mailbox_id.public_key[:SHORT_ID_BYTES]
