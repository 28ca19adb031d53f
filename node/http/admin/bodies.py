"""JSON in the administration's requests and answers."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from node.http.messages import HttpError, Request, Response

__all__ = ["JSON", "decoded", "json_response"]

JSON: Final = "application/json"
_T = TypeVar("_T")


def decoded(request: Request, kind: type[_T]) -> _T:
    """The body as `kind`, a msgspec type. Raises HttpError 400 if it is something else."""
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"The body is not what this route takes: {error}") from None


def json_response(value: object, *, status: int = 200) -> Response:
    """An answer with plain JSON values."""
    return Response(status, msgspec.json.encode(value), JSON)
