"""Files that commands read and write as streams: `-`, a terminal's progress, and one line for what goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import click

from node.cli.program import fail
from node.datadir import DataDirError
from node.http.client import ClientError
from node.identity import IdentityError

__all__ = ["PROGRESS_S", "clear_line", "date_text", "open_input", "open_output", "told_in_one_line"]

PROGRESS_S: Final = 0.2
"""How often a terminal is told how far it is."""


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """What can go wrong with a mailbox becomes one line."""
    from node.store.api import StoreError  # noqa: PLC0415

    try:
        yield
    except (StoreError, ClientError, DataDirError, IdentityError) as error:
        fail(str(error))
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _only(error) if isinstance(error, BaseExceptionGroup) else error


@contextlib.contextmanager
def open_input(file: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file's bytes (`-`: standard input) and how many there are, None if that can't be told."""
    if str(file) == "-":
        yield sys.stdin.buffer, None
        return
    try:
        with file.open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    except OSError as error:
        if error.filename is None or Path(str(error.filename)) != file:
            raise
        fail(f"{file} can't be read: {error.strerror}")


@contextlib.contextmanager
def open_output(file: Path) -> Iterator[tuple[Callable[[bytes], object], Callable[[str], None]]]:
    """Where to write the file, and how far it is. It gets its name when it is whole and on the disk."""
    shown_at = 0.0

    def show(text: str) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() and time.monotonic() >= shown_at + PROGRESS_S:
            shown_at = time.monotonic()
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    if str(file) == "-":
        if sys.stdout.isatty():
            fail("this is not for a terminal: name a file, or pipe it to where it belongs")
        yield sys.stdout.buffer.write, show
        sys.stdout.buffer.flush()
        clear_line()
        return
    aside = file.with_name(f"{file.name}.part")
    try:
        aside.unlink(missing_ok=True)  # what is left of an earlier run; never through a link that somebody put there
        with aside.open("xb") as stream:
            yield stream.write, show
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}")
    finally:
        clear_line()
        with contextlib.suppress(OSError):
            aside.unlink()


def clear_line() -> None:
    """Removes what a terminal was told of the progress."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)


def date_text(time_s: int) -> str:
    """Unix seconds as people read them, in UTC."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"at {time_s} s"
