"""The options of `mailboxd run`: on the command line, else MAILBOXD_<OPTION>, else `config.toml`, else the default.

One table of options serves all of it. click's own look-up knows the first two and the last; the file becomes click's
`default_map` as soon as the data directory is known.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from node.cli import options as kinds
from node.config import HttpPeer, ListenAddress, OperatorLimits, RunConfig
from node.datadir import CONFIG_FILE, default_data_dir
from protocols.addresses import PeerAddress
from protocols.limits.http import (
    HTTP_BODIES_BYTES_MAX,
    HTTP_CONNECTIONS_HIGHEST,
    HTTP_CONNECTIONS_LOWEST,
    HTTP_CONNECTIONS_MAX,
    HTTP_CONNECTIONS_PER_CLIENT_MAX,
    HTTP_REQUESTS_PER_CLIENT_HIGHEST,
    HTTP_REQUESTS_PER_CLIENT_RATE,
    SYNC_SESSIONS_HIGHEST,
)
from protocols.limits.replication import SYNC_SESSIONS_IN_MAX
from protocols.limits.sync import INTEREST_TOPICS_MAX
from protocols.limits.tools import CONFIG_FILE_BYTES_MAX, FIXED_PEERS_MAX
from protocols.model import Retention

__all__ = [
    "LOG_LEVELS",
    "checked_value",
    "env_name",
    "misspelt_variables",
    "read_config_file",
    "run_config",
    "run_options",
]

F = TypeVar("F", bound=Callable[..., Any])

LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def env_name(option: str) -> str:
    """`sync-interval` -> `MAILBOXD_SYNC_INTERVAL`."""
    return "MAILBOXD_" + option.upper().replace("-", "_")


def _option(flags: str, **settings: Any) -> Callable[[F], F]:
    name = flags.partition("/")[0].removeprefix("--")
    return click.option(flags, name.replace("-", "_"), envvar=env_name(name), **settings)


_OPTIONS: Final = (
    # Eager: click looks at it before all others, so that the file in it can give them their defaults.
    kinds.data_dir_option(is_eager=True, callback=lambda ctx, param, value: _load_config_file(ctx, value)),
    _option(
        "--http",
        type=kinds.LISTEN_ADDRESS,
        multiple=True,
        default=("0.0.0.0:3411",),
        show_default=True,
        help="Where phones reach the mailbox; port 0 picks a free one. Repeatable.",
    ),
    _option(
        "--https",
        type=kinds.LISTEN_ADDRESS,
        multiple=True,
        show_default="none",
        help="Where phones reach it by TLS as well, with a certificate of the mailbox's own identity, to be pinned: "
        "`mailboxd identity` shows the pin. Repeatable.",
    ),
    _option(
        "--p2p",
        type=kinds.LISTEN_ADDRESS,
        default="0.0.0.0:0",
        show_default=True,
        help="Where other mailboxes reach it; port 0 picks a free one at the first start and keeps it.",
    ),
    _option(
        "--peer",
        type=kinds.PEER,
        multiple=True,
        help="Another mailbox, where mDNS does not find it: an address with /p2p/… (as `mailboxd identity` shows on "
        "the other machine) or the http(s):// URL of one that only speaks the HTTP API. Repeatable.",
    ),
    _option(
        "--topic",
        type=kinds.ID,
        multiple=True,
        show_default="all",
        help="Exchange only this topic with other mailboxes; phones may use any. Repeatable.",
    ),
    _option(
        "--no-mdns/--mdns",
        default=False,
        help="Neither announce this mailbox on the local network nor look for others there.",
    ),
    _option(
        "--sync-interval",
        type=kinds.SYNC_INTERVAL,
        default="30",
        show_default=True,
        help="How often to compare with each neighbour even if nothing was announced.",
    ),
    _option(
        "--retention",
        type=kinds.RETENTION,
        default="7d",
        show_default=True,
        help="How long messages live: a number and s, m, h or d; a week at the most. Best the same everywhere.",
    ),
    _option(
        "--storage-limit",
        type=kinds.STORAGE_LIMIT,
        show_default="none",
        help="How much to store at the most, for example 2GiB.",
    ),
    _option(
        "--network",
        type=kinds.NETWORK,
        default="main",
        show_default=True,
        help="Only mailboxes with the same tag exchange messages; for trials beside a real network.",
    ),
    _option(
        "--password-file",
        type=kinds.FILE,
        help="Take the password that mailboxes share from the first line of this file, instead of the one that "
        "`mailboxd password set` keeps.",
    ),
    _option(
        "--only-trusted/--no-only-trusted",
        default=False,
        help="Exchange messages only with mailboxes that `mailboxd trust` has let in.",
    ),
    _option(
        "--require-signed/--no-require-signed",
        default=False,
        help="Take only messages that their authors signed, as the app's are.",
    ),
    _option(
        "--connections",
        type=kinds.whole("connections", HTTP_CONNECTIONS_LOWEST, HTTP_CONNECTIONS_HIGHEST),
        default=str(HTTP_CONNECTIONS_MAX),
        show_default=True,
        help="Connections of phones at once. `mailboxd limits` shows this and other limits, and what they are for.",
    ),
    _option(
        "--connections-per-client",
        type=kinds.whole("connections", 1, HTTP_CONNECTIONS_HIGHEST),
        default=str(HTTP_CONNECTIONS_PER_CLIENT_MAX),
        show_default=True,
        help="Of these, from one address.",
    ),
    _option(
        "--requests-per-client",
        type=kinds.whole("requests per second", 1, HTTP_REQUESTS_PER_CLIENT_HIGHEST),
        default=str(int(HTTP_REQUESTS_PER_CLIENT_RATE)),
        show_default=True,
        help="Requests per second from one address, sustained.",
    ),
    _option(
        "--bodies-memory",
        type=kinds.MEMORY,
        default=f"{HTTP_BODIES_BYTES_MAX >> 20}MiB",
        show_default=True,
        help="Memory for requests that are on their way in.",
    ),
    _option(
        "--sync-sessions",
        type=kinds.whole("sessions", 2, SYNC_SESSIONS_HIGHEST),
        default=str(SYNC_SESSIONS_IN_MAX),
        show_default=True,
        help="Syncs at once that other mailboxes began.",
    ),
    _option(
        "--trust-loopback/--no-trust-loopback",
        default=True,
        help="Whether limits per client leave out clients on this machine, such as a reverse proxy.",
    ),
    _option(
        "--paused/--not-paused",
        default=False,
        help="Begin with the mailbox mode off: phones are not served and the mailbox is not announced, until it is "
        "switched on in the dashboard.",
    ),
    _option(
        "--keep-awake/--no-keep-awake",
        default=False,
        help="Keep this machine from going to sleep while the mailbox serves (needs the extra `desktop`).",
    ),
    _option("--name", type=kinds.NAME, help="A name for people, shown in `status`."),
    _option(
        "--log-level",
        type=click.Choice(LOG_LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="How much to log to stderr.",
    ),
    _option("--log-json/--no-log-json", default=False, help="Log one JSON object per line."),
)


def run_options(function: F) -> F:
    """Adds every option of `mailboxd run`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def run_config(data_dir: Path | None, values: Mapping[str, Any]) -> RunConfig:
    """The configuration that click's parsed `values` describe. Raises click.UsageError for what contradicts itself."""
    listens: list[ListenAddress] = [*values["http"], *values["https"]]
    for address in listens:
        if address.port and listens.count(address) > 1:
            raise click.UsageError(f"{address} is given twice, with --http or --https")
    peers: Sequence[PeerAddress | HttpPeer] = values["peer"]
    if len(peers) > FIXED_PEERS_MAX:
        raise click.UsageError(f"{len(peers)} mailboxes are named with --peer; at most {FIXED_PEERS_MAX} can be")
    topics = frozenset(values["topic"])
    if len(topics) > INTEREST_TOPICS_MAX:
        raise click.UsageError(f"{len(topics)} topics are named with --topic; at most {INTEREST_TOPICS_MAX} can be")
    retention: Retention = values["retention"]
    return RunConfig(
        data_dir=data_dir or default_data_dir(),
        http=tuple(values["http"]),
        https=tuple(values["https"]),
        p2p=values["p2p"],
        peers=tuple(dict.fromkeys(peers)),
        topics=topics,
        mdns=not values["no_mdns"],
        network=values["network"],
        password_file=values["password_file"],
        only_trusted=values["only_trusted"],
        require_signed=values["require_signed"],
        limits=_operator_limits(values),
        sync_interval_s=float(values["sync_interval"]),
        retention=retention,
        storage_limit_bytes=None if values["storage_limit"] is None else int(values["storage_limit"]),
        log_level=values["log_level"].lower(),
        log_json=values["log_json"],
        name=values["name"],
        paused=values["paused"],
        keep_awake=values["keep_awake"],
    )


def _operator_limits(values: Mapping[str, Any]) -> OperatorLimits:
    connections, per_client = int(values["connections"]), int(values["connections_per_client"])
    if per_client > connections:
        raise click.UsageError(
            f"--connections-per-client {per_client} is more than --connections {connections}:"
            " lower the one or raise the other"
        )
    return OperatorLimits(
        connections=connections,
        connections_per_client=per_client,
        requests_per_client=int(values["requests_per_client"]),
        bodies_bytes=int(values["bodies_memory"]),
        sync_sessions=int(values["sync_sessions"]),
        trust_loopback=values["trust_loopback"],
    )


# --- config.toml ---------------------------------------------------------------------------------------------------


def _load_config_file(context: click.Context, data_dir: Path | None) -> Path | None:
    """Makes the values in the data directory's config.toml the defaults of the other options; a missing file is an
    empty one. Raises click.UsageError, naming the file and the key, for anything that is not right in it."""
    if context.resilient_parsing:
        return data_dir
    path = (data_dir or default_data_dir()) / CONFIG_FILE
    options = {
        param.opts[0].removeprefix("--"): param
        for param in context.command.params
        if isinstance(param, click.Option) and param.opts[0] != "--data-dir"
    }
    defaults: dict[str, Any] = {}
    try:
        for key, value in read_config_file(path).items():
            param = _known(key, options)
            defaults[str(param.name)] = checked_value(context, key, value, param)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}", context) from None
    context.default_map = defaults
    return data_dir


def read_config_file(path: Path) -> dict[str, Any]:
    """What stands in `config.toml`; a missing file is an empty one. Raises ValueError."""
    try:
        # O_NONBLOCK: a pipe in its place must not hang the start.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            raw = file.read(CONFIG_FILE_BYTES_MAX + 1) or b""
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with the directory is said when it is opened
        return {}
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    if len(raw) > CONFIG_FILE_BYTES_MAX:
        raise ValueError(f"larger than {CONFIG_FILE_BYTES_MAX >> 10} KiB")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None


def _known(key: str, options: Mapping[str, click.Option]) -> click.Option:
    if key in options:
        return options[key]
    if key == "data-dir":
        raise ValueError("data-dir can't stand here, because this file is in the data directory itself")
    near = difflib.get_close_matches(key.replace("_", "-").lower(), [*options], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(options)}"
    raise ValueError(f"{key!r} is not an option; {hint}")


def checked_value(context: click.Context, key: str, value: Any, param: click.Option) -> Any:
    """`value` as it may stand in the file for that option. Raises ValueError."""
    if param.is_flag and not isinstance(value, bool):
        raise ValueError(f"{key}: {value!r} should be true or false")
    if param.multiple:
        if not isinstance(value, list | str):
            raise ValueError(f"{key}: {value!r} should be a list of texts")
        value = [value] if isinstance(value, str) else value
    elif isinstance(value, list | dict):
        raise ValueError(f"{key}: {value!r} should be a single value")
    try:
        param.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ValueError(f"{key}: {error.message}") from None
    return value


# --- the environment -----------------------------------------------------------------------------------------------


def misspelt_variables(command: click.Command, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """(variable, the one that was probably meant) for variables that look like ours but are not."""
    prefix = "MAILBOXD_"
    variables = [str(param.envvar) for param in command.params if isinstance(param, click.Option) and param.envvar]
    known = [variable.removeprefix(prefix) for variable in variables]
    found = []
    for variable in sorted(environment):
        name = variable.removeprefix(prefix)
        if variable.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found += [(variable, prefix + near[0])] if near else []
    return found
