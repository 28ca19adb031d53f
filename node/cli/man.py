"""`mailboxd man` and `completion`: what shells and readers of manuals need, made from the commands themselves."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Iterator

import click
from click.shell_completion import get_completion_class

__all__ = ["completion", "man"]

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands and options.

    \b
    Examples:
      mailboxd completion bash >> ~/.bashrc
      mailboxd completion fish > ~/.config/fish/completions/mailboxd.fish
    """
    maker = get_completion_class(shell)
    assert maker is not None
    program = context.find_root()
    click.echo(maker(program.command, {}, "mailboxd", "_MAILBOXD_COMPLETE").source())


@click.command()
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual page, made from the help texts.

    \b
    Examples:
      mailboxd man | man -l -
      mailboxd man > ~/.local/share/man/man1/mailboxd.1
    """
    root = context.find_root()
    click.echo("\n".join(_page(root.command)))


def _page(program: click.Command) -> Iterator[str]:
    yield f'.TH MAILBOXD 1 "" "mailboxd {importlib.metadata.version("mailboxd")}" "User Commands"'
    yield ".SH NAME"
    yield r"mailboxd \- a mailbox for local\-first chat"
    yield ".SH SYNOPSIS"
    yield ".B mailboxd"
    yield ".I COMMAND"
    yield "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from _prose(program.help or "")
    yield ".SH COMMANDS"
    yield from _commands(program, click.Context(program, info_name="mailboxd"))
    yield ".SH EXIT STATUS"
    yield "0 if it is done, 1 if it failed (one line on standard error says what to do), 2 for wrong use."
    yield ".SH FILES"
    yield "Everything of a mailbox is in its data directory, ~/.local/share/mailboxd on Linux; options of"
    yield ".B run"
    yield "may stand in config.toml there."


def _commands(group: click.Command, context: click.Context) -> Iterator[str]:
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".SS {_text(f'{inner.command_path} {usage}')}"
        yield from _prose(command.help or "")
        for param in command.get_params(inner):
            record = param.get_help_record(inner)
            if record is not None and record[0] != "-h, --help":
                yield ".TP"
                yield rf"\fB{_text(record[0])}\fR"
                yield _text(" ".join(record[1].split()))
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _prose(text: str) -> Iterator[str]:
    """Paragraphs as they flow; what stands behind \\b keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            yield from (".PP", ".nf", *(_text(line) for line in paragraph.splitlines()[1:]), ".fi")
        else:
            yield ".PP"
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """A line of roff that shows `text` as it is."""
    escaped = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace("~", r"\(ti").replace("^", r"\(ha")
    )
    escaped = escaped.replace("'", r"\(aq").replace('"', r"\(dq")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
