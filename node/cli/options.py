"""What a user types, turned into what the program works with, or into one line that says what was expected.

Each kind of value has a plain function that raises ValueError and a click type around it. The types also take values
as they stand in `config.toml` (numbers, lists) and in environment variables (lists separated by white space or commas).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from node.config import HttpPeer, ListenAddress
from protocols.addresses import PeerAddress
from protocols.limits.discovery import NETWORK_TAG_CHARS_MAX
from protocols.limits.http import HTTP_BODIES_BYTES_HIGHEST, HTTP_BODY_BYTES_MAX
from protocols.limits.tools import NAME_CHARS_MAX, STORAGE_LIMIT_MIN_BYTES, SYNC_INTERVAL_MAX_S, SYNC_INTERVAL_MIN_S
from protocols.model import Retention, check_id, check_seq

__all__ = [
    "DATA_DIR",
    "DURATION",
    "FILE",
    "ID",
    "LISTEN_ADDRESS",
    "MEMORY",
    "NAME",
    "NETWORK",
    "PEER",
    "RETENTION",
    "SEQ",
    "STORAGE_LIMIT",
    "SYNC_INTERVAL",
    "TakesIds",
    "data_dir_option",
    "parse_duration_s",
    "parse_listen_address",
    "parse_peer",
    "parse_size_bytes",
    "whole",
]

F = TypeVar("F", bound=Callable[..., Any])

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\.?$)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMBER_AND_UNIT: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_SIZE_UNITS: Final = {"B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_TIME_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NETWORK: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")  # as in the announcements


# --- plain functions ----------------------------------------------------------------------------------------------


def parse_size_bytes(text: str) -> int:
    """Reads `2GiB`, `500 MB`, `1.5GiB` or a plain number of bytes. Raises ValueError."""
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 2GiB or 500MB")
    number, unit = match.groups()
    units = {name.lower(): factor for name, factor in _SIZE_UNITS.items()}
    if unit and unit.lower() not in units:
        if unit.upper() in ("K", "M", "G", "T"):
            raise ValueError(
                f"{text!r} could mean two sizes: write {number}{unit.upper()}iB or {number}{unit.upper()}B"
            )
        raise ValueError(f"{text!r} has an unknown unit; use one of {', '.join(_SIZE_UNITS)}")
    size = Fraction(number) * units[unit.lower() or "b"]
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def parse_duration_s(text: str, *, unit_needed: bool = True) -> Fraction:
    """Reads `7d`, `90m`, `1.5h` or `30s`; without `unit_needed` a plain number is seconds. Raises ValueError."""
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 7d, 12h, 90m or 30s")
    number, unit = match.groups()
    if not unit and unit_needed:
        raise ValueError(f"{text!r} needs a unit: s, m, h or d, for example {number}{'d' if len(number) < 3 else 's'}")
    if unit and unit not in _TIME_UNITS_S:
        raise ValueError(f"{text!r} has an unknown unit; use s, m, h or d")
    return Fraction(number) * _TIME_UNITS_S[unit or "s"]


def parse_port(text: str, *, lowest: int = 0) -> int:
    """Reads a decimal port number. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port ({lowest} to 65535)")
    return int(text)


def parse_listen_address(text: str) -> ListenAddress:
    """Reads `HOST:PORT`, an IPv6 host in brackets. Raises ValueError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        raise ValueError(f"{text!r} is not of the form HOST:PORT, for example 0.0.0.0:3411")
    if not host:
        raise ValueError(f"{text!r} lacks the address before the colon; for all interfaces write 0.0.0.0:{port}")
    return ListenAddress(_parse_host(host, text), parse_port(port))


def _parse_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{text!r}: {host[1:-1]!r} is not an IPv6 address") from None
    if ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, for example [::1]:3411")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{text!r}: {host!r} is not an IPv4 address") from None
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{text!r}: {host!r} is not an IP address or a host name")
    return host


def parse_peer(text: str) -> PeerAddress | HttpPeer:
    """Reads a multiaddr with `/p2p/<PeerId>` or an `http(s)://` URL. Raises ValueError."""
    text = text.strip()
    if text.startswith("/"):
        return PeerAddress.parse(text)
    if text.lower().startswith(("http://", "https://")):
        return HttpPeer(_parse_url(text))
    raise ValueError(
        f"{text!r} is neither an address such as /ip4/192.168.1.5/tcp/4001/p2p/12D3Koo… "
        "(`mailboxd identity` on the other mailbox shows it) nor an http(s):// URL"
    )


def _parse_url(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} has characters that don't belong in a URL")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from None
    if parts.username is not None or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"{text!r}: give only scheme, host, port and path, without user, ? or #")
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    _parse_host(shown, text)
    if port == 0:
        raise ValueError(f"{text!r}: 0 is not a port")
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


# --- click types ---------------------------------------------------------------------------------------------------


class _Parsed(click.ParamType[Any]):
    """A type made of a function. Values that aren't text come from config.toml or are defaults."""

    def __init__(
        self, name: str, parse: Callable[[str], object], *, done: tuple[type, ...] = (), numbers: bool = False
    ) -> None:
        self.name = name
        self._parse = parse
        self._done = done
        self._numbers = numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self._done and isinstance(value, self._done):
            return value
        if not isinstance(value, str):
            if not self._numbers or isinstance(value, bool) or not isinstance(value, int | float):
                self.fail(f"{value!r} should be {'a number or ' if self._numbers else ''}a text in quotes", param, ctx)
            value = str(value)
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return rv.replace(",", " ").split()


class _Computed(int):
    """A number that has been through its parser already."""


class _ComputedSeconds(float):
    """Likewise, in seconds."""


def _retention(text: str) -> Retention:
    seconds = parse_duration_s(text)
    if seconds.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of seconds")
    return Retention(int(seconds))


def _sync_interval_s(text: str) -> _ComputedSeconds:
    seconds = float(parse_duration_s(text, unit_needed=False))
    if not SYNC_INTERVAL_MIN_S <= seconds <= SYNC_INTERVAL_MAX_S:
        raise ValueError(f"{text!r} is not between {SYNC_INTERVAL_MIN_S:g} and {SYNC_INTERVAL_MAX_S:g} seconds")
    return _ComputedSeconds(seconds)


def _storage_limit(text: str) -> _Computed | None:
    if text.strip().lower() == "none":
        return None
    size = parse_size_bytes(text)
    if size < STORAGE_LIMIT_MIN_BYTES:
        raise ValueError(f"{text!r} is too little to be of use; give at least {STORAGE_LIMIT_MIN_BYTES >> 20}MiB")
    return _Computed(size)


def _timeout_s(text: str) -> _ComputedSeconds:
    seconds = float(parse_duration_s(text, unit_needed=False))
    if not 0 < seconds <= 3600:
        raise ValueError(f"{text!r} is not between 0 and 3600 seconds")
    return _ComputedSeconds(seconds)


def _whole(what: str, lowest: int, highest: int) -> Callable[[str], _Computed]:
    def parse(text: str) -> _Computed:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 12 and lowest <= int(text) <= highest):
            raise ValueError(f"{text!r} is not a number of {what} from {lowest} to {highest}")
        return _Computed(text)

    return parse


def _memory(text: str) -> _Computed:
    size = parse_size_bytes(text)
    if not HTTP_BODY_BYTES_MAX <= size <= HTTP_BODIES_BYTES_HIGHEST:
        raise ValueError(
            f"{text!r} is not between {HTTP_BODY_BYTES_MAX >> 20}MiB, one largest request,"
            f" and {HTTP_BODIES_BYTES_HIGHEST >> 30}GiB"
        )
    return _Computed(size)


def _network(text: str) -> str:
    if not _NETWORK.fullmatch(text) or len(text) > NETWORK_TAG_CHARS_MAX:
        raise ValueError(f"{text!r} is not 1 to {NETWORK_TAG_CHARS_MAX} of a-z, 0-9 and inner hyphens")
    return text


def _name(text: str) -> str:
    text = text.strip()
    if not text or len(text) > NAME_CHARS_MAX or not text.isprintable():
        raise ValueError(f"{text!r} is not 1 to {NAME_CHARS_MAX} printable characters")
    return text


def _seq(text: str) -> int:
    # As in the HTTP API: no sign, no underscore, no foreign digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"{text!r} is not a sequence number (0 to 2^64-1)")
    return check_seq(int(text))


def _id(text: str) -> str:
    return check_id("it", text)


def _data_dir(text: str) -> Path:
    if not text.strip():
        raise ValueError("it is empty; name a directory")
    return Path(text).expanduser()


def _file(text: str) -> Path:
    if not text.strip():
        raise ValueError("it is empty; name a file")
    return Path(text).expanduser()


LISTEN_ADDRESS: Final = _Parsed("HOST:PORT", parse_listen_address, done=(ListenAddress,))
PEER: Final = _Parsed("ADDRESS", parse_peer, done=(PeerAddress, HttpPeer))
RETENTION: Final = _Parsed("DURATION", _retention, done=(Retention,))
SYNC_INTERVAL: Final = _Parsed("SECONDS", _sync_interval_s, done=(_ComputedSeconds,), numbers=True)
DURATION: Final = _Parsed("SECONDS", _timeout_s, done=(_ComputedSeconds,), numbers=True)
STORAGE_LIMIT: Final = _Parsed("SIZE", _storage_limit, done=(_Computed,), numbers=True)
MEMORY: Final = _Parsed("SIZE", _memory, done=(_Computed,), numbers=True)
NETWORK: Final = _Parsed("TAG", _network)
NAME: Final = _Parsed("TEXT", _name)
SEQ: Final = _Parsed("SEQ", _seq, done=(int,))
ID: Final = _Parsed("ID", _id)
FILE: Final = _Parsed("FILE", _file, done=(Path,))
DATA_DIR: Final = _Parsed("DIR", _data_dir, done=(Path,))


def whole(what: str, lowest: int, highest: int) -> click.ParamType[Any]:
    """A whole number of something, within bounds."""
    return _Parsed("N", _whole(what, lowest, highest), done=(_Computed,), numbers=True)


def data_dir_option(**settings: Any) -> Callable[[F], F]:
    """Adds `--data-dir`, which every command that talks to a mailbox has."""
    return click.option(
        "--data-dir",
        type=DATA_DIR,
        envvar="MAILBOXD_DATA_DIR",
        show_envvar=True,
        help="The mailbox's data directory.  [default: the platform's user data directory]",
        **settings,
    )


class TakesIds(click.Command):
    """A command with ids as arguments: they may begin with `-` (base64url has it), and are no options then."""

    id_chars_min = 20
    """What is shorter and begins with `-` is rather a misspelt option; as an id it goes behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            return super().parse_args(ctx, args)
        options, arguments = [], []
        known = {name: param for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        rest = iter(args)
        for arg in rest:
            if not arg.startswith("-") or arg == "-" or (arg not in known and self._looks_like_an_id(arg)):
                arguments.append(arg)
                continue
            options.append(arg)
            param = known.get(arg)
            if isinstance(param, click.Option) and not param.is_flag:
                options += islice(rest, 1)
        return super().parse_args(ctx, [*options, "--", *arguments])

    def _looks_like_an_id(self, arg: str) -> bool:
        return len(arg) >= self.id_chars_min and re.fullmatch(r"[A-Za-z0-9_-]+", arg) is not None
