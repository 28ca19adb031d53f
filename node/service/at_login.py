"""Whether the mailbox is started at login, as the dashboard shows and changes it. The service manager is who knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from node.aside import aside
from node.config import SettingError
from node.service.manager import Manager, ServiceError

__all__ = ["START_AT_LOGIN", "AtLogin"]

START_AT_LOGIN: Final = "start-at-login"


class AtLogin:
    """Asks and tells `manager`, in threads. `told` is called with a line about each change."""

    def __init__(self, manager: Manager, *, told: Callable[[str], object]) -> None:
        self._manager = manager
        self._told = told
        self._lock = trio.Lock()

    async def shown(self) -> dict[str, Any]:
        """`value` (True or False), in `locked` why it can't be changed here or None, and a `hint` for people."""
        value, why = False, None
        try:
            value = await aside(self._manager.is_at_login)
        except ServiceError as error:
            why = str(error)
        return {"value": value, "locked": why, "hint": self._manager.hint}

    async def set(self, is_on: bool) -> None:
        """What runs now goes on, and nothing is started. Raises SettingError."""
        async with self._lock:
            try:
                if await aside(self._manager.is_at_login) == is_on:
                    return
                await aside(self._manager.set_at_login, is_on)
            except ServiceError as error:
                raise SettingError(START_AT_LOGIN, str(error)) from None
        self._told("the mailbox is started at login" if is_on else "the mailbox is not started at login any more")
