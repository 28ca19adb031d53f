"""What a mailbox's refusal means for its client: try again, later, in smaller parts, with a password, or elsewhere."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from protocols.limits.client import CLIENT_FULL_PAUSE_S, CLIENT_RETRY_AFTER_MAX_S, CLIENT_UNAUTHORISED_PAUSE_S
from protocols.limits.sync import PEER_TEXT_BYTES_MAX

__all__ = ["Cause", "Refused", "judge", "parse_retry_after_s"]


class Cause(Enum):
    """Why something was not done."""

    UNREACHABLE = "unreachable"
    """No answer, or none that is HTTP."""
    BUSY = "busy"
    """It has too much to do now: the same again after a while."""
    FULL = "full"
    """It stores nothing more for now; it can still be read."""
    TOO_LARGE = "too large"
    """Less in one request may pass."""
    BAD = "bad request"
    """Something in the request is wrong in its eyes; other requests may pass."""
    UNAUTHORISED = "unauthorised"
    """It wants a password, or another one."""
    NO_SUCH_ROUTE = "no such route"
    """It is of another generation, or no mailbox."""
    FAULTY = "faulty"
    """It failed, or answered what no mailbox answers."""


class Refused(Exception):
    """A mailbox did not do what it was asked for. The message is one line for people, `retry_after_s` what to wait at
    the least (0: as usual)."""

    def __init__(self, cause: Cause, text: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.cause = cause
        self.retry_after_s = retry_after_s


_CAUSES = {
    400: Cause.BAD,
    401: Cause.UNAUTHORISED,
    403: Cause.UNAUTHORISED,
    404: Cause.NO_SUCH_ROUTE,
    405: Cause.NO_SUCH_ROUTE,
    408: Cause.BUSY,
    413: Cause.TOO_LARGE,
    422: Cause.BAD,
    425: Cause.BUSY,
    429: Cause.BUSY,
    503: Cause.BUSY,
    507: Cause.FULL,
}

_PAUSES_S = {Cause.FULL: CLIENT_FULL_PAUSE_S, Cause.UNAUTHORISED: CLIENT_UNAUTHORISED_PAUSE_S}


def judge(status: int, retry_after: str | None, text: bytes, *, now: datetime) -> Refused | None:
    """What the answer with `status` means; None if all is well. `retry_after` is that header's value, `text` the body,
    `now` the time with its zone. Redirections are not followed: a password must not go where it was not meant for."""
    if 200 <= status < 300:
        return None
    cause = _CAUSES.get(status, Cause.FAULTY)
    retry_after_s = parse_retry_after_s(retry_after, now=now)
    if retry_after_s is None:
        retry_after_s = _PAUSES_S.get(cause, 0.0)
    reason = " ".join(text[:PEER_TEXT_BYTES_MAX].decode(errors="replace").split())
    said = "".join(character for character in reason if character.isprintable())
    return Refused(cause, f"HTTP {status}: {said}" if said else f"HTTP {status}", retry_after_s=retry_after_s)


def parse_retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110, 10.2.3: seconds or a date), never more than our own bound;
    None if there is none or it makes no sense."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), CLIENT_RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(value)
        return min(max((at - now).total_seconds(), 0.0), CLIENT_RETRY_AFTER_MAX_S)
    except (TypeError, ValueError, OverflowError):
        return None
