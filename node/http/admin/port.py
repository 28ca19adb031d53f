"""What the administration asks of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["AdminError", "AdminPort"]


class AdminError(Exception):
    """The administration can't do it: an HTTP status and one line for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class AdminPort(Protocol):
    """A running mailbox. Dictionaries are plain JSON values; `AdminError` refuses."""

    async def status(self) -> dict[str, Any]:
        """What `mailboxd status --json` prints."""
        ...

    async def peers(self) -> Sequence[dict[str, Any]]:
        """The known mailboxes, as in the status."""
        ...

    async def sync(self, peer: str | None) -> dict[str, Any]:
        """Syncs now with one mailbox (its 43-character id), or with all; may take long."""
        ...

    async def verify(self) -> dict[str, Any]:
        """Compares the index with the store: how many blocks that were, how many differed; may take a minute."""
        ...

    def event_counts(self) -> dict[str, int]:
        """How many events of each kind there were since the start."""
        ...

    async def reach(self) -> dict[str, Any]:
        """Has some neighbours try to connect to this mailbox, and tells what they say."""
        ...
