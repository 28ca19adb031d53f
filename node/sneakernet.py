"""Carrying messages by foot: writes what a mailbox has, writes what another one lacks, and takes what it is brought.

Everything is a stream of small pieces: memory holds a page of the store, a record of the file, and of whoever asks
what it has (see `WantTable`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from node.aside import aside
from node.identity import Identity
from node.mailbox import Mailbox
from node.store.api import Arrival, ScanPage, StoredItem
from protocols.limits.data import DIGEST_BYTES
from protocols.limits.sync import BUNDLE_RECORD_BYTES
from protocols.model import Item, LogName, MailboxId, Retention
from protocols.sneakernet.bundle import BundleHead, BundleWriter, read_logs
from protocols.sneakernet.seal import Origin, Record
from protocols.sneakernet.want import TAG_BYTES, Held, WantHead, WantTable, WantWriter, tag_key, tags_of
from protocols.sync.effects import Page, Span
from protocols.sync.interest import Interest

__all__ = ["Exported", "Source", "Taken", "Terms", "Wanted", "take_record", "write_bundle", "write_want"]

Write = Callable[[bytes], object]


class Source(Protocol):
    """What is needed of a `Store`, and nothing more: reading."""

    def scan(self) -> AsyncGenerator[ScanPage, None]:
        """See `Store.scan`."""
        ...

    async def messages(
        self, wanted: Sequence[Span], *, alive_from_s: int, page_bytes: int, after: tuple[int, int] | None = None
    ) -> Page:
        """See `Store.messages`."""
        ...

    async def watermarks(self, names: Sequence[LogName]) -> Mapping[LogName, int | None]:
        """See `Store.watermarks`."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Who writes a file, when (Unix seconds), and by which rules it keeps messages."""

    identity: Identity
    network: str
    software: str
    retention: Retention
    interest: Interest | None
    now_s: float

    @property
    def alive_from_s(self) -> int:
        return self.retention.alive_from(self.now_s)

    def origin(self, fields: list[object]) -> Origin:
        return Origin(self.identity.mailbox_id, int(self.now_s), self.network, self.software, fields)


class Wanted(NamedTuple):
    """What another mailbox has, as its file tells."""

    maker: MailboxId
    head: WantHead
    table: WantTable


@dataclass(slots=True)
class Exported:
    """What has been written so far. `examined` are the messages that were looked at."""

    examined: int = 0
    messages: int = 0
    dates: int = 0
    bytes: int = 0


class Taken(NamedTuple):
    """What became of a record's messages. `known` were held already, `expired` are too old to be taken, `dropped` are
    more variants than are kept. `refused` find no room, were let go to make some, or lack a signature that is asked
    for. `dates` came without a message."""

    stored: int = 0
    known: int = 0
    expired: int = 0
    dropped: int = 0
    refused: int = 0
    dates: int = 0

    def plus(self, other: Taken) -> Taken:
        """Both together."""
        return Taken(*(one + more for one, more in zip(self, other, strict=True)))


class _Key(NamedTuple):
    """One message of a page, without its blob."""

    seq: int
    digest: bytes
    first_stored_s: int


def _logs(page: ScanPage, alive_from_s: int, interest: Interest | None) -> Iterator[tuple[LogName, list[_Key]]]:
    """The logs of a page with what is alive of them and of interest; perhaps nothing."""
    counts, seqs, digests, dates = page.items
    start = 0
    for name, count in zip(page.names, counts.tolist(), strict=True):
        end = start + count
        keys = []
        if interest is None or interest.covers(name.topic):
            columns = zip(seqs[start:end].tolist(), dates[start:end].tolist(), strict=True)
            for at, (seq, first_stored_s) in enumerate(columns, start):
                if first_stored_s >= alive_from_s:
                    keys.append(_Key(seq, digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)], first_stored_s))
        yield name, keys
        start = end


async def write_want(
    source: Source, terms: Terms, salt: bytes, write: Write, progress: Callable[[int], None] = lambda _messages: None
) -> int:
    """Writes what the mailbox has; returns how many messages that are. `salt` are SALT_BYTES random bytes. Raises
    StoreUnavailable, and what `write` raises."""
    head = WantHead(salt, terms.alive_from_s, terms.interest)
    key = tag_key(terms.identity.mailbox_id, salt)
    writer = WantWriter(terms.identity.seed)
    write(writer.begin(terms.origin(head.fields())))
    told = 0
    async for page in source.scan():
        for name, keys in _logs(page, head.alive_from_s, head.interest):
            tags = tags_of(key, [one.digest for one in keys])
            write(writer.add(name, [(k.seq, k.first_stored_s, tag) for k, tag in zip(keys, tags, strict=True)]))
            told += len(keys)
        progress(told)
    write(writer.end())
    return told


async def write_bundle(
    source: Source,
    terms: Terms,
    wanted: Wanted | None,
    write: Write,
    progress: Callable[[Exported], None] = lambda _so_far: None,
) -> Exported:
    """Writes what the other mailbox lacks, or everything for None. Raises StoreUnavailable, and what `write` raises."""
    exporter = _Exporter(source, terms, wanted, write)
    async for page in source.scan():
        await exporter.page(page)
        progress(exporter.so_far)
    await exporter.end()
    return exporter.so_far


class _Exporter:
    def __init__(self, source: Source, terms: Terms, wanted: Wanted | None, write: Write) -> None:
        self._source = source
        self._wanted = wanted
        self._write_bytes = write
        self._writer = BundleWriter(terms.identity.seed)
        self._alive_from_s = terms.alive_from_s
        recipient = None
        self._interest = None
        self._key = b""
        if wanted is not None:
            recipient = wanted.maker
            self._alive_from_s = max(self._alive_from_s, wanted.head.alive_from_s)
            self._interest = wanted.head.interest
            self._key = tag_key(wanted.maker, wanted.head.salt)
        head = BundleHead(recipient, self._alive_from_s, terms.retention.retention_s)
        self.so_far = Exported()
        self._unfinished: LogName | None = None
        """A log of which messages were written and more may come."""
        self._write(self._writer.begin(terms.origin(head.fields())))

    async def page(self, page: ScanPage) -> None:
        spans: list[Span] = []
        lacking: list[set[tuple[int, bytes]]] = []
        whole: list[LogName] = []
        for name, keys in _logs(page, self._alive_from_s, self._interest):
            self.so_far.examined += len(keys)
            if self._unfinished is not None and self._unfinished != name:
                whole.append(self._unfinished)
                self._unfinished = None
            lacked, dates = self._compare(name, keys)
            for key in dates:
                self._write(self._writer.date(name, Item(key.seq, key.digest, key.first_stored_s, 0)))
            self.so_far.dates += len(dates)
            if lacked:
                self._unfinished = name
                chosen = {(key.seq, key.digest) for key in lacked}
                for span in _spans(name, sorted({key.seq for key in lacked})):
                    spans.append(span)
                    lacking.append(chosen)
        await self._write_messages(spans, lacking)
        await self._write_watermarks(whole)

    async def end(self) -> None:
        if self._unfinished is not None:
            await self._write_watermarks([self._unfinished])
        self._write(self._writer.end())

    def _compare(self, name: LogName, keys: Sequence[_Key]) -> tuple[list[_Key], list[_Key]]:
        """Of the messages of a log those that the other one lacks, and those that it has with a later date."""
        if self._wanted is None or not keys:
            return list(keys), []
        tags = tags_of(self._key, [key.digest for key in keys])
        held = _dates_told(self._wanted.table.held_of(name), {(k.seq, tag) for k, tag in zip(keys, tags, strict=True)})
        lacked, dates = [], []
        for key, tag in zip(keys, tags, strict=True):
            date_s = held.get((key.seq, tag))
            if date_s is None:
                lacked.append(key)
            elif date_s > key.first_stored_s:
                dates.append(key)
        return lacked, dates

    async def _write_messages(self, spans: Sequence[Span], lacking: Sequence[set[tuple[int, bytes]]]) -> None:
        after: tuple[int, int] | None = None
        while spans:
            page = await self._source.messages(
                spans, alive_from_s=self._alive_from_s, page_bytes=BUNDLE_RECORD_BYTES, after=after
            )
            for number, item, blob in page.entries:
                if (item.seq, item.digest) in lacking[number]:
                    self._write(self._writer.message(spans[number].name, item, blob))
                    self.so_far.messages += 1
            after = page.after
            if after is None:
                return

    async def _write_watermarks(self, names: Sequence[LogName]) -> None:
        for name, watermark in (await self._source.watermarks(names)).items() if names else ():
            if watermark is not None:
                self._write(self._writer.watermark(name, watermark))

    def _write(self, data: bytes) -> None:
        if data:
            self._write_bytes(data)
            self.so_far.bytes += len(data)


def _dates_told(parts: Iterable[Held], asked: Set[tuple[int, bytes]]) -> dict[tuple[int, bytes], int]:
    """The first stored of those of `asked`, (seq, tag) each, that are told. All that a file can hold may be told of one
    log: only what lies in the range of `asked` is looked at, and only `asked` is kept."""
    first, last = min(asked)[0], max(asked)[0]
    told: dict[tuple[int, bytes], int] = {}
    for seqs, dates, tags in parts:
        lo = int(np.searchsorted(seqs, np.uint64(first), "left"))
        hi = int(np.searchsorted(seqs, np.uint64(last), "right"))
        for at in range(lo, hi):
            key = int(seqs[at]), tags[TAG_BYTES * at : TAG_BYTES * (at + 1)]
            if key in asked:
                told[key] = int(dates[at])
    return told


def _spans(name: LogName, seqs: Sequence[int]) -> Iterator[Span]:
    """The runs of ascending seqs."""
    start = 0
    for at in range(1, len(seqs) + 1):
        if at == len(seqs) or seqs[at] != seqs[at - 1] + 1:
            yield Span(name, seqs[start], seqs[at - 1])
            start = at


async def take_record(mailbox: Mailbox, record: Record, *, maker: MailboxId, maker_retention_s: int) -> Taken:
    """Stores what a record of a bundle brings, durably: with the dates it had, so nothing lives longer for having been
    carried, and nothing that is too old. May be done again. A store at its limit counts it as brought by `maker`.

    Raises RemoteProtocolError, StoreFull or StoreUnavailable; then nothing of it was stored, or it may be repeated.
    """
    logs = await aside(read_logs, record)
    now_s, alive_from_s = mailbox.clock.now_s(), mailbox.alive_from_s()
    arrivals: list[Arrival] = []
    merges: list[StoredItem] = []
    told = expired = 0
    for log in logs:
        for item, blob in log.messages:
            dated = item._replace(first_stored_s=mailbox.retention.clamp(item.first_stored_s, now_s))
            if dated.first_stored_s >= alive_from_s:
                arrivals.append(Arrival(log.name, item.seq, blob, item.digest, dated.first_stored_s))
            else:  # if it is held with a later date it is as old here
                merges.append(StoredItem(log.name, dated))
                expired += 1
        for item in log.dates:
            dated = item._replace(first_stored_s=mailbox.retention.clamp(item.first_stored_s, now_s))
            merges.append(StoredItem(log.name, dated))
            told += 1
    stored = known = dropped = 0
    wanted = await _admitted(mailbox, arrivals, maker)
    if wanted:
        result = await mailbox.take(wanted, origin=maker)
        stored, known, dropped = result.stored, result.known, result.dropped
    if merges:
        await mailbox.store.merge(merges)
    # As between mailboxes: who forgets sooner than we do does not know what we could still be missing.
    if maker_retention_s >= mailbox.retention.retention_s:
        marks = {log.name: log.watermark for log in logs if log.watermark is not None}
        if marks:
            await mailbox.store.adopt_watermarks(marks)
    return Taken(stored, known, expired, dropped, len(arrivals) - len(wanted), told)


async def _admitted(mailbox: Mailbox, arrivals: Sequence[Arrival], maker: MailboxId) -> Sequence[Arrival]:
    """Those for which there is room, and which were not let go to make room; and signed, if they have to be."""
    spans = [Span(one.name, one.seq, one.seq) for one in arrivals]
    admission = await mailbox.store.admit(spans, origin=maker, is_full=mailbox.is_at_limit, is_news=False)
    wanted = {(span.name, seq) for span in admission.wanted for seq in range(span.first, span.last + 1)}
    admitted = [one for one in arrivals if (one.name, one.seq) in wanted]
    return admitted if mailbox.signed_only is None else await mailbox.signed_only.genuine(admitted)
