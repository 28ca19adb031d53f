"""The manual page has everything that the program has, and shells complete with what `completion` prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from mailboxd.__main__ import program

PAGE = subprocess.run(
    [sys.executable, "-m", "mailboxd", "man"], capture_output=True, text=True, check=True, timeout=60
).stdout


def plain(roff: str) -> str:
    for code, char in ((r"\-", "-"), (r"\(ga", "`"), (r"\(ti", "~"), (r"\(ha", "^"), (r"\(aq", "'"), (r"\(dq", '"')):
        roff = roff.replace(code, char)
    return roff.replace(r"\e", "\\").replace(r"\&", "")


def commands(group: click.Group, path: str = "mailboxd") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_the_manual_page_is_whole() -> None:
    page = plain(PAGE)
    assert isinstance(program, click.Group)
    found = list(commands(program))
    assert {"mailboxd simulate", "mailboxd service install", "mailboxd import"} <= {path for path, _ in found}
    for path, command in found:
        section, *_ = re.findall(rf"^\.SS {re.escape(path)} .*?(?=^\.S[SH])", page, flags=re.MULTILINE | re.DOTALL)
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.opts[0] in section, (path, param.opts[0])
        assert (command.help or "").split("\n")[0].split(". ")[0] in section


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_manual_page_is_good_roff() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww"], input=PAGE, capture_output=True, text=True, check=True, timeout=60
    )
    lines = [
        line for line in done.stderr.splitlines() if "can't break line" not in line and "cannot adjust" not in line
    ]
    assert not lines
    assert "--storage-limit SIZE" in re.sub(r".\x08", "", done.stdout)


def complete(shell: str, words: str, count: int) -> str:
    variables = {"_MAILBOXD_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-m", "mailboxd"], env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout


def test_commands_and_options_are_completed() -> None:
    assert {"plain,status", "plain,sync", "plain,service", "plain,simulate"} <= set(
        complete("bash", "mailboxd s", 1).split()
    )
    assert complete("bash", "mailboxd run --storage", 2).split() == ["plain,--storage-limit"]
    assert complete("bash", "mailboxd service un", 2).split() == ["plain,uninstall"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_name_the_program(shell: str) -> None:
    command = [sys.executable, "-m", "mailboxd", "completion", shell]
    script = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"{shell}_complete" in script
    assert "_MAILBOXD_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=30)
