"""The administration's routes about who is let in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from node.admission.office import AdmissionOffice
from node.admission.policy import AdmissionError
from node.http.admin.bodies import decoded, json_response
from node.http.messages import HttpError, Request, Response, Router
from protocols.limits.admission import CODE_S, CODE_S_MAX
from protocols.limits.http import ADMIN_BODY_BYTES_MAX

__all__ = ["add_admission_routes"]


class _Password(msgspec.Struct):
    secret: str | None


class _Stance(msgspec.Struct):
    mailbox: str
    stance: str


class _Pair(msgspec.Struct):
    seconds: Annotated[int, msgspec.Meta(ge=10, le=CODE_S_MAX)] = CODE_S


class _Device(msgspec.Struct):
    device: str | None


def add_admission_routes(router: Router, office: AdmissionOffice, invite: Callable[[float], dict[str, Any]]) -> None:
    """Adds `/admin/admission` (GET: all of it), `/admin/password`, `/admin/trust`, `/admin/revoke` and `/admin/pair`
    (POST). `invite` makes a one-time code that is good for so many seconds, and says what the phone must know."""

    async def state(_request: Request) -> Response:
        return _answer(office.state)

    async def password(request: Request) -> Response:
        wanted = decoded(request, _Password)
        return _answer(lambda: office.set_password(wanted.secret))

    async def trust(request: Request) -> Response:
        wanted = decoded(request, _Stance)
        return _answer(lambda: office.decide(wanted.mailbox, wanted.stance))

    async def revoke(request: Request) -> Response:
        wanted = decoded(request, _Device)
        try:
            return json_response(await office.revoke(wanted.device))
        except AdmissionError as error:
            raise HttpError(409, str(error)) from None

    async def pair(request: Request) -> Response:
        seconds = decoded(request, _Pair).seconds if request.body else CODE_S
        return _answer(lambda: invite(float(seconds)))

    router.post("/admin/pair", pair, takes_json=False, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.get("/admin/admission", state)
    router.post("/admin/password", password, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/trust", trust, body_bytes_max=ADMIN_BODY_BYTES_MAX)
    router.post("/admin/revoke", revoke, body_bytes_max=ADMIN_BODY_BYTES_MAX)


def _answer(question: Callable[[], dict[str, Any]]) -> Response:
    try:
        return json_response(question())
    except AdmissionError as error:
        raise HttpError(409, str(error)) from None
