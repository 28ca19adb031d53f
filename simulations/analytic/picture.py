"""The model as pictures: what makes a growing LAN loud, and what a growing city asks of whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from node.bench.svg import Line, line_chart, si
from simulations.analytic.model import Row, analyse
from simulations.analytic.plan import Plan

__all__ = ["pictures"]

_LAN_SIZES: Final = (2, 5, 10, 25, 50, 100, 200, 400, 1_000)
_CITY_SIZES: Final = (50, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)

FEW_TOPICS: Final = 0.01
"""The share of other LANs' messages that a LAN keeps in the picture's dashed line."""

_CAUSES: Final[Sequence[tuple[str, int | None, Callable[[Row], float]]]] = (
    ("multicast (mDNS)", 1, lambda row: row.mdns_bytes_per_s),
    ("idle connections", 0, lambda row: row.connection_bytes_per_s),
    ("hints", 3, lambda row: row.hint_bytes_per_s),
    ("sessions", 2, lambda row: row.session_bytes_per_s + row.comparison_bytes_per_s),
    ("messages themselves", None, lambda row: row.content_bytes_per_s),
)


def pictures(plan: Plan) -> Iterator[tuple[str, str]]:
    """(file name, SVG document). The sizes are the pictures' own, all else is the plan's."""
    lans = [analyse(replace(plan, mailboxes=size, lan_mailboxes=size))[0] for size in _LAN_SIZES]
    yield (
        "one-lan.svg",
        line_chart(
            "What one mailbox sends and hears in a growing LAN",
            f"{plan.messages_per_day:g} messages a day of {plan.message_bytes} B from the phones of each",
            x_label="mailboxes in the LAN",
            x_ticks=[f"{size:,}" for size in _LAN_SIZES],
            y_label="bytes a second, both directions",
            y_text=lambda value: si(value, "B"),
            lines=[Line(name, [figure(row) for row in lans], colour) for name, colour, figure in _CAUSES],
        ),
    )
    rows = [{row.kind: row for row in analyse(replace(plan, mailboxes=size))} for size in _CITY_SIZES]
    few = [{row.kind: row for row in analyse(replace(plan, mailboxes=size, share=FEW_TOPICS))} for size in _CITY_SIZES]
    lines = [
        Line("internet mailbox", [_core(row, "internet") for row in rows], 1),
        Line("gateway", [_core(row, "gateway") for row in rows], 3),
        Line("in a LAN", [_core(row, "in a LAN") for row in rows], 0),
        Line(f"gateway, {FEW_TOPICS:.0%} of topics", [_core(row, "gateway") for row in few], None),
    ]
    yield (
        "city.svg",
        line_chart(
            "What a growing city asks of whom",
            f"LANs of {plan.lan_mailboxes}, joined by internet mailboxes with {plan.branch} LANs each",
            x_label="mailboxes in the city",
            x_ticks=[si(size) for size in _CITY_SIZES],
            y_label="of one core of a laptop",
            y_text=lambda value: f"{value:.1%}" if value < 0.01 else f"{value:.0%}",
            lines=lines,
        ),
    )


def _core(rows: dict[str, Row], kind: str) -> float:
    """Of the busiest of a kind."""
    return max(row.core_share for name, row in rows.items() if name.startswith(kind))
