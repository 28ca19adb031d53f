"""`mailboxd run`: wires options, logging, signals and the composition root together."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from node.cli.config_file import ConfigFile
from node.cli.program import EXIT_INTERRUPTED, fail
from node.cli.settings import misspelt_variables, run_config, run_options
from node.config import RunConfig
from node.datadir import DataDirError, NodeInfo
from node.identity import IdentityError
from node.logs import set_up_logging
from node.service.awake import Wakefulness, can_keep_awake
from node.service.extras import how_to_get

__all__ = ["run"]

log = logging.getLogger(__name__)


@click.command()
@run_options
def run(data_dir: Path | None, **values: Any) -> None:
    """Start a mailbox in the foreground.

    It serves phones over HTTP, finds other mailboxes on the local network and keeps in step with them, until Ctrl-C or
    SIGTERM. A second Ctrl-C ends it at once (nothing acknowledged is lost).

    Every option but --data-dir can also stand in DIR/config.toml (`sync-interval = 10`, `peer = ["/ip4/…"]`, `no-mdns =
    true`) or in the environment as MAILBOXD_<OPTION> (MAILBOXD_SYNC_INTERVAL=10, lists separated by spaces or commas).
    The command line comes first, then the environment, then the file.

    \b
    Examples:
      mailboxd run
      mailboxd run --name "Library, 1st floor" --storage-limit 2GiB
      mailboxd run --data-dir /srv/mailbox --http [::]:3411 --http 0.0.0.0:3411
      mailboxd run --peer /ip4/192.168.1.5/tcp/40001/p2p/12D3Koo… --no-mdns
    """
    config = run_config(data_dir, values)
    set_up_logging(config.log_level, as_json=config.log_json)
    for variable, meant in misspelt_variables(run, os.environ):
        log.warning("%s is not known and has no effect; did you mean %s?", variable, meant)
    import trio  # noqa: PLC0415 - what it needs for running, `run --help` does not

    if config.keep_awake and not can_keep_awake():
        fail(f"--keep-awake needs a library (extra `desktop`): {how_to_get('wakepy')}")
    if sys.stderr.isatty():
        click.echo("starting …", err=True)  # seconds, on a small machine
    try:
        with Wakefulness() as wakefulness:
            wakefulness.set(config.keep_awake)
            settings_file = ConfigFile(click.get_current_context())
            trio.run(_serve, config, settings_file, wakefulness, restrict_keyboard_interrupt_to_checkpoints=True)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except BaseExceptionGroup as group:
        _end(list(_leaves(group)))
    except Exception as error:
        _end([error])


async def _serve(config: RunConfig, settings_file: ConfigFile, wakefulness: Wakefulness) -> None:
    """Runs the mailbox until a signal comes; the first asks it to stop, the second ends the process."""
    import trio  # noqa: PLC0415

    from node.service.notify import notifier  # noqa: PLC0415

    async def watch(stop: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if stop.cancel_called:
                    os._exit(EXIT_INTERRUPTED)
                log.info("%s: stopping; once more ends it at once", signal.Signals(number).name)
                notifier().tell("STOPPING=1")
                stop.cancel()

    async with trio.open_nursery() as nursery:
        stop = trio.CancelScope()
        await nursery.start(watch, stop)
        with stop:
            from node.app import run_mailbox  # noqa: PLC0415 - takes a second: signals are heard before

            await run_mailbox(
                config,
                on_ready=lambda info: _greet(config, info),
                settings_file=settings_file,
                keep_awake=wakefulness.set,
            )
        nursery.cancel_scope.cancel()
    if stop.cancelled_caught:
        log.info("stopped")


def _greet(config: RunConfig, info: NodeInfo) -> None:
    """Says where the mailbox is, to people on stderr or into the JSON log."""
    urls = [*info.http, *info.https]
    if config.log_json:
        log.info("ready: mailbox %s, http %s, p2p %s", info.mailbox_id, ", ".join(urls), ", ".join(info.p2p))
        return
    phones = [url for url in urls if urlsplit(url).hostname not in ("127.0.0.1", "::1")] or urls
    others = [address for address in info.p2p if not address.startswith(("/ip4/127.", "/ip6/::1/"))] or info.p2p
    lines = ["", f"mailbox {info.mailbox_id}{f' ({config.name})' if config.name else ''} is ready"]
    lines += [f"  {label:<17} {url}" for label, url in zip(_labels("for phones"), phones, strict=False)]
    lines += [f"  {label:<17} {address}" for label, address in zip(_labels("for mailboxes"), others, strict=False)]
    if config.paused:
        lines += [f"  {'mailbox mode':<17} off: phones are not served; `mailboxd dashboard` switches it on"]
    lines += [f"  {'data in':<17} {config.data_dir}", f"  {'stop with':<17} Ctrl-C", ""]
    click.echo("\n".join(lines), err=True)


def _labels(first: str) -> Iterator[str]:
    yield first
    while True:
        yield ""


# --- what can go wrong ---------------------------------------------------------------------------------------------


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _end(errors: list[BaseException]) -> None:
    """One line for what a user can mend; a traceback in the log for what only we can."""
    for error in errors:
        if _foreseen(error):
            fail(_text(error))
    error = errors[0]
    log.critical("this is a fault of mailboxd's own; please report it with what follows", exc_info=error)
    fail(f"stopped by an internal error ({type(error).__name__}: {error}); the log above has the details")


def _foreseen(error: BaseException) -> bool:
    from node.admission.policy import AdmissionError  # noqa: PLC0415
    from node.http.admin.port import AdminError  # noqa: PLC0415
    from node.store.api import StoreError  # noqa: PLC0415
    from node.transport.api import TransportError  # noqa: PLC0415

    return isinstance(
        error, DataDirError | IdentityError | StoreError | TransportError | AdminError | AdmissionError | OSError
    )


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)
