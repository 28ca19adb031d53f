"""Who this mailbox is: one Ed25519 key, made at the first start and kept in `identity.key`.

The file is three lines of text: what it is, the 32-byte secret seed and the public key that belongs to it, both in
hex. The public key is there so that damage is noticed: a changed seed would otherwise be a valid key of a stranger.
Neighbours know a mailbox by this key, so nothing but a missing file ever leads to a new one. Permissions are judged as
ssh judges a private key: a file that others may read or write is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node.datadir import write_new_file
from protocols.model import MailboxId

__all__ = ["Identity", "IdentityError", "IdentityMissing"]

log = logging.getLogger(__name__)

_HEADER: Final = "mailboxd identity 1 - secret, keep a copy in a safe place"
_HEADER_START: Final = "mailboxd identity "
_SEED_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 4096


class IdentityError(Exception):
    """The key file can't be used; the message is one line that says what to do."""


class IdentityMissing(IdentityError):
    """There is no key file."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A mailbox's key. `seed` is the secret (32 bytes) and is never shown."""

    mailbox_id: MailboxId
    seed: bytes = field(repr=False)

    @property
    def peer_id(self) -> str:
        """The libp2p PeerId of the same key (`12D3Koo…`)."""
        return self.mailbox_id.peer_id

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte secret seed. Raises ValueError."""
        if len(seed) != _SEED_BYTES:
            raise ValueError(f"a seed has {_SEED_BYTES} bytes, not {len(seed)}")
        import nacl.signing  # noqa: PLC0415 - 20 ms that most commands don't need

        return cls(MailboxId(bytes(nacl.signing.SigningKey(seed).verify_key)), seed)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity, from the system's randomness."""
        return cls.from_seed(os.urandom(_SEED_BYTES))

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Reads the key file. Raises IdentityMissing; IdentityError if it is damaged, unreadable or open to others."""
        try:
            text = _read(path).decode("ascii")
        except UnicodeDecodeError:
            raise _damaged(path, "it is not text") from None
        lines = text.split("\n")
        if not text.startswith(_HEADER_START):
            raise _damaged(path, "the file is empty" if not text.strip() else "it does not start as a key file does")
        if lines[0] != _HEADER:
            raise IdentityError(f"{path} was written by another version of mailboxd; run that version, or a newer one")
        if len(lines) != 4 or lines[3]:
            raise _damaged(path, "it is cut off" if len(lines) < 4 else "there is more in it than belongs there")
        seed, public_key = _field(path, lines[1], "seed"), _field(path, lines[2], "public")
        identity = cls.from_seed(seed)
        if identity.mailbox_id.public_key != public_key:
            raise _damaged(path, "its two halves do not belong together")
        return identity

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """Reads the key file, or makes one if there is none (0600, durable on return, never over an existing one).

        Raises IdentityError as `load` does, and DataDirError if the file can't be written.
        """
        with contextlib.suppress(IdentityMissing):
            return cls.load(path)
        identity = cls.generate()
        content = f"{_HEADER}\nseed {identity.seed.hex()}\npublic {identity.mailbox_id.public_key.hex()}\n"
        try:
            write_new_file(path, content.encode())
        except FileExistsError:  # someone was faster, or a dangling link is in the way: then loading says what is wrong
            return cls.load(path)
        log.info("made a new identity, %s, kept in %s", identity.mailbox_id, path)
        return identity


def _read(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a pipe in the key's place must not hang the start.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        if path.is_symlink():
            raise IdentityError(f"{path} is a symbolic link to nowhere; restore the file it pointed to") from None
        raise IdentityMissing(f"there is no identity at {path} yet; the first `mailboxd run` makes one") from None
    except PermissionError:
        raise IdentityError(
            f"{path} can't be read: permission denied; run mailboxd as its owner, or make it yours with chown"
        ) from None
    except OSError as error:
        raise IdentityError(f"{path} can't be read: {error.strerror}; {_RESTORE}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "no plain file"
            raise IdentityError(f"{path} is {what}; {_RESTORE}")
        if status.st_mode & 0o077:
            raise IdentityError(
                f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}), and who reads it can pose "
                f"as this mailbox; close it with: chmod 600 {path}"
            )
        if status.st_size > _FILE_BYTES_MAX:
            raise _damaged(path, f"it has {status.st_size} bytes")
        return os.read(fd, _FILE_BYTES_MAX)
    except OSError as error:
        raise IdentityError(f"{path} can't be read: {error.strerror}; {_RESTORE}") from None
    finally:
        os.close(fd)


_RESTORE: Final = (
    "restore it from a copy, or move it away to go on as a new mailbox (stored messages stay, "
    "but neighbours will not know it as the same one)"
)


def _field(path: Path, line: str, name: str) -> bytes:
    prefix, _, digits = line.partition(" ")
    if prefix != name or len(digits) != 2 * _SEED_BYTES or digits.strip("0123456789abcdef"):
        raise _damaged(path, f"the line `{name}` is not 64 hex digits")
    return bytes.fromhex(digits)


def _damaged(path: Path, why: str) -> IdentityError:
    return IdentityError(f"{path} is damaged ({why}); {_RESTORE}")
