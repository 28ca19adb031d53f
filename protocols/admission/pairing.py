"""Pairing a phone: how the token gets to it unseen. `pairing.md` is the spec; bytes in, bytes out.

Two ways to a key that nobody else has: a one-time code of 16 random bytes that the phone has read from the mailbox's
screen, or SPAKE2 over the password. Under that key the phone sends its name, and the mailbox the token.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocols.admission.pake import Pake
from protocols.admission.secret import derive
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import (
    CODE_NAME_BYTES,
    DEVICE_NAME_CHARS_MAX,
    PAIRING_BOX_BYTES_MAX,
    PAIRING_SESSION_BYTES,
)

__all__ = [
    "PairingKeys",
    "Phone",
    "WrongPassword",
    "check_device_name",
    "code_keys",
    "code_name",
    "opened_grant",
    "opened_name",
    "password_keys",
    "password_pake",
    "sealed_grant",
    "sealed_name",
]

_PHONE: Final = b"phone"


@dataclass(frozen=True, slots=True)
class PairingKeys:
    """What both sides have in the end. `mailbox_proof` and `phone_proof` are empty with a code, which is used once."""

    phone_box: bytes
    mailbox_box: bytes
    mailbox_proof: bytes = b""
    phone_proof: bytes = b""


def code_name(code: bytes) -> bytes:
    """By what the mailbox finds a one-time code; it tells nothing of it."""
    return derive(code, "mailboxd code name")[:CODE_NAME_BYTES]


def code_keys(code: bytes, mailbox: bytes) -> PairingKeys:
    """The keys of a one-time code. `mailbox` is the mailbox's public key."""
    return PairingKeys(
        phone_box=derive(code, "mailboxd code phone box", mailbox),
        mailbox_box=derive(code, "mailboxd code mailbox box", mailbox),
    )


def password_pake(secret: bytes, mailbox: bytes, *, is_phone: bool, entropy: Callable[[int], bytes]) -> Pake:
    """One side of SPAKE2 over the password; `secret` is `for_phones` of it. The phone is the first."""
    return Pake(secret, first=is_phone, id_first=_PHONE, id_second=mailbox, entropy=entropy)


def password_keys(key: bytes, mailbox: bytes, phone_share: bytes, mailbox_share: bytes, session: bytes) -> PairingKeys:
    """The keys that follow from SPAKE2's `key`."""
    transcript = derive(b"", "mailboxd pairing", mailbox, phone_share, mailbox_share, session)
    return PairingKeys(
        phone_box=derive(key, "mailboxd phone box", transcript),
        mailbox_box=derive(key, "mailboxd mailbox box", transcript),
        mailbox_proof=derive(key, "mailboxd mailbox proof", transcript),
        phone_proof=derive(key, "mailboxd phone proof", transcript),
    )


def check_device_name(name: object) -> str:
    """The name that a phone gives itself: 1 to DEVICE_NAME_CHARS_MAX printable characters. Raises ValueError."""
    if not isinstance(name, str) or not name.strip() or len(name) > DEVICE_NAME_CHARS_MAX or not name.isprintable():
        raise ValueError(f"a device's name has 1 to {DEVICE_NAME_CHARS_MAX} printable characters")
    return name.strip()


def sealed_name(keys: PairingKeys, name: str, entropy: Callable[[int], bytes]) -> bytes:
    """What the phone sends."""
    return _sealed(keys.phone_box, {"name": name}, entropy)


def opened_name(keys: PairingKeys, box: bytes) -> str:
    """The phone's name. Raises RemoteProtocolError: another key ("key"), or no name."""
    try:
        return check_device_name(_opened(keys.phone_box, box).get("name"))
    except ValueError as error:
        raise RemoteProtocolError("malformed", str(error)) from None


def sealed_grant(keys: PairingKeys, token: str, device: str, entropy: Callable[[int], bytes]) -> bytes:
    """What the mailbox answers: the token, and what it calls the device."""
    return _sealed(keys.mailbox_box, {"token": token, "device": device}, entropy)


def opened_grant(keys: PairingKeys, box: bytes) -> tuple[str, str]:
    """(token, device). Raises RemoteProtocolError."""
    fields = _opened(keys.mailbox_box, box)
    token, device = fields.get("token"), fields.get("device")
    if not isinstance(token, str) or not isinstance(device, str):
        raise RemoteProtocolError("malformed", "no token in the mailbox's answer")
    return token, device


def _sealed(key: bytes, fields: dict[str, Any], entropy: Callable[[int], bytes]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False).encode()
    return bytes(SecretBox(key).encrypt(text, entropy(SecretBox.NONCE_SIZE)))


def _opened(key: bytes, box: bytes) -> dict[str, Any]:
    if len(box) > PAIRING_BOX_BYTES_MAX:
        raise RemoteProtocolError("malformed", "a box that is too large")
    try:
        fields = json.loads(SecretBox(key).decrypt(box))
    except (CryptoError, ValueError, TypeError):  # ValueError: also what is too short, and what is no JSON
        raise RemoteProtocolError("key", "a box that was closed with another key") from None
    except RecursionError:
        raise RemoteProtocolError("malformed", "nested too deeply") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("malformed", "not an object in the box")
    return fields


class WrongPassword(Exception):
    """The mailbox has another password, or is not the one that it says it is."""


class Phone:
    """The phone's side of pairing by password: `share` to send, then `finish`."""

    def __init__(self, secret: bytes, mailbox: bytes, entropy: Callable[[int], bytes]) -> None:
        self._mailbox = mailbox
        self._entropy = entropy
        self._pake = password_pake(secret, mailbox, is_phone=True, entropy=entropy)
        self.share = self._pake.share()

    def finish(self, session: bytes, share: bytes, proof: bytes) -> PairingKeys:
        """The keys, if the mailbox has proven that it knows the password; nothing is sent to it otherwise.

        Raises WrongPassword, or RemoteProtocolError.
        """
        if len(session) != PAIRING_SESSION_BYTES:
            raise RemoteProtocolError("malformed", "a session of another length")
        keys = password_keys(self._pake.key(share), self._mailbox, self.share, share, session)
        if not hmac.compare_digest(keys.mailbox_proof, proof):
            raise WrongPassword("the mailbox has another password, or is not the one that it says it is")
        return keys
