"""The page about a run: whole, self-contained, safe with any name, small whatever the run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from simulations.play import play
from simulations.recording import (
    Happening,
    MailboxSample,
    MailboxTotals,
    MessageSpread,
    Moment,
    Recording,
    Verdict,
)
from simulations.report import write_report
from simulations.report.figures import delays, lanes
from simulations.report.page import page
from simulations.scenario import Crash, Cut, Lan, Mailboxes, Pause, Phones, Scenario
from tests.browser import browser
from tests.simulations.recordings import (
    empty_recording,
    failed_recording,
    real_recording,
    split_recording,
)

MIB = 1 << 20
VOID = {"meta", "br", "hr", "img", "input", "link"}
SVG_LEAVES = {"path", "circle", "rect", "line"}
NASTY = "</script><script>alert(1)</script><b onmouseover=alert(2)>&amp;\"'`]]>--!>\x00\u202e"


class Reader(HTMLParser):
    """Holds that every element is closed in turn, and gathers what a test asks about."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES, f"<{tag}/> does not close in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if "script" in self.open else self.words).append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


RECORDINGS = {
    "split": [split_recording()],
    "failed": [failed_recording()],
    "empty": [empty_recording()],
    "both worlds": [split_recording(), real_recording()],
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_page_is_well_formed_and_loads_nothing(name: str, tmp_path: Path) -> None:
    write_report(RECORDINGS[name], tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    reader = read(text)
    assert not [tag for tag, _ in reader.tags if tag in {"link", "img", "iframe", "object", "embed", "base"}]
    assert {attrs["href"][0] for _, attrs in reader.tags if attrs.get("href")} <= {"#"}
    assert not [tag for tag, attrs in reader.tags if "src" in attrs]
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", text)


@pytest.mark.parametrize("name", RECORDINGS)
def test_ids_are_unique_and_links_lead_somewhere(name: str) -> None:
    tags = read(page(RECORDINGS[name])).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for _, attrs in tags if attrs.get("href")} <= set(ids)


def test_everything_that_happened_is_there() -> None:
    recording = split_recording()
    words = " ".join(read(page([recording])).words)
    for happening in recording.happenings:
        assert happening.text in words
    for moment in recording.moments:
        assert moment.title in words
    for one in recording.totals:
        assert one.name in words
    for verdict in recording.verdicts:
        assert verdict.title in words
    assert "mailboxd simulate two-lans --seed 7" in words


def test_a_failure_is_told_with_what_broke_and_how_to_see_it_again() -> None:
    recording = failed_recording()
    words = " ".join(read(page([recording])).words)
    assert "2 of 10 invariants broke." in words
    assert all(verdict.counterexample in words for verdict in recording.verdicts if verdict.counterexample)
    assert words.count("mailboxd simulate two-lans --seed 7") == 3


def test_the_data_is_the_whole_recording_if_it_is_small() -> None:
    recording = replace(split_recording(), spreads=[MessageSpread(1.0, None, [2.0, 3.5])])
    (data,) = data_of(page([recording]))["recordings"]
    assert data["left_out"] == []
    assert data["verdict"] == "pass"
    assert data["spreads"] == [{"written_s": 1.0, "acknowledged_s": None, "held_s": [2.0, 3.5]}]
    assert len(data["happenings"]) == len(recording.happenings)
    assert len(data["sampled_s"]) == len(recording.sampled_s)
    assert [one["name"] for one in data["totals"]] == [one.name for one in recording.totals]


def nasty_recording() -> Recording:
    return Recording(
        scenario=NASTY,
        title=NASTY,
        seed=1,
        world=NASTY,
        simulated_s=10.0,
        wall_s=1.0,
        trace_hash=NASTY,
        happenings=[Happening(1.0, kind, [NASTY], NASTY) for kind in (NASTY, "cut", "violation")] * 40,
        sampled_s=[1.0, 2.0],
        held_share=[0.5, float("nan")],
        groups=[1, 2],
        up=[1, 1],
        messages=[1, 1],
        traffic_bytes=[0, 9],
        moments=[
            Moment(1.0, NASTY, [MailboxSample(NASTY, NASTY, True, 1, 1)], [(NASTY, "nobody")]),
            Moment(float("inf"), NASTY, [], []),
        ],
        totals=[MailboxTotals(NASTY, NASTY, 1, 1, 1, 1, 1, 1)],
        verdicts=[Verdict(NASTY, NASTY, 1, NASTY)],
    )


@pytest.mark.parametrize("recordings", [[nasty_recording()], [nasty_recording(), nasty_recording()]])
def test_names_are_only_text(recordings: list[Recording]) -> None:
    text = page(recordings)
    reader = read(text)
    assert sum(tag == "script" for tag, _ in reader.tags) == 2
    assert not [attrs for _, attrs in reader.tags if any(name.startswith("on") for name in attrs)]
    assert "\x00" not in text
    assert "\u202e" not in text
    assert data_of(text)["recordings"][0]["scenario"] == NASTY


def large_recording(mailboxes: int = 1000, spreads: int = 100_000) -> Recording:
    """A thousand mailboxes, and messages that each of them came to hold; they share what they can."""
    names = [f"mailbox-{index}" for index in range(mailboxes)]
    held = [[float(written + step) for step in range(mailboxes)] for written in range(100)]
    samples = [MailboxSample(name, f"lan-{index % 9}", True, 10, index % 11) for index, name in enumerate(names)]
    links = [(name, names[(index * 7 + step) % mailboxes]) for index, name in enumerate(names) for step in range(8)]
    return replace(
        empty_recording(),
        simulated_s=7200.0,
        happenings=[
            Happening(index / 3, "crash", [names[index % mailboxes]], "It crashes.") for index in range(20_000)
        ],
        sampled_s=[float(index) for index in range(7200)],
        held_share=[1.0] * 7200,
        groups=[1 + index % 5 for index in range(7200)],
        up=[mailboxes] * 7200,
        messages=list(range(7200)),
        traffic_bytes=[1000] * 7200,
        moments=[Moment(index * 60.0, f"Minute {index}", samples, links) for index in range(60)],
        spreads=[MessageSpread(float(index % 100), 0.0, held[index % 100]) for index in range(spreads)],
        totals=[MailboxTotals(name, "honest", 1, 2, 300, 400, 5, 0) for name in names],
    )


def test_a_large_run_makes_a_page_of_a_few_megabytes() -> None:
    text = page([large_recording()])
    assert len(text) < 5 * MIB
    (data,) = data_of(text)["recordings"]
    assert len(data["left_out"]) == 5
    assert sum(data["traffic_bytes"]) == 7200 * 1000
    read(text)


def test_two_worlds_are_compared() -> None:
    simulated = split_recording()
    real = replace(simulated, world="real", traffic_bytes=[2 * size for size in simulated.traffic_bytes])
    words = read(page([simulated, real])).words
    assert "Simulated, seed 7" in words
    assert "Real processes, seed 7" in words
    between = words.index("Bytes between mailboxes")
    assert words[between + 3] == "2 ×"
    assert words[words.index("Sessions") + 3] == "1 ×"


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_report([], tmp_path / "out.html")


def test_a_played_run_is_shown(tmp_path: Path) -> None:
    scenario = Scenario(
        name="brief",
        title="Three mailboxes, one cut off",
        duration_s=240,
        calm_from_s=150,
        settle_s=60,
        lans=[Lan("home")],
        mailboxes=[Mailboxes("box", "home", 3)],
        phones=[Phones("ada", "home", 2, messages_per_hour=120, writes_until_s=150)],
        faults=[Cut(40, ["box-1"], ["box-2", "box-3"], for_s=60), Crash(70, ["box-3"]), Pause(60, ["box"], for_s=20)],
    )
    recording = play(scenario, 3)
    write_report([recording], tmp_path / "out.html")
    words = " ".join(read((tmp_path / "out.html").read_text()).words)
    assert "Three mailboxes, one cut off" in words
    assert "Before the cut" in words
    assert [(span.end_s, span.is_open) for span in lanes(recording)["cut"]] == [(100.0, False)]
    assert [(span.end_s, span.is_open) for span in lanes(recording)["crash"]] == [(75.0, False)]
    assert [(span.end_s, span.is_open) for span in lanes(recording)["pause"]] == [(80.0, False)]
    assert delays(recording)[-1].reached_s


def test_in_a_browser_everything_works_without_an_error(tmp_path: Path) -> None:
    places = {name: tmp_path / f"{name}.html" for name in RECORDINGS} | {"nasty": tmp_path / "nasty.html"}
    for name, recordings in RECORDINGS.items():
        write_report(recordings, places[name])
    write_report([nasty_recording()], places["nasty"])
    with browser() as tab:
        for path in places.values():
            for width in (360, 1400):
                tab.open(path, width=width)
                assert tab.run("document.documentElement.className") == "js"
                assert tab.run("document.documentElement.scrollWidth") == width  # nothing sticks out
        tab.open(places["split"])

        # Stepping through moments.
        current = "document.querySelector('.moment.current h3').textContent"
        assert "Everybody is here" in tab.run(current)
        tab.run("document.querySelector('.next').click()")
        assert "Just after the cut" in tab.run(current)
        tab.run("document.querySelectorAll('.pin')[4].click()")
        assert "The end" in tab.run(current)
        tab.run("document.querySelectorAll('.step')[4].focus()")
        tab.press("ArrowLeft")
        assert "Five seconds after the heal" in tab.run(current)

        # Reading the charts with keys.
        tab.run("document.querySelector('.cursor').focus()")
        tab.press("Home")
        assert tab.run("document.querySelector('.cursor').getAttribute('aria-valuetext')").startswith(
            "0\u202fs: Share of"
        )
        tab.press("ArrowRight")
        assert tab.run("document.querySelector('.cursor output').textContent") == "1\u202fmin"

        # The words about a fault, and the way from one to the next.
        tab.run("document.querySelectorAll('.lane .mark')[0].focus()")
        assert "cut" in tab.run("document.getElementById('tip').textContent")
        tab.press("Escape")
        assert tab.run("document.getElementById('tip').hidden")
        assert tab.run("document.querySelectorAll('.mark[tabindex=\"0\"]').length") == 1

        # Sorting.
        tab.run("document.querySelectorAll('.mailboxes thead button')[4].click()")
        sent = tab.run("[...document.querySelectorAll('.mailboxes tbody tr')].map(r => +r.cells[4].dataset.value)")
        assert sent == sorted(sent, reverse=True)
        assert tab.run("document.querySelectorAll('.mailboxes th')[4].getAttribute('aria-sort')") == "descending"

        # Changing the recording.
        tab.open(places["both worlds"])
        tab.run("document.querySelectorAll('.runs a')[1].click()")
        assert tab.run("[...document.querySelectorAll('.run')].map(run => run.hidden)") == [True, False]

        assert tab.errors == []
        assert [url for url in tab.requests if not url.startswith(("file:", "about:"))] == []
