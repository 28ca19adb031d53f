"""What handlers take and give: requests, responses, and the table of routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from node.http.head import Head
from node.http.standing import Standing
from protocols.limits import HTTP_BODY_BYTES_MAX

__all__ = ["Body", "Guard", "Handler", "HttpError", "Request", "Response", "Route", "Router"]

Body: TypeAlias = bytes | bytearray


class Request(NamedTuple):
    """A complete request. `path` and `query` are as the client wrote them (percent-encoded), header names are in lower
    case, `client` is the IP address at the other end of the connection; where room is scarce, `standing` says who gives
    way."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Body
    client: str
    standing: Standing = Standing.STRANGER


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
    flooded, strangers have to work for it."""

    handler: Handler
    takes_json: bool = False
    body_bytes_max: int = 0
    stores: bool = False


@dataclass(slots=True)
class Router:
    """The table of routes. `headers` go with every answer. With `cors`, every OPTIONS is answered for every origin.

    `guard` sees each head and the client's address before anything else, and raises HttpError to refuse. `is_paired`
    says whether a head shows that it comes from a paired device. `load` is the share of its places for stores that is
    taken, from 0 to 1.
    """

    headers: tuple[tuple[str, str], ...] = ()
    cors: bool = False
    guard: Guard | None = None
    is_paired: Callable[[Head], bool] | None = None
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
    ) -> None:
        """Serves POST on `path` with a body of up to `body_bytes_max` bytes."""
        self.routes.setdefault(path, {})["POST"] = Route(handler, takes_json, body_bytes_max, stores)
