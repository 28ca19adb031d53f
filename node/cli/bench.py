"""`mailboxd bench`: speed and traffic, measured on this machine. The measuring itself is in `node.bench`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import trio

from node.bench.rates import BenchError
from node.bench.yardstick import MODES, SHAPES
from node.cli.cluster import ClusterError
from node.cli.options import DATA_DIR
from node.cli.output import print_json
from node.cli.program import EXIT_INTERRUPTED, fail
from node.cli.signals import until_signal
from node.datadir import DataDirError
from node.identity import IdentityError
from node.store.api import StoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["bench"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

CLIENTS_MAX: Final = 512
"""More than the mailbox lets wait for their store."""


class _Counts(click.ParamType[tuple[int, ...]]):
    """`1,16,64`."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            counts = ()
        if not counts or not all(1 <= count <= CLIENTS_MAX for count in counts):
            self.fail(f"{value!r} is not a list of numbers from 1 to {CLIENTS_MAX} such as 1,16,64", param, ctx)
        return counts


def _json_option() -> Callable[[F], F]:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _data_dir_option() -> Callable[[F], F]:
    """No environment variable: MAILBOXD_DATA_DIR is where a mailbox lives, and this is where gigabytes come and go."""
    return click.option(
        "--data-dir",
        type=DATA_DIR,
        help="Work in a new folder in this directory, to measure its disk; the folder is removed at the end."
        "  [default: the system's temporary directory]",
    )


def _blob_bytes_option(default: int) -> Callable[[F], F]:
    return click.option(
        "--bytes", "blob_bytes", type=click.IntRange(30, 1_000_000), default=default, show_default=True,
        help="Size of a message.",
    )  # fmt: skip


@click.group(
    invoke_without_command=True,
    epilog="`mailboxd bench COMMAND --help` explains each. docs/benchmarks.md says what the figures mean.",
)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure speed and traffic on this machine.

    Each command makes its own messages and mailboxes and touches no other mailbox. `all` takes some minutes, the others
    less than one as they stand here. Trust ratios more than figures: these depend on the machine and on what else it
    does.

    \b
    Examples:
      mailboxd bench reconcile --messages 1000000 --changed 100
      mailboxd bench store
      mailboxd bench http --clients 1,64 --bulk 1000
      mailboxd bench transfer --messages 1000000
      mailboxd bench all --quick
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@bench.command()
@click.option(
    "--messages", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True,
    help="How many there are altogether, in logs of a hundred.",
)  # fmt: skip
@click.option(
    "--changed", type=click.IntRange(min=0),
    help="How many only one of the two mailboxes has.  [default: 100; none: 0; fresh: all]",
)  # fmt: skip
@click.option(
    "--shape", type=click.Choice(SHAPES), default="tail", show_default=True,
    help="Where these are: nowhere, at the ends of logs, anywhere in logs, or everywhere, as one mailbox has nothing.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(MODES), default="warm", show_default=True,
    help="Whether the two have held the same before (fresh: nothing), or have never met.",
)  # fmt: skip
@_json_option()
def reconcile(messages: int, changed: int | None, shape: str, mode: str, as_json: bool) -> None:
    """Measure what it costs to find out what differs.

    Two mailboxes' indexes, and the sync protocol's own code between them, without network and disk: bytes, round trips
    and CPU until one of them knows exactly what each lacks. Beside them stands what the C++ reference of negentropy
    takes for the same differences. Fails if something else is found than the differences.

    \b
    Examples:
      mailboxd bench reconcile
      mailboxd bench reconcile --messages 1000000 --shape random --changed 1000 --mode cold
      mailboxd bench reconcile --messages 1000000 --shape fresh --mode cold --json
    """
    from node.bench.reconcile import measure_reconcile  # noqa: PLC0415
    from node.bench.required import reconcile_claims  # noqa: PLC0415
    from node.cli.bench_tables import reconcile_case_table  # noqa: PLC0415

    changed = _changed(messages, changed, shape)
    (case,) = _measured(partial(measure_reconcile, messages=messages, changed=changed, shape=shape, modes=(mode,)))
    if as_json:
        claims = [asdict(claim) for claim in reconcile_claims([case])]
        print_json({"benchmark": "reconcile", **asdict(case), "claims": claims, "machine": machine()})
    else:
        click.echo(reconcile_case_table(case))


def _changed(messages: int, changed: int | None, shape: str) -> int:
    """How many messages only one mailbox has. Raises click.UsageError if the options contradict each other."""
    if shape == "none":
        if changed:
            raise click.UsageError(f"--shape none means that nothing differs: leave out --changed {changed}")
        return 0
    if shape == "fresh":
        if changed not in (None, 0, messages):
            raise click.UsageError(f"--shape fresh means that everything differs: leave out --changed {changed}")
        return messages
    if changed is None:
        return min(100, messages)
    if changed > messages:
        raise click.UsageError(f"--changed {changed} is more than there are messages ({messages})")
    return changed


@bench.command()
@click.option(
    "--messages", type=click.IntRange(1000, 10_000_000), default=50_000, show_default=True,
    help="How many are stored in bulks; a tenth as many are stored one by one.",
)  # fmt: skip
@_blob_bytes_option(300)
@click.option(
    "--bulk", type=click.IntRange(2, 4096), default=1000, show_default=True, help="Messages in a request of many."
)
@click.option(
    "--clients", type=click.IntRange(2, CLIENTS_MAX), default=64, show_default=True,
    help="How many store and read at once, beside one alone.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True,
    help="How often the store and raw SQLite take turns; figures are medians.",
)  # fmt: skip
@_data_dir_option()
@_json_option()
def store(
    messages: int, blob_bytes: int, bulk: int, clients: int, rounds: int, data_dir: Path | None, as_json: bool
) -> None:
    """Measure the store alone, beside raw SQLite.

    Stores messages durably, one by one and in bulk, and reads them as phones do. Raw SQLite inserts and reads the same
    messages in the same run; the ratio says how near the store comes to what the disk and Python allow.

    \b
    Examples:
      mailboxd bench store
      mailboxd bench store --messages 200000 --bytes 1000 --rounds 1
      mailboxd bench store --data-dir /srv --json
    """
    from node.bench.store import measure_store  # noqa: PLC0415
    from node.cli.bench_tables import store_table  # noqa: PLC0415

    if 2 * bulk > messages:
        raise click.UsageError(f"--bulk {bulk} is more than half of --messages {messages}: two bulks are the least")
    work = partial(measure_store, messages=messages, blob_bytes=blob_bytes, bulk=bulk, clients=clients, rounds=rounds)
    _show("store", _carried_out(work, data_dir), store_table, as_json=as_json)


@bench.command()
@click.option(
    "--clients", type=_Counts(), default="1,16,64,256", show_default=True,
    help="Numbers of clients, one run for each.",
)  # fmt: skip
@click.option(
    "--bulk", type=click.IntRange(2, 4096), default=100, show_default=True, help="Messages in a request of many."
)
@_blob_bytes_option(300)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="How long each case runs."
)
@_data_dir_option()
@_json_option()
def http(
    clients: tuple[int, ...], bulk: int, blob_bytes: int, seconds: float, data_dir: Path | None, as_json: bool
) -> None:
    """Measure how fast phones are served, beside raw SQLite.

    Starts a mailbox on a port of its own. A number of clients store and get, one message per request and many; each
    client has one connection and one request at a time. Beside it stand what raw SQLite does in the same run, and what
    the same server does without any work.

    \b
    Examples:
      mailboxd bench http
      mailboxd bench http --clients 64 --bulk 1000 --seconds 5
      mailboxd bench http --json | jq .claims
    """
    from node.bench.http import measure_http  # noqa: PLC0415
    from node.cli.bench_tables import http_table  # noqa: PLC0415

    work = partial(measure_http, clients=clients, bulk=bulk, blob_bytes=blob_bytes, seconds_per_case=seconds)
    _show("http", _carried_out(work, data_dir), http_table, as_json=as_json)


@bench.command()
@click.option(
    "--messages",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    show_default=True,
    help="How many the full mailboxes hold.",
)
@_blob_bytes_option(1000)
@click.option(
    "--peers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="How many full mailboxes the fresh one knows.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Transfers, each to another fresh mailbox. The one in the middle counts.",
)
@_data_dir_option()
@_json_option()
def transfer(messages: int, blob_bytes: int, peers: int, rounds: int, data_dir: Path | None, as_json: bool) -> None:
    """Measure how fast a fresh mailbox takes over everything.

    Starts one full mailbox, or several that hold the same, and a fresh one that knows them. Beside the transfer stands
    what bounds it, from the same run: one libp2p stream between two processes, and the store alone taking in the same
    messages, before and after, as a machine's own speed drifts. Fails if the mailboxes do not hold the same in the end.

    \b
    Examples:
      mailboxd bench transfer
      mailboxd bench transfer --messages 1000000 --data-dir /srv
      mailboxd bench transfer --peers 3 --bytes 300 --rounds 5 --json
    """
    from node.bench.transfer import measure_transfer  # noqa: PLC0415
    from node.cli.bench_tables import transfer_table  # noqa: PLC0415

    work = partial(measure_transfer, messages=messages, blob_bytes=blob_bytes, peers=peers, rounds=rounds)
    _show("transfer", _carried_out(work, data_dir), transfer_table, as_json=as_json)


@bench.command(name="all")
@click.option("--quick", is_flag=True, help="Small sizes only, in about a minute; nothing is drawn.")
@click.option("--ten-million", is_flag=True, help="Reconcile ten million messages, too: takes minutes and gigabytes.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("build/bench.json"), show_default=True,
    help="Where all figures go, as JSON.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(file_okay=False, path_type=Path),
    help="Write the tables (results.md) and pictures (SVG) into this directory, too.",
)  # fmt: skip
@_data_dir_option()
@_json_option()
def everything(
    quick: bool, ten_million: bool, output: Path, report: Path | None, data_dir: Path | None, as_json: bool
) -> None:
    """Measure everything, and say which of the required ratios hold.

    Reconciliation of 10,000 to 1,000,000 messages with no, few and many differences, then the store, HTTP and a
    transfer. Each table is shown, and each figure written, as soon as its part is measured.

    \b
    Examples:
      mailboxd bench all
      mailboxd bench all --quick --output /tmp/bench.json
      mailboxd bench all --ten-million --report docs/benchmarks
    """
    from node.bench.suite import FULL, QUICK, measure_all  # noqa: PLC0415
    from node.cli.bench_all import Showing  # noqa: PLC0415

    if quick and ten_million:
        raise click.UsageError("--quick and --ten-million contradict each other")
    plan = replace(FULL, sizes=(*FULL.sizes, 10_000_000)) if ten_million else QUICK if quick else FULL
    showing = Showing(machine(), output=output, report=None if quick else report, as_json=as_json)
    showing.end(_carried_out(partial(measure_all, plan=plan, done=showing.show), data_dir))


# --- carrying out and showing --------------------------------------------------------------------------------------


def _show(name: str, report: DataclassInstance, render: Callable[[Any], str], *, as_json: bool) -> None:
    if as_json:
        print_json({"benchmark": name, **asdict(report), "machine": machine()})
    else:
        click.echo(render(report))


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "mailboxd": importlib.metadata.version("mailboxd"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpus": os.cpu_count(),
    }


def _carried_out(work: Callable[..., Awaitable[T]], data_dir: Path | None) -> T:
    """The result of `work(folder, progress=…)`, like `_measured`."""
    with _folder(data_dir) as folder:
        return _measured(partial(work, folder))


def _measured(work: Callable[..., Awaitable[T]]) -> T:
    """The result of `work(progress=…)`; what goes wrong becomes one line."""
    try:
        with _progress() as progress:
            run = partial(until_signal, partial(work, progress=progress), note="stopping …")
            result: T = trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
            return result
    except* (BenchError, ClusterError, StoreError, DataDirError, IdentityError, OSError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        fail(f"the benchmark failed: {error}")
    except* KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    raise AssertionError("unreachable: both ways out of here raise")


@contextmanager
def _folder(within: Path | None) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="mailboxd-bench-", dir=within))
    except OSError as error:
        fail(f"{within or tempfile.gettempdir()}: {error.strerror}; name a directory that can be written to")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line on stderr that is written anew (or taken away, for an empty text), on a terminal only."""
    on_terminal = sys.stderr.isatty()

    def tell(text: str) -> None:
        if on_terminal:
            click.echo(f"\r\x1b[K{text}{' …' if text else ''}", nl=False, err=True)

    try:
        yield tell
    finally:
        tell("")
