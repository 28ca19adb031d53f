"""The store's interface: what every implementation promises, in the words of the data model.

A message is kept under (topic, log, seq, digest). Different blobs of one key (variants) are all kept, up to
`VARIANTS_MAX`: genuine ones first (see `protocols.operations`), then the first by (first stored, digest), so that every
mailbox keeps the same ones. The first of them is the one served. The same blob again changes nothing but `first
stored`, which merges by minimum.

All methods are called from the trio thread. Nothing here knows the time: callers say what is alive.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from protocols.model import Item, LogName
from protocols.sync.effects import Delivery, Page, Span

__all__ = [
    "Admission",
    "Arrival",
    "Census",
    "Change",
    "Evictions",
    "Health",
    "ItemColumns",
    "ItemSource",
    "LogEntries",
    "Position",
    "PutResult",
    "ReadPage",
    "Room",
    "ScanPage",
    "Statistics",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StoredItem",
    "TopicShare",
    "Trouble",
    "VerifyReport",
]

log = logging.getLogger(__name__)


class Trouble(StrEnum):
    """What is wrong with a store's disk."""

    NONE = "ok"
    FULL = "full"
    READ_ONLY = "read-only"
    FAILING = "failing"
    DAMAGED = "damaged"
    MISSING = "missing"


class Health(NamedTuple):
    """How the store's disk is, in words for a user: `reason` and `remedy` are empty if all is well."""

    trouble: Trouble
    reason: str
    remedy: str


class StoreError(Exception):
    """The store could not do it. The message is fit for a user; `trouble` says what it tells about the disk."""

    def __init__(self, text: str, trouble: Trouble = Trouble.NONE) -> None:
        super().__init__(text, trouble)
        self.trouble = trouble

    def __str__(self) -> str:
        return str(self.args[0])


class StoreFull(StoreError):
    """No room: the storage limit or the disk is reached. Nothing of the request was stored; reads still work.

    `need_bytes` is by how much the storage limit would be exceeded; 0 if that is not the reason.
    """

    def __init__(self, text: str, need_bytes: int = 0, trouble: Trouble = Trouble.NONE) -> None:
        super().__init__(text, trouble)
        self.args = (text, need_bytes, trouble)
        self.need_bytes = need_bytes


class StoreUnavailable(StoreError):
    """The disk failed or the store is closed. Nothing of the request was stored; trying later may work."""


Arrival: TypeAlias = Delivery
"""A message on its way into the store. `digest` is that of `blob` (the caller has computed or verified it)."""


class StoredItem(NamedTuple):
    """A message that the store holds or held, without its blob."""

    name: LogName
    item: Item


class Change(NamedTuple):
    """What one committed transaction changed, for the index and the event stream.

    `stored` are new messages as they are kept, `merged` known ones whose first stored became earlier (the item has the
    new one), `removed` those that expired or were displaced by earlier variants. `origin` is whatever the caller passed
    to `put`. `is_eviction`: they were removed to make room, before their time.
    """

    stored: Sequence[Arrival] = ()
    merged: Sequence[StoredItem] = ()
    removed: Sequence[StoredItem] = ()
    origin: object = None
    is_eviction: bool = False


class PutResult(NamedTuple):
    """What became of a put: counts, and the watermark of every log in it (None: seq 0 never held).

    `known` were held already (including those whose first stored merged), `dropped` fell to the variant bound, or had
    been let go to make room.
    """

    stored: int
    known: int
    dropped: int
    watermarks: Mapping[LogName, int | None]


class Position(NamedTuple):
    """Where a read goes on: the first (topic, log, seq) that has not been returned."""

    topic: str
    log: str
    seq: int


class LogEntries(NamedTuple):
    """A part of one log in an answer: (seq, blob) ascending, one served variant for each seq.

    `missing` stands in a log's first part only, ascending, and is empty for logs that the query did not list.
    """

    name: LogName
    messages: Sequence[tuple[int, bytes]]
    missing: Sequence[int] = ()


class ReadPage(NamedTuple):
    """One page of an answer, in (topic, log, seq) order; `after` is None when it is the last. A log's entry is absent
    if it has neither messages nor missing ones in this page."""

    entries: Sequence[LogEntries]
    after: Position | None


class ItemColumns(NamedTuple):
    """Items of several logs (or spans of them), column by column: the i-th has the next `counts[i]`, ascending by (seq,
    digest). `digests` are DIGEST_BYTES each."""

    counts: npt.NDArray[np.int64]
    seqs: npt.NDArray[np.uint64]
    digests: bytes
    first_stored_s: npt.NDArray[np.int64]


class ScanPage(NamedTuple):
    """A part of a scan: items of the logs `names`."""

    names: Sequence[LogName]
    items: ItemColumns


class ItemSource(Protocol):
    """What the index needs of a `Store`, and nothing more: to be told of changes, and to read items without blobs."""

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """See `Store.subscribe`."""
        ...

    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        """See `Store.columns_of`."""
        ...

    def scan(self) -> AsyncGenerator[ScanPage, None]:
        """See `Store.scan`."""
        ...


@dataclass(frozen=True, slots=True)
class Statistics:
    """Totals over everything stored, expired or not. `messages` counts variants; `bytes` is the sum of blob sizes.

    `logs` and `topics` count those with at least one message. `used_bytes` is what counts against the storage limit.
    """

    messages: int
    bytes: int
    logs: int
    topics: int
    storage_limit_bytes: int | None
    used_bytes: int


@dataclass(slots=True)
class Evictions:
    """What was let go to make room since the store was opened. `young` of them had been acknowledged a few minutes
    before, and gave way to somebody who had less."""

    messages: int = 0
    bytes: int = 0
    young: int = 0


class Admission(NamedTuple):
    """Of spans that another mailbox has: those that are `wanted` here. `evicted` were let go to make room and are not
    wanted again, `refused` would find no room now."""

    wanted: list[Span]
    evicted: list[Span]
    refused: list[Span]


class Room(NamedTuple):
    """What is left for messages within one bound: the storage limit (`is_limit`), or the disk. Negative: nothing."""

    free_bytes: int
    of_bytes: int
    is_limit: bool = False


class TopicShare(NamedTuple):
    """How much of what is stored belongs to one topic; `bytes` of blobs."""

    topic: str
    messages: int
    bytes: int


class Census(NamedTuple):
    """`oldest_s` is the smallest first stored of all, None where nothing is held. `topics` are the largest by bytes."""

    oldest_s: int | None
    topics: Sequence[TopicShare]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of the whole store found. `problems` are sentences for a user; empty means sound."""

    messages: int
    bytes: int
    problems: Sequence[str] = field(default_factory=tuple)


class Store(abc.ABC):
    """A mailbox's messages. Implementations are opened and closed by their own async context managers."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Change], None]] = []

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """`listener` is called in the trio thread after every commit that changed something, in commit order,
        whether or not whoever asked for it is still waiting. It must not raise or block."""
        self._listeners.append(listener)

    def _announce(self, change: Change) -> None:
        if change.stored or change.merged or change.removed:
            for listener in self._listeners:
                try:
                    listener(change)
                except Exception:  # the commit has happened: whoever waits for it, and the other listeners, go on
                    log.exception("a listener of the store failed")

    @abc.abstractmethod
    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        """Stores all of `arrivals` in one transaction or none, and returns once it is durable.

        `origin` is the mailbox that brought them, or None; then `client` says whose they are, for the account of who
        fills the store. If the storage limit is reached, messages of whoever has most give way, and that is recorded.
        What has given way, to this request or earlier, is dropped if a mailbox brings it, and stored if a client does.

        If the caller is cancelled while waiting, the transaction may still be committed (and announced).
        Raises StoreFull or StoreUnavailable; then nothing was stored.
        """

    @abc.abstractmethod
    async def admit(self, spans: Sequence[Span], *, origin: object, is_full: bool, is_news: bool) -> Admission:
        """What of the spans that the mailbox `origin` has is wanted. While the storage limit is reached (`is_full`)
        nothing is that would push out what `origin` brought itself, except news (`is_news`). Raises StoreUnavailable.
        """

    @property
    def health(self) -> Health:
        """How its disk is."""
        return Health(Trouble.NONE, "", "")

    @property
    @abc.abstractmethod
    def evictions(self) -> Evictions:
        """What was let go so far."""

    @abc.abstractmethod
    async def merge(self, items: Sequence[StoredItem], *, origin: object = None) -> None:
        """Lowers `first stored` of messages that are held (same log, seq and digest) to that of `items`, where it is
        lower; ignores the others. Durable on return. Raises StoreUnavailable."""

    @abc.abstractmethod
    async def read(
        self,
        query: Mapping[str, Mapping[str, int]],
        *,
        alive_from_s: int,
        missing_max: int,
        after: Position | None = None,
        page_bytes: int,
    ) -> ReadPage:
        """Answers a phone: for every topic of `query` all its logs; of logs listed with a height only seqs above it.

        Only messages with first stored >= `alive_from_s` are returned, and of variants the one that comes first
        (genuine before others, then the smallest (first stored, digest)). `missing` of a listed log holds the seqs in
        (watermark, height], or 0..height without a watermark, that are not held alive; at most `missing_max` in the
        whole page, lowest first, but at least one for each log that has any: a client takes a listed log without
        `missing` for complete. Listed logs that are not known have `missing` too. With a `missing_max` of 0 nothing is
        looked up.
        A page is one snapshot, holds at least one message if there is one, and stops after `page_bytes` of blobs.
        Cost is proportional to what is returned, never to the topic. Raises StoreUnavailable.
        """

    @abc.abstractmethod
    async def items(self, name: LogName, seq_from: int, seq_to: int) -> Sequence[Item]:
        """All variants of a log with seq_from <= seq <= seq_to, ascending by (seq, digest). Raises StoreUnavailable."""

    async def items_of(self, spans: Sequence[Span]) -> Sequence[Sequence[Item]]:
        """What `items` returns for each span, for the price of one request where that is possible; each is true by
        itself, not all at one moment. Raises StoreUnavailable."""
        return [await self.items(*span) for span in spans]

    @abc.abstractmethod
    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        """What `items` returns for each (log, seq_from, seq_to), but for items with first stored < `alive_from_s`, all
        in one request. Each span is true by itself, not all at one moment. Raises StoreUnavailable."""

    @abc.abstractmethod
    async def blobs(self, name: LogName, wanted: Sequence[tuple[int, bytes]]) -> Sequence[bytes | None]:
        """The blobs of (seq, digest) pairs, None where one is not held. Raises StoreUnavailable."""

    @abc.abstractmethod
    async def messages(
        self, wanted: Sequence[Span], *, alive_from_s: int, page_bytes: int, after: tuple[int, int] | None = None
    ) -> Page:
        """All variants with first stored >= `alive_from_s` that are held of the spans `wanted`, with their blobs.

        A page is one snapshot and stops after `page_bytes` of blobs or MESSAGES_PAGE_MAX messages, but all variants of
        a seq stand in the same page, and it holds one seq at least if there is any. The next page is had with the same
        `wanted` and this one's `after`. Spans may overlap; of an unknown log or an empty span there is nothing. Costs
        what is returned, however many spans it comes from. Raises StoreUnavailable.
        """

    @abc.abstractmethod
    async def watermarks(self, names: Sequence[LogName]) -> Mapping[LogName, int | None]:
        """The watermark of each log; None where seq 0 was never held or the log is unknown. Raises StoreUnavailable."""

    @abc.abstractmethod
    async def adopt_watermarks(self, watermarks: Mapping[LogName, int]) -> None:
        """Takes over a peer's watermarks, so that what expired before we met the log is not asked for.

        A watermark only ever rises, and only up to what makes sense here: adopted is min(`n`, lowest held seq above
        our own watermark, minus one), and then it moves on over the seqs held. A log of which nothing above our
        watermark is held stays as it is, so that a liar can't talk us out of asking for messages.
        Raises StoreUnavailable.
        """

    @abc.abstractmethod
    def scan(self) -> AsyncGenerator[ScanPage, None]:
        """Everything held, log by log in no particular order of logs (for the index at start). A log that does not fit
        into a page goes on at the beginning of the next. Each page is of one moment; only a log that is emptied and
        filled again meanwhile may come twice. Never reads blobs. Raises StoreUnavailable."""

    @abc.abstractmethod
    async def expire(self, alive_from_s: int, *, messages_max: int) -> int:
        """Removes up to `messages_max` messages with first stored < `alive_from_s`, oldest first; returns how many.
        Watermarks stay. Raises StoreUnavailable."""

    @abc.abstractmethod
    def statistics(self) -> Statistics:
        """The totals as of the last commit; costs nothing."""

    @abc.abstractmethod
    async def census(self, *, topics_max: int) -> Census:
        """Counts everything by topic and returns the `topics_max` largest. Costs a look at every key, in a thread.
        Raises StoreUnavailable."""

    @abc.abstractmethod
    async def limit_storage(self, limit_bytes: int | None) -> None:
        """Another storage limit from now on. What is above a lower one is let go only when something new comes.
        Raises StoreUnavailable."""

    @abc.abstractmethod
    def rooms(self) -> Sequence[Room]:
        """What is left within each bound that there is; costs a look at the file system at the most."""

    @abc.abstractmethod
    async def verify(self, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        """Reads everything and checks it: structure, digests, watermarks, totals. `progress` gets the number of
        messages checked so far. Raises StoreUnavailable."""
