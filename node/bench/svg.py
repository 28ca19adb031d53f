"""Charts as SVG, without a plotting library: two kinds, one look, and text that a diff can show.

The colours change with the reader's scheme, light or dark, and are told apart by colour-blind people; what belongs to a
line stands at its end, so no legend has to be matched with anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["WIDTH", "Bar", "Line", "bar_chart", "document", "label", "line_chart", "si"]

WIDTH: Final = 760
_LEFT: Final = 84
_RIGHT: Final = 208
_TOP: Final = 96
_PLOT_HEIGHT: Final = 300
_BOTTOM: Final = 56
_LABEL_GAP: Final = 16
_BARS_TOP: Final = 70
_BAR: Final = 34

# Okabe and Ito's colours, darker on a light ground and lighter on a dark one; the last is for what others did. Classes
# and no variables: viewers that aren't browsers know those. (ground, text, faint text, grid, colours of the series)
_LIGHT: Final = ("#ffffff", "#1f2328", "#59636e", "#d8dee4", ("#0066b3", "#c24e00", "#007a5a", "#8a4a9e", "#6e7781"))
_DARK: Final = ("#0d1117", "#e6edf3", "#9da7b3", "#30363d", ("#58aef5", "#ff9a57", "#3fcf9d", "#d49be6", "#9da7b3"))


def _scheme(ground: str, text: str, faint: str, grid: str, series: Sequence[str]) -> str:
    """The rules of one scheme: l0, l1, … colour lines, f0, f1, … what is filled."""
    rules = [f".ground{{fill:{ground}}} text{{fill:{text}}} .faint{{fill:{faint}}} .grid{{stroke:{grid}}}"]
    rules += [f".l{slot}{{stroke:{colour}}} .f{slot}{{fill:{colour}}}" for slot, colour in enumerate(series)]
    return " ".join(rules)


_STYLE: Final = f"""
text {{ font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }}
.title {{ font-size: 16px; font-weight: 600; }}
polyline {{ fill: none; stroke-width: 2.2; }} .dash {{ stroke-dasharray: 6 4; }}
{_scheme(*_LIGHT)}
@media (prefers-color-scheme: dark) {{ {_scheme(*_DARK)} }}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A series: y for each x of the chart, None where there is none. `colour` 0 to 3; None for a reference: dashed."""

    name: str
    values: Sequence[float | None]
    colour: int | None


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `colour` as in Line."""

    name: str
    value: float
    colour: int | None


def si(value: float, unit: str = "") -> str:
    """Three digits at most: `950`, `1.2 k`, `34 M`, with the unit behind."""
    prefix, scaled = "", value
    for prefix in ("", "k", "M", "G"):
        if abs(scaled) < 999.5 or prefix == "G":
            break
        scaled /= 1000
    digits = f"{scaled:.0f}" if abs(scaled) >= 99.5 else f"{scaled:.2g}" if abs(scaled) >= 0.0995 else f"{scaled:.1g}"
    digits = f"{float(digits):g}"
    return f"{digits} {prefix}{unit}".rstrip()


def line_chart(
    title: str,
    subtitle: str,
    *,
    x_label: str,
    x_ticks: Sequence[str],
    y_label: str,
    lines: Sequence[Line],
    y_text: Callable[[float], str] = si,
) -> str:
    """Lines over evenly spaced x, with a logarithmic y. Values must be above 0. Returns the SVG document."""
    known = [value for line in lines for value in line.values if value is not None]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)
    right, bottom = WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT

    def x_at(index: int) -> float:
        return _LEFT + 16 + (right - _LEFT - 32) * (index / max(1, len(x_ticks) - 1) if len(x_ticks) > 1 else 0.5)

    def y_at(value: float) -> float:
        return bottom - _PLOT_HEIGHT * (math.log10(value) - low) / (high - low)

    body: list[str] = []
    for power in range(low, high + 1):
        y = y_at(10.0**power)
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(label(_LEFT - 10, y + 4, y_text(10.0**power), anchor="end", css="faint"))
    for index, tick in enumerate(x_ticks):
        body.append(label(x_at(index), bottom + 22, tick, anchor="middle", css="faint"))
    body.append(label((_LEFT + right) / 2, bottom + 44, x_label, anchor="middle"))
    body.append(label(24, _TOP - 20, y_label))
    labels: list[tuple[float, str, int]] = []
    for line in lines:
        points = [(x_at(index), y_at(value)) for index, value in enumerate(line.values) if value is not None]
        if not points:
            continue
        slot = _slot(line.colour)
        dash = " dash" if line.colour is None else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        body.append(f'<polyline class="l{slot}{dash}" points="{path}"/>')
        if line.colour is not None:
            body += [f'<circle class="f{slot}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
        labels.append((points[-1][1], line.name, slot))
    body += [label(right + 10, y + 4, name, css=f"f{slot}") for y, name, slot in _apart(labels, bottom)]
    return document(title, subtitle, _TOP + _PLOT_HEIGHT + _BOTTOM, body)


def _apart(labels: Sequence[tuple[float, str, int]], bottom: float) -> Iterator[tuple[float, str, int]]:
    """The same from top to bottom, moved so far that none covers another."""
    ordered = sorted(labels)
    ys = [y for y, _, _ in ordered]
    for index in range(1, len(ys)):
        ys[index] = max(ys[index], ys[index - 1] + _LABEL_GAP)
    limit = bottom
    for index in reversed(range(len(ys))):
        ys[index] = min(ys[index], limit)
        limit = ys[index] - _LABEL_GAP
    for y, (_, name, slot) in zip(ys, ordered, strict=True):
        yield y, name, slot


def bar_chart(title: str, subtitle: str, *, unit: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars from 0, each with its name above and its value behind. Returns the SVG document."""
    longest = max(bar.value for bar in bars)
    width = WIDTH - _LEFT - 110
    body: list[str] = []
    for index, bar in enumerate(bars):
        y = _BARS_TOP + index * (_BAR + 22)
        body.append(label(24, y + 10, bar.name))
        body.append(
            f'<rect x="24" y="{y + 16}" width="{max(1.0, width * bar.value / longest):.1f}" height="{_BAR - 16}" '
            f'rx="2" class="f{_slot(bar.colour)}"/>'
        )
        body.append(label(32 + width * bar.value / longest, y + 30, si(bar.value, unit)))
    return document(title, subtitle, _BARS_TOP + len(bars) * (_BAR + 22) + 10, body)


def _slot(colour: int | None) -> int:
    return len(_LIGHT[-1]) - 1 if colour is None else colour


def label(x: float, y: float, text: str, *, anchor: str = "start", css: str = "") -> str:
    """A line of text; `css` is a class: `title`, `faint`, or `f0`, `f1`, … for the colour of a series."""
    named = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'


def document(title: str, subtitle: str, height: float, body: Sequence[str], style: str = "") -> str:
    """The whole SVG, WIDTH wide, with its title and subtitle; `style` are more rules."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    )
    lines = [
        f'{head} role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}. {escape(subtitle)}</title>',
        f"<style>{_STYLE}{style}</style>",
        '<rect class="ground" width="100%" height="100%" rx="6"/>',
        label(24, 30, title, css="title"),
        label(24, 50, subtitle, css="faint"),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
