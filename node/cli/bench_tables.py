"""How the figures of `mailboxd bench` look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from node.bench.required import bytes_claims, reconcile_claims
from node.cli.output import bytes_text, count_text, table

if TYPE_CHECKING:
    from node.bench.claims import Claim
    from node.bench.http import HttpReport
    from node.bench.reconcile import ReconcileCase
    from node.bench.store import StoreReport
    from node.bench.transfer import TransferReport

__all__ = ["claims_table", "http_table", "reconcile_case_table", "reconcile_table", "store_table", "transfer_table"]


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


def reconcile_table(cases: Sequence[ReconcileCase]) -> str:
    """One line for each case, and what is required."""
    required = {id(case): claim for case, claim in bytes_claims(cases)}
    rows = []
    for case in cases:
        claim = required.get(id(case))
        rows.append(
            (
                f"{case.messages:,}",
                case.shape,
                f"{case.changed:,}",
                case.mode,
                _count(case.bound_bytes or None),
                f"{case.bytes:,}",
                _count(case.negentropy_bytes),
                _ratio(case.ratio_bytes, 4),
                "" if claim is None else f"≤ {claim.limit:g}",
                "" if claim is None else "yes" if claim.holds else "NO",
                str(case.round_trips),
                _count(case.negentropy_round_trips),
                f"{case.cpu_ms:.2f}",
                f"{case.cpu_ms_initiator:.2f}",
                f"{case.cpu_ms_responder:.2f}",
                f"{case.cpu_ms_median:.2f}",
            )
        )
    heads = (
        "MESSAGES>", "DIFFER", "BY>", "MODE", "LEAST>", "BYTES>", "NEGENTROPY>", "RATIO>", "REQUIRED>", "HOLDS",
        "TRIPS>", "NEGENTROPY>", "CPU MS>", "ASKS>", "ANSWERS>", "MEDIAN>",
    )  # fmt: skip
    sizes = {case.messages: case for case in cases}
    indexes = [
        (f"{messages:,}", f"{case.logs:,}", f"{case.index_bytes_per_message:.2f}", f"{case.build_ms:,.0f}")
        for messages, case in sizes.items()
    ]
    hashing_ms = min(case.hash_1m_rows_ms for case in cases)
    return (
        "What finding the differences of two mailboxes costs, both ways and both sides.\n"
        f"In the same run, hashing 1,000,000 × 32 bytes takes {hashing_ms:.1f} ms of CPU.\n\n"
        + table(heads, rows)
        + "\n\n"
        + table(("MESSAGES>", "LOGS>", "INDEX BYTES/MESSAGE>", "MADE IN MS>"), indexes)
        + claims_table(reconcile_claims(cases))
    )


def reconcile_case_table(case: ReconcileCase) -> str:
    """The same of one case, and what it consists of."""
    rows = [
        (kind, f"{requests.count:,}", f"{requests.question_bytes:,}", f"{requests.reply_bytes:,}")
        for kind, requests in case.requests.items()
    ]
    lines = [
        f"{count_text(case.changed_logs, 'log')} of {case.logs:,} differ. Exactly the differences were found, in "
        f"{case.repetitions} repetitions.",
        f"With the hellos ({case.handshake_bytes} bytes) a session takes {case.session_bytes:,} bytes until then. "
        f"The longest frame has {case.frame_bytes_max:,}.",
    ]
    if case.names_round_trips:
        lines.append(
            f"The names of the logs are not in the upper figures: {case.names_bytes:,} bytes in "
            f"{count_text(case.names_round_trips, 'round trip')}, {case.names_cpu_ms:.1f} ms."
        )
    if case.bound_bytes:
        lines.append(f"To say which places differ takes {case.bound_bytes:,} bytes at the least.")
    return (
        reconcile_table([case])
        + "\n\n"
        + table(("QUESTION", "COUNT>", "BYTES>", "OF ANSWERS>"), rows)
        + "\n\n"
        + "\n".join(lines)
    )


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
        f"The limit is {report.limit}; {report.share_of_limit:.0%} of it is reached{_spread(report)}.\n\n"
        + table(("SPEED", "MESSAGES/S>", "MB/S>"), speeds)
        + "\n\n"
        + table(("MAILBOX", "MEMORY BEFORE>", "PEAK>", "CPU S>"), costs)
        + f"\n\n{_processors(report)}"
        + _rounds_table(report)
        + claims_table(report.claims)
    )


def _spread(report: TransferReport) -> str:
    if len(report.rounds) == 1:
        return ""
    lowest, highest = report.share_of_limit_lowest, report.share_of_limit_highest
    return f" in the middle of {len(report.rounds)} rounds ({lowest:.0%} to {highest:.0%})"


def _rounds_table(report: TransferReport) -> str:
    """How much the rounds differ; a blank line before it."""
    rows = [
        (
            str(number),
            f"{one.messages_per_s:,.0f}",
            f"{one.insert_before_messages_per_s:,.0f}",
            f"{one.insert_after_messages_per_s:,.0f}",
            f"{one.share_of_limit:.2f}",
            _ratio(one.cpu_us_per_message, 1),
        )
        for number, one in enumerate(report.rounds, 1)
    ]
    heads = ("ROUND>", "MESSAGES/S>", "ALONE BEFORE>", "ALONE AFTER>", "SHARE>", "CPU µS>")
    return "\n\n" + table(heads, rows) if len(rows) > 1 else ""


def _processors(report: TransferReport) -> str:
    """What the processors allow."""
    alone = f"the store alone {report.insert_cpu_us_per_message:.1f} µs"
    if report.cpu_us_per_message is None or report.share_possible is None:
        return f"CPU for a message: {alone}."
    allowed = f"{report.share_possible:.0%} of the limit" if report.share_possible < 1 else "more than the limit"
    return (
        f"CPU for a message: all mailboxes together {report.cpu_us_per_message:.1f} µs, {alone}. "
        f"{count_text(report.cores, 'core')} without other programs on them would allow {allowed}.\n"
        f"The store alone answers {report.commit_messages_per_s:,.0f} messages a second, and then copies its log."
    )


def _memory(size: int | None) -> str:
    return "not available" if size is None else bytes_text(size)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _ratio(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
