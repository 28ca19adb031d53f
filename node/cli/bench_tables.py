"""How the figures of `mailboxd bench` look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from node.cli.output import bytes_text, count_text, table

if TYPE_CHECKING:
    from node.bench.claims import Claim
    from node.bench.http import HttpReport
    from node.bench.store import StoreReport
    from node.bench.transfer import TransferReport

__all__ = ["claims_table", "http_table", "store_table", "transfer_table"]


def claims_table(claims: Sequence[Claim]) -> str:
    """What is claimed, and whether it holds; a blank line before it."""
    rows = [
        (
            "yes" if claim.holds else "NO",
            f"{claim.measured:.4g}",
            f"{'≥' if claim.is_floor else '≤'} {claim.limit:g}",
            claim.what,
        )
        for claim in claims
    ]
    return "\n\n" + table(("HOLDS", "MEASURED>", "CLAIMED", "WHAT"), rows) if rows else ""


def store_table(report: StoreReport) -> str:
    """One line for each case."""
    rows = [
        (
            case.action,
            f"{case.messages_per_request:,}",
            f"{case.clients:,}",
            f"{case.messages_per_s:,.0f}",
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            f"{case.raw_messages_per_s:,.0f}",
            f"{case.ratio_to_raw:.2f}",
        )
        for case in report.cases
    ]
    heads = ("STORE", "PER REQUEST>", "CLIENTS>", "MESSAGES/S>", "P50 MS>", "P99 MS>", "RAW SQLITE/S>", "RATIO>")
    return (
        f"{report.messages:,} messages of {bytes_text(report.blob_bytes)}, medians of {report.rounds}; with a commit "
        f"per request {report.clients} clients would store {report.commit_per_request_per_s:,.0f} messages/s\n\n"
        + table(heads, rows)
        + claims_table(report.claims)
    )


def http_table(report: HttpReport) -> str:
    """One line for each case, those of one kind together."""
    kinds = list(dict.fromkeys((case.kind, case.messages_per_request) for case in report.cases))
    rows = [
        (
            case.kind,
            f"{case.messages_per_request:,}" if case.messages_per_request else "–",
            f"{case.clients:,}",
            f"{case.requests_per_s:,.0f}",
            f"{case.messages_per_s:,.0f}" if case.messages_per_request else "–",
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            _ratio(case.server_cpu_us, 0),
            _ratio(case.ratio_to_raw, 2),
            _ratio(case.ratio_to_health, 2),
        )
        for kind in kinds
        for case in report.cases
        if (case.kind, case.messages_per_request) == kind
    ]
    heads = (
        "HTTP", "PER REQUEST>", "CLIENTS>", "REQUESTS/S>", "MESSAGES/S>", "P50 MS>", "P99 MS>", "CPU µS/MESSAGE>",
        "÷ RAW SQLITE>", "÷ HEALTH>",
    )  # fmt: skip
    raw = [(rate.kind, f"{rate.messages_per_request:,}", f"{rate.messages_per_s:,.0f}") for rate in report.raw]
    return (
        f"messages of {bytes_text(report.blob_bytes)}, {report.seconds_per_case:g} s for each case\n\n"
        + table(heads, rows)
        + "\n\n"
        + table(("RAW SQLITE", "PER COMMIT OR QUERY>", "MESSAGES/S>"), raw)
        + claims_table(report.claims)
    )


def transfer_table(report: TransferReport) -> str:
    """What was carried, what bounds it, and what it cost each mailbox."""
    speeds = [
        ("the transfer", f"{report.messages_per_s:,.0f}", f"{report.megabytes_per_s:,.1f}"),
        ("one libp2p stream", "–", f"{report.stream_megabytes_per_s:,.1f}"),
        ("the store alone", f"{report.insert_messages_per_s:,.0f}", f"{report.insert_megabytes_per_s:,.1f}"),
    ]
    names = ["the fresh one", *(f"full one {number}" for number in range(1, report.peers + 1))]
    costs = [
        (name, _memory(cost.memory_before_bytes), _memory(cost.memory_peak_bytes), _ratio(cost.cpu_s, 1))
        for name, cost in zip(names, (report.receiver, *report.senders), strict=True)
    ]
    return (
        f"{report.messages:,} messages of {bytes_text(report.blob_bytes)} from {count_text(report.peers, 'mailbox')}: "
        f"{report.seconds:.1f} s, {bytes_text(report.sync_bytes)} in sync streams "
        f"({report.sync_bytes_per_content_byte:.3f} per byte of content)\n"
        f"The limit is {report.limit}; {report.share_of_limit:.0%} of it is reached.\n\n"
        + table(("SPEED", "MESSAGES/S>", "MB/S>"), speeds)
        + "\n\n"
        + table(("MAILBOX", "MEMORY BEFORE>", "PEAK>", "CPU S>"), costs)
        + claims_table(report.claims)
    )


def _memory(size: int | None) -> str:
    return "not available" if size is None else bytes_text(size)


def _ratio(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
