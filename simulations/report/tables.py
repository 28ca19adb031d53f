"""What is told in rows: facts at a glance, invariants, mailboxes, and all that happened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from protocols.limits.simulation import REPORT_HAPPENINGS_MAX, REPORT_MAILBOXES_MAX, REPORT_ROWS_UNFOLDED
from simulations.recording import MailboxTotals, Recording, Verdict
from simulations.report.figures import delays, family, in_step_again_s, spans
from simulations.report.words import (
    byte_text,
    count_of,
    duration,
    happening_text,
    kind_text,
    replay_line,
    safe,
    scrollable,
)

__all__ = ["all_happenings", "facts", "hostile_names", "invariants", "mailboxes", "verdict_line"]

_COLUMNS: Final = (
    ("sessions", "Sessions"),
    ("round_trips", "Round trips"),
    ("bytes_in", "Received"),
    ("bytes_out", "Sent"),
    ("messages", "Messages held"),
    ("crashes", "Crashes"),
)
_BYTES: Final = ("bytes_in", "bytes_out")
_NO_FAULTS: Final = ("heal", "start", "violation")


def hostile_names(recording: Recording) -> Collection[str]:
    """Of mailboxes that do not do what they should."""
    return {one.name for one in recording.totals if one.behaviour != "honest"}


# --- at a glance ------------------------------------------------------------------------------------------------------


def verdict_line(recording: Recording) -> str:
    """One sentence: what held and what broke."""
    broken = [verdict for verdict in recording.verdicts if not verdict.holds]
    checks = sum(verdict.checks for verdict in recording.verdicts)
    if broken:
        return f"{len(broken):,} of {count_of(len(recording.verdicts), 'invariant')} broke."
    if not recording.verdicts:
        return "No invariant was checked."
    return f"All {count_of(len(recording.verdicts), 'invariant')} held in {count_of(checks, 'check')}."


def facts(recording: Recording) -> str:
    """The figures that matter most, as a list of tiles."""
    tiles = "".join(
        f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd><dd class='note'>{safe(note)}</dd></div>"
        for name, value, note in _facts(recording)
    )
    return f'<dl class="facts">{tiles}</dl>'


def _facts(recording: Recording) -> Iterator[tuple[str, str, str]]:
    hostile = len(hostile_names(recording))
    mailboxes = len(recording.totals) or max(recording.up, default=0)
    yield "Mailboxes", f"{mailboxes:,}", f"{hostile:,} of them hostile" if hostile else "none of them hostile"
    written = len(recording.spreads)
    lost = sum(1 for one in recording.spreads if one.acknowledged_s is None)
    kept = f"{lost:,} never acknowledged" if lost else "all acknowledged"
    yield "Messages", f"{written:,}", kept if written else "none was written"
    found = delays(recording)
    for one, name in ((found[0], "Half hold it in"), (found[-1], "All hold it in")):
        middle, most = one.percentile(0.5), one.percentile(0.99)
        note = "99\u202f% of them: " + ("never" if most is None else duration(most)) if one.total else ""
        yield name, "–" if middle is None else duration(middle), note
    again_s = in_step_again_s(recording)
    yield "In step again", "–" if again_s is None else f"≤\u202f{duration(again_s)}", "after the last fault"
    sent = sum(recording.traffic_bytes) or sum(one.bytes_out for one in recording.totals)
    yield "Traffic", byte_text(sent), f"{byte_text(sent / written)} per message" if written else "between mailboxes"
    faults = [span for span in spans(recording) if span.kind not in _NO_FAULTS]
    yield "Faults", f"{len(faults):,}", count_of(len({span.kind for span in faults}), "kind")
    played = "played" if recording.world == "real" else "simulated"
    pace = recording.simulated_s / recording.wall_s if recording.wall_s > 0 else 0.0
    took = f"in {duration(recording.wall_s)}" + (f", {pace:,.0f}\u202f× as fast" if pace >= 2 else "")
    yield f"Time {played}", duration(recording.simulated_s), took if recording.wall_s > 0 else ""


# --- invariants -------------------------------------------------------------------------------------------------------


def invariants(recording: Recording) -> str:
    """All of them, the broken ones first, with what broke them and how to see it again."""
    if not recording.verdicts:
        return '<p class="none">No invariant was checked.</p>'
    ordered = sorted(recording.verdicts, key=lambda verdict: verdict.holds)
    again = "See it again" if recording.world == "simulated" else "Look for it in the simulated world"
    replay = f'<p class="again">{again}: <code>{safe(replay_line(recording))}</code></p>'
    rows = "".join(_invariant(verdict, replay) for verdict in ordered)
    return f'<ul class="invariants">{rows}</ul>'


def _invariant(verdict: Verdict, replay: str) -> str:
    css, said = ("held", "held") if verdict.holds else ("broken", "broken")
    text = (
        f'<li class="{css}"><span class="sign" role="img" aria-label="{said}"></span>'
        f"<div><h3>{safe(verdict.title)}</h3>"
        f'<p class="note"><code>{safe(verdict.name)}</code> · {count_of(verdict.checks, "check")}</p>'
    )
    if verdict.counterexample is not None:
        text += f'<p class="counterexample">{safe(verdict.counterexample)}</p>{replay}'
    return f"{text}</div></li>"


# --- mailboxes --------------------------------------------------------------------------------------------------------


def mailboxes(totals: Sequence[MailboxTotals]) -> str:
    """What each did; sorted by any column, all but the first rows folded away."""
    if not totals:
        return '<p class="none">No mailbox took part.</p>'
    most = {key: max(getattr(one, key) for one in totals) or 1 for key in _BYTES}
    head = '<th scope="col" data-sort="text">Mailbox</th>' + "".join(
        f'<th scope="col" data-sort="number">{name}</th>' for _, name in _COLUMNS
    )
    shown = totals
    if len(totals) > REPORT_MAILBOXES_MAX:
        shown = sorted(totals, key=lambda one: -one.bytes_out)[:REPORT_MAILBOXES_MAX]
    rows = "".join(_mailbox(one, most, index) for index, one in enumerate(shown))
    sums = "".join(
        f"<td>{_amount(key, sum(getattr(one, key) for one in totals))}</td>" if key != "messages" else "<td></td>"
        for key, _ in _COLUMNS
    )
    more = f'<button type="button" class="unfold" hidden>Show all {len(shown):,}</button>'
    if len(shown) <= REPORT_ROWS_UNFOLDED:
        more = ""
    elif len(shown) < len(totals):
        more += f'<p class="none">The {len(shown):,} of {len(totals):,} that sent most.</p>'
    return (
        scrollable(
            f'<table class="mailboxes"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
            f'<tfoot><tr><th scope="row">Together</th>{sums}</tr></tfoot></table>',
            "What each mailbox did",
        )
        + more
    )


def _mailbox(one: MailboxTotals, most: dict[str, int], index: int) -> str:
    css = ["hostile"] if one.behaviour != "honest" else []
    css += ["rest"] if index >= REPORT_ROWS_UNFOLDED else []
    mark = f' <em class="badge">{safe(kind_text(one.behaviour).lower())}</em>' if one.behaviour != "honest" else ""
    cells = ""
    for key, _ in _COLUMNS:
        value = getattr(one, key)
        bar = f' class="bar" style="--part:{100 * value / most[key]:.0f}%"' if key in _BYTES else ""
        cells += f'<td data-value="{value}"{bar}>{_amount(key, value)}</td>'
    return f'<tr class="{" ".join(css)}"><th scope="row"><bdi>{safe(one.name)}</bdi>{mark}</th>{cells}</tr>'


def _amount(key: str, value: int) -> str:
    return byte_text(value) if key in _BYTES else f"{value:,}"


# --- all that happened ------------------------------------------------------------------------------------------------


def all_happenings(recording: Recording) -> str:
    """The list of all, folded away."""
    ordered = sorted(recording.happenings, key=lambda one: one.at_s)
    if not ordered:
        return '<p class="none">Nothing happened.</p>'
    rows = "".join(
        f'<tr><td>{duration(one.at_s)}</td><th scope="row"><i class="dot f-{family(one.kind)}"></i>'
        f"{safe(kind_text(one.kind))}</th><td>{safe(happening_text(one))}</td></tr>"
        for one in ordered[:REPORT_HAPPENINGS_MAX]
    )
    left_out = len(ordered) - REPORT_HAPPENINGS_MAX
    more = f'<p class="none">{left_out:,} later ones are left out here.</p>' if left_out > 0 else ""
    head = '<th scope="col">At</th><th scope="col">What</th><th scope="col">In words</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f'<details class="happenings"><summary>All {count_of(len(ordered), "happening")} as a list</summary>'
        f"{scrollable(table, 'All that happened')}{more}</details>"
    )
