"""The SQLite file: its tables, how it is made and opened, and what its errors mean.

    topics      id, topic, born                born: Unix seconds
    logs        id, topic, log, emptied        emptied: null while the log holds messages
    watermarks  log, seq                       apart from `logs`: 300 to a page, and nearly every store writes one
    messages    log, seq, digest, first_stored, size, blob, genuine, source       clustered by key, 65 to a page
    blobs       id, data                       in order of arrival; a large blob is several rows with successive ids
    garbage     first, last                    rows of `blobs` that are still to be removed
    evicted     log, first, last, first_stored  seqs that were let go to make room; stored minus 2^63, too
    notes       name, value                    the salt of `messages.source`

`messages.blob` is the id of the first row of the blob. `messages.genuine` is 1 where the blob is known to be: it is
looked at when a second one comes under its key, so that reads need not.

Blobs stand apart from the keys: with them in the clustered
table a store of 200-2000-byte messages took twice the space (only four such rows fit in a page), twice the time to
store and four times the time to expire; reading a whole log is about as fast either way, because what arrives together
lies together. A sequence number is stored minus 2^63, so that SQLite's signed integers keep the order.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from node.store.api import StoreError, StoreFull, StoreUnavailable, Trouble
from protocols.limits.store import (
    BLOB_CHUNK_BYTES,
    CHECKPOINT_PAGES,
    READER_CACHE_BYTES,
    SOURCE_SALT_BYTES,
    STATEMENTS_PREPARED,
    STORE_BUSY_TIMEOUT_S,
    STORE_PAGE_BYTES,
    WAL_BYTES_MAX,
    WRITER_CACHE_BYTES,
)
from protocols.model import LogName
from protocols.operations import is_genuine

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = [
    "SEQ_OFFSET",
    "chunks_of",
    "connect_reader",
    "connect_writer",
    "prepare",
    "put_in_place",
    "replace_file",
    "translate",
]

SEQ_OFFSET: Final = 2**63

_APPLICATION_ID: Final = 0x6D626F78  # "mbox", so that another program's database is never mistaken for ours
_MIGRATION_SET: Final = "mailboxd"


def chunks_of(size: int) -> int:
    """How many rows of `blobs` a blob of `size` bytes takes: at least one."""
    return max(1, -(-size // BLOB_CHUNK_BYTES))


# --- migrations ----------------------------------------------------------------------------------------------------


def _m0001_first(db: Database) -> None:
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.table("topics").create({"id": int, "topic": str}, pk="id", not_null={"topic"})
    db.table("topics").create_index(["topic"], unique=True)
    db.table("logs").create(
        {"id": int, "topic": int, "log": str, "emptied": int},
        pk="id",
        not_null={"topic", "log"},
        foreign_keys=["topic"],
    )
    db.table("logs").create_index(["topic", "log"], unique=True)
    db.execute("CREATE INDEX logs_live ON logs (topic, log) WHERE emptied IS NULL")
    db.execute("CREATE INDEX logs_empty ON logs (emptied) WHERE emptied IS NOT NULL")
    db.table("watermarks").create({"log": int, "seq": int}, pk="log", not_null={"seq"})
    db.execute(
        "CREATE TABLE messages (log INTEGER NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL,"
        " first_stored INTEGER NOT NULL, size INTEGER NOT NULL, blob INTEGER NOT NULL,"
        " PRIMARY KEY (log, seq, digest)) WITHOUT ROWID"
    )
    # Holds everything that expiry must know; within an hour it grows at its end, in order of arrival.
    db.execute("CREATE INDEX messages_age ON messages (first_stored, blob, size)")
    db.table("blobs").create({"id": int, "data": bytes}, pk="id", not_null={"data"})
    db.table("garbage").create({"first": int, "last": int}, pk="first", not_null={"last"})


def _m0002_genuine(db: Database) -> None:
    db.execute("ALTER TABLE messages ADD COLUMN genuine INTEGER NOT NULL DEFAULT 0")
    contested = db.execute(
        "SELECT t.topic, l.log, m.log, m.seq, m.digest, m.blob, m.size FROM messages m"
        " JOIN logs l ON l.id = m.log JOIN topics t ON t.id = l.topic"
        " WHERE (m.log, m.seq) IN (SELECT log, seq FROM messages GROUP BY log, seq HAVING count(*) > 1)"
    ).fetchall()
    for topic, name, log, seq, digest, blob, size in contested:
        pieces = db.execute("SELECT data FROM blobs WHERE id BETWEEN ? AND ?", (blob, blob + chunks_of(size) - 1))
        if is_genuine(LogName(topic, name), seq + SEQ_OFFSET, b"".join(data for (data,) in pieces)):
            db.execute("UPDATE messages SET genuine = 1 WHERE log = ? AND seq = ? AND digest = ?", (log, seq, digest))


def _m0003_sources(db: Database) -> None:
    """Where messages came from, and what was let go; adding columns costs nothing, however much is held."""
    db.execute("ALTER TABLE messages ADD COLUMN source INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE topics ADD COLUMN born INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "CREATE TABLE evicted (log INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,"
        " first_stored INTEGER NOT NULL, PRIMARY KEY (log, first)) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX evicted_age ON evicted (first_stored)")
    db.table("notes").create({"name": str, "value": bytes}, pk="name")
    db.table("notes").insert({"name": "salt", "value": new_salt()})


def new_salt() -> bytes:
    """With what the sources of messages are hashed: of every store another one."""
    return os.urandom(SOURCE_SALT_BYTES)


# In order, never changed once released; a change of the schema is a new one at the end.
_MIGRATIONS: Final = (
    ("0001_first", _m0001_first),
    ("0002_genuine", _m0002_genuine),
    ("0003_sources", _m0003_sources),
)


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    from sqlite_utils import Database, Migrations  # noqa: PLC0415 - a fifth of a second, and only needed here

    migrations = Migrations(_MIGRATION_SET)
    for name, function in _MIGRATIONS:
        migrations(name=name)(function)
    database = Database(connection, execute_plugins=False)
    known = {name for name, _ in _MIGRATIONS}
    newer = [applied.name for applied in migrations.applied(database) if applied.name not in known]
    if newer:
        raise StoreError(
            f"{path} was written by a newer mailboxd (it has {newer[-1]}): install that version or a later one"
        )
    if migrations.pending(database):
        migrations.apply(database)


# --- opening -------------------------------------------------------------------------------------------------------


def prepare(path: Path) -> None:
    """Makes sure that `path` is a store of this version: creates it if it does not exist, migrates an older one.

    Raises StoreError, with what to do, for a damaged file, a foreign one or a newer one; StoreUnavailable if the disk
    does not let us. A file that exists is never replaced.
    """
    try:
        if not os.path.lexists(path):
            _create(path)
            return
        _check_header(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=STORE_BUSY_TIMEOUT_S)
        try:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            if application_id != _APPLICATION_ID:
                raise StoreError(f"{path} is not a mailbox's store: move it away or choose another data directory")
            _migrate(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise StoreUnavailable(f"can't open the store {path}: {error.strerror or error}") from error


def _check_header(path: Path) -> None:
    """An empty or foreign file must not be taken for a new database, which SQLite would do."""
    with path.open("rb") as file:
        head = file.read(16)
    if head != b"SQLite format 3\0":
        raise _damaged(path, "it is not a database" if head else "it is empty")


def _create(path: Path) -> None:
    """Makes the file under another name first: whatever stands under its own name is complete."""
    for suffix in ("-wal", "-journal"):
        leftover = path.with_name(path.name + suffix)
        if leftover.exists():
            raise StoreError(
                f"{path} is missing but {leftover.name} is there: restore it, or move {leftover.name} away too"
            )
    draft = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-journal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # SQLite's other files follow it
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {STORE_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only possible before the first table
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(path, connection)
    finally:
        connection.close()
    put_in_place(draft, path)


def replace_file(connection: sqlite3.Connection, path: Path) -> None:
    """Writes all that an open database holds into a new file named `path`, and closes it. Its own file has lost that
    name. Raises sqlite3.Error or OSError; then nothing has changed."""
    draft = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-journal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    copy = sqlite3.connect(draft, isolation_level=None)
    try:
        copy.execute("PRAGMA synchronous = FULL")
        connection.backup(copy)
    finally:
        copy.close()
    connection.close()
    for suffix in ("-wal", "-shm"):  # they belong to the other file
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    put_in_place(draft, path)


def put_in_place(draft: Path, path: Path) -> None:
    """Gives a complete file its name, durably. Raises OSError."""
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def connect_writer(path: Path, *, wal_bytes_max: int = WAL_BYTES_MAX) -> sqlite3.Connection:
    """The one connection that writes. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        timeout=STORE_BUSY_TIMEOUT_S,
        cached_statements=STATEMENTS_PREPARED,
    )
    _configure(
        connection,
        "journal_mode = WAL",
        "synchronous = FULL",
        f"cache_size = -{WRITER_CACHE_BYTES // 1024}",
        # The writer checkpoints by its own count, after it has answered; this is only a net below it.
        f"wal_autocheckpoint = {4 * CHECKPOINT_PAGES}",
        f"journal_size_limit = {wal_bytes_max}",
        # Overwriting what is removed would make expiry as dear as storing; blobs are encrypted by the apps.
        "secure_delete = OFF",
        "temp_store = MEMORY",
        "cell_size_check = ON",
    )
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can't write. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=STORE_BUSY_TIMEOUT_S
    )
    _configure(connection, "query_only = ON", f"cache_size = -{READER_CACHE_BYTES // 1024}", "cell_size_check = ON")
    return connection


def _configure(connection: sqlite3.Connection, *pragmas: str) -> None:
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise


# --- errors --------------------------------------------------------------------------------------------------------


def translate(error: Exception, path: Path) -> StoreError:
    """What an exception from the depths means to a user."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(path)
        trouble = Trouble.READ_ONLY if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else Trouble.FAILING
        return StoreUnavailable(f"the disk that holds {path} failed: {error.strerror or error}", trouble)
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return _full(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(f"{path} is locked by another program", Trouble.FAILING)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH):
        text = f"no access to {path}: {error}; check its owner and permissions"
        return StoreUnavailable(text, Trouble.READ_ONLY)
    if code == sqlite3.SQLITE_IOERR:
        if _is_read_only(path):
            return StoreUnavailable(f"the disk that holds {path} has become read-only", Trouble.READ_ONLY)
        return StoreUnavailable(f"the disk that holds {path} failed: {error}", Trouble.FAILING)
    if code == 0 and isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
        return _damaged(path, str(error))  # what our own reading code found
    return StoreUnavailable(f"the store {path} failed: {error}")


def _is_read_only(path: Path) -> bool:
    """Whether the kernel forbids writing: it does so after errors, and SQLite only tells that a write failed."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def _full(path: Path) -> StoreFull:
    return StoreFull(f"the disk that holds {path} is full", 0, Trouble.FULL)


def _damaged(path: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{path} is damaged ({why}): stop mailboxd and run `mailboxd verify --repair`, which keeps what can be read;"
        " neighbours bring back what they hold",
        Trouble.DAMAGED,
    )


def one(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> Any:
    """The first column of the first row, or None."""
    row = connection.execute(sql, parameters).fetchone()
    return None if row is None else row[0]
