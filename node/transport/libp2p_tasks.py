"""What libp2p's services have in common here: tasks that can't end them, and ids that are a mailbox's."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.peer.id import ID

from protocols.model import MailboxId

__all__ = ["TaskGuard", "mailbox_id_of", "peer_id_of"]

log = logging.getLogger(__name__)


def peer_id_of(mailbox_id: MailboxId) -> Any:
    """libp2p's PeerId object of a mailbox."""
    return ID.from_base58(mailbox_id.peer_id)


def mailbox_id_of(peer_id: Any) -> MailboxId:
    """The mailbox of a PeerId. Raises ValueError if its key is not Ed25519."""
    return MailboxId.from_peer_id(str(peer_id.to_base58()))


class TaskGuard:
    """A service's manager whose tasks can't end the service.

    Fault: any exception in any task, most of which work for one remote peer, ends the service and with it the host;
    a task with more than 1,000 children does too, and finding a task's parent costs a walk over all tasks.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def run_task(
        self, async_fn: Callable[..., Awaitable[None]], *args: object, daemon: bool = False, name: str | None = None
    ) -> None:
        nursery = self._manager._task_nursery
        if nursery is not None and not self._manager.is_finished:
            nursery.start_soon(self._run, async_fn, args, daemon, name=name or getattr(async_fn, "__name__", "task"))

    def run_daemon_task(self, async_fn: Callable[..., Awaitable[None]], *args: object, name: str | None = None) -> None:
        self.run_task(async_fn, *args, daemon=True, name=name)

    @staticmethod
    async def _run(async_fn: Callable[..., Awaitable[None]], args: tuple[object, ...], daemon: bool) -> None:
        while True:
            try:
                await async_fn(*args)
            except Exception as error:
                log.warning("libp2p's %s failed: %r", getattr(async_fn, "__name__", "task"), error)
            if not daemon:
                return
            await trio.sleep(1.0)
