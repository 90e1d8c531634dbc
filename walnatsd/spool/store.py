"""What is done in the file. Every function is part of a transaction of its caller, in the one thread that has the file."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from walnatsd.spool.entry import ROW_BYTES, Kept, Row, bytes_of, kept_of, row_of
from walnatsd.spool.file import ROW

_INSERT = f"INSERT INTO message ({ROW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event, uid) DO NOTHING"
_COLUMNS = ROW.count(",") + 1
_VACUUM_PAGES = 2000


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message that JetStream will never take as it is."""

    kept: Kept
    reason: str
    """A reason of the contract, like TOO_LARGE."""
    detail: str
    set_aside_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Messages of one event."""

    event: str
    messages: int
    bytes: int
    oldest_at: float


# ---- what waits to be forwarded


def append(connection: sqlite3.Connection, row: Row) -> bool:
    """Add a message; False where one of its uid waits already, which stands for both."""
    return connection.execute(_INSERT, row).rowcount == 1


def read(connection: sqlite3.Connection, event: str, after: int, *, messages: int, bytes_: int) -> list[Kept]:
    """Read the next messages of an event, oldest first: at most so many, and as many bytes but for the first one.

    Raises:
        DamageError: One is not what was written.
    """
    found: list[Kept] = []
    rows = connection.execute(
        f"SELECT {ROW} FROM message WHERE event = ? AND id > ? ORDER BY id LIMIT ?", (event, after, messages)
    )
    for row in rows:
        bytes_ -= bytes_of(row)
        if found and bytes_ < 0:
            break
        found.append(kept_of(row))
    rows.close()
    return found


def remove(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Remove messages that JetStream has stored."""
    connection.executemany("DELETE FROM message WHERE id = ?", [(id_,) for id_ in ids])


def sums(connection: sqlite3.Connection) -> list[Sum]:
    """Sum up what waits, by event."""
    return [
        Sum(*row)
        for row in connection.execute(
            f"SELECT event, COUNT(*), SUM(LENGTH(header) + LENGTH(payload) + {ROW_BYTES}), MIN(emitted_at) "
            "FROM message GROUP BY event"
        )
    ]


def oldest_at(connection: sqlite3.Connection, event: str) -> float | None:
    """Give the time of the event's oldest message, None where it has none."""
    row = connection.execute("SELECT emitted_at FROM message WHERE event = ? ORDER BY id LIMIT 1", (event,)).fetchone()
    return row[0] if row is not None else None


def last_id(connection: sqlite3.Connection) -> int:
    """Give the highest id that is in use."""
    [last] = connection.execute(
        "SELECT MAX(COALESCE((SELECT MAX(id) FROM message), 0), COALESCE((SELECT MAX(id) FROM set_aside), 0))"
    ).fetchone()
    return int(last)


# ---- what was set aside


def set_aside(connection: sqlite3.Connection, id_: int, reason: str, detail: str, now: float) -> None:
    """Take a message out of the queue of its event, and keep it."""
    connection.execute(
        f"INSERT INTO set_aside ({ROW}, reason, detail, set_aside_at) SELECT {ROW}, ?, ?, ? FROM message WHERE id = ?",
        (reason, detail, now, id_),
    )
    connection.execute("DELETE FROM message WHERE id = ?", (id_,))


def set_aside_sum(connection: sqlite3.Connection) -> tuple[int, int]:
    """Give number and bytes of what was set aside."""
    messages, bytes_ = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(LENGTH(header) + LENGTH(payload) + {ROW_BYTES}), 0) FROM set_aside"
    ).fetchone()
    return messages, bytes_


def set_aside_page(connection: sqlite3.Connection, after: int, limit: int) -> list[SetAside]:
    """List what was set aside, by id.

    Raises:
        DamageError: One is not what was written.
    """
    return [
        SetAside(kept_of(row[:_COLUMNS]), *row[_COLUMNS:])
        for row in connection.execute(
            f"SELECT {ROW}, reason, detail, set_aside_at FROM set_aside WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
    ]


def put_back(connection: sqlite3.Connection, id_: int, new_id: int) -> tuple[Kept, bool] | None:
    """Queue what was set aside once more, at the end. None where there is no such message.

    Returns:
        The message, and False where one of its uid waits already, which stands for both.

    Raises:
        DamageError: It is not what was written.
    """
    kept = _one_set_aside(connection, id_)
    if kept is None:
        return None
    is_new = append(connection, row_of(new_id, kept.entry))
    connection.execute("DELETE FROM set_aside WHERE id = ?", (id_,))
    return kept, is_new


def discard(connection: sqlite3.Connection, id_: int) -> Kept | None:
    """Erase what was set aside; None where there is no such message.

    Raises:
        DamageError: It is not what was written.
    """
    kept = _one_set_aside(connection, id_)
    connection.execute("DELETE FROM set_aside WHERE id = ?", (id_,))
    return kept


def _one_set_aside(connection: sqlite3.Connection, id_: int) -> Kept | None:
    row = connection.execute(f"SELECT {ROW} FROM set_aside WHERE id = ?", (id_,)).fetchone()
    return kept_of(row) if row is not None else None


# ---- the file itself


def shrink(connection: sqlite3.Connection) -> bool:
    """Give a part of the free space back to the disk; True where there is more. Outside of transactions."""
    [free] = connection.execute("PRAGMA freelist_count").fetchone()
    if free:
        connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")  # execute would stop after one page
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return bool(free > _VACUUM_PAGES)
