"""Keeps the machine awake while a mailbox serves, with the library wakepy (extra `desktop`)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["Wakefulness", "can_keep_awake", "kept_awake"]

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


class Wakefulness:
    """Keeps the machine awake or not, as it is told. A context manager; leaving it lets the machine sleep."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._is_on = False

    def set(self, is_on: bool) -> None:
        """Switches it on (only if `can_keep_awake`) or off."""
        if is_on != self._is_on:
            self._is_on = is_on
            if is_on:
                self._held.enter_context(kept_awake())
            else:
                self._held.close()

    def __enter__(self) -> Wakefulness:
        return self

    def __exit__(self, *_error: object) -> None:
        self.set(False)
