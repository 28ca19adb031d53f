"""What makes a scenario playable: names that exist, times that fit, bounds that the node has.

The same holds for scenarios from files and for drawn and minimised ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from math import inf
from typing import Any, Final

from protocols.limits.data import BLOB_BYTES_MAX, RETENTION_MAX_S, RETENTION_MIN_S
from protocols.limits.simulation import SCENARIO_DURATION_MAX_S, SCENARIO_MAILBOXES_MAX, SCENARIO_PHONES_MAX
from protocols.limits.tools import SYNC_INTERVAL_MAX_S, SYNC_INTERVAL_MIN_S
from protocols.model import check_id
from simulations.scenario import (
    Behaviour,
    Churn,
    Clog,
    Crash,
    Cut,
    DiskFull,
    Fault,
    Heal,
    Link,
    Mailboxes,
    Pause,
    Phones,
    Reset,
    Scenario,
    Upgrade,
    Walk,
    WipeDisk,
)
from simulations.schema import ScenarioError, kind_of, nearest
from simulations.toml_lines import Place
from simulations.units import duration_text

__all__ = ["POLICIES", "check", "end_of", "members_of", "names_of", "targets_of"]

POLICIES: Final = ("round-robin", "each")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")


def names_of(group: Mailboxes | Phones) -> list[str]:
    """The names of a group's members."""
    return [group.name] if group.count == 1 else [f"{group.name}-{number}" for number in range(1, group.count + 1)]


def targets_of(fault: Fault) -> dict[str, Sequence[str]]:
    """The names that a fault uses, by key."""
    return {key: getattr(fault, key) for key in ("who", "a", "b") if hasattr(fault, key)}


def members_of(scenario: Scenario, names: Sequence[str]) -> list[str]:
    """The single machines that `names` stand for: groups and LANs written out, each once."""
    found: dict[str, None] = {}
    for part in (scenario.mailboxes, scenario.phones):
        for group in part:
            for member in names_of(group):
                if member in names or group.name in names or group.lan in names:
                    found[member] = None
    return list(found)


def end_of(scenario: Scenario, fault: Fault) -> float:
    """When a fault is over, as far as it says so itself."""
    match fault:
        case Cut() | Clog() | Pause() | DiskFull() | Churn():
            return fault.at_s + (fault.for_s or 0.0)
        case Crash() | WipeDisk():
            return fault.at_s + (fault.restart_after_s or 0.0)
        case Upgrade():
            return fault.at_s + fault.every_s * (len(members_of(scenario, fault.who)) - 1)
    return fault.at_s


def check(scenario: Scenario) -> None:
    """Raises ScenarioError, with the place in the file, for the first thing that can't be played."""
    _check_times(scenario)
    _check_names(scenario)
    _check_lans(scenario)
    for number, mailboxes in enumerate(scenario.mailboxes):
        _check_mailboxes(scenario, mailboxes, ("mailboxes", number))
    for number, phones in enumerate(scenario.phones):
        _check_phones(phones, ("phones", number))
    for number, fault in enumerate(scenario.faults):
        _check_fault(scenario, fault, ("faults", number))


def _within(low: float, value: float, high: float, place: Place, shown: Any = str) -> None:
    if not low <= value <= high:
        raise ScenarioError(f"{shown(value)} is not between {shown(low)} and {shown(high)}", place)


def _check_times(scenario: Scenario) -> None:
    _within(1.0, scenario.duration_s, SCENARIO_DURATION_MAX_S, ("duration",), duration_text)
    _within(0.0, scenario.calm_from_s, scenario.duration_s, ("calm-from",), duration_text)
    _within(0.0, scenario.settle_s, scenario.duration_s, ("settle",), duration_text)
    settled_s = scenario.calm_from_s + scenario.settle_s
    if settled_s > scenario.duration_s:
        raise ScenarioError(
            f"calm-from and settle make {duration_text(settled_s)}, more than the duration; make that longer",
            ("settle",),
        )


def _check_names(scenario: Scenario) -> None:
    seen: set[str] = set()
    for part in ("lans", "mailboxes", "phones"):
        for number, item in enumerate(getattr(scenario, part)):
            if not _NAME.fullmatch(item.name):
                raise ScenarioError(
                    f"{item.name!r} is no name; use up to 64 of A-Z, a-z, 0-9, - and _", (part, number, "name")
                )
            names = {item.name}
            if part != "lans":
                _within(1, item.count, SCENARIO_MAILBOXES_MAX, (part, number, "count"))
                names.update(names_of(item))
            if twice := sorted(seen & names):
                raise ScenarioError(f"the name {twice[0]!r} is taken already; choose another", (part, number, "name"))
            seen |= names
    for part, most in (("mailboxes", SCENARIO_MAILBOXES_MAX), ("phones", SCENARIO_PHONES_MAX)):
        if sum(item.count for item in getattr(scenario, part)) > most:
            raise ScenarioError(f"more than {most} {part}; make a count smaller", (part, 0))
    if not any(mailboxes.behaviour is Behaviour.HONEST for mailboxes in scenario.mailboxes):
        raise ScenarioError("no honest mailbox is there; add [[mailboxes]]", ("mailboxes",))


def _check_lans(scenario: Scenario) -> None:
    lans = [lan.name for lan in scenario.lans]
    for number, lan in enumerate(scenario.lans):
        _check_link(lan.link, ("lans", number, "link"))
    ways = set()
    for number, route in enumerate(scenario.routes):
        place: Place = ("routes", number, "lans")
        if len(set(route.lans)) != 2:
            raise ScenarioError("a route joins two different LANs", place)
        for lan_name in route.lans:
            _check_known(lan_name, lans, "LAN", place)
        if (way := frozenset(route.lans)) in ways:
            raise ScenarioError("there is a route between these LANs already; remove one", place)
        ways.add(way)
        _check_link(route.link, ("routes", number, "link"))
    for part in ("mailboxes", "phones"):
        for number, item in enumerate(getattr(scenario, part)):
            _check_known(item.lan, lans, "LAN", (part, number, "lan"))


def _check_link(link: Link, place: Place) -> None:
    for name in ("latency_s", "jitter_s", "bad_s", "good_s"):
        if not getattr(link, name) >= 0:
            raise ScenarioError(f"a link's {name.removesuffix('_s')} can't be negative", place)
    if link.bandwidth_bytes_per_s < 1 or link.bandwidth_bytes_per_s % 1:
        raise ScenarioError("a link's bandwidth is a whole number of bytes each second, at least one", place)
    for name in ("break_chance", "multicast_loss"):
        if not 0 <= getattr(link, name) <= 1:
            raise ScenarioError(f"a link's {name.replace('_', '-')} is a share between 0 and 1", place)


def _check_known(name: str, known: Collection[str], what: str, place: Place) -> None:
    if name not in known:
        raise ScenarioError(f"no {what} is called {name!r}; {nearest(name, known)}", place)


def _check_mailboxes(scenario: Scenario, mailboxes: Mailboxes, place: Place) -> None:
    known = [name for other in scenario.mailboxes for name in (other.name, *names_of(other))]
    for name in mailboxes.peers:
        _check_known(name, known, "mailbox", (*place, "peers"))
    shown = duration_text
    _within(SYNC_INTERVAL_MIN_S, mailboxes.sync_interval_s, SYNC_INTERVAL_MAX_S, (*place, "sync-interval"), shown)
    _within(RETENTION_MIN_S, mailboxes.retention_s, RETENTION_MAX_S, (*place, "retention"), shown)
    if mailboxes.retention_s % 1:
        raise ScenarioError("a retention is a whole number of seconds", (*place, "retention"))
    if mailboxes.storage_limit_bytes is not None and mailboxes.storage_limit_bytes < 1:
        raise ScenarioError("a storage limit is at least one byte", (*place, "storage-limit"))
    _within(0, mailboxes.starts_at_s, scenario.calm_from_s, (*place, "starts-at"), shown)
    _within(0, mailboxes.fsync_s, 3600, (*place, "fsync"), shown)
    day_s = 86_400.0
    _within(-365 * day_s, mailboxes.clock_offset_s, 365 * day_s, (*place, "clock-offset"), shown)
    _within(-1e6, mailboxes.clock_drift_ppm, 1e6, (*place, "clock-drift-ppm"))


def _check_phones(phones: Phones, place: Place) -> None:
    if phones.policy not in POLICIES:
        raise ScenarioError(f"unknown policy {phones.policy!r}; {nearest(phones.policy, POLICIES)}", (*place, "policy"))
    if not phones.topics:
        raise ScenarioError("phones need a topic", (*place, "topics"))
    for topic in phones.topics:
        try:
            check_id("topic", topic)
        except ValueError as error:
            raise ScenarioError(str(error), (*place, "topics")) from None
    _within(0, phones.messages_per_hour, 1e6, (*place, "messages-per-hour"))
    _within(1, phones.message_bytes, BLOB_BYTES_MAX, (*place, "message-size"))
    if not (phones.open_s > 0 and phones.closed_s >= 0):
        raise ScenarioError("an app is open for longer than nothing", (*place, "open"))
    if phones.open_s < inf and not phones.closed_s:
        raise ScenarioError("an app that closes is closed for some time; give `closed`, too", (*place, "closed"))
    if not 0 <= phones.writes_from_s <= phones.writes_until_s:
        raise ScenarioError("phones stop writing before they begin", (*place, "writes-until"))


def _check_fault(scenario: Scenario, fault: Fault, place: Place) -> None:
    lans = [lan.name for lan in scenario.lans]
    known = set(_names_for(scenario, fault))
    for key, names in targets_of(fault).items():
        if not names:
            raise ScenarioError(f"{kind_of(fault)} needs at least one name", (*place, key))
        for name in names:
            _check_known(name, known, "such machine", (*place, key))
    if isinstance(fault, Walk):
        _check_known(fault.to_lan, lans, "LAN", (*place, "to-lan"))
    _check_numbers(fault, place)
    _within(0, fault.at_s, scenario.calm_from_s, (*place, "at"), duration_text)
    if (end_s := end_of(scenario, fault)) > scenario.calm_from_s:
        raise ScenarioError(
            f"this {kind_of(fault)} is over at {duration_text(end_s)}, after calm-from; "
            "make it shorter or calm-from later",
            place,
        )
    if isinstance(fault, Cut) and fault.for_s is None:
        heals = (other for other in scenario.faults if isinstance(other, Heal))
        if not any(heal.at_s >= fault.at_s for heal in heals):
            raise ScenarioError("this cut is never undone; give it `for`, or add a heal", place)


def _names_for(scenario: Scenario, fault: Fault) -> Iterator[str]:
    """What a fault can happen to."""
    parts: list[Sequence[Mailboxes] | Sequence[Phones]] = [scenario.mailboxes]
    if isinstance(fault, Cut | Clog | Reset | Pause | Walk):
        parts.append(scenario.phones)
    for part in parts:
        for group in part:
            yield group.name
            yield from names_of(group)
    if isinstance(fault, Cut | Clog):
        yield from (lan.name for lan in scenario.lans)


def _check_numbers(fault: Fault, place: Place) -> None:
    for attribute in ("for_s", "restart_after_s", "every_s"):
        if (value := getattr(fault, attribute, None)) is not None and value < 0:
            key = attribute.removesuffix("_s").replace("_", "-")
            raise ScenarioError("a time can't be negative", (*place, key))
    if isinstance(fault, Churn) and not (fault.up_s > 0 and fault.down_s > 0):
        raise ScenarioError("up and down take longer than nothing", place)
    if isinstance(fault, Upgrade):
        for key in ("from-version", "to-version"):
            _within(1, getattr(fault, key.replace("-", "_")), 255, (*place, key))
