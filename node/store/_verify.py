"""Checks a store file from end to end, over a connection of its own: also while a mailbox is running on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from node.store._readers import blob_of
from node.store._schema import SEQ_OFFSET, connect_reader, one, translate
from node.store.api import StoreUnavailable, VerifyReport
from protocols.limits.data import VARIANTS_MAX
from protocols.limits.store import BLOB_CHUNK_BYTES, VERIFY_PAGE_BYTES, VERIFY_PROBLEMS_MAX
from protocols.model import digest_of

__all__ = ["verify_file"]

_STEPS_BETWEEN_POLLS: Final = 100_000  # of SQLite's virtual machine: a few milliseconds
_PAGE_ROWS: Final = 1000

# Each finds what must not be.
_RULES: Final = (
    (
        "a watermark is below what is held",
        "SELECT t.topic || ' ' || l.log FROM logs l JOIN topics t ON t.id = l.topic JOIN watermarks w ON w.log = l.id"
        " WHERE w.seq < 9223372036854775807 AND EXISTS (SELECT 1 FROM messages WHERE log = l.id AND seq = w.seq + 1)",
    ),
    (
        "seq 0 is held without a watermark",
        "SELECT t.topic || ' ' || l.log FROM logs l JOIN topics t ON t.id = l.topic"
        " WHERE NOT EXISTS (SELECT 1 FROM watermarks WHERE log = l.id)"
        f" AND EXISTS (SELECT 1 FROM messages WHERE log = l.id AND seq = -{SEQ_OFFSET - 1} - 1)",
    ),
    (
        "a log's emptiness is recorded wrongly",
        "SELECT t.topic || ' ' || l.log FROM logs l JOIN topics t ON t.id = l.topic"
        " WHERE (l.emptied IS NULL) != EXISTS (SELECT 1 FROM messages WHERE log = l.id)",
    ),
    ("a record of evictions belongs to no log", "SELECT log FROM evicted WHERE log NOT IN (SELECT id FROM logs)"),
    ("a log belongs to no topic", "SELECT id FROM logs WHERE topic NOT IN (SELECT id FROM topics)"),
    ("a watermark belongs to no log", "SELECT log FROM watermarks WHERE log NOT IN (SELECT id FROM logs)"),
    ("messages belong to no log", "SELECT DISTINCT log FROM messages WHERE log NOT IN (SELECT id FROM logs)"),
    (
        "a key has too many variants",
        f"SELECT log || ' ' || seq FROM messages GROUP BY log, seq HAVING count(*) > {VARIANTS_MAX}",
    ),
)


def verify_file(
    path: Path, *, progress: Callable[[int], None] | None = None, poll: Callable[[], None] = lambda: None
) -> VerifyReport:
    """Checks the store `path`: SQLite's own structure, every digest, watermarks, counts.

    `progress` gets the number of messages checked so far. `poll` is called every few milliseconds; what it raises ends
    the check (and is raised). A damaged file is reported, not raised. Raises StoreUnavailable if it can't be read at
    all. Blocks: call it in a thread.
    """
    if not path.exists():
        raise StoreUnavailable(f"there is no store {path}")
    try:
        connection = connect_reader(path)
    except sqlite3.Error as error:
        raise translate(error, path) from error
    check = _Check(connection, progress or (lambda messages: None), poll)
    try:
        return check.run()
    except sqlite3.Error as error:
        poll()  # if it was this that interrupted SQLite, it raises again
        failure = translate(error, path)
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise failure from error
        return VerifyReport(check.messages, check.bytes, [*check.problems, str(failure)])
    finally:
        connection.close()


class _Check:
    def __init__(
        self, connection: sqlite3.Connection, progress: Callable[[int], None], poll: Callable[[], None]
    ) -> None:
        self._db = connection
        self._progress = progress
        self._poll = poll
        self.messages = 0
        self.bytes = 0
        self.problems: list[str] = []

    def run(self) -> VerifyReport:
        self._db.set_progress_handler(self._interrupt, _STEPS_BETWEEN_POLLS)
        self._check_structure()
        self._check_rules()
        for _ in self._check_blobs():
            self._poll()
            self._progress(self.messages)
        messages, size = self._db.execute("SELECT count(*), total(size) FROM messages").fetchone()
        return VerifyReport(messages, int(size), self.problems)

    def _interrupt(self) -> int:
        try:
            self._poll()
        except BaseException:
            return 1
        return 0

    def _problem(self, text: str) -> None:
        if len(self.problems) < VERIFY_PROBLEMS_MAX:
            self.problems.append(text)

    def _check_structure(self) -> None:
        for (line,) in self._db.execute(f"PRAGMA integrity_check({VERIFY_PROBLEMS_MAX})"):
            if line != "ok":
                self._problem(f"the database is damaged: {line}")

    def _check_rules(self) -> None:
        for what, sql in _RULES:
            for (where,) in self._db.execute(f"{sql} LIMIT {VERIFY_PROBLEMS_MAX}"):
                self._problem(f"{what}: {where}")
        self._db.execute("BEGIN")  # the two counts must be of one moment
        pieces = f"max(1, (size + {BLOB_CHUNK_BYTES - 1}) / {BLOB_CHUNK_BYTES})"
        expected = int(one(self._db, f"SELECT total({pieces}) FROM messages"))
        expected += int(one(self._db, "SELECT total(last - first + 1) FROM garbage"))
        found = one(self._db, "SELECT count(*) FROM blobs")
        self._db.execute("COMMIT")
        if found != expected:
            self._problem(f"there are {found} pieces of blobs where there should be {expected}")

    def _check_blobs(self) -> Iterator[None]:
        """In order of arrival, which is the order on the disk; in short transactions, so that the log can be reset."""
        after: tuple[Any, Any] = (-SEQ_OFFSET, -1)
        while True:
            self._db.execute("BEGIN")
            rows = self._db.execute(
                "SELECT first_stored, blob, size, log, seq, digest FROM messages INDEXED BY messages_age"
                " WHERE (first_stored, blob) > (?, ?) ORDER BY first_stored, blob LIMIT ?",
                (*after, _PAGE_ROWS),
            ).fetchall()
            page_bytes = 0
            for first_stored_s, blob, size, log_id, seq, digest in rows:
                data = blob_of(self._db, blob, size)
                if len(data) != size or digest_of(data) != digest:
                    self._problem(f"message {seq + SEQ_OFFSET} of {self._name(log_id)} is damaged")
                self.messages += 1
                self.bytes += size
                after = (first_stored_s, blob)
                page_bytes += size
                if page_bytes >= VERIFY_PAGE_BYTES:
                    break
            self._db.execute("COMMIT")
            if not rows:
                return
            yield

    def _name(self, log_id: int) -> str:
        row = self._db.execute(
            "SELECT t.topic, l.log FROM logs l JOIN topics t ON t.id = l.topic WHERE l.id = ?", (log_id,)
        ).fetchone()
        return f"log {log_id}" if row is None else f"log {row[1]} in topic {row[0]}"
