"""Scenarios as TOML files; `scenarios/README.md` describes the format. Errors name file, line and remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import tomli_w

from protocols.limits.simulation import SCENARIO_FILE_BYTES_MAX, SCENARIO_MAILBOXES_MAX
from simulations.checking import check
from simulations.scenario import Lan, Mailboxes, Phones, Route, Scenario
from simulations.schema import ScenarioError, as_table, keys_of, kind_of, nearest, read_fault, read_table
from simulations.toml_lines import Place, line_of, line_of_syntax_error

__all__ = ["find", "packaged", "parse", "read", "to_toml"]

_ROWS: Final = {
    "lans": (Lan, "a LAN"),
    "routes": (Route, "a route"),
    "mailboxes": (Mailboxes, "mailboxes"),
    "phones": (Phones, "phones"),
}
_RANGE: Final = re.compile(r"(.+)-([0-9]{1,6})\.\.([0-9]{1,6})")


def packaged() -> Mapping[str, Scenario]:
    """The scenarios that come with the program, by name."""
    files = sorted(_shelf().iterdir(), key=lambda file: file.name)
    names = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
    return {name: find(name) for name in names}


def find(name_or_file: str) -> Scenario:
    """A scenario of the program's own by its name, or one from a file (with `.toml` or `/` in it). Raises ScenarioError
    and OSError."""
    if "/" in name_or_file or name_or_file.endswith(".toml"):
        return read(Path(name_or_file))
    names = {file.name.removesuffix(".toml") for file in _shelf().iterdir() if file.name.endswith(".toml")}
    if name_or_file not in names:
        raise ScenarioError(f"unknown scenario {name_or_file!r}; {nearest(name_or_file, names)}")
    file = _shelf() / f"{name_or_file}.toml"
    return parse(file.read_text(encoding="utf-8"), name=name_or_file, file=str(file))


def _shelf() -> Traversable:
    return resources.files("simulations") / "scenarios"


def read(path: Path) -> Scenario:
    """The scenario in a file, named like it. Raises ScenarioError and OSError."""
    with path.open("rb") as file:
        data = file.read(SCENARIO_FILE_BYTES_MAX + 1)
    if len(data) > SCENARIO_FILE_BYTES_MAX:
        raise ScenarioError(f"{path} has more than {SCENARIO_FILE_BYTES_MAX >> 10} KiB; no scenario is so long")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ScenarioError(f"{path}, line {line}: this is not UTF-8; save the file as UTF-8") from None
    return parse(text, name=path.stem, file=str(path))


def parse(text: str, *, name: str, file: str) -> Scenario:
    """The scenario in a TOML text; `file` is for errors. Raises ScenarioError."""
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, said = line_of_syntax_error(text, error)
        raise ScenarioError(f"{file}, line {line}: {said}; this line is not TOML") from None
    except RecursionError:
        raise ScenarioError(f"{file}: brackets stand too deep in each other; no scenario needs that") from None
    try:
        scenario = _scenario(document, name)
        check(scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{file}, line {line_of(text, error.place)}: {error}", error.place) from None
    return scenario


def _scenario(document: dict[str, Any], name: str) -> Scenario:
    document = dict(document)
    names = _Names(document.pop("groups", {}))
    faults = _list(document.pop("faults", []), ("faults",))
    notes = _notes(document.pop("notes", {}))
    rows: dict[str, Any] = {"name": name, "notes": notes}
    for part, (shape, what) in _ROWS.items():
        tables = _list(document.pop(part, []), (part,))
        rows[part] = tuple(
            read_table(shape, table, (part, number), names, what=what) for number, table in enumerate(tables)
        )
    rows["faults"] = tuple(read_fault(table, ("faults", number), names) for number, table in enumerate(faults))
    known = [key.name for key in keys_of(Scenario).values() if key.attribute != "name"]
    for key in document:
        if key not in known:
            raise ScenarioError(f"unknown key {key!r}; {nearest(key, [*known, 'groups'])}", (key,))
    return read_table(Scenario, document, (), names, what="a scenario", **rows)


def _list(value: Any, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise ScenarioError(f"{place[0]!r} should be written as [[{place[0]}]], once for each", place)
    return value


def _notes(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ScenarioError("notes should be a table of texts", ("notes",))
    return value


class _Names:
    """Reads names: one in quotes or a list, with groups and ranges (`camp-1..5`) written out."""

    def __init__(self, groups: Any) -> None:
        self._groups: dict[str, tuple[str, ...]] = {}
        if not isinstance(groups, dict):
            raise ScenarioError("groups should be a table of lists of names", ("groups",))
        for name, members in groups.items():  # a group may use those before it
            self._groups[name] = self(members, ("groups", name))

    def __call__(self, value: Any, place: Place) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ScenarioError(f"{value!r} should be a name in quotes or a list of names", place)
        return tuple(dict.fromkeys(one for name in names for one in self._written_out(name, place)))

    def _written_out(self, name: str, place: Place) -> Sequence[str]:
        if name in self._groups:
            return self._groups[name]
        if match := _RANGE.fullmatch(name):
            group, first, last = match[1], int(match[2]), int(match[3])
            if not 0 < first <= last <= SCENARIO_MAILBOXES_MAX:
                raise ScenarioError(f"{name!r} is no range; write it as {group}-1..{max(first, last)}", place)
            return [f"{group}-{number}" for number in range(first, last + 1)]
        return [name]


def to_toml(scenario: Scenario) -> str:
    """The file that `parse` reads as an equal scenario (groups written out). Its name is the file's."""
    head = as_table(scenario, without={"name", "notes", "faults", *_ROWS})
    rows = {part: [as_table(row) for row in getattr(scenario, part)] for part in _ROWS}
    faults = [{"kind": kind_of(fault)} | as_table(fault) for fault in scenario.faults]
    parts = {"notes": dict(scenario.notes)} | rows | {"faults": faults}
    return tomli_w.dumps(head | {part: value for part, value in parts.items() if value}, multiline_strings=True)
