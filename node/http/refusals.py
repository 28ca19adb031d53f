"""What a client is told when it is not served, and what a request must be to be served at all."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

from node.http.head import Head
from node.http.messages import HttpError, Response, Route

__all__ = ["plain", "route_of", "shut_out", "too_large", "turn_away"]

_TEXT: Final = "text/plain; charset=utf-8"
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n"
    b"access-control-allow-origin: *\r\n\r\n"
)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def turn_away(sock: socket.socket) -> None:
    """Tells a client that there is no room for it, as far as that goes without waiting, and closes."""
    with suppress(OSError):
        sock.send(_BUSY)
        sock.shutdown(socket.SHUT_WR)
    sock.close()


def shut_out(sock: socket.socket) -> None:
    """Closes without a word, and without anything that is left to do for it."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


def route_of(methods: dict[str, Route] | None, head: Head) -> Route:
    """Of what a path has, what serves this request. Raises HttpError."""
    if methods is None:
        raise HttpError(404, "")
    route = methods.get(head.method)
    if route is None:
        raise HttpError(405, "", headers=(("allow", ",".join(sorted(methods))),))
    if route.takes_json and not _is_json(head.headers.get("content-type", "")):
        raise HttpError(415, "The body must be declared as `Content-Type: application/json`.")
    if route.body_bytes_max and head.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "The body must not be compressed (Content-Encoding).")
    return route


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type == "application/json":
        return True
    return media_type.startswith("application/") and media_type.endswith("+json") and len(media_type) > 17


def too_large(bytes_max: int) -> HttpError:
    """The refusal of a body that is larger than that."""
    return HttpError(413, f"The body is larger than {bytes_max} bytes.")


def plain(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A refusal: one line of plain text, or nothing."""
    line = " ".join(text.split())[:500]
    if not line:
        return Response(status, headers=headers)
    return Response(status, f"{line}\n".encode(errors="replace"), _TEXT, headers)
