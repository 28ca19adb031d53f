"""The command line without a running mailbox: help, errors, exit codes, and how fast it starts."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from node.cli.messages import get, put
from node.cli.options import DATA_DIR
from node.cli.output import ago, bytes_text, count_text, shorten, table
from node.cli.program import COMMANDS, main, program
from node.cli.status import sync
from node.core import VERSION
from node.datadir import DataDir
from node.identity import Identity
from node.store import Arrival
from node.store.sqlite import SqliteStore
from protocols.model import LogName, digest_of


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command line in this process, without the developer's own mailbox and settings."""
    for name in [name for name in os.environ if name.startswith("MAILBOXD_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str | Path) -> Result:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


def failed(result: Result, code: int = 1) -> str:
    """The one line of a failure."""
    assert result.code == code
    assert result.err.startswith("mailboxd")
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    return result.err


# --- help ----------------------------------------------------------------------------------------------------------


def test_without_arguments_it_says_what_there_is(call) -> None:
    result = call()
    assert result.code == 0
    assert result.out == call("--help").out == call("-h").out
    assert all(name in result.out for name in COMMANDS)


def test_version(call) -> None:
    assert call("--version") == Result(0, f"mailboxd {importlib.metadata.version('mailboxd')}\n", "")
    assert importlib.metadata.version("mailboxd") == VERSION


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples(call, name: str) -> None:
    _, text = COMMANDS[name]
    command = program.get_command(click.Context(program), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert (command.help or "").split("\n", 1)[0] == text, "the list of commands and the command's own help"
    result = call(name, "--help")
    assert result.code == 0
    assert "Examples:" in result.out
    assert result.out.count(f"mailboxd {name}") >= 2, "a usage line and an example"
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert all(option.help for option in options)
    if not isinstance(command, click.Group) and name not in (
        "completion",
        "man",
    ):  # of `bench` the commands below have it; see test_bench.py
        assert [option.type for option in options if "--data-dir" in option.opts] == [DATA_DIR]


def test_the_examples_parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAILBOXD_DATA_DIR", str(tmp_path))
    peer_id = Identity.from_seed(bytes(32)).peer_id
    seen = 0
    for name in COMMANDS:
        command = program.get_command(click.Context(program), name)
        assert command is not None
        for line in (command.help or "").splitlines():
            _, found, rest = line.partition(f"mailboxd {name}")
            if line.startswith("  ") and found:
                words = re.split("[|<>]", rest)[0].replace("12D3Koo…", peer_id)
                split = subprocess.run(
                    ["sh", "-c", f'for word in {words}; do echo "$word"; done'],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                command.make_context(name, split.stdout.splitlines())
                seen += 1
    assert seen > 15


# --- wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["xyzzy"], "known are run, service"),
        (["--nope"], "No such option"),
        (["doktor", "--help"], "not a command"),
        (["status", "extra"], "unexpected extra argument"),
        (["status", "--jsno"], "--json"),
        (["put", "t", "l"], "Missing argument"),
        (["put", "a:b", "l", "0", "-"], "':' or NUL"),
        (["put", "", "l", "0", "-"], "empty"),
        (["put", "t", "x" * 257, "0", "-"], "longer than 256 bytes"),
        (["put", "t", "l", "1_0", "-"], "not a sequence number"),
        (["put", "t", "l", "१", "-"], "not a sequence number"),
        (["put", "t", "l", "18446744073709551616", "-"], "outside 0..2^64-1"),
        (["get"], "Missing argument"),
        (["get", "t", "l", "x"], "not a sequence number"),
        (["get", "t", "--seq", "1"], "--seq needs LOG"),
        (["get", "t", "l", "1", "--seq", "1"], "exclude"),
        (["get", "t", "--raw", "--json"], "exclude"),
        (["discover", "--timeout", "-1"], "not a duration"),
        (["discover", "--timeout", "2h"], "3600"),
        (["demo", "--messages", "1"], "range"),
        (["status", "\x1b[31m\nx"], "unexpected extra argument"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(call, tmp_path: Path, arguments: list[str], expected: str) -> None:
    line = failed(call(*arguments), code=2)
    assert expected in line
    assert "--help)" in line
    assert line.rstrip("\n").isprintable()


# --- without a mailbox ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["status"], ["peers"], ["sync"], ["put", "t", "l", "0", __file__], ["get", "t"]])
def test_what_needs_a_running_mailbox_says_how_to_start_one(call, tmp_path: Path, arguments: list[str]) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"mailboxd run --data-dir {nowhere}" in failed(call(*arguments, "--data-dir", nowhere))
    assert not nowhere.exists()
    with DataDir.open(tmp_path):
        assert "still starting" in failed(call(*arguments, "--data-dir", tmp_path))


def test_identity(call, tmp_path: Path) -> None:
    assert "the first `mailboxd run` makes one" in failed(call("identity", "--data-dir", tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    own = Identity.load_or_create(tmp_path / "identity.key")
    result = call("identity", "--data-dir", tmp_path)
    assert result.code == 0
    assert str(own.mailbox_id) in result.out
    assert own.peer_id in result.out
    assert "not running" in result.out
    assert own.seed.hex() not in result.out
    assert json.loads(call("identity", "--json", "--data-dir", tmp_path).out) == {
        "mailbox_id": str(own.mailbox_id),
        "peer_id": own.peer_id,
        "https_pin": own.mailbox_id.key_pin,
        "running": False,
        "p2p": [],
    }
    (tmp_path / "identity.key").chmod(0o644)
    assert "chmod 600" in failed(call("identity", "--data-dir", tmp_path))


def test_the_data_directory_from_the_environment(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILBOXD_DATA_DIR", str(tmp_path / "env"))
    assert str(tmp_path / "env") in failed(call("identity"))
    assert str(tmp_path / "option") in failed(call("identity", "--data-dir", tmp_path / "option"))


def test_the_default_data_directory_is_the_users(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert str(tmp_path) in failed(call("identity"))


@pytest.mark.parametrize("mailbox_id", ["-" + "a" * 42, "--" + "a" * 41, "-abcdefg"])
def test_a_mailbox_id_may_begin_with_a_dash(mailbox_id: str) -> None:
    for arguments in ([mailbox_id, "--data-dir", "/x"], ["--data-dir=/x", mailbox_id], ["--json", "--", mailbox_id]):
        context = sync.make_context("sync", arguments)
        assert context.params["peer"] == mailbox_id


DASHED = "-" + "h" * 42  # `-h` is an option
TWICE_DASHED = "--data-dir" + "x" * 33


@pytest.mark.parametrize(
    "arguments",
    [
        [DASHED, TWICE_DASHED, "7", "-"],
        ["--data-dir", "-elsewhere-and-so-on-and-on", DASHED, TWICE_DASHED, "7", "-"],
        [DASHED, TWICE_DASHED, "--data-dir=x", "7", "-"],
        ["--", DASHED, TWICE_DASHED, "7", "-"],
    ],
)
def test_topics_and_logs_may_begin_with_a_dash(arguments: list[str]) -> None:
    params = put.make_context("put", arguments).params
    assert (params["topic"], params["log"], params["seq"]) == (DASHED, TWICE_DASHED, 7)
    assert str(params["file"]) == "-"
    if "--data-dir" in arguments:
        assert str(params["data_dir"]) == arguments[1]
    params = get.make_context("get", [DASHED, "--seq", "3", TWICE_DASHED, "--raw"]).params
    assert (params["topic"], params["log"], params["seq"], params["raw"]) == (DASHED, TWICE_DASHED, 3, True)


def test_a_misspelt_option_is_no_id(call) -> None:
    error = failed(call("get", "--sequence", "topic"), 2)
    assert "No such option" in error
    assert "goes behind --" in error
    assert "goes behind" not in failed(call("verify", "--sequence"), 2)


@pytest.fixture
async def store_dir(tmp_path: Path) -> Path:
    """A data directory with a thousand messages, not running."""
    with DataDir.open(tmp_path):
        async with SqliteStore.open(tmp_path / "mailbox.sqlite3") as store:
            name = LogName("topic", "log")
            blobs = [(seq, os.urandom(300)) for seq in range(1000)]
            await store.put([Arrival(name, seq, blob, digest_of(blob), 3600) for seq, blob in blobs])
    return tmp_path


async def test_verify_of_a_sound_store(call, store_dir: Path) -> None:
    before = (store_dir / "mailbox.sqlite3").read_bytes()
    result = call("verify", "--data-dir", store_dir)
    assert (result.code, result.out) == (0, "1,000 messages, 293 KiB: all sound\n")
    answer = json.loads(call("verify", "--json", "--data-dir", store_dir).out)
    assert answer == {"messages": 1000, "bytes": 300_000, "sound": True, "problems": [], "index": None}
    assert (store_dir / "mailbox.sqlite3").read_bytes() == before


async def test_verify_finds_a_changed_message(call, store_dir: Path) -> None:
    connection = sqlite3.connect(store_dir / "mailbox.sqlite3")
    connection.execute("UPDATE blobs SET data = zeroblob(300) WHERE id = (SELECT blob FROM messages LIMIT 1 OFFSET 7)")
    connection.commit()
    connection.close()
    result = call("verify", "--data-dir", store_dir)
    assert "message 7 of log log in topic topic is damaged" in result.out
    assert "1 problem" in result.out
    assert "damaged" in failed(Result(result.code, "", result.err))
    result = call("verify", "--json", "--data-dir", store_dir)
    assert json.loads(result.out)["problems"] == ["message 7 of log log in topic topic is damaged"]
    assert result.code == 1


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000])
def test_verify_of_something_else(call, tmp_path: Path, content: bytes) -> None:
    assert "there is no store" in failed(call("verify", "--data-dir", tmp_path))
    (tmp_path / "mailbox.sqlite3").write_bytes(content)
    failed(call("verify", "--data-dir", tmp_path))


# --- starting ------------------------------------------------------------------------------------------------------

HEAVY = ["libp2p", "zeroconf", "numpy", "trio", "sqlite_utils", "cryptography", "prometheus_client", "asyncio"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["status"], ["peers"], ["put", "t", "l", "0", "/dev/null"], ["get", "t"]],
)
def test_everyday_commands_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    script = "import sys\nfrom node.cli import main\ntry:\n    main()\nexcept SystemExit: pass\n"
    script += f"print([name for name in {HEAVY} if name in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.run(
        f"{sys.executable} -m node.cli --help | true", shell=True, capture_output=True, text=True, check=True
    )
    assert process.stderr == ""


# --- output --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_000, "9.8 KiB"),
        (10_240, "10 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_words() -> None:
    assert count_text(1, "message") == "1 message"
    assert count_text(1234, "message") == "1,234 messages"
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert ago(None) == "never"
    assert ago("2000-01-01T00:00:00Z").endswith("d ago")
    assert ago("nonsense") == "nonsense"
    assert ago("2000-01-01") == "2000-01-01", "without a zone it is no date of ours"


def test_a_table_lines_up_and_shows_no_control_characters() -> None:
    text = table(("A", "N>", "B"), [("x", "1", "\x1b[31m"), ("long", "100", "")])
    assert text.splitlines() == ["A       N  B", "x       1  \\x1b[31m", "long  100"]
