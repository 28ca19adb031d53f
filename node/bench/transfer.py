"""`mailboxd bench transfer`: a fresh mailbox takes over everything from one that is full, or from several.

Real mailbox processes on loopback. The full ones start on a store file that is filled before. Beside the transfer
stands, from the same run, what bounds it: one libp2p stream between two processes, the store alone taking in the
same messages in the same order, and the processors that the mailboxes share.

A machine's own speed drifts, on a virtual one by a quarter within a minute. So the store alone is measured before and
after each transfer, in some rounds, and the round in the middle is the one that counts.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
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

__all__ = ["ProcessCost", "TransferReport", "TransferRound", "measure_transfer"]

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
class TransferRound:
    """One transfer, and the store alone before and after it. `cpu_us_per_message` is that of all mailboxes."""

    seconds: float
    messages_per_s: float
    insert_before_messages_per_s: float
    insert_after_messages_per_s: float
    share_of_limit: float
    cpu_us_per_message: float | None


@dataclass(frozen=True, slots=True)
class TransferReport:
    """MB are 10^6 bytes of content. `seconds` run from the fresh mailbox's start to the last durable message.

    All figures are those of the round whose share of the limit is in the middle (of an even number: of the lower one of
    two); `rounds` has what differed in each, in their order, and the lowest and highest share stand beside.

    `sync_bytes` is what the sync streams carried both ways, before encryption. `limit` names the lower one of the two
    ceilings, `share_of_limit` is what of it was reached, and `share_possible` what of it could be if all mailboxes kept
    all `cores` busy without a pause: they compute `cpu_us_per_message` together.

    `insert_…` is the store alone, the mean of before and after, with the copying of its write-ahead log, without which
    none goes on for long; `commit_messages_per_s` counts only until it answers.
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
    share_of_limit_lowest: float
    share_of_limit_highest: float
    share_possible: float | None
    rounds: tuple[TransferRound, ...]
    claims: tuple[Claim, ...]
    correct: bool


async def measure_transfer(
    folder: Path, *, messages: int, blob_bytes: int, peers: int, rounds: int, progress: Callable[[str], None]
) -> TransferReport:
    """Raises BenchError (also if the mailboxes do not hold the same in the end), ClusterError, StoreError or
    DataDirError."""
    progress("one libp2p stream")
    stream_mb = await stream_bytes_per_s(STREAM_S) / 1e6
    plan = _Plan(messages, blob_bytes)
    senders = [MailboxProcess(f"full-{number}", folder / f"full-{number}") for number in range(peers)]
    await _fill([sender.data_dir / STORE_FILE for sender in senders], plan, progress)
    alone = [await _insert(folder / "alone.sqlite3", plan, progress)]
    carried: list[_Carried] = []
    for number in range(1, rounds + 1):
        tell = _in_round(number, rounds, progress)
        carried.append(await _carry(folder / "fresh", senders, plan, tell))
        alone.append(await _insert(folder / "alone.sqlite3", plan, tell))
    return _report(plan, stream_mb, alone, carried)


def _in_round(number: int, rounds: int, progress: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: progress(f"round {number} of {rounds}: {text}")


def _report(plan: _Plan, stream_mb: float, alone: Sequence[_Insert], carried: Sequence[_Carried]) -> TransferReport:
    """`alone` was measured before, between and after what was `carried`."""
    messages, blob_bytes = plan.messages, plan.blob_bytes
    content_mb = messages * blob_bytes / 1e6
    around = [_Insert.mean(before, after) for before, after in pairwise(alone)]
    ceilings = [min((stream_mb, "libp2p stream"), (content_mb / one.seconds, "SQLite inserts")) for one in around]
    shares = [content_mb / one.seconds / mb for one, (mb, _) in zip(carried, ceilings, strict=True)]
    rounds = tuple(
        TransferRound(
            seconds=one.seconds,
            messages_per_s=messages / one.seconds,
            insert_before_messages_per_s=messages / before.seconds,
            insert_after_messages_per_s=messages / after.seconds,
            share_of_limit=share,
            cpu_us_per_message=one.cpu_s and 1e6 * one.cpu_s / messages,
        )
        for one, (before, after), share in zip(carried, pairwise(alone), shares, strict=True)
    )
    at = sorted(range(len(shares)), key=shares.__getitem__)[(len(shares) - 1) // 2]
    transfer, insert, (ceiling_mb, limit), share = carried[at], around[at], ceilings[at], shares[at]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return TransferReport(
        messages=messages,
        blob_bytes=blob_bytes,
        peers=len(transfer.senders),
        seconds=transfer.seconds,
        messages_per_s=messages / transfer.seconds,
        megabytes_per_s=content_mb / transfer.seconds,
        sync_bytes=transfer.sync_bytes,
        sync_bytes_per_content_byte=transfer.sync_bytes / (messages * blob_bytes),
        receiver=transfer.receiver,
        senders=transfer.senders,
        stream_megabytes_per_s=stream_mb,
        insert_messages_per_s=messages / insert.seconds,
        insert_megabytes_per_s=content_mb / insert.seconds,
        commit_messages_per_s=messages / insert.answered_s,
        insert_cpu_us_per_message=1e6 * insert.cpu_s / messages,
        cpu_us_per_message=rounds[at].cpu_us_per_message,
        cores=cores,
        limit=limit,
        share_of_limit=share,
        share_of_limit_lowest=min(shares),
        share_of_limit_highest=max(shares),
        share_possible=content_mb * cores / transfer.cpu_s / ceiling_mb if transfer.cpu_s else None,
        rounds=rounds,
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

    @classmethod
    def mean(cls, *all_: _Insert) -> _Insert:
        return cls(
            fmean(one.seconds for one in all_), fmean(one.answered_s for one in all_), fmean(one.cpu_s for one in all_)
        )


@dataclass(frozen=True, slots=True)
class _Carried:
    """One transfer."""

    seconds: float
    sync_bytes: int
    receiver: ProcessCost
    senders: tuple[ProcessCost, ...]

    @property
    def cpu_s(self) -> float | None:
        """Of all mailboxes; None if the system tells none or less than it can."""
        spent_s = [cost.cpu_s for cost in (self.receiver, *self.senders)]
        return None if None in spent_s else sum(filter(None, spent_s)) or None


async def _carry(
    home: Path, senders: Sequence[MailboxProcess], plan: _Plan, progress: Callable[[str], None]
) -> _Carried:
    """Starts all mailboxes and has a fresh one, which is gone afterwards, take over everything."""
    fresh = MailboxProcess("fresh", home)
    try:
        progress("starting the mailboxes")
        for sender in senders:
            sender.start(*_OPTIONS)
        for sender in senders:
            await sender.wait_ready(timeout_s=START_PATIENCE_S)
        await _disk_at_rest()
        others = [word for sender in senders for word in ("--peer", sender.info.p2p[0])]
        fresh.start(*_OPTIONS, *others)
        await fresh.wait_ready(timeout_s=START_PATIENCE_S)
        gauges = [_Gauge(mailbox.pid) for mailbox in (fresh, *senders)]
        seconds = await _taken_over_s(fresh, plan, progress)
        receiver, *sending = [gauge.read() for gauge in gauges]
        progress("comparing")
        sync_bytes = await _sync_bytes(fresh)
        await _check_equal(fresh, senders, plan.messages)
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for mailbox in (fresh, *senders):
                    nursery.start_soon(mailbox.stop)
    await trio.to_thread.run_sync(shutil.rmtree, home)
    return _Carried(seconds, sync_bytes, receiver, tuple(sending))


async def _disk_at_rest() -> None:
    """What was written before is not to be written while something is measured."""
    if sys.platform != "win32":
        await trio.to_thread.run_sync(os.sync)


async def _insert(path: Path, plan: _Plan, progress: Callable[[str], None]) -> _Insert:
    """The store alone commits everything; making the messages does not count."""
    spent = _Insert()
    done = 0
    await _disk_at_rest()
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
