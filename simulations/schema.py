"""How the classes of `simulations.scenario` stand in a file: each attribute has a key without its unit and with
hyphens, and its value is written with the unit (`for_s=90.0` is `for = "90s"`).

What is not given has the default of the class, so that a new attribute there is a new key here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, get_args, get_type_hints

from simulations import units
from simulations.scenario import PRESETS, Fault, Link
from simulations.toml_lines import Place

__all__ = [
    "FAULT_KINDS",
    "Key",
    "ScenarioError",
    "as_table",
    "keys_of",
    "kind_of",
    "nearest",
    "read_fault",
    "read_table",
]

T = TypeVar("T")

_NEVER: Final = "never"
_NAMED_MAX: Final = 20  # how many names an error lists
_UNITS: Final = (("_bytes_per_s", "rate"), ("_bytes", "size"), ("_s", "duration"))
_KEYS: Final = {"message_bytes": "message-size"}  # without the unit these would say something else
_PLAIN_NAMES: Final = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes"}


class ScenarioError(ValueError):
    """A scenario can't be played. `place` says where in its file the fault is, the text what to do about it."""

    def __init__(self, message: str, place: Place = ()) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table. `kind` is `duration`, `size`, `rate`, `names`, `link`, or a Python type; None is a value
    besides if `is_optional`."""

    name: str
    attribute: str
    kind: Any
    is_optional: bool
    is_required: bool
    default: Any


def _fault_kind(fault: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", fault.__name__).lower()


FAULT_KINDS: Final[Mapping[str, type[Fault]]] = {_fault_kind(fault): fault for fault in get_args(Fault)}
"""What a fault's `kind` can be."""


def kind_of(fault: Fault) -> str:
    """A fault's `kind`: its class in lower case with hyphens."""
    return _fault_kind(type(fault))


def keys_of(shape: type) -> Mapping[str, Key]:
    """The keys of a class's table, in its order, by name."""
    hints = get_type_hints(shape)
    found = {}
    for field in fields(shape):
        hint, options = hints[field.name], get_args(hints[field.name])
        is_optional = isinstance(hint, UnionType) and NoneType in options
        if is_optional:
            (hint,) = (option for option in options if option is not NoneType)
        name, kind = field.name, _kind(hint)
        for suffix, unit in _UNITS:
            if name.endswith(suffix):
                name, kind = name.removesuffix(suffix), unit
                break
        name = _KEYS.get(field.name, name).replace("_", "-")
        is_required = field.default is MISSING and field.default_factory is MISSING
        default = None if field.default is MISSING else field.default
        found[name] = Key(name, field.name, kind, is_optional, is_required, default)
    return found


def _kind(hint: Any) -> Any:
    if hint is Link:
        return "link"
    return hint if isinstance(hint, type) else "names"


# --- reading -------------------------------------------------------------------------------------------------------


def nearest(word: str, known: Collection[str]) -> str:
    """What stands behind "unknown": the nearest known word, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    first = sorted(known)[:_NAMED_MAX]
    return f"known are {', '.join(first) or 'none'}{' …' if len(known) > len(first) else ''}"


def read_fault(table: Any, place: Place, names: Callable[[Any, Place], Any]) -> Fault:
    """A fault from its table; see `read_table`."""
    _check_is_table(table, place)
    if "kind" not in table:
        raise ScenarioError(f"a fault needs a kind: one of {', '.join(FAULT_KINDS)}", place)
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in FAULT_KINDS:
        raise ScenarioError(f"unknown kind of fault {kind!r}; {nearest(str(kind), FAULT_KINDS)}", (*place, "kind"))
    rest = {key: value for key, value in table.items() if key != "kind"}
    fault: Fault = read_table(FAULT_KINDS[kind], rest, place, names, what=kind)
    return fault


def read_table(
    shape: type[T], table: Any, place: Place, names: Callable[[Any, Place], Any], *, what: str, **given: Any
) -> T:
    """An instance of `shape` from a TOML table. `names` reads a list of names, `what` is what the table is called in
    errors, `given` are attributes that do not stand in it. Raises ScenarioError."""
    _check_is_table(table, place)
    keys = {name: key for name, key in keys_of(shape).items() if key.attribute not in given}
    values = dict(given)
    for name, value in table.items():
        if name not in keys:
            raise ScenarioError(f"unknown key {name!r} for {what}; {nearest(name, keys)}", (*place, name))
        values[keys[name].attribute] = _read_value(keys[name], value, (*place, name), names)
    missing = [name for name, key in keys.items() if key.is_required and key.attribute not in values]
    if missing:
        raise ScenarioError(f"{what} needs {' and '.join(map(repr, missing))}", place)
    return shape(**values)


def _check_is_table(value: Any, place: Place) -> None:
    if not isinstance(value, dict):
        raise ScenarioError(f"{value!r} should be a table", place)


def _read_value(key: Key, value: Any, place: Place, names: Callable[[Any, Place], Any]) -> Any:
    if key.is_optional and value == _NEVER and key.kind == "duration":
        return None
    match key.kind:
        case "duration":
            return _parse(units.parse_duration_s, value, place, "10m")
        case "size":
            return _parse(units.parse_size_bytes, value, place, "300B")
        case "rate":
            return _parse(units.parse_rate_bytes_per_s, value, place, "120kB/s")
        case "names":
            return names(value, place)
        case "link":
            return _read_link(value, place)
    return _read_plain(key.kind, value, place)


def _read_plain(kind: Any, value: Any, place: Place) -> Any:
    if issubclass(kind, StrEnum):
        choices = [str(choice) for choice in kind]
        if value not in choices:
            raise ScenarioError(f"unknown {place[-1]} {value!r}; {nearest(str(value), choices)}", place)
        return kind(value)
    wanted = int | float if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise ScenarioError(f"{value!r} should be {_PLAIN_NAMES[kind]}", place)
    return kind(value)


def _parse(parse: Callable[[str], Any], value: Any, place: Place, example: str) -> Any:
    if not isinstance(value, str):
        raise ScenarioError(f'{value!r} should be a text with a unit, for example "{example}"', place)
    try:
        return parse(value)
    except ValueError as error:
        raise ScenarioError(str(error), place) from None


def _read_link(value: Any, place: Place) -> Link:
    """A preset's name, or a table with what differs from a preset (or from the defaults)."""
    if isinstance(value, str):
        return _preset(value, place)
    if not isinstance(value, dict):
        raise ScenarioError(f"{value!r} should be a preset's name ({', '.join(PRESETS)}) or a table", place)
    rest = dict(value)
    base = _preset(rest.pop("preset"), (*place, "preset")) if "preset" in rest else Link()
    given = read_table(Link, rest, place, lambda *_: (), what="a link")
    changed = {keys_of(Link)[name].attribute for name in rest}
    return Link(**{field.name: getattr(given if field.name in changed else base, field.name) for field in fields(Link)})


def _preset(name: Any, place: Place) -> Link:
    if not isinstance(name, str) or name not in PRESETS:
        raise ScenarioError(f"unknown kind of link {name!r}; {nearest(str(name), PRESETS)}", place)
    return PRESETS[name]


# --- writing -------------------------------------------------------------------------------------------------------


def as_table(value: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """What `read_table` reads as an equal value: plain TOML values, defaults left out."""
    table = {}
    for name, key in keys_of(type(value)).items():
        held = getattr(value, key.attribute)
        if key.attribute not in without and (key.is_required or held != key.default):
            table[name] = write_value(key, held)
    return table


def write_value(key: Key, value: Any) -> Any:
    """How a key's value stands in a file."""
    if value is None:
        return _NEVER
    match key.kind:
        case "duration":
            return units.duration_text(value)
        case "size":
            return units.size_text(value)
        case "rate":
            return units.rate_text(value)
        case "names":
            return value[0] if len(value) == 1 else list(value)
        case "link":
            return _write_link(value)
    return str(value) if issubclass(key.kind, StrEnum) else value


def _write_link(link: Link) -> str | dict[str, Any]:
    """The shortest: a preset's name, or the preset with the fewest differences."""
    shortest = as_table(link)
    for name, preset in PRESETS.items():
        if link == preset:
            return name
        table = {"preset": name} | {
            key.name: write_value(key, getattr(link, key.attribute))
            for key in keys_of(Link).values()
            if getattr(link, key.attribute) != getattr(preset, key.attribute)
        }
        if len(table) < len(shortest):
            shortest = table
    return shortest
