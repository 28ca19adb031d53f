"""The pictures under docs/benchmarks, drawn from the JSON document that `mailboxd bench all` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from node.bench.svg import Bar, Line, bar_chart, line_chart, si
from node.bench.yardstick import negentropy_bytes

__all__ = ["pictures"]

_MESSAGES: Final = 1_000_000
"""The size of which differences are shown, where it was measured."""

_CPU_LINES: Final = (
    ("warm", "tail", 100, 0),
    ("cold", "tail", 100, 1),
    ("cold", "random", 1000, 3),
    ("cold", "fresh", None, 2),
)


def pictures(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(file name, SVG document) for each part of `document` that is there."""
    if document.get("reconcile"):
        yield from _reconciliation(document["reconcile"])
    if document.get("http"):
        yield from _http(document["http"])
    if document.get("transfer"):
        yield "transfer.svg", _transfer(document["transfer"])


def _reconciliation(cases: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    found = {(case["messages"], case["shape"], case["changed"], case["mode"]): case for case in cases}
    sizes = sorted({case["messages"] for case in cases})
    messages = _MESSAGES if _MESSAGES in sizes else sizes[-1]
    for shape, where in (("tail", "at the ends of logs"), ("random", "anywhere in logs")):
        changes = [0, *sorted({case["changed"] for case in cases if case["shape"] == shape})]

        def case_at(mode: str, changed: int, shape: str = shape) -> Mapping[str, Any] | None:
            return found.get((messages, shape if changed else "none", changed, mode))

        lines = [
            Line(name, [_figure(case_at(mode, changed), "bytes") for changed in changes], colour)
            for mode, name, colour in (("warm", "warm: synced before", 0), ("cold", "cold: never met", 1))
        ]
        others = [negentropy_bytes(messages, shape if changed else "none", changed) for changed in changes]
        lines.append(Line("negentropy (C++)", others, None))
        yield (
            f"reconcile-{shape}.svg",
            line_chart(
                f"What finding the differences of {messages:,} messages costs",
                f"Two mailboxes in {messages // 100:,} logs; what differs lies {where}",
                x_label="messages that one side lacks",
                x_ticks=[f"{changed:,}" for changed in changes],
                y_label="bytes, both directions",
                y_text=lambda value: si(value, "B"),
                lines=lines,
            ),
        )
    yield "reconcile-cpu.svg", _reconciliation_cpu(found, sizes)


def _figure(case: Mapping[str, Any] | None, name: str) -> float | None:
    return None if case is None else float(case[name])


def _reconciliation_cpu(found: Mapping[tuple[int, str, int, str], Mapping[str, Any]], sizes: Sequence[int]) -> str:
    lines = []
    for mode, shape, changed, colour in _CPU_LINES:
        cases = [found.get((size, shape, size if changed is None else changed, mode)) for size in sizes]
        name = "fresh mailbox" if shape == "fresh" else f"{mode}, {changed:,} {shape}"
        lines.append(Line(name, [_figure(case, "cpu_ms") for case in cases], colour))
    row_ms = max(case["hash_1m_rows_ms"] for case in found.values()) / 1e6
    lines.append(Line("hashing 32 B per message", [size * row_ms for size in sizes], None))
    return line_chart(
        "CPU of finding the differences",
        "Both mailboxes together, the best of several repetitions",
        x_label="messages that each side has",
        x_ticks=[si(size) for size in sizes],
        y_label="milliseconds",
        y_text=lambda value: f"{value:g} ms",
        lines=lines,
    )


def _http(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    clients, bulk = report["clients"], report["bulk"]
    cases = {(case["kind"], case["messages_per_request"], case["clients"]): case for case in report["cases"]}
    raw = {(rate["kind"], rate["messages_per_request"]): rate["messages_per_s"] for rate in report["raw"]}
    for kind, verb in (("store", "stored durably"), ("get", "served")):
        lines = []
        for size, colour in ((1, 0), (bulk, 1)):
            rates = [cases[kind, size, count]["messages_per_s"] for count in clients]
            lines.append(Line(f"{size:,} per request", rates, colour))
            lines.append(Line(f"raw SQLite, {size:,} each", [raw[kind, size]] * len(clients), None))
        lines.append(Line("/health, no work", [cases["health", 0, count]["requests_per_s"] for count in clients], 2))
        yield (
            f"http-{kind}.svg",
            line_chart(
                f"Messages {verb} over HTTP",
                f"A mailbox on loopback, messages of {report['blob_bytes']} bytes; clients share its cores",
                x_label="clients, each with one request at a time",
                x_ticks=[str(count) for count in clients],
                y_label="messages per second (/health: requests)",
                lines=lines,
            ),
        )


def _transfer(reports: Sequence[Mapping[str, Any]]) -> str:
    report = max(reports, key=lambda one: one["messages"] / one["peers"])
    return bar_chart(
        f"A fresh mailbox takes over {report['messages']:,} messages",
        f"{report['blob_bytes']} bytes each, from one mailbox over loopback, beside what bounds it",
        unit="B/s",
        bars=[
            Bar("the transfer", 1e6 * report["megabytes_per_s"], 0),
            Bar("one libp2p stream alone", 1e6 * report["stream_megabytes_per_s"], None),
            Bar("the store alone", 1e6 * report["insert_megabytes_per_s"], None),
        ],
    )
