"""The model of networks that are too large to be played: it adds up, and it meets the node's bounds where they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.limits.replication import PEERS_MAX
from protocols.limits.sync import HINT_CONTENT_BYTES_MAX
from simulations.analytic import Plan, Row, analyse
from simulations.analytic.flows import flows_of
from simulations.analytic.plan import Network

PLANS = [
    Plan(2),
    Plan(25),
    Plan(1_000),
    Plan(1_000, lan_mailboxes=1),
    Plan(1_000, lan_mailboxes=1_000),
    Plan(5_000, share=0.1, branch=20),
    Plan(100_000, lan_mailboxes=40, branch=60, share=0.01),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_whatever_one_sends_another_receives(plan: Plan) -> None:
    flows = flows_of(plan, Network.of(plan))
    sent = sum(flow.mailboxes * flow.sent for flow in flows)
    assert sum(flow.mailboxes * flow.received for flow in flows) == pytest.approx(sent)
    told = sum(flow.mailboxes * flow.hints * flow.neighbours for flow in flows)
    assert sum(flow.mailboxes * flow.hints_heard for flow in flows) == pytest.approx(told)
    asked = sum(flow.mailboxes * flow.asked for flow in flows)
    assert sum(flow.mailboxes * flow.served for flow in flows) == pytest.approx(asked)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_is_kept_was_written_here_or_received_once(plan: Plan) -> None:
    network = Network.of(plan)
    for flow in flows_of(plan, network):
        own = 0.0 if flow.kind.startswith("internet") else plan.written_per_s
        assert flow.kept == pytest.approx(own + flow.received)
    assert sum(flow.mailboxes for flow in flows_of(plan, network)) == plan.mailboxes + sum(network.levels)


def by_kind(plan: Plan) -> dict[str, Row]:
    return {row.kind: row for row in analyse(plan)}


def broken(row: Row) -> set[str]:
    return {strain.what for strain in row.strains if strain.is_broken}


def test_a_tree_of_internet_mailboxes_grows_by_levels() -> None:
    assert Network.of(Plan(25)).levels == ()
    assert Network.of(Plan(50)).levels == (1,)
    assert Network.of(Plan(10_000)).levels == (4, 1)
    assert Network.of(Plan(10_000)).hops == 6


def test_a_lan_outgrows_the_peer_table() -> None:
    fits, grown = (by_kind(Plan(size, lan_mailboxes=size))["in a LAN"] for size in (PEERS_MAX + 1, PEERS_MAX + 2))
    assert "peer table" not in broken(fits)
    assert fits.neighbours == PEERS_MAX
    assert "peer table" in broken(grown)
    assert grown.all_hold_s > fits.all_hold_s


def test_a_quiet_mailbox_compares_no_more_often_in_a_large_lan() -> None:
    """Comparisons are made in turn."""
    small, large = (by_kind(Plan(size, lan_mailboxes=size))["in a LAN"] for size in (20, 200))
    assert large.comparisons_per_hour == pytest.approx(small.comparisons_per_hour)


def test_keeping_few_topics_relieves_the_lans_but_not_the_internet() -> None:
    plan = Plan(100_000)
    everything, little = by_kind(plan), by_kind(replace(plan, share=0.01))
    for kind in ("in a LAN", "gateway"):
        assert little[kind].storage_bytes < everything[kind].storage_bytes / 50
        assert little[kind].bytes_per_s < everything[kind].bytes_per_s
        assert "disk of 32 GB" in broken(everything[kind]) - broken(little[kind])
    assert little["internet 2"].storage_bytes == everything["internet 2"].storage_bytes


def test_messages_that_do_not_fit_into_hints_are_asked_for() -> None:
    plan = Plan(1_000, lan_mailboxes=1_000)
    told, asked = (by_kind(replace(plan, message_bytes=size))["in a LAN"] for size in (300, HINT_CONTENT_BYTES_MAX))
    assert told.sessions_per_hour == 0
    assert asked.sessions_per_hour > 1_000
    assert asked.all_hold_s > told.all_hold_s
    # More than fits into all the hints that a busy mailbox publishes.
    busy = by_kind(Plan(200_000))["internet 2"]
    assert busy.sessions_per_hour > 10 * by_kind(Plan(20_000))["internet 2"].sessions_per_hour


def test_all_costs_grow_with_the_network() -> None:
    sizes = (50, 200, 1_000, 10_000, 100_000)
    rows = [by_kind(Plan(size))["gateway"] for size in sizes]
    for name in ("bytes_per_s", "storage_bytes", "memory_bytes", "core_share", "all_hold_s", "hints_per_hour"):
        figures = [getattr(row, name) for row in rows]
        assert figures == sorted(figures), name


@pytest.mark.parametrize("plan", [Plan(1), Plan(50, branch=1), Plan(50, lan_mailboxes=0)], ids=str)
def test_impossible_plans_are_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="two"):
        analyse(plan)
