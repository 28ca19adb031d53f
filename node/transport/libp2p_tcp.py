"""Sockets for libp2p: listening, dialling, and the gate that decides who of those who knock is let in."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.io.abc import ReadWriteCloser

from node.config import ListenAddress
from node.discovery.rate import Bucket, Buckets
from protocols.limits.transport import (
    HANDSHAKE_S,
    HANDSHAKES_BURST,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_IP_BURST,
    HANDSHAKES_PER_IP_MAX,
    HANDSHAKES_PER_IP_RATE,
    HANDSHAKES_RATE,
    INBOUND_CONNECTIONS_MAX,
    INBOUND_CONNECTIONS_PER_IP_MAX,
    INBOUND_IDLE_S,
)
from protocols.limits.units import KIB

__all__ = ["Gate", "TcpSocket", "bind"]

log = logging.getLogger(__name__)

_READ_BYTES = 64 * KIB


class TcpSocket(ReadWriteCloser):  # type: ignore[misc]
    """A socket as libp2p wants it, read through a buffer: Noise asks for a message's 2 bytes of length and then for its
    body, which would be two system calls, and gives up on a message that comes in more than 100 pieces."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.was_silent = True
        """Whether nothing has come through it."""

    async def read(self, n: int | None = None) -> bytes:
        """`n` bytes, but no more than 64 KiB; fewer only at the end (None: what there is)."""
        wanted = 1 if n is None else min(n, _READ_BYTES)
        while len(self._buffer) < wanted:
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                break
            self._buffer += data
            self.was_silent = False
        with memoryview(self._buffer) as view:
            result = bytes(view if n is None else view[:wanted])
        del self._buffer[: len(result)]
        return result

    async def read_into(self, room: memoryview) -> int:
        """Fills the beginning of `room`, which has some, with what there is; returns how many bytes, 0 at the end."""
        if not self._buffer:
            return await self._stream.socket.recv_into(room)
        size = min(len(room), len(self._buffer))
        room[:size] = self._buffer[:size]
        del self._buffer[:size]
        return size

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        try:
            host, port = self._stream.socket.getpeername()[:2]
        except OSError:
            return None
        return str(host), int(port)


def _ip_of(stream: trio.SocketStream) -> str | None:
    """The other side's IP address; None if it is gone already. libp2p's own look-up knows no IPv6."""
    try:
        address = ipaddress.ip_address(str(stream.socket.getpeername()[0]).partition("%")[0])
    except (OSError, ValueError):
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _is_here(ip: str) -> bool:
    return ipaddress.ip_address(ip).is_loopback


class Gate:
    """Lets connections in: counted in all, by address, and with a deadline on their handshakes.

    Room is made for newcomers by dropping those of whom nothing is known yet (the oldest handshake) or who have been
    idle, so that neither silent sockets nor idle connections lock honest peers out. `is_friend` tells of a connection
    whether its mailbox is let in; those of strangers go first.
    """

    def __init__(
        self, upgrade: Callable[[TcpSocket], Awaitable[Any]], *, is_friend: Callable[[Any], bool] = lambda _conn: True
    ) -> None:
        self._upgrade = upgrade
        self._is_friend = is_friend
        self._handshakes: dict[trio.CancelScope, str] = {}
        self._connections: dict[Any, str] = {}
        self._rates = Buckets(
            per_second=HANDSHAKES_PER_IP_RATE, burst=HANDSHAKES_PER_IP_BURST, keys_max=INBOUND_CONNECTIONS_MAX
        )
        self._rate = Bucket(per_second=HANDSHAKES_RATE, burst=HANDSHAKES_BURST, now_s=trio.current_time())

    async def admit(self, stream: trio.SocketStream) -> None:
        """Takes over an accepted socket. Never raises because of what comes through it."""
        ip = _ip_of(stream)
        conn: Any = None
        if ip is not None and self._is_due(ip):
            self._make_room_for_handshake(ip)
            sock = TcpSocket(stream)
            with trio.move_on_after(HANDSHAKE_S) as scope:
                self._handshakes[scope] = ip
                try:
                    conn = await self._upgrade(sock)
                except Exception as error:
                    log.debug("a handshake with %s failed: %r", ip, error)
                finally:
                    del self._handshakes[scope]
            if not sock.was_silent:  # silence costs nothing, and would lock out others at the same address
                self._spend(ip)
        if conn is None or ip is None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        else:
            self._count(conn, ip)

    def _is_due(self, ip: str) -> bool:
        """Whether there may be one more handshake with another machine, which costs something, now."""
        now_s = trio.current_time()
        return _is_here(ip) or (self._rates.has(ip, now_s) and self._rate.available(now_s) >= 1)

    def _spend(self, ip: str) -> None:
        if not _is_here(ip):
            self._rates.take(ip, trio.current_time())
            self._rate.take(trio.current_time())

    def _make_room_for_handshake(self, ip: str) -> None:
        same = [scope for scope, other in self._handshakes.items() if other == ip and not scope.cancel_called]
        if len(same) >= HANDSHAKES_PER_IP_MAX:
            same[0].cancel()
        elif len(self._handshakes) >= HANDSHAKES_MAX:
            next(iter(self._handshakes)).cancel()

    def _count(self, conn: Any, ip: str) -> None:
        self._connections = {known: at for known, at in self._connections.items() if not known.muxed_conn.is_closed}
        full = Counter(self._connections.values())[ip] >= INBOUND_CONNECTIONS_PER_IP_MAX
        if full or len(self._connections) >= INBOUND_CONNECTIONS_MAX:
            candidates = [known for known, at in self._connections.items() if not full or at == ip]
            if not self._close_one_idle(candidates):
                log.debug("a connection from %s is refused: there are too many", ip)
                conn.muxed_conn.fail("there are too many connections")
                return
        self._connections[conn] = ip

    def _close_one_idle(self, candidates: Sequence[Any]) -> bool:
        idle = [conn for conn in candidates if conn.muxed_conn.idle_s() > INBOUND_IDLE_S]
        longest = max(idle, key=lambda conn: (not self._is_friend(conn), conn.muxed_conn.idle_s()), default=None)
        if longest is None:
            return False
        longest.muxed_conn.fail("closed to make room for another")
        return True

    async def accept_forever(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accepts until cancelled; running out of files is waited out."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                log.warning("can't accept connections at the moment: %s", error)
                await trio.sleep(0.5)
            else:
                nursery.start_soon(self.admit, stream)


async def bind(address: ListenAddress) -> list[trio.SocketListener]:
    """Listens on every IP address of `address`, all with the same port. Raises OSError that says what to do.

    Not libp2p's listener: that one sets SO_REUSEPORT, with which two mailboxes share a port without noticing.
    """
    listeners: list[trio.SocketListener] = []
    port = address.port
    try:
        found = await trio.socket.getaddrinfo(
            address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        for host in dict.fromkeys(str(entry[4][0]) for entry in found):
            listeners += await trio.open_tcp_listeners(port, host=host)
            port = listeners[0].socket.getsockname()[1]
    except OSError as error:
        for listener in listeners:
            await listener.aclose()
        raise OSError(error.errno, f"can't listen for mailboxes on {address}: {_advice(error)}") from error
    return listeners


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "this name has no address here; give an IP address with --p2p"
    if error.errno == errno.EADDRINUSE:
        return "the port is taken; stop the program that uses it or choose another with --p2p"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose a higher one with --p2p"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this computer does not have that address; choose another with --p2p"
    return error.strerror or str(error)
