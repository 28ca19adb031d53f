"""The model on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from node.bench.svg import si
from node.cli.output import table
from simulations.analytic.bounds import Strain
from simulations.analytic.model import Row
from simulations.analytic.plan import Plan
from simulations.terminal import time_text

__all__ = ["explain"]

_HEADS: Final = (
    "mailboxes>",
    "kind",
    "of them>",
    "neighbours>",
    "sessions/h>",
    "hints/h>",
    "traffic/s>",
    "of it content>",
    "disk>",
    "memory>",
    "core>",
    "all hold after>",
    "found without hint>",
)


def explain(plan: Plan, rows: Sequence[Row]) -> str:
    """A table of all rows, and below it what they strain. `plan` says what all of them have in common."""
    head = (
        f"{plan.lan_mailboxes} mailboxes in a LAN; {plan.branch} LANs or internet mailboxes below an internet mailbox; "
        f"{plan.messages_per_day:g} messages a day\nof {si(plan.message_bytes, 'B')} from the phones of each mailbox; "
        f"of other LANs' messages, {plan.share:.0%} are of topics that a LAN keeps"
    )
    parts = [head, table(_HEADS, [_cells(row) for row in rows]), *_strains(rows)]
    return "\n\n".join(parts)


def _cells(row: Row) -> list[str]:
    return [
        f"{row.mailboxes:,}",
        row.kind,
        f"{row.count:,}",
        f"{row.neighbours:,.0f}",
        si(row.comparisons_per_hour + row.sessions_per_hour),
        si(row.hints_per_hour),
        si(row.bytes_per_s, "B"),
        f"{row.content_bytes_per_s / row.bytes_per_s:.0%}",
        si(row.storage_bytes, "B"),
        si(row.memory_bytes, "B"),
        f"{row.core_share:.1%}",
        time_text(row.all_hold_s),
        time_text(row.found_s),
    ]


def _strains(rows: Sequence[Row]) -> Iterator[str]:
    """Each bound once, where it is strained first and where it breaks."""
    found: dict[str, list[tuple[Row, Strain]]] = {}
    for row in rows:
        for strain in row.strains:
            found.setdefault(strain.what, []).append((row, strain))
    for what, where in found.items():
        row, strain = next((one for one in where if one[1].is_broken), where[0])
        verb = "too small" if strain.is_broken else "nearly used up"
        yield (
            f"{what}: {verb} with {row.mailboxes:,} mailboxes ({row.kind}: {strain.used:.1f} times what there is)\n"
            f"  {strain.then}\n  {strain.remedy}"
        )
