"""What is worked out of a recording: faults from their beginning to their end, delays, series thinned for drawing.

Pure functions over plain data. Nothing here is sampled unless its name says so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from protocols.limits.simulation import REPORT_LINE_POINTS_MAX, REPORT_LINES_MAX, REPORT_SERIES_POINTS_MAX
from simulations.recording import Happening, MessageSpread, Recording
from simulations.report.words import happening_text

__all__ = [
    "FAMILIES",
    "SHARES",
    "Delays",
    "Span",
    "correct_mailboxes",
    "delays",
    "end_s",
    "family",
    "in_step_again_s",
    "lanes",
    "series",
    "share_lines",
    "spans",
    "spread_evenly",
    "torn_apart",
    "traffic_rates",
]

SHARES: Final = (0.5, 0.9, 0.99, 1.0)
"""The shares of mailboxes for which delays are told."""

FAMILIES: Final = {
    **dict.fromkeys(("cut", "clog", "reset", "heal"), "network"),
    **dict.fromkeys(("crash", "stop", "start", "pause", "churn", "upgrade"), "process"),
    **dict.fromkeys(("disk-full", "wipe-disk"), "disk"),
    **dict.fromkeys(("clock-change", "walk"), "place"),
    "violation": "violation",
}
"""What is alike has one colour."""

Item = TypeVar("Item")

_END: Final = "end-of-"
_ENDED_BY_HEAL: Final = ("cut", "clog")
_ENDED_BY_START: Final = ("crash", "stop", "wipe-disk")
_LASTING: Final = frozenset(("cut", "clog", "pause", "disk-full", "churn", "crash", "stop", "wipe-disk"))
_EASED_S: Final = 1e-9


@dataclass(slots=True, eq=False)  # two equal faults are two
class Span:
    """A fault from its beginning to its end; `end_s` is None for what takes no time."""

    kind: str
    begin_s: float
    end_s: float | None
    who: Sequence[str]
    text: str
    is_open: bool = False
    """True while nothing ended it: `end_s` is then the end of the run."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How long messages took from being written to being held by `share` of the correct mailboxes. `reached_s` are
    ascending; `missed` messages never got so far."""

    share: float
    reached_s: Sequence[float]
    missed: int

    @property
    def total(self) -> int:
        return len(self.reached_s) + self.missed

    def percentile(self, part: float) -> float | None:
        """Within this time `part` of all messages got so far; None if fewer did."""
        rank = max(1, math.ceil(part * self.total - _EASED_S))
        return self.reached_s[rank - 1] if rank <= len(self.reached_s) else None


def end_s(recording: Recording) -> float:
    """The end of the time axis."""
    last = [recording.simulated_s, *recording.sampled_s[-1:], *(one.at_s for one in recording.happenings)]
    return max((value for value in last if math.isfinite(value)), default=0.0) or 1.0


def family(kind: str) -> str:
    """What the colour of a kind of fault is named after."""
    return FAMILIES.get(kind.removeprefix(_END), "other")


def spans(recording: Recording) -> list[Span]:
    """All happenings, in order of time. An end is joined to its beginning, if it has one."""
    found: list[Span] = []
    lasting = _LASTING | {one.kind.removeprefix(_END) for one in recording.happenings if one.kind.startswith(_END)}
    running: dict[str, list[Span]] = {kind: [] for kind in lasting}
    last_s = end_s(recording)
    for one in sorted(recording.happenings, key=lambda one: one.at_s):
        if _ends_something(one, running):
            continue
        span = Span(one.kind, one.at_s, None, tuple(one.who), happening_text(one))
        if one.kind in lasting:
            span.end_s, span.is_open = last_s, True
            running[one.kind].append(span)
        found.append(span)
    return found


def _ends_something(one: Happening, running: Mapping[str, list[Span]]) -> bool:
    """Closes what `one` ends; True if it needs no mark of its own. What befell a group ends with the last of them."""
    ended: list[Span] = []
    if one.kind.startswith(_END):
        ended = _latest_of(one.who, running[one.kind.removeprefix(_END)])
    elif one.kind == "start":
        ended = [span for kind in _ENDED_BY_START for span in _latest_of(one.who, running.get(kind, []))]
    elif one.kind == "heal":
        ended = [span for kind in _ENDED_BY_HEAL for span in running[kind] if span.is_open]
    for span in ended:
        span.end_s, span.is_open = one.at_s, False
        if set(span.who) <= set(one.who):
            running[span.kind].remove(span)
    return bool(ended) and one.kind != "heal"


def _latest_of(who: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """The one that began last of those that befell one of `who`, alone or as one of a group `NAME-1`, `NAME-2`, …"""
    names = {*who, *(name.rpartition("-")[0] for name in who)}
    for span in reversed(spans):
        if names & set(span.who) or any(name.rpartition("-")[0] in who for name in span.who):
            return [span]
    return []


def lanes(recording: Recording) -> dict[str, list[Span]]:
    """Spans by kind, in the order of families and of their first appearance; violations come first. That mailboxes
    start at the beginning is left out."""
    by_kind: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans(recording):
        if span.kind != "start" or span.begin_s > 0:
            by_kind[span.kind].append(span)
    order = ["violation", *dict.fromkeys(FAMILIES.values()), "other"]
    return dict(sorted(by_kind.items(), key=lambda item: order.index(family(item[0]))))


def torn_apart(recording: Recording) -> list[tuple[float, float]]:
    """When something was cut from something, as (beginning, end), without overlaps."""
    found: list[tuple[float, float]] = []
    for span in spans(recording):
        if span.kind != "cut" or span.end_s is None:
            continue
        if found and span.begin_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], span.end_s))
        else:
            found.append((span.begin_s, span.end_s))
    return found


def correct_mailboxes(recording: Recording) -> int:
    """How many mailboxes there are to hold a message."""
    honest = sum(1 for one in recording.totals if one.behaviour == "honest")
    return honest or max(recording.up, default=0) or max((len(one.held_s) for one in recording.spreads), default=0)


def delays(recording: Recording) -> list[Delays]:
    """One for each of `SHARES`."""
    mailboxes = max(1, correct_mailboxes(recording))
    result = []
    for share in SHARES:
        needed = max(1, math.ceil(share * mailboxes - _EASED_S))
        reached = sorted(
            max(0.0, one.held_s[needed - 1] - one.written_s) for one in recording.spreads if len(one.held_s) >= needed
        )
        result.append(Delays(share, reached, len(recording.spreads) - len(reached)))
    return result


def in_step_again_s(recording: Recording) -> float | None:
    """How long after the last fault all correct mailboxes held the same for the first time; None: not seen."""
    faults = [span.end_s or span.begin_s for span in spans(recording) if not span.is_open and span.kind != "violation"]
    calm_s = max(faults, default=0.0)
    first = bisect_right(recording.sampled_s, calm_s)
    for at_s, groups in zip(recording.sampled_s[first:], recording.groups[first:], strict=False):
        if groups <= 1:
            return at_s - calm_s
    return None


def spread_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of them, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def series(
    times_s: Sequence[float],
    values: Sequence[float],
    how: Callable[[Iterable[float]], float],
    most: int = REPORT_SERIES_POINTS_MAX,
) -> list[tuple[float, float]]:
    """(time, value), at most `most` of them: neighbours are made one by `how` (min, max, sum)."""
    points = [(at_s, value) for at_s, value in zip(times_s, values, strict=False) if math.isfinite(value)]
    width = math.ceil(len(points) / most) or 1
    chunks = (points[first : first + width] for first in range(0, len(points), width))
    return [(chunk[-1][0], how(value for _, value in chunk)) for chunk in chunks]


def traffic_rates(recording: Recording) -> list[float]:
    """Bytes per second at each sample. A sample soon after another counts as if it were half a mean interval later:
    bytes by milliseconds are no rate."""
    before = [0.0, *recording.sampled_s]
    least_s = 0.5 * end_s(recording) / max(1, len(recording.sampled_s))
    pairs = zip(before, recording.sampled_s, recording.traffic_bytes, strict=False)
    return [size / max(now - then, least_s) for then, now, size in pairs]


def share_lines(recording: Recording) -> Iterator[list[tuple[float, float]]]:
    """The way of single messages as steps of (time, share of correct mailboxes that hold it): a sample of them all."""
    mailboxes = max(1, correct_mailboxes(recording))
    last_s = end_s(recording)
    for spread in spread_evenly(recording.spreads, REPORT_LINES_MAX):
        yield list(_steps(spread, mailboxes, last_s))


def _steps(spread: MessageSpread, mailboxes: int, last_s: float) -> Iterator[tuple[float, float]]:
    yield spread.written_s, 0.0
    counts = spread_evenly(range(1, len(spread.held_s) + 1), REPORT_LINE_POINTS_MAX)
    share = 0.0
    for count in counts:
        at_s = spread.held_s[count - 1]
        yield at_s, share
        share = min(1.0, count / mailboxes)
        yield at_s, share
    if share < 1.0:
        yield last_s, share
