"""What of a scenario can be played for real on one machine, and what can't and why."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.limits.data import RETENTION_MAX_S, RETENTION_MIN_S
from protocols.limits.simulation import (
    REAL_BANDWIDTH_MIN_BYTES_PER_S,
    REAL_DURATION_MAX_S,
    REAL_MAILBOXES_MAX,
    REAL_PHONES_MAX,
)
from protocols.limits.tools import STORAGE_LIMIT_MIN_BYTES, SYNC_INTERVAL_MAX_S, SYNC_INTERVAL_MIN_S
from simulations.checking import members_of
from simulations.scenario import Behaviour, Mailboxes, Scenario, Upgrade, Walk

__all__ = ["feasible"]


def feasible(scenario: Scenario) -> list[str]:
    """Why `scenario` can't be played on real processes: one sentence for each reason, none if it can be.

    It says nothing about this machine's rights; `why_no_namespaces` does."""
    return list(dict.fromkeys([*_too_much(scenario), *_nobody_to_play(scenario)]))


def _too_much(scenario: Scenario) -> Iterator[str]:
    mailboxes = sum(group.count for group in scenario.mailboxes)
    phones = sum(group.count for group in scenario.phones)
    if mailboxes > REAL_MAILBOXES_MAX:
        yield f"{mailboxes} mailboxes are more processes than one machine takes (at most {REAL_MAILBOXES_MAX})"
    if phones > REAL_PHONES_MAX:
        yield f"{phones} phones are more than one machine plays in time (at most {REAL_PHONES_MAX})"
    if scenario.duration_s > REAL_DURATION_MAX_S:
        need = scenario.duration_s / REAL_DURATION_MAX_S
        yield f"it would take {scenario.duration_s / 60:.0f} real minutes; play it at least {need:.1f} times faster"
    for name, link in [
        *((f"LAN {lan.name}", lan.link) for lan in scenario.lans),
        *((f"the route between {' and '.join(route.lans)}", route.link) for route in scenario.routes),
    ]:
        if link.bandwidth_bytes_per_s < REAL_BANDWIDTH_MIN_BYTES_PER_S:
            yield (
                f"{name} carries {link.bandwidth_bytes_per_s:g} bytes/s; "
                f"below {REAL_BANDWIDTH_MIN_BYTES_PER_S:g} TCP only repeats itself"
            )
    for group in scenario.mailboxes:
        yield from _not_to_be_set(group)


def _not_to_be_set(group: Mailboxes) -> Iterator[str]:
    if not SYNC_INTERVAL_MIN_S <= group.sync_interval_s <= SYNC_INTERVAL_MAX_S:
        yield f"{group.name}: a mailbox takes no sync interval of {group.sync_interval_s:g} s"
    if not RETENTION_MIN_S <= group.retention_s <= RETENTION_MAX_S or group.retention_s % 1:
        yield f"{group.name}: a mailbox takes no retention of {group.retention_s:g} s"
    if group.storage_limit_bytes is not None and group.storage_limit_bytes < STORAGE_LIMIT_MIN_BYTES:
        yield f"{group.name}: a mailbox takes no storage limit below {STORAGE_LIMIT_MIN_BYTES >> 20} MiB"


def _nobody_to_play(scenario: Scenario) -> Iterator[str]:
    for group in scenario.mailboxes:
        if group.behaviour is not Behaviour.HONEST:
            yield f"{group.name}: there is no real program that {group.behaviour.value} as the simulated one does"
    walkers = {name for fault in scenario.faults if isinstance(fault, Walk) for name in members_of(scenario, fault.who)}
    for group in scenario.mailboxes:
        for peer in sorted(walkers.intersection(members_of(scenario, group.peers))):
            yield f"{peer} walks to another LAN, where {group.name} can't find it at the address it was given"
    if any(isinstance(fault, Upgrade) for fault in scenario.faults):
        yield "upgrades: the installed program speaks one version of the sync protocol"
