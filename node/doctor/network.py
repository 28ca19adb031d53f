"""What the look at the network means: each function judges one thing, and says what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from node.doctor.air import Air, Near
from node.doctor.findings import Finding, good, note, problem, skipped
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import SYNC_VERSION_MAX
from protocols.limits.tools import DOCTOR_CLOCK_OFF_S
from protocols.model import MailboxId
from protocols.reach import Outcome

__all__ = [
    "check_clocks",
    "check_firewall",
    "check_identity",
    "check_interfaces",
    "check_isolation",
    "check_multicast",
    "check_neighbours",
    "check_protocol",
]


def check_interfaces(air: Air) -> Finding:
    """Whether this machine has a network at all."""
    links = [link for link in air.network.links if not link.is_loopback]
    if not links:
        return problem(
            "network",
            "this machine has no network",
            "join a WLAN or plug in a cable; until then nobody finds the mailbox",
        )
    shown = ", ".join(f"{link.name} ({', '.join(str(i.ip) for i in link.interfaces)})" for link in links)
    return good("network", shown)


def check_multicast(air: Air, *, connected: Sequence[Mapping[str, Any]] = ()) -> Finding:
    """Whether multicast DNS works, by which phones and mailboxes find each other. `connected` are the neighbours that
    the running mailbox is in step with, as in its status."""
    check = "multicast"
    links = [link for link in air.network.links if not link.is_loopback]
    if not links:
        return skipped(check, "there is no network")
    allow = "let UDP port 5353 in and out (for example: sudo ufw allow 5353/udp); until then name mailboxes with --peer"
    if air.fault:
        return problem(check, f"nothing can be sent or heard by multicast: {air.fault}", allow)
    silent = [link.name for link in links if not _echoed(air, {str(i.ip) for i in link.interfaces})]
    if len(silent) == len(links):
        return problem(check, "what this machine sends by multicast does not even come back to itself", allow)
    unheard = [
        str(peer["mailbox_id"])[:8]
        for peer in connected
        if peer["state"] == "in-sync" and peer["mailbox_id"] not in {str(i) for i in air.near} and _is_here(air, peer)
    ]
    if unheard:
        return problem(
            check,
            f"mailbox {unheard[0]} is in this network and answers, but its announcements don't arrive",
            "the access point or switch does not pass multicast on: look there for IGMP snooping or multicast filters",
        )
    if not air.others:
        return note(
            check,
            "no other device answered: there is none, or the access point does not pass multicast on",
            "look with a second device; if it finds nothing either, name mailboxes with --peer",
        )
    text = f"{len(air.others)} other device{'s' * (len(air.others) > 1)} heard"
    if silent:
        return note(check, f"{text}, but nothing goes out by {', '.join(silent)}", allow)
    return good(check, text)


def _echoed(air: Air, own: set[str]) -> bool:
    """Whether something came back on a link with these addresses; IPv6 shows another address, and counts for all."""
    return bool(own & air.echoes) or any(ip_address(echo).is_link_local for echo in air.echoes)


def _is_here(air: Air, peer: Mapping[str, Any]) -> bool:
    """Whether one of its addresses is on a link of ours (and not ours: that is a second mailbox on this machine)."""
    hosts = [str(address).split("/")[2] for address in peer["addresses"] if str(address).startswith("/ip4/")]
    networks = [interface.network for interface in air.network.interfaces]
    return any(ip_address(host) in network for host in hosts if host not in air.own for network in networks)


def _strangers(air: Air, own: MailboxId | None) -> list[Near]:
    """The mailboxes on other machines."""
    return [near for near in air.near.values() if near.mailbox_id != own and not near.sources <= air.own]


def check_isolation(air: Air, own: MailboxId | None) -> Finding:
    """Whether the mailboxes that are heard can be reached: many access points separate their guests."""
    check = "reaching others"
    near = [n for n in _strangers(air, own) if n.outcome is not None]
    if not near:
        return skipped(check, "no other mailbox is announced here")
    silent = [n for n in near if n.outcome is Outcome.SILENT]
    if silent:
        who = f"mailbox {str(silent[0].mailbox_id)[:8]} at {silent[0].host} port {silent[0].http_port}"
        return problem(
            check,
            f"{len(silent)} of {len(near)} mailboxes here are heard but don't answer, for example {who}",
            "either the access point separates its guests (switch off “client isolation”, or use another network), or "
            "a firewall on that machine lets nobody in: run `mailboxd doctor` there",
        )
    closed = [n for n in near if n.outcome is Outcome.CLOSED]
    if closed:
        who = f"{str(closed[0].mailbox_id)[:8]} at {closed[0].host} port {closed[0].http_port}"
        return note(check, f"mailbox {who} is announced but refuses connections", "it may just have stopped")
    return good(check, f"{_mailboxes(len(near))} could be reached")


def check_identity(air: Air, own: MailboxId | None) -> Finding:
    """Whether somebody else announces the identity of this mailbox. (A repeater of multicast shows our addresses.)"""
    check = "identity"
    if own is None:
        return skipped(check, "this mailbox has no identity yet")
    foreign = sorted(air.near[own].addresses - air.own) if own in air.near else []
    if foreign:
        return problem(
            check,
            f"another machine ({foreign[0]}) announces the identity of this mailbox",
            "its data directory is a copy of this one: stop one of the two and delete its identity.key",
        )
    return good(check, "nobody else here has this mailbox's identity")


def check_clocks(air: Air, own: MailboxId | None) -> Finding:
    """Compares the clock with those of other mailboxes: messages live by it."""
    check = "clock of others"
    offsets = sorted(n.clock_off_s for n in _strangers(air, own) if n.clock_off_s is not None)
    if not offsets:
        return skipped(check, "no other mailbox told its time")
    off = [offset for offset in offsets if abs(offset) > DOCTOR_CLOCK_OFF_S]
    if not off:
        return good(check, f"within a minute of {_mailboxes(len(offsets))}")
    worst = max(off, key=abs)
    direction = "behind" if worst > 0 else "ahead of"
    text = f"this clock is {_duration(abs(worst))} {direction} that of another mailbox"
    if len(off) == len(offsets) > 1:
        text = f"this clock is {_duration(abs(worst))} {direction} those of all {len(offsets)} mailboxes here"
    if abs(worst) > CLOCK_SKEW_MAX_S:
        return problem(check, f"{text}: they will not sync", "set the clock that is wrong; compare with a phone")
    return note(check, text, "set the clock that is wrong; compare with a phone")


def _mailboxes(number: int) -> str:
    return f"{number} other mailbox{'es' * (number > 1)}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def check_protocol(air: Air, own: MailboxId | None) -> Finding:
    """Whether the others speak a protocol that this version knows."""
    check = "protocol"
    versions = {n.version for n in _strangers(air, own) if n.version}
    if not versions:
        return skipped(check, "no other mailbox tells its version")
    newer = [version for version in versions if version > SYNC_VERSION_MAX]
    if newer:
        return note(
            check, f"others here speak version {max(newer)} of the protocol, this one {SYNC_VERSION_MAX}", "update"
        )
    return good(check, f"version {SYNC_VERSION_MAX} here, {', '.join(map(str, sorted(versions)))} around")


def check_neighbours(peers: Sequence[Mapping[str, Any]] | None) -> Finding:
    """How the running mailbox stands with those it knows (None: it does not run)."""
    check = "in step"
    if peers is None:
        return skipped(check, "the mailbox is not running")
    if not peers:
        return note(
            check, "no other mailbox is known", "one mailbox alone works, too; see `mailboxd discover` and --peer"
        )
    refused = [peer for peer in peers if peer["state"] == "refused"]
    if refused:
        return problem(
            check,
            f"mailbox {str(refused[0]['mailbox_id'])[:8]} is refused: {refused[0]['reason']}",
            "`mailboxd peers` shows all of them",
        )
    lost = [peer for peer in peers if peer["state"] in ("unreachable", "behind")]
    if lost:
        who = f"{str(lost[0]['mailbox_id'])[:8]} is {lost[0]['state']}: {lost[0]['reason']}"
        return note(check, f"{len(lost)} of {len(peers)} are not in step, {who}", "`mailboxd peers` shows all of them")
    return good(check, f"the same as in {_mailboxes(len(peers))}")


def check_firewall(answers: Sequence[Mapping[str, Any]] | None) -> Finding:
    """Whether neighbours could connect to this mailbox when it asked them to try (None: it does not run)."""
    check = "firewall"
    if answers is None:
        return skipped(check, "the mailbox is not running, so nobody can try to reach it")
    trials = [(answer["mailbox_id"], trial) for answer in answers for trial in answer["trials"]]
    if not trials:
        errors = [answer["error"] for answer in answers if answer["error"]]
        why = errors[0] if errors else "none is connected and knows where this one is, or they have just been asked"
        return skipped(check, f"no neighbour could try: {why}")
    ports = sorted({trial["port"] for _, trial in trials})
    shut = [p for p in ports if not any(t["outcome"] == "open" for _, t in trials if t["port"] == p)]
    if shut:
        who, trial = next((who, trial) for who, trial in trials if trial["port"] == shut[0])
        return problem(
            check,
            f"mailbox {str(who)[:8]} can't connect to {trial['host']} port {trial['port']} here ({trial['outcome']})",
            f"let TCP port{'s' * (len(shut) > 1)} {', '.join(map(str, shut))} in, for example: "
            + "; ".join(f"sudo ufw allow {port}/tcp" for port in shut),
        )
    return good(check, f"others can connect to port{'s' * (len(ports) > 1)} {', '.join(map(str, ports))}")
