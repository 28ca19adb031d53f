"""`mailboxd service`: a mailbox that starts at login and runs in the background."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import data_dir_option
from node.cli.output import print_json
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir, running_pid
from node.service.manager import Manager, ServiceError, service_manager

__all__ = ["service"]


@click.group()
def service() -> None:
    """Have the mailbox start at login and run in the background.

    As a service of your own user, without administrator's rights: a systemd user unit on Linux, a launchd agent on
    macOS, a task on Windows. The options of `run` go into config.toml in the data directory.

    \b
    Examples:
      mailboxd service install
      mailboxd service status
      mailboxd service uninstall
    """


@service.command()
@data_dir_option()
def install(data_dir: Path | None) -> None:
    """Install the service and start it.

    It is started again if it ends or hangs, and at every login. To install it once more is harmless; do so when the
    program has moved.

    \b
    Examples:
      mailboxd service install
      mailboxd service install --data-dir /srv/mailbox
    """
    directory = data_dir or default_data_dir()
    manager = service_manager(directory)
    try:
        pid = running_pid(directory)
        if pid is not None and not manager.is_active():
            fail(
                f"a mailbox is running on {directory} already (process {pid}); stop it first, or it would be in the way"
            )
        manager.install()
    except (ServiceError, DataDirError) as error:
        fail(str(error))
    click.echo(f"{manager.name} runs the mailbox in {directory} now, and at every login")
    click.echo(manager.hint)


@service.command()
@data_dir_option()
def uninstall(data_dir: Path | None) -> None:
    """Stop the service and remove it; the data stays.

    \b
    Examples:
      mailboxd service uninstall
    """
    try:
        was_there = service_manager(data_dir or default_data_dir()).uninstall()
    except ServiceError as error:
        fail(str(error))
    click.echo("the service is gone; the data is where it was" if was_there else "there is no service")


@service.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show whether the service is installed and runs.

    Exit code 1 if it does not run.

    \b
    Examples:
      mailboxd service status
    """
    directory = data_dir or default_data_dir()
    manager = service_manager(directory)
    state = {
        "manager": manager.name,
        "file": None if manager.file is None else str(manager.file),
        "installed": manager.is_installed(),
        "current": manager.is_current(),
        "active": manager.is_active(),
        "at_login": _is_at_login(manager),
    }
    if as_json:
        print_json(state)
    else:
        click.echo(_text(manager, **{key: state[key] is True for key in ("installed", "active", "at_login")}))
    if not state["active"]:
        raise click.exceptions.Exit(1)


def _is_at_login(manager: Manager) -> bool | None:
    try:
        return manager.is_at_login()
    except ServiceError:  # nobody can tell
        return None


def _text(manager: Manager, *, installed: bool, active: bool, at_login: bool) -> str:
    if not installed:
        return "there is no service; `mailboxd service install` makes one"
    outdated = "" if manager.is_current() else "; it is of another version or data directory: install it again"
    state = ("running" if active else "installed, not running") + ("" if at_login else ", not started at login")
    return f"{manager.name}: {state} ({manager.file or manager.name}){outdated}"
