"""The store in one SQLite file: the default of a mailbox.

How it is put together: `_schema` makes and opens the file, `_writer` is the thread through which every change goes
(`_ledger` says what a change does), `_readers` answers reads beside it, `_verify` checks the whole file.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from node.store import _readers
from node.store._budget import Budget
from node.store._census import census
from node.store._evicted import Identity, identity_of
from node.store._eviction import Evictor, RoomMade
from node.store._health import HealthWatch
from node.store._housekeeping import disk_room
from node.store._ledger import Ledger
from node.store._paging import read_page
from node.store._reader_pool import Readers
from node.store._readers import SqliteSnapshot
from node.store._schema import prepare
from node.store._shares import source_of
from node.store._variants import NeedsRoom, Unjudged
from node.store._verify import verify_file
from node.store._writer import Job, Writer
from node.store.api import (
    Admission,
    Arrival,
    Census,
    Change,
    Evictions,
    Health,
    ItemColumns,
    Position,
    PutResult,
    ReadPage,
    Room,
    Statistics,
    Store,
    StoredItem,
    StoreFull,
    VerifyReport,
)
from node.store.reading import SqliteReads
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import (
    DISK_LOOK_S,
    EVICT_AHEAD_PART,
    EVICT_ROUNDS_MAX,
    EXPIRY_BATCH_MESSAGES,
    EXPIRY_SLICE_MESSAGES,
    JUDGE_SLICE_MESSAGES,
    MESSAGE_OVERHEAD_BYTES,
    SHORT_READ_BYTES,
)
from protocols.model import Item, LogName, check_seq
from protocols.sync.deliveries import Deliveries
from protocols.sync.effects import Span

__all__ = ["SqliteStore", "verify_file"]


class SqliteStore(SqliteReads, Store):
    """See `Store`. `async with SqliteStore.open(path) as store`. One process at a time may have a file open."""

    def __init__(
        self, path: Path, writer: Writer, readers: Readers, health: HealthWatch, *, limit_bytes: int | None
    ) -> None:
        super().__init__()
        self.path = path
        self._writer = writer
        self._readers = readers
        self._limit_bytes = limit_bytes
        self._judging = trio.Semaphore(1)  # whoever contests many keys does not take all readers
        self._disk: Room | None = None
        self._looked_at_s = float("-inf")
        self._evictor: Evictor | None = None  # the writer thread's own
        self._evictions = Evictions()
        self._health = health

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, *, storage_limit_bytes: int | None = None, requests_per_commit_max: int | None = None
    ) -> AsyncIterator[SqliteStore]:
        """Opens the store, made if `path` does not exist; its directory must. Closing carries out what is queued.

        `requests_per_commit_max` bounds the group commit; 1 is for measuring what it gains.

        Raises StoreError, with what to do, for a damaged, foreign or newer file (which is left as it is), and
        StoreUnavailable if the disk fails.
        """
        path = Path(path)
        await trio.to_thread.run_sync(prepare, path)
        health = HealthWatch()
        readers = Readers(path, health)
        writer = Writer(
            path,
            budget=Budget(storage_limit_bytes),
            health=health,
            renewed=readers.renew,
            requests_per_commit_max=requests_per_commit_max,
        )
        store = cls(path, writer, readers, health, limit_bytes=storage_limit_bytes)
        await writer.start(store._announce)
        try:
            yield store
        finally:
            await readers.close()  # first: the last connection to close tidies up the write-ahead log
            await writer.close()

    # --- writing ---------------------------------------------------------------------------------------------------

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        size = len(arrivals) * MESSAGE_OVERHEAD_BYTES + _checked_bytes(arrivals)
        judged: dict[tuple[LogName, int, bytes], bool] = {}
        gone: set[Identity] = set()
        rounds_left = EVICT_ROUNDS_MAX
        while True:
            work = functools.partial(
                Ledger.put, arrivals=arrivals, origin=origin, judged=judged, client=client, gone=gone
            )
            try:
                result: PutResult = await self._writer.do(Job(work, messages=len(arrivals), bytes=size, grows=True))
            except Unjudged as unjudged:
                judged |= await self._judge(unjudged.wanted, arrivals)
            except StoreFull as error:
                rounds_left = await self._make_room(origin, client, error, rounds_left, gone)
            else:
                return result

    async def _judge(
        self, wanted: Sequence[tuple[LogName, int, bytes]], arrivals: Sequence[Arrival]
    ) -> dict[tuple[LogName, int, bytes], bool]:
        """Which of these blobs, arriving or held, are genuine. One that has gone meanwhile is left out."""
        judged: dict[tuple[LogName, int, bytes], bool] = {}
        arriving = {(arrival.name, arrival.seq, arrival.digest): arrival.blob for arrival in arrivals}
        for start in range(0, len(wanted), JUDGE_SLICE_MESSAGES):
            judge = functools.partial(
                _readers.judge, wanted=wanted[start : start + JUDGE_SLICE_MESSAGES], arriving=arriving
            )
            async with self._judging:
                judged |= await self._readers.run(judge)
        return judged

    async def _make_room(
        self, origin: object, client: str, full: StoreFull, rounds_left: int, gone: set[Identity]
    ) -> int:
        """Lets go of messages, adding them to `gone`, in short transactions with others in between; returns how many
        more may follow. Raises `full` if nobody gives way."""
        need_bytes = full.need_bytes
        if need_bytes <= 0 or self._limit_bytes is None:
            raise full
        need_bytes += self._limit_bytes // EVICT_AHEAD_PART
        asked = full.asked if isinstance(full, NeedsRoom) else ()

        def work(ledger: Ledger, size: int) -> tuple[RoomMade, Change]:
            if self._evictor is None or self._evictor.ledger is not ledger:
                self._evictor = Evictor(ledger)
            return self._evictor.make_room(asked, origin, client, size)

        is_changed = False
        while rounds_left > 0 and need_bytes > 0:
            rounds_left -= 1
            step = functools.partial(work, size=need_bytes)
            job = Job(step, messages=EXPIRY_SLICE_MESSAGES, is_alone=True)
            made: RoomMade = await self._writer.do(job)
            gone.update(map(identity_of, job.change.removed))
            need_bytes -= made.bytes
            is_changed = is_changed or made.bytes > 0
            self._evictions.young += made.young
            if not made.goes_on:
                break
        if not is_changed and need_bytes > 0:
            raise full
        return rounds_left

    def _announce(self, change: Change) -> None:
        if change.is_eviction:
            self._evictions.messages += len(change.removed)
            self._evictions.bytes += sum(stored.item.size for stored in change.removed)
        super()._announce(change)

    @property
    def evictions(self) -> Evictions:
        return self._evictions

    @property
    def health(self) -> Health:
        return self._health.now

    async def admit(self, spans: Sequence[Span], *, origin: object, is_full: bool, is_news: bool) -> Admission:
        if not is_full and not self._writer.shares.has_evicted:
            return Admission(list(spans), [], [])

        def takes(topic_id: int | None) -> bool:
            source = source_of(origin, "", self._writer.salt)
            return not is_full or self._writer.shares.would_take(source, topic_id, is_news=is_news)

        return await self._readers.run(lambda connection: _readers.admit(connection, spans, takes))

    async def merge(self, items: Sequence[StoredItem], *, origin: object = None) -> None:
        def work(ledger: Ledger) -> tuple[None, Change]:
            return None, ledger.merge(items, origin)

        await self._writer.do(Job(work, messages=len(items), bytes=len(items) * MESSAGE_OVERHEAD_BYTES))

    async def adopt_watermarks(self, watermarks: Mapping[LogName, int]) -> None:
        def work(ledger: Ledger) -> tuple[None, Change]:
            ledger.adopt_watermarks(watermarks)
            return None, Change()

        await self._writer.do(Job(work, messages=len(watermarks), bytes=len(watermarks) * MESSAGE_OVERHEAD_BYTES))

    async def expire(self, alive_from_s: int, *, messages_max: int) -> int:
        removed = 0
        while removed < messages_max:  # in short transactions, with the stores that came meanwhile in between
            batch_max = min(messages_max - removed, EXPIRY_BATCH_MESSAGES)

            def work(ledger: Ledger, batch_max: int = batch_max) -> tuple[int, Change]:
                change = ledger.expire(alive_from_s, batch_max)
                return len(change.removed), change

            batch: int = await self._writer.do(Job(work, messages=batch_max, is_alone=True))
            removed += batch
            if not batch:
                break
        await self._trim()
        return removed

    async def _trim(self) -> None:
        """Lets go of what is beyond a storage limit that has been lowered."""
        over_bytes = self._used_bytes() - (self._limit_bytes or 0)
        if self._limit_bytes is not None and over_bytes > 0:
            with suppress(StoreFull):  # nobody has anything: what is left is names
                full = StoreFull("the storage limit has been lowered", over_bytes)
                await self._make_room(None, "", full, EVICT_ROUNDS_MAX, set())

    # --- reading ---------------------------------------------------------------------------------------------------

    async def read(
        self,
        query: Mapping[str, Mapping[str, int]],
        *,
        alive_from_s: int,
        missing_max: int,
        after: Position | None = None,
        page_bytes: int,
    ) -> ReadPage:
        def work(connection: sqlite3.Connection) -> ReadPage:
            snapshot = SqliteSnapshot(connection, alive_from_s)
            return read_page(snapshot, query, missing_max=missing_max, after=after, page_bytes=page_bytes)

        run = self._readers.run_short if page_bytes <= SHORT_READ_BYTES else self._readers.run
        return await run(work)

    async def items(self, name: LogName, seq_from: int, seq_to: int) -> Sequence[Item]:
        low, high = max(0, seq_from), min(seq_to, SEQ_MAX)
        if low > high:
            return []
        return await self._readers.run(lambda connection: _readers.items(connection, name, low, high))

    async def items_of(self, spans: Sequence[Span]) -> Sequence[Sequence[Item]]:
        def work(connection: sqlite3.Connection) -> list[list[Item]]:
            return [_readers.items(connection, name, max(0, low), min(high, SEQ_MAX)) for name, low, high in spans]

        return await self._readers.run(work)

    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        return await self._readers.run(lambda connection: _readers.columns_of(connection, spans, alive_from_s))

    async def blobs(self, name: LogName, wanted: Sequence[tuple[int, bytes]]) -> Sequence[bytes | None]:
        return await self._readers.run(lambda connection: _readers.blobs(connection, name, wanted))

    def statistics(self) -> Statistics:
        held = self._writer.occupancy
        return Statistics(held.messages, held.bytes, held.logs, held.topics, self._limit_bytes, self._used_bytes())

    async def census(self, *, topics_max: int) -> Census:
        return await self._readers.run(lambda connection: census(connection, topics_max))

    async def limit_storage(self, limit_bytes: int | None) -> None:
        def work(ledger: Ledger) -> tuple[None, Change]:
            ledger.keep_to(Budget(limit_bytes))
            return None, Change()

        await self._writer.do(Job(work, messages=0))
        self._writer.budget = Budget(limit_bytes)
        self._limit_bytes = limit_bytes

    def rooms(self) -> Sequence[Room]:
        rooms = (
            []
            if self._limit_bytes is None
            else [Room(self._limit_bytes - self._used_bytes(), self._limit_bytes, is_limit=True)]
        )
        now_s = time.monotonic()
        if now_s >= self._looked_at_s + DISK_LOOK_S:
            self._disk, self._looked_at_s = disk_room(self.path), now_s
        return rooms if self._disk is None else [*rooms, self._disk]

    def _used_bytes(self) -> int:
        """What counts against the storage limit."""
        held, budget = self._writer.occupancy, Budget(self._limit_bytes)
        if not budget.is_on_disk or self._limit_bytes is None:
            return held.storage_bytes
        return max(held.storage_bytes, held.used_bytes + self._limit_bytes - budget.database_bytes)

    async def verify(self, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        def tell(messages: int) -> None:
            if progress is not None:
                trio.from_thread.run_sync(progress, messages)

        check = functools.partial(verify_file, self.path, progress=tell, poll=trio.from_thread.check_cancelled)
        await self._settle()
        changes, totals = self._writer.changes, self._writer.occupancy
        report = await trio.to_thread.run_sync(check)
        await self._settle()
        if self._writer.changes == changes and (totals.messages, totals.bytes) != (report.messages, report.bytes):
            problem = f"{report.messages} messages were found where the totals say {totals.messages}"
            return VerifyReport(report.messages, report.bytes, [*report.problems, problem])
        return report

    async def _settle(self) -> None:
        """Waits until everything that was committed before has been announced."""
        await self._writer.do(Job(lambda ledger: (None, Change()), messages=0))


def _checked_bytes(arrivals: Sequence[Arrival]) -> int:
    """The sizes of all blobs together. Raises ValueError for a sequence number that can't be."""
    columns: list[Sequence[int]]
    if isinstance(arrivals, Deliveries):
        columns, size = [stretch.seqs for stretch in arrivals.stretches], arrivals.blobs_bytes
    else:
        columns, size = [[arrival[1] for arrival in arrivals]], sum([len(arrival[2]) for arrival in arrivals])
    for seqs in filter(None, columns):
        check_seq(min(seqs))
        check_seq(max(seqs))
    return size
