"""The transport's interface: authenticated streams between mailboxes, and a channel for small announcements.

Whoever is on the other end of a stream or published an announcement is known by its MailboxId, proven by its key.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from protocols.addresses import PeerAddress
from protocols.model import MailboxId

__all__ = ["PeerUnreachable", "Stream", "StreamBroken", "StreamHandler", "Transport", "TransportError"]

StreamHandler: TypeAlias = "Callable[[Stream], Awaitable[None]]"


class TransportError(Exception):
    """Base of what a transport raises; the message is fit for a user."""


class PeerUnreachable(TransportError):
    """No address of the peer could be reached, or it refused us or the protocol."""


class StreamBroken(TransportError):
    """The stream ended in the middle: reset, connection lost, or closed under us."""


class Stream(abc.ABC):
    """A reliable, ordered byte stream to one mailbox. One task may send while another receives."""

    peer: MailboxId

    @abc.abstractmethod
    async def send_all(self, data: bytes) -> None:
        """Sends everything; waits while the other side is slow. Raises StreamBroken. If it is cancelled, the
        stream (and perhaps the connection) is unusable: call `abort`."""

    @abc.abstractmethod
    async def receive_some(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes, or b"" at the end of the stream. Raises StreamBroken."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Ends our side in good order; never raises, takes no more than a few seconds."""

    @abc.abstractmethod
    async def abort(self) -> None:
        """Throws the stream away in both directions; never raises, does not wait for the other side."""


class Transport(abc.ABC):
    """One mailbox's connection to all others."""

    local: MailboxId

    hears: Callable[[MailboxId], bool] = staticmethod(lambda _mailbox_id: True)
    """Whether announcements go to a mailbox and are taken from it: asked for each of them. Set before `run`."""

    @abc.abstractmethod
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; `started` once it listens. What goes wrong inside is logged and mended by
        restarting with backoff; it returns or raises only when cancelled, or on OSError if
        it can't listen at the very start (the address is taken: the message says what to do)."""

    @abc.abstractmethod
    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Handles incoming streams of `protocol` (e.g. `/mailboxd/sync/1`). Before `run`. A handler's exception ends
        its stream and nothing else. The stream is closed when the handler returns."""

    @abc.abstractmethod
    def listen(self, channel: str, handler: Callable[[MailboxId, bytes], None]) -> None:
        """Subscribes to announcements on `channel`. Before `run`. The handler gets the publisher's proven id and must
        not block; what it raises is logged. Our own announcements are not handed to us."""

    @abc.abstractmethod
    def on_connection(self, handler: Callable[[MailboxId, bool], None]) -> None:
        """`handler(peer, True)` when a peer's first connection is up, `(peer, False)` when its last is gone. It must
        not block."""

    @abc.abstractmethod
    def addresses(self) -> Sequence[PeerAddress]:
        """Where we listen, loopback first, wildcard binds spelled out per interface. Empty while not running."""

    @abc.abstractmethod
    def connected(self) -> frozenset[MailboxId]:
        """The peers with a connection now."""

    def hosts_of(self, peer: MailboxId) -> frozenset[str]:
        """The IP addresses at the other ends of the connections with a peer; none where there are no such things."""
        return frozenset()

    @abc.abstractmethod
    async def connect(self, addresses: Sequence[PeerAddress]) -> None:
        """Makes sure there is a connection to the one mailbox that all `addresses` name, trying them as needed.
        Raises PeerUnreachable. A peer that failed a moment ago may be tried again at once."""

    @abc.abstractmethod
    async def open_stream(self, peer: MailboxId, protocol: str) -> Stream:
        """A new stream to a connected peer. Raises PeerUnreachable."""

    @abc.abstractmethod
    async def publish(self, channel: str, data: bytes) -> None:
        """Announces up to 16 KiB to all connected peers who listen on `channel` and whom we hear, and to nobody
        behind them. Best effort: it may arrive late, twice or never. Never raises."""

    @abc.abstractmethod
    async def disconnect(self, peer: MailboxId) -> None:
        """Closes all connections to `peer`. Never raises."""
