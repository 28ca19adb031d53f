"""`mailboxd put` and `get`: what a phone does, from the command line."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from node.cli.options import ID, SEQ, TakesIds, data_dir_option
from node.cli.output import bytes_text, shorten
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir, read_node_info
from node.http.client import ClientError, own_token, read_topic, store_messages
from node.logs import escape_controls
from protocols.limits.data import BLOB_BYTES_MAX
from protocols.model import LogName

__all__ = ["get", "put"]

_PREVIEW_CHARS = 40


@contextmanager
def _running(data_dir: Path | None) -> Iterator[tuple[str, str]]:
    """The base URL of the running mailbox and its user's own token; what goes wrong with it becomes one line."""
    path = data_dir or default_data_dir()
    try:
        info = read_node_info(path)
        if not info.http:
            fail("the running mailbox has no HTTP address")
        yield info.http[0], own_token(path)
    except (ClientError, DataDirError) as error:
        fail(str(error))


@click.command(cls=TakesIds)
@data_dir_option()
@click.argument("topic", type=ID)
@click.argument("log", type=ID)
@click.argument("seq", type=SEQ)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def put(data_dir: Path | None, topic: str, log: str, seq: int, file: Path) -> None:
    """Store a message in a running mailbox.

    The content is that of FILE, or what comes on standard input for `-`. When the command ends with exit code 0, the
    message is on the disk. The same content again changes nothing; other content under the same SEQ is kept beside it,
    and the first one is the one that is served.

    \b
    Examples:
      mailboxd put garden alice 0 photo.jpg
      echo "The gate is open." | mailboxd put garden alice 1 -
    """
    blob = _content(file)
    with _running(data_dir) as (url, token):
        watermark = store_messages(url, [(topic, log, seq, blob)], token=token).get(LogName(topic, log))
    state = "lacks message 0" if watermark is None else f"is complete up to {watermark}"
    click.echo(f"stored message {seq}, {bytes_text(len(blob))}; this log {state}")


def _content(file: Path) -> bytes:
    try:
        if str(file) == "-":
            blob = sys.stdin.buffer.read(BLOB_BYTES_MAX + 1)
        else:
            # O_NONBLOCK: a pipe without a writer must not hang us silently.
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as stream:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    fail(f"{file} is not a plain file; to store what a program writes, pipe it in and give -")
                blob = stream.read(BLOB_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}")
    if len(blob) > BLOB_BYTES_MAX:
        fail(f"{file} is larger than a message may be ({bytes_text(BLOB_BYTES_MAX)})")
    return blob


class _Message(NamedTuple):
    log: str
    seq: int
    blob: bytes


@click.command(cls=TakesIds)
@data_dir_option()
@click.argument("topic", type=ID)
@click.argument("log", type=ID, required=False)
@click.argument("after", type=SEQ, required=False)
@click.option("--seq", type=SEQ, help="Only the message with this number.")
@click.option("--raw", is_flag=True, help="Write the contents as they are, one after the other, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per message and line, content as base64.")
@click.pass_context
def get(
    context: click.Context,
    data_dir: Path | None,
    topic: str,
    log: str | None,
    after: int | None,
    seq: int | None,
    raw: bool,
    as_json: bool,
) -> None:
    """Read messages from a running mailbox.

    Lists those of TOPIC, or of its log LOG, or of that only those with a number above AFTER: log, number, size and the
    beginning of the content. On a terminal long ids are shortened; otherwise the four columns are separated by tabs.

    \b
    Examples:
      mailboxd get garden
      mailboxd get garden alice 17
      mailboxd get garden alice --seq 0 --raw > photo.jpg
      mailboxd get garden --json | jq -r .seq
    """
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other", context)
    if after is not None and seq is not None:
        raise click.UsageError("AFTER and --seq exclude each other", context)
    if log is None and seq is not None:
        raise click.UsageError("--seq needs LOG", context)
    above = seq - 1 if seq else after
    with _running(data_dir) as (url, token):
        answer = read_topic(url, topic, {} if log is None or above is None else {log: above}, token=token)
    messages = [
        _Message(name, number, blob)
        for name in sorted(answer)
        if log in (None, name)
        for number, blob in sorted(answer[name].items())
        if seq in (None, number)
    ]
    if raw:
        _write_raw(messages)
    elif as_json:
        _write_json(messages)
    else:
        _write_list(messages)
    if seq is not None and not messages:
        fail(f"message {seq} of log {log} is not here")


def _write_raw(messages: Iterable[_Message]) -> None:
    for message in messages:
        sys.stdout.buffer.write(message.blob)
    sys.stdout.buffer.flush()


def _write_json(messages: Iterable[_Message]) -> None:
    for log, seq, blob in messages:
        content = base64.b64encode(blob).decode("ascii")
        click.echo(json.dumps({"log": log, "seq": seq, "size": len(blob), "blob": content}, ensure_ascii=False))


def _write_list(messages: list[_Message]) -> None:
    if not sys.stdout.isatty():
        for log, seq, blob in messages:
            click.echo(f"{escape_controls(log)}\t{seq}\t{len(blob)}\t{_preview(blob)}")
        return
    if not messages:
        click.echo("no messages", err=True)
    for log, seq, blob in messages:
        click.echo(f"{shorten(escape_controls(log), 16):<16}  {seq:>6}  {bytes_text(len(blob)):>9}  {_preview(blob)}")


def _preview(blob: bytes) -> str:
    """The beginning as text if it is text, else in hex."""
    head = blob[: 4 * _PREVIEW_CHARS]
    text = head.decode("utf-8", "replace")
    readable = sum(c.isprintable() or c in "\n\t" for c in text.replace("\ufffd", "\0"))
    if readable < 0.9 * len(text):
        return shorten(head.hex(), _PREVIEW_CHARS)
    return shorten(escape_controls(text.rstrip("\n\ufffd")), _PREVIEW_CHARS)
