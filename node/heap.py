"""How the C library deals with memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

from protocols.limits.replication import HEAP_KEPT_BYTES, HEAP_PIECE_BYTES

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Has buffers of some size taken from memory that was freed before, instead of from the system, which clears every
    page of it anew. False where the C library has no such setting: only glibc does."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, HEAP_PIECE_BYTES) and mallopt(_M_TRIM_THRESHOLD, HEAP_KEPT_BYTES))
