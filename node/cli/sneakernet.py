"""`mailboxd want`, `export` and `import`: messages that travel on a USB stick, where no network leads."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import click

from node.cli.options import data_dir_option
from node.cli.output import bytes_text, count_text, print_json
from node.cli.program import fail
from node.cli.streams import PROGRESS_S, clear_line, date_text, open_input, open_output, told_in_one_line
from node.datadir import IDENTITY_FILE, STORE_FILE, NotRunning, default_data_dir, running_pid
from node.http.client import AdminClient
from node.identity import Identity
from node.logs import escape_controls
from protocols.errors import RemoteProtocolError
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import SALT_BYTES
from protocols.limits.units import MIB
from protocols.model import MailboxId
from protocols.sneakernet.bundle import BundleHead
from protocols.sneakernet.seal import Kind, Origin, Record, SealReader

if TYPE_CHECKING:
    from node.sneakernet import Exported, Source, Taken, Terms, Wanted

__all__ = ["export", "import_", "want"]

T = TypeVar("T")

_FILE: Final = click.Path(path_type=Path, allow_dash=True)
_PIECE_BYTES: Final = MIB


@click.command()
@data_dir_option()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object about it.")
def want(data_dir: Path | None, file: Path, as_json: bool) -> None:
    """Write down what this mailbox has, for another one to export the rest.

    FILE (`-`: standard output) takes about seven bytes for each message, and no contents: only whoever knows a log's
    name can find it in there. Carry it to another mailbox, and let that one `export --for FILE`. Works while the
    mailbox runs and when it is stopped, and changes nothing.

    \b
    Examples:
      mailboxd want /media/stick/library.want
      mailboxd want - | ssh pi mailboxd export --for - - | mailboxd import -
    """
    from node.sneakernet import write_want  # noqa: PLC0415

    with told_in_one_line(), open_output(file) as (write, show):

        def progress(messages: int) -> None:
            show(f"{messages:,} messages")

        async def work(source: Source, terms: Terms) -> int:
            return await write_want(source, terms, secrets.token_bytes(SALT_BYTES), write, progress)

        messages = _with_source(data_dir, work)
    if as_json:
        print_json({"messages": messages})
    else:
        click.echo(f"wrote down {count_text(messages, 'message')}", err=str(file) == "-")


@click.command()
@data_dir_option()
@click.option(
    "--for",
    "want_file",
    type=_FILE,
    help="What the other mailbox has, as its `mailboxd want` wrote it (`-`: standard input).  [default: nothing]",
)
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object about it.")
def export(data_dir: Path | None, want_file: Path | None, file: Path, as_json: bool) -> None:
    """Write what another mailbox lacks into a file, to be carried there.

    Without --for that is everything. FILE (`-`: standard output) is sealed with this mailbox's key, record by record:
    of a copy that was torn off, what is whole is still good. Messages stay encrypted by the app, and keep the hour at
    which they were first stored. Works while the mailbox runs and when it is stopped, and changes nothing.

    \b
    Examples:
      mailboxd export /media/stick/everything.bundle
      mailboxd export --for /media/stick/library.want /media/stick/library.bundle
    """
    from node.sneakernet import write_bundle  # noqa: PLC0415

    with told_in_one_line():
        wanted = None if want_file is None else _read_want(want_file)
        with open_output(file) as (write, show):

            def progress(so_far: Exported) -> None:
                show(f"{so_far.examined:,} messages looked at, {so_far.messages:,} written, {bytes_text(so_far.bytes)}")

            async def work(source: Source, terms: Terms) -> Exported:
                if wanted is not None and wanted[0] != terms.network:
                    fail(f"{want_file} comes from the network {wanted[0]!r}, and this mailbox is in {terms.network!r}")
                return await write_bundle(source, terms, wanted and wanted[1], write, progress)

            done = _with_source(data_dir, work)
    if as_json:
        print_json(
            {
                "examined": done.examined,
                "messages": done.messages,
                "dates": done.dates,
                "bytes": done.bytes,
                "recipient": None if wanted is None else str(wanted[1].maker),
            }
        )
        return
    recipient = "any mailbox" if wanted is None else f"mailbox {wanted[1].maker.short}"
    text = f"{count_text(done.messages, 'message')} for {recipient}, {bytes_text(done.bytes)}"
    click.echo(f"{text}; import it there with `mailboxd import`", err=str(file) == "-")


@click.command(name="import")
@data_dir_option()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object about it.")
def import_(data_dir: Path | None, file: Path, as_json: bool) -> None:
    """Take in the messages of a file that another mailbox exported.

    FILE (`-`: standard input) may be imported again: what is here already stays as it is, and nothing lives longer for
    having been carried. Every message is checked, and so is the seal of the mailbox that made the file. Of a copy that
    ends too early, what is whole is taken, and the exit code is 1. Works while the mailbox runs and when it is stopped.

    \b
    Examples:
      mailboxd import /media/stick/library.bundle
      ssh pi mailboxd export - | mailboxd import -
    """
    with told_in_one_line():
        directory = data_dir or default_data_dir()
        with open_input(file) as (stream, size):
            reading = _Reading(stream, size)
            try:
                _take_all(directory, reading)
            except RemoteProtocolError as error:
                reading.problem = str(error)
            finally:
                clear_line()
    origin = reading.seal.origin
    if as_json:
        print_json(reading.summary())
    elif origin is not None:
        click.echo(f"made {date_text(origin.made_s)} by mailbox {origin.maker} ({escape_controls(origin.software)})")
        click.echo(reading.text())
    if reading.problem is not None:
        fail(f"{file}: {reading.problem}; {_kept(reading.taken)}")
    if not reading.seal.is_complete:
        fail(f"{file} ends too early; {_kept(reading.taken)}. Copy it anew and import it again for the rest")


def _kept(taken: Taken | None) -> str:
    count = 0 if taken is None else taken.stored + taken.known
    return f"what came before it, {count_text(count, 'message')}, is imported" if count else "nothing of it is imported"


# --- the mailbox ----------------------------------------------------------------------------------------------------


def _with_source(data_dir: Path | None, work: Callable[[Source, Terms], Any]) -> Any:
    """Runs `work` over the store of the mailbox in `data_dir`, whether that is running or not."""
    import trio  # noqa: PLC0415

    from node.datadir import DataDir  # noqa: PLC0415
    from node.store.reading import SqliteReading  # noqa: PLC0415
    from node.store.sqlite import SqliteStore  # noqa: PLC0415

    directory = data_dir or default_data_dir()
    identity = Identity.load(directory / IDENTITY_FILE)
    path = directory / STORE_FILE
    if not path.exists():
        fail(f"there is no store {path} yet; the first `mailboxd run` makes one")
    terms = _terms(directory, identity)

    async def beside() -> Any:
        async with SqliteReading.open(path) as source:
            return await work(source, terms)

    async def alone() -> Any:
        with DataDir.open(directory):
            async with SqliteStore.open(path) as store:
                return await work(store, terms)

    return trio.run(beside if running_pid(directory) is not None else alone)


def _terms(directory: Path, identity: Identity) -> Terms:
    from node.core import VERSION  # noqa: PLC0415
    from node.sneakernet import Terms  # noqa: PLC0415
    from protocols.model import Retention  # noqa: PLC0415
    from protocols.sync.interest import Interest  # noqa: PLC0415

    try:
        with AdminClient.open(directory) as client:
            rules = client.get("/admin/bundles")
            network, retention = str(rules["network"]), Retention(int(rules["retention_s"]))
            interest = None if rules["topics"] is None else Interest(bytes.fromhex(rules["topics"]))
    except NotRunning:
        config = _config(directory)
        network, retention = config.network, config.retention
        interest = Interest.of(config.topics) if config.topics else None
    return Terms(identity, network, f"mailboxd/{VERSION}", retention, interest, time.time())


def _config(directory: Path) -> Any:
    """What `mailboxd run` would be told by the environment and the file in the data directory."""
    from node.cli.run import run  # noqa: PLC0415
    from node.cli.settings import run_config  # noqa: PLC0415

    values = dict(run.make_context("run", ["--data-dir", str(directory)]).params)
    return run_config(values.pop("data_dir"), values)


# --- importing ------------------------------------------------------------------------------------------------------


class _Reading:
    """A bundle that is being imported, and how far."""

    def __init__(self, stream: BinaryIO, size: int | None) -> None:
        from node.sneakernet import Taken  # noqa: PLC0415

        self.seal = SealReader(Kind.BUNDLE)
        self.head: BundleHead | None = None
        self.taken = Taken()
        self.problem: str | None = None
        self._stream = stream
        self._size = size
        self._read_bytes = 0
        self._shown_at = 0.0

    def records(self) -> Iterator[Record]:
        """Every record whose seal is good. Raises RemoteProtocolError at the first that is not."""
        while data := self._stream.read(_PIECE_BYTES):
            self._read_bytes += len(data)
            self.seal.feed(data)
            while (record := self.seal.next_record()) is not None:
                yield record
            self._show()
        if self.seal.origin is None and not self._read_bytes:
            raise RemoteProtocolError("empty", "the file is empty")

    def count(self, taken: Taken) -> None:
        self.taken = self.taken.plus(taken)

    def _show(self) -> None:
        if not sys.stderr.isatty() or time.monotonic() < self._shown_at + PROGRESS_S:
            return
        self._shown_at = time.monotonic()
        of = f" of {bytes_text(self._size)}" if self._size else ""
        done = f"{bytes_text(self._read_bytes)}{of} read, {self.taken.stored:,} messages stored"
        click.echo(f"\r\x1b[K{done}", nl=False, err=True)

    def text(self) -> str:
        taken = self.taken
        parts = [f"{count_text(taken.stored, 'message')} imported"]
        for number, what in (
            (taken.known, "here already"),
            (taken.expired, "expired on the way"),
            (taken.dropped, "variants too many"),
            (taken.refused, "not taken (no room, or not signed)"),
        ):
            if number:
                parts.append(f"{number:,} {what}")
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        origin, recipient = self.seal.origin, self.head and self.head.recipient
        return {
            "maker": None if origin is None else str(origin.maker),
            "made": None if origin is None else date_text(origin.made_s),
            "recipient": None if recipient is None else str(recipient),
            "complete": self.seal.is_complete and self.problem is None,
            "problem": self.problem,
            "bytes": self._read_bytes,
            **self.taken._asdict(),
        }


def _take_all(directory: Path, reading: _Reading) -> None:
    """Brings all records to the running mailbox, or stores them if none runs."""
    try:
        with AdminClient.open(directory) as client:
            _bring(client, reading)
    except NotRunning:
        if running_pid(directory) is not None:  # it is just starting or stopping
            raise
        _store(directory, reading)


def _bring(client: AdminClient, reading: _Reading) -> None:
    from node.http.admin.bundles import record_body  # noqa: PLC0415
    from node.sneakernet import Taken  # noqa: PLC0415

    network = str(client.get("/admin/bundles")["network"])
    for record in reading.records():
        maker, head = _check(reading, network)
        body = record_body(record, maker=maker, maker_retention_s=head.retention_s)
        answer = client.send("/admin/bundles", body)
        reading.count(Taken(**answer))
    _check(reading, network)


def _store(directory: Path, reading: _Reading) -> None:
    import trio  # noqa: PLC0415

    from node.clock import SystemClock  # noqa: PLC0415
    from node.datadir import DataDir  # noqa: PLC0415
    from node.mailbox import Mailbox  # noqa: PLC0415
    from node.sneakernet import take_record  # noqa: PLC0415
    from node.store.sqlite import SqliteStore  # noqa: PLC0415

    config = _config(directory)

    async def work() -> None:
        path, limit = directory / STORE_FILE, config.storage_limit_bytes
        with DataDir.open(directory):
            async with SqliteStore.open(path, storage_limit_bytes=limit) as store:
                mailbox = Mailbox(
                    store, clock=SystemClock(), retention=config.retention, require_signed=config.require_signed
                )
                for record in reading.records():
                    maker, head = _check(reading, config.network)
                    reading.count(await take_record(mailbox, record, maker=maker, maker_retention_s=head.retention_s))
                _check(reading, config.network)

    trio.run(work)


def _check(reading: _Reading, network: str) -> tuple[MailboxId, BundleHead]:
    """What the beginning of the file says, if it may be imported here at all."""
    origin = reading.seal.origin
    if origin is None:
        raise RemoteProtocolError("empty", "the file ends in its beginning")
    if reading.head is not None:
        return origin.maker, reading.head
    if origin.network != network:
        fail(f"the bundle comes from the network {origin.network!r}, and this mailbox is in {network!r}")
    _check_date(origin)
    reading.head = BundleHead.read(origin)
    return origin.maker, reading.head


def _check_date(origin: Origin) -> None:
    if origin.made_s > time.time() + CLOCK_SKEW_MAX_S:
        fail(
            f"the file was made {date_text(origin.made_s)}, which is still to come: the clock here or there is wrong; "
            "set it, or messages would live too long or too short"
        )


def _read_want(file: Path) -> tuple[str, Wanted]:
    """The network and what a mailbox has."""
    from node.sneakernet import Wanted  # noqa: PLC0415
    from protocols.sneakernet.want import WantHead, WantTable  # noqa: PLC0415

    seal, table = SealReader(Kind.WANT), WantTable()
    try:
        with open_input(file) as (stream, _):
            while data := stream.read(_PIECE_BYTES):
                seal.feed(data)
                while (record := seal.next_record()) is not None:
                    table.take(record)
        if seal.origin is None or not seal.is_complete:
            fail(f"{file} ends too early; copy it anew, or have it written again with `mailboxd want`")
        _check_date(seal.origin)
        table.finish()
        return seal.origin.network, Wanted(seal.origin.maker, WantHead.read(seal.origin), table)
    except RemoteProtocolError as error:
        fail(f"{file}: {error}")
