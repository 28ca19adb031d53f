"""The ports of a mailbox: opened before all that takes time, so that a taken port is told at once, not after a million
messages have been read."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from node.addresses import spell_out
from node.config import ListenAddress, RunConfig
from node.datadir import DataDir
from node.http.server import Listener, open_listeners

__all__ = ["Ports", "open_ports", "urls_of"]

_ADMIN: Final = ListenAddress("127.0.0.1", 0)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a mailbox listens: `phones` by http, `secure` by https, `admin` for this machine's user. libp2p opens its
    own, at `p2p`; port 0 there is a free one."""

    phones: Sequence[Listener]
    secure: Sequence[Listener]
    admin: Sequence[Listener]
    p2p: ListenAddress

    @property
    def serving(self) -> Sequence[Listener]:
        """All that phones may use."""
        return [*self.phones, *self.secure]


@asynccontextmanager
async def open_ports(config: RunConfig, data_dir: DataDir, *, tls: ssl.SSLContext | None) -> AsyncIterator[Ports]:
    """Listens as `config` says, closes at the end. `tls` is for https, None without it. The port of the administration
    is kept in `data_dir`. Raises OSError with a message that says what to do."""
    with ExitStack() as listening:
        phones = await _listen(config.http, listening)
        secure = await _listen(config.https, listening, tls=tls)
        admin = await _listen_for_administration(data_dir, listening)
        yield Ports(phones, secure, admin, await _p2p_address(config, data_dir))


def urls_of(listeners: Sequence[Listener]) -> tuple[str, ...]:
    """The URLs by which this machine and its network reach them; loopback first."""
    scheme = "https" if any(listener.tls for listener in listeners) else "http"
    bound = [(listener.address.host, listener.address.port) for listener in listeners]
    return tuple(f"{scheme}://{ListenAddress(host, port)}" for host, port in spell_out(bound))


async def _listen(
    addresses: Sequence[ListenAddress], listening: ExitStack, *, tls: ssl.SSLContext | None = None
) -> list[Listener]:
    listeners = await open_listeners(addresses, tls=tls)
    for listener in listeners:
        listening.callback(listener.close)
    return listeners


async def _listen_for_administration(data_dir: DataDir, listening: ExitStack) -> list[Listener]:
    """On the port of the last run, if it is still free: bookmarks and whoever reads the metrics come back to it."""
    kept = data_dir.saved_admin_port()
    try:
        listeners = await _listen([ListenAddress(_ADMIN.host, kept or 0)], listening)
    except OSError:
        log.info("port %s, at which the dashboard was, is taken by another program", kept)
        listeners = await _listen([_ADMIN], listening)
    data_dir.save_admin_port(listeners[0].address.port)
    return listeners


async def _p2p_address(config: RunConfig, data_dir: DataDir) -> ListenAddress:
    """Where to listen for mailboxes: port 0 means the port of the last run, so that addresses stay good."""
    kept = data_dir.saved_p2p_port()
    if config.p2p.port or kept is None:
        return config.p2p
    address = ListenAddress(config.p2p.host, kept)
    try:
        for listener in await open_listeners([address]):
            listener.close()
    except OSError:
        log.warning("port %d of the last run is taken by another program; other mailboxes have to find us anew", kept)
        return config.p2p
    return address
