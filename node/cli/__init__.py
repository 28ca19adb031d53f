"""The command line, `mailboxd`.

`program` is the list of commands and the one place where errors become a line on stderr and an exit code; each
command stands in a module of its own that is only imported when it is used, so that `--help`, `status` and `put` start
quickly. `options` and `settings` read what users write, `output` writes what they read.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Runs the program with the arguments of this process, and ends it."""
    from node.cli.program import main as run_program  # noqa: PLC0415 - importing this package must cost nothing

    run_program()
