"""The dashboard's routes: the page itself, how one gets in, the live stream, and the settings.

The page's files are the same on every mailbox and hold nothing of anybody's, so they are served without a login; what
they show is asked for with one (`node.http.admin.sessions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from node.admission.office import AdmissionOffice
from node.admission.policy import AdmissionError
from node.aside import aside
from node.config import SettingError
from node.dashboard import page_files
from node.http.admin.bodies import JSON, decoded, json_response
from node.http.admin.live import Live
from node.http.admin.sessions import Sessions
from node.http.messages import Handler, HttpError, Request, Response, Router
from node.service.at_login import AtLogin
from node.settings import Settings
from protocols.admission.secret import stretch
from protocols.limits.admission import CODE_S
from protocols.limits.http import ADMIN_BODY_BYTES_MAX
from protocols.limits.shedding import SETTING_CHARS_MAX
from protocols.limits.tools import FIXED_PEERS_MAX

__all__ = ["OPEN_PATHS", "add_access", "add_at_login", "add_dashboard"]

_LOGIN: Final = "/admin/login"
OPEN_PATHS: Final = frozenset({_LOGIN, *page_files()})
"""What is served to whoever can reach the administration at all."""


class _Login(msgspec.Struct):
    code: str


class _Password(msgspec.Struct):
    password: str | None


class _Switch(msgspec.Struct):
    value: bool


def add_dashboard(
    router: Router,
    *,
    sessions: Sessions,
    live: Live,
    settings: Settings,
    on_login: Callable[[], object],
) -> None:
    """Adds the page, its login, stream and settings. `on_login` is called when somebody got in."""

    async def code(_request: Request) -> Response:
        return json_response({"code": sessions.new_code()})

    async def login(request: Request) -> Response:
        got = sessions.exchange(decoded(request, _Login).code)
        if got is None:
            raise HttpError(403, "This link was used already or is too old; `mailboxd dashboard` makes a new one.")
        on_login()
        return Response(200, msgspec.json.encode({"key": got.key}), JSON, (("set-cookie", got.set_cookie),))

    async def logout(request: Request) -> Response:
        forgotten = sessions.end(request.headers)
        live.wake()
        return Response(204, headers=(("set-cookie", forgotten),))

    async def stream(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(200, content_type="text/event-stream")
        bearer = "authorization" in request.headers  # the token never ends
        listener = live.listen(while_true=lambda: bearer or sessions.admits(request.headers))
        return Response(200, listener, "text/event-stream")

    async def show(_request: Request) -> Response:
        return json_response(settings.shown())

    async def change(request: Request) -> Response:
        try:
            await settings.change(_changes(decoded(request, dict[str, Any])))
        except SettingError as error:
            return _refused(error.key, error.text)
        return json_response(settings.shown())

    for path, (content, content_type) in page_files().items():
        router.get(path, _constant(content, content_type))
    router.post("/admin/login-code", code, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post(_LOGIN, login, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/logout", logout, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.get("/admin/live", stream)
    router.get("/admin/settings", show)
    router.post("/admin/settings", change, body_bytes_max=ADMIN_BODY_BYTES_MAX)


def add_at_login(router: Router, at_login: AtLogin) -> None:
    """Adds the switch for the start at login: it is the service manager's, not one of the mailbox's own settings."""

    async def show(_request: Request) -> Response:
        return json_response(await at_login.shown())

    async def change(request: Request) -> Response:
        try:
            await at_login.set(decoded(request, _Switch).value)
        except SettingError as error:
            return _refused(error.key, error.text)
        return json_response(await at_login.shown())

    router.get("/admin/start-at-login", show)
    router.post("/admin/start-at-login", change, body_bytes_max=ADMIN_BODY_BYTES_MAX)


def add_access(router: Router, office: AdmissionOffice, invite: Callable[[float], dict[str, Any]]) -> None:
    """Adds what the page needs about who is let in, beside the administration's own routes: a password as it is typed,
    and a pairing code as a picture. `invite` makes such a code for so many seconds."""

    async def password(request: Request) -> Response:
        wanted = decoded(request, _Password).password
        try:
            # In a thread: making a password hard to guess takes a while, on purpose.
            secret = None if wanted is None else (await aside(stretch, wanted)).hex()
            return json_response(office.set_password(secret))
        except (AdmissionError, ValueError) as error:
            return _refused("password", str(error))

    async def pair(_request: Request) -> Response:
        try:
            invitation = invite(float(CODE_S))
        except AdmissionError as error:
            return _refused("pair", str(error))
        return json_response({**invitation, "squares": _squares(invitation["uri"])})

    router.post("/admin/new-password", password, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/pair-picture", pair, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)


def _constant(content: bytes, content_type: str) -> Handler:
    async def answer(_request: Request) -> Response:
        return Response(200, content, content_type)

    return answer


def _squares(text: str) -> list[str]:
    """A QR code, a line of `1` (dark) and `0` for each row, without the quiet zone."""
    import segno  # noqa: PLC0415 - only for who pairs a phone

    return ["".join(str(square & 1) for square in row) for row in segno.make(text, error="l", micro=False).matrix]


def _refused(key: str, text: str) -> Response:
    """What the page shows beside the setting `key`."""
    return json_response({"key": key, "text": text}, status=400)


def _changes(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Only what a setting can be: a text, a list of texts, true or false, or null. Raises SettingError."""
    for key, value in given.items():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str | bool | None) for text in texts) or len(texts) > FIXED_PEERS_MAX:
            raise SettingError(key, "this should be a text, a list of texts, true, false or null")
        if any(isinstance(text, str) and len(text) > SETTING_CHARS_MAX for text in texts):
            raise SettingError(key, f"this is longer than {SETTING_CHARS_MAX} characters")
    return given
