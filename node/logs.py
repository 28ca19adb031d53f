"""Logging: lines for people, or one JSON object per line for programs; always to stderr.

What peers and clients send ends up in log messages, so control characters are written as escapes: nobody can forge a
line or talk to the terminal.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from protocols.limits.replication import LOG_LINE_S, LOG_LINES_BURST

__all__ = ["HumanFormatter", "JsonFormatter", "Repetitions", "escape_controls", "set_up_logging"]

# Libraries that tell much that only their authors understand.
_NOISY = ("libp2p", "multiaddr", "asyncio", "sqlite_utils")


def escape_controls(text: str) -> str:
    """`text` with everything that is not printable written as an escape (`\\n`, `\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)


def _date(created_s: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
    return f"{whole}.{int(created_s % 1 * 1000):03d}Z"


def _source(name: str) -> str:
    """`node.sync.engine` -> `sync.engine`."""
    return name.removeprefix("node.")


class HumanFormatter(logging.Formatter):
    """`2026-11-21T04:00:00.123Z info sync.engine: message`, a traceback on the lines after it."""

    def format(self, record: logging.LogRecord) -> str:
        message = escape_controls(record.getMessage())
        line = f"{_date(record.created)} {record.levelname.lower()} {_source(record.name)}: {message}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join("\n    " + escape_controls(part) for part in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """`{"time": RFC 3339, "level": …, "source": …, "message": …}` and "trace" where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _date(record.created),
            "level": record.levelname.lower(),
            "source": _source(record.name),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # ASCII: JSON's own escapes do for control characters and lone surrogates


class Repetitions(logging.Filter):
    """Bounds what one place of the code writes: LOG_LINES_BURST lines at once, and one more every LOG_LINE_S, with the
    number of those left out. Strangers can cause most lines as often as they like, and a disk is finite. What is below
    `info` is not bounded: whoever wants that wants all."""

    def __init__(self, *, now_at: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_at = now_at
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}
        """For each place of the code how many lines it may write, as of when, and how many were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        place, now_at = (record.pathname, record.lineno), self._now_at()
        left, counted_at, left_out = self._places.get(place, (float(LOG_LINES_BURST), now_at, 0))
        left = min(float(LOG_LINES_BURST), left + (now_at - counted_at) / LOG_LINE_S)
        if left < 1:
            self._places[place] = left, now_at, left_out + 1
            return False
        self._places[place] = left - 1, now_at, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} lines like this one were left out)", ()
        return True


def set_up_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Sends everything from `level` (debug, info, warning, error) to `stream` (stderr); libraries from warning on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else HumanFormatter())
    handler.addFilter(Repetitions())
    logging.raiseExceptions = False  # a closed terminal must not matter to a mailbox
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
