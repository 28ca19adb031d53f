"""`mailboxd password`, `trust`, `distrust` and `trusted`: who is let in.

They work on a running mailbox, at once, and on one that isn't running, for its next start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click

from node.admission.policy import AdmissionError
from node.cli.mailbox_ids import TakesMailboxIds, find_mailbox
from node.cli.options import data_dir_option
from node.cli.output import count_text, print_json
from node.cli.program import fail
from node.datadir import DataDir, DataDirError, NotRunning, default_data_dir
from node.http.client import AdminClient, ClientError
from protocols.limits.admission import PASSWORD_BYTES_MAX
from protocols.model import MailboxId

__all__ = ["distrust", "office", "password", "trust", "trusted"]


class Office(Protocol):
    """What `node.admission.office` offers, on a running mailbox or on its files."""

    def state(self) -> dict[str, Any]: ...

    def set_password(self, secret: str | None) -> dict[str, Any]: ...

    def decide(self, mailbox: str, stance: str) -> dict[str, Any]: ...

    def revoke(self, device: str | None) -> dict[str, Any]: ...

    def known(self) -> list[str]: ...


class _Running:
    """The office of a running mailbox."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def state(self) -> dict[str, Any]:
        """See `AdmissionOffice`."""
        answer: dict[str, Any] = self._client.get("/admin/admission")
        return answer

    def set_password(self, secret: str | None) -> dict[str, Any]:
        """See `AdmissionOffice`."""
        answer: dict[str, Any] = self._client.post("/admin/password", {"secret": secret})
        return answer

    def decide(self, mailbox: str, stance: str) -> dict[str, Any]:
        """See `AdmissionOffice`."""
        answer: dict[str, Any] = self._client.post("/admin/trust", {"mailbox": mailbox, "stance": stance})
        return answer

    def revoke(self, device: str | None) -> dict[str, Any]:
        """See `AdmissionOffice`."""
        answer: dict[str, Any] = self._client.post("/admin/revoke", {"device": device})
        return answer

    def known(self) -> list[str]:
        """The ids of mailboxes that it knows."""
        return [str(peer["mailbox_id"]) for peer in self._client.peers()]


@contextmanager
def office(data_dir: Path | None, *, makes: bool = False) -> Iterator[tuple[Office, bool]]:
    """The office of the mailbox on a data directory, and whether it runs; what goes wrong becomes one line. `makes`: a
    directory that is not there yet is made."""
    path = data_dir or default_data_dir()
    try:
        with AdminClient.open(path) as client:
            yield _Running(client), True
    except NotRunning:
        pass
    except (ClientError, DataDirError) as error:
        fail(str(error))
    else:
        return
    if not (makes or path.is_dir()):
        fail(f"there is no mailbox at {path}; the first `mailboxd run` makes one")
    try:
        with DataDir.open(path):  # nobody starts it meanwhile
            yield _on_files(path), False
    except (AdmissionError, DataDirError) as error:
        fail(str(error))


def _on_files(path: Path) -> Office:
    import trio  # noqa: PLC0415

    from node.admission.files import load_admission  # noqa: PLC0415
    from node.admission.office import AdmissionOffice  # noqa: PLC0415

    desk = AdmissionOffice(load_admission(path))

    class _Files:
        state, set_password, decide = desk.state, desk.set_password, desk.decide

        def revoke(self, device: str | None) -> dict[str, Any]:
            """See `AdmissionOffice`."""
            return trio.run(desk.revoke, device)

        def known(self) -> list[str]:
            """None but those of the lists."""
            return []

    return _Files()


# --- password ------------------------------------------------------------------------------------------------------


@click.group()
def password() -> None:
    """Set, clear or look after the password that mailboxes share.

    Without one, a mailbox is open: to every mailbox and every phone in the network. With one, it exchanges messages
    only with mailboxes that have the same, and with phones that are paired (`mailboxd pair`). The password itself is
    neither stored nor sent.

    \b
    Examples:
      mailboxd password set
      mailboxd password set < password.txt
      mailboxd password clear
    """


@password.command("set")
@data_dir_option()
def set_(data_dir: Path | None) -> None:
    """Ask for a password and set it, at once and for good.

    Reads one line from stdin if that is not a terminal. Set the same on every mailbox that shall belong together.
    """
    from protocols.admission.secret import stretch  # noqa: PLC0415

    given = _ask_for_password()
    try:
        secret = stretch(given)
    except ValueError as error:
        fail(str(error))
    with office(data_dir, makes=True) as (desk, is_running):
        state = desk.set_password(secret.hex())
    when = "from now on" if is_running else "from its next start"
    click.echo(f"the password is set; {when} this mailbox exchanges messages only with those that have the same")
    if not state["devices"]:
        click.echo("phones are let in once they are paired: `mailboxd pair` shows how")
    else:
        click.echo(f"{count_text(len(state['devices']), 'paired phone')} may go on; see `mailboxd devices`")


def _ask_for_password() -> str:
    if not sys.stdin.isatty():
        line = sys.stdin.buffer.readline(2 * PASSWORD_BYTES_MAX).rstrip(b"\r\n")
        try:
            return line.decode()
        except UnicodeDecodeError:
            fail("the password on stdin is not UTF-8")
    given: str = click.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    return given


@password.command()
@data_dir_option()
def clear(data_dir: Path | None) -> None:
    """Remove the password: the mailbox is open again, to everybody in the network."""
    with office(data_dir) as (desk, _):
        had_one = desk.state()["password"]
        desk.set_password(None)
    click.echo("the password is removed; this mailbox is open" if had_one else "there was no password; it is open")


@password.command("status")
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status_(data_dir: Path | None, as_json: bool) -> None:
    """Say whether there is a password."""
    with office(data_dir) as (desk, _):
        state = desk.state()
    if as_json:
        print_json({key: state[key] for key in ("password", "password_source", "only_trusted")})
    elif state["password"]:
        click.echo(f"there is a password, from {state['password_source']}")
    else:
        click.echo("there is no password; `mailboxd password set` sets one")


# --- trust ---------------------------------------------------------------------------------------------------------


@click.command(cls=TakesMailboxIds)
@data_dir_option()
@click.argument("mailbox")
@click.option("--undo", is_flag=True, help="Trust it no longer.")
def trust(data_dir: Path | None, mailbox: str, undo: bool) -> None:
    """Let a mailbox in without a password.

    MAILBOX is its id (43 characters), the beginning of one that `mailboxd peers` shows, or a PeerId. Its key proves
    who it is. Both sides must let each other in: have it trust this mailbox, too, unless it is open.

    \b
    Examples:
      mailboxd trust dmYx3QpA
      mailboxd trust --undo dmYx3QpA
    """
    found = _decide(data_dir, mailbox, "trusted", undo)
    click.echo(f"{found} is {'no longer trusted' if undo else 'trusted: it is let in without a password'}")


@click.command(cls=TakesMailboxIds)
@data_dir_option()
@click.argument("mailbox")
@click.option("--undo", is_flag=True, help="Distrust it no longer.")
def distrust(data_dir: Path | None, mailbox: str, undo: bool) -> None:
    """Never exchange anything with a mailbox, whatever password it has.

    MAILBOX is as in `mailboxd trust`. What it has brought already stays.

    \b
    Examples:
      mailboxd distrust dmYx3QpA
      mailboxd distrust --undo dmYx3QpA
    """
    found = _decide(data_dir, mailbox, "distrusted", undo)
    click.echo(f"{found} is {'no longer distrusted' if undo else 'distrusted: nothing is exchanged with it'}")


def _decide(data_dir: Path | None, mailbox: str, stance: str, undo: bool) -> str:
    with office(data_dir, makes=True) as (desk, _):
        state = desk.state()
        found = _whole_id(mailbox)
        if found is None:
            found = find_mailbox(mailbox, sorted({*desk.known(), *state["trusted"], *state["distrusted"]}))
        if undo and found not in state[stance]:
            fail(f"{found} is not {stance}; `mailboxd trusted` lists those that are")
        desk.decide(found, "neither" if undo else stance)
    return found


def _whole_id(text: str) -> str | None:
    try:
        return str(MailboxId.parse(text))
    except ValueError:
        if len(text) == 43:
            fail(f"{text!r} is not a mailbox id: a character of it is wrong")
        return None


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def trusted(data_dir: Path | None, as_json: bool) -> None:
    """List the mailboxes that are trusted or distrusted.

    \b
    Examples:
      mailboxd trusted
      mailboxd trusted --json
    """
    with office(data_dir) as (desk, _):
        state = desk.state()
    if as_json:
        print_json({key: state[key] for key in ("only_trusted", "trusted", "distrusted")})
        return
    lines = [f"{mailbox_id}  {stance}" for stance in ("trusted", "distrusted") for mailbox_id in state[stance]]
    click.echo("\n".join(lines) if lines else "no mailbox is trusted or distrusted; see `mailboxd trust --help`")
    if state["only_trusted"]:
        click.echo("only trusted mailboxes are let in (--only-trusted)")
