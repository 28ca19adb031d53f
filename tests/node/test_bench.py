"""The benchmarks measure what they say, on small cases: figures belong together, results are checked, nothing is left
behind. Nothing here is about how fast it is."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from node.bench import suite
from node.bench.messages import arrival_at, log_name, scattered
from node.bench.raw_sqlite import RawSqlite
from node.bench.stream import stream_bytes_per_s
from node.bench.svg import Line, line_chart, si
from node.bench.transfer import ProcessCost, _Carried, _Insert, _Plan, _report
from node.cli.bench import bench
from node.cli.bench_tables import transfer_table
from node.cli.options import DATA_DIR
from node.cli.program import main
from protocols.model import LogName, digest_of
from protocols.sync.messages import Seqs
from protocols.sync.work import Work
from tests.mailboxes import clean_environment, eventually

SMALL: dict[str, list[str]] = {
    "store": ["--messages", "1000", "--bytes", "100", "--bulk", "50", "--clients", "4", "--rounds", "1"],
    "transfer": ["--messages", "250", "--bytes", "100", "--peers", "2", "--rounds", "2"],
    "http": ["--clients", "1,3", "--bulk", "10", "--bytes", "100", "--seconds", "0.1"],
}


@pytest.fixture
def measure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a small case and returns the JSON object that it prints; its folder is gone afterwards."""

    def run(name: str, *further: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as caught:
            main(["bench", name, *SMALL[name], *further, "--data-dir", str(tmp_path), "--json"])
        captured = capsys.readouterr()
        assert caught.value.code == 0, captured.err
        assert captured.err == "", "progress is for terminals"
        assert list(tmp_path.iterdir()) == []
        report = json.loads(captured.out)
        assert isinstance(report, dict)
        assert report["benchmark"] == name
        assert report["machine"]["python"] == sys.version.split()[0]
        return report

    return run


def commands() -> list[click.Command]:
    return list(bench.commands.values())


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_measurement_has_help_and_examples_that_parse(command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert all(option.help for option in options)
    assert {option.type for option in options if "--data-dir" in option.opts} <= {DATA_DIR}
    prefix = f"  mailboxd bench {command.name}"
    examples = [line for line in cleandoc(command.help or "").splitlines() if line.startswith(prefix)]
    assert examples
    for line in examples:
        words = shlex.split(line.removeprefix(prefix).partition("|")[0])
        assert command.make_context(command.name, words).params


def test_messages_can_be_made_again() -> None:
    first, again = list(scattered(50, logs=3, blob_bytes=100)), list(scattered(50, logs=3, blob_bytes=100))
    assert first == again
    assert {arrival.name for arrival in first} == {log_name(log) for log in range(3)}
    assert len({arrival.blob for arrival in first}) == 50
    for name in map(log_name, range(3)):
        assert [arrival.seq for arrival in first if arrival.name == name] == list(
            range(sum(arrival.name == name for arrival in first))
        )
    one = first[-1]
    assert arrival_at(one.name, one.seq, 100, one.first_stored_s) == one
    assert one.digest == digest_of(one.blob)


def test_raw_sqlite_holds_what_is_put(tmp_path: Path) -> None:
    with RawSqlite.open(tmp_path / "raw.sqlite3") as raw:
        arrivals = list(scattered(100, logs=2, blob_bytes=30))
        raw.put([raw.rows(arrivals[:60]), *([row] for row in raw.rows(arrivals[60:]))])
        held = raw.get([[(log_name(0), 0), (log_name(1), 0)]])
        assert held.messages_per_s * held.p50_ms / 1000 == pytest.approx(100, rel=0.2)  # one request read all
        assert raw.get([[(log_name(0), 1000)]]).messages_per_s == 0


RECONCILE_KEYS = {
    "messages", "changed", "shape", "mode", "bytes", "round_trips", "cpu_ms", "cpu_ms_initiator", "cpu_ms_responder",
    "cpu_ms_median", "build_ms", "index_bytes_per_message", "handshake_bytes", "session_bytes", "hash_1m_rows_ms",
    "ratio_bytes", "correct", "logs", "requests", "names_bytes", "names_round_trips",
}  # fmt: skip


def reconciled(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "reconcile", *arguments, "--json"])
    captured = capsys.readouterr()
    assert caught.value.code == 0, captured.err
    assert captured.err == ""
    report = json.loads(captured.out)
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize("mode", ["warm", "cold"])
@pytest.mark.parametrize(
    ("shape", "changed"),
    [("none", 0), ("tail", 1), ("tail", 30), ("tail", 1250), ("random", 7), ("random", 400), ("fresh", 1250)],
)
def test_reconcile(capsys: pytest.CaptureFixture[str], shape: str, changed: int, mode: str) -> None:
    """1,250 messages in 13 logs, the last one short. That exactly the differences are found it checks itself."""
    options = [] if shape in ("none", "fresh") else ["--changed", str(changed)]
    report = reconciled(capsys, "--messages", "1250", "--shape", shape, *options, "--mode", mode)
    assert report.keys() >= RECONCILE_KEYS
    assert (report["messages"], report["shape"], report["changed"], report["mode"]) == (1250, shape, changed, mode)
    assert (report["benchmark"], report["correct"], report["logs"]) == ("reconcile", True, 13)
    assert report["cpu_ms"] == pytest.approx(report["cpu_ms_initiator"] + report["cpu_ms_responder"])
    assert 0 < report["cpu_ms"] <= report["cpu_ms_median"]
    assert report["repetitions"] >= 5
    assert min(report["build_ms"], report["index_bytes_per_message"], report["hash_1m_rows_ms"]) > 0
    requests = report["requests"]
    assert all(one["question_bytes"] > 0 < one["reply_bytes"] for one in requests.values())
    salt_bytes, prefix_bytes = 10, 4
    parts = sum(one["question_bytes"] + one["reply_bytes"] for one in requests.values())
    assert report["bytes"] + report["names_bytes"] == salt_bytes + parts
    assert report["round_trips"] + report["names_round_trips"] == sum(one["count"] for one in requests.values())
    assert report["session_bytes"] == report["handshake_bytes"] + parts - 2 * prefix_bytes
    assert report["bytes"] >= report["bound_bytes"]
    if shape == "fresh":
        assert report["names_bytes"] > 13 * 32, "the names of all logs"
        assert report["ratio_bytes"] == pytest.approx(report["bytes"] / (1250 * 32))
        assert report["changed_logs"] == 13
    else:
        assert report["names_bytes"] == 0
        assert min(changed, 1) <= report["changed_logs"] <= min(changed, 13)
    if (mode, changed) == ("warm", 1):
        assert set(requests) == {"News"}, "both know since when to look"
    if mode == "cold":
        assert "News" not in requests


def test_reconcile_compares_with_negentropy(capsys: pytest.CaptureFixture[str]) -> None:
    report = reconciled(capsys, "--messages", "100000", "--shape", "random", "--changed", "10", "--mode", "cold")
    assert report["negentropy_bytes"] == 13_600
    assert report["ratio_bytes"] == pytest.approx(report["bytes"] / 13_600)
    whats = [claim["what"] for claim in report["claims"]]
    assert "bytes ÷ negentropy: 100,000 messages, random 10, cold" in whats
    assert "round trips: 100,000 messages, random 10, cold" in whats


def test_reconcile_says_when_something_else_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(work: Work, handle: bytes, name: LogName, needs: Iterable[Seqs], offers: Iterable[Seqs]) -> None:
        return None

    monkeypatch.setattr(Work, "differs", forgetful)
    with pytest.raises(SystemExit) as caught:
        main(["bench", "reconcile", "--messages", "1000", "--changed", "4"])
    assert caught.value.code == 1
    assert re.search(r"of \d messages that the initiator (lacks|has alone), 0 were found", capsys.readouterr().err)


def test_reconcile_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "reconcile", "--messages", "1000", "--shape", "fresh"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for text in ("NEGENTROPY", "names of the logs", "Exactly the differences were found", "News"):
        assert text in out


def test_all_measures_shows_and_keeps_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(suite, "FULL", suite.Plan((1000, 2000), (5, 50), 2000, 1, (1, 2), 0.05, 250, 1))
    output, report = tmp_path / "figures" / "bench.json", tmp_path / "report"
    (work := tmp_path / "work").mkdir()
    with pytest.raises(SystemExit) as caught:
        main(["bench", "all", "--output", str(output), "--report", str(report), "--data-dir", str(work)])
    captured = capsys.readouterr()
    assert caught.value.code == 0, captured.err
    assert list(work.iterdir()) == []
    document = json.loads(output.read_text())
    cases = {(case["messages"], case["shape"], case["changed"], case["mode"]) for case in document["reconcile"]}
    assert cases == {
        (size, shape, size if changed is None else changed, mode)
        for size in (1000, 2000)
        for shape, changed in (("none", 0), ("tail", 5), ("tail", 50), ("random", 5), ("random", 50), ("fresh", None))
        for mode in ("warm", "cold")
    }
    assert document["store"]["messages"] == 2000
    assert document["http"]["clients"] == [1, 2]
    assert [transfer["messages"] for transfer in document["transfer"]] == [250]
    claims = [claim["what"] for claim in document["claims"]]
    assert "transfer ÷ the limit" in " ".join(claims)
    assert {path.name for path in report.iterdir()} == {
        "results.md", "reconcile-tail.svg", "reconcile-random.svg", "reconcile-cpu.svg", "http-store.svg",
        "http-get.svg", "transfer.svg",
    }  # fmt: skip
    drawn = {path.name: path.read_text() for path in report.glob("*.svg")}
    for picture in drawn.values():
        texts = [element.text or "" for element in ElementTree.fromstring(picture).iter()]
        assert not any("nan" in text or "inf" in text for text in texts)
    assert "raw SQLite, 100 each" in drawn["http-get.svg"]
    assert "one libp2p stream" in drawn["transfer.svg"]
    assert "cold: never met" in drawn["reconcile-tail.svg"]
    results = (report / "results.md").read_text()
    for head in ("NEGENTROPY", "RAW SQLITE", "÷ HEALTH", "SPEED"):
        assert head in results
        assert head in captured.out
    assert f"of {len(claims)} required figures hold" in captured.out


def test_store(measure: Callable[..., dict[str, Any]]) -> None:
    report = measure("store")
    cases = {(case["action"], case["messages_per_request"], case["clients"]): case for case in report["cases"]}
    assert set(cases) == {("put", size, tasks) for size in (1, 50) for tasks in (1, 4)} | {
        ("get", size, tasks) for size in (1, 500) for tasks in (1, 4)
    }
    for case in cases.values():
        assert 0 < case["p50_ms"] <= case["p99_ms"]
        assert case["ratio_to_raw"] == pytest.approx(case["messages_per_s"] / case["raw_messages_per_s"])
    assert report["commit_per_request_per_s"] > 0
    assert report["claims"] == [], "they are made for 64 clients"


def test_http(measure: Callable[..., dict[str, Any]]) -> None:
    report = measure("http")
    assert [(case["kind"], case["messages_per_request"]) for case in report["cases"] if case["clients"] == 3] == [
        ("health", 0),
        ("store", 1),
        ("store", 10),
        ("get", 1),
        ("get", 10),
    ]
    raw = {(rate["kind"], rate["messages_per_request"]): rate["messages_per_s"] for rate in report["raw"]}
    health = {case["clients"]: case["requests_per_s"] for case in report["cases"] if case["kind"] == "health"}
    for case in report["cases"]:
        assert 0 < case["p50_ms"] <= case["p99_ms"]
        if case["kind"] == "health":
            continue
        assert case["messages_per_s"] == pytest.approx(case["requests_per_s"] * case["messages_per_request"])
        ceiling = raw[case["kind"], case["messages_per_request"]]
        assert case["ratio_to_raw"] == pytest.approx(case["messages_per_s"] / ceiling)
        assert case["ratio_to_health"] == pytest.approx(case["requests_per_s"] / health[case["clients"]])
        if case["kind"] == "get":  # 100 bytes are 132 of base64: the answers do hold what was asked for
            assert case["answer_bytes"] > 132 * case["messages_per_request"]
    assert sys.platform != "linux" or all(case["server_cpu_us"] >= 0 for case in report["cases"])


def test_transfer(measure: Callable[..., dict[str, Any]]) -> None:
    report = measure("transfer")
    assert (report["messages"], report["peers"], report["correct"]) == (250, 2, True)
    assert report["messages_per_s"] == pytest.approx(250 / report["seconds"])
    assert report["megabytes_per_s"] == pytest.approx(25_000 / report["seconds"] / 1e6)
    assert report["sync_bytes"] > 25_000, "the messages themselves went over the wire"
    ceilings = {
        "libp2p stream": report["stream_megabytes_per_s"],
        "SQLite inserts": report["insert_megabytes_per_s"],
    }
    assert ceilings[report["limit"]] == min(ceilings.values())
    assert report["share_of_limit"] == pytest.approx(report["megabytes_per_s"] / min(ceilings.values()))
    assert report["commit_messages_per_s"] > report["insert_messages_per_s"], "the copying of the log counts"
    assert report["insert_cpu_us_per_message"] > 0
    first, second = report["rounds"]
    assert first["insert_after_messages_per_s"] == second["insert_before_messages_per_s"], "measured once in between"
    shares = sorted(one["share_of_limit"] for one in (first, second))
    assert shares == [report["share_of_limit_lowest"], report["share_of_limit_highest"]]
    assert report["share_of_limit"] == shares[0], "of two, the worse"
    counted = next(one for one in (first, second) if one["share_of_limit"] == shares[0])
    assert (report["seconds"], report["cpu_us_per_message"]) == (counted["seconds"], counted["cpu_us_per_message"])
    alone_s = [250 / counted[f"insert_{when}_messages_per_s"] for when in ("before", "after")]
    assert report["insert_messages_per_s"] == pytest.approx(2 * 250 / sum(alone_s))
    if sys.platform == "linux":
        for cost in (report["receiver"], *report["senders"]):
            assert 0 < cost["memory_before_bytes"] <= cost["memory_peak_bytes"]
            assert cost["cpu_s"] >= 0
        together_s = sum(cost["cpu_s"] for cost in (report["receiver"], *report["senders"]))
        if together_s:  # of so few messages it may be less than can be told
            assert report["cpu_us_per_message"] == pytest.approx(1e6 * together_s / 250)
            possible = 25_000 / 1e6 * report["cores"] / together_s / min(ceilings.values())
            assert report["share_possible"] == pytest.approx(possible)


@pytest.mark.parametrize(("rounds", "shown"), [(1, False), (3, True)])
def test_the_rounds_of_a_transfer_are_shown_if_there_are_some(rounds: int, shown: bool) -> None:
    alone = [_Insert(seconds=1.0 + number, answered_s=0.5, cpu_s=0.5) for number in range(rounds + 1)]
    cost = ProcessCost(1, 2, 1.0)
    carried = [_Carried(seconds, 2000, cost, (cost,)) for seconds in (5.0, 2.0, 4.0)[:rounds]]
    report = _report(_Plan(10, 100), 1000.0, alone, carried)
    out = transfer_table(report)
    assert ("ALONE BEFORE" in out, f"in the middle of {rounds} rounds" in out) == (shown, shown)
    if shown:  # 1.5 s of 5, 2.5 of 2, 3.5 of 4
        assert [one.share_of_limit for one in report.rounds] == pytest.approx([0.3, 1.25, 0.875])
        assert (report.seconds, report.insert_messages_per_s) == (4.0, pytest.approx(10 / 3.5))
        assert "88% of it is reached in the middle of 3 rounds (30% to 125%)" in out
        assert report.claims[0].holds


def test_a_share_is_of_the_lower_limit() -> None:
    alone = [_Insert(seconds=1.0, answered_s=0.5, cpu_s=0.5)] * 2
    none = ProcessCost(None, None, None)
    report = _report(_Plan(1000, 1000), 0.25, alone, [_Carried(8.0, 2000, none, (none,))])
    assert (report.limit, report.share_of_limit) == ("libp2p stream", pytest.approx(0.5))
    assert (report.cpu_us_per_message, report.share_possible) == (None, None)


async def test_one_stream_carries_at_least_one_piece_however_short_the_time() -> None:
    assert await stream_bytes_per_s(0.01) > 0


def test_labels_of_lines_that_meet_do_not_cover_each_other() -> None:
    lines = [Line(f"line {number}", [1.0, 5.0 + number / 1000], number % 4) for number in range(6)]
    picture = line_chart("t", "s", x_label="x", x_ticks=["1", "2"], y_label="y", lines=lines)
    elements = ElementTree.fromstring(picture).iter()
    ys = sorted(float(element.attrib["y"]) for element in elements if (element.text or "").startswith("line "))
    assert len(ys) == 6
    assert min(after - before for before, after in pairwise(ys)) >= 13


@pytest.mark.parametrize(
    ("value", "expected"), [(0.04, "0.04 B"), (9.96, "10 B"), (999.6, "1 kB"), (1234, "1.2 kB"), (3.2e7, "32 MB")]
)
def test_figures_on_axes_are_short(value: float, expected: str) -> None:
    assert si(value, "B") == expected


def test_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "store", *SMALL["store"], "--clients", "64", "--data-dir", str(tmp_path)])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "RAW SQLITE/S" in out
    assert "÷ with a commit per request" in out
    assert not out.startswith("{")


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(command.name is not None and command.name in out for command in commands())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["http", "--clients", "0"], "not a list of numbers"),
        (["http", "--clients", "1,x"], "not a list of numbers"),
        (["http", "--clients", "100000"], "not a list of numbers"),
        (["store", "--bulk", "1"], "range"),
        (["store", "--messages", "1000", "--bulk", "501"], "two bulks"),
        (["transfer", "--peers", "0"], "range"),
        (["transfer", "--rounds", "0"], "range"),
        (["reconcile", "--shape", "none", "--changed", "5"], "nothing differs"),
        (["reconcile", "--shape", "fresh", "--changed", "5"], "everything differs"),
        (["reconcile", "--messages", "10", "--changed", "11"], "more than there are messages (10)"),
        (["reconcile", "--messages", "0"], "range"),
        (["reconcile", "--shape", "round"], "'round' is not one of"),
        (["all", "--quick", "--ten-million"], "contradict"),
        (["nothing"], "No such command"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_directory_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "store", "--data-dir", str(tmp_path / "nowhere")])
    assert caught.value.code == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_told_to_stop_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "node.cli", "bench", "http", "--seconds", "60", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
    with process:
        info = eventually(lambda: [*tmp_path.glob("*/mailbox/node.json")], timeout_s=60, what="the mailbox")
        mailbox_pid = json.loads(info[0].read_text())["pid"]
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        assert b"Traceback" not in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(mailbox_pid, 0)
    assert list(tmp_path.iterdir()) == []
