"""The SQLite store for whoever only reads it: also beside a running mailbox, which notices nothing."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from node.store import _readers
from node.store._health import HealthWatch
from node.store._messages import messages
from node.store._reader_pool import Readers
from node.store.api import ScanPage
from protocols.model import LogName
from protocols.sync.effects import Page, Span

__all__ = ["SqliteReading", "SqliteReads"]


class SqliteReads:
    """What a store in SQLite reads for those who take copies of it, whether it is written meanwhile or not."""

    _readers: Readers
    _message_bytes = 0.0
    """How large they were in the last page."""

    async def scan(self) -> AsyncGenerator[ScanPage, None]:
        """See `Store.scan`."""
        after: tuple[int, int, bytes] | None = None
        while True:
            page, after = await self._readers.run(functools.partial(_readers.scan_page, after=after))
            if page.names:
                yield page
            if after is None:
                return

    async def messages(
        self, wanted: Sequence[Span], *, alive_from_s: int, page_bytes: int, after: tuple[int, int] | None = None
    ) -> Page:
        """See `Store.messages`."""
        likely_bytes = self._message_bytes
        page = await self._readers.run(
            lambda connection: messages(connection, wanted, alive_from_s, page_bytes, after, likely_bytes)
        )
        self._message_bytes = len(page.data) / len(page) if len(page) else likely_bytes
        return page

    async def watermarks(self, names: Sequence[LogName]) -> Mapping[LogName, int | None]:
        """See `Store.watermarks`."""
        return await self._readers.run_short(lambda connection: _readers.watermarks(connection, names))


class SqliteReading(SqliteReads):
    """The reading methods of `Store` that need no writer. `async with SqliteReading.open(path) as source`."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[SqliteReading]:
        """Opens a store that exists; what is wrong with it is raised by whoever reads, as StoreUnavailable."""
        readers = Readers(path, HealthWatch())
        try:
            yield cls(readers)
        finally:
            await readers.close()
