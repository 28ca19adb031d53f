"""What the application gets: messages of others, each once, in the order of its log."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from node.client.desk import Desk
from node.client.store import state_of
from protocols.client.book import Book, Skip
from protocols.limits.client import CLIENT_DELIVERY_PAGE
from protocols.model import LogName

__all__ = ["Deliveries", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `skipped` counts those before it in its log that nobody has any more or had in time; `is_late` is
    one of these that turned up after all."""

    topic: str
    log: str
    seq: int
    content: bytes
    skipped: int = 0
    is_late: bool = False


class Deliveries(AsyncIterator[Message]):
    """Asks the book what is next. Asking for a message says that the one before was taken."""

    def __init__(
        self, desk: Desk, book: Book, wait: Callable[[], Awaitable[None]], on_idle: Callable[[], None]
    ) -> None:
        """`wait` waits for news, `on_idle` is called when the last message was taken."""
        self._desk = desk
        self._book = book
        self._wait = wait
        self._on_idle = on_idle
        self._page: deque[Message] = deque()
        self._handed_out: Message | None = None
        self._skipped: dict[LogName, int] = {}

    def __aiter__(self) -> Deliveries:
        return self

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be taken."""
        return self._handed_out is None and not self._page and self._book.pick(1) is None

    async def __anext__(self) -> Message:
        """Waits for the next message. Cancelled, it loses nothing."""
        await self.taken()
        while not self._page:
            if not await self._turn_page():
                await self._wait()
        message = self._page.popleft()
        self._handed_out = message
        return message

    async def taken(self) -> None:
        """The application is done with the last message that it got."""
        message = self._handed_out
        if message is None:
            return
        name = LogName(message.topic, message.log)
        self._book.delivered(name, message.seq, is_late=message.is_late)
        self._handed_out = None
        await self._note(name)
        if self.is_idle:
            self._on_idle()

    async def _turn_page(self) -> bool:
        """Reads what is next; False if there is nothing."""
        picked = self._book.pick(CLIENT_DELIVERY_PAGE)
        if picked is None:
            return False
        if isinstance(picked, Skip):
            self._book.skipped(picked)
            self._skipped[picked.name] = self._skipped.get(picked.name, 0) + picked.last - picked.first + 1
            await self._note(picked.name)
            return True
        keys = [(picked.name, seq) for seq in range(picked.first, picked.last + 1)]
        blobs = await self._desk.do(partial(self._desk.store.blobs, keys))
        for (name, seq), blob in zip(keys, blobs, strict=True):
            assert blob is not None  # what was not taken is not forgotten
            skipped = 0 if picked.is_late else self._skipped.pop(name, 0)
            self._page.append(Message(name.topic, name.log, seq, blob, skipped, picked.is_late))
        return True

    async def _note(self, name: LogName) -> None:
        states = {name: state_of(self._book.record(name))}
        await self._desk.do(partial(self._desk.store.note, states))
