"""The file of the spool: made, locked, and looked at closely before anything is entrusted to it."""

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from urllib.parse import quote

from walnatsd.spool.entry import kept_of
from walnatsd.spool.errors import DamageError, SpoolFileError
from walnatsd.spool.wal import lost_transactions

APPLICATION_ID = 0x574C4E53
"""In the header of the file, so that no other program's database is taken for a spool."""
VERSION = 1
LOCK_TIMEOUT_S = 1.0
"""So long a sidecar that is about to end may still have the file."""
CACHE_KIB = 8192

_COLUMNS = """
    id INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    uid TEXT NOT NULL,
    header BLOB NOT NULL,
    payload BLOB NOT NULL,
    emitted_at REAL NOT NULL,
    deliver_at REAL,
    checksum INTEGER NOT NULL"""
_TABLES = f"""
CREATE TABLE message ({_COLUMNS},
    UNIQUE (event, uid)
);
CREATE INDEX message_of_event ON message (event, id);
CREATE TABLE set_aside ({_COLUMNS},
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    set_aside_at REAL NOT NULL
);
"""
ROW = "id, event, uid, header, payload, emitted_at, deliver_at, checksum"
"""The columns that both tables share, in the order of `entry.Row`."""


def open_file(path: str) -> sqlite3.Connection:
    """Open the file of a spool and lock it; make it where there is none. It belongs to the thread that opens it.

    Raises:
        SpoolFileError: It can't be used.
    """
    try:
        if not _is_there(path):
            _create(path)
        _hide(path)
        _see_that_the_log_is_whole(path)
        connection = _connect(path)
    except OSError as error:
        raise SpoolFileError(f"the spool {path} can't be used: {error.strerror}; see spool.path") from None
    except sqlite3.Error as error:
        raise _explained(path, error) from None
    try:
        _see_that_it_is_ours(connection, path)
        _see_that_it_is_whole(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_there(path: str) -> bool:
    log = _log_of(path)
    if os.path.lexists(path):
        if Path(path).exists() and not Path(path).is_file():
            raise SpoolFileError(f"the spool {path} is not a file; see spool.path")
        if not Path(path).stat().st_size:
            raise _damaged(path, "it is empty, which the file of a spool never is")
        return True
    if log.exists() and log.stat().st_size:
        raise _damaged(path, f"it is missing, and its log {log} is there and may hold messages")
    return False


def _create(path: str) -> None:
    """Make a new file beside and put it in its place when it is complete: there is never a part of one.

    Raises:
        OSError: It can't be made.
    """
    if not Path(path).parent.is_dir():
        raise SpoolFileError(f"the folder of the spool {path} does not exist; make it, or change spool.path")
    new = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        Path(new).unlink()  # of a process that had this number and was killed here
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            )
        with contextlib.suppress(FileExistsError):  # another process was faster; who may have it is a matter of locks
            os.link(new, path)
    finally:
        for left in (new, f"{new}-wal", f"{new}-shm", f"{new}-journal"):
            with contextlib.suppress(FileNotFoundError):
                Path(left).unlink()
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _hide(path: str) -> None:
    """Let nobody else read the payloads; SQLite makes its other files with the same mode."""
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & 0o077:
        Path(path).chmod(mode & 0o700)


def _see_that_the_log_is_whole(path: str) -> None:
    log = _log_of(path)
    if log.exists() and (lost := lost_transactions(log.read_bytes())):
        raise _damaged(path, f"its log {log} is damaged, and {lost} or more transactions behind the damage are lost")


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(Path(path).absolute()))}?mode=rw", uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S
    )
    try:
        # the lock is kept until the connection is closed, and the index of the log stays in memory
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = FULL")  # each commit is on the disk before it is answered
        connection.execute("PRAGMA fullfsync = ON")  # macOS: through the disk's own cache, too
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")  # takes the lock; fails where nothing can be written
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def _see_that_it_is_ours(connection: sqlite3.Connection, path: str) -> None:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise SpoolFileError(f"{path} is a database of another program and no spool; change spool.path")
    if version != VERSION:
        raise SpoolFileError(
            f"the spool {path} was written by another version of walnatsd (format {version}, this one has {VERSION}); "
            "let that version forward what is in it, then remove it"
        )


def _see_that_it_is_whole(connection: sqlite3.Connection, path: str) -> None:
    """Look at every page and at the checksum of every message: damage is found now, not when the message is needed."""
    try:
        findings = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if findings != ["ok"]:
            raise _damaged(path, "; ".join(" ".join(finding.split()) for finding in findings))
        for table in ("message", "set_aside"):
            for row in connection.execute(f"SELECT {ROW} FROM {table} ORDER BY id"):
                kept_of(row)
    except (sqlite3.DatabaseError, DamageError) as error:
        raise _damaged(path, str(error)) from None


def _explained(path: str, error: sqlite3.Error) -> SpoolFileError:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_BUSY:
        return SpoolFileError(
            f"the spool {path} is in use by another process; each sidecar needs a file of its own, see spool.path"
        )
    if primary in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return _damaged(path, str(error))
    if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return SpoolFileError(
            f"the spool {path} can't be written ({error}); walnatsd must be able to write the file and its folder, "
            "or change spool.path"
        )
    return SpoolFileError(f"the spool {path} can't be used: {error}")


def _damaged(path: str, why: str) -> SpoolFileError:
    return SpoolFileError(
        f"the spool {path} is damaged: {why}. It may hold messages that were acknowledged, so it was left as it is: move "
        f"it aside together with {path}-wal where that exists, then start walnatsd anew; what can still be read is copied "
        "into a new spool by: walnatsd spool rescue DAMAGED NEW"
    )


def _log_of(path: str) -> Path:
    return Path(f"{path}-wal")
