"""What a sync session asks of the world.

A session (`session.initiate`, `session.respond`) is a generator: it yields one effect after the other and is sent each
effect's result. So the whole protocol stands in straight lines, free of I/O, and the same code runs over libp2p and
SQLite, in a simulated world, and in a property test over two dictionaries.

An effect that the world can't carry out is thrown into the generator as `SessionAborted` (the stream broke, a deadline
passed, the store failed); the generator does not catch it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from protocols.limits.data import DIGEST_BYTES
from protocols.model import Item, LogName
from protocols.sync.deliveries import Delivery
from protocols.sync.interest import Interest

__all__ = [
    "Claim",
    "Commit",
    "Delivery",
    "Effect",
    "GiveWay",
    "Granted",
    "LogTable",
    "OpenView",
    "Page",
    "ReadItems",
    "ReadMessages",
    "ReadWatermarks",
    "Receive",
    "Release",
    "Rows",
    "Runs",
    "Send",
    "SessionAborted",
    "Settle",
    "Span",
]


class SessionAborted(Exception):
    """The session can't go on for a reason outside the protocol; the message is fit for a user."""


Rows: TypeAlias = npt.NDArray[np.int64]
"""Numbers of rows of a LogTable."""


class Runs(NamedTuple):
    """Of some logs the runs of sequence numbers that they hold, in one flat list: log i has the next `counts[i]`.

    `firsts` and `lasts` (inclusive) ascend within a log, with a gap of one seq at least between two runs. A log with
    more than LOG_RUNS_MAX runs has a count of 0 and stands with none.
    """

    counts: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.uint64]
    lasts: npt.NDArray[np.uint64]


class LogTable(Protocol):
    """An immutable picture of all live logs at one moment: a row for each, ascending by handle (see `handle_of`).

    Everything here is cheap but for what its length says: no call reads the disk or visits rows one by one in Python.
    """

    def __len__(self) -> int:
        """How many logs there are."""
        ...

    @property
    def serial(self) -> int:
        """Grows with every change; only pictures of the same index can be compared by it."""
        ...

    @property
    def is_partial(self) -> bool:
        """Whether something is held that is left out because it is too old."""
        ...

    @property
    def prefixes(self) -> npt.NDArray[np.uint64]:
        """The first 8 bytes of each handle as a big-endian number, ascending. Not to be written to."""
        ...

    def rows(self, lo: int, hi: int) -> Iterable[bytes | memoryview]:
        """The rows lo..hi-1, 32 bytes each (handle, state), in pieces of whole rows."""
        ...

    def changed_since(self, serial: int) -> Rows:
        """The logs that have changed since the picture with that serial, ascending. May name too many, never too few;
        logs that are gone have no row to be named."""
        ...

    def runs(self, rows: Rows) -> Runs:
        """What sequence numbers these logs hold, in the order of `rows`."""
        ...

    def find(self, handle: bytes) -> int | None:
        """The row of a log, None if it is not in the picture."""
        ...

    def handle_at(self, row: int) -> bytes:
        """The 16-byte handle of a row."""
        ...

    def state_at(self, row: int) -> bytes:
        """The 16-byte state of a row."""
        ...

    def name_at(self, row: int) -> LogName:
        """The name of the log in a row."""
        ...

    def blocks_at(self, row: int) -> bytes:
        """The rows of the blocks of the log in a row, ascending, 24 bytes each (number, digest)."""
        ...


class Span(NamedTuple):
    """The sequence numbers first..last (inclusive) of a log."""

    name: LogName
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame (without its length prefix). Result: None. With `is_followed` it may wait for the next one that is
    sent, which must come before anything is received: two in one piece cost one packet less, and wake the peer once."""

    frame: bytes
    is_followed: bool = False


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next frame. Result: its bytes (without the length prefix), or None at a clean end of the stream."""


@dataclass(frozen=True, slots=True)
class OpenView:
    """Take a picture of all messages with first stored >= `alive_from_s`, of the topics of `interest` (None: all).
    Result: LogTable."""

    alive_from_s: int
    interest: Interest | None = None


@dataclass(frozen=True, slots=True)
class ReadItems:
    """Items (all variants) of some spans, each ascending by (seq, digest), not filtered by age.
    Result: Sequence[Sequence[Item]], one for each span."""

    spans: Sequence[Span]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Messages column by column: of each the index of its span, its seq, digest (all in one), first stored and size;
    `data` are all blobs one after the other. `after` is the (index, seq) where to go on, None at the end."""

    spans: npt.NDArray[np.int64]
    seqs: npt.NDArray[np.uint64]
    digests: bytes
    first_stored_s: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    data: bytes
    after: tuple[int, int] | None

    @classmethod
    def of(cls, entries: Sequence[tuple[int, Item, bytes]], after: tuple[int, int] | None) -> Page:
        """The page of these (index of the span, item, blob)."""
        return cls(
            np.array([index for index, _, _ in entries], np.int64),
            np.array([item.seq for _, item, _ in entries], np.uint64),
            b"".join([item.digest for _, item, _ in entries]),
            np.array([item.first_stored_s for _, item, _ in entries], np.int64),
            np.array([item.size for _, item, _ in entries], np.int64),
            b"".join([blob for _, _, blob in entries]),
            after,
        )

    def __len__(self) -> int:
        return len(self.seqs)

    def item(self, at: int) -> Item:
        """One message of the page without its blob."""
        digest = self.digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)]
        return Item(int(self.seqs[at]), digest, int(self.first_stored_s[at]), int(self.sizes[at]))

    @property
    def entries(self) -> list[tuple[int, Item, bytes]]:
        """(index of the span, item, blob) of each message."""
        ends = np.cumsum(self.sizes).tolist()
        return [
            (index, item := self.item(at), self.data[end - item.size : end])
            for at, (index, end) in enumerate(zip(self.spans.tolist(), ends, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class ReadMessages:
    """What is held of some spans with first stored >= `alive_from_s`, in their order, all variants: from `after` on,
    and no more than about `page_bytes` of blobs, but all variants of one seq at least. Result: Page."""

    spans: Sequence[Span]
    alive_from_s: int
    page_bytes: int
    after: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ReadWatermarks:
    """Watermarks of logs. Result: Sequence[int | None] in that order."""

    names: Sequence[LogName]


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask which of these spans this session may fetch: not what another session is fetching, or has fetched since this
    one began, nor anything if there is no room. Result: Granted. The driver releases a session's claims when it
    ends."""

    spans: Sequence[Span]


class Granted(NamedTuple):
    """`spans` are the parts that may be fetched, in the order of the claim. `unwanted` are those that we have let go by
    a rule of our own: that they are missing here is no difference."""

    spans: Sequence[Span]
    unwanted: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Tell what became of claims: `lost` did not come, and is free for others; `came` did, and needs not be fetched by
    others. Both ascend within a log. Result: None."""

    lost: Sequence[Span]
    came: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """Start storing a batch and merging `first stored` of known messages (`merges`), and adopting `watermarks`
    afterwards. Result: None, at once; the driver has at most a few commits under way and waits before taking more."""

    deliveries: Sequence[Delivery]
    merges: Sequence[tuple[LogName, Item]] = ()
    watermarks: Sequence[tuple[LogName, int]] = ()


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait until every commit so far is durable. Result: whether something that was to be stored has died before, and
    was left out."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Let others have their turn: what the session has to compute takes some time. Result: None."""


Effect: TypeAlias = (
    Send | Receive | GiveWay | OpenView | ReadItems | ReadMessages | ReadWatermarks | Claim | Release | Commit | Settle
)
