"""Several recordings of one scenario beside each other: the simulated world and the real one."""

from __future__ import annotations

from collections.abc import Sequence

from simulations.recording import Recording
from simulations.report.beside import Figure, figures_beside
from simulations.report.figures import end_s, series
from simulations.report.words import at_text, axis_ticks, safe, scrollable

__all__ = ["comparison", "world_text"]


def world_text(recording: Recording) -> str:
    """What tells one recording from the others."""
    world = {"simulated": "Simulated", "real": "Real processes"}.get(recording.world, recording.world)
    return f"{world}, seed {recording.seed}"


def comparison(recordings: Sequence[Recording]) -> str:
    """The HTML: curves over each other, and the figures that matter in a column for each recording."""
    head = "".join(
        f'<th scope="col"><i class="key l{index % 4}"></i>{safe(world_text(recording))}</th>'
        for index, recording in enumerate(recordings)
    )
    ratio = '<th scope="col">Ratio</th>' if len(recordings) == 2 else ""
    rows = "".join(_row(figure, is_pair=len(recordings) == 2) for figure in figures_beside(recordings))
    verdicts = "".join(
        f"<td class='{'pass' if recording.passed else 'fail'}'>{'Passed' if recording.passed else 'Failed'}</td>"
        for recording in recordings
    )
    verdicts += "<td></td>" if ratio else ""
    return _curves(recordings) + scrollable(
        f'<table class="comparison"><thead><tr><td></td>{head}{ratio}</tr></thead>'
        f'<tbody><tr><th scope="row">Verdict</th>{verdicts}</tr>{rows}</tbody></table>',
        "The recordings beside each other",
    )


def _row(figure: Figure, *, is_pair: bool) -> str:
    most = max((value for value in figure.values if value is not None), default=0.0) or 1.0
    cells = "".join(
        "<td>–</td>"
        if value is None
        else f'<td class="bar" style="--part:{100 * value / most:.0f}%">{safe(figure.text(value))}</td>'
        for value in figure.values
    )
    if is_pair:
        cells += "<td>–</td>" if figure.ratio is None else f"<td>{figure.ratio:.3g} ×</td>"
    return f'<tr><th scope="row">{safe(figure.name)}</th>{cells}</tr>'


def _curves(recordings: Sequence[Recording]) -> str:
    """The mean share of mailboxes that hold a message, one line for each recording."""
    length_s = max(map(end_s, recordings))
    lines = ""
    for index, recording in enumerate(recordings):
        mean = series(recording.sampled_s, recording.held_share, min)
        places = " ".join(f"{1000 * min(1.0, at_s / length_s):.1f} {100 - 100 * share:.1f}" for at_s, share in mean)
        lines += f'<path class="line l{index % 4}" d="M{places}"/>' if places else ""
    ticks = axis_ticks(length_s, 9)
    grid = "".join(f'<i style="left:{100 * tick_s / length_s:.4g}%"></i>' for tick_s in ticks)
    words = "".join(f'<span style="left:{100 * tick_s / length_s:.4g}%">{at_text(tick_s)}</span>' for tick_s in ticks)
    return (
        '<h3>Share of mailboxes that hold a message</h3><div class="cdf"><div class="track"><div class="grid" '
        f'aria-hidden="true">{grid}</div><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        'aria-label="Share of mailboxes that hold a message over time, one line for each recording">'
        f'<path class="half" d="M0 0H1000M0 50H1000M0 100H1000"/>{lines}</svg>'
        '<span class="edge top">100 %</span><span class="edge middle">50 %</span><span class="edge low">0 %</span>'
        f'</div><div class="axis" aria-hidden="true"><div class="track">{words}</div></div></div>'
    )
