"""The day under attack, played in an hour: the whole day is among the scenarios that `make soak` plays."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from simulations.files import find
from simulations.play import play
from simulations.recording import Recording
from simulations.scenario import Behaviour, Scenario

FASTER = 24
"""Times go by so much faster …"""

MORE = 4
"""… and phones write so much faster, so that disks are filled as often in a life of a message, or nearly."""


def hastened(item: Any) -> Any:
    """The same with all its times divided."""
    times = {one.name: getattr(item, one.name) for one in fields(item) if one.name.endswith("_s")}
    times.pop("fsync_s", None)
    times.pop("clock_offset_s", None)
    return replace(item, **{name: time_s / FASTER for name, time_s in times.items() if time_s is not None})


def short_day() -> Scenario:
    day = find("siege")
    phones = [replace(hastened(one), messages_per_hour=one.messages_per_hour * MORE) for one in day.phones]
    return replace(
        hastened(day),
        mailboxes=[hastened(one) for one in day.mailboxes],
        phones=phones,
        faults=[hastened(one) for one in day.faults],
    )


@pytest.fixture(scope="module")
def recording() -> Recording:
    return play(short_day(), 1)


def test_everything_holds_that_must(recording: Recording) -> None:
    assert [verdict for verdict in recording.verdicts if not verdict.holds] == []
    assert recording.groups[-1] == 1


def test_it_is_a_siege(recording: Recording) -> None:
    """Room is made again and again, mailboxes differ by what each has let go, and they come to rest at last."""
    checks = {verdict.name: verdict.checks for verdict in recording.verdicts}
    assert checks["fair-eviction"] > 50
    assert checks["no-resurrection"] > 1000
    assert checks["silence"] > 0
    assert all(checks.values())
    assert max(recording.groups) > 1
    hostile = {Behaviour(one.behaviour) for one in recording.totals} - {Behaviour.HONEST}
    assert hostile == {Behaviour.LIES, Behaviour.REPLAYS, Behaviour.CRAMS, Behaviour.FLOODS}
