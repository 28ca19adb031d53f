"""The scenarios that come with the program, and the page that describes their format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from simulations.files import find, packaged, parse, to_toml
from simulations.scenario import PRESETS, Lan, Link, Mailboxes, Phones, Route, Scenario
from simulations.schema import FAULT_KINDS, Key, keys_of, write_value

SHELF = Path(__file__).parent.parent.parent / "simulations" / "scenarios"
PAGE = (SHELF / "README.md").read_text()

SHAPES: Mapping[str, type] = {
    "The play": Scenario,
    "`[[lans]]`": Lan,
    "`[[routes]]`": Route,
    "Links": Link,
    "`[[mailboxes]]`": Mailboxes,
    "`[[phones]]`": Phones,
} | {f"`{kind}`": shape for kind, shape in FAULT_KINDS.items()}

WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", "duration": "time"}


def rows_of(title: str) -> dict[str, tuple[str, str]]:
    """Value and default of each key in a section's table."""
    (section,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]*) \| ?([^|]*)\|", section, re.MULTILINE)
    return {key: (value.strip(), default.strip()) for key, value, default in rows}


def described(key: Key) -> tuple[str, str]:
    """What the page should say."""
    if isinstance(key.kind, type) and issubclass(key.kind, StrEnum):
        value = "text"
    else:
        value = WORDS.get(key.kind, str(key.kind))
    if key.is_optional and key.default is not None:
        value += " or never"
    if key.is_required:
        return value, "needed"
    return value, default_text(key)


def default_text(key: Key) -> str:
    if key.default is None or key.default == () or key.default == "":
        return ""
    written = write_value(key, key.default)
    return str(written).lower() if isinstance(written, bool) else str(written)


@pytest.mark.parametrize("title", SHAPES)
def test_the_page_has_every_key_and_no_other(title: str) -> None:
    shape = SHAPES[title]
    rows = rows_of(title)
    extra = {"The play": {"groups", "notes"}, "Links": {"preset"}}.get(title, set())
    keys = {name: key for name, key in keys_of(shape).items() if not (shape is Scenario and name in ("name", "notes"))}
    assert set(rows) == set(keys) | extra
    for name, key in keys.items():
        if shape is Scenario and key.kind == "names":
            assert rows[name] == ("tables", "needed" if key.is_required else "")
        else:
            assert rows[name] == described(key), name


def test_the_page_names_all_presets_and_kinds() -> None:
    (presets,) = re.findall(r"^\| `preset` .*$", PAGE, re.MULTILINE)
    assert all(name in presets for name in PRESETS)
    assert set(re.findall(r"^### `([a-z-]+)`$", PAGE, re.MULTILINE)) == set(FAULT_KINDS)


def test_the_example_on_the_page_is_read() -> None:
    (example, *_) = re.findall(r"^```toml\n(title.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    scenario = parse(example, name="example", file="README.md")
    assert scenario.faults[-1].who == ("desk", "shelf-1", "shelf-2")  # type: ignore[union-attr]


def test_the_shelf_has_what_it_should() -> None:
    scenarios = packaged()
    assert set(scenarios) >= {
        "two-lans", "shutdown-week", "festival", "internet-mailbox", "clock-chaos", "disk-full-wave", "hostile-third",
        "expiry-in-partition", "rolling-upgrade", "flash-crowd", "flood-and-quota", "siege",
    }  # fmt: skip
    assert sum(group.count for group in scenarios["festival"].mailboxes) == 200
    for name, scenario in scenarios.items():
        assert scenario.title
        assert len(scenario.description) > 100, name
        assert parse(to_toml(scenario), name=name, file=name) == scenario
        assert find(name) == scenario
