"""What a client must not forget, in one SQLite file: its messages, how far each log was read, what was sent where.

Own messages are safe against a power cut before they count as written (else their numbers might be used twice); the
rest is safe against a crash of the program, because a mailbox has it, too. Only one program at a time may use a file.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from protocols.client.book import Key, Ledger, Message, Record
from protocols.client.runs import Runs
from protocols.limits.client import CLIENT_MAILBOXES_REMEMBERED_MAX
from protocols.model import LogName, check_id

__all__ = ["ClientStore", "ClientStoreError", "State", "state_of"]

FILE: Final = "client.sqlite3"
_VERSION: Final = 1
_SEQ_OFFSET: Final = 2**63  # SQLite's integers are signed; shifted, the whole u64 range fits

State = str
"""A record as it is written down."""


class ClientStoreError(Exception):
    """The file can't be used; the message is one line for the user."""


def state_of(record: Record) -> State:
    """The record as it is now."""
    return json.dumps([record.next_seq, *(list(runs) for runs in (record.runs, record.late, record.written))])


def _record_of(state: State) -> Record:
    next_seq, runs, late, written = json.loads(state)
    return Record(Runs(runs), next_seq, Runs(late), Runs(written))


class ClientStore:
    """Blocking; one thread at a time. Every method raises ClientStoreError. What is written stands once the
    transaction around it is over."""

    def __init__(self, data_dir: Path, *, own_log: str | None = None) -> None:
        """Opens or makes the file in `data_dir`. The log in which we write has a random id of 64 hexadecimal digits
        unless `own_log` names it when the file is made."""
        self.path = data_dir / FILE
        self._logs: dict[LogName, int] = {}
        self._mailboxes: dict[str, int] = {}
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=1.0)
            self._database = Database(connection)
            self._run = connection.execute
            try:
                self._prepare()
                self.own_log = self._own_log(own_log)
            except BaseException:
                connection.close()
                raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ClientStoreError(f"{self.path} is in use by another program; end that one first") from None
            raise ClientStoreError(f"{self.path}: {error}") from None
        except OSError as error:
            raise ClientStoreError(f"{self.path}: {error.strerror or error}") from None
        except sqlite3.Error as error:
            raise ClientStoreError(f"{self.path}: {error}") from None

    def _prepare(self) -> None:
        self._run("pragma locking_mode = exclusive")
        self._run("pragma journal_mode = wal")
        self._run("pragma synchronous = full")
        version = self._run("pragma user_version").fetchone()[0]
        if version > _VERSION:
            raise ClientStoreError(f"{self.path} was written by a newer version; use that one")
        self._run("begin immediate")
        tables = {
            "notes": ({"name": str, "value": str}, "name"),
            "logs": ({"id": int, "topic": str, "log": str, "state": str}, "id"),
            "mailboxes": ({"id": int, "key": str, "seen_s": int}, "id"),
            "messages": ({"id": int, "log": int, "seq": int, "at_s": int, "blob": bytes}, "id"),
            "sent": ({"mailbox": int, "log": int, "seq": int}, ("mailbox", "log")),
            "gone": ({"mailbox": int, "log": int, "runs": str}, ("mailbox", "log")),
        }
        for table, (columns, key) in tables.items():
            if not self._database[table].exists():
                self._run(self._database.create_table_sql(table, columns, pk=key))
        for table, names, kind in (
            ("logs", "topic, log", "unique"),
            ("mailboxes", "key", "unique"),
            ("messages", "log, seq", "unique"),
            ("messages", "at_s", ""),
        ):
            self._run(f"create {kind} index if not exists {table}_{names.replace(', ', '_')} on {table} ({names})")
        self._run(f"pragma user_version = {_VERSION}")
        self._run("commit")

    def _own_log(self, wanted: str | None) -> str:
        row = self._run("select value from notes where name = 'own_log'").fetchone()
        if row is None:
            own_log = check_id("log", wanted or secrets.token_hex(32))
            self._run("insert into notes values ('own_log', ?)", (own_log,))
            return own_log
        if wanted not in (None, row[0]):
            raise ClientStoreError(f"{self.path} belongs to another log")
        return str(row[0])

    def close(self) -> None:
        """Lets go of the file."""
        self._database.conn.close()

    def together(self, works: Sequence[Callable[[], Any]], *, durable: bool) -> list[Any]:
        """Does all of `works` in one transaction and returns their results. Not `durable`, it may be undone by a power
        cut, but not by a crash."""
        try:
            self._run(f"pragma synchronous = {'full' if durable else 'normal'}")
            self._run("begin immediate")
            try:
                results = [work() for work in works]
            except BaseException:
                self._run("rollback")
                raise
            self._run("commit")
        except sqlite3.Error as error:
            raise ClientStoreError(f"{self.path}: {error}") from error
        return results

    # --- reading -----------------------------------------------------------------------------------------------------

    def records(self, topics: Iterable[str]) -> list[tuple[LogName, Record]]:
        """What is known of the logs in `topics`."""
        found = []
        for topic in topics:
            for number, log, state in self._run("select id, log, state from logs where topic = ?", (topic,)):
                name = LogName(topic, log)
                self._logs[name] = number
                found.append((name, _record_of(state)))
        return found

    def ledger(self, mailbox: str) -> Ledger:
        """What is known of a mailbox; notes that it was seen."""
        number = self._mailbox(mailbox)
        ledger = Ledger()
        sql = "select topic, logs.log, {} from {} as t join logs on logs.id = t.log where mailbox = ?"
        for topic, log, seq in self._run(sql.format("seq", "sent"), (number,)):
            ledger.sent[LogName(topic, log)] = seq + _SEQ_OFFSET
        for topic, log, runs in self._run(sql.format("runs", "gone"), (number,)):
            ledger.gone[LogName(topic, log)] = Runs(json.loads(runs))
        return ledger

    def blobs(self, keys: Iterable[Key]) -> list[bytes | None]:
        """The messages' contents, None for each that is not here."""
        sql = "select blob from messages where log = ? and seq = ?"
        found: list[bytes | None] = []
        for name, seq in keys:
            number = self._logs.get(name)
            row = None if number is None else self._run(sql, (number, seq - _SEQ_OFFSET)).fetchone()
            found.append(None if row is None else bytes(row[0]))
        return found

    def bytes_held(self) -> int:
        """All contents together."""
        return int(self._run("select coalesce(sum(length(blob)), 0) from messages").fetchone()[0])

    def oldest(self, before_s: float, count_max: int) -> list[tuple[LogName, int, int]]:
        """The oldest messages older than `before_s` (Unix seconds), with their sizes."""
        sql = (
            "select topic, logs.log, seq, length(blob) from messages join logs on logs.id = messages.log "
            "where at_s < ? order by at_s limit ?"
        )
        rows = self._run(sql, (int(before_s), count_max))
        return [(LogName(topic, log), seq + _SEQ_OFFSET, size) for topic, log, seq, size in rows]

    # --- writing -----------------------------------------------------------------------------------------------------

    def keep(self, messages: Iterable[Message], states: Mapping[LogName, State], *, at_s: float) -> None:
        """Messages, own or received, and the records that know of them."""
        self.note(states)
        rows = [(self._log(name), seq - _SEQ_OFFSET, int(at_s), blob) for name, seq, blob in messages]
        self._database.conn.executemany(
            "insert or ignore into messages (log, seq, at_s, blob) values (?, ?, ?, ?)", rows
        )

    def note(self, states: Mapping[LogName, State]) -> None:
        """How records stand."""
        for name, state in states.items():
            self._run("update logs set state = ? where id = ?", (state, self._log(name)))

    def note_sent(self, mailbox: str, sent: Mapping[LogName, int]) -> None:
        """How far own logs are at a mailbox."""
        rows = [(self._mailbox(mailbox), self._log(name), seq - _SEQ_OFFSET) for name, seq in sent.items()]
        self._database.conn.executemany("insert or replace into sent values (?, ?, ?)", rows)

    def note_gone(self, mailbox: str, name: LogName, gone: str) -> None:
        """What is gone at a mailbox for good: runs, as JSON."""
        self._run("insert or replace into gone values (?, ?, ?)", (self._mailbox(mailbox), self._log(name), gone))

    def forget(self, keys: Iterable[Key]) -> None:
        """Drops messages; that they were here stays known."""
        rows = [(self._log(name), seq - _SEQ_OFFSET) for name, seq in keys]
        self._database.conn.executemany("delete from messages where log = ? and seq = ?", rows)

    def _log(self, name: LogName) -> int:
        number = self._logs.get(name)
        if number is None:
            row = (name.topic, name.log, state_of(Record()))
            self._run("insert or ignore into logs (topic, log, state) values (?, ?, ?)", row)
            found = self._run("select id from logs where topic = ? and log = ?", name).fetchone()
            number = self._logs[name] = int(found[0])
        return number

    def _mailbox(self, key: str) -> int:
        number = self._mailboxes.get(key)
        if number is None:
            row = (key, int(time.time()))
            self._run("insert or ignore into mailboxes (key, seen_s) values (?, ?)", row)
            found = self._run("select id, seen_s from mailboxes where key = ?", (key,)).fetchone()
            number = self._mailboxes[key] = int(found[0])
            self._run("update mailboxes set seen_s = ? where id = ?", (row[1], number))
            self._drop_unseen()
        return number

    def _drop_unseen(self) -> None:
        (count,) = self._run("select count(*) from mailboxes").fetchone()
        if count <= CLIENT_MAILBOXES_REMEMBERED_MAX:
            return
        here = set(self._mailboxes.values())
        excess = count - CLIENT_MAILBOXES_REMEMBERED_MAX
        for (number,) in self._run("select id from mailboxes order by seen_s limit ?", (excess,)).fetchall():
            if number not in here:
                for table in ("sent", "gone"):
                    self._run(f"delete from {table} where mailbox = ?", (number,))
                self._run("delete from mailboxes where id = ?", (number,))
