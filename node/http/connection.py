"""One client's connection: requests in, responses out, one after the other, within every limit.

Deadlines are attributes that the server looks at a few times a second (`expire`); arming a timer of its own for each
phase of each request would cost a fifth of the rate.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import Enum, auto
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from node.http.head import BadHead, ChunkedBody, Head, check_partial, parse_head
from node.http.messages import STRANGER, Body, HttpError, Request, Response
from node.http.refusals import plain, route_of, too_large
from node.http.sockets import ClientSocket
from node.http.standing import Standing, client_key
from node.store.api import StoreError
from protocols.limits.http import HTTP_BODY_FREE_BYTES, HTTP_LINGER_BYTES_MAX, HTTP_SEND_PIECE_BYTES
from protocols.limits.units import KIB

if TYPE_CHECKING:
    from node.http.server import Server

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_RECEIVE_BYTES: Final = 64 * KIB
_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_AUTHORIZATION: Final = re.compile(rb"\r\nauthorization:([\t\x20-\x7e]*)\r\n", re.IGNORECASE)
_NO_ROOM: Final = Response(503, headers=(("retry-after", "5"),))


class _Phase(Enum):
    """What a connection is doing, and so what happens when its time is up."""

    IDLE = auto()  # between requests: closed without a word
    HEAD = auto()  # 408
    BODY = auto()  # 408
    HANDLER = auto()  # takes as long as it takes
    SEND = auto()  # broken off
    LINGER = auto()  # closed
    PARKED = auto()  # a stranger that waits for its turn: closed without a word


class Connection:
    """Serves one accepted socket. `client` is the IP address at the other end, `is_here`: on this machine."""

    def __init__(self, sock: ClientSocket, client: str, server: Server, *, is_here: bool) -> None:
        self.client = client
        self._is_here = is_here
        self.principal = STRANGER
        """Who the latest request came from."""
        self.device: str | None = None
        """The paired device that the latest request came from."""
        self._tick_s = server.limits.tick_s
        self.deadline_s = server.now_s + self._tick_s + server.limits.head_timeout_s
        self._sock = sock
        self._server = server
        self._limits = server.limits
        self._is_counted = not server.turnstile.is_exempt(client)
        self.key = client_key(client)
        self.standing = server.turnstile.standing(client, trio.current_time()) if self._is_counted else Standing.PAIRED
        self._scope = trio.CancelScope()
        self._phase = _Phase.HEAD
        self._buffer = b""
        self._is_body_unread = False
        self._is_answered = False
        self._has_turn = False
        self._held_bytes = 0
        self._window_bytes = 0
        self._body_deadline_s = inf

    @property
    def began_head_s(self) -> float:
        """Since when it has waited for a head, while it does."""
        return self.deadline_s - self._tick_s - self._limits.head_timeout_s

    @property
    def idle_since_s(self) -> float:
        """Since when it has waited for a request, while it does."""
        return self.deadline_s - self._tick_s - self._limits.idle_timeout_s

    # --- from the server -------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Runs until either side closes. Raises nothing but Cancelled."""
        try:
            with self._scope:
                await self._serve_requests()
            if self._scope.cancelled_caught:
                await self._time_is_up()
        except OSError as error:
            log.debug("connection of %s: %s", self.client, error)
        except Exception:
            log.exception("connection of %s", self.client)
        finally:
            self._release()
            self._sock.close()

    def expire(self) -> None:
        """Ends what the connection is doing now."""
        self.deadline_s = inf
        self._scope.cancel()

    def drain(self) -> None:
        """The server is shutting down: ends the connection unless a request is under way."""
        if self._phase in (_Phase.IDLE, _Phase.PARKED) or (self._phase is _Phase.HEAD and not self._buffer):
            self.expire()

    # --- requests --------------------------------------------------------------------------------------------------

    async def _serve_requests(self) -> None:
        keep = True
        if self._sock.shakes_hands and self._is_stranger:
            await self._take_turn()
        while keep and not self._server.is_draining:
            self._is_answered = False
            self._is_body_unread = False
            try:
                head = await self._receive_head()
                if head is None:
                    return
                keep = await self._exchange(head)
            except BadHead as error:
                self._misbehaved()
                if self._is_answered:  # it came while we threw the rest of a refused request away
                    return
                self._is_body_unread = True
                await self._respond(plain(error.status, error.text), keep=False)
                break
        if self._is_body_unread or self._buffer:
            await self._linger(self._limits.linger_s)

    async def _receive_head(self) -> Head | None:
        """The next request's head, or None if the client is done."""
        data = self._buffer.removeprefix(b"\r\n")
        has_waited = False
        while True:
            if data and self._is_stranger and not self._has_turn and not self._shows_token(data):
                if self._server.seats.is_guest(self):
                    await self._respond(_NO_ROOM, keep=False)
                    return None
                await self._take_turn()
                has_waited = True
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                if not has_waited:  # many short requests came at once: others have their turn in between
                    await trio.lowlevel.checkpoint()
                self._buffer = data[end + 4 :]
                return parse_head(data[: end + 4])
            self._buffer = data
            if data:
                check_partial(data)
            more = await self._sock.recv(_RECEIVE_BYTES)
            has_waited = True
            self._has_turn = False  # a head that comes byte by byte takes a turn for each
            if not more:
                if data:
                    raise BadHead(400, "The request ends in the middle of its head.")
                return None
            if self._phase is _Phase.IDLE:
                self._server.seats.give_up(self)
                self._server.seats.heads[self] = None
                self._enter(_Phase.HEAD, self._limits.head_timeout_s)
            data = (data + more).removeprefix(b"\r\n") if data or more[0] == 13 else more

    async def _exchange(self, head: Head) -> bool:
        """Answers one request; says whether the connection can go on."""
        self._server.seats.heads.pop(self, None)
        self._is_body_unread = head.length != 0
        keep = head.keep_alive
        try:
            response = await self._answer(head)
        except HttpError as error:
            response = plain(error.status, error.text, error.headers)
        is_small = head.length is not None and head.length <= HTTP_BODY_FREE_BYTES and not head.expects_continue
        if self._is_body_unread and not is_small:
            keep = False
        await self._respond(response, keep=keep and not self._server.is_draining, head=head)
        if keep and self._is_body_unread:
            await self._receive_body(head, HTTP_BODY_FREE_BYTES)
        self._release()
        self._has_turn = False
        seats = self._server.seats
        if self._is_counted:
            self._server.turnstile.answered(self.client, response.status, trio.current_time())
        if keep and not self._buffer:
            seats.rest(self)
            self._enter(_Phase.IDLE, self._limits.idle_timeout_s)
        else:
            seats.heads[self] = None
            self._enter(_Phase.HEAD, self._limits.head_timeout_s)
        return keep

    @property
    def _is_stranger(self) -> bool:
        return self.standing is Standing.STRANGER

    def _recognise(self) -> None:
        """By the latest request it is clear whose connection this is."""
        device, turnstile = self.principal.device, self._server.turnstile
        is_paired = device is not None or not self._is_counted
        standing = Standing.PAIRED if is_paired else turnstile.standing(self.client, trio.current_time())
        if (device, standing) != (self.device, self.standing):
            self.device, self.standing = device, standing
            self._server.seats.recount(self)

    async def _take_turn(self) -> None:
        """A stranger's request waits for its turn: see `Turns`."""
        if not self._has_turn:
            self._has_turn = True
            await self._take_another_turn()

    async def _take_another_turn(self) -> None:
        """As above, for each piece of a body: whoever sends them small has to wait for each."""
        turns = self._server.turnstile.turns
        if turns.take_nowait():
            return
        phase, deadline_s, since_s = self._phase, self.deadline_s, trio.current_time()
        self._phase, self.deadline_s = _Phase.PARKED, inf
        heads = self._server.seats.heads
        was_in_head = self in heads
        heads.pop(self, None)
        await turns.take(self)
        if was_in_head:
            heads[self] = None
        self._phase, self.deadline_s = phase, deadline_s + trio.current_time() - since_s

    def _shows_token(self, data: bytes) -> bool:
        """Whether what has come of a request has a paired device's token in it, so that it need not wait for its turn
        although we don't know the address."""
        door = self._server.router.door
        value = None if door is None else _AUTHORIZATION.search(data)
        if door is None or value is None:
            return False
        return door.identify(
            {"authorization": value[1].decode("latin-1").strip(" \t")}, is_here=self._is_here
        ).is_paired

    async def _answer(self, head: Head) -> Response:
        server = self._server
        door = server.router.door
        self.principal = STRANGER if door is None else door.identify(head.headers, is_here=self._is_here)
        router = server.router
        path, _, query = head.target.partition("?")
        methods = router.routes.get(path)
        self._recognise()
        standing = self.standing
        if self._is_counted:
            stores = methods is not None and head.method in methods and methods[head.method].stores
            device, now_s = self.device, trio.current_time()
            standing = server.turnstile.admit(head, self.client, device=device, stores=stores, now_s=now_s)
            if standing is Standing.STRANGER or standing < self.standing:
                await self._take_turn()
        if router.guard is not None:
            router.guard(head, self.client)
        if head.method == "OPTIONS" and router.cors:
            # `*` does not cover Authorization (Fetch standard); who does not ask for it need not be told.
            asked = head.headers.get("access-control-request-headers", "").lower()
            allowed = "*, authorization" if "authorization" in asked else "*"
            return Response(headers=(("access-control-allow-methods", "*"), ("access-control-allow-headers", allowed)))
        route = route_of(methods, head)
        if route.is_private and door is not None:
            door.check(self.principal)
        if route.check_room is not None:
            route.check_room(standing)
        body: Body = b""
        if route.body_bytes_max:
            body = await self._receive_body(head, route.body_bytes_max)
        if route.is_private and door is not None:
            # it may have been revoked while the body came
            self.principal = door.identify(head.headers, is_here=self._is_here)
            door.check(self.principal)
        self._enter(_Phase.HANDLER, inf)
        try:
            return await route.handler(
                Request(
                    head.method,
                    path,
                    query,
                    head.headers,
                    body,
                    self.client,
                    standing,
                    self.principal,
                    self._is_here,
                )
            )
        except HttpError:
            raise
        except Exception:
            log.exception("%s %s failed", head.method, path)
            return plain(500, "The mailbox made a mistake; its log has the details.")

    # --- bodies ----------------------------------------------------------------------------------------------------

    async def _receive_body(self, head: Head, bytes_max: int) -> Body:
        length = head.length
        if length == 0:
            return b""
        if length is not None and length > bytes_max:
            raise too_large(bytes_max)
        if length is not None and len(self._buffer) >= length:
            body: Body = self._buffer[:length]
            self._buffer = self._buffer[length:]
        else:
            self._window_bytes = 0
            self._body_deadline_s = self._server.now_s + self._tick_s + self._limits.body_timeout_s
            self._enter(_Phase.BODY, self._limits.body_window_s)
            if head.expects_continue and not self._buffer:
                await self._sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await (self._receive_chunked(bytes_max) if length is None else self._receive_counted(length))
        self._is_body_unread = False
        return body

    async def _receive_counted(self, length: int) -> bytearray:
        body = bytearray(self._buffer)
        self._buffer = b""
        while len(body) < length:
            data = await self._receive_more(min(_RECEIVE_BYTES, length - len(body)))
            self._hold(len(body) + len(data))
            body += data
        return body

    async def _receive_chunked(self, bytes_max: int) -> bytearray:
        chunks = ChunkedBody()
        body = bytearray()
        data = self._buffer
        self._buffer = b""
        while True:
            for piece in chunks.feed(data):
                if len(body) + len(piece) > bytes_max:
                    raise too_large(bytes_max)
                self._hold(len(body) + len(piece))
                body += piece
            if chunks.finished:
                self._buffer = chunks.rest
                return body
            data = await self._receive_more(_RECEIVE_BYTES)

    async def _receive_more(self, bytes_max: int) -> bytes:
        data = await self._sock.recv(bytes_max)
        if not data:
            raise BadHead(400, "The request ends in the middle of its body.")
        if self._is_stranger:
            await self._take_another_turn()
        self._window_bytes += len(data)
        if self._window_bytes >= self._limits.body_rate_min * self._limits.body_window_s:
            self._window_bytes = 0
            self._enter(_Phase.BODY, self._limits.body_window_s)
            self.deadline_s = min(self.deadline_s, self._body_deadline_s)
        return data

    def _hold(self, size: int) -> None:
        """Accounts for a body that has grown to `size` bytes."""
        more = size - HTTP_BODY_FREE_BYTES - self._held_bytes
        if more <= 0:
            return
        client = self.key if self._is_counted else None
        if not self._server.bodies.take_nowait(more, client):
            raise HttpError.busy(503, "Too many large requests are under way.", retry_after_s=5)
        self._held_bytes += more

    def _release(self) -> None:
        if self._held_bytes:
            self._server.bodies.give_back(self._held_bytes, self.key if self._is_counted else None)
            self._held_bytes = 0

    # --- responses -------------------------------------------------------------------------------------------------

    async def _respond(self, response: Response, *, keep: bool, head: Head | None = None) -> None:
        self._is_answered = True
        stats = self._server.stats
        stats.responses[response.status] = stats.responses.get(response.status, 0) + 1
        body = response.body
        lines = [_STATUS_LINES[response.status], self._server.common_headers]
        if response.content_type is not None:
            lines.append(f"content-type: {response.content_type}\r\n".encode())
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in response.headers]
        if not keep:
            lines.append(b"connection: close\r\n")
        is_head = head is not None and head.method == "HEAD"
        if isinstance(body, bytes):
            lines.append(b"content-length: %d\r\n\r\n" % len(body))
            if not is_head:
                lines.append(body)
            await self._send(b"".join(lines))
            return
        is_chunked = head is None or head.is_http11
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")
        await self._send_stream(b"".join(lines), body, is_chunked=is_chunked, is_head=is_head)

    async def _send_stream(self, start: bytes, body: AsyncIterator[bytes], *, is_chunked: bool, is_head: bool) -> None:
        try:
            await self._send(start)
            while not is_head:
                self._enter(_Phase.HANDLER, inf)
                try:
                    piece = await anext(body)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    log.warning(
                        "an answer broke off: %s", error, exc_info=not isinstance(error, HttpError | StoreError)
                    )
                    self._sock.reset_on_close()
                    raise OSError(errno.ECONNABORTED, "the answer broke off") from error
                await self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            if is_chunked and not is_head:
                await self._send(b"0\r\n\r\n")
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                with trio.CancelScope(shield=True):
                    await close()

    async def _send(self, data: bytes) -> None:
        self._enter(_Phase.SEND, self._limits.send_stall_s)
        sent = await self._sock.send(data)
        if sent == len(data):
            return
        view = memoryview(data)
        while sent < len(data):
            self._enter(_Phase.SEND, self._limits.send_stall_s)
            sent += await self._sock.send(view[sent : sent + HTTP_SEND_PIECE_BYTES])

    # --- endings ---------------------------------------------------------------------------------------------------

    def _enter(self, phase: _Phase, timeout_s: float) -> None:
        self._phase = phase
        self.deadline_s = self._server.now_s + self._tick_s + timeout_s

    def _misbehaved(self) -> None:
        self._server.stats.bad_requests += 1
        if self._is_counted:
            self._server.turnstile.misbehaved(self.client, trio.current_time())

    async def _time_is_up(self) -> None:
        if self._phase in (_Phase.SEND, _Phase.HANDLER):
            self._sock.reset_on_close()
        elif self._phase is _Phase.BODY or (self._phase is _Phase.HEAD and self._buffer):
            if self._is_answered:
                return
            self._misbehaved()
            with trio.move_on_after(1):
                await self._respond(plain(408, "The request did not arrive in time."), keep=False)
                await self._linger(1)

    async def _linger(self, timeout_s: float) -> None:
        """Lets the client read our refusal before the connection goes: closing with unread data would reset it."""
        self._release()
        self._enter(_Phase.LINGER, timeout_s)
        with suppress(OSError):
            await self._sock.shutdown()
            left = HTTP_LINGER_BYTES_MAX
            while left > 0:
                data = await self._sock.drain(_RECEIVE_BYTES)
                if not data:
                    return
                left -= len(data)
                if self._is_stranger:
                    await self._take_another_turn()
