"""The HTTP server: opens the ports, accepts connections within bounds, watches deadlines, and shuts down in order."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from itertools import islice
from typing import Final

import trio

from node.config import ListenAddress
from node.http.connection import Connection, turn_away
from node.http.limits import HttpLimits, MemoryBudget, is_loopback
from node.http.messages import Router
from node.http.sockets import ClientSocket
from node.http.standing import Standing, client_key
from node.http.tls import TlsSocket
from node.http.turnstile import Turnstile
from protocols.limits.http import FILES_BESIDE_HTTP, HTTP_SEND_PIECE_BYTES
from protocols.limits.shedding import FRESH_S, KNOWN_IDLE_S, NETWORK_CLIENTS, PULSE_S, STRANGERS_CONNECTIONS_SHARE

if sys.platform != "win32":
    import resource

__all__ = ["HttpLimits", "HttpStatistics", "Listener", "open_listeners", "serve_http"]

log = logging.getLogger(__name__)

_ACCEPT_PAUSE_S: Final = 0.1
_VICTIMS_LOOKED_AT: Final = 64
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", None)


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, and where. With `tls`, clients have to speak it."""

    address: ListenAddress
    socket: trio.socket.SocketType
    tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Stops listening."""
        self.socket.close()


@dataclass(slots=True)
class HttpStatistics:
    """What a server has done so far. `responses` counts by status, `turned_away` connections refused for want of room,
    `bad_requests` those that broke HTTP or came too slowly. As of the last look: `busiest_client` has so many
    connections, `bodies_bytes` of request bodies are in memory, `load` is the share of places for stores that is
    taken."""

    responses: dict[int, int] = field(default_factory=dict)
    connections: int = 0
    accepted: int = 0
    turned_away: int = 0
    busiest_client: int = 0
    bodies_bytes: int = 0
    load: float = 0.0
    bad_requests: int = 0


async def open_listeners(addresses: Sequence[ListenAddress], *, tls: ssl.SSLContext | None = None) -> list[Listener]:
    """Listens on all `addresses`; port 0 picks a free port. `::` takes IPv4 too where nothing else has that port.

    Raises OSError with a message that says what to do; then none of them listens.
    """
    listeners: list[Listener] = []
    try:
        for address in addresses:
            has_ipv4 = any(other.port == address.port and ":" not in other.host for other in addresses)
            listeners += await _listen(address, dual_stack=address.host == "::" and (not has_ipv4 or not address.port))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return [replace(listener, tls=tls) for listener in listeners]


async def _listen(address: ListenAddress, *, dual_stack: bool) -> list[Listener]:
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _refused(address, error) from None
    listeners: list[Listener] = []
    for family, _, _, _, target in dict.fromkeys(found):
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
            # Accepted sockets inherit these two.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _TCP_NOTSENT_LOWAT is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, HTTP_SEND_PIECE_BYTES)
            await sock.bind(target)
            sock.listen(1024)
        except OSError as error:
            sock.close()
            for listener in listeners:
                listener.close()
            raise _refused(address, error) from None
        host, port = sock.getsockname()[:2]
        listeners.append(Listener(ListenAddress(host, port), sock))
    return listeners


def _refused(address: ListenAddress, error: OSError) -> OSError:
    reason, advice = error.strerror or str(error), "check the address"
    if isinstance(error, socket.gaierror):
        reason = "there is no such host"
    elif error.errno == errno.EADDRINUSE:
        reason, advice = "another program uses that port", "stop it, or choose another port (0 picks a free one)"
    elif error.errno == errno.EACCES:
        advice = "ports below 1024 need privileges: choose a higher one"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason, advice = "no interface of this machine has that address", "choose one that has, or 0.0.0.0 for all"
    text = f"can't listen on {address}: {reason}; {advice}"
    return OSError(error.errno, text)


async def serve_http(
    listeners: Sequence[Listener],
    router: Router,
    *,
    limits: HttpLimits | None = None,
    statistics: HttpStatistics | None = None,
    turnstile: Turnstile | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `router` on `listeners` until cancelled; `started` at once.

    Then it stops accepting, lets requests under way finish for up to `limits.grace_s`, and closes everything. Nothing
    that clients or handlers do ends it. `turnstile` is for whoever wants to look at it, too.
    """
    limits = limits or HttpLimits()
    server = Server(router, limits, statistics or HttpStatistics(), turnstile or Turnstile(limits))
    await server.run(listeners, task_status=task_status)


class Server:
    """What the connections of one server share."""

    def __init__(self, router: Router, limits: HttpLimits, statistics: HttpStatistics, turnstile: Turnstile) -> None:
        self.router = router
        self.limits = limits
        self.stats = statistics
        self.now_s = trio.current_time()
        self.is_draining = False
        self.bodies = MemoryBudget(limits.bodies_bytes_max, share_bytes_max=limits.bodies_bytes_max // 2)
        self.turnstile = turnstile
        # Those that could go for others, each longest first: between requests, told to wait, without a whole head.
        self.idle: dict[Connection, None] = {}
        self.idle_strangers: dict[Connection, None] = {}
        self.parked: dict[Connection, None] = {}
        self.heads: dict[Connection, None] = {}
        self.common_headers = b""
        self._fixed_headers = "".join(f"{name}: {value}\r\n" for name, value in router.headers)
        self._connections: set[Connection] = set()
        self._per_client: Counter[str] = Counter()
        self._strangers = 0
        self._strangers_max = max(1, int(STRANGERS_CONNECTIONS_SHARE * limits.connections_max))
        self._tick()

    async def run(self, listeners: Sequence[Listener], *, task_status: trio.TaskStatus[None]) -> None:
        """See `serve_http`."""
        _allow_files(self.limits.connections_max + FILES_BESIDE_HTTP)
        async with trio.open_nursery() as nursery:
            connections: trio.Nursery = await nursery.start(self._hold_connections)
            try:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started()
            finally:
                for listener in listeners:
                    listener.close()
                self.is_draining = True
                connections.cancel_scope.deadline = trio.current_time() + self.limits.grace_s
                for connection in list(self._connections):
                    connection.drain()
                self._ended.set()

    async def _hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The connections outlive the cancellation of the server by the grace that shutting down allows."""
        self._ended = trio.Event()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as watch:
                watch.start_soon(self._watch)
                watch.start_soon(self._feel)
                async with trio.open_nursery() as connections:
                    task_status.started(connections)
                    await self._ended.wait()
                watch.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            await trio.sleep(self.limits.tick_s)
            self._tick()
            for connection in [c for c in self._connections if c.deadline_s < self.now_s]:
                connection.expire()

    async def _feel(self) -> None:
        """Looks how late the server is: see `Pressure`."""
        while True:
            pause_s = PULSE_S if self._connections else self.limits.tick_s
            begun_s = trio.current_time()
            await trio.sleep(pause_s)
            elapsed_s = trio.current_time() - begun_s
            self.turnstile.look(elapsed_s=elapsed_s, late_s=elapsed_s - pause_s, share=self.router.load())

    def _tick(self) -> None:
        self.now_s = trio.current_time()
        self.stats.busiest_client = max(self._per_client.values(), default=0)
        self.stats.bodies_bytes = self.bodies.held_bytes
        self.stats.load = self.router.load()
        self.common_headers = f"date: {formatdate(time.time(), usegmt=True)}\r\n{self._fixed_headers}".encode("latin-1")

    async def _accept(self, listener: Listener, connections: trio.Nursery) -> None:
        while True:
            try:
                sock, address = await listener.socket.accept()
            except OSError as error:  # no file descriptors left, or the client is gone already
                if error.errno != errno.ECONNABORTED:
                    log.warning("accepting a connection: %s", error)
                    await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            self.stats.accepted += 1
            client = str(address[0]).removeprefix("::ffff:")
            if self._has_room(client):
                is_here = is_loopback(client) or address[0] == _own_address(sock)
                wrapped = ClientSocket(sock) if listener.tls is None else TlsSocket(sock, listener.tls)
                connections.start_soon(self._serve, self._count(wrapped, client, is_here=is_here))
            else:
                self.stats.turned_away += 1
                turn_away(sock)

    def _has_room(self, client: str) -> bool:
        """Whether there is room for a connection, if need be after another one had to go for it. A part is kept free
        for clients who are known: strangers make room for each other."""
        limits, key = self.limits, client_key(client)
        is_exempt = self.turnstile.is_exempt(client)
        clients = NETWORK_CLIENTS if key.endswith("/64") else 1
        if not is_exempt and self._per_client[key] >= clients * limits.connections_per_client_max:
            return False
        is_known = is_exempt or self.turnstile.standing(client, trio.current_time()) > Standing.STRANGER
        if len(self._connections) < limits.connections_max and (is_known or self._strangers < self._strangers_max):
            return True
        victim = self._victim(is_known)
        if victim is None:
            return False
        self._forget(victim)
        victim.expire()
        return True

    def _victim(self, is_known: bool) -> Connection | None:
        """Who makes room: strangers first, and of all those who do nothing; for a known client at last whoever has been
        idle for longest, for a stranger only if that is long."""
        for waiting in (self.idle_strangers, self.parked):
            if waiting:
                return next(iter(waiting))
        now_s = trio.current_time()
        for connection in islice(self.heads, _VICTIMS_LOOKED_AT):
            if connection.standing is Standing.STRANGER and connection.began_head_s < now_s - FRESH_S:
                return connection
        oldest = next(iter(self.idle), None)
        if oldest is None or is_known:
            return oldest
        has_its_share = self._strangers >= self._strangers_max
        return None if has_its_share or oldest.idle_since_s >= now_s - KNOWN_IDLE_S else oldest

    def _forget(self, connection: Connection) -> None:
        for waiting in (self.idle, self.idle_strangers, self.parked, self.heads):
            waiting.pop(connection, None)

    def _count(self, sock: ClientSocket, client: str, *, is_here: bool) -> Connection:
        """Counted before its task runs, so that of a burst of connections not one more gets in."""
        connection = Connection(sock, client, self, is_here=is_here)
        self._connections.add(connection)
        self.heads[connection] = None
        self._per_client[connection.key] += 1
        self._strangers += connection.standing is Standing.STRANGER
        self.stats.connections += 1
        return connection

    async def _serve(self, connection: Connection) -> None:
        key, was_stranger = connection.key, connection.standing is Standing.STRANGER
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._forget(connection)
            self.stats.connections -= 1
            self._strangers -= was_stranger
            self._per_client[key] -= 1
            if not self._per_client[key]:
                del self._per_client[key]


def _allow_files(count: int) -> None:
    """Raises the process's own limit of open files where it is too low for `count`: 1,024 is a common default."""
    if sys.platform == "win32":  # has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count:
        log.warning("this system allows %d open files; for all connections it should be %d (ulimit -n)", hard, count)


def _own_address(sock: trio.socket.SocketType) -> str | None:
    """The address that a client has connected to, None if it is gone already."""
    with suppress(OSError):
        return str(sock.getsockname()[0])
    return None
