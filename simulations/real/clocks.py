"""A mailbox whose date is wrong: `mailboxd` with another clock in its port, all else as it is.

    python -m simulations.real.clocks CLOCK_FILE run …

The kernel has one date for all processes (its time namespaces shift only the steady clocks), and libraries that fake it
also meddle with how threads wait for each other. So the one clock that the node asks for dates is replaced: it adds the
seconds that stand in CLOCK_FILE, which may change at any time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from node.clock import SystemClock

__all__ = ["WrongClock", "set_error"]


class WrongClock(SystemClock):
    """The machine's own clock with an error that stands in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at_ns = -1
        self._error_s = 0.0

    def now_s(self) -> float:
        changed_at_ns = self._path.stat().st_mtime_ns
        if changed_at_ns != self._read_at_ns:
            self._error_s, self._read_at_ns = float(self._path.read_text()), changed_at_ns
        return time.time() + self._error_s


def set_error(path: Path, error_s: float) -> None:
    """From now on the clock of `path` is ahead by so much."""
    aside = path.with_suffix(".new")
    aside.write_text(f"{error_s!r}\n")
    aside.replace(path)


def main() -> None:
    """Runs `mailboxd` with the clock of the file named first."""
    from node import app  # noqa: PLC0415 - only here, where it is run
    from node.cli import main as run  # noqa: PLC0415

    clock = WrongClock(Path(sys.argv[1]))
    vars(app)["SystemClock"] = lambda: clock
    sys.argv = ["mailboxd", *sys.argv[2:]]
    run()


if __name__ == "__main__":
    main()
