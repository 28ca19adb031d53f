"""What a mailbox is told at its start, checked and typed. How it is told is `node.cli`'s business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from protocols.addresses import PeerAddress
from protocols.limits.http import (
    HTTP_BODIES_BYTES_MAX,
    HTTP_CONNECTIONS_MAX,
    HTTP_CONNECTIONS_PER_CLIENT_MAX,
    HTTP_REQUESTS_PER_CLIENT_RATE,
)
from protocols.limits.replication import SYNC_SESSIONS_IN_MAX
from protocols.model import Retention

__all__ = ["HttpPeer", "ListenAddress", "OperatorLimits", "RunConfig", "SettingError", "SettingsFile"]


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on; port 0 picks a free one. `host` is an IP address or a name, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """A mailbox that only speaks the Toy API, by its base URL without a trailing slash."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class OperatorLimits:
    """The bounds that depend on the machine and on who its users are; reasons stand in `protocols.limits`."""

    connections: int = HTTP_CONNECTIONS_MAX
    connections_per_client: int = HTTP_CONNECTIONS_PER_CLIENT_MAX
    requests_per_client: int = int(HTTP_REQUESTS_PER_CLIENT_RATE)
    """Per second."""
    bodies_bytes: int = HTTP_BODIES_BYTES_MAX
    sync_sessions: int = SYNC_SESSIONS_IN_MAX
    trust_loopback: bool = True


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything `mailboxd run` can be told. Defaults are those of the design's section 4."""

    data_dir: Path
    http: tuple[ListenAddress, ...] = (ListenAddress("0.0.0.0", 3411),)
    https: tuple[ListenAddress, ...] = ()
    p2p: ListenAddress = ListenAddress("0.0.0.0", 0)
    peers: tuple[PeerAddress | HttpPeer, ...] = ()
    topics: frozenset[str] = frozenset()
    """Those that are kept in step with other mailboxes; none: all."""
    mdns: bool = True
    network: str = "main"
    password_file: Path | None = None
    only_trusted: bool = False
    require_signed: bool = False
    limits: OperatorLimits = field(default_factory=OperatorLimits)
    sync_interval_s: float = 30.0
    retention: Retention = field(default_factory=Retention)
    storage_limit_bytes: int | None = None
    log_level: str = "info"
    log_json: bool = False
    name: str | None = None
    keep_awake: bool = False
    paused: bool = False
    """Whether the mailbox mode is off: phones are not served, and the mailbox is not announced."""


class SettingError(Exception):
    """A setting that can't be. `key` is the option's name, empty if it is about all; `text` is one line for people."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        self.text = text


class SettingsFile(Protocol):
    """Where settings are kept; `node.cli.config_file` has the real one."""

    def shown(self, config: RunConfig) -> dict[str, Any]:
        """For each setting its `value`, as a user would type it, and in `locked` why it can't be changed, or None."""
        ...

    def check(self, changes: Mapping[str, Any]) -> RunConfig:
        """The configuration with `changes` (option name -> value as in the file, None for the default). Raises
        SettingError."""
        ...

    def save(self, changes: Mapping[str, Any]) -> None:
        """Writes them, durably. Raises SettingError, or DataDirError."""
        ...
