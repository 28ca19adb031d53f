"""Scenario files: what is written is read back, and what is wrong is told with file, line and remedy."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.files import parse, read, to_toml
from simulations.scenario import (
    PRESETS,
    Behaviour,
    Churn,
    ClockChange,
    Clog,
    Crash,
    Cut,
    DiskFull,
    Fault,
    Heal,
    Lan,
    Link,
    Mailboxes,
    Pause,
    Phones,
    Reset,
    Route,
    Scenario,
    Start,
    Stop,
    Upgrade,
    Walk,
    WipeDisk,
)
from simulations.schema import ScenarioError
from simulations.toml_lines import line_of
from simulations.units import duration_text, parse_duration_s, parse_rate_bytes_per_s, rate_text

WHOLE = """\
title = "Two LANs"
description = '''
Many words.
'''
duration = "30m"
calm-from = "20m"
settle = "5m"

[groups]
some = ["south-1..2", "north"]
more = ["some", "ana"]

[[lans]]
name = "up"
link = { preset = "good-wifi", latency = "20ms", good = "forever" }

[[lans]]
name = "down"
link = "festival-wifi"

[[routes]]
lans = ["up", "down"]
link = { latency = "1s", bandwidth = "120kB/s" }

[[mailboxes]]
name = "north"
lan = "up"

[[mailboxes]]
name = "south"
lan = "down"
count = 3
peers = "some"
behaviour = "lies"
storage-limit = "2MiB"

[[phones]]
name = "ana"
lan = "up"
topics = ["tea", "cake"]

[[faults]]
kind = "pause"
at = "90s"
who = "more"
for = "2m"

[[faults]]
kind = "crash"
at = "1.5m"
who = [
    "north",
    "south-3",
]
restart-after = "never"
"""


def test_a_file_is_read() -> None:
    scenario = parse(WHOLE, name="two", file="two.toml")
    assert scenario.name == "two"
    assert (scenario.duration_s, scenario.calm_from_s, scenario.settle_s) == (1800.0, 1200.0, 300.0)
    assert scenario.description == "Many words.\n"
    (up, down), (route,) = scenario.lans, scenario.routes
    assert up.link == Link(0.02, 0.002, 6e6, good_s=inf, bad_s=0.3, multicast_loss=0.01)
    assert down.link == PRESETS["festival-wifi"]
    assert route.link == Link(latency_s=1.0, bandwidth_bytes_per_s=120_000.0)
    assert scenario.mailboxes[1] == Mailboxes(
        "south", "down", 3, Behaviour.LIES, ("south-1", "south-2", "north"), storage_limit_bytes=2 << 20
    )
    assert scenario.phones == (Phones("ana", "up", topics=("tea", "cake")),)
    assert scenario.faults == (
        Pause(90.0, ("south-1", "south-2", "north", "ana"), 120.0),
        Crash(90.0, ("north", "south-3"), restart_after_s=None),
    )


@pytest.mark.parametrize(
    ("old", "new", "where", "remedy"),
    [
        ("duration", "duratoin", 'duratoin', "did you mean 'duration'?"),
        ('title = "Two LANs"', "", '\ndescription', "needs 'title'"),
        ('name = "south"\n', "", '[[mailboxes]]\nlan', "needs 'name'"),
        ("count = 3", 'count = "3"', 'count =', "a whole number"),
        ("count = 3", "count = true", 'count =', "a whole number"),
        ("count = 3", "count = 0", 'count =', "between 1 and"),
        ('"90s"', "90", 'at = 90', 'for example "10m"'),
        ('"90s"', '"90"', 'at = "90"', "use ms, s, m, h or d"),
        ('"90s"', '"90 weeks"', 'at = "90 w', "use ms, s, m, h or d"),
        ('"120kB/s"', '"120kB"', 'link = { latency = "1s"', "such as 120kB/s"),
        ('"2MiB"', '"2M"', '"2M"', "write 2MiB or 2MB"),
        ('"good-wifi"', '"good-wfi"', 'preset =', "did you mean 'good-wifi'?"),
        ("latency = \"20ms\"", "lantecy = \"20ms\"", 'lantecy', "did you mean 'latency'?"),
        ('kind = "pause"', 'kind = "pasue"', 'kind =', "did you mean 'pause'?"),
        ('kind = "pause"', "", '[[faults]]', "a fault needs a kind"),
        ('"lies"', '"lie"', '"lie"', "did you mean 'lies'?"),
        ('lan = "up"\n\n[[mailboxes]]', 'lan = "upp"\n\n[[mailboxes]]', '"upp"', "did you mean 'up'?"),
        ('peers = "some"', 'peers = "norht"', '"norht"', "did you mean 'north'?"),
        ('    "south-3"', '    "south-4"', 'who = [\n', "did you mean 'south-3'?"),
        ('who = "more"', "who = []", 'who = []', "at least one name"),
        ('"south-1..2"', '"south-2..1"', 'some =', "write it as south-1..2"),
        ('["up", "down"]', '["up"]', 'lans =', "two different LANs"),
        ('for = "2m"', 'for = "20m"', '[[faults]]', "make it shorter or calm-from later"),
        ('settle = "5m"', 'settle = "15m"', 'settle', "make that longer"),
        ('name = "ana"', 'name = "south-2"', '"south-2"\nlan', "choose another"),
        ('name = "ana"', 'name = "Ána"', '"Ána"', "use up to 64 of"),
        ('["tea", "cake"]', '["a:b"]', '"a:b"', "':'"),
        ("[[lans]]\nname = \"up\"", "[[lans]\nname = \"up\"", '[[lans]\n', "not TOML"),
        ("restart-after = \"never\"", "restart-after = \"never", 'restart-after', "not TOML"),
        ("[[phones]]", "[phones]", '[phones]', "written as [[phones]]"),
    ],
)  # fmt: skip
def test_errors_name_line_and_remedy(old: str, new: str, where: str, remedy: str) -> None:
    assert old in WHOLE
    text = WHOLE.replace(old, new, 1)
    line = text[: text.index(where)].count("\n") + 1
    with pytest.raises(ScenarioError) as caught:
        parse(text, name="two", file="my/two.toml")
    assert str(caught.value).startswith(f"my/two.toml, line {line}: ")
    assert remedy in str(caught.value)


def test_a_cut_without_an_end_is_refused() -> None:
    cut = '[[faults]]\nkind = "cut"\nat = "1m"\na = "up"\nb = "down"\n'
    with pytest.raises(ScenarioError, match="never undone"):
        parse(WHOLE + cut, name="two", file="two.toml")
    assert parse(WHOLE + cut + '[[faults]]\nkind = "heal"\nat = "2m"\n', name="two", file="two.toml").faults[
        -1
    ] == Heal(120)


@pytest.mark.parametrize("data", [b"\xff", b'title = "\xc3"', b"a = " + b"[" * 100_000, b"\0", b"x" * (1 << 20)])
def test_what_is_no_scenario_at_all_is_one_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "odd.toml"
    file.write_bytes(data)
    with pytest.raises(ScenarioError, match=r"odd\.toml"):
        read(file)


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_bytes(WHOLE.replace("\n", "\r\n").encode())
    assert read(file) == parse(WHOLE, name="two", file="two.toml")


def test_lines_are_found_in_short_and_long_arrays() -> None:
    text = 'a = [\n  { x = 1 },\n  { x = 2,\n    },\n]\n\n[[b]]\n# c\n[[b]]\nc = """\nd = 1\n"""\ne.f = 1\n'.replace(
        ",\n    }", "}"
    )
    places = [("a", 0), ("a", 1, "x"), ("b", 0), ("b", 1), ("b", 1, "c"), ("b", 1, "e", "f"), ("b", 1, "no"), ("no",)]
    assert [line_of(text, place) for place in places] == [2, 3, 6, 8, 9, 12, 8, 1]


@given(st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-15))
def test_durations_are_read_as_written(seconds: float) -> None:
    assert parse_duration_s(duration_text(seconds)) == seconds


@given(st.integers(0, 10**15))
def test_rates_are_read_as_written(rate: int) -> None:
    assert parse_rate_bytes_per_s(rate_text(float(rate))) == rate


# --- round trips: any playable scenario, not only those that somebody would draw ------------------------------------

LANS = ("lan-a", "lan-b")
MEMBERS = ("box", "few", "few-1", "few-2")
EVERYBODY = (*MEMBERS, "ana", "ben-1", "ben-2", "ben")

times = st.one_of(st.integers(0, 1000).map(float), st.floats(0, 1000).map(lambda x: round(x, 6)))
some = st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True).map(tuple)
anyone = st.lists(st.sampled_from(EVERYBODY), min_size=1, unique=True).map(tuple)
places = st.lists(st.sampled_from((*EVERYBODY, *LANS)), min_size=1, unique=True).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda text: text.replace("\r", ""))
shares = st.floats(0, 1)
links = st.one_of(
    st.sampled_from(list(PRESETS.values())),
    st.builds(
        Link,
        latency_s=times,
        jitter_s=times,
        bandwidth_bytes_per_s=st.integers(1, 10**10).map(float),
        good_s=st.one_of(st.just(inf), times),
        bad_s=times,
        break_chance=shares,
        multicast_loss=shares,
    ),
)
faults: st.SearchStrategy[Fault] = st.one_of(
    st.builds(Cut, times, places, places, st.booleans(), st.booleans(), times),
    st.builds(Heal, times),
    st.builds(Clog, times, places, places, times),
    st.builds(Reset, times, anyone),
    st.builds(Crash, times, some, st.one_of(st.none(), times)),
    st.builds(Stop, times, some),
    st.builds(Start, times, some),
    st.builds(Pause, times, anyone, times),
    st.builds(DiskFull, times, some, times),
    st.builds(WipeDisk, times, some, times),
    st.builds(ClockChange, times, some, times.map(lambda x: -x), st.one_of(st.none(), st.floats(-1e6, 1e6))),
    st.builds(Walk, times, anyone, st.sampled_from(LANS)),
    st.builds(Churn, times, some, times, times.map(lambda x: x + 1), times.map(lambda x: x + 1)),
    st.builds(Upgrade, times, some, times.map(lambda x: x / 10).map(lambda x: round(x, 6)), st.just(1), st.just(2)),
)
scenarios = st.builds(
    Scenario,
    name=st.just("drawn"),
    title=texts,
    description=texts,
    duration_s=st.just(20_000.0),
    calm_from_s=st.floats(5000, 10_000),
    settle_s=times,
    lans=st.tuples(*(st.builds(Lan, st.just(name), links) for name in LANS)),
    routes=st.lists(st.builds(Route, st.just(LANS), links), max_size=1).map(tuple),
    mailboxes=st.tuples(
        st.builds(Mailboxes, st.just("box"), st.sampled_from(LANS), peers=st.one_of(st.just(()), some)),
        st.builds(
            Mailboxes,
            st.just("few"),
            st.sampled_from(LANS),
            st.just(2),
            st.sampled_from(list(Behaviour)),
            clock_offset_s=times.map(lambda x: -x),
            clock_drift_ppm=st.floats(-1e6, 1e6),
            storage_limit_bytes=st.one_of(st.none(), st.integers(1, 10**12)),
            retention_s=st.integers(1, 7 * 86_400).map(float),
        ),
    ),
    phones=st.tuples(
        st.builds(Phones, st.just("ana"), st.sampled_from(LANS), policy=st.sampled_from(["each", "round-robin"])),
        st.builds(Phones, st.just("ben"), st.sampled_from(LANS), st.just(2), message_bytes=st.integers(1, 10**6)),
    ),
    faults=st.lists(faults, max_size=8).map(tuple),
    notes=st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip


@given(scenarios)
def test_what_is_written_is_read_back(scenario: Scenario) -> None:
    text = to_toml(scenario)
    assert parse(text, name="drawn", file="drawn.toml") == scenario, text
