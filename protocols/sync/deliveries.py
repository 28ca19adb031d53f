"""Messages on their way from a session into a store, column by column.

A transfer brings tens of thousands a second. An object for each, which Python's garbage collector looks at again and
again, would cost as much as all else that is done with a message beside hashing it; so they are made for those only who
look at messages one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple, overload

from protocols.model import LogName

__all__ = ["Deliveries", "Delivery", "Stretch", "by_log"]


class Delivery(NamedTuple):
    """A message from the peer whose digest has been verified against its blob. `first_stored_s` is clamped already."""

    name: LogName
    seq: int
    blob: bytes
    digest: bytes
    first_stored_s: int


class Stretch(NamedTuple):
    """Messages of one log, one at least; the columns are equally long. `size` is that of all blobs together: asking
    them one by one is dear where they have left the processor's caches."""

    name: LogName
    size: int
    seqs: Sequence[int]
    blobs: Sequence[bytes]
    digests: Sequence[bytes]
    first_stored_s: Sequence[int]

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> Stretch:
        """Those of one log."""
        if len(deliveries) == 1:
            ((name, seq, blob, digest, stored_s),) = deliveries
            return cls(name, len(blob), (seq,), (blob,), (digest,), (stored_s,))
        _, seqs, blobs, digests, first_stored_s = zip(*deliveries, strict=True)
        return cls(deliveries[0][0], sum(map(len, blobs)), seqs, blobs, digests, first_stored_s)

    def deliveries(self) -> Iterator[Delivery]:
        """One by one."""
        return map(Delivery, repeat(self.name), self.seqs, self.blobs, self.digests, self.first_stored_s)

    def blobs_by_digest(self) -> dict[bytes, bytes]:
        """The contents alone."""
        return dict(zip(self.digests, self.blobs, strict=True))

    def part(self, start: int, end: int) -> Stretch:
        """Some of them."""
        name, _, seqs, blobs, digests, first_stored_s = self
        some = blobs[start:end]
        return Stretch(name, sum(map(len, some)), seqs[start:end], some, digests[start:end], first_stored_s[start:end])

    def followed_by(self, other: Stretch) -> Stretch:
        """These and others of the same log."""
        name, size, seqs, blobs, digests, first_stored_s = self
        return Stretch(
            name,
            size + other.size,
            [*seqs, *other.seqs],
            [*blobs, *other.blobs],
            [*digests, *other.digests],
            [*first_stored_s, *other.first_stored_s],
        )


class Deliveries(Sequence[Delivery]):
    """Messages of several logs; a log may have several stretches. As a sequence it is as slow as a list is quick."""

    __slots__ = ("_count", "stretches")

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self.stretches = stretches
        self._count = sum([len(stretch.seqs) for stretch in stretches])

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> Deliveries:
        """The same, those of each log together."""
        if isinstance(deliveries, Deliveries):
            return deliveries
        return cls(list(by_log(deliveries).values()))

    @property
    def blobs_bytes(self) -> int:
        """The sizes of all blobs together."""
        return sum([stretch.size for stretch in self.stretches])

    def from_s(self, first_stored_s: int) -> Deliveries:
        """Those of this age or younger."""
        if all(min(stretch.first_stored_s) >= first_stored_s for stretch in self.stretches):
            return self
        return Deliveries.of([one for one in self if one.first_stored_s >= first_stored_s])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Delivery]:
        for stretch in self.stretches:
            yield from stretch.deliveries()

    @overload
    def __getitem__(self, index: int) -> Delivery: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Delivery]: ...

    def __getitem__(self, index: int | slice) -> Delivery | Sequence[Delivery]:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def by_log(deliveries: Sequence[Delivery]) -> dict[LogName, Stretch]:
    """All of each log."""
    if isinstance(deliveries, Deliveries):
        stretches: dict[LogName, Stretch] = {}
        for stretch in deliveries.stretches:
            before = stretches.get(stretch.name)
            stretches[stretch.name] = stretch if before is None else before.followed_by(stretch)
        return stretches
    logs: defaultdict[LogName, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        logs[delivery[0]].append(delivery)
    return {name: Stretch.of(log) for name, log in logs.items()}
