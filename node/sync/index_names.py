"""The names of a leaf's logs, packed: nearly all ids are 64 hexadecimal digits, and many logs share a topic.

An id of 64 lower-case hexadecimal digits is a NUL and its 32 bytes; any other is its UTF-8, which has no NUL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from protocols.limits.data import TOPIC_HASH_BYTES
from protocols.model import LogName, topic_hash_of
from protocols.sync.interest import Interest

__all__ = ["Names", "PackedName", "pack_id", "pack_name"]

PackedName = tuple[bytes, bytes]
"""Topic and log, each packed."""

_HEX_CHARS = 64


def pack_id(text: str) -> bytes:
    """An id in its packed form."""
    if len(text) == _HEX_CHARS:
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            pass
        else:
            if raw.hex() == text:
                return b"\0" + raw
    return text.encode()


def pack_name(name: LogName) -> PackedName:
    """A name in its packed form."""
    return pack_id(name.topic), pack_id(name.log)


def _unpacked(packed: bytes) -> str:
    return packed[1:].hex() if packed[0] == 0 else packed.decode()


class _Column:
    """Byte strings one after the other. Immutable."""

    __slots__ = ("_data", "_ends")

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._data = b"".join(entries)
        self._ends = np.fromiter(accumulate(map(len, entries)), "<u4", len(entries)).tobytes()

    def __len__(self) -> int:
        return len(self._ends) // 4

    def __getitem__(self, index: int) -> bytes:
        start = int.from_bytes(self._ends[4 * index - 4 : 4 * index], "little")
        return self._data[start : int.from_bytes(self._ends[4 * index : 4 * index + 4], "little")]

    def all(self) -> list[bytes]:
        ends = np.frombuffer(self._ends, "<u4").tolist()
        return [self._data[lo:hi] for lo, hi in pairwise([0, *ends])]

    def some(self, chosen: npt.NDArray[np.int64]) -> list[bytes]:
        ends = np.frombuffer(b"\0\0\0\0" + self._ends, "<u4")
        return [self._data[lo:hi] for lo, hi in zip(ends[chosen].tolist(), ends[chosen + 1].tolist(), strict=True)]


class Names:
    """The names of some logs, in their order. Immutable."""

    __slots__ = ("_hashes", "_logs", "_topic_of", "_topics")

    def __init__(self, names: Iterable[PackedName]) -> None:
        numbers: dict[bytes, int] = {}
        logs: list[bytes] = []
        topic_of: list[int] = []
        for topic, log in names:
            topic_of.append(numbers.setdefault(topic, len(numbers)))
            logs.append(log)
        self._topics = _Column(list(numbers))
        self._topic_of = np.array(topic_of, "<u2").tobytes()
        self._logs = _Column(logs)
        self._hashes = b""
        """Those of the topics, one after the other, once they have been asked for."""

    def __len__(self) -> int:
        return len(self._logs)

    def at(self, index: int) -> LogName:
        """One name."""
        topic = int.from_bytes(self._topic_of[2 * index : 2 * index + 2], "little")
        return LogName(_unpacked(self._topics[topic]), _unpacked(self._logs[index]))

    def all(self) -> list[LogName]:
        """All names."""
        topics = [_unpacked(topic) for topic in self._topics.all()]
        of = np.frombuffer(self._topic_of, "<u2").tolist()
        return [LogName(topics[topic], _unpacked(log)) for topic, log in zip(of, self._logs.all(), strict=True)]

    def packed(self) -> list[PackedName]:
        """All names, packed."""
        topics = self._topics.all()
        of = np.frombuffer(self._topic_of, "<u2").tolist()
        return list(zip([topics[topic] for topic in of], self._logs.all(), strict=True))

    def pick(self, chosen: npt.NDArray[np.int64]) -> Names:
        """The names of some of the logs."""
        topics = self._topics.all()
        of = np.frombuffer(self._topic_of, "<u2")[chosen].tolist()
        logs = self._logs.some(chosen)
        return Names(zip([topics[topic] for topic in of], logs, strict=True))

    def of_interest(self, interest: Interest) -> npt.NDArray[np.int64]:
        """The indices of the logs whose topic is among these."""
        if not self._hashes:
            self._hashes = b"".join([topic_hash_of(_unpacked(topic)) for topic in self._topics.all()])
        hashes, size = self._hashes, TOPIC_HASH_BYTES
        wanted = [hashes[at : at + size] in interest.hashes for at in range(0, len(hashes), size)]
        return np.flatnonzero(np.array(wanted, np.bool_)[np.frombuffer(self._topic_of, "<u2")])
