"""The HTTP server: opens the ports, accepts connections within bounds, watches deadlines, and shuts down in order."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Final

import trio

from node.config import ListenAddress
from node.http.connection import Connection
from node.http.limits import HttpLimits, MemoryBudget, is_loopback
from node.http.messages import Router
from node.http.refusals import shut_out, turn_away
from node.http.seats import Seats
from node.http.sockets import ClientSocket
from node.http.tls import TlsSocket
from node.http.turnstile import Turnstile
from protocols.limits.http import FILES_BESIDE_HTTP, HTTP_SEND_PIECE_BYTES
from protocols.limits.shedding import ACCEPT_PAUSE_S, ACCEPTS_AT_ONCE, ACCEPTS_LOOKED_AT, PULSE_S

if sys.platform != "win32":
    import resource

__all__ = ["HttpLimits", "HttpStatistics", "Listener", "open_listeners", "serve_http"]

log = logging.getLogger(__name__)

_NO_FILES_PAUSE_S: Final = 0.1
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
        self.seats = Seats(limits, turnstile)
        self.common_headers = b""
        self._fixed_headers = "".join(f"{name}: {value}\r\n" for name, value in router.headers)
        self._connections: set[Connection] = set()
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
                watch.start_soon(self.turnstile.turns.run)
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
        """Looks how strangers wait: see `Pressure`."""
        while True:
            pause_s = PULSE_S if self._connections else self.limits.tick_s
            begun_s = trio.current_time()
            await trio.sleep(pause_s)
            elapsed_s = trio.current_time() - begun_s
            self.turnstile.look(elapsed_s=elapsed_s, share=self.router.load())

    def _tick(self) -> None:
        self.now_s = trio.current_time()
        self.stats.busiest_client = self.seats.busiest
        self.stats.bodies_bytes = self.bodies.held_bytes
        self.stats.load = self.router.load()
        self.common_headers = f"date: {formatdate(time.time(), usegmt=True)}\r\n{self._fixed_headers}".encode("latin-1")

    async def _accept(self, listener: Listener, connections: trio.Nursery) -> None:
        # Trio's own gives up its turn for each connection: in a flood of them a phone's would wait for hundreds.
        with socket.socket(fileno=listener.socket.dup().detach()) as accepting:
            accepting.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(accepting)
                let_in = 0
                try:
                    for _ in range(ACCEPTS_LOOKED_AT):
                        let_in += self._let_in(*accepting.accept(), listener, connections)
                        if let_in == ACCEPTS_AT_ONCE:
                            break
                except BlockingIOError:
                    pass
                except OSError as error:  # no file descriptors left, or the client is gone already
                    if error.errno != errno.ECONNABORTED:
                        log.warning("accepting a connection: %s", error)
                        await trio.sleep(_NO_FILES_PAUSE_S)
                if self.turnstile.pressure.is_high:
                    await trio.sleep(ACCEPT_PAUSE_S)

    def _let_in(
        self, sock: socket.socket, address: tuple[object, ...], listener: Listener, connections: trio.Nursery
    ) -> bool:
        self.stats.accepted += 1
        client = str(address[0]).removeprefix("::ffff:")
        now_s = trio.current_time()
        if not self.turnstile.may_connect(client, now_s):
            self.stats.turned_away += 1
            shut_out(sock)
        elif self.seats.has_room(client, now_s):
            sock.setblocking(False)
            is_here = is_loopback(client) or address[0] == _own_address(sock)
            wrapped = ClientSocket(sock) if listener.tls is None else TlsSocket(sock, listener.tls)
            connections.start_soon(self._serve, self._count(wrapped, client, is_here=is_here))
            return True
        else:
            self.stats.turned_away += 1
            turn_away(sock)
        return False

    def _count(self, sock: ClientSocket, client: str, *, is_here: bool) -> Connection:
        connection = Connection(sock, client, self, is_here=is_here)
        self._connections.add(connection)
        self.seats.take(connection)
        self.stats.connections += 1
        return connection

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self.seats.leave(connection)
            self.stats.connections -= 1


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


def _own_address(sock: socket.socket) -> str | None:
    """The address that a client has connected to, None if it is gone already."""
    with suppress(OSError):
        return str(sock.getsockname()[0])
    return None
