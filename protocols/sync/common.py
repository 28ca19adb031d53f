"""What both roles of a session share: what they are told, what they know of each other, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from protocols.errors import RemoteProtocolError
from protocols.limits import BLOCK_SEQS, SEQ_MAX, SESSION_ROWS_MAX
from protocols.model import Item, LogName, Retention
from protocols.sync.codec import decode
from protocols.sync.effects import Effect, LogView, ReadItems, Receive, SessionAborted
from protocols.sync.messages import Message, Refuse
from protocols.sync.reconcile import Budget, Rows, block_key

__all__ = [
    "Context",
    "PeerInfo",
    "SessionConfig",
    "SessionRefused",
    "SessionResult",
    "Steps",
    "read_blocks",
    "receive",
    "runs",
]

T = TypeVar("T")

Steps: TypeAlias = Generator[Effect, Any, T]
"""A part of a session: yields effects and returns a T."""


class SessionRefused(Exception):
    """One side declined to talk: `code` is a short stable word (version, network, clock, …), `text` for people."""

    def __init__(self, code: str, text: str, *, by_peer: bool) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.by_peer = by_peer


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a session is told at its start.

    `now_s` is the wall clock in Unix seconds, `salt` 16 fresh random bytes (only the initiator's are used). `only`
    limits an initiator to the logs with these handles, known or not: what a hint asks for.
    """

    now_s: float
    retention: Retention
    network: str
    software: str
    salt: bytes
    only: Sequence[bytes] | None = None

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


@dataclass(slots=True)
class SessionResult:
    """What came of a session, seen from one side.

    `received` and `sent` count messages (and their bytes), `merged` lowered `first stored` here. `gone` were advertised
    but expired before they were fetched; `skipped` are being fetched by another session, or found no room. `described`
    counts items that were told. `full`: it covered all logs, not only hinted ones. `complete`: no limit ended it early;
    if not, another session goes on where it was.
    """

    round_trips: int = 0
    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    merged: int = 0
    gone: int = 0
    skipped: int = 0
    described: int = 0
    full: bool = True
    complete: bool = True
    peer: PeerInfo | None = None

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
    view: LogView
    result: SessionResult
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(SESSION_ROWS_MAX + 16 * len(self.view.handles))

    def log_rows(self) -> Rows:
        """The logs of the view, as rows."""
        return Rows(self.view.handles, self.view.states, key=self.key, domain=b"L", budget=self.budget)

    def block_rows(self, handle: bytes) -> Rows:
        """The blocks of a log, as rows; none if it is not in the view."""
        blocks = self.view.blocks(handle)
        self.budget.spend(len(blocks))
        keys = [block_key(number) for number, _ in blocks]
        return Rows(keys, [digest for _, digest in blocks], key=self.key, domain=b"B" + handle, budget=self.budget)

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
        raise SessionRefused(message.code, message.text, by_peer=True)
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
    context.budget.spend(8 * len(numbers))  # a read costs about as much as hashing so many rows
    for first, last in runs(numbers, length_max=16):
        items += yield ReadItems(name, first * BLOCK_SEQS, min((last + 1) * BLOCK_SEQS - 1, SEQ_MAX))
    return items
