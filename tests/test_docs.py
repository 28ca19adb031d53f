"""The pages name only what exists: commands with their options, `make` targets, files, and bounds."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mailboxd.__main__ import program as main

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "simulations", "monitoring")
MANUALS = [ROOT / "README.md", *(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/**/*.md"))]
PAGES = sorted([*MANUALS, *ROOT.glob("protocols/**/*.md")])
NOT_OURS = {"PROTOCOL_TLS_CLIENT", "CERT_NONE", "SPAKE2_A", "BLAKE3_K"}
"""Names in capitals that are Python's, or the specs' own."""

BUILT = {"build/bench.json"}
"""Files that are not there before somebody makes them."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command line: `inline`, or a line in a block of shell."""
    lines = re.findall(r"`([^`\n]+)`", text)
    for block in re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        lines += block.replace("\\\n", " ").splitlines()
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # an apostrophe
            continue
        while words and (words[0] in ("sudo", "$") or "=" in words[0]):
            del words[0]
        if words:
            yield words


def bounds() -> set[str]:
    bodies = [ast.parse(path.read_text()).body for path in (ROOT / "protocols" / "limits").glob("*.py")]
    return {
        node.target.id
        for body in bodies
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


# In the specs what begins with `mailboxd ` are contexts of hashes, not commands.
@pytest.mark.parametrize("page", sorted(MANUALS), ids=name_of)
def test_commands_exist_and_have_the_options(page: Path) -> None:
    for words in command_lines(page.read_text()):
        if Path(words[0]).name != "mailboxd":
            continue
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "<", "…")):
            found = command.get_command(click.Context(command), rest[0].rstrip(",.…"))
            if found is None and command is not main and "|" in rest[0]:
                break  # `password set|clear`: each of them is looked at below
            assert found is not None, f"{page.name}: there is no `{' '.join(words)}`"
            command, rest = found, rest[1:]
        if isinstance(command, click.Group) and rest and "|" in rest[0]:
            missing = set(rest[0].split("|")) - set(command.list_commands(click.Context(command)))
            assert not missing, f"{page.name}: `{' '.join(words)}`"
        known = {"--help", "--version"} | {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        named = {word.partition("=")[0].rstrip(",.") for word in rest if re.match(r"--[a-z]", word)}
        assert named <= known, f"{page.name}: `{' '.join(words)}`"


@each_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {words[1] for words in command_lines(page.read_text()) if words[0] == "make" and len(words) > 1}
    assert named <= targets


@each_page
def test_files_exist(page: Path) -> None:
    named = set(re.findall(r"`([\w./-]+/[\w.-]*\.(?:py|md|toml|json|sh|js|css|yml))`", page.read_text()))
    missing = {name for name in named - BUILT if not any((place / name).exists() for place in (ROOT, page.parent))}
    assert not missing


@each_page
def test_bounds_exist(page: Path) -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", page.read_text()))
    missing = {name for name in named - NOT_OURS - bounds() if not name.startswith("MAILBOXD_")}
    assert not missing


def test_every_bound_is_heeded() -> None:
    """By something other than the limits themselves."""
    sources = "\n".join(
        path.read_text()
        for layer in ("protocols", "node", "simulations")
        for path in (ROOT / layer).rglob("*.py")
        if path.parent.name != "limits"
    )
    read = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(re.sub(r"^from __future__ .*$", "", sources, flags=re.MULTILINE)))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert len(read & bounds()) > 200
    assert not bounds() - read - {"KIB", "MIB"}
