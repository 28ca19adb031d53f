"""The recording as JSON inside the page: whole if it is small, else thinned, with a word about what was left out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from protocols.limits.simulation import (
    REPORT_DATA_HELD_MAX,
    REPORT_DATA_LINKS_MAX,
    REPORT_DATA_SAMPLES_MAX,
    REPORT_HAPPENINGS_MAX,
    REPORT_MOMENT_MAILBOXES_MAX,
    REPORT_MOMENTS_MAX,
)
from simulations.recording import Moment, Recording
from simulations.report.figures import spread_evenly

__all__ = ["page_data", "shown_moments"]


def shown_moments(recording: Recording) -> Sequence[Moment]:
    """All, or an even sample of them if the pictures would be too many or too large."""
    largest = max((len(moment.mailboxes) for moment in recording.moments), default=0) or 1
    most = max(1, min(REPORT_MOMENTS_MAX, REPORT_MOMENT_MAILBOXES_MAX // largest))
    ordered = sorted(recording.moments, key=lambda moment: moment.at_s)
    return spread_evenly(ordered, most)


def page_data(recordings: Sequence[Recording]) -> str:
    """A JSON object with `recordings`: what `Recording.as_json` says, and `left_out`, a list of sentences. It can stand
    inside a script element."""
    text = json.dumps(
        {"recordings": [_plain(_thinned(recording)) for recording in recordings]},
        separators=(",", ":"),
        allow_nan=False,
    )
    # What could end the element or begin a comment in it.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _thinned(recording: Recording) -> dict[str, Any]:
    left_out: list[str] = []
    thin = _with_fewer_moments(_with_fewer_samples(_with_fewer_spreads(recording, left_out), left_out), left_out)
    if len(thin.happenings) > REPORT_HAPPENINGS_MAX:
        left_out.append(f"All but the first {REPORT_HAPPENINGS_MAX} of {len(thin.happenings)} happenings.")
        thin = replace(thin, happenings=thin.happenings[:REPORT_HAPPENINGS_MAX])
    return thin.as_json() | {"left_out": left_out}


def _with_fewer_spreads(recording: Recording, left_out: list[str]) -> Recording:
    spreads = recording.spreads
    held = sum(len(one.held_s) for one in spreads)
    if held <= REPORT_DATA_HELD_MAX:
        return recording
    kept = spread_evenly(spreads, max(1, len(spreads) * REPORT_DATA_HELD_MAX // held))
    left_out.append(f"All but an even sample of {len(kept)} of {len(spreads)} messages' spreads.")
    return replace(recording, spreads=kept)


def _with_fewer_samples(recording: Recording, left_out: list[str]) -> Recording:
    every = math.ceil(len(recording.sampled_s) / REPORT_DATA_SAMPLES_MAX)
    if every <= 1:
        return recording
    left_out.append(f"All but every sample number {every} of {len(recording.sampled_s)}; traffic is their sum.")
    last = slice(every - 1, None, every)
    traffic = recording.traffic_bytes
    return replace(
        recording,
        sampled_s=recording.sampled_s[last],
        held_share=recording.held_share[last],
        groups=recording.groups[last],
        up=recording.up[last],
        messages=recording.messages[last],
        traffic_bytes=[sum(traffic[first : first + every]) for first in range(0, len(traffic) - every + 1, every)],
    )


def _with_fewer_moments(recording: Recording, left_out: list[str]) -> Recording:
    moments = shown_moments(recording)
    if len(moments) < len(recording.moments):
        left_out.append(f"All but {len(moments)} of {len(recording.moments)} moments.")
    links = sum(len(moment.connected) for moment in moments)
    if links > REPORT_DATA_LINKS_MAX:
        left_out.append(f"Who was connected with whom at these moments: {links} pairs.")
        moments = [replace(moment, connected=()) for moment in moments]
    return replace(recording, moments=moments)


def _plain(value: Any) -> Any:
    """Microseconds are enough, and JSON knows neither infinity nor what is no number."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value
