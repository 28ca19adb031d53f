"""`mailboxd verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from node.cli.options import data_dir_option
from node.cli.output import bytes_text, count_text, print_json
from node.cli.program import fail
from node.datadir import STORE_FILE, default_data_dir
from node.logs import escape_controls

__all__ = ["verify"]


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify(data_dir: Path | None, as_json: bool) -> None:
    """Check every stored message for damage.

    Reads the whole store: its structure, every message's digest, watermarks and counts. Works while the mailbox runs
    and when it is stopped, and changes nothing. Exit code 1 if anything is wrong.

    \b
    Examples:
      mailboxd verify
      mailboxd verify --data-dir /srv/mailbox --json
    """
    from node.store._verify import verify_file  # noqa: PLC0415
    from node.store.api import StoreError  # noqa: PLC0415

    path = (data_dir or default_data_dir()) / STORE_FILE
    on_terminal = sys.stderr.isatty()

    def progress(messages: int) -> None:
        if on_terminal:
            click.echo(f"\r{messages:,} messages checked", nl=False, err=True)

    try:
        report = verify_file(path, progress=progress)
    except StoreError as error:
        fail(str(error))
    finally:
        if on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
    sound = not report.problems
    if as_json:
        print_json(
            {"messages": report.messages, "bytes": report.bytes, "sound": sound, "problems": list(report.problems)}
        )
    else:
        for problem in report.problems:
            click.echo(escape_controls(problem))
        checked = f"{count_text(report.messages, 'message')}, {bytes_text(report.bytes)}"
        click.echo(f"{checked}: {'all sound' if sound else count_text(len(report.problems), 'problem')}")
    if not sound:
        fail(f"{path} is damaged; keep a copy, then move it away: neighbours bring back what they hold")
