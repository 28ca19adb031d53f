"""No remote input ends the process. Two things hold that: nobody who serves remotes may end it, read from the source;
and whatever runs for ever is supervised or ends one connection only, read from where the parts are joined."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, place, sources

# What runs before a mailbox serves, or beside one, may end its own process.
OUTSIDE = ("node/cli/", "node/bench/", "node/service/tray.py")
WAYS_OUT = {"exit", "_exit", "abort", "kill", "killpg", "raise_signal", "quit", "SystemExit", "KeyboardInterrupt"}

# The tasks of a running mailbox that are not under `supervise`: each is a server that ends connections, not itself
# (`serve_http`: its accept loop catches OSError and its connections catch everything), or restarts its own parts
# (`transport.run`), or only joins others (`core.run`, `desk.run`).
UNSUPERVISED = {"parts.core.run", "self.transport.run", "_serve_phones", "serve_http", "desk.run"}


def serving() -> list[Path]:
    return [path for path in sources("node", "protocols") if not str(path.relative_to(ROOT)).startswith(OUTSIDE)]


def ways_out(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else "sys"
            if name in WAYS_OUT and owner in ("sys", "os", "signal"):
                yield node.lineno, name
        elif isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if getattr(raised, "id", "") in WAYS_OUT:
                yield node.lineno, raised.id


def test_nobody_who_serves_remotes_can_end_the_process() -> None:
    wrong = [f"{place(path, line)}: {what}" for path in serving() for line, what in ways_out(path)]
    assert not wrong


def test_no_exception_is_let_through_where_many_are_served() -> None:
    """A task group ends with its first exception: in what is joined for the life of a mailbox nothing may raise."""
    wrong = []
    for name in ("node/app.py", "node/core.py", "node/administration.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("start", "start_soon")
            ):
                first = node.args[0]
                if isinstance(first, ast.Call) and getattr(first.func, "id", "") == "partial":
                    first = first.args[0]
                started = ast.unparse(first)
                if started != "supervise" and started not in UNSUPERVISED:
                    wrong.append(f"{name}:{node.lineno} starts {started}")
    assert not wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import sys\nsys.exit(1)", ["exit"]),
        ("raise SystemExit", ["SystemExit"]),
        ("import os\nos._exit(3)", ["_exit"]),
        ("scope.exit()", []),
    ],
)
def test_the_look_out_sees(tmp_path: Path, source: str, found: list[str]) -> None:
    path = tmp_path / "some.py"
    path.write_text(source)
    assert [what for _, what in ways_out(path)] == found
