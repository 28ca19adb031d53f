"""The page: one HTML file with its styles, its script and its data, that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from simulations.recording import Recording
from simulations.report.compare import comparison, world_text
from simulations.report.data import page_data, shown_moments
from simulations.report.delay_chart import delays_part
from simulations.report.network import network
from simulations.report.tables import all_happenings, facts, hostile_names, invariants, mailboxes, verdict_line
from simulations.report.timeline import timeline
from simulations.report.words import replay_line, safe

__all__ = ["page", "write_report"]


_TRACE_CHARS: Final = 16


def write_report(recordings: Sequence[Recording], path: Path | str) -> None:
    """Writes one page about `recordings`, at least one; several are compared with each other (say, the simulated world
    with the real one).

    Raises:
        ValueError: there is no recording.
        OSError: the file can't be written.
    """
    Path(path).write_text(page(recordings), encoding="utf-8")


def page(recordings: Sequence[Recording]) -> str:
    """The HTML document."""
    if not recordings:
        raise ValueError("a report needs at least one recording")
    style = _resource("page.css")
    script = _resource("page.js")
    # Nothing is ever loaded, and no script runs but this one: what a name smuggled in could do nothing.
    allowed = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_digest(script)}'; base-uri 'none'"
    title = recordings[0].title or recordings[0].scenario
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{safe(title)}: {'passed' if all(one.passed for one in recordings) else 'failed'}</title>",
        f"<style>{style}</style></head><body>",
        '<a class="skip" href="#content">To the results</a>',
        _header(recordings, title),
        '<main id="content">',
        _compared(recordings),
        *(_run(recording, index, is_alone=len(recordings) == 1) for index, recording in enumerate(recordings)),
        "</main>",
        "<footer><p>Made by mailboxd. This file holds all that is shown, and its data; it loads nothing.</p></footer>",
        '<div class="tip" role="tooltip" id="tip" hidden></div>',
        f'<script type="application/json" id="data">{page_data(recordings)}</script>',
        f"<script>{script}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _resource(name: str) -> str:
    return files("simulations.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _header(recordings: Sequence[Recording], title: str) -> str:
    verdicts = "".join(_verdict(recording, is_alone=len(recordings) == 1) for recording in recordings)
    scenario = safe(recordings[0].scenario)
    return (
        f'<header><p class="eyebrow">mailboxd <span>·</span> scenario <b>{scenario}</b></p><h1>{safe(title)}</h1>'
        f'<div class="verdicts">{verdicts}</div></header>'
    )


def _verdict(recording: Recording, *, is_alone: bool) -> str:
    css, said = ("pass", "Passed") if recording.passed else ("fail", "Failed")
    if not recording.verdicts:
        css, said = "none", "Not judged"
    which = "" if is_alone else f"<small>{safe(world_text(recording))}</small>"
    return (
        f'<div class="verdict {css}"><span class="sign" aria-hidden="true"></span>'
        f"<p><strong>{said}</strong>{which}<span>{safe(verdict_line(recording))}</span></p></div>"
    )


def _compared(recordings: Sequence[Recording]) -> str:
    if len(recordings) == 1:
        return ""
    tabs = "".join(
        f'<a href="#run-{index}" data-run="{index}">{safe(world_text(recording))}</a>'
        for index, recording in enumerate(recordings)
    )
    return (
        f'<section class="card" id="compared"><h2>Beside each other</h2>{comparison(recordings)}</section>'
        f'<nav class="runs" aria-label="Recordings">{tabs}</nav>'
    )


def _run(recording: Recording, index: int, *, is_alone: bool) -> str:
    run = f"run-{index}"
    moments = shown_moments(recording)
    title = "" if is_alone else f'<h2 class="run-title">{safe(world_text(recording))}</h2>'
    checked = ("checked", "What was checked", invariants(recording))
    sections = [
        (
            "time",
            "What happened, and who held what",
            timeline(recording, moments, run) + all_happenings(recording),
        ),
        ("moments", "The network at moments that matter", network(moments, hostile_names(recording), run)),
        (
            "delays",
            "How long messages took",
            delays_part(recording),
        ),
        ("mailboxes", "Mailbox by mailbox", mailboxes(recording.totals)),
    ]
    # What broke is what the reader came for; what held can wait.
    sections.insert(len(sections) - 1 if recording.passed else 0, checked)
    cards = "".join(
        f'<section class="card {name}" id="{run}-{name}"><h2>{heading}</h2>{body}</section>'
        for name, heading, body in sections
    )
    return f'<div class="run" id="{run}" data-run="{index}">{title}{facts(recording)}{_replay(recording)}{cards}</div>'


def _replay(recording: Recording) -> str:
    line = safe(replay_line(recording))
    again = "Play it again" if recording.world == "simulated" else "Play it simulated"
    traced = ""
    if recording.trace_hash:
        short = recording.trace_hash[:_TRACE_CHARS]
        traced = f'<span class="trace">trace <code title="{safe(recording.trace_hash)}">{safe(short)}</code></span>'
    return (
        f'<div class="replay"><span>{again}</span><code class="command">{line}</code>'
        f'<button type="button" class="copy" hidden>Copy</button>{traced}'
        '<button type="button" class="download" hidden>Download the data</button></div>'
    )
