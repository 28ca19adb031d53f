"""Discovery's interface: announces this mailbox and reports which others are near."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import trio

from protocols.model import MailboxId

__all__ = ["Announcement", "Discovery", "Found", "Lost", "Neighbour", "Report"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What this mailbox says of itself. Ports are those it listens on now; `network` keeps test networks apart.

    `hosts` are the IP addresses its HTTP port is bound to, `0.0.0.0` standing for all of IPv4 and `::` for all of IPv6;
    empty means all, whichever the machine has at the time.
    """

    mailbox_id: MailboxId
    http_port: int
    p2p_port: int
    protocol_version: int
    network: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A mailbox that was found. `hosts` are its IP addresses, those that answered a probe first.

    `p2p_port` is None for one that only speaks HTTP (the app's own mailboxes); then `protocol_version` is 0.
    The id is only claimed here: the transport proves it.
    """

    mailbox_id: MailboxId
    hosts: tuple[str, ...]
    http_port: int
    p2p_port: int | None
    protocol_version: int
    network: str


@dataclass(frozen=True, slots=True)
class Found:
    """A mailbox appeared, or something of it changed."""

    neighbour: Neighbour


@dataclass(frozen=True, slots=True)
class Lost:
    """A mailbox said goodbye or was not heard of for too long. `reason` is fit for a user."""

    mailbox_id: MailboxId
    reason: str


Report = Callable[[Found | Lost], None]


class Discovery(abc.ABC):
    """Runs beside the node for as long as it lives."""

    def met(self, mailbox_id: MailboxId, up: bool) -> None:  # noqa: B027  # who probes nobody has no use for it
        """Tells that we have a connection to a mailbox, or the last is gone; one that we have needs no probing."""

    @abc.abstractmethod
    async def run(
        self,
        announcement: Announcement | None,
        report: Report,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Announces `announcement` (None: only looks) and calls `report` for every neighbour, never for ourselves,
        until cancelled; then says goodbye. `started` once it is announced, or once it is known that there is no
        network yet: that is no error, networks come and go. Never raises because of the network or of what others
        announce."""
