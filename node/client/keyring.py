"""The mailboxes that have let a client in, with its tokens, kept in a file beside what it has written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from node.datadir import DataDirError, write_file
from protocols.client.address import Mailbox
from protocols.limits.client import CLIENT_KEYRING_BYTES_MAX, CLIENT_MAILBOXES_MAX
from protocols.model import MailboxId

__all__ = ["Keyring", "KeyringError"]

_FILE: Final = "mailboxes.json"


class KeyringError(Exception):
    """The file can't be read or written; the message is one line that says which, and why."""


class Keyring:
    """One address for each mailbox, by its id. The file is for its owner only (0600)."""

    def __init__(self, data_dir: Path) -> None:
        """Reads what is there; a missing file is an empty one. Raises KeyringError."""
        self._path = data_dir / _FILE
        self._kept: dict[MailboxId, Mailbox] = {}
        try:
            text = self._path.read_bytes()[: CLIENT_KEYRING_BYTES_MAX + 1]
            for entry in json.loads(text):
                mailbox_id = MailboxId.parse(entry["id"])
                self._kept[mailbox_id] = Mailbox(entry["url"], token=entry["token"], mailbox_id=mailbox_id)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KeyringError(f"{self._path} can't be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise KeyringError(f"{self._path} is damaged; remove it, and pair anew") from None

    @property
    def mailboxes(self) -> list[Mailbox]:
        """Their addresses, the one that was paired last at the end."""
        return list(self._kept.values())

    def holds(self, mailbox_id: MailboxId) -> bool:
        """Whether that mailbox has let us in before."""
        return mailbox_id in self._kept

    def keep(self, mailbox: Mailbox) -> None:
        """Writes down an address with id and token, instead of the former one of that mailbox, and of the oldest one if
        there are too many. Raises KeyringError."""
        assert mailbox.mailbox_id is not None
        kept = {mailbox_id: one for mailbox_id, one in self._kept.items() if mailbox_id != mailbox.mailbox_id}
        kept[mailbox.mailbox_id] = mailbox
        kept = dict([*kept.items()][-CLIENT_MAILBOXES_MAX:])
        entries = [{"id": str(one), "url": kept[one].url, "token": kept[one].token} for one in kept]
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._path, json.dumps(entries, indent=1).encode())
        except (OSError, DataDirError) as error:
            raise KeyringError(f"{self._path} can't be written: {error}") from None
        self._kept = kept
