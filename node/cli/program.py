"""The list of commands, and what becomes of errors: one line on stderr, exit code 1 for a failure, 2 for wrong use."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from node.logs import escape_controls

__all__ = ["COMMANDS", "fail", "main", "program"]

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

# Section -> command -> (module, what it does). The text stands here so that the list costs no imports; a test holds it
# to the first line of the command's own help.
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run a mailbox": {
        "run": ("run", "Start a mailbox in the foreground."),
        "service": ("service", "Have the mailbox start at login and run in the background."),
        "dashboard": ("dashboard", "Open the dashboard of a running mailbox in the browser."),
        "tray": ("tray", "Show an icon in the tray: how the mailbox is, its dashboard, pause and quit."),
        "update": ("update", "Say whether a newer release is out, if you name a place to ask."),
    },
    "See how it is": {
        "status": ("status", "Show what a running mailbox holds and how it stands with its neighbours."),
        "peers": ("status", "Show the other mailboxes that a running one knows."),
        "sync": ("status", "Compare with neighbours now, and wait for the result."),
        "doctor": ("doctor", "Look for what keeps this mailbox from working, and say what to do."),
        "identity": ("identity", "Show who this mailbox is and how others reach it."),
        "discover": ("discover", "Look for mailboxes on the local network."),
        "limits": ("limits", "Show the limits, how much of each is in use, and what they are for."),
        "verify": ("verify", "Check every stored message for damage."),
        "report": ("report", "Have this mailbox and PEER sign what both hold at one moment, or check such a report."),
    },
    "Who is let in": {
        "password": ("admission", "Set, clear or look after the password that mailboxes share."),
        "trust": ("admission", "Let a mailbox in without a password."),
        "distrust": ("admission", "Never exchange anything with a mailbox, whatever password it has."),
        "trusted": ("admission", "List the mailboxes that are trusted or distrusted."),
        "pair": ("pairing", "Show a code by which a phone gets access."),
        "devices": ("pairing", "List the paired phones."),
        "revoke": ("pairing", "Take its access from a paired phone."),
    },
    "Messages": {
        "chat": ("chat", "Chat over mailboxes, in a terminal."),
        "put": ("messages", "Store a message in a running mailbox."),
        "get": ("messages", "Read messages from a running mailbox."),
        "want": ("sneakernet", "Write down what this mailbox has, for another one to export the rest."),
        "export": ("sneakernet", "Write what another mailbox lacks into a file, to be carried there."),
        "import": ("sneakernet", "Take in the messages of a file that another mailbox exported."),
    },
    "For the shell": {
        "completion": ("man", "Print what makes a shell complete commands and options."),
        "man": ("man", "Print the manual page, made from the help texts."),
    },
    "Try and measure": {
        "demo": ("demo", "Show three mailboxes on this machine part and come together again."),
        "bench": ("bench", "Measure speed and traffic on this machine."),
    },
}
COMMANDS: Final = {name: about for section in SECTIONS.values() for name, about in section.items()}


class _Lazy(click.Group):
    """Imports a command's module when the command is used. Others can be added to it (`add_command`) from above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"node.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {title: [(name, text) for name, (_, text) in own.items()] for title, own in SECTIONS.items()}
        # What is added from above (the simulator) stands in the last section.
        rows[[*rows][-1]] += [(name, added.get_short_help_str(80)) for name, added in self.commands.items()]
        first_column = max(len(name) for name in self.list_commands(ctx))
        for title, section in rows.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(first_column), text) for name, text in section])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise click.UsageError(f"{name!r} is not a command; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(context: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import importlib.metadata  # noqa: PLC0415

        click.echo(f"mailboxd {importlib.metadata.version('mailboxd')}")
        context.exit()


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`mailboxd COMMAND --help` explains each, with examples. Exit codes: 0 done, 1 failed, 2 wrong use.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def program(context: click.Context) -> None:
    """A mailbox for local-first chat: it keeps encrypted messages for people who are offline, and mailboxes that
    meet come to hold the same.

    \b
    Examples:
      mailboxd run                      start a mailbox, phones find it at port 3411
      mailboxd status                   how it is doing
      mailboxd demo                     see three of them at work, in under a minute
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def fail(message: str) -> NoReturn:
    """Ends the command with exit code 1 and `message` on stderr: one line that says what to do."""
    raise click.ClickException(message)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and exits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal can't show must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        code = program.main(arguments, prog_name="mailboxd", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # `mailboxd get … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except Exception as error:
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Writes the line about `error`; returns the exit code."""
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx is not None else "mailboxd"
        _complain(f"{where}: {_usage_text(error)} (see {where} --help)")
        return EXIT_USAGE
    if isinstance(error, click.ClickException):
        _complain(f"mailboxd: {error.format_message()}")
        return EXIT_FAILURE
    if isinstance(error, OSError):  # what a command did not foresee about files or the network
        _complain(f"mailboxd: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return EXIT_FAILURE
    raise error


def _usage_text(error: click.UsageError) -> str:
    """Says whether an option or an environment variable is wrong: click only knows the option."""
    from node.cli.options import TakesIds  # noqa: PLC0415

    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx is not None:
        name, variable = error.param.name or "", error.param.envvar
        if error.ctx.get_parameter_source(name) is click.core.ParameterSource.ENVIRONMENT:
            return f"Invalid value for the environment variable {variable}: {error.message}"
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and isinstance(error.ctx.command, TakesIds):
        return f"{error.format_message()}; an id that begins with - goes behind --"
    return error.format_message()


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(escape_controls(" ".join(text.split())), err=True)
