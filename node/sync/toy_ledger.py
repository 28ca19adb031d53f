"""What was ever taken from or given to plain mailboxes, durably.

Their API knows no age, so without this memory a message would go round for ever: it expires here, is taken again from a
plain mailbox where it came later, expires there, is given again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

__all__ = ["LedgerError", "ToyLedger", "Traded"]

_SEQ_OFFSET = 2**63  # SQLite's integers are signed; shifted, the whole u64 range fits


class LedgerError(Exception):
    """The file can't be read or written; the message is fit for a user."""


class Traded(NamedTuple):
    """A message by its log's handle (16 bytes), sequence number and digest (32 bytes)."""

    handle: bytes
    seq: int
    digest: bytes


class ToyLedger:
    """Blocking; one thread at a time. Every method raises LedgerError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Database | None = None

    def _open(self) -> Database:
        if self._database is None:
            database = Database(sqlite3.connect(self._path, check_same_thread=False))
            database["traded"].create(
                {"handle": bytes, "seq": int, "digest": bytes, "peer": str, "at_s": int},
                pk=("handle", "seq", "digest", "peer"),
                if_not_exists=True,
            )
            database["traded"].create_index(["at_s"], if_not_exists=True)
            self._database = database
        return self._database

    def peers_of(self, messages: Iterable[Traded]) -> dict[Traded, set[str]]:
        """For each of `messages` that was ever traded, the plain mailboxes (URLs) with which."""
        found: dict[Traded, set[str]] = {}
        sql = "select peer from traded where handle = ? and seq = ? and digest = ?"
        try:
            database = self._open()
            for message in messages:
                row = (message.handle, message.seq - _SEQ_OFFSET, message.digest)
                if peers := {str(peer) for (peer,) in database.execute(sql, row)}:
                    found[message] = peers
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error
        return found

    def note(self, peer: str, messages: Sequence[Traded], *, now_s: int) -> None:
        """Remembers a trade with `peer`, durably."""
        rows = [(m.handle, m.seq - _SEQ_OFFSET, m.digest, peer, now_s) for m in messages]
        try:
            with self._open().conn as connection:
                connection.executemany("insert or ignore into traded values (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error

    def forget_before(self, at_s: int) -> None:
        """Drops trades older than `at_s` (Unix seconds)."""
        try:
            with self._open().conn as connection:
                connection.execute("delete from traded where at_s < ?", (at_s,))
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Lets go of the file."""
        if self._database is not None:
            self._database.conn.close()
            self._database = None
