"""What a store promises, as plainly as it can be said: slow, and obviously right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from node.store.api import Arrival, ItemColumns, StoredItem
from protocols.limits.data import DIGEST_BYTES, SEQ_MAX, VARIANTS_MAX
from protocols.model import Item, LogName
from protocols.operations import is_genuine
from protocols.sync.effects import Span


def rows_of(columns: ItemColumns) -> list[list[tuple[int, bytes, int]]]:
    """(seq, digest, first stored) of each item of each group."""
    counts, seqs, digests, first_stored_s = columns
    assert [str(column.dtype) for column in (counts, seqs, first_stored_s)] == ["int64", "uint64", "int64"]
    each = [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]
    flat = zip(seqs.tolist(), each, first_stored_s.tolist(), strict=True)
    rows = [list(islice(flat, count)) for count in counts.tolist()]
    assert next(flat, None) is None
    return rows


class StoreModel:
    """One flat dictionary. `held` maps (log, seq, digest) to (first stored, blob)."""

    def __init__(self) -> None:
        self.held: dict[tuple[LogName, int, bytes], tuple[int, bytes]] = {}
        self.watermark: dict[LogName, int] = {}

    def seqs(self, name: LogName, alive_from_s: int = -(2**62)) -> list[int]:
        return sorted({s for (n, s, _), (first, _) in self.held.items() if n == name and first >= alive_from_s})

    def advance(self, name: LogName) -> None:
        seqs = set(self.seqs(name))
        following = self.watermark.get(name, -1) + 1
        while following in seqs:
            self.watermark[name] = following
            following += 1

    def put(self, arrivals: Sequence[Arrival]) -> tuple[int, int, int]:
        before = dict(self.held)
        for name, seq, blob, digest, first in arrivals:
            known = self.held.get((name, seq, digest))
            self.held[name, seq, digest] = (first if known is None else min(first, known[0]), blob)
        for name, seq in {(a.name, a.seq) for a in arrivals}:
            for *_, digest in self.ranked(name, seq)[VARIANTS_MAX:]:
                del self.held[name, seq, digest]
        for name in {a.name for a in arrivals}:
            self.advance(name)
        keys = [(a.name, a.seq, a.digest) for a in arrivals]
        dropped = sum(key not in self.held for key in keys)
        stored = len({key for key in keys if key in self.held and key not in before})
        return stored, len(keys) - stored - dropped, dropped

    def ranked(self, name: LogName, seq: int) -> list[tuple[bool, int, bytes]]:
        """(is not genuine, first stored, digest) of what is held of a key, the one to be served first."""
        return sorted(
            (not is_genuine(name, seq, blob), first, digest)
            for (n, s, digest), (first, blob) in self.held.items()
            if (n, s) == (name, seq)
        )

    def merge(self, items: Sequence[StoredItem]) -> None:
        for name, item in items:
            known = self.held.get((name, item.seq, item.digest))
            if known is not None:
                self.held[name, item.seq, item.digest] = (min(known[0], item.first_stored_s), known[1])

    def adopt(self, watermarks: Mapping[LogName, int]) -> None:
        for name, theirs in watermarks.items():
            ours = self.watermark.get(name, -1)
            above = [seq for seq in self.seqs(name) if seq > ours]
            if above and min(theirs, above[0] - 1) > ours:
                self.watermark[name] = min(theirs, above[0] - 1)
                self.advance(name)

    def due(self, alive_from_s: int) -> list[tuple[int, tuple[LogName, int, bytes]]]:
        """(first stored, key) of what has expired, oldest first."""
        return sorted((first, key) for key, (first, _) in self.held.items() if first < alive_from_s)

    def remove(self, removed: Sequence[StoredItem]) -> None:
        for name, item in removed:
            del self.held[name, item.seq, item.digest]
            if name not in self.watermark and not self.seqs(name):
                self.watermark.pop(name, None)

    def read(
        self, query: Mapping[str, Mapping[str, int]], alive_from_s: int, missing_max: int
    ) -> dict[LogName, tuple[list[tuple[int, bytes]], list[int]]]:
        """The whole answer as if there were no pages; `missing` of each log cut at `missing_max`."""
        answer = {}
        for topic, heights in query.items():
            names = {n for n, _, _ in self.held if n.topic == topic} | {LogName(topic, log) for log in heights}
            for name in names:
                height = heights.get(name.log)
                seqs = self.seqs(name, alive_from_s)
                messages = [(s, self.served(name, s, alive_from_s)) for s in seqs if height is None or s > height]
                missing: list[int] = []
                seq = self.watermark.get(name, -1) + 1
                while height is not None and seq <= height and len(missing) < missing_max:
                    if seq not in seqs:
                        missing.append(seq)
                    seq += 1
                if messages or missing:
                    answer[name] = (messages, missing)
        return answer

    def served(self, name: LogName, seq: int, alive_from_s: int) -> bytes:
        alive = [digest for _, first, digest in self.ranked(name, seq) if first >= alive_from_s]
        return self.held[name, seq, alive[0]][1]

    def items(self, name: LogName, seq_from: int = 0, seq_to: int = SEQ_MAX) -> list[Item]:
        return sorted(
            Item(s, digest, first, len(blob))
            for (n, s, digest), (first, blob) in self.held.items()
            if n == name and seq_from <= s <= seq_to
        )

    def messages(self, wanted: Sequence[Span], alive_from_s: int) -> list[tuple[int, Item, bytes]]:
        return [
            (index, item, self.held[name, item.seq, item.digest][1])
            for index, (name, first, last) in enumerate(wanted)
            for item in self.items(name, first, last)
            if item.first_stored_s >= alive_from_s
        ]

    def totals(self) -> tuple[int, int, int, int]:
        names = {n for n, _, _ in self.held}
        return (
            len(self.held),
            sum(len(blob) for _, blob in self.held.values()),
            len(names),
            len({n.topic for n in names}),
        )
