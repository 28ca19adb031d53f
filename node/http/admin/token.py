"""The token that the administration asks for: who can read the data directory has it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from node.http.admin.port import AdminError
from protocols.limits.http import ADMIN_TOKEN_BYTES

__all__ = ["load_or_create_token"]


def load_or_create_token(path: Path) -> str:
    """The token that the administration asks for: 32 random bytes as base64url, made on the first start with mode 0600.

    Raises AdminError if the file can't be read or written, holds something else, or can be read by others.
    """
    try:
        _create_token(path)
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(200).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(500, f"{path}: can't be read or written as the administration's token ({error})") from None
    if os.name == "posix" and mode & 0o077:
        raise AdminError(
            500, f"{path}: others can read the administration's token; run `chmod 600`, or delete the file"
        )
    if (
        len(token) != len(secrets.token_urlsafe(ADMIN_TOKEN_BYTES))
        or not token.replace("-", "").replace("_", "").isalnum()
    ):
        raise AdminError(500, f"{path}: this is not the administration's token; delete the file and start again")
    return token


def _create_token(path: Path) -> None:
    """Writes a new token unless there is one. Written aside and renamed, so that nobody ever sees half of it."""
    if path.exists():
        return
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(ADMIN_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
