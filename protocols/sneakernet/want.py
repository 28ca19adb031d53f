"""What a mailbox has, in few bytes: about seven for each message, so that another can export just what it lacks.

A message is told by its seq, its first stored and a tag of 4 bytes: a hash of its digest under a key of this file's
own. Tags only tell variants of one seq apart, so 4 bytes are plenty; and nobody who publishes messages knows the key
beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES, TOPIC_HASH_BYTES
from protocols.limits.sync import INTEREST_TOPICS_MAX, SALT_BYTES, SEALED_HEAD_BYTES_MAX, WANT_MESSAGES_MAX
from protocols.model import LogName, MailboxId, handle_of
from protocols.sneakernet.seal import FIRST_TYPE, Kind, Origin, Record, SealWriter
from protocols.sync.columns import pack_varints, unpack_varints
from protocols.sync.fields import TIME_MAX_S, read_flag
from protocols.sync.interest import Interest
from protocols.sync.wire import as_array, as_bytes, as_int

__all__ = ["Held", "WantHead", "WantTable", "WantWriter", "tag_key", "tags_of"]

TAG_BYTES: Final = 4
_HELD: Final = FIRST_TYPE
_CONTEXT: Final = "mailboxd want 1"
_RECORD_MESSAGES: Final = 16_384
_RECORD_LOGS: Final = 4_096
"""A log takes 16 bytes more and a message up to 24: a record stays below SEALED_HEAD_BYTES_MAX."""

assert _RECORD_MESSAGES * 24 + _RECORD_LOGS * 20 + 64 <= SEALED_HEAD_BYTES_MAX


class Held(NamedTuple):
    """The messages held of one log, ascending by seq: column by column."""

    seqs: npt.NDArray[np.uint64]
    first_stored_s: npt.NDArray[np.int64]
    tags: bytes


@dataclass(frozen=True, slots=True)
class WantHead:
    """What stands in the beginning of the file beside its origin. Messages below `alive_from_s` (Unix seconds) are
    neither told nor wanted, nor those of topics beyond `interest` (None: all are wanted)."""

    salt: bytes
    alive_from_s: int
    interest: Interest | None

    def fields(self) -> list[Any]:
        packed = b"" if self.interest is None else self.interest.packed
        return [self.salt, self.alive_from_s, int(self.interest is not None), packed]

    @classmethod
    def read(cls, origin: Origin) -> WantHead:
        """Raises RemoteProtocolError."""
        salt, alive_from_s, is_limited, topics = as_array(list(origin.extra), "fields of a want", length=4)
        packed = as_bytes(topics, "topics", length_max=INTEREST_TOPICS_MAX * TOPIC_HASH_BYTES)
        hashes = [packed[at : at + TOPIC_HASH_BYTES] for at in range(0, len(packed), TOPIC_HASH_BYTES)]
        if len(packed) % TOPIC_HASH_BYTES or sorted(set(hashes)) != hashes:
            raise RemoteProtocolError("malformed", "the topics are not ascending hashes")
        return cls(
            as_bytes(salt, "salt", length=SALT_BYTES),
            as_int(alive_from_s, "boundary", maximum=TIME_MAX_S),
            Interest(packed) if read_flag(is_limited, "limited") else None,
        )


def tag_key(maker: MailboxId, salt: bytes) -> bytes:
    """The key of a file's tags."""
    return blake3(maker.public_key + salt, derive_key_context=_CONTEXT).digest()


def tags_of(key: bytes, digests: Sequence[bytes]) -> list[bytes]:
    """The tag of each digest."""
    return [blake3(digest, key=key).digest(length=TAG_BYTES) for digest in digests]


class WantWriter:
    """Makes the file. `add` log after log, then `end`; each gives the bytes to be written next."""

    def __init__(self, seed: bytes) -> None:
        self._seal = SealWriter(Kind.WANT, seed)
        self._handles: list[bytes] = []
        self._counts: list[int] = []
        self._seqs: list[int] = []
        self._dates: list[int] = []
        self._tags: list[bytes] = []

    def begin(self, origin: Origin) -> bytes:
        """The beginning; the extra fields of `origin` are those of a WantHead."""
        return self._seal.begin(origin)

    def add(self, name: LogName, messages: Sequence[tuple[int, int, bytes]]) -> bytes:
        """Takes (seq, first stored, tag) of messages of a log, ascending by seq; a log may come in parts."""
        out = b""
        handle = handle_of(name)
        start = 0
        while start < len(messages):
            part = messages[start : start + _RECORD_MESSAGES - len(self._tags)]
            start += len(part)
            self._handles.append(handle)
            self._counts.append(len(part))
            before = 0
            for seq, first_stored_s, tag in part:
                self._seqs.append(seq - before)
                self._dates.append(first_stored_s)
                self._tags.append(tag)
                before = seq
            if len(self._tags) == _RECORD_MESSAGES or len(self._handles) == _RECORD_LOGS:
                out += self._flush()
        return out

    def end(self) -> bytes:
        """What is left, and the end of the file."""
        return (self._flush() if self._handles else b"") + self._seal.end()

    def _flush(self) -> bytes:
        steps = [after - before for before, after in zip([0, *self._dates[:-1]], self._dates, strict=True)]
        zigzag = [2 * step if step >= 0 else -2 * step - 1 for step in steps]
        columns = [pack_varints(np.array(column, np.uint64)) for column in (self._counts, self._seqs, zigzag)]
        record = self._seal.record(_HELD, [b"".join(self._handles), *columns, b"".join(self._tags)])
        self._handles, self._counts, self._seqs, self._dates, self._tags = [], [], [], [], []
        return record


class WantTable:
    """What the file tells, ready to be looked up: 20 bytes a message and 32 a log, whatever Python's objects cost."""

    def __init__(self) -> None:
        self._records: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], bytes]] = []
        self._prefixes: list[npt.NDArray[np.uint64]] = []
        self._handles: list[bytes] = []
        self._bounds: list[npt.NDArray[np.int64]] = []
        self._found: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._places: npt.NDArray[np.int64] = np.zeros((0, 2), np.int64)
        self.messages = 0

    def take(self, record: Record) -> None:
        """Takes the next record. Raises RemoteProtocolError."""
        if record.type != _HELD or record.data:
            raise RemoteProtocolError("malformed", "a record that does not belong into a want")
        handles, counts, seqs, dates, tags = as_array(list(record.fields), "record", length=5)
        count = unpack_varints(as_bytes(counts, "counts"), "counts").astype(np.int64)
        packed = as_bytes(handles, "handles", length=len(count) * HANDLE_BYTES)
        steps = unpack_varints(as_bytes(seqs, "seqs"), "seqs")
        zigzag = unpack_varints(as_bytes(dates, "dates"), "dates")
        tag = as_bytes(tags, "tags", length=TAG_BYTES * len(steps))
        if not len(count) or int(count.min()) < 1 or int(count.max()) > len(steps):
            raise RemoteProtocolError("malformed", "a log without messages")
        if int(count.sum()) != len(steps) or len(zigzag) != len(steps):
            raise RemoteProtocolError("malformed", "columns of different lengths")
        if self.messages + len(steps) > WANT_MESSAGES_MAX:
            raise RemoteProtocolError("limit", f"more than {WANT_MESSAGES_MAX} messages")
        bounds = np.concatenate(([0], np.cumsum(count)))
        self._records.append((_seqs_of(steps, bounds), _dates_of(zigzag), tag))
        self._bounds.append(bounds)
        self._handles.append(packed)
        self._prefixes.append(np.frombuffer(packed, ">u8")[:: HANDLE_BYTES // 8].astype(np.uint64))
        self.messages += len(steps)

    def finish(self) -> None:
        """Call it when all records have been taken, before anything is looked up."""
        if not self._prefixes:
            return
        every = np.concatenate(self._prefixes)
        numbers = [np.full(len(part), number) for number, part in enumerate(self._prefixes)]
        rows = [np.arange(len(part)) for part in self._prefixes]
        order = np.argsort(every, kind="stable")
        self._found = every[order]
        self._places = np.stack([np.concatenate(numbers), np.concatenate(rows)], axis=1)[order]
        self._prefixes = []

    def held_of(self, name: LogName) -> Iterator[Held]:
        """What is held of a log, in one or several parts; none: nothing."""
        handle = handle_of(name)
        prefix = np.uint64(int.from_bytes(handle[:8], "big"))
        lo, hi = np.searchsorted(self._found, prefix, "left"), np.searchsorted(self._found, prefix, "right")
        for number, row in self._places[lo:hi].tolist():
            if self._handles[number][HANDLE_BYTES * row : HANDLE_BYTES * (row + 1)] != handle:
                continue
            start, end = self._bounds[number][row : row + 2].tolist()
            seqs, dates, tags = self._records[number]
            yield Held(seqs[start:end], dates[start:end], tags[TAG_BYTES * start : TAG_BYTES * end])


def _seqs_of(steps: npt.NDArray[np.uint64], bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The seqs of all logs from their steps. Raises RemoteProtocolError beyond 2^64-1."""
    sums = np.cumsum(steps)  # modulo 2^64: the sum before a log is taken off again
    before = np.concatenate((np.zeros(1, np.uint64), sums))[bounds[:-1]]
    seqs = sums - np.repeat(before, np.diff(bounds))
    falls = np.flatnonzero(seqs[1:] < seqs[:-1]) + 1
    if len(np.setdiff1d(falls, bounds)):
        raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
    return seqs


def _dates_of(zigzag: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    dates = list(accumulate(code >> 1 ^ -(code & 1) for code in zigzag.tolist()))
    if not 0 <= min(dates) <= max(dates) <= TIME_MAX_S:
        raise RemoteProtocolError("malformed", "a date beyond all times")
    return np.array(dates, np.int64)
