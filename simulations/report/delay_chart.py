"""How long messages took: from being written to being held by half, nine in ten, 99 in 100 and all of the mailboxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from protocols.limits.simulation import REPORT_SERIES_POINTS_MAX
from simulations.recording import Recording
from simulations.report.figures import Delays, delays, spread_evenly
from simulations.report.words import duration, percent, safe, scrollable

__all__ = ["delays_part"]

_LEAD: Final = (
    '<p class="lead">From being written to being held by half, 90\u202f%, 99\u202f% and all of the mailboxes. The '
    "curves are the share of messages that had come so far.</p>"
)
_PARTS: Final = ((0.5, "Half of them"), (0.9, "90\u202f%"), (0.99, "99\u202f%"), (1.0, "All"))
_LEAST_S: Final = 0.001
_TICKS_S: Final = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 56 * 86_400)
_DECADE: Final = 10.0


def delays_part(recording: Recording) -> str:
    """The HTML: curves, and their percentiles in a table."""
    if not recording.spreads:
        return '<p class="none">No message was written.</p>'
    return f'{_LEAD}<div class="columns">{_chart(recording)}{_table(recording)}</div>'


def _share_text(share: float) -> str:
    """Of mailboxes."""
    return {0.5: "half of the mailboxes", 1.0: "all mailboxes"}.get(share, f"{100 * share:g}\u202f% of them")


def _chart(recording: Recording) -> str:
    """The curves: which share of messages had come how far within a time. Empty if none came anywhere."""
    found = delays(recording)
    times = [value for one in found for value in (*one.reached_s[:1], *one.reached_s[-1:])]
    if not times:
        return '<p class="none">No message was held by half of the mailboxes.</p>'
    low = math.floor(math.log10(max(_LEAST_S, min(times))) + 1e-9)
    high = max(low + 1.0, math.log10(max(times)) + 0.05)

    def x_percent(at_s: float) -> float:
        return 100 * (math.log10(max(at_s, _DECADE**low)) - low) / (high - low)

    lines = "".join(
        _curve(one, x_percent_of=x_percent, colour=index)
        for index, one in enumerate(found)
        if index == _colour(found, index)
    )
    ticks = [tick_s for tick_s in _TICKS_S if 0 <= x_percent(tick_s) <= 100 and tick_s >= _DECADE**low]
    grid = "".join(f'<i style="left:{x_percent(tick_s):.4g}%"></i>' for tick_s in ticks)
    words = "".join(f'<span style="left:{x_percent(tick_s):.4g}%">{duration(tick_s)}</span>' for tick_s in ticks)
    told = "; ".join(
        f"{_share_text(one.share)}: {_time(one.percentile(0.5))} for half of the messages" for one in found
    )
    return (
        '<div class="cdf"><div class="track"><div class="grid" aria-hidden="true">' + grid + "</div>"
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{safe(told)}">'
        f'<path class="half" d="M0 0H1000M0 50H1000M0 100H1000"/>{lines}</svg>'
        '<span class="edge top">100 %</span><span class="edge middle">50 %</span><span class="edge low">0 %</span>'
        f'</div><div class="axis" aria-hidden="true"><div class="track">{words}</div></div></div>'
    )


def _curve(one: Delays, *, x_percent_of: Callable[[float], float], colour: int) -> str:
    if not one.reached_s:
        return ""
    ranks = spread_evenly(range(len(one.reached_s)), REPORT_SERIES_POINTS_MAX // 2)
    steps = [f"{10 * x_percent_of(one.reached_s[0]):.1f} 100"]
    steps += [
        f"{10 * x_percent_of(one.reached_s[rank]):.1f} {100 - 100 * (rank + 1) / one.total:.1f}" for rank in ranks
    ]
    return f'<path class="line l{colour}" d="M{steps[0]}L{" ".join(steps[1:])}H1000"/>'


def _colour(found: Sequence[Delays], index: int) -> int:
    """Few mailboxes have equal curves, one over the other: they are one, in the colour of the last."""
    return max(other for other, one in enumerate(found) if one.reached_s == found[index].reached_s)


def _time(value: float | None) -> str:
    return "never" if value is None else duration(value)


def _table(recording: Recording) -> str:
    """Percentiles; its first column is the key to the curves."""
    head = "".join(f'<th scope="col">{safe(name)}</th>' for _, name in _PARTS)
    found = delays(recording)
    rows = "".join(_table_row(one, _colour(found, index)) for index, one in enumerate(found))
    return scrollable(
        '<table class="delays"><thead><tr><th scope="col">Held by</th>'
        f'{head}<th scope="col">Never</th></tr></thead><tbody>{rows}</tbody></table>',
        "How long messages took",
    )


def _table_row(one: Delays, colour: int) -> str:
    cells = "".join(f"<td>{safe(_time(one.percentile(part)) if one.total else '–')}</td>" for part, _ in _PARTS)
    missed = f"{one.missed:,}" + (f" <small>({percent(one.missed / one.total)})</small>" if one.missed else "")
    key = f'<i class="key l{colour}"></i>'
    return f'<tr><th scope="row">{key}{safe(_share_text(one.share))}</th>{cells}<td>{missed}</td></tr>'
