"""What both roles of a session share: what they are told, what they know of each other, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import (
    BLOCK_SEQS,
    SESSION_ROWS_MAX,
    SESSION_SLICE_ROWS,
    SYNC_VERSION_MAX,
    SYNC_VERSION_MIN,
    TRANSFER_SPANS_MAX,
)
from protocols.model import Item, LogName, Retention
from protocols.sync.codec import decode
from protocols.sync.effects import (
    Claim,
    Effect,
    GiveWay,
    Granted,
    LogTable,
    OpenView,
    ReadItems,
    Receive,
    Release,
    SessionAborted,
    Span,
)
from protocols.sync.interest import EVERYTHING_ID, Interest, id_of
from protocols.sync.listing import run_lists
from protocols.sync.messages import Message, Refuse, Seqs
from protocols.sync.reconcile import BlockRows, Budget
from protocols.sync.spans import UNKNOWN_SEQS, minus, union
from protocols.sync.tables import KeyedTable

__all__ = [
    "Checkpoint",
    "Context",
    "PeerInfo",
    "SessionConfig",
    "SessionRefused",
    "SessionResult",
    "Steps",
    "claim",
    "read_blocks",
    "read_dead",
    "receive",
    "runs",
]

_LOG_ROWS: Final = 64
"""What looking into a log costs, in rows that are hashed together."""

T = TypeVar("T")

Steps: TypeAlias = Generator[Effect, Any, T]
"""A part of a session: yields effects and returns a T."""


class SessionRefused(Exception):
    """One side declined to talk: `code` is a short stable word (version, network, clock, …), `text` for people. With a
    `pause_s` there is no point in asking again before so many seconds have passed."""

    def __init__(self, code: str, text: str, *, by_peer: bool, pause_s: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.by_peer = by_peer
        self.pause_s = pause_s


class Checkpoint(NamedTuple):
    """A picture of ours from when both sides held the same of some topics: its serial, and the id of these topics."""

    serial: int
    interest_id: bytes = EVERYTHING_ID


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a session is told at its start.

    `now_s` is the wall clock in Unix seconds, `salt` SALT_BYTES fresh random bytes (only the initiator's are used).
    `only` limits an initiator to the logs with these handles (ABOUT_LOGS_MAX), known or not: what a hint asks for.
    `checkpoint` is the `SessionResult.checkpoint` of the last session with this peer after which both held the same, if
    there was one. `is_full`: we have no room, so that nothing is fetched or taken. `interest` are the topics that we
    keep in step (None: all), `peer_interest` those that the peer kept when we last met it
    (`SessionResult.peer_interest`). `versions` are the lowest and the highest version of the protocol that we speak.
    """

    now_s: float
    retention: Retention
    network: str
    software: str
    salt: bytes
    only: Sequence[bytes] | None = None
    checkpoint: Checkpoint | None = None
    is_full: bool = False
    interest: Interest | None = None
    peer_interest: Interest | None = None
    versions: tuple[int, int] = (SYNC_VERSION_MIN, SYNC_VERSION_MAX)

    @property
    def alive_from_s(self) -> int:
        """The smallest first stored that is alive, rounded up to the granule: the same messages, but the same number
        on two mailboxes (and for a whole hour)."""
        return self.retention.alive_from(self.now_s)


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What a peer says of itself. `clock_offset_s` is its clock minus ours."""

    version: int
    software: str
    clock_offset_s: float
    retention: Retention
    now_s: int
    is_full: bool = False


@dataclass(slots=True, eq=False)  # two sessions that have come equally far are two
class SessionResult:
    """What came of a session, seen from one side.

    `received` and `sent` count messages (and their bytes), `merged` lowered `first stored` here. `expected` are those
    that were found to be missing here so far. `gone` were advertised but did not come; `skipped` are being fetched by
    another session, or found no room; `unwanted` were let go here by a rule of our own. `described` counts items that
    were told. `full`: it covered all logs, not only hinted ones. `complete`: no limit ended it early; if one did,
    another session goes on where it was. `settled`: and all that was found has been moved. `equal`: a comparison of all
    logs, after everything was moved, found no difference. `checkpoint` is what the next session with this peer may
    start from. `interest` are the topics that it
    covers, `peer_interest` those that the peer keeps (None: all; both hold once there is a `peer`).
    """

    round_trips: int = 0
    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    merged: int = 0
    gone: int = 0
    skipped: int = 0
    unwanted: int = 0
    described: int = 0
    expected: int = 0
    settled: bool = False
    equal: bool = False
    checkpoint: Checkpoint | None = None
    full: bool = True
    complete: bool = True
    peer: PeerInfo | None = None
    interest: Interest | None = None
    peer_interest: Interest | None = None

    @property
    def software(self) -> str:
        """The peer's software; empty if there was no hello."""
        return self.peer.software if self.peer else ""


@dataclass(slots=True)
class Context:
    """One side of a session after the hellos: the agreed boundary, the key, the picture, the budgets."""

    config: SessionConfig
    peer: PeerInfo
    alive_from_s: int
    key: bytes
    view: LogTable
    result: SessionResult
    since: int | None = field(init=False)
    """The serial of a picture of ours from when both sides held the same, as far as we know."""
    given: set[bytes] = field(default_factory=set)
    """Handles of logs of which the peer was given something since `since`: it will name them as changed there."""
    budget: Budget = field(init=False)
    table: KeyedTable = field(init=False)
    _earlier: list[LogTable] = field(default_factory=list)
    """The pictures of the rounds before this one."""
    _given_way_at: int = field(init=False)
    """What the budget was when others last had their turn."""

    def __post_init__(self) -> None:
        known = self.config.checkpoint
        self.since = known.serial if known and known.interest_id == id_of(self.result.interest) else None
        self.budget = Budget(SESSION_ROWS_MAX + 16 * len(self.view))
        self._given_way_at = self.budget.rows_left
        self.table = KeyedTable(self.view, key=self.key, budget=self.budget)

    def look_again(self) -> Steps[None]:
        """Takes a fresh picture; what has been spent stays spent."""
        self.since = self.view.serial
        self._earlier.append(self.view)
        self.view = yield OpenView(self.alive_from_s, self.result.interest)
        self.table = KeyedTable(self.view, key=self.key, budget=self.budget)

    def died(self, handle: bytes) -> list[Seqs]:
        """What we held of a log earlier in this session and hold no more: the peer may still have it, as our clock is
        ahead of its, and must not bring it back. Nothing of a log of too many runs to be told."""
        if not self._earlier:
            return []
        now = self._runs_in(self.view, handle)
        held: list[Seqs] = []
        for view in self._earlier:
            held = union(held, self._runs_in(view, handle) or ())
        return [] if now is None else minus(held, now)

    def _runs_in(self, view: LogTable, handle: bytes) -> list[Seqs] | None:
        """The runs of a log in a picture; None if they are too many."""
        self.budget.spend(_LOG_ROWS)
        row = view.find(handle)
        return [] if row is None else run_lists(view.runs(np.array([row], np.int64)), range(1))[0] or None

    def block_rows(self, handle: bytes) -> BlockRows:
        """The blocks of a log, as rows; none if it is not in the picture."""
        row = self.view.find(handle)
        self.budget.spend(_LOG_ROWS)
        rows = BlockRows(
            b"" if row is None else self.view.blocks_at(row), key=self.key, domain=b"B" + handle, budget=self.budget
        )
        self.budget.spend(len(rows))
        return rows

    def give_way(self) -> Steps[None]:
        """Lets others have their turn, if some milliseconds' work was done since the last time."""
        if self._given_way_at - self.budget.rows_left >= SESSION_SLICE_ROWS:
            self._given_way_at = self.budget.rows_left
            yield GiveWay()

    def name(self, handle: bytes) -> LogName | None:
        """The log of a handle, None if it is not in the picture."""
        row = self.view.find(handle)
        return None if row is None else self.view.name_at(row)

    def checkpoint(self) -> Checkpoint:
        """That of the present picture."""
        return Checkpoint(self.view.serial, id_of(self.result.interest))

    def check_covered(self, name: LogName) -> None:
        """Raises RemoteProtocolError if a log is not of the topics that both sides keep."""
        interest = self.result.interest
        if interest is not None and not interest.covers(name.topic):
            raise RemoteProtocolError("unrequested", "a log of a topic that this session does not cover")

    @property
    def adopts_watermarks(self) -> bool:
        """What a peer with a shorter retention has let go may be alive for us."""
        return self.peer.retention.retention_s >= self.config.retention.retention_s

    def clamp(self, first_stored_s: int) -> int:
        """A peer's first stored as we keep it."""
        return self.config.retention.clamp(first_stored_s, self.config.now_s)

    def expired(self, first_stored_s: int) -> bool:
        """Whether our own rule lets a message of this age die."""
        return first_stored_s < self.config.retention.alive_from(self.config.now_s)


def receive(expected: type[T]) -> Steps[T]:
    """The next message, which must be of the expected kind.

    Raises RemoteProtocolError, SessionRefused if the peer ends the session with a reason, SessionAborted if it just
    ends the stream.
    """
    frame = yield Receive()
    if frame is None:
        raise SessionAborted("the other mailbox ended the session")
    message: Message = decode(frame)
    if isinstance(message, Refuse):
        raise SessionRefused(message.code, message.text, by_peer=True, pause_s=message.pause_s)
    if not isinstance(message, expected):
        raise RemoteProtocolError("state", f"{type(message).__name__} at the wrong moment")
    return message


def runs(numbers: Iterable[int], *, length_max: int) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, last) of adjacent ones, at most `length_max` in each."""
    first = last = -2
    for number in numbers:
        if number == last + 1 and number - first < length_max:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


def read_blocks(context: Context, name: LogName, numbers: Sequence[int]) -> Steps[list[Item]]:
    """The items of some blocks (ascending), with as few reads as possible, not filtered by age."""
    items: list[Item] = []
    context.budget.spend(len(numbers), each=True)
    for first, last in runs(numbers, length_max=16):
        found = yield ReadItems([Span(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX))])
        items += found[0]
    return items


def claim(context: Context, spans: Sequence[Span]) -> Steps[Granted]:
    """What of these spans this session may fetch now: no more pieces than fit into a message."""
    granted: Granted = yield Claim(spans)
    fitting, others = granted.spans[: TRANSFER_SPANS_MAX // 2], granted.spans[TRANSFER_SPANS_MAX // 2 :]
    if others:
        yield Release(others)
    for _, first, last in granted.unwanted:
        context.result.unwanted += min(last - first + 1, UNKNOWN_SEQS)
    return Granted(fitting, granted.unwanted)


def read_dead(
    context: Context, wanted: Sequence[tuple[LogName, Sequence[Seqs]]]
) -> Steps[list[tuple[int, list[Item]]]]:
    """What we hold in these spans of some logs, about to come to us, that is too old to take part in this session: by
    the index of the log. A message that died here must die there as well."""
    if not context.view.is_partial:
        return []
    spans = [
        (index, Span(name, first, last))
        for index, (name, parts) in enumerate(wanted)
        for first, last in parts
        if last - first < UNKNOWN_SEQS
    ]
    # A finer date of the peer's may be rounded down here: that is no reason to let the message die there.
    rounding_s = max(0, context.config.retention.granule_s - context.peer.retention.granule_s)
    found = yield ReadItems([span for _, span in spans])
    dead: dict[int, list[Item]] = {}
    for (index, _), items in zip(spans, found, strict=True):
        old = [item for item in items if item.first_stored_s + rounding_s < context.alive_from_s]
        if old:
            dead.setdefault(index, []).extend(old)
    return sorted(dead.items())
