"""How figures, tables and what strangers wrote look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from node.logs import escape_controls

__all__ = ["ago", "bytes_text", "count_text", "print_json", "shorten", "table"]


def print_json(value: object) -> None:
    """Writes a JSON document for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Columns as wide as they must be, the last one free. A head that ends in `>` is right-aligned."""
    right = [head.endswith(">") for head in heads]
    cells = [[head.removesuffix(">") for head in heads], *([escape_controls(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(parts)).rstrip())
    return "\n".join(lines)


def bytes_text(size: int) -> str:
    """`999 B`, `1.5 KiB`, `20 MiB`."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1023.5 or unit == "TiB":
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def count_text(number: int, singular: str) -> str:
    """`1 message`, `1,234 messages`."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"


def shorten(text: str, width: int) -> str:
    """At most `width` characters, with `…` where something is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def ago(date: str | None, now: datetime | None = None) -> str:
    """An RFC 3339 date as `12 s ago`; `never` for None."""
    if date is None:
        return "never"
    try:
        then = datetime.fromisoformat(date)
        seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    except (ValueError, TypeError):
        return date
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{max(seconds, 0)} s ago"
