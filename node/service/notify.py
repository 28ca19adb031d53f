"""sd_notify in a few lines: tells systemd that the mailbox is ready, that it stops, and that it is alive.

The watchdog is told only what is true: the loop runs (or this task would not), and the store reads and commits within
the time. A mailbox that hangs is killed by systemd and started again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

import trio

from node.store.api import Store, StoreError
from protocols.model import LogName

__all__ = ["Notifier", "notifier"]

log = logging.getLogger(__name__)

_PROBE: Final = LogName("watchdog", "watchdog")


class Notifier:
    """Speaks to the socket that the service manager named; without one, everything is a no-op."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        """How often systemd wants to hear that we are alive, None if it does not."""

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Notifier:
        """As `environment` says; what is meant for another process, or is no socket, does not count."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return cls()
        interval, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        is_watched = interval.isascii() and interval.isdigit() and int(interval) > 0 and whose == str(pid)
        return cls(address, int(interval) / 1e6 if is_watched else None)

    def tell(self, *fields: str) -> None:
        """Sends fields such as READY=1 in one datagram. Never raises and never waits."""
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(fields).encode(), address)
        except OSError as error:
            log.warning("the service manager can't be told %s: %s", fields[0], error)

    async def keep_alive(self, store: Store) -> None:
        """Tells the watchdog, twice in its time, for as long as the store answers. Runs until cancelled."""
        if self.watchdog_s is None:
            await trio.sleep_forever()
        while True:
            if await _is_well(store, self.watchdog_s / 2):
                self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)


async def _is_well(store: Store, patience_s: float) -> bool:
    """Whether the store reads, and its writer gets round to a transaction that changes nothing."""
    try:
        with trio.fail_after(patience_s):
            await store.watermarks([_PROBE])
            await store.merge([])
    except trio.TooSlowError:
        log.error(
            "the store did not answer within %.0f s; the service manager will start the mailbox again", patience_s
        )
        return False
    except StoreError as error:
        log.error("the store fails, and the service manager will start the mailbox again: %s", error)
        return False
    return True


def notifier() -> Notifier:
    """That of this process."""
    return Notifier.of(os.environ, os.getpid())
