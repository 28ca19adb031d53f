"""The convergence picture of a run: faults above, below them who held what, on one axis of time. An SVG that stands
alone and follows the reader's scheme."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from node.bench.svg import WIDTH, document, label
from simulations.recording import Recording
from simulations.report.figures import Span, end_s, family, lanes, series, share_lines, torn_apart
from simulations.report.words import at_text, axis_ticks, count_of, duration, fit, kind_text

__all__ = ["picture", "write_picture"]

_LEFT: Final = 128
_RIGHT: Final = WIDTH - 24
_PLOT: Final = _RIGHT - _LEFT
_TOP: Final = 84
_LANE: Final = 18
_LANES_MAX: Final = 8
_SHARES: Final = 190
_SETS: Final = 54
_GAP: Final = 34

_FILLS: Final = {"network": "f1", "process": "f3", "disk": "f0", "place": "f2", "violation": "broken", "other": "f4"}
_STYLE: Final = """
.broken { fill: #c4192d } @media (prefers-color-scheme: dark) { .broken { fill: #ff6b74 } }
.one { stroke-width: 1; opacity: .22 } .area { stroke: none; opacity: .14 } .veil { opacity: .08 } .axis { opacity: .7 }
"""


def write_picture(recording: Recording, path: Path | str) -> None:
    """Writes the convergence picture of `recording` as SVG."""
    Path(path).write_text(picture(recording), encoding="utf-8")


def picture(recording: Recording) -> str:
    """The SVG document."""
    length_s = end_s(recording)
    body: list[str] = []
    shown = _shown_lanes(recording)
    shares_top = _TOP + len(shown) * _LANE + _GAP
    sets_top = shares_top + _SHARES + _GAP
    bottom = sets_top + _SETS
    body += _veils(recording, length_s, shares_top, bottom)
    for index, (kind, spans) in enumerate(shown.items()):
        body += _lane(kind, spans, length_s, _TOP + index * _LANE)
    body += _axis(length_s, shares_top, bottom)
    body += _shares(recording, length_s, shares_top)
    body += _sets(recording, length_s, sets_top)
    broken = sum(1 for verdict in recording.verdicts if not verdict.holds)
    verdict = (
        count_of(broken, "broken invariant") if broken else f"{count_of(len(recording.verdicts), 'invariant')} held"
    )
    mailboxes = len(recording.totals) or max(recording.up, default=0)
    subtitle = (
        f"{recording.world}, {count_of(mailboxes, 'mailbox', 'mailboxes')}, "
        f"{count_of(len(recording.spreads), 'message')} in {duration(recording.simulated_s)}; {verdict}; "
        f"seed {recording.seed}"
    )
    return document(fit(recording.title or recording.scenario), fit(subtitle), bottom + 50, body, _STYLE)


def _shown_lanes(recording: Recording) -> dict[str, Sequence[Span]]:
    return dict(list(lanes(recording).items())[:_LANES_MAX])


def _x(at_s: float, length_s: float) -> float:
    return _LEFT + _PLOT * min(1.0, max(0.0, at_s / length_s))


def _lane(kind: str, spans: Sequence[Span], length_s: float, top: float) -> Iterator[str]:
    fill = _FILLS[family(kind)]
    yield label(_LEFT - 12, top + 13, fit(kind_text(kind)), anchor="end", css="faint")
    yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{top + 9}" y2="{top + 9}"/>'
    drawn: set[tuple[int, int]] = set()
    for span in spans:
        begin = _x(span.begin_s, length_s)
        wide = 0.0 if span.end_s is None else _x(span.end_s, length_s) - begin
        if (place := (round(begin), round(wide))) in drawn:  # what covers another to the pixel is drawn once
            continue
        drawn.add(place)
        if wide < 6:
            yield f'<circle class="{fill}" cx="{begin + wide / 2:.1f}" cy="{top + 9}" r="4"/>'
        else:
            yield f'<rect class="{fill}" x="{begin:.1f}" y="{top + 4}" width="{wide:.1f}" height="10" rx="3"/>'


def _veils(recording: Recording, length_s: float, top: float, bottom: float) -> Iterator[str]:
    """Over all charts, while the network is torn apart."""
    for begin_s, until_s in torn_apart(recording):
        begin, end = _x(begin_s, length_s), _x(until_s, length_s)
        yield f'<rect class="f1 veil" x="{begin:.1f}" y="{top}" width="{end - begin:.1f}" height="{bottom - top}"/>'


def _axis(length_s: float, top: float, bottom: float) -> Iterator[str]:
    for tick_s in axis_ticks(length_s, 8):
        x = _x(tick_s, length_s)
        yield f'<line class="grid axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield label(x, bottom + 22, at_text(tick_s), anchor="middle", css="faint")


def _shares(recording: Recording, length_s: float, top: float) -> Iterator[str]:
    bottom = top + _SHARES
    yield label(_LEFT, top - 12, "Share of mailboxes that hold a message: the mean, and single messages")
    for share in (0.0, 0.5, 1.0):
        y = bottom - _SHARES * share
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield label(_LEFT - 12, y + 4, f"{100 * share:.0f} %", anchor="end", css="faint")

    def points(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{_x(at_s, length_s):.1f},{bottom - _SHARES * share:.1f}" for at_s, share in values)

    for line in share_lines(recording):
        yield f'<polyline class="l4 one" points="{points(line)}"/>'
    mean = series(recording.sampled_s, recording.held_share, min)
    if mean:
        first, last = _x(mean[0][0], length_s), _x(mean[-1][0], length_s)
        yield f'<polygon class="f0 area" points="{first:.1f},{bottom} {points(mean)} {last:.1f},{bottom}"/>'
        yield f'<polyline class="l0" points="{points(mean)}"/>'


def _sets(recording: Recording, length_s: float, top: float) -> Iterator[str]:
    most = max(2, *recording.groups, 0)
    bottom = top + _SETS
    yield label(_LEFT, top - 10, "Different sets of messages among them")
    for value in (1, most):
        y = bottom - _SETS * (value - 1) / (most - 1)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield label(_LEFT - 12, y + 4, f"{value:,}", anchor="end", css="faint")
    steps = [
        (_x(at_s, length_s), bottom - _SETS * (max(1, groups) - 1) / (most - 1))
        for at_s, groups in series(recording.sampled_s, recording.groups, max)
    ]
    if steps:
        corners = (f"{x:.1f},{before:.1f} {x:.1f},{y:.1f}" for (_, before), (x, y) in pairwise(steps))
        yield f'<polyline class="l2" points="{steps[0][0]:.1f},{steps[0][1]:.1f} {" ".join(corners)}"/>'
