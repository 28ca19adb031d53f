"""No discovery: for `--no-mdns` and for places where peers are told."""

from __future__ import annotations

import trio

from node.discovery.api import Announcement, Discovery, Report

__all__ = ["NoDiscovery"]


class NoDiscovery(Discovery):
    """Announces nothing and finds nobody."""

    async def run(
        self,
        announcement: Announcement | None,
        report: Report,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Discovery.run`."""
        task_status.started()
        await trio.sleep_forever()
