"""`mailboxd verify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from node.cli.options import data_dir_option
from node.cli.output import bytes_text, count_text, print_json
from node.cli.program import fail
from node.datadir import STORE_FILE, DataDirError, NotRunning, default_data_dir
from node.http.client import AdminClient, ClientError
from node.logs import escape_controls

__all__ = ["verify"]


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify(data_dir: Path | None, as_json: bool) -> None:
    """Check every stored message for damage.

    Reads the whole store: its structure, every message's digest, watermarks and counts. Works while the mailbox runs
    and when it is stopped, and changes nothing. A running mailbox compares the index by which it tells others what it
    holds with the store, too, and mends it. Exit code 1 if anything is wrong.

    \b
    Examples:
      mailboxd verify
      mailboxd verify --data-dir /srv/mailbox --json
    """
    from node.store._verify import verify_file  # noqa: PLC0415
    from node.store.api import StoreError  # noqa: PLC0415

    directory = data_dir or default_data_dir()
    path = directory / STORE_FILE
    on_terminal = sys.stderr.isatty()

    def progress(messages: int) -> None:
        if on_terminal:
            click.echo(f"\r{messages:,} messages checked", nl=False, err=True)

    try:
        report = verify_file(path, progress=progress)
        index = None if report.problems else _verify_index(directory)
    except (StoreError, ClientError, DataDirError) as error:
        fail(str(error))
    finally:
        if on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
    problems = list(report.problems)
    if index and index["differences"]:
        differed = count_text(index["differences"], "block")
        problems.append(f"the running mailbox's index differed from the store in {differed}; it is mended now")
    sound = not problems
    if as_json:
        print_json(
            {
                "messages": report.messages,
                "bytes": report.bytes,
                "sound": sound,
                "problems": problems,
                "index": index,
            }
        )
    else:
        for problem in problems:
            click.echo(escape_controls(problem))
        checked = f"{count_text(report.messages, 'message')}, {bytes_text(report.bytes)}"
        if index:
            checked += f", {count_text(index['blocks'], 'block')} of the index"
        click.echo(f"{checked}: {'all sound' if sound else count_text(len(problems), 'problem')}")
    if problems and not report.problems:
        fail("the index was wrong, the store is sound; please report it, with the log")
    if problems:
        fail(f"{path} is damaged; keep a copy, then move it away: neighbours bring back what they hold")


def _verify_index(directory: Path) -> dict[str, Any] | None:
    """What the mailbox that runs on `directory` says of its index; None if none runs. Raises ClientError."""
    try:
        with AdminClient.open(directory) as client:
            return client.verify()
    except NotRunning:
        return None
