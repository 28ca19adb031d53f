"""`mailboxd update --check`: whether a newer release is out. It never installs anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from node.cli.options import data_dir_option
from node.cli.output import print_json
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir, read_node_info
from node.http.client import ClientError, exchange
from node.logs import escape_controls
from protocols.limits.tools import UPDATE_ANSWER_BYTES_MAX, UPDATE_TIMEOUT_S

__all__ = ["update"]

_VERSION: Final = re.compile(r"v?(\d{1,6}(?:\.\d{1,6}){0,3})(.*)")


@click.command()
@data_dir_option()
@click.option("--check", is_flag=True, required=True, help="Ask the source; nothing is ever installed.")
@click.option(
    "--source",
    envvar="MAILBOXD_UPDATE_SOURCE",
    show_envvar=True,
    help='The URL of a JSON document with the newest version: {"version": …}, or as PyPI or GitHub have it.',
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def update(data_dir: Path | None, check: bool, source: str | None, as_json: bool) -> None:
    """Say whether a newer release is out, if you name a place to ask.

    There is no source unless you name one: a mailbox asks nobody anything of its own accord. Nothing but the request
    itself is sent. It is compared with the mailbox that runs, or else with this program.

    \b
    Examples:
      mailboxd update --check --source https://pypi.org/pypi/mailboxd/json
    """
    import importlib.metadata  # noqa: PLC0415

    assert check
    if not source:
        fail("there is no source to ask; give --source URL, or set MAILBOXD_UPDATE_SOURCE")
    if not source.startswith(("http://", "https://")):
        fail(f"{source!r} is not an http:// or https:// URL")
    try:
        have = read_node_info(data_dir or default_data_dir()).version  # what runs may be older than what is installed
    except DataDirError:
        have = importlib.metadata.version("mailboxd")
    path = "" if urlsplit(source).path else "/"
    try:
        body = exchange(source, "GET", path, timeout_s=UPDATE_TIMEOUT_S, answer_bytes_max=UPDATE_ANSWER_BYTES_MAX)
        newest = _newest(body)
    except (ClientError, ValueError) as error:
        fail(f"{source}: {error}")
    is_newer = _key(newest) > _key(have)
    if as_json:
        print_json({"version": have, "newest": newest, "is_newer": is_newer})
    elif is_newer:
        click.echo(
            f"mailboxd {newest} is out, this is {have}; upgrade it as you installed it, e.g. pipx upgrade mailboxd"
        )
    else:
        click.echo(f"mailboxd {have} is the newest")


def _newest(body: bytes) -> str:
    """The version that an answer names. Raises ValueError."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    if isinstance(answer, dict):
        info = answer.get("info")
        for found in (
            answer.get("version"),
            answer.get("tag_name"),
            info.get("version") if isinstance(info, dict) else 0,
        ):
            if isinstance(found, str) and len(found) <= 64 and _VERSION.fullmatch(found):
                return escape_controls(found.removeprefix("v"))
    raise ValueError("the answer names no version")


def _key(version: str) -> tuple[list[int], bool]:
    """Orders versions by their numbers; what has more behind them (1.0rc1, 1.0.dev3) comes before what has not."""
    match = _VERSION.fullmatch(version)
    assert match is not None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers, not match[2] or match[2].startswith((".post", "+"))
