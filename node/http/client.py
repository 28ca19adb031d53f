"""The other side of our HTTP, for the command line: plain blocking calls with errors that say what to do."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from node.datadir import read_node_info
from protocols.errors import RemoteProtocolError
from protocols.limits.http import CLIENT_TIMEOUT_S, SYNC_REQUEST_TIMEOUT_S, VERIFY_REQUEST_TIMEOUT_S
from protocols.model import LogName
from protocols.toy_answers import decode_get_answer, decode_watermarks
from protocols.toy_api import Family, encode_get, encode_store

__all__ = ["AdminClient", "ClientError", "exchange", "own_token", "read_topic", "store_messages"]

_TOKEN_FILE: Final = "admin-token"


class ClientError(Exception):
    """The mailbox did not do it; the message is one line for the user. `status` is its answer's, None without one."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class AdminClient:
    """Asks a running mailbox's administration at `url`. `timeout_s` bounds each wait for the other side."""

    def __init__(self, url: str, token: str, *, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s

    @classmethod
    @contextmanager
    def open(cls, data_dir: Path) -> Iterator[AdminClient]:
        """The client for the mailbox that runs on `data_dir`. Raises ClientError, or DataDirError if none does."""
        info = read_node_info(data_dir)
        yield cls(info.admin, own_token(data_dir))

    def get(self, path: str) -> Any:
        """The JSON value at `path`. Raises ClientError."""
        return _parsed(_request(self._url, "GET", path, headers=self._headers, timeout_s=self._timeout_s))

    def post(self, path: str, value: object = None, *, timeout_s: float | None = None) -> Any:
        """The JSON answer to `value` (None: no body). Raises ClientError."""
        body = b"" if value is None else json.dumps(value).encode()
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        return _parsed(_request(self._url, "POST", path, body, headers, timeout_s=timeout_s or self._timeout_s))

    def send(self, path: str, body: bytes) -> Any:
        """The JSON answer to a body of any bytes. Raises ClientError."""
        headers = self._headers | {"Content-Type": "application/octet-stream"}
        return _parsed(_request(self._url, "POST", path, body, headers, timeout_s=self._timeout_s))

    def dashboard_link(self) -> str:
        """A link that lets one browser into the dashboard, once and soon. The code stands behind `#`: browsers keep
        that to themselves. Raises ClientError."""
        return f"{self._url}/#{self.post('/admin/login-code')['code']}"

    def status(self) -> dict[str, Any]:
        """What `mailboxd status --json` prints. Raises ClientError."""
        answer: dict[str, Any] = self.get("/admin/status")
        return answer

    def peers(self) -> list[dict[str, Any]]:
        """The known mailboxes. Raises ClientError."""
        peers: list[dict[str, Any]] = self.get("/admin/peers")["peers"]
        return peers

    def sync(self, peer: str | None = None) -> dict[str, Any]:
        """Syncs with one mailbox or all, and returns when it is done. Raises ClientError."""
        value = None if peer is None else {"peer": peer}
        answer: dict[str, Any] = self.post("/admin/sync", value, timeout_s=SYNC_REQUEST_TIMEOUT_S)
        return answer

    def report(self, peer: str) -> bytes:
        """The file of a convergence report with one mailbox. Raises ClientError."""
        body, headers = json.dumps({"peer": peer}).encode(), self._headers | {"Content-Type": "application/json"}
        return _request(self._url, "POST", "/admin/report", body, headers, timeout_s=SYNC_REQUEST_TIMEOUT_S)

    def verify(self) -> dict[str, Any]:
        """Compares the index with the store. Raises ClientError."""
        answer: dict[str, Any] = self.post("/admin/verify", timeout_s=VERIFY_REQUEST_TIMEOUT_S)
        return answer

    def reach(self) -> list[dict[str, Any]]:
        """What neighbours say of how this mailbox can be reached. Raises ClientError."""
        answers: list[dict[str, Any]] = self.post("/admin/reach")["neighbours"]
        return answers


def own_token(data_dir: Path) -> str:
    """The administration's token of the mailbox on a data directory. Raises ClientError."""
    path = data_dir / _TOKEN_FILE
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ClientError(f"{path}: {reason}; the mailbox writes this file when it starts") from None


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return headers if token is None else headers | {"Authorization": f"Bearer {token}"}


def store_messages(
    url: str,
    messages: Iterable[tuple[str, str, int, bytes]],
    *,
    token: str | None = None,
    timeout_s: float = CLIENT_TIMEOUT_S,
) -> Mapping[LogName, int | None]:
    """Stores (topic, log, seq, blob) in the mailbox at `url`, durably; returns the watermark of each log. `token` is
    what a mailbox with a password asks for. Raises ClientError."""
    body = encode_store(Family.BLIPS, ((LogName(topic, log), seq, blob) for topic, log, seq, blob in messages))
    answer = _request(url, "POST", "/blips/store", body, _headers(token), timeout_s=timeout_s)
    try:
        return decode_watermarks(answer)
    except RemoteProtocolError as error:
        raise ClientError(f"{url} is {error}") from None


def read_topic(
    url: str,
    topic: str,
    heights: Mapping[str, int] | None = None,
    *,
    token: str | None = None,
    timeout_s: float = CLIENT_TIMEOUT_S,
) -> Mapping[str, Mapping[int, bytes]]:
    """A topic's messages, log -> seq -> blob, of the logs in `heights` only what is above. Raises ClientError."""
    body = encode_get({topic: heights or {}})
    answer = _request(url, "POST", "/blips/get", body, _headers(token), timeout_s=timeout_s)
    try:
        return decode_get_answer(answer, Family.BLIPS)[topic].messages
    except (RemoteProtocolError, KeyError) as error:
        raise ClientError(f"{url} is {error}") from None


def exchange(url: str, method: str, path: str, body: bytes = b"", *, timeout_s: float, answer_bytes_max: int) -> bytes:
    """One request to another mailbox (`body` is JSON) and the body of its answer. `timeout_s` bounds each wait.
    Raises ClientError, also for an answer above `answer_bytes_max`."""
    headers = {"Content-Type": "application/json"} if body else {}
    return _request(url, method, path, body, headers, timeout_s=timeout_s, answer_bytes_max=answer_bytes_max)


def _request(
    url: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float,
    answer_bytes_max: int | None = None,
) -> bytes:
    connection = _connection(url, timeout_s)
    try:
        connection.request(method, urlsplit(url).path.rstrip("/") + path, body or None, dict(headers or {}))
        response = connection.getresponse()
        answer = response.read() if answer_bytes_max is None else response.read(answer_bytes_max + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ClientError(_unreachable(url, error)) from None
    finally:
        connection.close()
    if answer_bytes_max is not None and len(answer) > answer_bytes_max:
        raise ClientError(f"{url} answered with more than {answer_bytes_max} bytes")
    if not 200 <= response.status < 300:
        text = answer[:500].decode(errors="replace").strip() or response.reason
        raise ClientError(f"{url} refused: {text} (HTTP {response.status})", status=response.status)
    return answer


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise ClientError(f"{url!r} is not the URL of a mailbox (http://HOST:PORT)")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _unreachable(url: str, error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {url}; is the mailbox running?"
    if isinstance(error, TimeoutError):
        return f"{url} did not answer in time"
    if isinstance(error, http.client.HTTPException):
        return f"{url} broke off its answer or does not speak HTTP ({type(error).__name__})"
    return f"{url} can't be reached: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ClientError("the answer is not JSON: is this a mailbox's administration?") from None
