"""What can be changed while a mailbox runs: checked as the options are, kept in `config.toml`, applied at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import trio

from node.config import HttpPeer, RunConfig, SettingError, SettingsFile
from node.core import Core
from node.datadir import DataDirError
from node.doors import Doors
from node.events import EventKind, Events
from node.store.api import StoreError
from node.sync.toy_peer import ToyPeers
from protocols.addresses import PeerAddress

__all__ = ["Settings"]

log = logging.getLogger(__name__)


class Settings:
    """Changes the settings of a running mailbox."""

    def __init__(
        self,
        file: SettingsFile,
        config: RunConfig,
        *,
        core: Core,
        plain: ToyPeers,
        doors: Doors,
        events: Events,
        rename: Callable[[str | None], None],
        keep_awake: Callable[[bool], None],
    ) -> None:
        self._file = file
        self._config = config
        self._core = core
        self._plain = plain
        self._doors = doors
        self._events = events
        self._rename = rename
        self._keep_awake = keep_awake
        self._lock = trio.Lock()

    def shown(self) -> dict[str, Any]:
        """See `SettingsFile.shown`."""
        return self._file.shown(self._config)

    async def change(self, changes: Mapping[str, Any]) -> None:
        """Checks `changes`, keeps them, and applies them: all or none. Raises SettingError."""
        async with self._lock:
            config = await trio.to_thread.run_sync(self._file.check, changes)
            try:
                await trio.to_thread.run_sync(self._file.save, changes)
            except DataDirError as error:
                raise SettingError("", str(error)) from None
            before, self._config = self._config, config
            with trio.CancelScope(shield=True):  # what is kept is applied, whether or not the page has gone
                await self._apply(before, config)

    async def _apply(self, before: RunConfig, config: RunConfig) -> None:
        if config.storage_limit_bytes != before.storage_limit_bytes:
            try:
                await self._core.mailbox.store.limit_storage(config.storage_limit_bytes)
            except StoreError as error:
                raise SettingError("storage-limit", f"kept, but not applied before the next start: {error}") from None
        self._core.mailbox.retention = config.retention
        self._core.engine.name_peers([peer for peer in config.peers if isinstance(peer, PeerAddress)])
        self._plain.name([peer.url for peer in config.peers if isinstance(peer, HttpPeer)])
        self._rename(config.name)
        self._keep_awake(config.keep_awake)
        self._doors.set(is_open=not config.paused)
        for text in _differences(before, config):
            log.info("settings: %s", text)
            self._events.tell(EventKind.SETTINGS, text)


def _differences(before: RunConfig, now: RunConfig) -> list[str]:
    texts = []
    if before.paused != now.paused:
        texts.append("the mailbox mode was switched off" if now.paused else "the mailbox mode was switched on")
    if before.keep_awake != now.keep_awake:
        texts.append("this machine is kept awake" if now.keep_awake else "this machine may go to sleep")
    if before.name != now.name:
        texts.append(f"the name is now {now.name!r}" if now.name else "the name was removed")
    if before.storage_limit_bytes != now.storage_limit_bytes:
        limit = now.storage_limit_bytes
        texts.append("the storage limit was removed" if limit is None else f"the storage limit is now {limit:,} bytes")
    if before.retention != now.retention:
        texts.append(f"messages now live for {now.retention.retention_s / 3600:g} hours")
    if before.peers != now.peers:
        texts.append(f"internet mailboxes: now {len(now.peers)} named")
    return texts
