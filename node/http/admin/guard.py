"""Who may ask the administration.

Three guards, in this order. The Host header must name this machine by a loopback name or address, and an Origin must be
the same: so a web page elsewhere can't reach us by pointing its own name at 127.0.0.1 (DNS rebinding). And every
request must carry the token from the data directory, which only the user can read, or be one of a session of the
dashboard, which began with the token.
"""

from __future__ import annotations

import hmac
from collections.abc import Set
from typing import Final

from node.http.admin.sessions import Sessions
from node.http.head import Head
from node.http.messages import Guard, HttpError

__all__ = ["guard_of"]

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def guard_of(token: str, sessions: Sessions | None, open_paths: Set[str]) -> Guard:
    """Lets in who has `token` or a session of `sessions`; `open_paths` need nothing at all but to come from this
    machine's own pages. Raises HttpError 401 or 403 for everybody else."""
    expected = f"Bearer {token}".encode()

    def is_of_a_session(head: Head) -> bool:
        if sessions is None or not sessions.admits(head.headers):
            return False
        # A browser says where a request that changes something comes from; what doesn't is no page of ours.
        return head.method in ("GET", "HEAD") or "origin" in head.headers

    def guard(head: Head, _client: str) -> None:
        host = head.headers.get("host", "").lower()
        if _without_port(host) not in _LOOPBACK_HOSTS:
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
