"""Where mailboxes and LANs stand in the pictures of the network: each keeps its place through all moments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simulations.recording import Moment

__all__ = ["RING_MAX", "Disc", "Layout", "layout"]

RING_MAX: Final = 22
"""Up to so many mailboxes stand on a ring, where links between them can be seen; more fill a disc."""

_CROWDED: Final = 5.0
"""Nodes smaller than this stand closer: they are dots in a crowd."""

_GOLDEN: Final = math.pi * (3 - math.sqrt(5))
_LABEL: Final = 44
_GAP: Final = 36
_MARGIN: Final = 8
_NODE_MAX: Final = 20.0
_NODE_MIN: Final = 2.2
_SHRINK: Final = 0.93


@dataclass(frozen=True, slots=True)
class Disc:
    """One LAN: its centre and radius."""

    x: float
    y: float
    radius: float
    mailboxes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in a picture `width` wide and `height` high; `nodes` by LAN and name, `node_radius` the size of all."""

    width: float
    height: float
    node_radius: float
    discs: Mapping[str, Disc]
    nodes: Mapping[tuple[str, str], tuple[float, float]]


def layout(moments: Sequence[Moment], width: float, height_max: float) -> Layout:
    """One for all moments, as large as there is room. Whoever was ever in a LAN has a place there."""
    members: dict[str, dict[str, None]] = {}
    for moment in moments:
        for one in moment.mailboxes:
            members.setdefault(one.lan, {})[one.name] = None
    radius = _NODE_MAX
    while True:
        rows, height = _flow({lan: len(names) for lan, names in members.items()}, radius, width)
        fits = height <= height_max and all(sum(box for _, box in row) <= width - 2 * _MARGIN for row in rows)
        if fits or radius <= _NODE_MIN:
            break
        radius *= _SHRINK
    discs: dict[str, Disc] = {}
    nodes: dict[tuple[str, str], tuple[float, float]] = {}
    for lan, disc in _discs(rows, {lan: len(names) for lan, names in members.items()}, radius, width):
        discs[lan] = disc
        for name, (x, y) in zip(members[lan], _places(len(members[lan]), radius), strict=True):
            nodes[lan, name] = (disc.x + x, disc.y + y)
    return Layout(width, max(height, 2.0 * _MARGIN), radius, discs, nodes)


def _disc_radius(count: int, radius: float) -> float:
    return max((math.hypot(x, y) for x, y in _places(count, radius)), default=0.0) + 2.1 * radius + 4


def _box(count: int, radius: float, width: float) -> float:
    """The room that a LAN takes from side to side: its disc, or its name."""
    return max(2 * _disc_radius(count, radius), min(width * 0.31, 170.0)) + _GAP


def _flow(counts: Mapping[str, int], radius: float, width: float) -> tuple[list[list[tuple[str, float]]], float]:
    """LANs in rows, as (name, width of its box), and the height of all."""
    rows: list[list[tuple[str, float]]] = []
    used = width
    for lan, count in counts.items():
        box = _box(count, radius, width)
        if used + box > width - 2 * _MARGIN:
            rows.append([])
            used = 0.0
        rows[-1].append((lan, box))
        used += box
    height = sum(_row_height(row, counts, radius) for row in rows) + 2 * _MARGIN
    return rows, height


def _row_height(row: Sequence[tuple[str, float]], counts: Mapping[str, int], radius: float) -> float:
    return max(2 * _disc_radius(counts[lan], radius) for lan, _ in row) + _LABEL + _MARGIN


def _discs(
    rows: Sequence[Sequence[tuple[str, float]]], counts: Mapping[str, int], radius: float, width: float
) -> Iterator[tuple[str, Disc]]:
    top = float(_MARGIN)
    for row in rows:
        height = _row_height(row, counts, radius)
        # What is left is shared out, so that few LANs don't cling together in the middle of a wide page.
        spare = min(90.0, max(0.0, width - sum(box for _, box in row)) / (len(row) + 1))
        x = (width - sum(box for _, box in row) - spare * (len(row) - 1)) / 2
        for lan, box in row:
            yield lan, Disc(x + box / 2, top + (height - _LABEL) / 2, _disc_radius(counts[lan], radius), counts[lan])
            x += box + spare
        top += height


def _places(count: int, radius: float) -> list[tuple[float, float]]:
    """Around the middle of a disc: on a ring, or like the seeds of a sunflower."""
    if count == 1:
        return [(0.0, 0.0)]
    if count <= RING_MAX:
        ring = max(2.8 * radius, 3.9 * radius * count / (2 * math.pi))
        turns = [2 * math.pi * index / count - math.pi / 2 for index in range(count)]
        return [(ring * math.cos(turn), ring * math.sin(turn)) for turn in turns]
    far = (1.55 if radius < _CROWDED else 2.0) * radius
    return [
        (
            far * math.sqrt(index + 0.5) * math.cos(index * _GOLDEN),
            far * math.sqrt(index + 0.5) * math.sin(index * _GOLDEN),
        )
        for index in range(count)
    ]
