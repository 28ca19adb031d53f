"""What stands for a password: a secret that costs an attacker a tenth of a second for every guess, and its uses.

The password itself is never stored and never sent; nor is the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from typing import Final

from protocols.limits.admission import (
    PASSWORD_BYTES_MAX,
    PASSWORD_CHARS_MIN,
    PASSWORD_STRETCH_BYTES,
    PASSWORD_STRETCH_PASSES,
    SECRET_BYTES,
)

__all__ = ["check_password", "derive", "for_mailboxes", "for_phones", "stretch"]

_SALT: Final = b"mailboxd secret1"
"""16 bytes, the same everywhere: two mailboxes know nothing of each other but that they were given the same words."""


def check_password(password: str) -> str:
    """The password as it counts: in NFC, so that two keyboards agree. Raises ValueError, which says why."""
    text = unicodedata.normalize("NFC", password)
    if not text.isprintable():
        raise ValueError("the password has control characters in it; use what can be typed")
    if len(text) < PASSWORD_CHARS_MIN:
        raise ValueError(
            f"the password has {len(text)} characters and needs {PASSWORD_CHARS_MIN}: strangers may try some hundred "
            "passwords a day, so it must not be one of the first that they think of"
        )
    if text != text.strip():
        raise ValueError("the password begins or ends with a space, which nobody sees; leave it out")
    if len(set(text)) < 3:
        raise ValueError("the password is one or two characters repeated; choose some words instead")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("the password is not valid Unicode") from None
    if size > PASSWORD_BYTES_MAX:
        raise ValueError(f"the password is longer than {PASSWORD_BYTES_MAX} bytes")
    return text


def stretch(password: str) -> bytes:
    """The secret (32 bytes) of a password: Argon2id, about 0.1 s and 64 MiB. Raises ValueError as `check_password`."""
    import nacl.pwhash  # noqa: PLC0415 - only who sets a password needs it

    secret: bytes = nacl.pwhash.argon2id.kdf(
        SECRET_BYTES,
        check_password(password).encode(),
        _SALT,
        opslimit=PASSWORD_STRETCH_PASSES,
        memlimit=PASSWORD_STRETCH_BYTES,
    )
    return secret


def derive(key: bytes, label: str, *parts: bytes) -> bytes:
    """HMAC-SHA256 under `key` over the label and the parts, each with its length (4 bytes, big-endian) in front."""
    pieces = [label.encode(), *parts]
    return hmac.digest(key, b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces), hashlib.sha256)


def for_mailboxes(secret: bytes) -> bytes:
    """What mailboxes prove to each other that they have."""
    return derive(secret, "mailboxd mailboxes")


def for_phones(secret: bytes) -> bytes:
    """What a phone proves that it has. Another one, so that nothing said to the one is of use with the other."""
    return derive(secret, "mailboxd phones")
