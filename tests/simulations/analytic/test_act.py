"""`mailboxd simulate --analytic`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from simulations.command import simulate


def test_a_table_says_what_breaks_and_what_to_do() -> None:
    answer = CliRunner().invoke(simulate, ["--analytic"])
    assert answer.exit_code == 0
    assert "100,000" in answer.output
    assert "disk of 32 GB: too small with 100,000 mailboxes" in answer.output
    assert "--topic" in answer.output
    assert "\\u" not in answer.output
    assert "\\x" not in answer.output


def test_json_has_the_plan_and_a_row_for_each_kind() -> None:
    answer = CliRunner().invoke(
        simulate, ["--analytic", "--json", "--mailboxes", "300", "--plan", "lan-mailboxes=10", "--plan", "share=0.5"]
    )
    document = json.loads(answer.output)
    assert document["plan"]["lan_mailboxes"] == 10
    assert document["plan"]["share"] == 0.5
    assert [(row["kind"], row["count"]) for row in document["rows"]] == [
        ("in a LAN", 270),
        ("gateway", 30),
        ("internet", 1),
    ]
    assert document["rows"][0]["bytes_per_s"] > 0


def test_pictures_are_drawn_into_a_directory(tmp_path: Path) -> None:
    answer = CliRunner().invoke(simulate, ["--analytic", "--out", str(tmp_path / "new")])
    assert answer.exit_code == 0
    for name in ("one-lan.svg", "city.svg"):
        assert ElementTree.parse(tmp_path / "new" / name).getroot().tag.endswith("svg")


def test_the_commands_in_the_docs_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "scale.md").read_text("utf-8")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("mailboxd ")]
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    for words in commands:
        assert words[1] == "simulate"
        answer = CliRunner().invoke(simulate, words[2:])
        assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mailboxes", "5"], "--analytic"),
        (["--analytic", "two-lans"], "plays no scenario"),
        (["--analytic", "--plan", "lans=5"], "it has lan_mailboxes, branch"),
        (["--analytic", "--plan", "branch=many"], "needs a number"),
        (["--analytic", "--plan", "share=-1"], "can't be -1"),
        (["--analytic", "--plan", "branch=1"], "branches in two"),
    ],
)
def test_wrong_use_is_answered_in_one_line(arguments: list[str], words: str) -> None:
    answer = CliRunner().invoke(simulate, arguments)
    assert answer.exit_code == 2
    assert words in answer.output
