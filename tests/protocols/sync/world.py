"""Mailboxes as dictionaries, and a lock-step driver for two sessions over them: the whole sync without I/O.

The driver checks what must hold in every session: frames within their limits, turns taken (never both waiting, never
one sending to somebody who is not listening), bounded memory for unread frames.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protocols.limits.data import VARIANTS_MAX
from protocols.limits.sync import BLOCK_SEQS, CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX, LOG_RUNS_MAX
from protocols.model import Item, LogName, Retention, digest_of, handle_of
from protocols.operations import is_genuine
from protocols.sync import effects as fx
from protocols.sync.effects import Rows, Runs
from protocols.sync.fields import PARCEL, REFUSE
from protocols.sync.interest import Interest
from protocols.sync.reconcile import block_digest, block_key, live_fingerprint, log_state
from protocols.sync.session import Checkpoint, SessionConfig, SessionResult, initiate, respond
from protocols.sync.spans import minus

NOW_S = 1_800_000_000.0
HOUR_S = 3600
NETWORK = "test"


Log = tuple[bytes, LogName, bytes, list[tuple[int, bytes]], list[int], int]
"""Handle, name, state, blocks, seqs, serial of the last change."""


class View:
    """A LogTable over plain lists: the slow and plain truth."""

    def __init__(self, logs: Sequence[Log], serial: int, *, is_partial: bool) -> None:
        self.logs = sorted(logs)
        self.serial = serial
        self.is_partial = is_partial
        self.prefixes = np.array([int.from_bytes(log[0][:8], "big") for log in self.logs], np.uint64)

    def __len__(self) -> int:
        return len(self.logs)

    def rows(self, lo: int, hi: int) -> list[bytes]:
        return [log[0] + log[2] for log in self.logs[lo:hi]]

    def changed_since(self, serial: int) -> Rows:
        return np.array([row for row, log in enumerate(self.logs) if log[5] > serial], np.int64)

    def runs(self, rows: Rows) -> Runs:
        spans = [runs_of(self.logs[row][4]) for row in rows.tolist()]
        listed = [one if len(one) <= LOG_RUNS_MAX else [] for one in spans]
        return Runs(
            np.array([len(one) for one in listed], np.int64),
            np.array([first for one in listed for first, _ in one], np.uint64),
            np.array([last for one in listed for _, last in one], np.uint64),
        )

    def find(self, handle: bytes) -> int | None:
        row = bisect_left(self.logs, (handle,))
        return row if row < len(self.logs) and self.logs[row][0] == handle else None

    def handle_at(self, row: int) -> bytes:
        return self.logs[row][0]

    def name_at(self, row: int) -> LogName:
        return self.logs[row][1]

    def state_at(self, row: int) -> bytes:
        return self.logs[row][2]

    def blocks_at(self, row: int) -> bytes:
        return b"".join([block_key(number) + digest for number, digest in self.logs[row][3]])


def runs_of(seqs: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and runs[-1][1] + 1 == seq:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


@dataclass
class Box:
    """A mailbox: {log: {seq: {digest: [first stored, blob]}}}, with the store's rules for variants and watermarks."""

    now_s: float = NOW_S
    retention: Retention = field(default_factory=Retention)
    network: str = NETWORK
    logs: dict[LogName, dict[int, dict[bytes, tuple[int, bytes]]]] = field(default_factory=dict)
    watermarks: dict[LogName, int] = field(default_factory=dict)
    refuse_claims: bool = False
    let_go: dict[LogName, tuple[int, int]] = field(default_factory=dict)
    """A span of each log that is not wanted again."""
    serial: int = 1000
    serials: dict[LogName, int] = field(default_factory=dict)
    is_full: bool = False
    interest: Interest | None = None
    commits: int = 0
    settled: int = 0

    def put(self, name: LogName, seq: int, blob: bytes, first_stored_s: int | None = None) -> None:
        stamp = self.retention.stamp(self.now_s) if first_stored_s is None else first_stored_s
        variants = self.logs.setdefault(name, {}).setdefault(seq, {})
        digest = digest_of(blob)
        old = variants.get(digest)
        variants[digest] = (min(stamp, old[0]) if old else stamp, blob)

        def rank(digest: bytes) -> tuple[bool, int, bytes]:
            first_stored_s, blob = variants[digest]
            return not is_genuine(name, seq, blob), first_stored_s, digest

        for surplus in sorted(variants, key=rank)[VARIANTS_MAX:] if len(variants) > VARIANTS_MAX else []:
            del variants[surplus]
        self.touch(name)
        self._raise(name)

    def touch(self, name: LogName) -> None:
        self.serial += 1
        self.serials[name] = self.serial

    def _raise(self, name: LogName) -> None:
        held = self.logs.get(name, {})
        top = self.watermarks.get(name, -1)
        while top + 1 in held:
            top += 1
        if top >= 0:
            self.watermarks[name] = top

    def adopt(self, name: LogName, watermark: int) -> None:
        own = self.watermarks.get(name, -1)
        above = sorted(seq for seq in self.logs.get(name, {}) if seq > own)
        if above and (to := min(watermark, above[0] - 1)) > own:
            self.watermarks[name] = to
            self._raise(name)

    def items(self, name: LogName, seq_from: int, seq_to: int) -> list[Item]:
        held = self.logs.get(name, {})
        return [
            Item(seq, digest, held[seq][digest][0], len(held[seq][digest][1]))
            for seq in sorted(held)
            if seq_from <= seq <= seq_to
            for digest in sorted(held[seq])
        ]

    def view(self, alive_from_s: int, interest: Interest | None = None) -> View:
        logs: list[Log] = []
        is_partial = False
        for name, held in self.logs.items():
            if interest is not None and not interest.covers(name.topic):
                continue
            by_block: dict[int, list[Item]] = {}
            seqs: list[int] = []
            for seq in sorted(held):
                for digest in sorted(held[seq]):
                    stamp, blob = held[seq][digest]
                    if stamp < alive_from_s:
                        is_partial = True
                        continue
                    by_block.setdefault(seq // BLOCK_SEQS, []).append(Item(seq, digest, stamp, len(blob)))
                    if seqs[-1:] != [seq]:
                        seqs.append(seq)
            if by_block:
                blocks = [(number, block_digest(by_block[number])) for number in sorted(by_block)]
                logs.append((handle_of(name), name, log_state(blocks), blocks, seqs, self.serials.get(name, 0)))
        return View(logs, self.serial, is_partial=is_partial)

    def alive(self, alive_from_s: int) -> dict[tuple[LogName, int, bytes], int]:
        return {
            (name, seq, digest): stamp
            for name, held in self.logs.items()
            for seq, variants in held.items()
            for digest, (stamp, _) in variants.items()
            if stamp >= alive_from_s
        }

    def fingerprint(self, alive_from_s: int) -> str:
        view = self.view(alive_from_s)
        return live_fingerprint([log[0] for log in view.logs], [log[2] for log in view.logs])

    def config(
        self,
        *,
        salt: bytes = b"s" * 8,
        only: Sequence[bytes] | None = None,
        checkpoint: Checkpoint | None = None,
        peer_interest: Interest | None = None,
    ) -> SessionConfig:
        return SessionConfig(
            now_s=self.now_s,
            retention=self.retention,
            network=self.network,
            software="mailboxd/test",
            salt=salt,
            only=only,
            checkpoint=checkpoint,
            is_full=self.is_full,
            interest=self.interest,
            peer_interest=peer_interest,
        )

    # --- effects -----------------------------------------------------------------------------------------------

    def perform(self, effect: Any) -> Any:
        match effect:
            case fx.OpenView(alive_from_s, interest):
                return self.view(alive_from_s, interest)
            case fx.ReadItems(spans):
                return [self.items(*span) for span in spans]
            case fx.ReadMessages():
                return self._page(effect)
            case fx.ReadWatermarks(names):
                return [self.watermarks.get(name) for name in names]
            case fx.Claim(spans):
                return fx.Granted(
                    [fx.Span(span.name, *run) for span in spans for run in self._claim(span)],
                    [fx.Span(span.name, *run) for span in spans for run in self._unwanted(span)],
                )
            case fx.Release() | fx.GiveWay():
                return None
            case fx.Commit():
                return self._commit(effect)
            case fx.Settle():
                self.settled = self.commits
                return None
        raise AssertionError(f"unknown effect {effect}")

    def _claim(self, span: fx.Span) -> list[tuple[int, int]]:
        """All of it: what one session fetches twice is its own business."""
        if self.refuse_claims or self.is_full:
            return []
        return minus([(span.first, span.last)], self._unwanted(span))

    def _unwanted(self, span: fx.Span) -> list[tuple[int, int]]:
        whole = [(span.first, span.last)]
        return minus(whole, minus(whole, [self.let_go[span.name]])) if span.name in self.let_go else []

    def lets_go(self, name: LogName, first: int, last: int) -> None:
        """Of a span of a log, for good."""
        self.let_go[name] = (first, last)
        for seq in [seq for seq in self.logs[name] if first <= seq <= last]:
            del self.logs[name][seq]
        self.touch(name)

    def _page(self, effect: fx.ReadMessages) -> fx.Page:
        entries: list[tuple[int, Item, bytes]] = []
        size = 0
        for index, (name, first, last) in enumerate(effect.spans):
            held = self.logs.get(name, {})
            for seq in sorted(held):
                if not first <= seq <= last or (effect.after and (index, seq) < effect.after):
                    continue
                if size >= effect.page_bytes:
                    return fx.Page.of(entries, (index, seq))
                for digest in sorted(held[seq]):
                    stamp, blob = held[seq][digest]
                    if stamp >= effect.alive_from_s:
                        entries.append((index, Item(seq, digest, stamp, len(blob)), blob))
                        size += len(blob)
        return fx.Page.of(entries, None)

    def _commit(self, commit: fx.Commit) -> None:
        self.commits += 1
        for name, seq, blob, digest, stamp in commit.deliveries:
            assert digest_of(blob) == digest
            self.put(name, seq, blob, stamp)
        for name, item in commit.merges:
            known = self.logs.get(name, {}).get(item.seq, {})
            if item.digest in known:
                stamp, blob = known[item.digest]
                known[item.digest] = (min(stamp, item.first_stored_s), blob)
                self.touch(name)
        for name, watermark in commit.watermarks:
            self.adopt(name, watermark)


@dataclass
class Side:
    """One end of a session."""

    box: Box
    session: Generator[Any, Any, SessionResult]
    inbox: deque[bytes] = field(default_factory=deque)
    result: SessionResult | None = None
    error: BaseException | None = None
    waiting: bool = False
    frames_out: int = 0
    bytes_out: int = 0
    resume: Any = None

    @property
    def ended(self) -> bool:
        return self.result is not None or self.error is not None


@dataclass
class Outcome:
    """What a run of two sessions showed."""

    initiator: Side
    responder: Side

    @property
    def bytes(self) -> int:
        return self.initiator.bytes_out + self.responder.bytes_out

    @property
    def frames(self) -> int:
        return self.initiator.frames_out + self.responder.frames_out


def check_frame(frame: bytes) -> None:
    assert 0 < len(frame) <= FRAME_BYTES_MAX
    if frame[1] != PARCEL:
        assert len(frame) <= CONTROL_FRAME_BYTES_MAX


def run_pair(
    first: Side,
    second: Side,
    *,
    on_frame: Callable[[int, bytes], bytes | None] | None = None,
    frames_max: int = 200_000,
    polite: bool = True,
) -> Outcome:
    """Runs both until they end. `on_frame(count, frame)` may change a frame, or return None to cut the stream.
    Only an attacker who is not `polite` speaks out of turn."""
    stream = _Stream(on_frame, frames_max, polite)
    while not (first.ended and second.ended):
        moved = _run_side(first, second, stream)
        moved = _run_side(second, first, stream) or moved
        assert moved, "both sides wait for each other"
    return Outcome(first, second)


@dataclass
class _Stream:
    on_frame: Callable[[int, bytes], bytes | None] | None
    frames_max: int
    polite: bool
    count: int = 0
    broken: bool = False

    def carry(self, frame: bytes) -> bytes | None:
        check_frame(frame)
        self.count += 1
        assert self.count <= self.frames_max, "an endless session"
        if self.broken:
            return None
        carried = frame if self.on_frame is None else self.on_frame(self.count, frame)
        self.broken = carried is None
        return carried


def _run_side(side: Side, other: Side, stream: _Stream) -> bool:
    """Runs one side until it waits or ends; False if it could not move at all."""
    moved = False
    while not side.ended and (not side.waiting or _received(side, other, stream)):
        moved = True
        effect = _advance(side)
        if isinstance(effect, fx.Receive):
            side.waiting = True
        elif isinstance(effect, fx.Send):
            if stream.polite and effect.frame[1] != REFUSE:
                assert not side.inbox, "sent while the other side's frames were unread"
            frame = stream.carry(effect.frame)
            if frame is None:
                side.resume = fx.SessionAborted("the stream broke")
            else:
                side.frames_out += 1
                side.bytes_out += len(frame) + 4
                other.inbox.append(frame)
        elif effect is not None:
            side.resume = side.box.perform(effect)
    return moved


def _received(side: Side, other: Side, stream: _Stream) -> bool:
    """Whether something came for a side that waits: a frame, the end of the stream, or its breaking."""
    if side.inbox:
        side.resume = side.inbox.popleft()
    elif stream.broken:
        side.resume = fx.SessionAborted("the stream broke")
    elif not other.ended:
        return False
    side.waiting = False
    return True


def _advance(side: Side) -> Any:
    try:
        value, side.resume = side.resume, None
        if isinstance(value, Exception):
            return side.session.throw(value)
        return side.session.send(value)
    except StopIteration as stop:
        side.result = stop.value
    except Exception as error:
        side.error = error
    return None


def sync(
    initiator: Box,
    responder: Box,
    *,
    only: Sequence[bytes] | None = None,
    salt: bytes = b"s" * 8,
    checkpoints: tuple[Checkpoint | None, Checkpoint | None] = (None, None),
    peer_interests: tuple[Interest | None, Interest | None] = (None, None),
    on_frame: Callable[[int, bytes], bytes | None] | None = None,
) -> Outcome:
    """One session; raises what either side raised unless the test cuts the stream."""
    configs = (
        initiator.config(salt=salt, only=only, checkpoint=checkpoints[0], peer_interest=peer_interests[0]),
        responder.config(checkpoint=checkpoints[1], peer_interest=peer_interests[1]),
    )
    outcome = run_pair(
        Side(initiator, initiate(configs[0])),
        Side(responder, respond(configs[1])),
        on_frame=on_frame,
    )
    if on_frame is None:
        for side in (outcome.initiator, outcome.responder):
            if side.error is not None:
                raise side.error
    return outcome


def boundary(*boxes: Box) -> int:
    """The smallest first stored that all of these mailboxes take part with."""
    return max(box.config().alive_from_s for box in boxes)


def assert_equal(one: Box, other: Box) -> None:
    """Equal in key, content and first stored, as far as both keep it."""
    at = boundary(one, other)
    assert one.alive(at) == other.alive(at)
    assert one.fingerprint(at) == other.fingerprint(at)


def name_of(number: int, topic: int = 0) -> LogName:
    return LogName(f"{topic:064x}", f"{number:064x}")
