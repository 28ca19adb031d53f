"""Logging: lines for people, or one JSON object per line for programs; always to stderr.

What peers and clients send ends up in log messages, so control characters are written as escapes: nobody can forge a
line or talk to the terminal.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

__all__ = ["HumanFormatter", "JsonFormatter", "escape_controls", "set_up_logging"]

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


def set_up_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Sends everything from `level` (debug, info, warning, error) to `stream` (stderr); libraries from warning on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else HumanFormatter())
    logging.raiseExceptions = False  # a closed terminal must not matter to a mailbox
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
