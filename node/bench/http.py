"""`mailboxd bench http`: how fast a real `mailboxd run` serves phones over loopback, beside what raw SQLite does and
what the same server does without any work (`/health`).

The mailbox is started on a store that is filled before, so that reads find something. Every client keeps one connection
and has one request at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import trio

from node.bench.claims import Claim
from node.bench.http_clients import Load, LoadFigures
from node.bench.messages import LOGS_PER_TOPIC, in_batches, log_by_log, log_name, scattered
from node.bench.processes import cpu_s
from node.bench.rates import BenchError, Rate
from node.bench.raw_sqlite import RawSqlite
from node.cli.cluster import MailboxProcess
from node.datadir import STORE_FILE
from node.store.sqlite import SqliteStore
from protocols.limits.store import COMMIT_BATCH_MESSAGES

__all__ = ["HttpCase", "HttpReport", "measure_http", "play_apart"]

TOPICS: Final = 20
RAW_SINGLES: Final = 5_000
RAW_SINGLE_LOGS: Final = 1_000
RAW_BULK_MESSAGES: Final = 50_000

CLAIMS_CLIENTS: Final = 64
SINGLE_RATIO_MIN: Final = 2.0
BULK_RATIO_MIN: Final = 0.6
P99_TO_P50_MAX: Final = 4.0


@dataclass(frozen=True, slots=True)
class HttpCase:
    """`kind` is health, store or get. Ratios are of messages per second (`ratio_to_health`: of requests), None where
    there is nothing to compare. `server_cpu_us` is the mailbox's CPU per message (health: per request), None where the
    system does not tell it."""

    kind: str
    messages_per_request: int
    clients: int
    requests_per_s: float
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    answer_bytes: int
    server_cpu_us: float | None
    ratio_to_raw: float | None
    ratio_to_health: float | None


@dataclass(frozen=True, slots=True)
class RawRate:
    """What raw SQLite does with as many messages in a commit or a query."""

    kind: str
    messages_per_request: int
    messages_per_s: float


@dataclass(frozen=True, slots=True)
class HttpReport:
    """All cases of a run, and what raw SQLite did in the same run."""

    blob_bytes: int
    bulk: int
    clients: tuple[int, ...]
    seconds_per_case: float
    raw: tuple[RawRate, ...]
    cases: tuple[HttpCase, ...]
    claims: tuple[Claim, ...]


async def measure_http(
    folder: Path,
    *,
    clients: Sequence[int],
    bulk: int,
    blob_bytes: int,
    seconds_per_case: float,
    progress: Callable[[str], None],
) -> HttpReport:
    """Raises BenchError, ClusterError, StoreError or DataDirError."""
    progress("raw SQLite")
    raw = await trio.to_thread.run_sync(_measure_raw, folder / "raw.sqlite3", bulk, blob_bytes)
    progress("filling the mailbox's store")
    mailbox = MailboxProcess("bench", folder / "mailbox")
    log_messages = bulk + 1  # the API knows no height below 0: a client has one message at least
    async with SqliteStore.open(mailbox.data_dir / STORE_FILE) as store:
        places = [(log, log_messages) for log in range(TOPICS * LOGS_PER_TOPIC)]
        for batch in in_batches(log_by_log(places, blob_bytes=blob_bytes), COMMIT_BATCH_MESSAGES):
            await store.put(batch)
    mailbox.start("--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--no-mdns", "--log-level", "warning")
    try:
        info = await mailbox.wait_ready()
        port = int(info.http[0].rpartition(":")[2])
        cases: list[HttpCase] = []
        for count in clients:
            health_per_s: float | None = None
            for kind, messages in (("health", 0), ("store", 1), ("store", bulk), ("get", 1), ("get", bulk)):
                what = f"{kind}, {messages} per request" if messages else kind
                progress(f"{count} clients: {what}")
                load = Load(port, kind, count, seconds_per_case, messages, blob_bytes, TOPICS, log_messages)
                before_s = cpu_s(mailbox.pid)
                figures = await play_apart(load)
                after_s = cpu_s(mailbox.pid)
                case = _case(load, figures, before_s, after_s, health_per_s, raw)
                health_per_s = health_per_s or case.requests_per_s
                cases.append(case)
    finally:
        await mailbox.stop()
    return HttpReport(
        blob_bytes,
        bulk,
        tuple(clients),
        seconds_per_case,
        tuple(RawRate(kind, messages, rate.messages_per_s) for (kind, messages), rate in raw.items()),
        tuple(cases),
        _claims(cases, bulk),
    )


async def play_apart(load: Load) -> LoadFigures:
    """Plays the load in a process of its own. Raises BenchError."""
    command = [sys.executable, "-m", "node.bench.http_clients", json.dumps(asdict(load))]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise BenchError(f"the load of {load.clients} clients failed: {lines[-1] if lines else 'it said nothing'}")
    return LoadFigures(**json.loads(done.stdout))


def _case(
    load: Load,
    figures: LoadFigures,
    before_s: float | None,
    after_s: float | None,
    health_per_s: float | None,
    raw: dict[tuple[str, int], Rate],
) -> HttpCase:
    requests_per_s = figures.requests / figures.elapsed_s
    messages_per_s = requests_per_s * load.messages
    moved = figures.requests * max(1, load.messages)
    ceiling = raw.get((load.kind, load.messages))
    return HttpCase(
        kind=load.kind,
        messages_per_request=load.messages,
        clients=load.clients,
        requests_per_s=requests_per_s,
        messages_per_s=messages_per_s,
        p50_ms=figures.p50_ms,
        p99_ms=figures.p99_ms,
        answer_bytes=figures.answer_bytes // figures.requests,
        server_cpu_us=None if before_s is None or after_s is None else 1e6 * (after_s - before_s) / moved,
        ratio_to_raw=None if ceiling is None else messages_per_s / ceiling.messages_per_s,
        ratio_to_health=None if health_per_s is None else requests_per_s / health_per_s,
    )


def _measure_raw(path: Path, bulk: int, blob_bytes: int) -> dict[tuple[str, int], Rate]:
    """The ceilings, over logs of as many messages as a bulk has."""
    logs = max(1, RAW_BULK_MESSAGES // bulk)
    places = [(log_name(log), bulk) for log in range(logs)]
    with RawSqlite.open(path) as raw:
        stored = list(log_by_log([(log, bulk) for log in range(logs)], blob_bytes=blob_bytes))
        others = scattered(RAW_SINGLES, logs=RAW_SINGLE_LOGS, blob_bytes=blob_bytes, first_log=logs)
        singles = [[row] for row in raw.rows(list(others))]
        return {
            ("store", bulk): raw.put([raw.rows(batch) for batch in in_batches(stored, bulk)]),
            ("get", bulk): raw.get([[(name, 0)] for name, _ in places]),
            ("get", 1): raw.get([[(name, length - 1)] for name, length in places]),
            ("store", 1): raw.put(singles),
        }


def _claims(cases: Sequence[HttpCase], bulk: int) -> tuple[Claim, ...]:
    found = {(case.kind, case.messages_per_request): case for case in cases if case.clients == CLAIMS_CLIENTS}
    if not found:
        return ()
    single, many = found["store", 1], found["store", bulk]
    assert single.ratio_to_raw is not None
    assert many.ratio_to_raw is not None
    who = f"{CLAIMS_CLIENTS} clients"
    return (
        Claim(f"stores of 1 message, {who} ÷ raw SQLite", single.ratio_to_raw, SINGLE_RATIO_MIN, is_floor=True),
        Claim(f"stores of {bulk} messages, {who} ÷ raw SQLite", many.ratio_to_raw, BULK_RATIO_MIN, is_floor=True),
        Claim(f"stores of 1 message, {who}: p99 ÷ p50", single.p99_ms / single.p50_ms, P99_TO_P50_MAX),
    )
