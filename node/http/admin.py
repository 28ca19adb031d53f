"""The administration: status, peers, sync and metrics, on a listener of its own that only this machine's user may use.

Three guards, in this order. The Host header must name this machine by a loopback name or address, and an Origin must be
the same: so a web page elsewhere can't reach us by pointing its own name at 127.0.0.1 (DNS rebinding). And every
request must carry the token from the data directory, which only the user can read.

Pages and event streams can be added as further routes; a handler may answer with an async iterator.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.http.head import Head
from node.http.messages import HttpError, Request, Response, Router
from node.http.server import HttpStatistics
from protocols.limits import ADMIN_BODY_BYTES_MAX, ADMIN_TOKEN_BYTES

__all__ = ["AdminError", "AdminPort", "admin_router", "load_or_create_token"]

_JSON: Final = "application/json"
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
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


class _SyncRequest(msgspec.Struct):
    peer: str | None = None


def admin_router(
    port: AdminPort,
    token: str,
    *,
    http: HttpStatistics | None = None,
    allowed_hosts: Sequence[str] = (),
) -> Router:
    """The administration's routes. `http` are the statistics of the phones' server, for the metrics. `allowed_hosts`
    are further values of the Host header without port, for a listener that is not on loopback."""
    router = Router(headers=_HEADERS, guard=_guard(token, _LOOPBACK_HOSTS | {host.lower() for host in allowed_hosts}))

    async def status(_request: Request) -> Response:
        return _json(await _ask(port.status))

    async def peers(_request: Request) -> Response:
        return _json({"peers": await _ask(port.peers)})

    async def sync(request: Request) -> Response:
        peer = _sync_request(request)
        return _json(await _ask(lambda: port.sync(peer)))

    async def verify(_request: Request) -> Response:
        return _json(await _ask(port.verify))

    async def metrics(_request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_NodeCollector(await _ask(port.status), http))
        return Response(200, generate_latest(registry), CONTENT_TYPE_LATEST)

    router.get("/admin/status", status)
    router.get("/admin/peers", peers)
    router.post("/admin/sync", sync, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/verify", verify, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
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


def _guard(token: str, hosts: frozenset[str]) -> Callable[[Head, str], None]:
    expected = f"Bearer {token}".encode()

    def guard(head: Head, _client: str) -> None:
        host = head.headers.get("host", "").lower()
        if _without_port(host) not in hosts:
            raise HttpError(403, "The administration answers only to this machine's own name or address.")
        origin = head.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            raise HttpError(403, "The administration does not answer to other origins.")
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


# --- metrics ------------------------------------------------------------------------------------------------------


class _NodeCollector(Collector):
    """The status in Prometheus' terms, made for one scrape."""

    def __init__(self, status: dict[str, Any], http: HttpStatistics | None) -> None:
        self._status = status
        self._http = http

    def collect(self) -> list[Metric]:
        """See prometheus_client."""
        status = self._status
        metrics: list[Metric] = [
            _gauge("mailboxd_messages", "Messages held.", status["messages"]),
            _gauge("mailboxd_logs", "Logs with at least one message.", status["logs"]),
            _gauge("mailboxd_topics", "Topics with at least one message.", status["topics"]),
            _gauge("mailboxd_bytes", "Bytes of the messages held.", status["bytes"]),
        ]
        if status["storage_limit"] is not None:
            metrics.append(_gauge("mailboxd_storage_limit_bytes", "The storage limit.", status["storage_limit"]))
        relayed = CounterMetricFamily("mailboxd_relayed_messages", "Messages by where they went.", labels=["way"])
        for way, count in status["relayed"].items():
            relayed.add_metric([way], count)
        audit = status["audit"]
        metrics += [
            _gauge("mailboxd_index_blocks", "Blocks of messages in the index.", audit["of"]),
            _counter(
                "mailboxd_index_differences", "Blocks in which the index differed from the store.", audit["found"]
            ),
        ]
        peers = GaugeMetricFamily("mailboxd_peers", "Known mailboxes by state.", labels=["state"])
        states = [peer["state"] for peer in status["peers"]]
        for state in sorted(set(states)):
            peers.add_metric([state], states.count(state))
        return [*metrics, relayed, peers, *self._http_metrics()]

    def _http_metrics(self) -> list[Metric]:
        http = self._http
        if http is None:
            return []
        responses = CounterMetricFamily("mailboxd_http_responses", "Answers to phones by status.", labels=["status"])
        for code, count in sorted(http.responses.items()):
            responses.add_metric([str(code)], count)
        return [
            responses,
            _gauge("mailboxd_http_connections", "Open connections of phones.", http.connections),
            _counter("mailboxd_http_accepted", "Connections accepted.", http.accepted),
            _counter("mailboxd_http_turned_away", "Connections refused for want of room.", http.turned_away),
            _counter("mailboxd_http_bad_requests", "Requests that broke HTTP or came too slowly.", http.bad_requests),
        ]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
