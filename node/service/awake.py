"""Keeps the machine awake while a mailbox serves, with the library wakepy (extra `desktop`)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["can_keep_awake", "kept_awake"]

log = logging.getLogger(__name__)


def can_keep_awake() -> bool:
    """Whether the library is there."""
    return importlib.util.find_spec("wakepy") is not None


@contextmanager
def kept_awake() -> Iterator[bool]:
    """Within it the machine does not go to sleep by itself; the screen may. False, and a line in the log, where the
    system does not let us. Call it only if `can_keep_awake`."""
    keep = importlib.import_module("wakepy").keep
    with keep.running(on_fail="pass") as mode:
        if not mode.active:
            log.warning("this system does not let us keep it awake (there may be no desktop); it may go to sleep")
        yield bool(mode.active)
