"""The responder's side of the search: which logs differ. Every answer follows from the question and the picture alone,
so nothing is kept between two questions, and a search that breaks off goes on wherever the initiator likes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from protocols.errors import RemoteProtocolError
from protocols.limits.sync import (
    CONTROL_BODY_BYTES,
    FINGERPRINT_BYTES,
    LISTED_LOGS_MAX,
    NAMES_ASKED_MAX,
    NAMES_PER_FRAGMENT_MAX,
    NEWS_LOGS_MAX,
    RANGES_MAX,
    SURVEY_LISTED_LOGS,
    SURVEY_PART_LOGS,
    SURVEY_PARTS_MAX,
)
from protocols.model import LogName
from protocols.sync.common import Context
from protocols.sync.effects import Rows
from protocols.sync.listing import NO_LISTING, Listing, entry_bytes, listing_bytes, select
from protocols.sync.messages import About, Named, Names, News, Standing, Survey, Surveyed
from protocols.sync.regions import END, FP, LIST, SHOW, Region
from protocols.sync.tables import KeyedTable

__all__ = ["about", "named", "news", "surveyed"]

_REGION_BYTES: Final = 2 * 9 + FINGERPRINT_BYTES

_NO_ANSWER: Final = Standing()


def _no_rows() -> Rows:
    return np.zeros(0, np.int64)


# --- news -----------------------------------------------------------------------------------------------------------


def news(context: Context, said: News) -> Standing:
    """The answer to news: which of these logs are different here, our own news, and a fingerprint of all others."""
    table = context.table
    listing = said.listing
    changed = _no_rows() if context.since is None else table.table.changed_since(context.since)
    if not (len(listing) or changed.size):  # as in most sessions, of mailboxes that hold the same
        return Standing(rest=table.rest(changed))
    if len(changed) > NEWS_LOGS_MAX + len(listing):
        return _NO_ANSWER
    matches = table.match(listing.width, listing.fragments)
    if matches.several.any() or len(listing) > NEWS_LOGS_MAX:
        return _NO_ANSWER
    rows = matches.rows
    known = rows >= 0
    differs = ~known
    differs[known] = table.differing(rows[known], select(listing.entries, known))
    said_rows = set(rows.tolist())
    own_news = np.array([row for row in changed.tolist() if row not in said_rows], np.int64)
    if len(own_news) > NEWS_LOGS_MAX:
        return _NO_ANSWER
    indices = differs.nonzero()[0]
    entries = table.entries_or_none(rows[indices])
    own = table.listing(own_news)
    size = len(listing) // 8 + int(entry_bytes(entries).sum()) + _listing_bytes(own)
    if size > CONTROL_BODY_BYTES:
        return _NO_ANSWER
    rest = table.rest(np.sort(np.concatenate((rows[known & differs], own_news))))
    return Standing(indices.tolist(), entries, own, rest)


def about(context: Context, said: About) -> Standing:
    """The answer to a question about some logs."""
    table = context.table
    rows = table.rows_of(said.handles)
    differs = table.differing(rows, said.entries)
    indices = differs.nonzero()[0]
    entries = table.entries_within(rows[indices], CONTROL_BODY_BYTES - len(rows) // 8)
    return Standing(indices.tolist(), entries, NO_LISTING, table.of_rows(rows[~differs & (rows >= 0)]))


def _listing_bytes(listing: Listing) -> int:
    return 16 + listing_bytes(listing.width, len(listing)) + int(entry_bytes(listing.entries).sum())


# --- survey ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """A Surveyed being put together. `spans` are the rows of each listed region."""

    regions: list[Region] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    listed: int = 0
    until: int = END

    @property
    def has_room(self) -> bool:
        return 2 * len(self.regions) + SURVEY_PARTS_MAX + 2 <= RANGES_MAX and self.listed < LISTED_LOGS_MAX


def surveyed(context: Context, said: Survey) -> Surveyed:
    """The answer to a survey, as far as it fits into a frame."""
    table = context.table
    answer = _Answer()
    for region, (lo, hi) in zip(said.regions, table.all_bounds(said.regions), strict=True):
        if not answer.has_room:
            answer.until = region.lower
            break
        if region.mode == SHOW:
            _list(answer, region, lo, hi)
        elif table.fingerprint(lo, hi) != region.fingerprint:
            _refine(table, answer, region, lo, hi)
    return _fitted(table, answer)


def _refine(table: KeyedTable, answer: _Answer, region: Region, lo: int, hi: int) -> None:
    """A region that differs: few logs are listed, many cut. Each part has fewer logs than the whole, and none is empty,
    which is why a survey ends."""
    if hi - lo > SURVEY_LISTED_LOGS:
        parts = min(SURVEY_PARTS_MAX, -(-(hi - lo) // SURVEY_PART_LOGS))
        places = [(region.lower, lo), *table.cuts(lo, hi, parts), (region.upper, hi)]
        if len(places) > 2:
            answer.regions += [
                Region(lower, upper, FP, table.fingerprint(first, end))
                for (lower, first), (upper, end) in pairwise(places)
            ]
            return
    _list(answer, region, lo, hi)


def _list(answer: _Answer, region: Region, lo: int, hi: int) -> None:
    answer.regions.append(Region(region.lower, region.upper, LIST))
    answer.spans.append((lo, hi))
    answer.listed += hi - lo


def _fitted(table: KeyedTable, answer: _Answer) -> Surveyed:
    """Lists what fits, and says where it stops."""
    rows = np.concatenate([_no_rows(), *(np.arange(lo, hi) for lo, hi in answer.spans)])[: LISTED_LOGS_MAX + 1]
    room = CONTROL_BODY_BYTES - _REGION_BYTES * len(answer.regions)
    listing = table.listing(rows[:LISTED_LOGS_MAX])
    ends = np.cumsum(entry_bytes(listing.entries)).tolist()
    count = bisect_right(range(len(ends)), room, key=lambda at: ends[at] + listing_bytes(listing.width, at + 1))
    if count < len(rows):
        prefixes = table.table.prefixes
        if not count:
            raise RemoteProtocolError("limit", "a survey of which nothing fits into an answer")
        answer.until = min(answer.until, int(prefixes[rows[count]]))
        count = int(np.searchsorted(prefixes[rows[:count]], np.uint64(answer.until)))  # a place is not cut
        listing = table.listing(rows[:count])
    regions = [
        region if region.upper <= answer.until else region._replace(upper=answer.until)
        for region in answer.regions
        if region.lower < answer.until
    ]
    counts: list[int] = []
    left = count
    for lo, hi in answer.spans:
        counts.append(min(left, hi - lo))
        left -= counts[-1]
    listed = sum(region.mode == LIST for region in regions)
    return Surveyed(regions, counts[:listed], listing, answer.until)


# --- names ----------------------------------------------------------------------------------------------------------


def named(context: Context, said: Names) -> Named:
    """The names of the logs that begin with these fragments, as far as they fit into a frame."""
    table = context.table
    room = CONTROL_BODY_BYTES
    names: list[tuple[int, LogName]] = []
    topics: set[str] = set()
    answered = 0
    for index, fragment in enumerate(said.fragments.tolist()[:NAMES_ASKED_MAX]):
        rows = table.beginning_with(said.width, fragment)[:NAMES_PER_FRAGMENT_MAX]
        found = [table.table.name_at(row) for row in rows]
        for name in found:
            room -= 12 + len(name.log.encode()) + (0 if name.topic in topics else 4 + len(name.topic.encode()))
            topics.add(name.topic)
        if room < 0 and answered:
            break
        names += [(index, name) for name in found]
        answered = index + 1
    return Named(answered, names)
