"""The administration: status, peers, sync and metrics, on a listener of its own that only this machine's user may use.

Three guards, in this order. The Host header must name this machine by a loopback name or address, and an Origin must be
the same: so a web page elsewhere can't reach us by pointing its own name at 127.0.0.1 (DNS rebinding). And every
request must carry the token from the data directory, which only the user can read, or be one of a session of the
dashboard, which began with the token.

Pages and event streams can be added as further routes; a handler may answer with an async iterator.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from node.http.head import Head
from node.http.messages import HttpError, Request, Response, Router
from node.http.metrics import exposition
from node.http.server import HttpStatistics
from node.http.sessions import Sessions
from protocols.limits.http import ADMIN_BODY_BYTES_MAX, ADMIN_TOKEN_BYTES

__all__ = ["AdminError", "AdminPort", "admin_router", "load_or_create_token"]

_JSON: Final = "application/json"
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS: Final = (
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'",
    ),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)


class AdminError(Exception):
    """The administration can't do it: an HTTP status and one line for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class AdminPort(Protocol):
    """What the administration asks of the node. Dictionaries are plain JSON values; `AdminError` refuses."""

    async def status(self) -> dict[str, Any]:
        """What `mailboxd status --json` prints."""
        ...

    async def peers(self) -> Sequence[dict[str, Any]]:
        """The known mailboxes, as in the status."""
        ...

    async def sync(self, peer: str | None) -> dict[str, Any]:
        """Syncs now with one mailbox (its 43-character id), or with all; may take long."""
        ...

    async def verify(self) -> dict[str, Any]:
        """Compares the index with the store: how many blocks that were, how many differed; may take a minute."""
        ...

    def event_counts(self) -> dict[str, int]:
        """How many events of each kind there were since the start."""
        ...

    async def reach(self) -> dict[str, Any]:
        """Has some neighbours try to connect to this mailbox, and tells what they say."""
        ...


class _SyncRequest(msgspec.Struct):
    peer: str | None = None


def admin_router(
    port: AdminPort,
    token: str,
    *,
    http: HttpStatistics | None = None,
    allowed_hosts: Sequence[str] = (),
    sessions: Sessions | None = None,
    open_paths: Set[str] = frozenset(),
) -> Router:
    """The administration's routes. `http` are the statistics of the phones' server, for the metrics. `allowed_hosts`
    are further values of the Host header without port, for a listener that is not on loopback. A request of one of
    `sessions` needs no token, and `open_paths` need nothing at all but to come from this machine's own pages."""
    hosts = _LOOPBACK_HOSTS | {host.lower() for host in allowed_hosts}
    router = Router(headers=_HEADERS, guard=_guard(token, hosts, sessions, open_paths))

    async def status(_request: Request) -> Response:
        return _json(await _ask(port.status))

    async def peers(_request: Request) -> Response:
        return _json({"peers": await _ask(port.peers)})

    async def sync(request: Request) -> Response:
        peer = _sync_request(request)
        return _json(await _ask(lambda: port.sync(peer)))

    async def verify(_request: Request) -> Response:
        return _json(await _ask(port.verify))

    async def metrics(request: Request) -> Response:
        body, content_type = exposition(
            await _ask(port.status), http, port.event_counts(), accept=request.headers.get("accept", "")
        )
        return Response(200, body, content_type)

    async def reach(_request: Request) -> Response:
        return _json(await _ask(port.reach))

    router.get("/admin/status", status)
    router.get("/admin/peers", peers)
    router.post("/admin/sync", sync, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/verify", verify, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/reach", reach, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.get("/metrics", metrics)
    return router


async def _ask(question: Callable[[], Any]) -> Any:
    try:
        return await question()
    except AdminError as error:
        raise HttpError(error.status, error.text) from None


def _json(value: object) -> Response:
    return Response(200, msgspec.json.encode(value), _JSON)


def _sync_request(request: Request) -> str | None:
    if not request.body:
        return None
    try:
        return msgspec.json.decode(request.body, type=_SyncRequest).peer
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise HttpError(400, 'The body must be empty or {"peer": "<mailbox id>"}.') from None


# --- guards -------------------------------------------------------------------------------------------------------


def _guard(
    token: str, hosts: frozenset[str], sessions: Sessions | None, open_paths: Set[str]
) -> Callable[[Head, str], None]:
    expected = f"Bearer {token}".encode()

    def is_of_a_session(head: Head) -> bool:
        if sessions is None or not sessions.admits(head.headers):
            return False
        # A browser says where a request that changes something comes from; what doesn't is no page of ours.
        return head.method in ("GET", "HEAD") or "origin" in head.headers

    def guard(head: Head, _client: str) -> None:
        host = head.headers.get("host", "").lower()
        if _without_port(host) not in hosts:
            raise HttpError(403, "The administration answers only to this machine's own name or address.")
        origin = head.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            raise HttpError(403, "The administration does not answer to other origins.")
        if head.headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and head.method != "GET":
            raise HttpError(403, "The administration does not answer to other sites.")
        if head.target in open_paths or is_of_a_session(head):
            return
        given = head.headers.get("authorization", "").encode("latin-1")
        scheme, _, rest = given.partition(b" ")
        if not hmac.compare_digest(scheme.title() + b" " + rest.strip(), expected):
            raise HttpError(
                401,
                "The administration needs the token from the data directory.",
                headers=(("www-authenticate", 'Bearer realm="mailboxd"'),),
            )

    return guard


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def load_or_create_token(path: Path) -> str:
    """The token that the administration asks for: 32 random bytes as base64url, made on the first start with mode 0600.

    Raises AdminError if the file can't be read or written, holds something else, or can be read by others.
    """
    try:
        _create_token(path)
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(200).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(500, f"{path}: can't be read or written as the administration's token ({error})") from None
    if os.name == "posix" and mode & 0o077:
        raise AdminError(
            500, f"{path}: others can read the administration's token; run `chmod 600`, or delete the file"
        )
    if (
        len(token) != len(secrets.token_urlsafe(ADMIN_TOKEN_BYTES))
        or not token.replace("-", "").replace("_", "").isalnum()
    ):
        raise AdminError(500, f"{path}: this is not the administration's token; delete the file and start again")
    return token


def _create_token(path: Path) -> None:
    """Writes a new token unless there is one. Written aside and renamed, so that nobody ever sees half of it."""
    if path.exists():
        return
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(ADMIN_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
