"""Memory that is freed is used again: seen from outside, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
from node.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(50):
    buffers = [b"x" * (1 << 20) for _ in range(8)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_buffers_of_a_transfer_are_not_taken_from_the_system_each_time() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, check=True).stdout)
        for mode in ("as it is", "kept")
    }
    assert faults["kept"] < faults["as it is"] / 2
