"""Who a request comes from, and whether it may store and get: asks the admission policy about every one of them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

from node.admission.policy import Admission, Device
from node.http.messages import STRANGER, HttpError, Principal
from protocols.limits.admission import DEVICE_TOKEN_CHARS_MAX

__all__ = ["Door"]


class Door:
    """The phones' server's. `own_token` is the administration's: the command line may come in with it, but from this
    machine only, so that it is of no use to whoever has overheard or found it elsewhere. `now_s` gives Unix seconds."""

    def __init__(self, admission: Admission, *, own_token: str, now_s: Callable[[], float]) -> None:
        self._admission = admission
        self._own_token = own_token.encode()
        self._now_s = now_s
        self._seen_s: dict[str, float] = {}

    def identify(self, headers: Mapping[str, str], *, is_here: bool = False) -> Principal:
        """Who sends these headers (names in lower case). `is_here`: from this machine."""
        value = headers.get("authorization")
        if value is None:
            return STRANGER
        scheme, _, token = value.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or len(token) > DEVICE_TOKEN_CHARS_MAX:
            return Principal(None, has_token=True)
        device = self._admission.device_of(token)
        if device is not None:
            self._seen_s[device.device_id] = self._now_s()
            return Principal(device.device_id, has_token=True)
        if is_here and hmac.compare_digest(token.encode(errors="replace"), self._own_token):
            return Principal("this machine", has_token=True)
        return Principal(None, has_token=True)

    def check(self, principal: Principal) -> None:
        """Raises HttpError (401) unless they may store and get."""
        if not self._admission.of_phone(is_paired=principal.is_paired):
            raise _refusal(has_token=principal.has_token)

    def last_seen(self, device: Device) -> float | None:
        """When a device was last heard of, None if it was not since the start."""
        return self._seen_s.get(device.device_id)


def _refusal(*, has_token: bool) -> HttpError:
    if has_token:
        text = "This token is unknown or was revoked; pair this device again."
        challenge = 'Bearer realm="mailboxd", error="invalid_token"'
    else:
        text = "This mailbox has a password: pair this device, and send its token as `Authorization: Bearer`."
        challenge = 'Bearer realm="mailboxd"'
    return HttpError(401, text, headers=(("www-authenticate", challenge),))
