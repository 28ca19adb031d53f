"""`mailboxd limits` tells every bound with its reason; options change them; contradictions are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from node.cli.limits import reasons
from node.cli.program import program
from node.cli.status import pressure_text
from node.limits_in_use import SHOWN, value_of
from tests.mailboxes import MailboxProcess


def test_every_bound_has_a_reason() -> None:
    why = reasons()
    assert len(why) > 100
    assert not [name for name, reason in why.items() if len(reason) < 10]
    assert set(SHOWN) <= set(why)


def test_without_a_mailbox_the_defaults_are_shown(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["limits", "--json", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["HTTP_CONNECTIONS_MAX"]["value"] == value_of("HTTP_CONNECTIONS_MAX")
    assert "festival" in rows["HTTP_CONNECTIONS_MAX"]["reason"]
    shown = CliRunner().invoke(program, ["limits", "--data-dir", str(tmp_path)])
    assert "--connections-per-client" in shown.stdout
    assert "No mailbox runs" in shown.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--connections", "20", "--connections-per-client", "21"], "lower the one or raise the other"),
        (["--connections", "many"], "is not a number of connections from 16"),
        (["--requests-per-client", "0"], "from 1 to"),
        (["--bodies-memory", "1MiB"], "one largest request"),
        (["--sync-sessions", "1"], "from 2 to 256"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    result = CliRunner().invoke(program, ["run", "--data-dir", str(tmp_path), *options])
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")


def test_a_running_mailbox_tells_what_was_set_and_what_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('connections-per-client = 7\nbodies-memory = "100MiB"\nsync-sessions = 5\n')
    with MailboxProcess(tmp_path, "--no-mdns", "--p2p", "127.0.0.1:0", "--connections", "50") as mailbox:
        rows: dict[str, Any] = {row["name"]: row for row in mailbox.status()["limits"]}
        shown = CliRunner().invoke(program, ["limits", "--data-dir", str(tmp_path)])
    assert rows["HTTP_CONNECTIONS_MAX"]["value"] == 50
    assert rows["HTTP_CONNECTIONS_PER_CLIENT_MAX"]["value"] == 7
    assert rows["HTTP_BODIES_BYTES_MAX"]["value"] == 100 << 20
    assert rows["SYNC_SESSIONS_IN_MAX"]["value"] == 5
    assert (rows["STRANGERS_BUSY_S"]["used"], rows["CHALLENGE_BITS_MAX"]["used"]) == (0, 0)
    assert "http_connections_max" in shown.stdout


@pytest.mark.parametrize(
    ("bits", "busy_s", "text"),
    [(0, 0, ""), (0, 0.5, ""), (9, 4, "in a queue for 4 s, and their stores need work (9 bits)")],
)
def test_the_status_says_how_long_strangers_wait(bits: int, busy_s: float, text: str) -> None:
    rows = [{"name": "CHALLENGE_BITS_MAX", "used": bits}, {"name": "STRANGERS_BUSY_S", "used": busy_s}]
    said = pressure_text(rows)
    assert text in said
    assert bool(said) is bool(text)
