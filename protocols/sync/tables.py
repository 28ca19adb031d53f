"""One side's logs in one session: a LogTable under the session's key. The spec is `reconcile.md`.

Everything is said about places in the space of handles, of which the first 8 bytes count here: a number below END.
Fingerprints are keyed BLAKE3 over whole rows. Sums or XOR of row hashes would be cheaper to maintain, but a publisher
can craft messages that cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from protocols.limits.data import HANDLE_BYTES
from protocols.limits.sync import (
    FINGERPRINT_BYTES,
    FRAGMENT_BITS_MIN,
    FRAGMENT_SPARE_BITS,
    SURVEY_FIRST_PARTS,
    SURVEY_LISTED_LOGS,
)
from protocols.sync.columns import FEW, Numbers
from protocols.sync.effects import LogTable, Rows
from protocols.sync.listing import (
    FRAGMENT_BITS_MAX,
    HASHED_ENTRY_BYTES,
    NO_ENTRIES,
    NO_LISTING,
    Entries,
    Listing,
    entries_of,
    entry_bytes,
    fits,
    same_runs,
    select,
)
from protocols.sync.reconcile import Budget
from protocols.sync.regions import END, Region

__all__ = ["KeyedTable", "Matches"]

_RANGE: Final = b"LR"
_ROW: Final = b"LI"
_COPIED_ROWS: Final = 1024
"""Up to so many rows it costs less to copy them than to hash them piece by piece."""
_HASH: Final = np.dtype(f"V{FINGERPRINT_BYTES}")


class Matches(NamedTuple):
    """Which own row each listed log seems to be: `rows[i]`, or -1 for none. Also -1, with `several[i]`, if there are
    more that it could be (all rows first[i]..end[i]-1), so that only its whole name can tell."""

    rows: Rows
    several: npt.NDArray[np.bool_]
    firsts: Rows
    ends: Rows

    def maybe(self, index: int) -> range:
        """The rows of which one could be the log, if there are several."""
        return range(int(self.firsts[index]), int(self.ends[index])) if self.several[index] else range(0)


_NO_MATCHES: Final = Matches(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64), np.zeros(0, np.int64))


class KeyedTable:
    """A LogTable, the session's key, and the budget that all hashing is paid from."""

    def __init__(self, table: LogTable, *, key: bytes, budget: Budget) -> None:
        self.table = table
        self._key = key
        self._budget = budget

    def __len__(self) -> int:
        return len(self.table)

    # --- hashes ------------------------------------------------------------------------------------------------

    def fingerprint(self, lo: int, hi: int) -> bytes:
        """Keyed hash over the rows lo..hi-1."""
        if hi - lo > _COPIED_ROWS:
            return self._hash((lo, hi))
        self._budget.spend(hi - lo)
        return blake3(b"".join((_RANGE, *self.table.rows(lo, hi))), key=self._key).digest(FINGERPRINT_BYTES)

    def rest(self, excluded: Rows) -> bytes:
        """Keyed hash over all rows but the excluded ones (ascending)."""
        spans: list[tuple[int, int]] = []
        lo = 0
        for row in excluded.tolist():
            if row > lo:
                spans.append((lo, row))
            lo = row + 1
        return self._hash(*spans, (lo, len(self.table)))

    def of_rows(self, rows: Rows) -> bytes:
        """Keyed hash over these rows (ascending)."""
        return self._hash(*((row, row + 1) for row in rows.tolist()))

    def _hash(self, *spans: tuple[int, int]) -> bytes:
        hasher = blake3(_RANGE, key=self._key)
        for lo, hi in spans:
            self._budget.spend(hi - lo)
            for piece in self.table.rows(lo, hi):
                hasher.update(piece)
        return hasher.digest(length=FINGERPRINT_BYTES)

    def row_hashes(self, rows: Iterable[int]) -> bytes:
        """Keyed hash of each row, FINGERPRINT_BYTES each."""
        hashes: list[bytes] = []
        for row in rows:
            self._budget.spend(1, each=True)
            content = b"".join([_ROW, *self.table.rows(row, row + 1)])
            hashes.append(blake3(content, key=self._key).digest(length=FINGERPRINT_BYTES))
        return b"".join(hashes)

    # --- places ------------------------------------------------------------------------------------------------

    def bounds(self, lower: int, upper: int) -> tuple[int, int]:
        """The rows lo..hi-1 whose place lies in [lower, upper)."""
        prefixes = self.table.prefixes
        lo = int(prefixes.searchsorted(np.uint64(lower))) if lower else 0
        return lo, len(prefixes) if upper >= END else int(prefixes.searchsorted(np.uint64(upper)))

    def all_bounds(self, regions: Sequence[Region]) -> list[tuple[int, int]]:
        """The same for the places of each region."""
        if len(regions) <= FEW:
            return [self.bounds(region.lower, region.upper) for region in regions]
        prefixes = self.table.prefixes
        los = prefixes.searchsorted(np.array([region.lower for region in regions], np.uint64)).tolist()
        ends = np.array([min(region.upper, END - 1) for region in regions], np.uint64)
        his = prefixes.searchsorted(ends).tolist()
        return [
            (lo, len(prefixes) if region.upper >= END else hi) for region, lo, hi in zip(regions, los, his, strict=True)
        ]

    def cuts(self, lo: int, hi: int, parts: int) -> list[tuple[int, int]]:
        """Places that cut the rows lo..hi-1 into so many parts of nearly equal size, ascending, each with the first
        row behind it: each is the shortest one (most zeros at its end) between two rows. Fewer where rows can't be told
        apart."""
        places: list[tuple[int, int]] = []
        rows = lo + (hi - lo) * np.arange(1, parts) // parts
        prefixes = self.table.prefixes
        neighbours = zip(rows.tolist(), prefixes[rows - 1].tolist(), prefixes[rows].tolist(), strict=True)
        for row, before, after in neighbours:
            if before != after and row > lo:
                place = after >> (differing := (before ^ after).bit_length() - 1) << differing
                if not places or place > places[-1][0]:
                    places.append((place, row))
        return places

    def first_parts(self) -> int:
        """Into how many parts a survey cuts all logs at first: few, because mostly nothing differs; more where a
        second cut would give more parts than a frame holds."""
        count = len(self.table)
        most = SURVEY_FIRST_PARTS if count <= SURVEY_FIRST_PARTS * 1024 else 4 * SURVEY_FIRST_PARTS
        return max(1, min(most, -(-count // SURVEY_LISTED_LOGS)))

    def rows_of(self, handles: Sequence[bytes]) -> Rows:
        """The rows of these logs; -1 for those that are not here."""
        self._budget.spend(len(handles), each=True)
        table = self.table
        if len(handles) <= FEW:
            found_few = [table.find(handle) for handle in handles]
            return np.array([-1 if row is None else row for row in found_few], np.int64)
        prefixes = table.prefixes
        places = np.frombuffer(b"".join(handles), ">u8")[:: HANDLE_BYTES // 8].astype(np.uint64)
        found = prefixes.searchsorted(places)
        is_there = np.append(prefixes, 0)[found] == places
        rows = np.where(is_there & (found < len(prefixes)), found, -1)
        for index in np.flatnonzero(rows >= 0).tolist():
            if table.handle_at(int(rows[index])) != handles[index]:  # another log of the same place
                row = table.find(handles[index])
                rows[index] = -1 if row is None else row
        return rows.astype(np.int64)

    # --- listings ----------------------------------------------------------------------------------------------

    def entries(self, rows: Rows) -> Entries:
        """What these logs hold."""
        if not rows.size:  # as in most sessions, of mailboxes that hold the same
            return NO_ENTRIES
        self._budget.spend(len(rows))
        runs = self.table.runs(rows)
        return entries_of(runs, self.row_hashes(rows[runs.counts == 0].tolist()))

    def entries_or_none(self, rows: Rows) -> Entries:
        """The same, with an entry without runs for -1."""
        if not rows.size:
            return NO_ENTRIES
        if min(rows.tolist()) >= 0:
            return self.entries(rows)
        known = rows >= 0
        held = self.entries(rows[known])
        counts, many = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        counts[known], many[known] = held.runs.counts, held.many
        return Entries(held.runs._replace(counts=counts), many, held.hashes)

    def entries_within(self, rows: Rows, room_bytes: int) -> Entries:
        """The same in so much room: if it is too little, those that take most stand with their hash, as logs of many
        runs do."""
        entries = self.entries_or_none(rows)
        if fits(entries, room_bytes):
            return entries
        sizes = entry_bytes(entries)
        too_much = int(sizes.sum()) - room_bytes
        if too_much <= 0:
            return entries
        longest_first = np.argsort(-sizes, kind="stable")
        gained = np.cumsum(sizes[longest_first] - HASHED_ENTRY_BYTES)
        hashed = np.zeros(len(rows), np.bool_)
        hashed[longest_first[: int(np.searchsorted(gained, too_much)) + 1]] = True
        many = entries.many | hashed & (rows >= 0)
        runs = select(entries, ~many).runs
        counts = np.where(many, 0, entries.runs.counts)
        return Entries(runs._replace(counts=counts), many, self.row_hashes(rows[many].tolist()))

    def differing(self, rows: Rows, theirs: Entries) -> npt.NDArray[np.bool_]:
        """For these logs (-1: unknown here) whether they differ from what the peer says that it holds of them."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        mine = self.entries_or_none(rows)
        differ: npt.NDArray[np.bool_] = ~same_runs(mine.runs, theirs.runs) | (mine.many != theirs.many)
        hashed = theirs.many & (rows >= 0)
        if hashed.any():
            said = np.frombuffer(theirs.hashes, _HASH)[hashed[theirs.many]]
            differ[hashed] = np.frombuffer(self.row_hashes(rows[hashed].tolist()), _HASH) != said
        return differ

    def listing(self, rows: Rows) -> Listing:
        """These logs (ascending), named so that each can be told from all others of ours."""
        if not rows.size:
            return NO_LISTING
        width = self._width(rows)
        fragments = self.table.prefixes[rows] >> np.uint64(FRAGMENT_BITS_MAX - width)
        return Listing(width, fragments, self.entries(rows))

    def _width(self, rows: Rows) -> int:
        prefixes = self.table.prefixes
        mine = prefixes[rows]
        least = END - 1
        behind, ahead = rows > 0, rows + 1 < len(prefixes)
        for distances in (mine[behind] ^ prefixes[rows[behind] - 1], mine[ahead] ^ prefixes[rows[ahead] + 1]):
            if distances.size:
                least = min(least, int(distances.min()))
        needed = FRAGMENT_BITS_MAX + 1 - least.bit_length()
        return min(FRAGMENT_BITS_MAX, max(needed + FRAGMENT_SPARE_BITS, FRAGMENT_BITS_MIN))

    def match(self, width: int, fragments: Numbers, spans: Sequence[tuple[int, int, int]] | None = None) -> Matches:
        """Our rows that the fragments (ascending) seem to name. `spans` are (lo, hi, count): the next `count` fragments
        can only be among the rows lo..hi-1; None: all among all."""
        if not fragments.size:
            return _NO_MATCHES
        prefixes = self.table.prefixes
        shift = np.uint64(FRAGMENT_BITS_MAX - width)
        lowest = fragments << shift
        highest = lowest | np.uint64((1 << (FRAGMENT_BITS_MAX - width)) - 1)
        lo = np.searchsorted(prefixes, lowest)
        hi = np.searchsorted(prefixes, highest, side="right")
        if spans is not None:
            counts = [count for _, _, count in spans]
            lo = np.maximum(lo, np.repeat(np.array([span[0] for span in spans], np.int64), counts))
            hi = np.minimum(hi, np.repeat(np.array([span[1] for span in spans], np.int64), counts))
        several = hi - lo > 1
        twice = fragments[1:] == fragments[:-1]
        several[1:] |= twice & (hi > lo)[1:]
        several[:-1] |= twice & (hi > lo)[:-1]
        return Matches(np.where((hi - lo == 1) & ~several, lo, -1), several, lo, hi)

    def beginning_with(self, width: int, fragment: int) -> range:
        """All our rows that a fragment could name."""
        spare = FRAGMENT_BITS_MAX - width
        return range(*self.bounds(fragment << spare, (fragment + 1) << spare))
