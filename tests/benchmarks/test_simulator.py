"""How much simulated time passes in a minute of one core. Prints figures; asserts nothing about time.

Each world is played for as long as is required of a minute, and measured in the processor's time, so that other
processes on the machine count for little.
"""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from simulations.play import play
from simulations.recording import Glimpse
from simulations.scenario import PRESETS, Lan, Mailboxes, Phones, Route, Scenario

pytestmark = pytest.mark.benchmark

_HOUR_S = 3600.0
_INTERVAL_S = 300.0


def ordinary(lans: int, per_lan: int, *, hours: float, messages_per_hour: float, phones: int) -> Scenario:
    """LANs in a row, one mailbox of each knowing one of the LAN before; phones that are looked at for two minutes every
    half hour. Hints bring the messages; mailboxes compare every five minutes."""
    names = [f"lan-{number}" for number in range(lans)]
    mailboxes: list[Mailboxes] = []
    for number, name in enumerate(names):
        peers = [f"gate-{number - 1}"] if number else []
        mailboxes.append(Mailboxes(f"gate-{number}", name, peers=peers, sync_interval_s=_INTERVAL_S))
        mailboxes.append(Mailboxes(f"box-{number}", name, count=per_lan - 1, sync_interval_s=_INTERVAL_S))
    return Scenario(
        name="ordinary",
        title="Ordinary traffic",
        duration_s=hours * _HOUR_S,
        calm_from_s=hours * _HOUR_S / 2,
        # Where a hint is lost in a crowd that is calm, a comparison makes up for it within eight intervals.
        settle_s=max(hours * _HOUR_S / 4, 8 * _INTERVAL_S),
        lans=[Lan(name, PRESETS["ethernet"]) for name in names],
        mailboxes=mailboxes,
        phones=[
            Phones(
                f"phone-{number}",
                names[number * lans // phones],
                messages_per_hour=messages_per_hour / phones,
                open_s=120,
                closed_s=1680,
            )
            for number in range(phones)
        ],
        routes=[Route((a, b)) for a, b in pairwise(names)],
    )


@pytest.mark.parametrize(
    ("lans", "per_lan", "hours"), [(5, 10, 72.0), (10, 20, 12.0), (50, 20, 2.0)], ids=["50", "200", "1000"]
)
def test_simulated_time_in_a_minute_of_one_core(
    lans: int, per_lan: int, hours: float, capsys: pytest.CaptureFixture[str]
) -> None:
    at: list[tuple[float, float]] = []

    def watch(glimpse: Glimpse) -> None:
        at.append((glimpse.at_s, time.process_time() - begun_s))

    begun_s = time.process_time()
    recording = play(ordinary(lans, per_lan, hours=hours, messages_per_hour=6, phones=5), 1, watch=watch)
    cpu_s = time.process_time() - begun_s
    sessions = sum(one.sessions for one in recording.totals) // 2
    with capsys.disabled():
        print(
            f"\n{lans * per_lan} mailboxes: {hours:.0f} h in {cpu_s:.1f} s, {60 * hours / cpu_s:.1f} h in a minute of"
            f" CPU ({hours:.0f} h are required); the first {at[0][0]:.0f} s of it took {at[0][1]:.1f} s; "
            f"{len(recording.spreads)} messages, {sessions} sessions"
        )
    assert recording.passed, [verdict.counterexample for verdict in recording.verdicts if not verdict.holds]
