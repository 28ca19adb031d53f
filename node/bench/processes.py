"""What other processes cost: their memory and CPU, as /proc tells it (Linux); None where there is none."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["cpu_s", "memory_bytes", "peak_memory_bytes"]


def memory_bytes(pid: int) -> int | None:
    """What the process holds in memory now."""
    return _status_bytes(pid, "VmRSS")


def peak_memory_bytes(pid: int) -> int | None:
    """The most that it ever held."""
    return _status_bytes(pid, "VmHWM")


def cpu_s(pid: int) -> float | None:
    """The CPU time that all threads of the process have used so far."""
    with suppress(OSError, ValueError, IndexError):
        # The second field is the program's name in brackets and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def _status_bytes(pid: int, field: str) -> int | None:
    with suppress(OSError):
        found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return None if found is None else 1024 * int(found[1])
    return None
