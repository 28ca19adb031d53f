"""The administration's own routes: status, peers, sync, verify, reach and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from typing import Any, Final

import msgspec

from node.http.admin.bodies import decoded, json_response
from node.http.admin.guard import guard_of
from node.http.admin.metrics import exposition
from node.http.admin.port import AdminError, AdminPort
from node.http.admin.sessions import Sessions
from node.http.messages import HttpError, Request, Response, Router
from node.http.server import HttpStatistics
from protocols.limits.http import ADMIN_BODY_BYTES_MAX

__all__ = ["admin_router"]

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


class _SyncRequest(msgspec.Struct):
    peer: str | None = None


def admin_router(
    port: AdminPort,
    token: str,
    *,
    http: HttpStatistics | None = None,
    sessions: Sessions | None = None,
    open_paths: Set[str] = frozenset(),
) -> Router:
    """A router with these routes; the others are added to it. `http` are the statistics of the phones' server, for the
    metrics. For `sessions` and `open_paths` see `guard_of`."""
    router = Router(headers=_HEADERS, guard=guard_of(token, sessions, open_paths))

    async def status(_request: Request) -> Response:
        return json_response(await _ask(port.status))

    async def peers(_request: Request) -> Response:
        return json_response({"peers": await _ask(port.peers)})

    async def sync(request: Request) -> Response:
        peer = decoded(request, _SyncRequest).peer if request.body else None
        return json_response(await _ask(lambda: port.sync(peer)))

    async def verify(_request: Request) -> Response:
        return json_response(await _ask(port.verify))

    async def metrics(request: Request) -> Response:
        body, content_type = exposition(
            await _ask(port.status), http, port.event_counts(), accept=request.headers.get("accept", "")
        )
        return Response(200, body, content_type)

    async def reach(_request: Request) -> Response:
        return json_response(await _ask(port.reach))

    router.get("/admin/status", status)
    router.get("/admin/peers", peers)
    router.post("/admin/sync", sync, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/verify", verify, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/reach", reach, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.get("/metrics", metrics)
    return router


async def _ask(question: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await question()
    except AdminError as error:
        raise HttpError(error.status, error.text) from None
