"""What handlers take and give: requests, responses, and the table of routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from node.http.head import Head
from node.http.standing import Standing
from protocols.limits.http import HTTP_BODY_BYTES_MAX

__all__ = [
    "STRANGER",
    "Body",
    "Guard",
    "Handler",
    "HttpError",
    "Principal",
    "PrincipalPort",
    "Request",
    "Response",
    "Route",
    "Router",
]

Body: TypeAlias = bytes | bytearray


class Principal(NamedTuple):
    """Who a request comes from: `device` names a paired phone (or this machine's own user), None a stranger.
    `has_token` says whether it came with credentials, be they right or wrong."""

    device: str | None
    has_token: bool = False

    @property
    def is_paired(self) -> bool:
        """Whether it is somebody whom the user has let in."""
        return self.device is not None


STRANGER: Final = Principal(None)


class PrincipalPort(Protocol):
    """Tells who a request comes from, and whether it may use the routes that are private."""

    def identify(self, headers: Mapping[str, str], *, is_here: bool = False) -> Principal:
        """From the request's headers (names in lower case). `is_here`: it comes from this machine. Never raises."""
        ...

    def check(self, principal: Principal) -> None:
        """Raises HttpError (401) if it may not."""
        ...


class Request(NamedTuple):
    """A complete request. `path` and `query` are as the client wrote them (percent-encoded), header names are in lower
    case, `client` is the IP address at the other end of the connection, `principal` who it is if it has said so; where
    room is scarce, `standing` says who gives way. `is_here`: the client is on this machine."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Body
    client: str
    standing: Standing = Standing.STRANGER
    principal: Principal = STRANGER
    is_here: bool = False


@dataclass(slots=True)
class Response:
    """An answer. A body that is an iterator is sent in chunks as it comes, each at least a byte; if it raises, the
    connection is broken off, so that the client does not take a part for the whole. Close what it holds in its
    `finally`: it is always closed."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class HttpError(Exception):
    """A handler's refusal: `status`, one line of text, and further headers."""

    def __init__(self, status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers

    @classmethod
    def busy(cls, status: int, text: str, *, retry_after_s: int) -> HttpError:
        """A refusal for now: 429, 503 or the like, with `Retry-After`."""
        return cls(status, text, headers=(("retry-after", str(retry_after_s)),))


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Guard: TypeAlias = Callable[[Head, str], None]


@dataclass(frozen=True, slots=True)
class Route:
    """What one method on one path does. `takes_json`: the body must be declared as JSON. `stores`: while the mailbox is
    flooded, strangers have to work for it. `is_private`: only those may use it whom the router's `door` lets in.
    `check_room` raises HttpError before the body is read if there is no room for a client of that standing."""

    handler: Handler
    takes_json: bool = False
    body_bytes_max: int = 0
    stores: bool = False
    is_private: bool = False
    check_room: Callable[[Standing], None] | None = None


@dataclass(slots=True)
class Router:
    """The table of routes. `headers` go with every answer. With `cors`, every OPTIONS is answered for every origin.

    `guard` sees each head and the client's address before anything else, and raises HttpError to refuse. `door` tells
    who requests come from; without one all are strangers, and nothing is private. `load` is the share of its places for
    stores that is taken, from 0 to 1.
    """

    headers: tuple[tuple[str, str], ...] = ()
    cors: bool = False
    guard: Guard | None = None
    door: PrincipalPort | None = None
    load: Callable[[], float] = lambda: 0.0
    routes: dict[str, dict[str, Route]] = field(default_factory=dict)

    def get(self, path: str, handler: Handler) -> None:
        """Serves GET and HEAD on `path`; a body is read and ignored."""
        route = Route(handler)
        self.routes.setdefault(path, {}).update({"GET": route, "HEAD": route})

    def post(
        self,
        path: str,
        handler: Handler,
        *,
        takes_json: bool = True,
        body_bytes_max: int = HTTP_BODY_BYTES_MAX,
        stores: bool = False,
        is_private: bool = False,
        check_room: Callable[[Standing], None] | None = None,
    ) -> None:
        """Serves POST on `path` with a body of up to `body_bytes_max` bytes."""
        route = Route(handler, takes_json, body_bytes_max, stores, is_private, check_room)
        self.routes.setdefault(path, {})["POST"] = route
