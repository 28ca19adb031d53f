"""What the policy rests on, in the data directory: `password.key`, `trust.json` and `devices.json`, each 0600.

A file that can't be understood, or that others may read, ends the start: a mailbox must not turn out open because its
password was damaged.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from node.admission.policy import Admission, AdmissionError, Device, Password
from node.datadir import DEVICES_FILE, PASSWORD_FILE, TRUST_FILE, DataDirError, write_file
from protocols.admission.secret import stretch
from protocols.limits.admission import ADMISSION_FILE_BYTES_MAX, GENERATION_BYTES, PASSWORD_BYTES_MAX, SECRET_BYTES
from protocols.model import MailboxId

__all__ = ["AdmissionFiles", "load_admission", "new_password", "read_password_file"]

_HEADER: Final = "mailboxd password 1 - secret, who has this can pose as a mailbox with the same password"
_LISTS: Final = ("trusted", "distrusted", "proven")


def load_admission(directory: Path, *, password_file: Path | None = None, only_trusted: bool = False) -> Admission:
    """The policy that is kept in a data directory. With `password_file` the password is the one in there.

    Raises AdmissionError.
    """
    files = AdmissionFiles(directory)
    trusted, distrusted, proven = files.trust()
    password = files.password() if password_file is None else read_password_file(password_file)
    return Admission(
        password=password,
        fixed_password=None if password_file is None else str(password_file),
        trusted=trusted,
        distrusted=distrusted,
        proven=proven,
        devices=files.devices(),
        only_trusted=only_trusted,
        keeper=files,
    )


def new_password(secret: bytes) -> Password:
    """The password of a stretched secret, with a fresh name."""
    return Password(secret, os.urandom(GENERATION_BYTES))


def read_password_file(path: Path) -> Password:
    """The password in the first line of a file of the user's. Raises AdmissionError."""
    try:
        with path.open("rb") as file:
            first = file.read(2 * PASSWORD_BYTES_MAX).split(b"\n")[0].removesuffix(b"\r")
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise AdmissionError(f"{path}: the password can't be read: {error.strerror}") from None
    _check_mode(path, mode)
    try:
        return new_password(stretch(first.decode()))
    except ValueError as error:
        reason = "the password is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise AdmissionError(f"{path}: {reason}") from None


class AdmissionFiles:
    """The three files in one directory; implements `AdmissionKeeper`."""

    def __init__(self, directory: Path) -> None:
        self._password = directory / PASSWORD_FILE
        self._trust = directory / TRUST_FILE
        self._devices = directory / DEVICES_FILE

    # --- reading ---------------------------------------------------------------------------------------------------

    def password(self) -> Password | None:
        """The one that is set, None if there is none. Raises AdmissionError."""
        text = _read(self._password)
        if text is None:
            return None
        fields = dict(line.split(" ", 1) for line in text.split("\n")[1:] if " " in line)
        with suppress(KeyError, ValueError):
            secret, generation = (bytes.fromhex(fields[key]) for key in ("secret", "generation"))
            if len(secret) == SECRET_BYTES and len(generation) == GENERATION_BYTES and text.startswith(_HEADER + "\n"):
                return Password(secret, generation)
        raise AdmissionError(
            f"{self._password} is damaged; delete it and set the password again with `mailboxd password set`"
        )

    def trust(self) -> tuple[list[MailboxId], list[MailboxId], list[MailboxId]]:
        """Whom the user trusts and distrusts, and who has proven the password. Raises AdmissionError."""
        text = _read(self._trust)
        if text is None:
            return [], [], []
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            lists = json.loads(text)
            trusted, distrusted, proven = ([MailboxId.parse(one) for one in lists.get(key, ())] for key in _LISTS)
            return trusted, distrusted, proven
        raise AdmissionError(f"{self._trust} is damaged; mend or delete it (it lists whom to trust)")

    def devices(self) -> list[Device]:
        """The paired phones. Raises AdmissionError."""
        text = _read(self._devices)
        if text is None:
            return []
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            return [_device(fields) for fields in json.loads(text)["devices"]]
        raise AdmissionError(f"{self._devices} is damaged; mend or delete it (then every phone has to be paired anew)")

    # --- writing ---------------------------------------------------------------------------------------------------

    def keep_password(self, password: Password | None) -> None:
        """See `AdmissionKeeper`."""
        if password is not None:
            lines = [_HEADER, f"secret {password.secret.hex()}", f"generation {password.generation.hex()}", ""]
            return _write(self._password, "\n".join(lines))
        try:
            self._password.unlink(missing_ok=True)
            _write(self._trust, _read(self._trust) or "{}\n")  # so that the directory is synced
        except OSError as error:
            raise AdmissionError(f"{self._password} can't be removed: {error.strerror}") from None

    def keep_trust(
        self, trusted: Iterable[MailboxId], distrusted: Iterable[MailboxId], proven: Iterable[MailboxId]
    ) -> None:
        """See `AdmissionKeeper`."""
        lists = zip(_LISTS, (trusted, distrusted, proven), strict=True)
        _write(self._trust, json.dumps({key: [str(one) for one in sorted(ids)] for key, ids in lists}, indent=1) + "\n")

    def keep_devices(self, devices: Iterable[Device]) -> None:
        """See `AdmissionKeeper`."""
        known = [
            {
                "device": device.device_id,
                "name": device.name,
                "token_hash": device.token_hash.hex(),
                "paired_s": device.paired_s,
            }
            for device in devices
        ]
        _write(self._devices, json.dumps({"devices": known}, indent=1) + "\n")


def _device(fields: Any) -> Device:
    hashed = bytes.fromhex(fields["token_hash"])
    device = Device(str(fields["device"]), str(fields["name"]), hashed, float(fields["paired_s"]))
    if len(hashed) != SECRET_BYTES:
        raise ValueError("a hash of another length")
    return device


def _read(path: Path) -> str | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            raw = file.read(ADMISSION_FILE_BYTES_MAX + 1) or b""
        if len(raw) > ADMISSION_FILE_BYTES_MAX:
            raise AdmissionError(f"{path} is larger than anything that mailboxd writes; mend or delete it")
        return raw.decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdmissionError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdmissionError(f"{path} is damaged: it is not text; mend or delete it") from None


def _check_mode(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & 0o077:
        raise AdmissionError(
            f"{path} is open to other users (mode {stat.S_IMODE(mode):04o}); close it with: chmod 600 {path}"
        )


def _write(path: Path, text: str) -> None:
    try:
        write_file(path, text.encode())
    except DataDirError as error:
        raise AdmissionError(str(error)) from None
