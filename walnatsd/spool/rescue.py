"""Copying what can still be read of a damaged spool."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from walnatsd.spool.entry import Row, kept_of
from walnatsd.spool.errors import DamageError, SpoolFileError
from walnatsd.spool.file import ROW, open_file

MOST_BYTES = 1 << 40
"""A file of more is not believed in; its header is damaged."""
_ASIDE = f"{ROW}, reason, detail, set_aside_at"
_TABLES = {"message": ROW, "set_aside": _ASIDE}


@dataclass(frozen=True, slots=True)
class Rescued:
    """What became of the messages."""

    messages: int
    """Copied, of those that wait to be forwarded."""
    set_aside: int
    """Copied, of those that were set aside."""
    lost: int
    """Known to have been there, and not readable; there may be others that nothing is known of."""


def rescue(damaged: str, new: str) -> Rescued:
    """Copy what can still be read into a new spool; the damaged one stays as it is.

    Raises:
        SpoolFileError: The new one can't be made, or nothing of the old one can be read.
    """
    if Path(new).exists():
        raise SpoolFileError(f"{new} exists; give a path where nothing is")
    with tempfile.TemporaryDirectory(dir=Path(new).absolute().parent, prefix=".rescue-") as folder:
        copy = Path(folder, "damaged.db")  # opening a database writes to it
        shutil.copyfile(damaged, copy)
        _make_up_the_length(copy)
        if (log := Path(f"{damaged}-wal")).exists():
            shutil.copyfile(log, f"{copy}-wal")
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as old:
            try:
                old.execute("SELECT name FROM sqlite_schema").fetchall()
            except sqlite3.DatabaseError as error:
                raise SpoolFileError(f"nothing of {damaged} can be read: {error}") from None
            with contextlib.closing(open_file(new)) as target:
                return _copy(old, target)


def _make_up_the_length(path: Path) -> None:
    """Fill up a file that was cut short with empty pages: SQLite reads nothing at all of one that lacks pages."""
    with path.open("r+b") as file:
        header = file.read(100)
        if len(header) < 100:
            return
        page_bytes, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
        size = page_bytes * pages
        if file.seek(0, 2) < size <= MOST_BYTES:
            file.truncate(size)


def _copy(old: sqlite3.Connection, target: sqlite3.Connection) -> Rescued:
    copied = dict.fromkeys(_TABLES, 0)
    lost = 0
    target.execute("BEGIN IMMEDIATE")
    for table, columns in _TABLES.items():
        places = ", ".join("?" * len(columns.split(",")))
        for row in _rows(old, table, columns):
            if row is None:
                lost += 1
                continue
            inserted = target.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})", row)
            copied[table] += inserted.rowcount
    target.execute("COMMIT")
    return Rescued(copied["message"], copied["set_aside"], lost)


def _rows(old: sqlite3.Connection, table: str, columns: str) -> Iterator[Row | None]:
    """Read a table, row by row; None for each one that can't be read."""
    for id_ in sorted(_ids(old, table)):
        try:
            row = old.execute(f"SELECT {columns} FROM {table} WHERE id = ?", (id_,)).fetchone()
            if row is not None:
                kept_of(row[: len(ROW.split(","))])
                yield row
        except (sqlite3.DatabaseError, DamageError):
            yield None


def _ids(old: sqlite3.Connection, table: str) -> set[int]:
    """Collect ids from both ends of the table and of its index: each way leads as far as the first damaged page.

    Between the ends nothing is known; there, every id is tried.
    """
    ends = [_ids_until_damage(old, f"SELECT id FROM {table} NOT INDEXED ORDER BY id {end}") for end in ("", "DESC")]
    ids = {*ends[0], *ends[1]}
    if all(ends):
        ids.update(range(max(ends[0]), min(ends[1])))
    if table == "message":
        index = f"{table} INDEXED BY message_of_event"
        ids.update(_ids_until_damage(old, f"SELECT id FROM {index} ORDER BY event, id"))
        ids.update(_ids_until_damage(old, f"SELECT id FROM {index} ORDER BY event DESC, id DESC"))
    return ids


def _ids_until_damage(old: sqlite3.Connection, query: str) -> list[int]:
    ids: list[int] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        for (id_,) in old.execute(query):
            ids.append(id_)
    return ids
