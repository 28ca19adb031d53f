"""The initiator's first question: which logs differ, and by which sequence numbers? The spec is `reconcile.md`.

Three ways to ask: `News` where both sides remember when they last held the same, `Survey` where they don't (or where
the news turn out not to be all), and `About` for the few logs of a hint.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from protocols.errors import RemoteProtocolError
from protocols.limits.data import HANDLE_BYTES
from protocols.limits.sync import (
    CONTROL_BODY_BYTES,
    INSIDE_LOGS_MAX,
    INSIDE_ROWS_MAX,
    NAMES_ASKED_MAX,
    NEWS_LOGS_MAX,
    SURVEY_LISTED_LOGS,
    SURVEY_REGIONS_ASKED_MAX,
)
from protocols.model import LogName, handle_of
from protocols.sync.common import Context
from protocols.sync.effects import Rows
from protocols.sync.inspection import Inspection
from protocols.sync.listing import (
    FRAGMENT_BITS_MAX,
    NO_LISTING,
    Entries,
    Listing,
    entry_bytes,
    listing_bytes,
    run_lists,
    select,
)
from protocols.sync.messages import About, Named, Names, News, Seqs, Standing, Survey, Surveyed
from protocols.sync.regions import END, FP, LIST, SHOW, Region
from protocols.sync.spans import EVERYTHING, minus, union
from protocols.sync.tables import Matches
from protocols.sync.work import Work

__all__ = ["Question", "Reply", "Search"]

Question: TypeAlias = News | About | Survey | Names
Reply: TypeAlias = Standing | Surveyed | Named

_NO_ROWS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """A log that the peer has and of which we know the beginning of its handle only. `spans`: what it holds, None if
    that can't be said in runs. `maybe` are rows of ours of which one could be it: those that are not are ours alone."""

    width: int
    fragment: int
    spans: Sequence[Seqs] | None
    maybe: range = range(0)


class _Explained(NamedTuple):
    """A region in which runs differ or logs are missing, so that the rows of its other logs are not known to be the
    same: how far it lies behind a place that each session chooses by chance, its bounds, how many rows of ours it has,
    and those in which the runs differ."""

    distance: int
    lower: int
    upper: int
    rows: int
    other_runs: Sequence[int]


class Search:
    """One round of one initiator. `opening` or `question`, send it, give the reply to `take`, until `finished`."""

    def __init__(self, context: Context, work: Work, *, again: bool) -> None:
        self._context = context
        self._table = context.table
        self._work = work
        self._again = again
        self._regions: list[Region] = []  # to be asked about; the last one first
        self._unnamed = unnamed = list[_Unnamed]()

        # No method: with one the two would hold each other, and their pictures, until garbage is looked for.
        def only_there(handle: bytes) -> None:
            unnamed.append(_unnamed_of(handle, None))

        self.inspection = Inspection(context, work, only_there)
        self._asked: Question | None = None
        self._asked_rows: Rows = _NO_ROWS
        self._asked_names: list[_Unnamed] = []
        self._doubted: set[bytes] = set()
        self._differing: list[tuple[bytes, int, Sequence[Seqs], Sequence[Seqs]]] = []
        """Some logs whose runs differ: the row of each, our runs and the peer's. Which ones is by chance."""
        self._explained: list[_Explained] = []
        self._explained_from = int.from_bytes(self._chance(b""))

    @property
    def asks_items(self) -> bool:
        """Whether the next question is `inspection`'s."""
        return not (self._regions or self._unnamed)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask (by `inspection` neither)."""
        return self.asks_items and self.inspection.finished

    # --- asking ------------------------------------------------------------------------------------------------

    def opening(self) -> Question:
        """The first question of this round."""
        only = self._context.config.only
        if only is not None:
            self._asked = self._about(sorted(set(only)))
        elif (news := self._news()) is not None:
            self._asked = News(news, self._again)
        else:
            self._asked = Survey(self._first_regions(), self._again)
        return self._asked

    def question(self) -> Question:
        """What to ask next."""
        names_are_due = len(self._unnamed) >= NAMES_ASKED_MAX or not self._regions
        self._asked = self._names() if self._unnamed and names_are_due else self._next_survey()
        return self._asked

    def _about(self, handles: Sequence[bytes]) -> About:
        self._asked_rows = self._table.rows_of(handles)
        room = CONTROL_BODY_BYTES - HANDLE_BYTES * len(handles)
        return About(handles, self._table.entries_within(self._asked_rows, room), self._again)

    def _news(self) -> Listing | None:
        """What has changed since the last time; None if we can't tell, or a survey is likely to be shorter."""
        if self._context.since is None:
            return None
        rows = self._table.table.changed_since(self._context.since)
        most = min(NEWS_LOGS_MAX, max(8, len(self._table) // 4))
        if self._context.given and len(rows) <= most:
            given = self._table.rows_of(sorted(self._context.given)).tolist()
            rows = np.array(sorted({*rows.tolist(), *given} - {-1}), np.int64)
        if len(rows) > most:
            return None
        if not rows.size:
            self._asked_rows = rows
            return NO_LISTING
        listing = self._table.listing(rows)
        if listing_bytes(listing.width, len(listing)) + int(entry_bytes(listing.entries).sum()) > CONTROL_BODY_BYTES:
            return None
        self._asked_rows = rows
        return listing

    def _first_regions(self) -> list[Region]:
        table = self._table
        if not len(table):
            return [Region(0, END, SHOW)]
        places = [(0, 0), *table.cuts(0, len(table), table.first_parts()), (END, len(table))]
        return [Region(lower, upper, FP, table.fingerprint(lo, hi)) for (lower, lo), (upper, hi) in pairwise(places)]

    def _next_survey(self) -> Survey:
        regions = self._regions[-SURVEY_REGIONS_ASKED_MAX:]
        del self._regions[-SURVEY_REGIONS_ASKED_MAX:]
        return Survey(sorted(regions))

    def _names(self) -> Names:
        """The unnamed logs of one width of fragments."""
        width = self._unnamed[-1].width
        asked: list[_Unnamed] = []
        left: list[_Unnamed] = []
        for one in reversed(self._unnamed):
            (asked if one.width == width and len(asked) < NAMES_ASKED_MAX else left).append(one)
        self._unnamed[:] = left[::-1]
        self._asked_names = sorted(asked, key=lambda one: one.fragment)
        return Names(width, np.array([one.fragment for one in self._asked_names], np.uint64))

    # --- understanding the replies -----------------------------------------------------------------------------

    def take(self, reply: Reply) -> None:
        """Takes the reply to the last question. Raises RemoteProtocolError."""
        asked, self._asked = self._asked, None
        match asked, reply:
            case News(), Standing():
                self._take_standing(len(asked.listing), reply)
            case About(), Standing():
                self._take_about(asked, reply)
            case Survey(), Surveyed():
                self._take_survey(asked, reply)
            case Names(), Named():
                self._take_names(reply)
            case _:
                raise RemoteProtocolError("state", "a reply that does not fit the question")

    # News and About

    def _take_standing(self, listed: int, reply: Standing) -> None:
        """Takes a reply to our news if the rest is the same on both sides; else makes a survey."""
        if reply.differing and reply.differing[-1] >= listed:
            raise RemoteProtocolError("unrequested", "a log that was not listed")
        if not (reply.differing or len(reply.listing)):  # as in most sessions, of mailboxes that hold the same
            if not reply.rest or self._table.rest(_NO_ROWS) != reply.rest:
                self._begin_anew()
            return
        matches = self._table.match(reply.listing.width, reply.listing.fragments)
        differing = self._asked_rows[list(reply.differing)]
        excluded = np.concatenate((differing, matches.rows[matches.rows >= 0]))
        is_sound = bool(reply.rest) and not matches.several.any() and len(np.unique(excluded)) == len(excluded)
        if not is_sound or self._table.rest(np.sort(excluded)) != reply.rest:
            self._begin_anew()
            return
        self._compare(differing, reply.entries)
        self._compare_listed(reply.listing, matches.rows, inspect_equal=True)
        self._note_unknown(reply.listing, matches)

    def _begin_anew(self) -> None:
        """News were in vain: a survey finds out."""
        self._regions = self._first_regions()
        self._again = False

    def _take_about(self, asked: About, reply: Standing) -> None:
        if len(reply.listing) or (reply.differing and reply.differing[-1] >= len(asked.handles)):
            raise RemoteProtocolError("unrequested", "a log that was not asked about")
        rows = self._asked_rows
        is_equal = rows >= 0
        is_equal[list(reply.differing)] = False
        equal = rows[is_equal]
        if self._table.of_rows(equal) != reply.rest:
            for row in equal.tolist():
                self._inspect(row)
        differing = rows[list(reply.differing)]
        known = differing >= 0
        self._compare(differing[known], select(reply.entries, known))
        unknown = (~known).nonzero()[0].tolist()
        for index, held in zip(unknown, run_lists(reply.entries.runs, unknown), strict=True):
            spans = None if reply.entries.many[index] else held
            self._unnamed.append(_unnamed_of(asked.handles[reply.differing[index]], spans))

    # Survey

    def _take_survey(self, asked: Survey, reply: Surveyed) -> None:
        self._requeue(asked.regions, reply.until)
        at = 0
        spans: list[tuple[int, int, int]] = []
        listed: list[Region] = []
        for region, (lo, hi) in zip(reply.regions, self._table.all_bounds(reply.regions), strict=True):
            while at < len(asked.regions) and asked.regions[at].upper <= region.lower:
                at += 1
            if at == len(asked.regions) or not _is_within(region, asked.regions[at]) or region.upper > reply.until:
                raise RemoteProtocolError("ranges", "an answer to what was not asked")
            if region.mode == LIST:
                spans.append((lo, hi, reply.counts[len(spans)]))
                listed.append(region)
            elif asked.regions[at].mode == FP and region[:2] != asked.regions[at][:2]:
                self._take_part(region, lo, hi)
            else:
                raise RemoteProtocolError("ranges", "a region was not split")
        if listed:
            self._take_lists(listed, spans, reply.listing)

    def _requeue(self, asked: Sequence[Region], until: int) -> None:
        """What the reply says nothing about is asked again, from where it stopped."""
        if until <= asked[0].lower:
            raise RemoteProtocolError("no-progress", "an answer about nothing")
        for region in reversed(asked):
            if region.lower >= until:
                self._regions.append(region)
            elif region.upper > until:
                self._regions.append(Region(until, region.upper, SHOW))

    def _take_part(self, region: Region, lo: int, hi: int) -> None:
        mine = self._table.fingerprint(lo, hi)
        if mine == region.fingerprint:
            return
        if hi - lo <= SURVEY_LISTED_LOGS:
            self._regions.append(Region(region.lower, region.upper, SHOW))
        else:
            self._regions.append(Region(region.lower, region.upper, FP, mine))

    def _take_lists(self, regions: Sequence[Region], spans: Sequence[tuple[int, int, int]], listing: Listing) -> None:
        matches = self._table.match(listing.width, listing.fragments, spans)
        differs = self._compare_listed(listing, matches.rows)
        self._note_unknown(listing, matches)
        own = np.concatenate([np.arange(lo, hi) for lo, hi, _ in spans])
        several = np.flatnonzero(matches.several).tolist()
        maybe = [np.arange(rows.start, rows.stop) for rows in map(matches.maybe, several)]
        is_alone = np.ones(len(own), np.bool_)
        for rows in (matches.rows[matches.rows >= 0], *maybe):
            is_alone[np.searchsorted(own, rows)] = False
        alone = own[is_alone]
        if alone.size:
            self._work.offer_rows(alone.tolist())
        # A region's fingerprint was another one: where its runs don't show why, its rows must.
        region_of = np.repeat(np.arange(len(regions)), [count for _, _, count in spans])
        # Of logs whose handles begin alike to the last bit we learn the names, and maybe nothing: they explain nothing.
        explain = matches.rows < 0 if listing.width < FRAGMENT_BITS_MAX else (matches.rows < 0) & ~matches.several
        found = set(region_of[differs | explain].tolist())
        lows = np.array([lo for lo, _, _ in spans])
        found.update((np.searchsorted(lows, alone, side="right") - 1).tolist())
        for number, (region, (lo, hi, _)) in enumerate(zip(regions, spans, strict=True)):
            if hi > lo and number in found:
                self._note_explained(region, hi - lo, matches.rows[differs & (region_of == number)].tolist())
            elif hi > lo:
                self.inspection.add_region(region.lower, region.upper)

    # what all have in common

    def _compare_listed(self, listing: Listing, rows: Rows, *, inspect_equal: bool = False) -> npt.NDArray[np.bool_]:
        """Takes the listed logs that seem to be ours, in these rows (-1: none); returns which of them differ."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        known = rows >= 0
        theirs = select(listing.entries, known)
        differ = self._table.differing(rows[known], theirs)
        self._compare(rows[known][differ], select(theirs, differ))
        if inspect_equal:
            for row in rows[known][~differ].tolist():
                self._inspect(row)
        result = np.zeros(len(rows), np.bool_)
        result[known] = differ
        return result

    def _note_unknown(self, listing: Listing, matches: Matches) -> None:
        """Takes the listed logs that are not ours, or of which we can't tell which of ours they are."""
        unknown = np.flatnonzero(matches.rows < 0).tolist()
        if self._context.config.is_full:
            self._work.drop(len(unknown))
            return
        for index, held in zip(unknown, run_lists(listing.entries.runs, unknown), strict=True):
            spans = None if listing.entries.many[index] else held
            fragment = int(listing.fragments[index])
            self._unnamed.append(_Unnamed(listing.width, fragment, spans, matches.maybe(index)))

    def _compare(self, rows: Rows, theirs: Entries) -> None:
        """Takes logs of ours and what the peer holds of them, which is something else."""
        if not rows.size:
            return
        mine = self._table.entries(rows)
        count = range(len(rows))
        for row, my_spans, their_spans, my_many, their_many in zip(
            rows.tolist(),
            run_lists(mine.runs, count),
            run_lists(theirs.runs, count),
            mine.many.tolist(),
            theirs.many.tolist(),
            strict=True,
        ):
            if not their_spans and not their_many:
                self._work.offer_rows([row])
            elif my_many or their_many:
                self._inspect(row)
            else:
                self._differ(row, my_spans, their_spans)

    def _differ(self, row: int, mine: Sequence[Seqs], theirs: Sequence[Seqs]) -> None:
        needs, offers = minus(theirs, mine), minus(mine, theirs)
        if needs or offers:
            table = self._table.table
            self._work.differs(table.handle_at(row), table.name_at(row), needs, offers)
            self._note_differing(row, mine, theirs)
        else:
            self._inspect(row)

    def _note_differing(self, row: int, mine: Sequence[Seqs], theirs: Sequence[Seqs]) -> None:
        chance = self._chance(self._table.table.handle_at(row))
        if len(self._differing) < INSIDE_LOGS_MAX or chance < self._differing[-1][0]:
            insort(self._differing, (chance, row, mine, theirs))
            del self._differing[INSIDE_LOGS_MAX:]

    def _note_explained(self, region: Region, rows: int, other_runs: Sequence[int]) -> None:
        """Keeps those that lie next behind the place, as many as are looked at."""
        distance = (region.lower - self._explained_from) % END
        insort(self._explained, _Explained(distance, region.lower, region.upper, rows, other_runs))
        while sum(one.rows for one in self._explained[:-1]) > INSIDE_ROWS_MAX:
            del self._explained[-1]

    def _chance(self, of: bytes) -> bytes:
        """Another number in each session, which nobody can choose."""
        return blake3(b"LD" + of, key=self._context.key).digest(length=8)

    def look_inside(self) -> bool:
        """To be called when nothing of what the runs show can be moved, as one side does not want it: else that would
        hide another content or date for as long as it lasts. Has some of the logs whose runs differ inspected in what
        both sides have, and the rows of some others. Returns whether there is anything to ask."""
        differing, self._differing = self._differing, []
        table = self._table.table
        for _, row, mine, theirs in differing:
            offers = minus(mine, theirs)
            if both := minus(mine, offers):
                apart = union(minus(theirs, mine), offers)
                self.inspection.add_common(table.handle_at(row), table.name_at(row), both, apart)
        explained, self._explained = self._explained, []
        if explained:
            lower, upper = explained[0].lower, explained[0].upper
            left_out = {table.handle_at(row) for row in explained[0].other_runs}
            for _, _, end, _, other_runs in explained[1:]:
                lo, hi = self._table.bounds(lower, end) if end > upper else (0, INSIDE_ROWS_MAX + 1)
                if hi - lo > INSIDE_ROWS_MAX:
                    break
                upper = end
                left_out.update(map(table.handle_at, other_runs))
            self.inspection.add_rest(lower, upper, left_out)
        return not self.finished

    def _inspect(self, row: int) -> None:
        self.inspection.add(self._table.table.handle_at(row), self._table.table.name_at(row))

    def doubt(self, handle: bytes) -> None:
        """Nothing came of a log of ours in which the peer seemed to have more. Another one may have been meant, whose
        handle begins alike: its name will tell, and ours is offered if the peer does not know it."""
        row = self._table.table.find(handle)
        if row is not None and handle not in self._doubted:
            self._doubted.add(handle)
            self._unnamed.append(_unnamed_of(handle, None, range(row, row + 1)))

    # Names

    def _take_names(self, reply: Named) -> None:
        asked, self._asked_names = self._asked_names, []
        if not 0 < reply.answered <= len(asked):
            raise RemoteProtocolError("no-progress", "names of nothing that was asked for")
        self._unnamed += asked[reply.answered :]
        by_index: dict[int, list[LogName]] = {}
        for index, name in reply.names:
            by_index.setdefault(index, []).append(name)
        for index, one in enumerate(asked[: reply.answered]):
            self._take_named(one, by_index.get(index, []))

    def _take_named(self, one: _Unnamed, names: Sequence[LogName]) -> None:
        table = self._table.table
        alone = set(one.maybe)
        spans = one.spans if len(names) == 1 else None
        for name in names:
            handle = handle_of(name)
            if int.from_bytes(handle[:8], "big") >> (FRAGMENT_BITS_MAX - one.width) != one.fragment:
                raise RemoteProtocolError("name", "a name that does not belong to its fragment")
            row = table.find(handle)
            if row is None:
                self._context.check_covered(name)
                self._work.differs(handle, name, [EVERYTHING] if spans is None else spans, ())
                continue
            alone.discard(row)
            mine = self._table.entries(np.array([row], np.int64))
            if spans is None or mine.many[0]:
                self._inspect(row)
            else:
                self._differ(row, run_lists(mine.runs, [0])[0], spans)
        if alone:
            self._work.offer_rows(sorted(alone))


def _unnamed_of(handle: bytes, spans: Sequence[Seqs] | None, maybe: range = range(0)) -> _Unnamed:
    return _Unnamed(FRAGMENT_BITS_MAX, int.from_bytes(handle[:8], "big"), spans, maybe)


def _is_within(said: Region, asked: Region) -> bool:
    return asked.lower <= said.lower and said.upper <= asked.upper
