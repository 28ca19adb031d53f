"""Who is known, who is not any more, and by what a client is counted."""

from __future__ import annotations

import pytest

from node.http.standing import Acquaintances, Standing, client_key
from protocols.limits.shedding import KNOWN_FORGET_S, KNOWN_SLOT_S, KNOWN_SLOTS_MIN, PENALTY_HALF_LIFE_S, PENALTY_MAX


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("::1", "::2", False),
        ("not an address", "another", False),
    ],
)
def test_clients_are_counted_by_address_and_by_network(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) is same


def met(client: str = "a", *, until_s: float = KNOWN_SLOTS_MIN * KNOWN_SLOT_S) -> Acquaintances:
    acquaintances = Acquaintances()
    now_s = 0.0
    while now_s < until_s:
        acquaintances.behaved(client, now_s)
        now_s += 2.5
    return acquaintances


def test_a_minute_of_polling_makes_a_client_known_and_a_burst_does_not() -> None:
    known = met()
    assert (known.standing("a", 61), known.standing("b", 61)) == (Standing.KNOWN, Standing.STRANGER)
    burst = Acquaintances()
    for _ in range(10_000):
        burst.behaved("a", 5.0)
    assert burst.standing("a", 6) is Standing.STRANGER


def test_known_ones_are_forgotten_after_a_day() -> None:
    known = met()
    assert known.standing("a", 60 + KNOWN_FORGET_S - 10) is Standing.KNOWN
    assert met().standing("a", 60 + KNOWN_FORGET_S + 10) is Standing.STRANGER


def test_penalties_make_a_stranger_and_decay() -> None:
    known = met()
    for _ in range(int(PENALTY_MAX) + 2):
        known.misbehaved("a", 60.0)
    assert known.standing("a", 60.0) is Standing.STRANGER
    assert known.standing("a", 60.0 + PENALTY_HALF_LIFE_S) is Standing.KNOWN


def test_a_paired_devices_address_is_known_at_once() -> None:
    acquaintances = Acquaintances()
    acquaintances.vouched("a", 0.0)
    assert acquaintances.standing("a", 1.0) is Standing.KNOWN


def test_a_flood_of_addresses_pushes_out_none_that_is_known() -> None:
    acquaintances = Acquaintances(clients_max=100)
    for client in range(10):
        acquaintances.vouched(f"known {client}", 0.0)
    for client in range(10_000):
        acquaintances.behaved(f"stranger {client}", 1.0)
        acquaintances.misbehaved(f"stranger {client}", 1.0)
    assert (len(acquaintances), acquaintances.known) == (100, 10)
    assert acquaintances.standing("known 3", 2.0) is Standing.KNOWN
