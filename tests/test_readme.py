"""The README is true: its commands run and answer as shown, its links lead somewhere, and no command is left out."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mailboxd.__main__ import program as main
from node import datadir
from tests.mailboxes import MailboxProcess

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("protocols/**/*.md")]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_commands_answer_as_shown(tmp_path: Path) -> None:
    commands = [block for block in blocks("sh") if block.startswith("curl")]
    answers = [block.strip().splitlines()[-1] for block in blocks("") if '"' in block]
    assert len(commands) == len(answers) == 2
    with MailboxProcess(tmp_path / "data", "--no-mdns", "--p2p", "127.0.0.1:0") as mailbox:
        for command, expected in zip(commands, answers, strict=True):
            words = [
                word.replace("http://127.0.0.1:3411", mailbox.info["http"][0])
                for word in shlex.split(command.replace("\\\n", ""))
            ]
            answer = subprocess.run([*words, "--silent"], capture_output=True, text=True, check=True, timeout=30)
            assert json.loads(answer.stdout.splitlines()[-1]) == json.loads(expected)
        assert mailbox.command("put", "tea", "alice", "1", str(ROOT / "README.md")).returncode == 0
        listing = mailbox.command("get", "tea").stdout
        assert "hello" in listing
        assert "alice" in listing


def test_every_command_named_exists_and_every_command_is_named() -> None:
    named = set(re.findall(r"mailboxd ([a-z]+)", README)) | set(
        re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE)
    )
    assert isinstance(main, click.Group)
    commands = set(main.list_commands(click.Context(main)))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert named <= commands | targets
    assert commands <= named | {"verify"}


def test_every_file_of_the_data_directory_is_explained() -> None:
    files = {value for name, value in vars(datadir).items() if name.endswith("_FILE")}
    assert len(files) > 5
    missing = {name for name in files if f"`{name}`" not in README}
    assert not missing


def test_every_option_named_exists() -> None:
    assert isinstance(main, click.Group)
    known = {"--help", "--version"}
    for name in main.list_commands(click.Context(main)):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        known |= {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    prose = "\n".join(block for block in README.splitlines() if not block.startswith(("curl", "     -d")))
    assert set(re.findall(r"(--[a-z][a-z0-9-]+)", prose)) <= known
