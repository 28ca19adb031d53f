"""Everything on one axis of time: moments, faults in a lane for each kind, and below them who held what, how many
different sets there were, who was up, how much was held and sent.

The tracks are stretched to the width of the page: their places are percentages, and words stand in HTML beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from protocols.limits.simulation import REPORT_MARKS_MAX
from simulations.recording import Moment, Recording
from simulations.report.figures import Span, end_s, family, lanes, series, share_lines, torn_apart, traffic_rates
from simulations.report.words import (
    at_text,
    axis_ticks,
    byte_text,
    count_of,
    duration,
    kind_text,
    names_text,
    percent,
    safe,
)

__all__ = ["timeline"]

_ROWS_MAX: Final = 4
_CLUSTER_TEXTS: Final = 4
_SPOKEN: Final = 'role="img" tabindex="0"'
_WIDTH: Final = 1000
_HEIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class _Strip:
    """One chart of the stack. `key` is the series' name in the page's data, `most` the value at its upper edge."""

    key: str
    title: str
    colour: int
    points: Sequence[tuple[float, float]]
    most: float
    text: Callable[[float], str]
    is_stepped: bool


def timeline(recording: Recording, moments: Sequence[Moment], run: str) -> str:
    """The HTML of the whole stack; `run` begins the ids of this run's elements."""
    length_s = end_s(recording)
    rows = [_behind(recording, moments, length_s)]
    rows += [_pins(moments, length_s, run)] if moments else []
    rows += [_lane(kind, spans, length_s) for kind, spans in lanes(recording).items()]
    rows += [_shares(recording, length_s)]
    rows += [_strip(strip, length_s) for strip in _strips(recording)]
    rows += [_axis(length_s), _cursor(recording, length_s)]
    return f'<div class="timeline" data-length="{length_s:g}">{"".join(rows)}</div>'


def _percent(at_s: float, length_s: float) -> float:
    return round(100 * min(1.0, max(0.0, at_s / length_s)), 3)


def _row(css: str, label: str, track: str) -> str:
    return f'<div class="row {css}"><div class="label">{label}</div><div class="track">{track}</div></div>'


# --- moments ----------------------------------------------------------------------------------------------------------


def _pins(moments: Sequence[Moment], length_s: float, run: str) -> str:
    places = [_percent(moment.at_s, length_s) for moment in moments]
    pins = "".join(
        f'<a class="pin" href="#{run}-moment-{index}" data-moment="{index}" data-place="{place:.4g}" '
        f'style="left:{place:.4g}%" '
        f'aria-label="{safe(f"{index + 1}, {duration(moment.at_s)}: {moment.title}")}">{index + 1}</a>'
        for index, (moment, place) in enumerate(zip(moments, places, strict=True))
    )
    return _row("pins", "<span>Moments</span>", pins)


# --- faults -----------------------------------------------------------------------------------------------------------


def _lane(kind: str, spans: Sequence[Span], length_s: float) -> str:
    rows = _stacked(spans, length_s) if len(spans) <= REPORT_MARKS_MAX else None
    count = f'<span class="count">{len(spans):,}</span>' if len(spans) > 1 else ""
    label = f"<span>{safe(kind_text(kind))}</span>{count}"
    if rows is None:
        return _row(f"lane f-{family(kind)}", label, "".join(_clusters(kind, spans, length_s)))
    marks = "".join(_mark(span, row, length_s) for span, row in rows)
    height = 1 + max(row for _, row in rows)
    return _row(f"lane f-{family(kind)} rows-{height}", label, marks)


def _stacked(spans: Sequence[Span], length_s: float) -> list[tuple[Span, int]] | None:
    """Each with the row in which it covers no other; None if that takes too many rows."""
    free_from: list[float] = []
    placed = []
    for span in spans:
        begin = _percent(span.begin_s, length_s)
        end = max(begin + 0.9, _percent(span.end_s or span.begin_s, length_s))
        row = next((row for row, free in enumerate(free_from) if free <= begin), len(free_from))
        free_from[row : row + 1] = [end]
        placed.append((span, row))
    return placed if len(free_from) <= _ROWS_MAX else None


def _mark(span: Span, row: int, length_s: float) -> str:
    begin = _percent(span.begin_s, length_s)
    place = f"left:{begin:.4g}%"
    css = "mark"
    if span.end_s is not None:
        css = "mark span open" if span.is_open else "mark span"
        place += f";width:{_percent(span.end_s, length_s) - begin:.4g}%"
    if row:
        css += f" row-{row}"
    return f'<span class="{css}" style="{place}" {_SPOKEN} aria-label="{safe(_told(span))}"></span>'


def _told(span: Span) -> str:
    when = duration(span.begin_s)
    if span.end_s is not None:
        lasted = "to the end" if span.is_open else f"to {duration(span.end_s)}"
        when += f" {lasted} ({duration(span.end_s - span.begin_s)})"
    who = f" [{names_text(span.who)}]" if span.who and not all(name in span.text for name in span.who) else ""
    return f"{kind_text(span.kind)}, {when}: {span.text}{who}"


def _clusters(kind: str, spans: Sequence[Span], length_s: float) -> Iterator[str]:
    """Too many to be told apart: how many began in each slice of time."""
    width = length_s / REPORT_MARKS_MAX
    slices: dict[int, list[Span]] = {}
    for span in spans:
        slices.setdefault(min(REPORT_MARKS_MAX - 1, int(span.begin_s / width)), []).append(span)
    most = max(len(among) for among in slices.values())
    for index, among in sorted(slices.items()):
        told = " ".join(f"{duration(span.begin_s)}: {span.text}" for span in among[:_CLUSTER_TEXTS])
        more = len(among) - _CLUSTER_TEXTS
        text = (
            f"{len(among):,} × {kind_text(kind)}, {duration(index * width)} to {duration((index + 1) * width)}: {told}"
        )
        text += f" … and {more:,} more" if more > 0 else ""
        shade = 0.25 + 0.75 * len(among) / most
        yield (
            f'<span class="mark cluster" style="left:{100 * index / REPORT_MARKS_MAX:.4g}%;'
            f'opacity:{shade:.2f}" {_SPOKEN} aria-label="{safe(text)}"></span>'
        )


# --- charts -----------------------------------------------------------------------------------------------------------


def _strips(recording: Recording) -> Iterator[_Strip]:
    times = recording.sampled_s
    rates = traffic_rates(recording)
    for key, title, colour, values, how, text in (
        ("groups", "Different sets", 2, recording.groups, max, _whole),
        ("up", "Mailboxes up", 3, recording.up, min, _whole),
        ("messages", "Messages", 1, recording.messages, max, _whole),
        ("traffic_bytes", "Traffic", 4, rates, max, lambda value: f"{byte_text(value)}/s"),
    ):
        points = series(times, values, how)
        most = max((value for _, value in points), default=0.0) or 1.0
        yield _Strip(key, title, colour, points, most, text, key in ("groups", "up"))


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _strip(strip: _Strip, length_s: float) -> str:
    shape = _stepped(strip.points) if strip.is_stepped else strip.points
    last = strip.text(strip.points[-1][1]) if strip.points else "–"
    label = f'<span>{strip.title}</span><b data-series="{strip.key}">{safe(last)}</b>'
    described = f"{strip.title} over time, at most {strip.text(strip.most)}, {last} at the end"
    chart = _chart(_area(shape, length_s, strip.most, strip.colour), described)
    edge = f'<span class="edge top">{safe(strip.text(strip.most))}</span>' if strip.points else ""
    return _row("strip", label, chart + edge)


def _stepped(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = list(points[:1])
    for (_, before), (at_s, value) in pairwise(points):
        corners += [(at_s, before), (at_s, value)]
    return corners


def _shares(recording: Recording, length_s: float) -> str:
    mean = series(recording.sampled_s, recording.held_share, min)
    singles = "".join(f'<path class="one" d="{_line(points, length_s, 1.0)}"/>' for points in share_lines(recording))
    last = percent(mean[-1][1]) if mean else "–"
    least = percent(min(value for _, value in mean)) if mean else "–"
    label = f'<span>Share of mailboxes that hold a message</span><b data-series="held_share">{last}</b>'
    label += '<small class="key"><i class="l0"></i> mean <i class="l4"></i> single messages</small>'
    described = (
        f"Share of mailboxes that hold a message over time: the mean was {least} at the least, {last} at the end"
    )
    edges = '<span class="edge top">100 %</span><span class="edge middle">50 %</span><span class="edge low">0 %</span>'
    halves = '<path class="half" d="M0 0H1000M0 50H1000M0 100H1000"/>'
    return _row("strip tall", label, _chart(halves + singles + _area(mean, length_s, 1.0, 0), described) + edges)


def _chart(body: str, described: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{safe(described)}">{body}</svg>'
    )


def _line(points: Sequence[tuple[float, float]], length_s: float, most: float) -> str:
    """Path data; what would be drawn onto the point before is left out."""
    steps: list[str] = []
    for at_s, value in points:
        x, y = _WIDTH * min(1.0, at_s / length_s), _HEIGHT * (1 - value / most)
        step = f"{x:.1f} {y:.1f}".replace(".0", "")
        if not steps or steps[-1] != step:
            steps.append(step)
    return f"M{steps[0]}L{' '.join(steps[1:])}" if len(steps) > 1 else f"M{steps[0]}h0" if steps else ""


def _area(points: Sequence[tuple[float, float]], length_s: float, most: float, colour: int) -> str:
    line = _line(points, length_s, most)
    if not line:
        return ""
    first, last = (_WIDTH * min(1.0, at_s / length_s) for at_s in (points[0][0], points[-1][0]))
    return (
        f'<path class="area a{colour}" d="{line}L{last:.1f} {_HEIGHT} {first:.1f} {_HEIGHT}Z"/>'
        f'<path class="line l{colour}" d="{line}"/>'
    )


# --- the axis and what lies over everything ---------------------------------------------------------------------------


def _axis(length_s: float) -> str:
    ticks = "".join(
        f'<span style="left:{_percent(tick_s, length_s):.4g}%">{at_text(tick_s)}</span>'
        for tick_s in axis_ticks(length_s, 9)
    )
    return _row("axis", "", ticks)


def _behind(recording: Recording, moments: Sequence[Moment], length_s: float) -> str:
    """Behind everything: ticks, moments, and a veil while the network is torn apart."""
    lines = "".join(f'<i style="left:{_percent(at_s, length_s):.4g}%"></i>' for at_s in axis_ticks(length_s, 9)[1:])
    lines += "".join(
        f'<i class="moment-at" data-moment="{index}" style="left:{_percent(moment.at_s, length_s):.4g}%"></i>'
        for index, moment in enumerate(moments)
    )
    veils = "".join(
        f'<u style="left:{_percent(begin_s, length_s):.4g}%;width:{_percent(until_s - begin_s, length_s):.4g}%"></u>'
        for begin_s, until_s in torn_apart(recording)
    )
    return f'<div class="overlay behind">{veils}{lines}</div>'


def _cursor(recording: Recording, length_s: float) -> str:
    """Over everything: the line that reads the charts."""
    if not recording.sampled_s:
        return ""
    what = count_of(len(recording.sampled_s), "sample")
    return (
        f'<div class="overlay"><div class="cursor" role="slider" tabindex="0" '
        f'aria-label="Time, to read the charts ({what})" aria-valuemin="0" aria-valuemax="{length_s:g}" '
        f'aria-valuenow="{length_s:g}" aria-valuetext="{safe(duration(length_s))}" hidden><output></output></div></div>'
    )
