"""With which codes and words mailboxes turn each other away."""

from __future__ import annotations

from typing import Final

from node.admission.doorkeeper import KeptOut
from protocols.sync.session import SessionRefused

__all__ = ["BUSY", "SHARE_USED_UP", "TOO_MANY", "UNADMITTED", "put_off", "refusal_code"]

UNADMITTED: Final = "admission"
"""The code with which a mailbox turns away another one that it does not let in."""

BUSY: Final = "busy"
"""The code with which one is turned away because there are too many sessions, or because its share is used up."""

TOO_MANY: Final = "too many syncs at once; come back in a while"
SHARE_USED_UP: Final = "your share of this mailbox's time is used up; come back when it has filled again"
"""What those are told."""


def put_off(pause_s: float) -> str:
    """What people here are told of a mailbox whose share is used up."""
    return f"it has used up its share of this mailbox's time, and is put off for {pause_s:.0f} s"


def refusal_code(error: Exception) -> str:
    """The code of a refusal, `admission` where one does not let the other in; empty if it is none."""
    if isinstance(error, KeptOut):
        return UNADMITTED
    return error.code if isinstance(error, SessionRefused) else ""
