"""`mailboxd bench store`: durable stores and reads through the SQLite store, beside what raw SQLite does.

The store and raw SQLite take turns in every round, each on a new file, because a disk's speed drifts; figures are
medians over the rounds. Messages are made, digests computed and requests built before the clock runs.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import trio

from node.bench.claims import Claim
from node.bench.messages import LOGS_PER_TOPIC, in_batches, scattered
from node.bench.rates import BenchError, Rate, middle, rate_of
from node.bench.raw_sqlite import RawSqlite
from node.store.api import Arrival, Store
from node.store.sqlite import SqliteStore
from protocols.limits.store import MISSING_MAX, READ_PAGE_BYTES
from protocols.model import LogName

__all__ = ["StoreCase", "StoreReport", "measure_store"]

LOG_MESSAGES: Final = 100
TOPIC_MESSAGES: Final = LOG_MESSAGES * LOGS_PER_TOPIC
"""What a read of a whole topic returns, on average."""

SINGLES: Final = 10
"""One message in so many is stored or read in a request of its own: that is slower, and shows with fewer."""

CLAIMS_FROM_CLIENTS: Final = 64
GROUP_COMMIT_GAIN_MIN: Final = 3.5
BULK_RATIO_MIN: Final = 0.6

R = TypeVar("R")
_Query: TypeAlias = Mapping[str, Mapping[str, int]]
"""topic -> log -> the height that the client has"""


@dataclass(frozen=True, slots=True)
class StoreCase:
    """`clients` tasks, each with one request at a time; the waiting times are those of a request. The ceiling is raw
    SQLite with as many messages in a commit or a query."""

    action: str
    messages_per_request: int
    clients: int
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    raw_messages_per_s: float
    ratio_to_raw: float


@dataclass(frozen=True, slots=True)
class StoreReport:
    """`commit_per_request_per_s` is what as many clients would get without group commit."""

    messages: int
    blob_bytes: int
    bulk: int
    clients: int
    rounds: int
    cases: tuple[StoreCase, ...]
    commit_per_request_per_s: float
    claims: tuple[Claim, ...]


async def measure_store(
    folder: Path,
    *,
    messages: int,
    blob_bytes: int,
    bulk: int,
    clients: int,
    rounds: int,
    progress: Callable[[str], None],
) -> StoreReport:
    """Stores `messages` in bulks, then a tenth as many one by one, and reads. Raises BenchError or StoreError."""
    rates: dict[tuple[object, ...], list[Rate]] = defaultdict(list)
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}: making {messages:,} messages of {blob_bytes} bytes")
        work = _Work(messages, blob_bytes, bulk)
        progress(f"round {number} of {rounds}: raw SQLite")
        with _emptied(folder) as path:
            for what, rate in await trio.to_thread.run_sync(_measure_raw, path, work):
                rates["raw", *what].append(rate)
        progress(f"round {number} of {rounds}: the store")
        with _emptied(folder) as path:
            for what, rate in await _measure_ours(path, work, clients):
                rates[what].append(rate)
    medians = {what: middle(several) for what, several in rates.items()}
    cases = tuple(
        _case(action, size, tasks, medians[action, size, tasks], medians["raw", action, size])
        for action, size in (("put", 1), ("put", bulk), ("get", 1), ("get", TOPIC_MESSAGES))
        for tasks in sorted({1, clients})
    )
    alone_per_s = medians["commit per request",].messages_per_s
    claims = _claims(cases, alone_per_s, bulk) if clients >= CLAIMS_FROM_CLIENTS else ()
    return StoreReport(messages, blob_bytes, bulk, clients, rounds, cases, alone_per_s, claims)


def _case(action: str, size: int, tasks: int, rate: Rate, raw: Rate) -> StoreCase:
    ratio = rate.messages_per_s / raw.messages_per_s
    return StoreCase(action, size, tasks, rate.messages_per_s, rate.p50_ms, rate.p99_ms, raw.messages_per_s, ratio)


def _claims(cases: Sequence[StoreCase], alone_per_s: float, bulk: int) -> tuple[Claim, ...]:
    (single,) = [case for case in cases if (case.action, case.messages_per_request) == ("put", 1) and case.clients > 1]
    ratio = max(case.ratio_to_raw for case in cases if (case.action, case.messages_per_request) == ("put", bulk))
    gain = single.messages_per_s / alone_per_s
    return (
        Claim(f"put, {single.clients} clients ÷ with a commit per request", gain, GROUP_COMMIT_GAIN_MIN, is_floor=True),
        Claim(f"put, {bulk} per request ÷ raw SQLite", ratio, BULK_RATIO_MIN, is_floor=True),
    )


class _Work:
    """The requests of a round: bulks, three lots of single messages, and what is read of the bulks."""

    def __init__(self, messages: int, blob_bytes: int, bulk: int) -> None:
        lot = max(1, messages // SINGLES)
        logs = max(1, messages // LOG_MESSAGES)
        everything = list(scattered(messages + 3 * lot, logs=logs, blob_bytes=blob_bytes))
        self.bulks = list(in_batches(everything[:messages], bulk))
        singles = [[arrival] for arrival in everything[messages:]]
        self.singles = [singles[lot * part : lot * (part + 1)] for part in range(3)]
        heights: dict[str, dict[str, int]] = defaultdict(dict)
        for (topic, log), length in Counter(arrival.name for arrival in everything[:messages]).items():
            heights[topic][log] = length - 1
        chance = random.Random(1)
        topics = chance.sample(list(heights), len(heights))
        self.whole_topics: list[_Query] = [{topic: {}} for topic in topics]
        self.last_messages: list[_Query] = []
        for topic in chance.choices(topics, k=lot):
            log = chance.choice(list(heights[topic]))
            self.last_messages.append({topic: heights[topic] | {log: heights[topic][log] - 1}})
        self.raw_topics = [[(LogName(topic, log), 0) for log in heights[topic]] for topic in topics]
        self.raw_last = [
            [(LogName(topic, log), height + 1)]
            for query in self.last_messages
            for topic, logs_of in query.items()
            for log, height in logs_of.items()
            if height < heights[topic][log]
        ]


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """A path for a database that is removed again."""
    path = folder / "bench.sqlite3"
    try:
        yield path
    finally:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _measure_raw(path: Path, work: _Work) -> list[tuple[tuple[object, ...], Rate]]:
    with RawSqlite.open(path) as raw:
        bulks = [raw.rows(batch) for batch in work.bulks]
        singles = [raw.rows(batch) for batch in work.singles[0]]
        return [
            (("put", len(bulks[0])), raw.put(bulks)),
            (("get", 1), raw.get(work.raw_last)),
            (("get", TOPIC_MESSAGES), raw.get(work.raw_topics)),
            (("put", 1), raw.put(singles)),
        ]


async def _measure_ours(path: Path, work: _Work, clients: int) -> list[tuple[tuple[object, ...], Rate]]:
    measured: list[tuple[tuple[object, ...], Rate]] = []
    size = len(work.bulks[0])
    half = len(work.bulks) // 2
    counts = sorted({1, clients})
    async with SqliteStore.open(path) as store:
        lots = (work.bulks[:half], work.bulks[half:]) if clients > 1 else (work.bulks,)
        for tasks, lot in zip(counts, lots, strict=True):
            measured.append((("put", size, tasks), await _put(store, lot, tasks)))
        for tasks in counts:
            measured.append((("get", 1, tasks), await _get(store, work.last_messages, tasks)))
            measured.append((("get", TOPIC_MESSAGES, tasks), await _get(store, work.whole_topics, tasks)))
        for tasks, lot in zip(counts, work.singles, strict=False):
            measured.append((("put", 1, tasks), await _put(store, lot, tasks)))
        held = store.statistics().messages
    async with SqliteStore.open(path, requests_per_commit_max=1) as store:
        measured.append((("commit per request",), await _put(store, work.singles[2], clients)))
        if store.statistics().messages != held + len(work.singles[2]):
            raise BenchError("the store does not hold what was put into it")
    return measured


async def _put(store: Store, requests: Sequence[Sequence[Arrival]], tasks: int) -> Rate:
    async def put(arrivals: Sequence[Arrival]) -> int:
        return (await store.put(arrivals)).stored

    return await _played(requests, put, tasks)


async def _get(store: Store, queries: Sequence[_Query], tasks: int) -> Rate:
    async def get(query: _Query) -> int:
        page = await store.read(query, alive_from_s=0, missing_max=MISSING_MAX, page_bytes=READ_PAGE_BYTES)
        return sum(len(entry.messages) for entry in page.entries)

    return await _played(queries, get, tasks)


async def _played(requests: Sequence[R], do: Callable[[R], Awaitable[int]], tasks: int) -> Rate:
    """Plays all requests from as many tasks; `do` returns how many messages one moved."""
    todo = iter(requests)
    waits_s: list[float] = []
    moved = 0

    async def client() -> None:
        nonlocal moved
        for request in todo:
            start_s = time.perf_counter()
            number = await do(request)
            moved += number
            waits_s.append(time.perf_counter() - start_s)

    begun_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(client)
    return rate_of(moved, begun_s, waits_s)
