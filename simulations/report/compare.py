"""Several recordings of one scenario beside each other: the simulated world and the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simulations.recording import Recording
from simulations.report.figures import correct_mailboxes, delays, end_s, in_step_again_s, series
from simulations.report.words import at_text, axis_ticks, byte_text, duration, percent, safe, scrollable

__all__ = ["comparison", "world_text"]


@dataclass(frozen=True, slots=True)
class _Figure:
    """One row: a value for each recording, None where there is none."""

    name: str
    values: Sequence[float | None]
    text: Callable[[float], str]


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
    rows = "".join(_row(figure, is_pair=len(recordings) == 2) for figure in _figures(recordings))
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


def _figures(recordings: Sequence[Recording]) -> Iterator[_Figure]:
    def each(value: Callable[[Recording], float | None]) -> list[float | None]:
        return [value(recording) for recording in recordings]

    def whole(value: float) -> str:
        return f"{value:,.0f}"

    found = [delays(recording) for recording in recordings]
    yield _Figure("In step again after the last fault", each(in_step_again_s), duration)
    for part, which in ((0.5, "Median"), (0.99, "99 %")):
        for index, whom in ((0, "half"), (-1, "all")):
            values = [one[index].percentile(part) if one[index].total else None for one in found]
            yield _Figure(f"{which} until {whom} hold a message", values, duration)
    yield _Figure("Bytes between mailboxes", each(_sent_bytes), byte_text)
    yield _Figure("Of them in sync sessions", each(lambda one: sum(total.bytes_out for total in one.totals)), byte_text)
    yield _Figure("Bytes per message", each(_bytes_each), byte_text)
    yield _Figure("Sessions", each(lambda one: sum(total.sessions for total in one.totals)), whole)
    yield _Figure("Round trips", each(lambda one: sum(total.round_trips for total in one.totals)), whole)
    yield _Figure("Messages", each(lambda one: len(one.spreads)), whole)
    yield _Figure("Mailboxes that are correct", each(correct_mailboxes), whole)
    yield _Figure("Share held at the end", each(lambda one: one.held_share[-1] if one.held_share else None), percent)
    yield _Figure("Time played", each(lambda one: one.simulated_s), duration)
    yield _Figure("Time it took", each(lambda one: one.wall_s), duration)


def _sent_bytes(recording: Recording) -> float:
    return sum(recording.traffic_bytes) or sum(one.bytes_out for one in recording.totals)


def _bytes_each(recording: Recording) -> float | None:
    return _sent_bytes(recording) / len(recording.spreads) if recording.spreads else None


def _row(figure: _Figure, *, is_pair: bool) -> str:
    most = max((value for value in figure.values if value is not None), default=0.0) or 1.0
    cells = "".join(
        "<td>–</td>"
        if value is None
        else f'<td class="bar" style="--part:{100 * value / most:.0f}%">{safe(figure.text(value))}</td>'
        for value in figure.values
    )
    if is_pair:
        before, after = figure.values
        ratio = f"{after / before:.3g} ×" if before and after is not None else "–"
        cells += f"<td>{ratio}</td>"
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
