"""config.toml as the program changes it: only the lines of what changes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.cli.config_file import ConfigFile, edited, text_of_duration, text_of_size
from node.cli.options import parse_duration_s, parse_size_bytes
from node.cli.run import run
from node.config import SettingError
from node.service.awake import Wakefulness
from node.service.extras import DESKTOP

FILE = """# our mailbox
name = "Library"   # on the shelf

# who else
peer = [
  "http://a.example",  # the old one
]
sync-interval = 10
storage-limit = '2GiB'"""


def test_only_what_changes_changes() -> None:
    text = edited(FILE, {"name": 'Attic "2"', "paused": True})
    assert "# our mailbox\n" in text
    assert "# on the shelf" in text
    assert '  "http://a.example",  # the old one\n' in text
    assert tomllib.loads(text) == tomllib.loads(FILE) | {"name": 'Attic "2"', "paused": True}


def test_a_key_is_removed_with_its_line_and_nothing_else() -> None:
    text = edited(FILE, {"peer": None, "storage-limit": None})
    assert text == '# our mailbox\nname = "Library"   # on the shelf\n\n# who else\nsync-interval = 10\n'


def test_a_list_over_several_lines_is_replaced() -> None:
    text = edited(FILE, {"peer": ["http://b.example", "http://c.example"]})
    assert tomllib.loads(text)["peer"] == ["http://b.example", "http://c.example"]
    assert "old one" not in text
    assert "# who else\npeer = [" in text


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing", "# nothing\n", "a = '#x'", 'a = """\n#\n"""', '"name" = 1 # x', "# a\u2028b = 1"]
)
def test_odd_files(text: str) -> None:
    assert tomllib.loads(edited(text, {"name": "n"})) == tomllib.loads(text) | {"name": "n"}
    assert edited(text, {}).rstrip("\n") == text.rstrip("\n")


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "name"]), st.text() | st.booleans() | st.lists(st.text())),
    st.dictionaries(st.sampled_from(["name", "peer"]), st.text() | st.none() | st.lists(st.text())),
)
def test_what_is_written_is_what_was_meant(before: dict[str, object], changes: dict[str, object]) -> None:
    text = edited("", before)
    wanted = {key: value for key, value in (before | changes).items() if value is not None}
    assert tomllib.loads(edited(text, changes)) == wanted


@given(st.integers(1, 1 << 45))
def test_sizes_are_written_without_loss(size: int) -> None:
    assert parse_size_bytes(text_of_size(size)) == size


@given(st.integers(1, 700_000))
def test_durations_are_written_without_loss(seconds: int) -> None:
    assert parse_duration_s(text_of_duration(seconds)) == seconds


# --- checked and kept ------------------------------------------------------------------------------------------------


def config_file(tmp_path: Path, *arguments: str, text: str = "") -> ConfigFile:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "config.toml").write_text(text)
    context = run.make_context("run", ["--data-dir", str(tmp_path), *arguments])
    assert isinstance(context, click.Context)
    return ConfigFile(context)


def test_values_are_checked_as_options_are(tmp_path: Path) -> None:
    file = config_file(tmp_path)
    for key, value, expected in [
        ("storage-limit", "2G", "could mean two sizes"),
        ("storage-limit", "1MiB", "too little"),
        ("retention", "8d", "between 1 s and 7 d"),
        ("retention", "forever", "not a duration"),
        ("name", "\n", "printable"),
        ("name", 5, "text in quotes"),
        ("peer", ["nonsense"], "neither an address"),
        ("peer", "http://a.example", ""),
        ("paused", "yes", "true or false"),
        ("http", ["0.0.0.0:1"], "can't be changed here"),
        ("data-dir", "/", "can't be changed here"),
    ]:
        if expected:
            with pytest.raises(SettingError, match=expected) as caught:
                file.check({key: value})
            assert caught.value.key == key
        else:
            file.check({key: value})
    assert (tmp_path / "config.toml").read_text() == ""


def test_changes_add_up_and_can_be_taken_back(tmp_path: Path) -> None:
    file = config_file(tmp_path, text='name = "a"\n')
    for changes in ({"storage-limit": "1GiB"}, {"paused": True}, {"name": None}):
        config = file.check(changes)
        file.save(changes)
    assert (config.storage_limit_bytes, config.paused, config.name) == (1 << 30, True, None)
    assert file.shown(config)["storage-limit"] == {"value": "1GiB", "locked": None}
    assert tomllib.loads((tmp_path / "config.toml").read_text()) == {"storage-limit": "1GiB", "paused": True}


def test_what_comes_first_can_not_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILBOXD_RETENTION", "3d")
    file = config_file(tmp_path, "--name", "x")
    shown = file.shown(file.check({}))
    assert "--name" in shown["name"]["locked"]
    assert "MAILBOXD_RETENTION" in shown["retention"]["locked"]
    with pytest.raises(SettingError, match="command line"):
        file.check({"name": "y"})


def test_a_file_that_was_damaged_meanwhile_is_not_touched(tmp_path: Path) -> None:
    file = config_file(tmp_path)
    (tmp_path / "config.toml").write_text("name = ")
    for action in (file.check, file.save):
        with pytest.raises(SettingError, match="mend it first"):
            action({"name": "y"})
    assert (tmp_path / "config.toml").read_text() == "name = "


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    file = config_file(tmp_path / "data")
    (tmp_path / "elsewhere.toml").write_text("# mine\n")
    (tmp_path / "data" / "config.toml").unlink()
    (tmp_path / "data" / "config.toml").symlink_to(tmp_path / "elsewhere.toml")
    file.save({"name": "y"})
    assert (tmp_path / "elsewhere.toml").read_text() == '# mine\nname = "y"\n'
    assert (tmp_path / "data" / "config.toml").is_symlink()


def test_keeping_awake_is_locked_where_it_can_t_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config_file(tmp_path)
    monkeypatch.setattr("node.cli.config_file.can_keep_awake", lambda: True)
    assert file.shown(file.check({}))["keep-awake"] == {"value": False, "locked": None}
    assert file.check({"keep-awake": True}).keep_awake is True
    monkeypatch.setattr("node.cli.config_file.can_keep_awake", lambda: False)
    assert "-m pip install wakepy" in file.shown(file.check({}))["keep-awake"]["locked"]
    with pytest.raises(SettingError, match="wakepy"):
        file.check({"keep-awake": True})


def test_the_extra_has_what_is_named() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wanted = project["project"]["optional-dependencies"]["desktop"]
    assert tuple(sorted(one.partition(">=")[0] for one in wanted)) == DESKTOP


def test_awake_is_switched_on_and_off_and_off_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    @contextmanager
    def kept() -> Iterator[bool]:
        told.append(True)
        yield True
        told.append(False)

    monkeypatch.setattr("node.service.awake.kept_awake", kept)
    with Wakefulness() as wakefulness:
        for is_on in (False, True, True, False, False, True):
            wakefulness.set(is_on)
        assert told == [True, False, True]
    assert told == [True, False, True, False]
