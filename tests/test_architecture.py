"""The walls of the house, read from the imports: mailboxd -> simulations -> node -> protocols, never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 600

# What the layers may import of ours, beside themselves.
BELOW = {
    "protocols": set(),
    "node": {"protocols"},
    "simulations": {"node", "protocols"},
    "mailboxd": {"simulations", "node", "protocols"},
}

# What touches the world: sockets, clocks, randomness, storage, other threads. `from X import Y` counts as X.Y, too.
WORLD = {
    "anyio", "asyncio", "concurrent", "ctypes", "datetime.datetime.now", "http", "ifaddr", "io", "libp2p", "logging",
    "multiprocessing", "os", "pathlib", "queue", "random", "requests", "secrets", "select", "selectors", "shutil",
    "signal", "socket", "sqlite3", "sqlite_utils", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
    "trio", "urllib", "uuid", "zeroconf",
}  # fmt: skip


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it leads"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("import_module", "__import__") and node.args:
                (first, *_) = node.args
                if isinstance(first, ast.JoinedStr):
                    first = first.values[0]
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: imports what can't be told"
                yield node.lineno, str(first.value)


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("layer", BELOW)
def test_imports_point_downwards(layer: str) -> None:
    files = sources(layer)
    assert files
    allowed = BELOW[layer] | {layer}
    ours = {*BELOW, "tests"}
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in files
        for line, name in imported(path)
        if name.split(".")[0] in ours - allowed
    ]
    assert not wrong


def test_protocols_touch_nothing_of_the_world() -> None:
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in sources("protocols")
        for line, name in imported(path)
        if name.split(".")[0] in WORLD or name in WORLD
    ]
    assert not wrong


@pytest.mark.parametrize("call", ["open", "print", "input", "now", "today", "utcnow", "sleep", "urandom"])
def test_protocols_call_nothing_of_the_world(call: str) -> None:
    wrong = [
        place(path, node.lineno)
        for path in sources("protocols")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == call)
            or (isinstance(node.func, ast.Attribute) and node.func.attr == call)
        )
    ]
    assert not wrong


def test_only_the_transport_knows_libp2p() -> None:
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in sources("node", "simulations")
        for line, name in imported(path)
        if name.split(".")[0] in ("libp2p", "multiaddr") and "node/transport" not in str(path)
    ]
    assert not wrong


def test_only_discovery_knows_zeroconf() -> None:
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in sources("node", "simulations")
        for line, name in imported(path)
        if name.split(".")[0] == "zeroconf" and "node/discovery" not in str(path)
    ]
    assert not wrong


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(*BELOW, "tests")
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX
    }
    assert not long


def test_every_bound_has_its_reason() -> None:
    """In protocols/limits a text stands behind each constant (or behind a group of them)."""
    plain = {"KIB", "MIB"}
    bare = []
    bodies = [ast.parse(path.read_text()).body for path in (ROOT / "protocols" / "limits").glob("*.py")]
    for body, index, node in ((at, index, node) for at in bodies for index, node in enumerate(at)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id not in plain:
            rest = body[index + 1 :]
            following = next((other for other in rest if not isinstance(other, ast.AnnAssign)), None)
            if not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)):
                bare.append(node.target.id)
    assert not bare


@pytest.mark.parametrize("module", ["node.cli", "node.cli.run", "node.cli.status", "node.cli.messages", "node.store"])
def test_commands_do_not_load_the_network(module: str) -> None:
    """libp2p takes 0.7 s and 60 MB: only what runs a mailbox pays for it."""
    program = f"import sys, {module}; print(*(m for m in ('libp2p', 'zeroconf', 'multiaddr') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def test_help_does_not_load_the_network_either() -> None:
    program = (
        "import sys\nfrom mailboxd.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(int('libp2p' in sys.modules or 'trio' in sys.modules))"
    )
    for words in (["--help"], ["run", "--help"], ["status", "--help"], ["simulate", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, words
        assert done.stdout
