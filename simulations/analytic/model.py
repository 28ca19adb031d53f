"""What each kind of mailbox in a plan has to do, to keep and to pay. Pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from protocols.client.policies import POLICIES
from protocols.limits.store import LOG_OVERHEAD_BYTES, MESSAGE_OVERHEAD_BYTES
from simulations.analytic import costs
from simulations.analytic.bounds import Strain, strains_of
from simulations.analytic.costs import ON_THE_WIRE, Wire
from simulations.analytic.flows import Flow, flows_of, spread_s, told_s
from simulations.analytic.mdns import mdns_of
from simulations.analytic.plan import Network, Plan

__all__ = ["Row", "analyse", "as_json", "spread_to_all_s"]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of mailbox of one plan. Rates are of a quiet day: nothing breaks, everybody has met. Bytes count both
    directions."""

    mailboxes: int
    """In the plan, internet mailboxes not counted."""
    kind: str
    count: int
    """Mailboxes of this kind."""
    neighbours: float
    comparisons_per_hour: float
    """Full sessions that find nothing, by either side."""
    sessions_per_hour: float
    """Sessions for news, by either side."""
    hints_per_hour: float
    """Copies of hints, heard and sent."""
    connection_bytes_per_s: float
    """Pings and the like of idle connections."""
    mdns_bytes_per_s: float
    comparison_bytes_per_s: float
    hint_bytes_per_s: float
    session_bytes_per_s: float
    """Of the sessions for news all but the messages' content."""
    content_bytes_per_s: float
    phone_bytes_per_s: float
    messages_kept: float
    storage_bytes: float
    memory_bytes: float
    core_share: float
    """Of one core of the measured machine."""
    all_hold_s: float
    """From the first commit of a message until the last mailbox holds it, hints working."""
    found_s: float
    """Until a message is found of which no hint came. In a LAN any neighbour has it."""
    strains: tuple[Strain, ...]

    @property
    def bytes_per_s(self) -> float:
        """All that other mailboxes cause."""
        return (
            self.connection_bytes_per_s
            + self.mdns_bytes_per_s
            + self.comparison_bytes_per_s
            + self.hint_bytes_per_s
            + self.session_bytes_per_s
            + self.content_bytes_per_s
        )


def analyse(plan: Plan) -> list[Row]:
    """One row for each kind of mailbox, those in LANs first. Raises ValueError for an impossible plan."""
    network = Network.of(plan)
    flows = flows_of(plan, network)
    all_hold_s = spread_to_all_s(plan, network)
    return [_row(plan, network, flow, all_hold_s) for flow in flows]


def spread_to_all_s(plan: Plan, network: Network) -> float:
    """From the first commit of a message until all hold it: over the gateway to the top of the tree, and down again."""
    flows = {flow.kind: flow for flow in flows_of(plan, network)}
    near = network.lan_neighbours
    in_lan = 0.0
    if near:
        member = flows["in a LAN"].links[0]
        is_asked = _is_most(member.asked_inward, member.inward)
        hop_s = spread_s(plan, near, near, is_far=False) if is_asked else told_s(plan, is_far=False)
        in_lan = network.lan_hops * hop_s
    if not network.levels:
        return in_lan
    upward = flows["gateway"].links[1]
    told = told_s(plan, is_far=True)
    is_asked = _is_most(upward.asked_outward, upward.outward)
    up = [spread_s(plan, near + 1, 1, is_far=True) if is_asked else told]
    down: list[float] = []
    for level, flow in enumerate(flow for kind, flow in flows.items() if kind.startswith("internet")):
        children, link = network.children(level), flow.links[0]
        is_asked = _is_most(link.asked_outward, link.outward)
        down.append(spread_s(plan, children, children, is_far=True) if is_asked else told)
        if level:
            is_asked = _is_most(link.asked_inward, link.inward)
            up.append(spread_s(plan, plan.branch, 1, is_far=True) if is_asked else told)
    return 2 * in_lan + sum(up) + sum(down)


def _is_most(some: float, of_all: float) -> bool:
    return 2 * some > of_all


def _row(plan: Plan, network: Network, flow: Flow, all_hold_s: float) -> Row:
    is_in_lan = not flow.kind.startswith("internet")
    mdns = mdns_of(network.lan_mailboxes if is_in_lan else 1)
    kept = flow.kept * plan.retention_s
    logs = kept / plan.log_messages
    polls = plan.phones / next(iter(POLICIES.values())).after_success_s if is_in_lan else 0.0
    copies = flow.hints_heard + flow.hints * flow.neighbours
    memory = costs.BASE_MEMORY_BYTES + kept * costs.INDEX_MESSAGE_BYTES + logs * costs.INDEX_LOG_BYTES
    figures = {
        "core_share": _core_share(flow, copies, polls),
        "storage_bytes": kept * (plan.message_bytes + MESSAGE_OVERHEAD_BYTES) + logs * LOG_OVERHEAD_BYTES,
        "memory_bytes": memory + flow.neighbours * costs.CONNECTION_MEMORY_BYTES,
    }
    return Row(
        mailboxes=plan.mailboxes,
        kind=flow.kind,
        count=flow.mailboxes,
        neighbours=flow.neighbours,
        comparisons_per_hour=3600 * flow.compared,
        sessions_per_hour=3600 * (flow.asked + flow.served),
        hints_per_hour=3600 * copies,
        connection_bytes_per_s=flow.neighbours * ON_THE_WIRE.connection_bytes_per_s,
        mdns_bytes_per_s=mdns.bytes_per_s,
        comparison_bytes_per_s=flow.compared * (costs.IDLE_SESSION_BYTES + ON_THE_WIRE.idle_session_bytes),
        hint_bytes_per_s=hint_bytes_per_s(flow, ON_THE_WIRE),
        session_bytes_per_s=session_bytes_per_s(flow, ON_THE_WIRE),
        content_bytes_per_s=(flow.received + flow.sent) * plan.message_bytes,
        phone_bytes_per_s=polls * (costs.POLL_BYTES + costs.POLL_LOG_BYTES * plan.phone_logs)
        + plan.phones * flow.kept * plan.message_bytes * 4 / 3 * is_in_lan,
        messages_kept=kept,
        all_hold_s=all_hold_s,
        found_s=_found_s(flow),
        strains=strains_of(plan, network, flow, mdns, **figures),
        **figures,
    )


def _found_s(flow: Flow) -> float:
    """At worst."""
    near = sum(link.count for link in flow.links if not link.is_far)
    return max(1.2 * flow.comparison_pause_s(link) / (1 if link.is_far else near) for link in flow.links)


def hint_bytes_per_s(flow: Flow, wire: Wire) -> float:
    """Of all copies, sent and heard, without the content of messages."""
    logs = flow.announced / flow.hints if flow.hints else 1.0
    sent = flow.hints * flow.neighbours * (costs.hint_bytes(flow.neighbours, logs) + wire.hint_bytes)
    heard = sum(link.count * link.hints * (costs.hint_bytes(link.neighbours) + wire.hint_bytes) for link in flow.links)
    return sent + heard + flow.moved_with_hints * (costs.HINTED_MESSAGE_BYTES + wire.names_bytes)


def session_bytes_per_s(flow: Flow, wire: Wire) -> float:
    """Of all sessions for news, without the content of messages."""
    sessions = (flow.asked + flow.served) * (costs.NEWS_SESSION_BYTES + wire.news_session_bytes)
    return sessions + flow.moved_in_sessions * costs.MESSAGE_BYTES


def _core_share(flow: Flow, copies: float, polls: float) -> float:
    sessions = flow.asked + flow.served
    return (
        costs.BASE_CPU
        + flow.neighbours * costs.CONNECTION_CPU
        + copies * costs.HINT_CPU_S
        + flow.compared * costs.IDLE_SESSION_CPU_S
        + sessions * costs.NEWS_SESSION_CPU_S
        + (flow.moved_in_sessions + flow.received_with_hints) * costs.BULK_MESSAGE_CPU_S
        + flow.hints_taken * costs.HINTED_MESSAGES_CPU_S
        + polls * costs.POLL_CPU_S
    )


def as_json(row: Row) -> dict[str, Any]:
    """Plain values."""
    return asdict(row) | {"bytes_per_s": row.bytes_per_s}
