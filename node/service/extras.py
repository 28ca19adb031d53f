"""How to get the libraries of the extra `desktop`, said so that it can be done as it stands."""

from __future__ import annotations

import shlex
import sys
from typing import Final

__all__ = ["DESKTOP", "how_to_get"]

DESKTOP: Final = ("pillow", "pystray", "wakepy")
"""What the extra `desktop` has: a window's icon, and being kept awake. A headless mailbox does without."""


def how_to_get(*libraries: str) -> str:
    """The command that installs them where this very program finds them: not a name, which may be another program's."""
    python = shlex.quote(sys.executable)
    return f"{python} -m pip install {' '.join(libraries)}"
