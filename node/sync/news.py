"""Tells other mailboxes which logs have news, and hears it from them: a hint, never a delivery.

A hint carries a log's handle and the beginning of its state, so whoever holds the same already has nothing to do.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import trio

from node.mailbox import Mailbox
from node.store.api import Change, StoreError
from node.sync.index import LogIndex
from node.transport.api import Transport
from protocols.errors import RemoteProtocolError
from protocols.limits.replication import HINT_COALESCE_S, HINT_ECHOES, HINT_HEARD_MAX, HINT_LOGS_PENDING_MAX
from protocols.model import LogName, MailboxId, handle_of
from protocols.sync.deliveries import Deliveries
from protocols.sync.hints import SHORT_ID_BYTES, STATE_PREFIX_BYTES, Hint, HintedLog, decode_hint, encode_hints
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
        chance: Callable[[], float],
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
        self._chance = chance
        self._told: OrderedDict[bytes, tuple[bytes, frozenset[bytes]]] = OrderedDict()
        """Handle -> the state that was heard announced last (its beginning), and which of those who were near then know
        it from those who announced it."""
        self._near_of: frozenset[MailboxId] = frozenset()
        self._near: frozenset[bytes] = frozenset()
        """The short ids of those who are near, as of when they were `_near_of`."""
        self._pending: set[LogName] = set()
        self._overflow = False
        self._wake = trio.Event()
        mailbox.store.subscribe(self._on_change)
        transport.listen(channel, self._on_announcement)

    def _on_change(self, change: Change) -> None:
        if change.origin is not None and self._transport.connected() <= {change.origin}:
            return  # nobody else could hear it
        # What expired is gone everywhere at the same hour: only what came is news.
        self._pending.update([stretch.name for stretch in Deliveries.of(change.stored).stretches])
        self._pending.update([name for name, _ in change.merged])
        if len(self._pending) > HINT_LOGS_PENDING_MAX:
            self._pending.clear()
            self._overflow = True
        if self._pending or self._overflow:
            self._wake.set()

    def _on_announcement(self, publisher: MailboxId, data: bytes) -> None:
        try:
            hint = decode_hint(data)
        except RemoteProtocolError as error:
            log.debug("a hint from %s was not understood: %s", publisher.short, error)
            self._lied(publisher, error)
        else:
            self._note(publisher, hint)
            self._heard(publisher, hint)

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

    def _is_told(self, handle: bytes, state: bytes, near: frozenset[bytes]) -> bool:
        """Whether everybody near has heard of this state from somebody else, and it is not our turn to repeat it."""
        prefix, audience = self._told.get(handle, (b"", frozenset()))
        if prefix != state[:STATE_PREFIX_BYTES] or not near <= audience:
            return False
        return self._chance() * len(near) > HINT_ECHOES

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await self._wake.wait()
            await trio.sleep(HINT_COALESCE_S)  # what comes in a burst goes out as one hint
            self._wake = trio.Event()
            names, self._pending = self._pending, set()
            overflow, self._overflow = self._overflow, False
            if not any(map(self._hears, self._transport.connected())):
                continue  # whoever connects later is synced with anyway
            try:
                await self._publish(names, overflow)
            except StoreError as error:
                log.warning("news could not be announced: %s", error)

    async def _publish(self, names: set[LogName], overflow: bool) -> None:
        view = await self._index.view(self._mailbox.alive_from_s())
        logs: dict[bytes, HintedLog] = {}
        audience = [peer.public_key for peer in self._transport.connected() if self._hears(peer)]
        near = frozenset(key[:SHORT_ID_BYTES] for key in audience)
        for name in sorted(names):
            handle = handle_of(name)
            state = view.state(handle)
            if state is None or (self._interest is not None and not self._interest.covers(name.topic)):
                continue
            if not self._is_told(handle, state, near):
                logs[handle] = HintedLog.of(name.topic, state)
        for data in encode_hints(logs, overflow=overflow, audience=audience):
            await self._transport.publish(self._channel, data)


def _short(mailbox_id: MailboxId) -> bytes:
    return mailbox_id.public_key[:SHORT_ID_BYTES]
