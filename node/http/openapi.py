"""The OpenAPI 3.1 document of the phones' API, served at `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from protocols.limits.data import SEQ_MAX
from protocols.toy_api import Family

__all__ = ["openapi_document"]

_ID: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "pattern": "^[^:\\u0000]+$",
    "description": "1 to 256 bytes of UTF-8 without ':' or NUL.",
}
_SEQ: Final = {
    "type": "integer",
    "minimum": 0,
    "maximum": SEQ_MAX,
    "description": "Written as an integer: no fraction, no exponent.",
}
_BLOB: Final = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
}
_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
# Nothing with an open mailbox, a token with one that has a password.
_SECURITY: Final[list[dict[str, list[str]]]] = [{}, {"device": []}]
_CHALLENGE: Final = {
    "Mailbox-Challenge": {
        "description": "A request with the header Mailbox-Proof that solves it is served at once (challenges.md).",
        "schema": {"type": "string", "pattern": "^bits=[0-9]{1,2}, nonce=[A-Za-z0-9_-]{36}$"},
    }
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}


def _up_to(number: int) -> str:
    """A regular expression for the decimal numbers 0..`number` (of two digits or more) without leading zeros."""
    digits = str(number)
    shorter = f"[1-9][0-9]{{0,{len(digits) - 2}}}"
    same_length = []
    for place, digit in enumerate(digits):
        lowest = "1" if place == 0 else "0"
        if digit > lowest:
            rest = len(digits) - place - 1
            same_length.append(f"{digits[:place]}[{lowest}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return f"^({'|'.join(['0', shorter, *same_length, digits])})$"


_SEQ_KEY: Final = {"type": "string", "pattern": _up_to(SEQ_MAX), "description": "0 to 2^64-1 in decimal."}


def openapi_document(*, pairs: bool = False) -> dict[str, Any]:
    """The whole document, as plain JSON values. `pairs`: with the route by which devices are paired."""
    paths: dict[str, Any] = {
        "/health": {"get": _health()},
        "/openapi.json": {"get": _document()},
    }
    if pairs:
        paths["/pair"] = {"post": _pair()}
    for family in Family:
        paths[f"/{family.value}/store"] = {"post": _store(family)}
        paths[f"/{family.value}/get"] = {"post": _get(family)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Toy Mailbox API",
            "version": "1",
            "description": "Keeps messages of append-only logs for up to a week. Unknown fields are ignored.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Id": _ID, "SeqKey": _SEQ_KEY, "Seq": _SEQ, "Blob": _BLOB},
            "securitySchemes": {
                "device": {"type": "http", "scheme": "bearer", "description": "The token of a paired device (/pair)."}
            },
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _map(keys: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": _ref(keys), "additionalProperties": values}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _health() -> dict[str, Any]:
    identity = {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$", "description": "The mailbox's public key."}
    answer = _json(_object(status={"const": "ok"}, endpoint_id=identity))
    return {
        "operationId": "health",
        "summary": "Whether the mailbox is there, and which one it is.",
        "responses": {"200": {"description": "It is.", "content": answer}, "429": _busy("Too many requests.")},
    }


def _document() -> dict[str, Any]:
    return {
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {
            "200": {"description": "The document.", "content": _json({"type": "object"})},
            "429": _busy("Too many requests."),
        },
    }


def _store(family: Family) -> dict[str, Any]:
    messages = _map("Id", _map("Id", _map("SeqKey", _ref("Blob"))))
    stored: dict[str, Any] = {"description": "Everything is stored, durably."}
    if family is Family.BLIPS:
        watermark = {"anyOf": [_ref("Seq"), {"type": "null"}]}
        stored["content"] = _json(_object(watermarks=_map("Id", _map("Id", watermark))))
    return {
        "operationId": f"{family.value}_store",
        "summary": "Stores messages: topic, author, sequence number, bytes. All of them or none.",
        "requestBody": {"required": True, "content": _json(_object(**{family.store: messages}))},
        "security": _SECURITY,
        "responses": {
            "201": stored,
            "401": _unauthorized(),
            **_refusals(),
            "429": _busy("Too many requests; in a flood, work is asked for.") | {"headers": _RETRY_AFTER | _CHALLENGE},
            "507": {"description": "The mailbox is full; nothing was stored.", "content": _TEXT},
        },
    }


def _get(family: Family) -> dict[str, Any]:
    topic = _object(
        **{
            family.store: _map("Id", _map("SeqKey", _ref("Blob"))),
            "missing": _map("Id", {"type": "array", "minItems": 1, "items": _ref("Seq")}),
        }
    )
    answer = _object(**{family.answer: _map("Id", topic)})
    return {
        "operationId": f"{family.value}_get",
        "summary": "Fetches what the client lacks: per topic and author the highest sequence number that it has.",
        "requestBody": {"required": True, "content": _json(_object(topics=_map("Id", _map("Id", _ref("Seq")))))},
        "security": _SECURITY,
        "responses": {
            "200": {"description": "Every topic that was asked for.", "content": _json(answer)},
            "401": _unauthorized(),
            **_refusals(),
        },
    }


def _pair() -> dict[str, Any]:
    def closed(**properties: Any) -> dict[str, Any]:
        return _object(**properties) | {"additionalProperties": False}

    binary = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "description": "base64url without padding."}
    requests = [
        closed(code=binary, box=binary),
        closed(share=binary),
        closed(session=binary, proof=binary, box=binary),
    ]
    granted = {
        "description": "The token, in a box that only this device can open.",
        "content": _json(_object(box=binary)),
    }
    begun = _json(_object(session=binary, share=binary, proof=binary))
    return {
        "operationId": "pair",
        "summary": "Gives a device a token of its own, for a one-time code or, in two requests, for the password.",
        "requestBody": {"required": True, "content": _json({"oneOf": requests})},
        "responses": {
            "200": {"description": "The mailbox's half of the exchange over the password.", "content": begun},
            "201": granted,
            "403": {
                "description": "Wrong password, or a code or session that is unknown or too old.",
                "content": _TEXT,
            },
            "409": {"description": "The mailbox has no password: pair with a code.", "content": _TEXT},
            **_refusals(),
            "507": {"description": "Too many devices are paired.", "content": _TEXT},
        },
    }


def _unauthorized() -> dict[str, Any]:
    challenge = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}}
    return {
        "description": "The mailbox has a password, and no valid token came.",
        "headers": challenge,
        "content": _TEXT,
    }


def _refusals() -> dict[str, Any]:
    return {
        "400": {"description": "Not HTTP, not JSON, or not an id.", "content": _TEXT},
        "408": {"description": "The request came too slowly.", "content": _TEXT},
        "413": {"description": "The body is too large, or has too many entries.", "content": _TEXT},
        "415": {"description": "The body is not declared as JSON, or is compressed.", "content": _TEXT},
        "422": {"description": "JSON of another shape.", "content": _TEXT},
        "429": _busy("Too many requests."),
        "500": {"description": "A fault of the mailbox's own.", "content": _TEXT},
        "503": _busy("The disk failed, there is no memory for it now, or strangers flood the mailbox."),
    }


def _busy(description: str) -> dict[str, Any]:
    return {"description": description, "headers": _RETRY_AFTER, "content": _TEXT}
