"""`mailboxd chat`: an example of an app on the client kit, for two terminals and any mailboxes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.options import DATA_DIR, NAME, parse_duration_s
from node.cli.program import fail
from node.logs import escape_controls
from protocols.limits.client import CHAT_LONELY_S, CHAT_SECRET_CHARS_MIN, CHAT_TEXT_BYTES_MAX
from protocols.limits.units import KIB

if TYPE_CHECKING:
    from node.client import Client, MailboxState, Message
    from node.client.chat import Line, Room
    from node.client.keyring import Keyring
    from protocols.client.address import Mailbox

__all__ = ["chat"]

_READ_BYTES: Final = 64 * KIB
_SECRET_VARIABLE: Final = "MAILBOXD_CHAT_SECRET"
_INVITATION_VARIABLE: Final = "MAILBOXD_CHAT_INVITATION"


class _MailboxType(click.ParamType[Any]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Mailbox:
        from protocols.client.address import Mailbox  # noqa: PLC0415

        try:
            return value if isinstance(value, Mailbox) else Mailbox(str(value).rstrip("/"))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _SecondsType(click.ParamType[Any]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(parse_duration_s(str(value), unit_needed=False))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--data-dir",
    type=DATA_DIR,
    help="Where this chat keeps what was written and read, apart from any mailbox's directory.  "
    "[default: one for each topic and name, in the platform's user data directory]",
)
@click.option("--topic", required=True, metavar="TEXT", help="What the chat is called: the same for all who take part.")
@click.option("--name", required=True, type=NAME, help="Under which name to write.")
@click.option(
    "--mailbox",
    "mailboxes",
    type=_MailboxType(),
    multiple=True,
    help="A mailbox to use besides those on the local network. Repeatable.",
)
@click.option(
    "--invitation",
    envvar=_INVITATION_VARIABLE,
    metavar="mailboxd:pair?…",
    help="If the mailbox has a password: the line that `mailboxd pair` or its dashboard shows, in quotes. Needed once; "
    "the token that it gives is kept with this chat.",
)
@click.option(
    "--token", envvar="MAILBOXD_CHAT_TOKEN", help="If the mailbox has a password: the token of this computer."
)
@click.option(
    "--pin", metavar="sha256//…", help="The key of the https:// mailbox, as `mailboxd identity` shows it there."
)
@click.option("--no-mdns", is_flag=True, help="Use only the mailboxes that are named.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Where the shared word stands.  [default: {_SECRET_VARIABLE}, else it is asked for]",
)
@click.option("--stay", is_flag=True, help="Go on listening when standard input ends.")
@click.option(
    "--wait",
    "wait_s",
    type=_SecondsType(),
    default="10",
    show_default=True,
    help="At the end, how long to wait for a mailbox to take what was written and to tell what is new.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each message as a JSON object in a line.")
def chat(
    data_dir: Path | None,
    topic: str,
    name: str,
    mailboxes: tuple[Mailbox, ...],
    invitation: str | None,
    token: str | None,
    pin: str | None,
    no_mdns: bool,
    secret_file: Path | None,
    stay: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Chat over mailboxes, in a terminal.

    An example of what the client kit can do: each line of standard input is a message, and what others write appears as
    it comes, also what they wrote while you were away. Everybody gives the same --topic and knows the same word, with
    which all is encrypted; names are not proven. What was written and read is kept in a directory of its own, so that
    nothing is lost or shown twice.

    \b
    Examples:
      mailboxd chat --topic garden --name anna
      mailboxd chat --topic garden --name bob --mailbox http://192.168.1.5:3411
      mailboxd chat --topic garden --name bob --invitation 'mailboxd:pair?v=1&id=…'
      echo "The gate is open." | MAILBOXD_CHAT_SECRET="…" mailboxd chat --topic garden --name anna
    """
    import trio  # noqa: PLC0415

    from node.cli.signals import until_signal  # noqa: PLC0415
    from node.client import ClientStoreError  # noqa: PLC0415
    from node.client.chat import Room  # noqa: PLC0415
    from node.client.keyring import Keyring, KeyringError  # noqa: PLC0415

    if (token or pin) and len(mailboxes) != 1:
        raise click.UsageError("--token and --pin are for one mailbox: name it with --mailbox")
    addresses = [_with(mailbox, token, pin) for mailbox in mailboxes]
    room = Room(topic, _secret(secret_file))
    session = _Session(room, name, wait_s=wait_s, stay=stay, as_json=as_json)
    place = data_dir or _default_dir(room, name)
    try:
        keyring = Keyring(place)
    except KeyringError as error:
        fail(str(error))
    if no_mdns and not (addresses or invitation or keyring.mailboxes):
        raise click.UsageError("--no-mdns needs at least one --mailbox, or an --invitation")
    if invitation is not None:
        trio.run(_pair, invitation, name, keyring)

    async def work() -> bool:
        named = {address.url: address for address in (*keyring.mailboxes, *addresses)}
        return await session.run(place, list(named.values()), uses_mdns=not no_mdns)

    async def main() -> bool:
        return await until_signal(work, note="bye")

    try:
        is_sent = trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        stores, _ = group.split(ClientStoreError)
        if stores is None:
            raise
        fail(str(_first(stores)))
    except ClientStoreError as error:
        fail(str(error))
    if not is_sent:
        fail("no mailbox could be reached; what you wrote is kept, and goes out when you start this chat again")


async def _pair(invitation: str, name: str, keyring: Keyring) -> None:
    """Uses the invitation up and keeps what it gives; one of a mailbox that has let us in already need not be good any
    more. Raises click.UsageError, or ends the program."""
    from node.client.keyring import KeyringError  # noqa: PLC0415
    from node.client.pairing import invited_by, pair  # noqa: PLC0415
    from protocols.client.answers import Cause, Refused  # noqa: PLC0415
    from protocols.limits.admission import DEVICE_NAME_CHARS_MAX  # noqa: PLC0415

    try:
        mailbox_id = invited_by(invitation)
        keyring.keep(await pair(invitation, f"{name}, chat on {platform.node()}"[:DEVICE_NAME_CHARS_MAX]))
    except ValueError as error:
        raise click.UsageError(f"--invitation: {error}; put it into quotes, the shell reads & otherwise") from None
    except Refused as refused:
        if refused.cause is Cause.UNAUTHORISED and keyring.holds(mailbox_id):
            return
        again = "; `mailboxd pair` there shows a new one" if refused.cause is Cause.UNAUTHORISED else ""
        fail(f"mailbox {mailbox_id.short} did not take the invitation: {escape_controls(str(refused))}{again}")
    except KeyringError as error:
        fail(str(error))
    click.echo(f"* mailbox {mailbox_id.short} has let this chat in, from now on", err=True)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _with(mailbox: Mailbox, token: str | None, pin: str | None) -> Mailbox:
    from dataclasses import replace  # noqa: PLC0415

    try:
        return replace(mailbox, token=token, pin=pin if mailbox.is_https else None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _secret(file: Path | None) -> str:
    if file is not None:
        secret = file.read_text(encoding="utf-8", errors="replace").strip()
    elif _SECRET_VARIABLE in os.environ:
        secret = os.environ[_SECRET_VARIABLE]
    elif sys.stdin.isatty():
        secret = _asked()
    else:
        raise click.UsageError(f"set {_SECRET_VARIABLE} or give --secret-file: standard input is not a terminal")
    if len(secret) < CHAT_SECRET_CHARS_MIN:
        raise click.UsageError(f"the shared word needs {CHAT_SECRET_CHARS_MIN} characters at least; a sentence is best")
    return secret


def _asked() -> str:
    """The word, from the terminal; asked again until it is long enough."""
    while True:
        what = f"the word that you share ({CHAT_SECRET_CHARS_MIN} characters at least, unseen)"
        secret: str = click.prompt(what, hide_input=True, err=True)
        if len(secret) >= CHAT_SECRET_CHARS_MIN:
            return secret
        click.echo("too short to keep a secret; a sentence is best", err=True)


def _default_dir(room: Room, name: str) -> Path:
    import platformdirs  # noqa: PLC0415

    who = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return Path(platformdirs.user_data_dir("mailboxd-chat", appauthor=False)) / f"{room.topic[:16]}-{who}"


class _Session:
    """One run of the chat."""

    def __init__(self, room: Room, name: str, *, wait_s: float, stay: bool, as_json: bool) -> None:
        self._room = room
        self._name = name
        self._wait_s = wait_s
        self._stays = stay
        self._as_json = as_json

    async def run(self, place: Path, addresses: list[Mailbox], *, uses_mdns: bool) -> bool:
        """Until standard input ends and a mailbox was heard; False if none has taken what was written."""
        import trio  # noqa: PLC0415

        from node.client import open_client  # noqa: PLC0415

        discovery = None
        if uses_mdns:
            from node.discovery.mdns import MdnsDiscovery  # noqa: PLC0415

            discovery = MdnsDiscovery()
        room = self._room
        async with open_client(
            place, topics=[room.topic], mailboxes=(), discovery=discovery, check=room.accepts
        ) as client:
            client.watch(self._say_mailbox)
            for address in addresses:
                client.add(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, client)
                nursery.start_soon(_say_lonely, client)
                await self._write(client)
                if self._stays:
                    await trio.sleep_forever()
                with trio.move_on_after(self._wait_s) as scope:
                    await client.flushed()
                    await client.caught_up()
                nursery.cancel_scope.cancel()
        return not scope.cancelled_caught

    async def _write(self, client: Client) -> None:
        import trio  # noqa: PLC0415

        from node.client.chat import Line  # noqa: PLC0415

        rest = b""
        is_open = True
        while is_open:
            # Not through sys.stdin: a thread that waits in its buffer would hold up the end of the program.
            data = await trio.to_thread.run_sync(os.read, 0, _READ_BYTES, abandon_on_cancel=True)
            is_open = bool(data)
            *lines, rest = (rest + (data or b"\n")).split(b"\n")
            if len(rest) > CHAT_TEXT_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r")
                if text.strip():
                    said = Line(self._name, text, time.time())
                    try:
                        await client.publish(self._room.topic, partial(self._room.seal, said))
                    except ValueError as error:
                        click.echo(f"* not sent: {error}", err=True)

    async def _listen(self, client: Client) -> None:
        async for message in client.messages():
            self._show(message, self._room.open(message))

    def _show(self, message: Message, line: Line) -> None:
        if self._as_json:
            fields = {"log": message.log, "seq": message.seq, "name": line.name, "at": _date(line.at_s)}
            fields |= {"text": line.text, "late": message.is_late, "skipped": message.skipped}
            click.echo(json.dumps(fields, ensure_ascii=False))
            return
        if message.skipped:
            click.echo(f"* {message.skipped} earlier messages of {escape_controls(line.name)} did not come", err=True)
        late = " (late)" if message.is_late else ""
        click.echo(f"[{_clock(line.at_s)}] {escape_controls(line.name)}: {escape_controls(line.text)}{late}")

    def _say_mailbox(self, state: MailboxState, is_here: bool) -> None:
        if not is_here:
            text = "is gone"
        elif state.is_well:
            text = "is here"
        elif state.reason == "not reached yet":
            return
        elif state.is_shut_out:
            text = "lets in only who is paired: `mailboxd pair` shows a line there, for --invitation"
        else:
            text = f"does not answer well: {state.reason}"
        with suppress(OSError):
            click.echo(f"* mailbox {escape_controls(f'{state.url} {text}')}", err=True)


async def _say_lonely(client: Client) -> None:
    """What to do if no mailbox turns up."""
    import trio  # noqa: PLC0415

    await trio.sleep(CHAT_LONELY_S)
    if not client.mailboxes():
        hint = "name one with --mailbox http://HOST:3411 (on this computer: http://127.0.0.1:3411)"
        click.echo(f"* no mailbox is found here yet; {hint}", err=True)


def _date(at_s: float) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def _clock(at_s: float) -> str:
    try:
        then = datetime.fromtimestamp(at_s, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return "?"
    is_recent = abs(time.time() - at_s) < 12 * 3600
    return then.strftime("%H:%M" if is_recent else "%Y-%m-%d %H:%M")
