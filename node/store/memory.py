"""The store in memory: for tests and simulation. Deterministic, no threads; forgets everything when it is dropped."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Self

import trio

from node.store._evicted import Identity, divide, identity_of, is_within, with_evicted
from node.store._memory_logs import HeldLog, HeldMessage, HeldSnapshot, columns
from node.store._paging import read_page
from node.store._shares import Ages, Shares, most_asked, source_of
from node.store._variants import Occupancy, settle
from node.store.api import (
    Admission,
    Arrival,
    Census,
    Change,
    Evictions,
    ItemColumns,
    Position,
    PutResult,
    ReadPage,
    Room,
    ScanPage,
    Statistics,
    Store,
    StoredItem,
    StoreFull,
    StoreUnavailable,
    TopicShare,
    VerifyReport,
)
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import EVICT_AHEAD_PART, MESSAGE_OVERHEAD_BYTES, MESSAGES_PAGE_MAX
from protocols.model import Item, LogName, check_seq, digest_of
from protocols.operations import is_genuine, may_be_genuine
from protocols.sync.deliveries import Deliveries
from protocols.sync.effects import Page, Span

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """See `Store`. Usable at once; `async with` closes it, after which everything raises StoreUnavailable.

    `storage_limit_bytes` counts as in the SQLite store: blobs and an allowance for each message and log.
    """

    def __init__(self, *, storage_limit_bytes: int | None = None) -> None:
        super().__init__()
        self._limit_bytes = storage_limit_bytes
        self._topics: dict[str, dict[str, HeldLog]] = {}
        # first stored -> messages in order of arrival, for expiry
        self._ages: dict[int, dict[tuple[LogName, int, bytes], None]] = {}
        self._live_logs: Counter[str] = Counter()  # by topic
        self._occupancy = Occupancy()
        self._shares: Shares[str] = Shares(trio.current_time)
        self._recent = Ages(trio.current_time)
        self._number = 0
        self._evictions = Evictions()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise StoreUnavailable("the store is closed")

    async def _commit(self) -> None:
        """What comes after it is done at one moment, and durable: here where a disk would be waited for."""
        await self._turn()

    def _find(self, name: LogName) -> HeldLog | None:
        return self._topics.get(name.topic, {}).get(name.log)

    # --- writing ---------------------------------------------------------------------------------------------------

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        for arrival in arrivals:
            check_seq(arrival.seq)
        await self._commit()
        blobs = {arrival.digest: arrival.blob for arrival in arrivals}
        source = source_of(origin, client, b"")
        gone: set[Identity] = set()
        while True:
            taken = arrivals if origin is None else [one for one in arrivals if not self._has_let_go(one, gone)]
            keys: dict[tuple[LogName, int], dict[bytes, int]] = {}
            for name, seq, _, digest, first_stored_s in taken:
                arriving = keys.setdefault((name, seq), {})
                arriving[digest] = min(first_stored_s, arriving.get(digest, first_stored_s))
            genuine = {key: self._genuine(*key, arriving, blobs) for key, arriving in keys.items()}
            plan = {key: settle(self._variants(*key), arriving, genuine[key]) for key, arriving in keys.items()}
            growth = self._growth(plan, blobs)
            need_bytes = self._occupancy.storage_bytes + growth.storage_bytes - (self._limit_bytes or 0)
            if self._limit_bytes is None or growth.storage_bytes <= 0 or need_bytes <= 0:
                break
            if growth.storage_bytes > self._limit_bytes:  # nothing is let go for what can't find room anyway
                raise StoreFull(
                    f"a request of {growth.storage_bytes} bytes is too large for a storage limit of {self._limit_bytes}"
                )
            grown = self._grown_by_topic(plan, blobs)
            removed = self._make_room(need_bytes + self._limit_bytes // EVICT_AHEAD_PART, source, most_asked(grown))
            if not removed:
                raise StoreFull(f"the storage limit of {self._limit_bytes} bytes is reached", need_bytes)
            gone.update(map(identity_of, removed))
        stored, known, dropped = self._count(taken, plan)
        self._recent.note(self._number)
        change = self._apply(plan, blobs, genuine, origin, source)
        self._occupancy += growth
        watermarks: dict[LogName, int | None] = {}
        for name in {arrival.name: None for arrival in arrivals}:
            log = self._find(name)
            if log is not None:
                log.advance()
            watermarks[name] = None if log is None else log.watermark
        self._announce(change)
        return PutResult(stored, known, dropped + len(arrivals) - len(taken), watermarks)

    def _has_let_go(self, arrival: Arrival, gone: Set[Identity]) -> bool:
        """Whether that was let go to make room, by this request (`gone`) or earlier, and has not come back since."""
        log = self._find(arrival.name)
        if log is not None and arrival.digest in log.variants.get(arrival.seq, ()):
            return False
        is_recorded = log is not None and bool(log.evicted) and is_within(arrival.seq, log.evicted)
        return is_recorded or (arrival.name, arrival.seq, arrival.digest) in gone

    def _make_room(self, size: int, source: int, asked: Sequence[tuple[str, int]]) -> Sequence[StoredItem]:
        """Lets go of the oldest messages of whoever has most, and returns them."""
        known = [(topic if topic in self._topics else None, grown) for topic, grown in asked]
        victim = self._shares.victim(source, known, size)
        if victim is None:
            return ()
        need_bytes = min(size, victim.spare_bytes) if victim.spare_bytes else size
        young_from = self._recent.young_from(self._number)
        gone: dict[LogName, list[tuple[int, bytes]]] = {}
        removed: list[StoredItem] = []
        for first_stored_s in sorted(self._ages):
            for name, seq, digest in self._ages[first_stored_s]:
                held = self._topics[name.topic][name.log].variants[seq][digest]
                is_young = held.number >= young_from
                is_theirs = held.source == victim.source and self._shares.gives_way(victim, name.topic)
                if not is_theirs or (is_young and not victim.young):
                    continue
                gone.setdefault(name, []).append((seq, digest))
                removed.append(StoredItem(name, Item(seq, digest, first_stored_s, len(held.blob))))
                self._evictions.young += is_young
                need_bytes -= len(held.blob) + MESSAGE_OVERHEAD_BYTES
                if need_bytes <= 0:
                    break
            if need_bytes <= 0:
                break
        for name, item in removed:
            del self._ages[item.first_stored_s][name, item.seq, item.digest]
            log = self._topics[name.topic][name.log]
            log.evicted = with_evicted(log.evicted, [(item.seq, item.first_stored_s)])
        self._forget_all(gone, removed)
        self._evictions.messages += len(removed)
        self._evictions.bytes += sum(stored.item.size for stored in removed)
        self._announce(Change(removed=removed, is_eviction=True))
        return removed

    @property
    def evictions(self) -> Evictions:
        return self._evictions

    async def admit(self, spans: Sequence[Span], *, origin: object, is_full: bool, is_news: bool) -> Admission:
        await self._turn()
        source = source_of(origin, "", b"")
        found = Admission([], [], [])
        for name, group in groupby(spans, key=itemgetter(0)):
            topic = name.topic if name.topic in self._topics else None
            has_room = not is_full or self._shares.would_take(source, topic, is_news=is_news)
            log = self._find(name)
            divide(found, list(group), [] if log is None else log.evicted, has_room=has_room)
        return found

    def _variants(self, name: LogName, seq: int) -> dict[bytes, int]:
        log = self._find(name)
        held = {} if log is None else log.variants.get(seq, {})
        return {digest: variant.first_stored_s for digest, variant in held.items()}

    def _genuine(
        self, name: LogName, seq: int, arriving: Mapping[bytes, int], blobs: Mapping[bytes, bytes]
    ) -> set[bytes]:
        """Which of the blobs under a key are genuine, if there are several."""
        log = self._find(name)
        held = {} if log is None else log.variants.get(seq, {})
        if len(held.keys() | arriving.keys()) < 2 or not may_be_genuine(name):
            return set()
        if len(held) > 1:  # known since the second one came
            found = {digest for digest, variant in held.items() if variant.genuine}
        else:
            found = {digest for digest, variant in held.items() if is_genuine(name, seq, variant.blob)}
        return found | {digest for digest in arriving if digest not in held and is_genuine(name, seq, blobs[digest])}

    def _growth(
        self, plan: Mapping[tuple[LogName, int], Mapping[bytes, int]], blobs: Mapping[bytes, bytes]
    ) -> Occupancy:
        growth = Occupancy()
        new_logs: set[LogName] = set()
        for (name, seq), after in plan.items():
            log = self._find(name)
            before = {} if log is None else log.variants.get(seq, {})
            growth.messages += len(after) - len(before)
            growth.bytes += sum(len(blobs[digest]) for digest in after if digest not in before)
            growth.bytes -= sum(len(held.blob) for digest, held in before.items() if digest not in after)
            if log is None or not log.seqs:
                new_logs.add(name)
        growth.logs = len(new_logs)
        growth.topics = sum(not self._live_logs[topic] for topic in {name.topic for name in new_logs})
        return growth

    def _grown_by_topic(
        self, plan: Mapping[tuple[LogName, int], Mapping[bytes, int]], blobs: Mapping[bytes, bytes]
    ) -> Mapping[str, int]:
        grown: Counter[str] = Counter()
        for (name, seq), after in plan.items():
            new = after.keys() - self._variants(name, seq).keys()
            grown[name.topic] += sum(len(blobs[digest]) + MESSAGE_OVERHEAD_BYTES for digest in new)
        return grown

    def _count(
        self, arrivals: Sequence[Arrival], plan: Mapping[tuple[LogName, int], Mapping[bytes, int]]
    ) -> tuple[int, int, int]:
        """(stored, known, dropped) of each arrival; a repetition within the request is known."""
        stored = known = dropped = 0
        seen: set[tuple[LogName, int, bytes]] = set()
        for arrival in arrivals:
            identity = (arrival.name, arrival.seq, arrival.digest)
            if arrival.digest not in plan[arrival.name, arrival.seq]:
                dropped += 1
            elif identity in seen or arrival.digest in self._variants(arrival.name, arrival.seq):
                known += 1
            else:
                stored += 1
            seen.add(identity)
        return stored, known, dropped

    def _apply(
        self,
        plan: Mapping[tuple[LogName, int], Mapping[bytes, int]],
        blobs: Mapping[bytes, bytes],
        genuine: Mapping[tuple[LogName, int], Set[bytes]],
        origin: object,
        source: int,
    ) -> Change:
        stored: list[Arrival] = []
        merged: list[StoredItem] = []
        removed: list[StoredItem] = []
        for (name, seq), after in plan.items():
            if name.topic not in self._topics:
                self._topics[name.topic] = {}
                self._shares.born(name.topic)
            log = self._topics[name.topic].setdefault(name.log, HeldLog())
            if not log.seqs:
                self._live_logs[name.topic] += 1
            if seq not in log.variants:
                log.variants[seq] = {}
                insort(log.seqs, seq)
            held = log.variants[seq]
            for digest in [digest for digest in held if digest not in after]:
                gone = held.pop(digest)
                self._age(gone.first_stored_s).pop((name, seq, digest))
                self._shares.change(gone.source, name.topic, -1, -len(gone.blob))
                removed.append(StoredItem(name, Item(seq, digest, gone.first_stored_s, len(gone.blob))))
            for digest, first_stored_s in after.items():
                before = held.get(digest)
                is_genuine_here = digest in genuine[name, seq]
                if before is not None and before.first_stored_s == first_stored_s:
                    held[digest] = before._replace(genuine=is_genuine_here)
                    continue
                if before is None:
                    blob = blobs[digest]
                    self._set(
                        name, seq, digest, HeldMessage(first_stored_s, blob, source, self._number, is_genuine_here)
                    )
                    self._number += 1
                    self._shares.change(source, name.topic, 1, len(blob))
                    stored.append(Arrival(name, seq, blob, digest, first_stored_s))
                else:
                    self._set(
                        name, seq, digest, before._replace(first_stored_s=first_stored_s, genuine=is_genuine_here)
                    )
                    merged.append(StoredItem(name, Item(seq, digest, first_stored_s, len(before.blob))))
        return Change(Deliveries.of(stored), merged, removed, origin)

    def _age(self, first_stored_s: int) -> dict[tuple[LogName, int, bytes], None]:
        return self._ages.setdefault(first_stored_s, {})

    def _set(self, name: LogName, seq: int, digest: bytes, held: HeldMessage) -> None:
        variants = self._topics[name.topic][name.log].variants[seq]
        before = variants.get(digest)
        if before is not None:
            self._age(before.first_stored_s).pop((name, seq, digest))
        variants[digest] = held
        self._age(held.first_stored_s)[name, seq, digest] = None

    async def merge(self, items: Sequence[StoredItem], *, origin: object = None) -> None:
        await self._commit()
        merged: dict[tuple[LogName, int, bytes], StoredItem] = {}
        for name, item in items:
            log = self._find(name)
            held = None if log is None else log.variants.get(item.seq, {}).get(item.digest)
            if held is not None and item.first_stored_s < held.first_stored_s:
                self._set(name, item.seq, item.digest, held._replace(first_stored_s=item.first_stored_s))
                new = Item(item.seq, item.digest, item.first_stored_s, len(held.blob))
                merged[name, item.seq, item.digest] = StoredItem(name, new)
        self._announce(Change(merged=list(merged.values()), origin=origin))

    async def adopt_watermarks(self, watermarks: Mapping[LogName, int]) -> None:
        await self._commit()
        for name, theirs in watermarks.items():
            log = self._find(name)
            if log is None:
                continue
            ours = -1 if log.watermark is None else log.watermark
            above = bisect_right(log.seqs, ours)
            if above == len(log.seqs):
                continue
            adopted = min(theirs, log.seqs[above] - 1)
            if adopted > ours:
                log.watermark = adopted
                log.advance()

    async def expire(self, alive_from_s: int, *, messages_max: int) -> int:
        if not any(first_stored_s < alive_from_s for first_stored_s in self._ages):
            await self._turn()
            return 0
        await self._commit()
        gone: dict[LogName, list[tuple[int, bytes]]] = {}
        removed: list[StoredItem] = []
        for first_stored_s in sorted(self._ages):
            if first_stored_s >= alive_from_s or len(removed) >= messages_max:
                break
            age = self._ages[first_stored_s]
            for name, seq, digest in list(age)[: messages_max - len(removed)]:
                del age[name, seq, digest]
                gone.setdefault(name, []).append((seq, digest))
                size = len(self._topics[name.topic][name.log].variants[seq][digest].blob)
                removed.append(StoredItem(name, Item(seq, digest, first_stored_s, size)))
            if not age:
                del self._ages[first_stored_s]
        self._forget_all(gone, removed)
        self._announce(Change(removed=removed))
        for logs in self._topics.values():
            for log in logs.values():
                log.evicted = [span for span in log.evicted if span.first_stored_s >= alive_from_s]
        return len(removed)

    def _forget_all(self, gone: Mapping[LogName, list[tuple[int, bytes]]], removed: Sequence[StoredItem]) -> None:
        for name, messages in gone.items():
            log = self._topics[name.topic][name.log]
            for seq, digest in messages:
                held = log.variants[seq][digest]
                self._shares.change(held.source, name.topic, -1, -len(held.blob))
            self._forget(name, messages)
        self._occupancy.messages -= len(removed)
        self._occupancy.bytes -= sum(stored.item.size for stored in removed)

    def _forget(self, name: LogName, messages: Sequence[tuple[int, bytes]]) -> None:
        logs = self._topics[name.topic]
        logs[name.log].forget(messages)
        if logs[name.log].seqs:
            return
        self._occupancy.logs -= 1
        self._live_logs[name.topic] -= 1
        if not self._live_logs[name.topic]:
            del self._live_logs[name.topic]
            self._occupancy.topics -= 1
        if logs[name.log].watermark is None and not logs[name.log].evicted:  # nothing worth remembering
            del logs[name.log]
            if not logs:
                del self._topics[name.topic]
                self._shares.forget(name.topic)

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
        await self._turn()
        snapshot = HeldSnapshot(self._topics, alive_from_s)
        return read_page(snapshot, query, missing_max=missing_max, after=after, page_bytes=page_bytes)

    async def items(self, name: LogName, seq_from: int, seq_to: int) -> Sequence[Item]:
        await self._turn()
        log = self._find(name)
        return [] if log is None else log.items(seq_from, seq_to)

    async def blobs(self, name: LogName, wanted: Sequence[tuple[int, bytes]]) -> Sequence[bytes | None]:
        await self._turn()
        log = self._find(name)
        found = [None if log is None else log.variants.get(seq, {}).get(digest) for seq, digest in wanted]
        return [None if held is None else held.blob for held in found]

    async def messages(
        self, wanted: Sequence[Span], *, alive_from_s: int, page_bytes: int, after: tuple[int, int] | None = None
    ) -> Page:
        await self._turn()
        entries: list[tuple[int, Item, bytes]] = []
        size = 0
        start, seq_from = after or (0, 0)
        for index in range(start, len(wanted)):
            name, first, last = wanted[index]
            log = self._find(name) or HeldLog()
            for seq in log.between(max(first, seq_from), last):
                held = sorted(log.variants[seq].items())
                alive = [(digest, it) for digest, it in held if it.first_stored_s >= alive_from_s]
                if alive and entries and (len(entries) >= MESSAGES_PAGE_MAX or size >= page_bytes):
                    return Page.of(entries, (index, seq))
                for digest, it in alive:
                    entries.append((index, Item(seq, digest, it.first_stored_s, len(it.blob)), it.blob))
                    size += len(it.blob)
            seq_from = 0
        return Page.of(entries, None)

    async def watermarks(self, names: Sequence[LogName]) -> Mapping[LogName, int | None]:
        await self._turn()
        return {name: None if (log := self._find(name)) is None else log.watermark for name in names}

    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        await self._turn()
        return columns([(self._find(name), low, high) for name, low, high in spans], alive_from_s)

    async def scan(self) -> AsyncGenerator[ScanPage, None]:
        for topic in sorted(self._topics):
            for log in sorted(self._topics.get(topic, {})):
                await self._turn()
                state = self._find(LogName(topic, log))
                if state is not None and state.seqs:
                    yield ScanPage([LogName(topic, log)], columns([(state, 0, SEQ_MAX)], 0))

    async def census(self, *, topics_max: int) -> Census:
        await self._turn()
        shares = []
        for topic, logs in self._topics.items():
            sizes = [item.size for log in logs.values() for item in log.items(0, SEQ_MAX)]
            if sizes:
                shares.append(TopicShare(topic, len(sizes), sum(sizes)))
        oldest_s = min((age for age, held in self._ages.items() if held), default=None)
        return Census(oldest_s, sorted(shares, key=lambda share: (-share.bytes, share.topic))[:topics_max])

    async def limit_storage(self, limit_bytes: int | None) -> None:
        await self._turn()
        self._limit_bytes = limit_bytes

    def statistics(self) -> Statistics:
        held = self._occupancy
        return Statistics(held.messages, held.bytes, held.logs, held.topics, self._limit_bytes, held.storage_bytes)

    def rooms(self) -> Sequence[Room]:
        limit_bytes = self._limit_bytes
        return [] if limit_bytes is None else [Room(limit_bytes - self._occupancy.storage_bytes, limit_bytes, True)]

    async def verify(self, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        problems: list[str] = []
        messages = size = 0
        for topic, logs in list(self._topics.items()):
            for name, log in list(logs.items()):
                await self._turn()
                for seq, digest, held in [(s, d, h) for s, vs in log.variants.items() for d, h in vs.items()]:
                    messages += 1
                    size += len(held.blob)
                    if digest_of(held.blob) != digest:
                        problems.append(f"message {seq} of log {name} in topic {topic} is damaged")
                if (0 if log.watermark is None else log.watermark + 1) in log.variants:
                    problems.append(f"the watermark of log {name} in topic {topic} is too low")
                if progress is not None:
                    progress(messages)
        if (messages, size) != (self._occupancy.messages, self._occupancy.bytes):
            problems.append("the totals are wrong")
        return VerifyReport(messages, size, problems)
