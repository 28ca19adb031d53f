"""What is worked out of a recording, and the picture of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from protocols.limits.simulation import REPORT_LINES_MAX, REPORT_SERIES_POINTS_MAX
from simulations.recording import Happening, MailboxTotals, MessageSpread, Recording
from simulations.report import write_picture
from simulations.report.figures import (
    delays,
    in_step_again_s,
    lanes,
    series,
    share_lines,
    spans,
    spread_evenly,
    traffic_rates,
)
from simulations.report.picture import picture
from simulations.report.words import axis_ticks, duration, percent, replay_line
from tests.simulations.recordings import HOUR_S, empty_recording, failed_recording, split_recording


def recording_of(*happenings: Happening, length_s: float = 100.0) -> Recording:
    return replace(empty_recording(), simulated_s=length_s, happenings=happenings)


def plain(text: str) -> str:
    """With ordinary spaces."""
    return text.replace("\u202f", " ").replace("\u00a0", " ")


def totals(count: int) -> list[MailboxTotals]:
    return [MailboxTotals(f"m-{index}", "honest", 0, 0, 0, 0, 0, 0) for index in range(count)]


def test_an_end_closes_the_fault_of_the_same_mailboxes() -> None:
    found = spans(
        recording_of(
            Happening(1, "pause", ["a"], ""),
            Happening(2, "pause", ["b", "c"], ""),
            Happening(3, "end-of-pause", ["c", "b"], ""),
            Happening(5, "end-of-pause", ["a"], ""),
        )
    )
    assert [(span.begin_s, span.end_s, list(span.who)) for span in found] == [(1, 5, ["a"]), (2, 3, ["b", "c"])]


def test_a_heal_ends_all_cuts_and_is_shown_itself() -> None:
    cut, clog, heal = spans(
        recording_of(
            Happening(1, "cut", ["a"], ""), Happening(2, "clog", ["b"], ""), Happening(9, "heal", [], "all well")
        )
    )
    assert (cut.end_s, clog.end_s) == (9, 9)
    assert (heal.end_s, heal.text) == (None, "all well")


def test_a_start_ends_a_crash_and_stands_alone_otherwise() -> None:
    first, crash = spans(
        recording_of(
            Happening(0, "start", ["a"], ""), Happening(4, "crash", ["a"], ""), Happening(6, "start", ["a"], "")
        )
    )
    assert (first.kind, first.end_s) == ("start", None)
    assert (crash.kind, crash.end_s, crash.is_open) == ("crash", 6, False)


def test_what_befell_a_group_ends_with_the_last_of_them() -> None:
    (pause,) = lanes(
        recording_of(
            Happening(1, "pause", ["m"], ""),
            Happening(5, "end-of-pause", ["m-1"], ""),
            Happening(6, "end-of-pause", ["m-2"], ""),
        )
    )["pause"]
    assert (pause.begin_s, pause.end_s, pause.is_open) == (1, 6, False)


def test_each_crash_of_a_mailbox_has_its_own_end() -> None:
    crashes = lanes(
        recording_of(
            *(Happening(at_s, "crash", ["m-1"], "") for at_s in (10, 30)),
            *(Happening(at_s, "start", ["m-1"], "") for at_s in (20, 40)),
            Happening(35, "crash", ["m"], ""),
        )
    )["crash"]
    assert [(span.begin_s, span.end_s) for span in crashes] == [(10, 20), (30, 100.0), (35, 40)]


def test_mailboxes_that_start_at_the_beginning_are_no_event() -> None:
    assert lanes(recording_of(Happening(0, "start", ["a"], ""))) == {}


def test_what_nothing_ends_lasts_until_the_end_of_the_run() -> None:
    (crash,) = spans(recording_of(Happening(4, "crash", ["a"], "")))
    assert (crash.end_s, crash.is_open) == (100.0, True)


def test_an_end_without_a_beginning_is_shown() -> None:
    (end,) = spans(recording_of(Happening(4, "end-of-drizzle", ["a"], "")))
    assert (end.kind, end.begin_s, end.end_s) == ("end-of-drizzle", 4, None)


def test_an_unknown_fault_with_an_end_lasts() -> None:
    (span,) = spans(recording_of(Happening(4, "drizzle", ["a"], ""), Happening(7, "end-of-drizzle", ["a"], "")))
    assert (span.begin_s, span.end_s) == (4, 7)


def test_violations_come_first() -> None:
    assert next(iter(lanes(failed_recording()))) == "violation"


def test_delays_count_what_never_arrived() -> None:
    spreads = [
        MessageSpread(10, 11, [11, 12, 13, 14]),
        MessageSpread(20, 21, [20.5, 22, 30]),
        MessageSpread(30, None, []),
    ]
    half, most, _, everyone = delays(replace(empty_recording(), totals=totals(4), spreads=spreads))
    assert (half.reached_s, half.missed) == ([2, 2], 1)
    assert (most.reached_s, most.missed) == ([4], 2)
    assert everyone.reached_s == [4]
    assert half.percentile(0.5) == 2
    assert half.percentile(0.99) is None


def test_hostile_mailboxes_are_not_waited_for() -> None:
    hostile = MailboxTotals("x", "lies", 0, 0, 0, 0, 0, 0)
    recording = replace(empty_recording(), totals=[*totals(2), hostile], spreads=[MessageSpread(0, 0, [1, 2])])
    assert delays(recording)[-1].reached_s == [2]


def test_in_step_again_is_counted_from_the_end_of_the_last_fault() -> None:
    recording = replace(
        recording_of(Happening(10, "cut", ["a", "b"], ""), Happening(40, "heal", [], "")),
        sampled_s=[0, 20, 41, 45, 50],
        groups=[1, 1, 2, 1, 1],
    )
    assert in_step_again_s(recording) == 5
    assert in_step_again_s(replace(recording, groups=[1, 1, 2, 2, 2])) is None


def test_bytes_within_a_moment_are_no_rate() -> None:
    recording = replace(empty_recording(), simulated_s=100.0, sampled_s=[1e-4, 50, 100], traffic_bytes=[100, 500, 50])
    assert traffic_rates(recording) == pytest.approx([6.0, 10.0, 1.0], rel=1e-3)


def test_series_keep_their_extremes_and_are_short() -> None:
    times = [float(index) for index in range(100_000)]
    values = [5.0 if index == 77_777 else 1.0 for index in range(100_000)]
    thinned = series(times, values, max)
    assert len(thinned) <= REPORT_SERIES_POINTS_MAX
    assert max(value for _, value in thinned) == 5.0
    assert thinned[-1][0] == 99_999


def test_an_even_sample_has_both_ends() -> None:
    assert spread_evenly(range(1000), 4) == [0, 333, 666, 999]
    assert spread_evenly(range(3), 4) == [0, 1, 2]
    assert spread_evenly(range(9), 1) == [0]


def test_the_line_of_a_message_climbs_to_all_or_stays_where_it_stuck() -> None:
    spreads = [MessageSpread(10, 11, [11, 12]), MessageSpread(20, 21, [25])]
    recording = replace(empty_recording(), simulated_s=100, totals=totals(2), spreads=spreads)
    whole, stuck = share_lines(recording)
    assert whole == [(10, 0), (11, 0), (11, 0.5), (12, 0.5), (12, 1)]
    assert stuck[-1] == (100, 0.5)


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (0.9999, "1 s"),
        (1.25, "1.2 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600 * 3.5, "3 h 30 min"),
        (86_400 * 3 + 7300, "3 d 2 h"),
        (-5, "−5 s"),
    ],
)
def test_durations_in_two_units(span_s: float, text: str) -> None:
    assert plain(duration(span_s)) == text


def test_almost_all_is_not_all() -> None:
    shares = (0.99999, 0.00001, 1.0, 0.0, 0.5)
    assert [plain(percent(share)) for share in shares] == ["99.9 %", "0.1 %", "100 %", "0 %", "50 %"]


@pytest.mark.parametrize("length_s", [0.3, 7, 90, 3600, 12 * HOUR_S, 3 * 86_400, 800 * 86_400])
def test_ticks_are_few_and_within_the_run(length_s: float) -> None:
    ticks = axis_ticks(length_s, 8)
    assert 3 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= length_s * 1.001


def test_the_line_that_replays_is_safe_in_a_shell() -> None:
    assert replay_line(replace(empty_recording(), scenario="a b; rm")) == "mailboxd simulate 'a b; rm' --seed 0"


def test_the_picture_is_a_whole_svg_that_needs_nothing(tmp_path: Path) -> None:
    write_picture(failed_recording(), tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "2 broken invariants" in text
    assert re.findall(r"(?:href|src)=|url\(|@import|<script", text) == []
    lines = [line for line in root.iter("{http://www.w3.org/2000/svg}polyline") if "one" in line.get("class", "")]
    assert len(lines) == REPORT_LINES_MAX


def test_the_picture_of_nothing_can_be_drawn() -> None:
    ElementTree.fromstring(picture(empty_recording()))


def test_names_of_files_are_only_text_in_the_picture() -> None:
    nasty = "<script>alert(1)</script>&\"'"
    recording = replace(split_recording(), title=nasty, world=nasty, happenings=[Happening(1, nasty, [nasty], nasty)])
    root = ElementTree.fromstring(picture(recording))
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert any(nasty in (element.text or "") for element in root.iter())
