"""`mailboxd bench transfer`: a fresh mailbox takes over everything from one that is full, or from several.

Real mailbox processes on loopback. The full ones start on a store file that is filled before. Beside the transfer
stands, from the same run, what bounds it: one libp2p stream between two processes, the store alone taking in the
same messages in the same order, and the processors that the mailboxes share.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.bench.claims import Claim
from node.bench.messages import arrival_at, in_batches, log_by_log, log_name, stamp_now_s
from node.bench.processes import cpu_s, memory_bytes, peak_memory_bytes
from node.bench.rates import BenchError
from node.bench.stream import stream_bytes_per_s
from node.cli.cluster import MailboxProcess
from node.datadir import STORE_FILE
from node.store._schema import chunks_of, connect_reader
from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.limits.store import COMMIT_BATCH_BYTES, COMMIT_BATCH_MESSAGES
from protocols.model import handle_of

__all__ = ["ProcessCost", "TransferReport", "measure_transfer"]

LOG_MESSAGES: Final = 100
STREAM_S: Final = 2.0
START_PATIENCE_S: Final = 300.0
"""A mailbox reads its whole store when it starts."""
STALL_PATIENCE_S: Final = 60.0
SETTLE_PATIENCE_S: Final = 120.0
SHARE_MIN: Final = 0.5
_LOOK_INTERVAL_S: Final = 0.02
_SETTLE_LOOK_S: Final = 0.5
_OPTIONS: Final = ("--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--no-mdns", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """A mailbox during the transfer; None where the system does not tell it. `peak` includes what the start took."""

    memory_before_bytes: int | None
    memory_peak_bytes: int | None
    cpu_s: float | None


@dataclass(frozen=True, slots=True)
class TransferReport:
    """MB are 10^6 bytes of content. `seconds` run from the fresh mailbox's start to the last durable message.

    `sync_bytes` is what the sync streams carried both ways, before encryption. `limit` names the lower one of the two
    ceilings, `share_of_limit` is what of it was reached, and `share_possible` what of it could be if all mailboxes kept
    all `cores` busy without a pause: they compute `cpu_us_per_message` together.

    `insert_…` is the store alone with the copying of its write-ahead log, without which none goes on for long;
    `commit_messages_per_s` counts only until it answers.
    """

    messages: int
    blob_bytes: int
    peers: int
    seconds: float
    messages_per_s: float
    megabytes_per_s: float
    sync_bytes: int
    sync_bytes_per_content_byte: float
    receiver: ProcessCost
    senders: tuple[ProcessCost, ...]
    stream_megabytes_per_s: float
    insert_messages_per_s: float
    insert_megabytes_per_s: float
    commit_messages_per_s: float
    insert_cpu_us_per_message: float
    cpu_us_per_message: float | None
    cores: int
    limit: str
    share_of_limit: float
    share_possible: float | None
    claims: tuple[Claim, ...]
    correct: bool


async def measure_transfer(
    folder: Path, *, messages: int, blob_bytes: int, peers: int, progress: Callable[[str], None]
) -> TransferReport:
    """Raises BenchError (also if the mailboxes do not hold the same in the end), ClusterError, StoreError or
    DataDirError."""
    progress("one libp2p stream")
    stream_mb = await stream_bytes_per_s(STREAM_S) / 1e6
    plan = _Plan(messages, blob_bytes)
    alone = await _insert(folder / "alone.sqlite3", plan, progress)
    senders = [MailboxProcess(f"full-{number}", folder / f"full-{number}") for number in range(peers)]
    await _fill([sender.data_dir / STORE_FILE for sender in senders], plan, progress)
    fresh = MailboxProcess("fresh", folder / "fresh")
    try:
        progress("starting the mailboxes")
        for sender in senders:
            sender.start(*_OPTIONS)
        for sender in senders:
            await sender.wait_ready(timeout_s=START_PATIENCE_S)
        others = [word for sender in senders for word in ("--peer", sender.info.p2p[0])]
        fresh.start(*_OPTIONS, *others)
        await fresh.wait_ready(timeout_s=START_PATIENCE_S)
        gauges = [_Gauge(mailbox.pid) for mailbox in (fresh, *senders)]
        seconds = await _taken_over_s(fresh, plan, progress)
        receiver, *sending = [gauge.read() for gauge in gauges]
        progress("comparing")
        sync_bytes = await _sync_bytes(fresh)
        await _check_equal(fresh, senders, messages)
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for mailbox in (fresh, *senders):
                    nursery.start_soon(mailbox.stop)
    content = messages * blob_bytes
    megabytes_per_s, insert_mb = content / seconds / 1e6, content / alone.seconds / 1e6
    ceiling_mb, limit = min((stream_mb, "libp2p stream"), (insert_mb, "SQLite inserts"))
    share = megabytes_per_s / ceiling_mb
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spent_s = [cost.cpu_s for cost in (receiver, *sending)]
    cpu_s = None if None in spent_s else sum(filter(None, spent_s))
    return TransferReport(
        messages=messages,
        blob_bytes=blob_bytes,
        peers=peers,
        seconds=seconds,
        messages_per_s=messages / seconds,
        megabytes_per_s=megabytes_per_s,
        sync_bytes=sync_bytes,
        sync_bytes_per_content_byte=sync_bytes / content,
        receiver=receiver,
        senders=tuple(sending),
        stream_megabytes_per_s=stream_mb,
        insert_messages_per_s=messages / alone.seconds,
        insert_megabytes_per_s=insert_mb,
        commit_messages_per_s=messages / alone.answered_s,
        insert_cpu_us_per_message=1e6 * alone.cpu_s / messages,
        cpu_us_per_message=1e6 * cpu_s / messages if cpu_s else None,
        cores=cores,
        limit=limit,
        share_of_limit=share,
        share_possible=content / 1e6 * cores / cpu_s / ceiling_mb if cpu_s else None,
        claims=(Claim(f"transfer ÷ the limit ({limit})", share, SHARE_MIN, is_floor=True),),
        correct=True,
    )


class _Plan:
    """`messages` in logs of LOG_MESSAGES."""

    def __init__(self, messages: int, blob_bytes: int) -> None:
        self.messages = messages
        self.blob_bytes = blob_bytes
        self._logs = max(1, messages // LOG_MESSAGES)

    def as_they_came(self) -> Iterator[Arrival]:
        """As phones leave them: what arrives one after the other belongs to different logs."""
        names = [log_name(log) for log in range(self._logs)]
        first_stored_s = stamp_now_s()
        for number in range(self.messages):
            seq, log = divmod(number, self._logs)
            yield arrival_at(names[log], seq, self.blob_bytes, first_stored_s)

    def as_they_are_synced(self) -> Iterator[Arrival]:
        """Log by log, in the order of their handles."""
        logs = sorted(range(self._logs), key=lambda log: handle_of(log_name(log)))
        places = ((log, len(range(log, self.messages, self._logs))) for log in logs)
        return log_by_log(places, blob_bytes=self.blob_bytes)

    def in_batches(self, arrivals: Iterator[Arrival]) -> Iterator[list[Arrival]]:
        """As large as the store commits at once."""
        return in_batches(arrivals, max(1, min(COMMIT_BATCH_MESSAGES, COMMIT_BATCH_BYTES // self.blob_bytes)))


class _Gauge:
    """What a process costs from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory_before_bytes = memory_bytes(pid)
        self._cpu_before_s = cpu_s(pid)

    def read(self) -> ProcessCost:
        now_s = cpu_s(self._pid)
        spent_s = None if now_s is None or self._cpu_before_s is None else now_s - self._cpu_before_s
        return ProcessCost(self._memory_before_bytes, peak_memory_bytes(self._pid), spent_s)


@dataclass(slots=True)
class _Insert:
    """What the store alone takes: seconds in all, until it answers, and of CPU."""

    seconds: float = 0.0
    answered_s: float = 0.0
    cpu_s: float = 0.0


async def _insert(path: Path, plan: _Plan, progress: Callable[[str], None]) -> _Insert:
    """The store alone commits everything; making the messages does not count."""
    spent = _Insert()
    done = 0
    async with SqliteStore.open(path) as store:
        for batch in plan.in_batches(plan.as_they_are_synced()):
            begun_at, cpu_s = trio.current_time(), time.process_time()
            await store.put(batch)
            spent.answered_s += trio.current_time() - begun_at
            # Nothing to do, but its turn comes when the writer has copied its log, which it does after it has answered.
            await store.adopt_watermarks({})
            spent.seconds += trio.current_time() - begun_at
            spent.cpu_s += time.process_time() - cpu_s
            done += len(batch)
            progress(f"the store alone: {done:,} of {plan.messages:,} messages")
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    return spent


async def _fill(paths: Sequence[Path], plan: _Plan, progress: Callable[[str], None]) -> None:
    first, *others = paths
    done = 0
    async with SqliteStore.open(first) as store:
        for batch in plan.in_batches(plan.as_they_came()):
            await store.put(batch)
            done += len(batch)
            progress(f"filling a mailbox: {done:,} of {plan.messages:,} messages")
    for other in others:
        await trio.to_thread.run_sync(shutil.copyfile, first, other)


async def _taken_over_s(fresh: MailboxProcess, plan: _Plan, progress: Callable[[str], None]) -> float:
    """Seconds from now until the fresh mailbox has everything on its disk."""
    begun_at = moved_at = trio.current_time()
    seen = 0
    # Looked at from outside, as any question to the mailbox itself would hold it up.
    with closing(connect_reader(fresh.data_dir / STORE_FILE)) as database:
        rows = plan.messages * chunks_of(plan.blob_bytes)
        while seen < rows:
            await trio.sleep(_LOOK_INTERVAL_S)
            (highest,) = database.execute("SELECT max(id) FROM blobs").fetchone()
            if (highest or 0) > seen:
                seen, moved_at = highest, trio.current_time()
                progress(f"transfer: {seen / rows:.0%}")
            elif trio.current_time() > moved_at + STALL_PATIENCE_S:
                raise BenchError(
                    f"the transfer stood still for {STALL_PATIENCE_S:g} s at {seen / rows:.0%}; the fresh mailbox "
                    f"said last: {fresh.last_words()}"
                )
        return trio.current_time() - begun_at


async def _sync_bytes(fresh: MailboxProcess) -> int:
    """What the sync streams carried in both directions, once the sessions are over."""
    with trio.move_on_after(SETTLE_PATIENCE_S):
        while True:
            peers = (await fresh.status())["peers"]
            if all(peer["progress"] is None for peer in peers):  # a session can end while another one goes on
                return sum(peer["bytes_in"] + peer["bytes_out"] for peer in peers)
            await trio.sleep(_SETTLE_LOOK_S)
    raise BenchError(f"the fresh mailbox was still syncing {SETTLE_PATIENCE_S:g} s after it had everything")


async def _check_equal(fresh: MailboxProcess, senders: Sequence[MailboxProcess], messages: int) -> None:
    states = [await mailbox.status() for mailbox in (fresh, *senders)]
    if len({state["fingerprint"] for state in states}) != 1 or states[0]["messages"] != messages:
        held = ", ".join(f"{state['messages']:,}" for state in states)
        raise BenchError(f"the mailboxes do not hold the same after the transfer: {held} of {messages:,} messages")
