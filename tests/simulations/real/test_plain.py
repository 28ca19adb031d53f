"""What real plays decide without a real world: how a scenario is made faster, what is feasible, who held what."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from protocols.limits.simulation import REAL_SETTLE_MIN_S
from protocols.toy_answers import TopicAnswer
from simulations.real.clocks import WrongClock, set_error
from simulations.real.compare import compare
from simulations.real.feasible import feasible
from simulations.real.ledger import Key, Ledger
from simulations.real.observer import components
from simulations.real.speed import faster
from simulations.real.timeline import kind_of
from simulations.recording import MailboxTotals, MessageSpread, Recording
from simulations.scenario import (
    PRESETS,
    Behaviour,
    Churn,
    ClockChange,
    Cut,
    Lan,
    Mailboxes,
    Phones,
    Route,
    Scenario,
    Upgrade,
    Walk,
    WipeDisk,
)

DAY = Scenario(
    name="day",
    title="A day",
    duration_s=86_400,
    calm_from_s=60_000,
    settle_s=3_600,
    lans=(Lan("here"), Lan("there")),
    routes=(Route(("here", "there")),),
    mailboxes=(Mailboxes("a", "here", 2, starts_at_s=600), Mailboxes("b", "there", clock_drift_ppm=10)),
    phones=(
        Phones("p", "here", messages_per_hour=6, writes_from_s=60, writes_until_s=50_000, open_s=300, closed_s=600),
    ),
    faults=(
        Cut(600, ("here",), ("there",), for_s=1200),
        Churn(0, ("a",), for_s=6000, up_s=600, down_s=60),
        ClockChange(60, ("b",), step_s=3600, drift_ppm=5),
    ),
)


# --- faster ----------------------------------------------------------------------------------------------------------


def test_times_shrink_and_messages_stay() -> None:
    quick = faster(DAY, 60)
    assert (quick.duration_s, quick.calm_from_s, quick.settle_s) == (1440, 1000, 60)
    a, b = quick.mailboxes
    assert (a.starts_at_s, a.sync_interval_s, a.retention_s) == (10, 0.5, 10_080)
    (phones,) = quick.phones
    assert (phones.writes_from_s, phones.writes_until_s, phones.messages_per_hour) == (1, 50_000 / 60, 360)
    assert (phones.open_s, phones.closed_s) == (5, 10)
    cut, churn, clock = quick.faults
    assert cut == Cut(10, ("here",), ("there",), for_s=20)
    assert churn == Churn(0, ("a",), for_s=100, up_s=10, down_s=1)
    # By how much clocks are wrong is no time of the play; how fast they go wrong is.
    assert clock == ClockChange(1, ("b",), step_s=3600, drift_ppm=300)
    assert b.clock_drift_ppm == 600
    assert (quick.lans, quick.routes) == (DAY.lans, DAY.routes)


def test_what_never_ends_stays_so_and_bounds_hold() -> None:
    quick = faster(
        replace(
            DAY,
            settle_s=100,
            mailboxes=[Mailboxes("a", "here", retention_s=90, sync_interval_s=3)],
            phones=[Phones("p", "here")],
            faults=[Cut(0, ("here",), ("there",)), WipeDisk(60, ("a",), restart_after_s=6)],
        ),
        60,
    )
    assert quick.settle_s == REAL_SETTLE_MIN_S
    assert (quick.mailboxes[0].retention_s, quick.mailboxes[0].sync_interval_s) == (2, 0.1)
    assert quick.phones[0].writes_until_s == float("inf")
    assert quick.faults == [Cut(0, ("here",), ("there",)), WipeDisk(1, ("a",), restart_after_s=0.1)]
    assert faster(DAY, 1) is DAY
    with pytest.raises(ValueError, match="above 0"):
        faster(DAY, 0)


# --- feasible --------------------------------------------------------------------------------------------------------

HOUR = faster(replace(DAY, faults=[], mailboxes=[Mailboxes("a", "here", 2), Mailboxes("b", "there")]), 60)


def test_an_ordinary_scenario_is_feasible() -> None:
    assert feasible(HOUR) == []


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (DAY, "play it at least 24.0 times faster"),
        (replace(HOUR, mailboxes=[Mailboxes("a", "here", 31)]), "31 mailboxes are more"),
        (replace(HOUR, phones=[Phones("p", "here", 201)]), "201 phones are more"),
        (replace(HOUR, lans=[Lan("here", PRESETS["lora"]), Lan("there")]), "LAN here carries 100 bytes/s"),
        (replace(HOUR, mailboxes=[Mailboxes("a", "here", sync_interval_s=0.01)]), "no sync interval of 0.01 s"),
        (replace(HOUR, mailboxes=[Mailboxes("a", "here", retention_s=1.5)]), "no retention of 1.5 s"),
        (replace(HOUR, mailboxes=[Mailboxes("a", "here", storage_limit_bytes=1)]), "no storage limit below 64 MiB"),
        (replace(HOUR, mailboxes=[Mailboxes("a", "here", behaviour=Behaviour.LIES)]), "no real program that lies"),
        (HOUR.with_faults([Upgrade(0, ("a",), 1, 1, 2)]), "one version"),
        (
            replace(HOUR, mailboxes=[Mailboxes("a", "here", 2), Mailboxes("b", "there", peers=["a"])]).with_faults(
                [Walk(1, ("a-2",), "there")]
            ),
            "a-2 walks to another LAN, where b can't find it",
        ),
    ],
)
def test_what_is_not_feasible_is_named(scenario: Scenario, reason: str) -> None:
    assert [found for found in feasible(scenario) if reason in found], feasible(scenario)


def test_a_wrong_clock_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_error(file, 3600.5)
    clock = WrongClock(file)
    assert 3599 < clock.now_s() - time.time() < 3601
    set_error(file, -60)
    assert -61 < clock.now_s() - time.time() < -59


# --- the ledger ------------------------------------------------------------------------------------------------------


def answer(**logs: list[int]) -> dict[str, TopicAnswer]:
    return {"t": TopicAnswer({log: dict.fromkeys(seqs, b"x") for log, seqs in logs.items()}, {})}


def test_the_ledger_knows_who_held_what_when() -> None:
    ledger = Ledger(retention_s=100)
    keys = [Key("t", "p", seq) for seq in range(3)]
    for key in keys:
        ledger.wrote(key, 1.0)
    ledger.acknowledged(keys[:2], "a", 2.0)
    ledger.acknowledged(keys[:2], "b", 3.0)
    ledger.seen("a", answer(p=[0, 1], foreign=[7]), 4.0, whole=False)
    ledger.seen("b", answer(p=[1]), 5.0, whole=False)
    assert ledger.held_share(["a", "b"], 5.0) == 0.75
    assert ledger.held_share([], 5.0) == ledger.held_share(["a"], 1.5) == 1.0, "nobody, and nothing yet"
    assert [spread.held_s for spread in ledger.spreads()] == [[4.0], [4.0, 5.0], []]
    assert ledger.spreads()[0] == MessageSpread(1.0, 2.0, [4.0])
    assert [key for key, _ in ledger.alive(50.0)] == keys[:2]
    assert not list(ledger.alive(102.0))


def test_the_ledger_asks_only_for_what_may_be_new() -> None:
    ledger = Ledger(retention_s=100)
    ledger.seen("a", answer(p=[0, 1, 3], q=[2]), 1.0, whole=False)
    assert ledger.heights("a", ["t", "u"]) == {"t": {"p": 1}, "u": {}}
    ledger.seen("a", answer(p=[3]), 2.0, whole=True)
    assert ledger.heights("a", ["t"]) == {"t": {}}


def test_the_ledger_catches_what_is_served_too_late_and_forgives_what_was_wiped() -> None:
    ledger = Ledger(retention_s=100)
    key = Key("t", "p", 0)
    ledger.wrote(key, 1.0)
    ledger.acknowledged([key], "a", 2.0)
    ledger.seen("a", answer(p=[0]), 101.0, whole=True)
    assert not ledger.late
    ledger.seen("a", answer(p=[0]), 110.0, whole=True)
    assert ledger.late == {("a", key): 110.0}
    ledger.wiped("a")
    assert ledger.messages[key].acknowledged_by == set()
    assert ledger.held["a"] == set()


# --- helpers ---------------------------------------------------------------------------------------------------------


def test_components_are_joined_over_others() -> None:
    pairs = [("a", "b"), ("b", "c"), ("d", "x")]
    assert components(["a", "b", "c", "d", "e"], pairs) == [["a", "b", "c"], ["d"], ["e"]]


def test_faults_are_named_after_their_kind() -> None:
    assert kind_of(Cut(0, (), ())) == "cut"
    assert kind_of(WipeDisk(0, ())) == "wipe-disk"


def test_two_runs_of_one_scenario_are_put_side_by_side() -> None:
    spreads = [MessageSpread(0.0, 0.1, [0.1, 2.0])]
    totals = [MailboxTotals("a", "honest", 4, 9, 10, 20, 1, 0), MailboxTotals("b", "honest", 4, 9, 20, 10, 1, 0)]
    one = Recording("s", "S", 1, "simulated", 60, 1, "", traffic_bytes=[100, 50], spreads=spreads, totals=totals)
    other = replace(one, world="real", traffic_bytes=[300], spreads=[MessageSpread(0.0, 0.1, [0.1, 6.0])])
    rows = {row.what: row for row in compare(one, other)}
    assert rows["Bytes between mailboxes"].ratio == 2.0
    assert rows["Of them in sync sessions"].texts() == ("Of them in sync sessions", "30 B", "30 B", "1.00")
    assert rows["Median until all hold a message"].texts()[1:] == ("2 s", "6 s", "3.00")
    assert rows["In step again after the last fault"].texts()[1:] == ("–", "–", "–")
    with pytest.raises(ValueError, match="two scenarios"):
        compare(one, replace(other, scenario="another"))
