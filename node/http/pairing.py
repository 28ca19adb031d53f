"""`POST /pair`: the two ways in which a phone gets its token. The spec is `protocols/admission/pairing.md`."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Final

import msgspec

from node.admission.pairing import Pairing, PairingRefused
from node.http.messages import HttpError, Request, Response, Router
from node.http.standing import client_key
from protocols.limits.admission import PAIRING_BODY_BYTES_MAX

__all__ = ["add_pairing_route"]

_JSON: Final = "application/json"


class _Pair(msgspec.Struct):
    """All three requests; which one it is, is said by the fields that are there."""

    code: str | None = None
    share: str | None = None
    session: str | None = None
    proof: str | None = None
    box: str | None = None


def add_pairing_route(router: Router, pairing: Pairing) -> None:
    """Adds `POST /pair`, which needs no token."""

    async def pair(request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(request.body, type=_Pair)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            status = 422 if isinstance(error, msgspec.ValidationError) else 400
            raise HttpError(status, f"The body is not what is expected: {error}") from None
        try:
            return await _pair(pairing, wanted, client_key(request.client))
        except PairingRefused as refused:
            if refused.pause_s:
                raise HttpError.busy(refused.status, str(refused), retry_after_s=math.ceil(refused.pause_s)) from None
            raise HttpError(refused.status, str(refused)) from None

    router.post("/pair", pair, body_bytes_max=PAIRING_BODY_BYTES_MAX)


async def _pair(pairing: Pairing, wanted: _Pair, client: str) -> Response:
    match wanted:
        case _Pair(code=str(code), share=None, session=None, proof=None, box=str(box)):
            return _granted(await pairing.by_code(_bytes("code", code), _bytes("box", box)))
        case _Pair(code=None, share=str(share), session=None, proof=None, box=None):
            session, own_share, proof = await pairing.begin(_bytes("share", share), client)
            answer = {"session": _text(session), "share": _text(own_share), "proof": _text(proof)}
            return Response(200, msgspec.json.encode(answer), _JSON)
        case _Pair(code=None, share=None, session=str(session), proof=str(proof), box=str(box)):
            grant = await pairing.finish(_bytes("session", session), _bytes("proof", proof), _bytes("box", box))
            return _granted(grant)
    raise HttpError(422, "The body has code and box, or share, or session, proof and box.")


def _granted(box: bytes) -> Response:
    return Response(201, msgspec.json.encode({"box": _text(box)}), _JSON, (("cache-control", "no-store"),))


def _bytes(what: str, text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise HttpError(422, f"`{what}` is not base64url.") from None
    return data


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
