"""`mailboxd verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from node.cli.options import data_dir_option
from node.cli.output import bytes_text, count_text, print_json
from node.cli.program import fail
from node.datadir import STORE_FILE, DataDir, DataDirError, NotRunning, default_data_dir
from node.http.client import AdminClient, ClientError
from node.logs import escape_controls

__all__ = ["verify"]


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--repair", is_flag=True, help="Save what can be read into a new store (stop mailboxd first).")
def verify(data_dir: Path | None, as_json: bool, repair: bool) -> None:
    """Check every stored message for damage.

    Reads the whole store: its structure, every message's digest, watermarks and counts. Works while the mailbox runs
    and when it is stopped, and changes nothing. A running mailbox compares the index by which it tells others what it
    holds with the store, too, and mends it. Exit code 1 if anything is wrong.

    With --repair the sound part of a damaged store of a stopped mailbox is put into a new one in its place, and the old
    file is kept beside it. Neighbours bring back what was lost when the mailbox runs again.

    \b
    Examples:
      mailboxd verify
      mailboxd verify --data-dir /srv/mailbox --json
      mailboxd verify --repair
    """
    from node.store._verify import verify_file  # noqa: PLC0415
    from node.store.api import StoreError  # noqa: PLC0415

    directory = data_dir or default_data_dir()
    path = directory / STORE_FILE
    on_terminal = sys.stderr.isatty()

    def progress(messages: int) -> None:
        if on_terminal:
            click.echo(f"\r{messages:,} messages checked", nl=False, err=True)

    if repair:
        _repair(directory, progress, as_json=as_json)
        return
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
        fail(f"{path} is damaged: stop mailboxd and run `mailboxd verify --repair`")


def _verify_index(directory: Path) -> dict[str, Any] | None:
    """What the mailbox that runs on `directory` says of its index; None if none runs. Raises ClientError."""
    try:
        with AdminClient.open(directory) as client:
            return client.verify()
    except NotRunning:
        return None


def _repair(directory: Path, progress: Callable[[int], None], *, as_json: bool) -> None:
    from node.store._repair import repair_file  # noqa: PLC0415
    from node.store.api import StoreError  # noqa: PLC0415

    try:
        with DataDir.open(directory) as data_dir:  # refuses while the mailbox runs
            report = repair_file(data_dir.path / STORE_FILE, progress=progress)
    except (StoreError, DataDirError) as error:
        fail(str(error))
    if as_json:
        print_json(
            {
                "kept": report.kept,
                "lost": report.lost,
                "keys_lost": report.keys_lost,
                "moved_to": str(report.moved_to),
            }
        )
        return
    lost = f"{'at least ' if report.keys_lost else ''}{count_text(report.lost, 'message')} lost"
    click.echo(f"{count_text(report.kept, 'message')} kept, {lost}; the old file is {report.moved_to}")
    click.echo("start mailboxd again: neighbours bring back what they hold")
