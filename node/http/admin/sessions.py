"""Who may use the dashboard: one-time codes for the link that opens it, and the sessions that they are exchanged for.

A session has two secrets. The cookie is out of the page's reach (HttpOnly), so that no script can carry it away; but a
browser sends it to whatever listens on any port of this machine. So each request must carry the session's key as well,
which the page keeps in storage that belongs to this port alone, and which no other site can make a browser send.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from protocols.limits.shedding import (
    DASHBOARD_CODE_S,
    DASHBOARD_CODES_MAX,
    DASHBOARD_SECRET_BYTES,
    DASHBOARD_SESSION_S,
    DASHBOARD_SESSIONS_MAX,
)

__all__ = ["KEY_HEADER", "Login", "Sessions"]

KEY_HEADER: Final = "x-mailboxd-key"


@dataclass(frozen=True, slots=True)
class Login:
    """What a browser gets for a code: the value of a Set-Cookie header, and the key."""

    set_cookie: str
    key: str


@dataclass(slots=True)
class _Session:
    key: str
    used_at: float


class Sessions:
    """Codes and sessions of one mailbox, in memory: they end with it. `name` keeps the cookies of several mailboxes on
    one machine apart. `now_at` is any steady clock in seconds."""

    def __init__(self, name: str, *, now_at: Callable[[], float] = trio.current_time) -> None:
        self._cookie_name = f"mailboxd-{name}"
        self._now_at = now_at
        self._codes: OrderedDict[str, float] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def new_code(self) -> str:
        """A code that can be exchanged once, within DASHBOARD_CODE_S."""
        code = secrets.token_urlsafe(DASHBOARD_SECRET_BYTES)
        self._codes[code] = self._now_at() + DASHBOARD_CODE_S
        while len(self._codes) > DASHBOARD_CODES_MAX:
            self._codes.popitem(last=False)
        return code

    def exchange(self, code: str) -> Login | None:
        """A new session for a code; None if there is no such code, or no more."""
        until_at = self._codes.pop(code, None)
        if until_at is None or self._now_at() > until_at:
            return None
        cookie, key = (secrets.token_urlsafe(DASHBOARD_SECRET_BYTES) for _ in range(2))
        self._sessions[cookie] = _Session(key, self._now_at())
        while len(self._sessions) > DASHBOARD_SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return Login(f"{self._cookie_name}={cookie}; Path=/admin; HttpOnly; SameSite=Strict", key)

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers belongs to a session; that keeps it alive for another while."""
        cookie = self._cookie(headers)
        session = self._sessions.get(cookie)
        if session is None:
            return False
        if self._now_at() > session.used_at + DASHBOARD_SESSION_S:
            del self._sessions[cookie]
            return False
        if not hmac.compare_digest(headers.get(KEY_HEADER, "").encode("latin-1"), session.key.encode()):
            return False
        session.used_at = self._now_at()
        self._sessions.move_to_end(cookie)
        return True

    def end(self, headers: Mapping[str, str]) -> str:
        """Ends the session of these headers; returns a Set-Cookie that forgets it."""
        self._sessions.pop(self._cookie(headers), None)
        return f"{self._cookie_name}=; Path=/admin; HttpOnly; SameSite=Strict; Max-Age=0"

    def _cookie(self, headers: Mapping[str, str]) -> str:
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self._cookie_name:
                return value
        return ""
