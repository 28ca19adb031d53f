"""Where `mailboxd run` gets its configuration from, and how it takes every kind of value, right and wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import click
import pytest

from node.cli import options
from node.cli.program import main
from node.cli.run import run
from node.cli.settings import misspelt_variables, run_config
from node.config import HttpPeer, ListenAddress, OperatorLimits, RunConfig
from node.identity import Identity
from protocols.addresses import PeerAddress
from protocols.discovery import PeerInfo
from protocols.limits.sync import INTEREST_TOPICS_MAX
from protocols.limits.tools import CONFIG_FILE_BYTES_MAX
from protocols.model import Retention

PEER_ID = Identity.from_seed(bytes(32)).peer_id
PEER = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER_ID}"

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Parses a command line of `run` without running it."""
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), "PATH": "/bin"})

    def parse(*arguments: str, file: str | None = None, env: dict[str, str] | None = None) -> RunConfig:
        for name, value in (env or {}).items():
            monkeypatch.setitem(__import__("os").environ, name, value)
        if file is not None:
            (tmp_path / "config.toml").write_text(file)
        context = run.make_context("mailboxd run", ["--data-dir", str(tmp_path), *arguments])
        values = dict(context.params)
        return run_config(values.pop("data_dir"), values)

    return parse


def test_the_defaults_are_those_of_run_config(configure: Configure, tmp_path: Path) -> None:
    assert configure() == RunConfig(data_dir=tmp_path)


def test_every_option_is_a_field_and_every_field_an_option() -> None:
    named = {param.name for param in run.params if isinstance(param, click.Option)} - {"help"}
    renamed = {"peer": "peers", "no_mdns": "mdns", "sync_interval": "sync_interval_s"}
    renamed |= {"storage_limit": "storage_limit_bytes", "topic": "topics"}
    renamed |= {"bodies_memory": "bodies_bytes"}
    fields = {field.name for shape in (RunConfig, OperatorLimits) for field in dataclasses.fields(shape)} - {"limits"}
    assert {renamed.get(str(name), name) for name in named} == fields


def test_every_option_has_help_and_a_variable() -> None:
    for param in run.params:
        assert isinstance(param, click.Option)
        assert param.help
        assert param.envvar == "MAILBOXD_" + param.opts[0][2:].upper().replace("-", "_")


ALL = {
    "http": (["127.0.0.1:1", "[::1]:2"], "http", (ListenAddress("127.0.0.1", 1), ListenAddress("::1", 2))),
    "https": (["127.0.0.1:3"], "https", (ListenAddress("127.0.0.1", 3),)),
    "p2p": ("127.0.0.1:9", "p2p", ListenAddress("127.0.0.1", 9)),
    "peer": (
        [PEER, "HTTPS://Example.org/box/"],
        "peers",
        (PeerAddress.parse(PEER), HttpPeer("https://example.org/box")),
    ),
    "topic": (["tea", "0f" * 32], "topics", frozenset(["tea", "0f" * 32])),
    "sync-interval": ("1.5", "sync_interval_s", 1.5),
    "retention": ("90s", "retention", Retention(90)),
    "storage-limit": ("2GiB", "storage_limit_bytes", 2 << 30),
    "network": ("trial", "network", "trial"),
    "name": ("Küche, 1. Stock", "name", "Küche, 1. Stock"),
    "log-level": ("DEBUG", "log_level", "debug"),
}


@pytest.mark.parametrize("option", ALL)
def test_every_value_from_every_place(configure: Configure, option: str) -> None:
    value, field, expected = ALL[option]
    values = value if isinstance(value, list) else [value]
    arguments = [part for one in values for part in (f"--{option}", one)]
    assert getattr(configure(*arguments), field) == expected
    toml = f"{option} = [{', '.join(map(repr, values))}]" if isinstance(value, list) else f"{option} = {value!r}"
    assert getattr(configure(file=toml), field) == expected
    variable = "MAILBOXD_" + option.upper().replace("-", "_")
    assert getattr(configure(file="", env={variable: ", ".join(values)}), field) == expected
    if isinstance(value, list):
        assert getattr(configure(file="", env={variable: "  ".join(values)}), field) == expected


@pytest.mark.parametrize(("option", "field"), [("no-mdns", "mdns"), ("log-json", "log_json")])
def test_switches_from_every_place(configure: Configure, option: str, field: str) -> None:
    usual = getattr(configure(), field)
    assert getattr(configure(f"--{option}"), field) is not usual
    assert getattr(configure(file=f"{option} = true"), field) is not usual
    assert getattr(configure(file=f"{option} = false"), field) is usual
    variable = "MAILBOXD_" + option.upper().replace("-", "_")
    assert getattr(configure(file="", env={variable: "1"}), field) is not usual


def test_a_switch_in_the_file_can_be_undone(configure: Configure) -> None:
    assert configure("--mdns", "--no-log-json", file="no-mdns = true\nlog-json = true").mdns
    assert configure(env={"MAILBOXD_NO_MDNS": "0"}).mdns


def test_numbers_may_be_numbers_in_the_file(configure: Configure) -> None:
    config = configure(file="sync-interval = 2.5\nstorage-limit = 1000000000")
    assert (config.sync_interval_s, config.storage_limit_bytes) == (2.5, 10**9)
    assert configure(file="sync-interval = 5").sync_interval_s == 5


def test_one_of_a_list_may_stand_alone_in_the_file(configure: Configure) -> None:
    assert configure(file='http = "127.0.0.1:5"').http == (ListenAddress("127.0.0.1", 5),)


def test_option_before_environment_before_file_before_default(configure: Configure) -> None:
    file, env = 'network = "file"\nname = "file"\nhttp = ["127.0.0.1:1"]', {"MAILBOXD_NETWORK": "env"}
    assert configure("--network", "option", file=file, env=env).network == "option"
    config = configure(file=file, env=env)
    assert (config.network, config.name, config.p2p) == ("env", "file", ListenAddress("0.0.0.0", 0))
    assert configure("--http", "127.0.0.1:2", file=file).http == (ListenAddress("127.0.0.1", 2),), "not added up"


def test_a_limit_in_the_file_can_be_undone(configure: Configure) -> None:
    assert configure("--storage-limit", "none", file='storage-limit = "1GiB"').storage_limit_bytes is None


def test_the_same_peer_twice_is_one(configure: Configure) -> None:
    assert len(configure("--peer", PEER, "--peer", PEER, "--peer", "http://a", "--peer", "http://a/").peers) == 2


def test_the_data_directory_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('name = "found"')
    monkeypatch.setenv("MAILBOXD_DATA_DIR", str(tmp_path))
    context = run.make_context("mailboxd run", [])
    assert context.params["name"] == "found"
    assert context.params["data_dir"] == tmp_path


# --- what is wrong -------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a wrong use."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert not out
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("mailboxd")
    return err


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("sync_interval = 5", "'sync_interval' is not an option; did you mean 'sync-interval'?"),
        ("storage-limt = 5", "did you mean 'storage-limit'?"),
        ("mdns = true", "did you mean 'no-mdns'?"),
        ("xyzzy = 1", "known are http, https, p2p, peer"),
        ("data-dir = 'x'", "can't stand here"),
        ("[http]\na = 1", "http: {'a': 1} should be a list"),
        ("http = 3411", "http: 3411 should be a list"),
        ("http = [3411]", "http: 3411 should be a text in quotes"),
        ("http = ['127.0.0.1']", "http: '127.0.0.1' is not of the form HOST:PORT"),
        ("http = [['a']]", "should be a text"),
        ("no-mdns = 'yes'", "no-mdns: 'yes' should be true or false"),
        ("no-mdns = 1", "no-mdns: 1 should be true or false"),
        ("sync-interval = true", "sync-interval: True should be a number"),
        ("sync-interval = -1", "sync-interval: '-1' is not a duration"),
        ("sync-interval = inf", "sync-interval: 'inf' is not a duration"),
        ("retention = 7", "retention: 7 should be a text in quotes"),
        ("retention = '8d'", "retention: retention must be between"),
        ("retention = 2026-01-01", "should be a text"),
        ("name = ''", "name: '' is not 1 to 64 printable"),
        ('name = "a\\u0007"', "printable"),
        ("log-level = 'loud'", "log-level: 'loud' is not one of"),
        ("name = 'a'\nname = 'b'", "not valid TOML"),
        ("name = ", "not valid TOML"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("#" * (CONFIG_FILE_BYTES_MAX + 1), "larger than 2048 KiB"),
        ("name = 'a\0b'", "not valid TOML"),
    ],
)
def test_a_wrong_config_file_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, expected: str
) -> None:
    (tmp_path / "config.toml").write_text(file)
    line = refused(capsys, "run", "--data-dir", str(tmp_path))
    assert str(tmp_path / "config.toml") in line
    assert expected in line


def test_a_config_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"name = '\xff'")
    assert "not UTF-8" in refused(capsys, "run", "--data-dir", str(tmp_path))
    file.unlink()
    file.mkdir()
    assert "can't be read" in refused(capsys, "run", "--data-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--http", "3411"], "HOST:PORT"),
        (["--http", ":3411"], "0.0.0.0:3411"),
        (["--http", "::1:3411"], "brackets"),
        (["--http", "[::1]"], "HOST:PORT"),
        (["--http", "[::g]:1"], "not an IPv6 address"),
        (["--http", "127.0.0.1:65536"], "not a port"),
        (["--http", "127.0.0.1:-1"], "not a port"),
        (["--http", "127.0.0.1:१"], "not a port"),
        (["--http", "127.0.0.256:1"], "not an IPv4 address"),
        (["--http", "a b:1"], "not an IP address or a host name"),
        (["--http", "127.0.0.1:1", "--http", "127.0.0.1:1"], "given twice"),
        ([f"--peer=http://{number}.example" for number in range(129)], "at most 128"),
        (["--p2p", "x"], "HOST:PORT"),
        (["--peer", "192.168.1.5:4001"], "neither an address such as /ip4/"),
        (["--peer", "/ip4/192.168.1.5/tcp/4001"], "/p2p/"),
        (["--peer", f"/ip4/192.168.1.500/tcp/4001/p2p/{PEER_ID}"], "not an ip4 address"),
        (["--peer", "http://"], "host name"),
        (["--peer", "http://user:pw@host"], "without user"),
        (["--peer", "http://host/?a=b"], "without user, ? or #"),
        (["--peer", "http://host:99999"], "not a URL"),
        (["--peer", "http://[::1"], "not a URL"),
        (["--peer", "http://host\x1b[31m"], "don't belong in a URL"),
        (["--peer", "ftp://host"], "neither"),
        (["--sync-interval", "0"], "between 0.1 and 86400"),
        (["--sync-interval", "2d"], "between"),
        (["--sync-interval", "nan"], "not a duration"),
        (["--sync-interval", "1e3"], "not a duration"),
        (["--retention", "7"], "needs a unit"),
        (["--retention", "8d"], "between 1 s and 7 d"),
        (["--retention", "0s"], "between"),
        (["--retention", "0.5s"], "whole number of seconds"),
        (["--retention", "1w"], "use s, m, h or d"),
        (["--retention", "9" * 30 + "d"], "not a duration"),
        (["--topic", "a:b"], "contains ':'"),
        ([word for number in range(INTEREST_TOPICS_MAX + 1) for word in ("--topic", f"t{number}")], "at most 3840"),
        (["--storage-limit", "2G"], "write 2GiB or 2GB"),
        (["--storage-limit", "2XB"], "unknown unit"),
        (["--storage-limit", "1.0000000001GiB"], "not a size"),
        (["--storage-limit", "1MiB"], "at least 64MiB"),
        (["--storage-limit", "-1"], "not a size"),
        (["--network", "a b"], "a-z"),
        (["--network", "Main"], "a-z"),
        (["--network", "a-"], "inner hyphens"),
        (["--network", ""], "a-z"),
        (["--network", "x" * 33], "1 to 32"),
        (["--name", "x" * 65], "1 to 64"),
        (["--name", "a\nb"], "printable"),
        (["--log-level", "loud"], "debug"),
        (["--data-dir", ""], "name a directory"),
        (["--no-such-option"], "No such option"),
        (["--retentoin", "7d"], "--retention"),
        (["stray"], "unexpected extra argument"),
        (["--http"], "requires an argument"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert expected in refused(capsys, "run", "--data-dir", str(tmp_path / "new"), *arguments)
    assert not (tmp_path / "new").exists()


def test_a_wrong_variable_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILBOXD_RETENTION", "7")
    assert "environment variable MAILBOXD_RETENTION" in refused(capsys, "run", "--data-dir", str(tmp_path))
    monkeypatch.setenv("MAILBOXD_RETENTION", "7d")
    monkeypatch.setenv("MAILBOXD_NO_MDNS", "perhaps")
    assert "MAILBOXD_NO_MDNS" in refused(capsys, "run", "--data-dir", str(tmp_path))


@pytest.mark.parametrize("tag", ["main", "a", "demo-4711", "0", "x" * 32])
def test_a_network_tag_that_is_taken_can_be_announced(tag: str) -> None:
    assert options.NETWORK.convert(tag, None, None) == tag
    PeerInfo(p2p_port=1, protocol_version=1, network=tag)


def test_an_empty_variable_counts_as_not_set(configure: Configure) -> None:
    assert configure(env={"MAILBOXD_HTTP": "", "MAILBOXD_RETENTION": ""}).retention == Retention()


def test_misspelt_variables_are_noticed() -> None:
    environment = {"MAILBOXD_SYNC_INTERVALL": "1", "MAILBOXD_NAME": "x", "MAILBOXD_IMAGE": "y", "PATH": "z"}
    assert misspelt_variables(run, environment) == [("MAILBOXD_SYNC_INTERVALL", "MAILBOXD_SYNC_INTERVAL")]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("1B", 1),
        ("2GiB", 2 << 30),
        ("500MB", 500 * 10**6),
        ("500 mb", 500 * 10**6),
        ("1.5KiB", 1536),
        ("3tib", 3 << 40),
        ("1kB", 1000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert options.parse_size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604800), ("90m", 5400), ("30s", 30), ("1.5h", 5400), ("0.1s", Fraction(1, 10))]
)
def test_durations(text: str, seconds: Fraction) -> None:
    assert options.parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:0", ListenAddress("0.0.0.0", 0)),
        ("[::]:3411", ListenAddress("::", 3411)),
        ("[FE80::1%eth0]:1", ListenAddress("fe80::1%eth0", 1)),
        ("localhost:65535", ListenAddress("localhost", 65535)),
    ],
)
def test_listen_addresses(text: str, address: ListenAddress) -> None:
    assert options.parse_listen_address(text) == address
    assert options.parse_listen_address(str(address)) == address
