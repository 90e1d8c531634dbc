"""What is kept of an emit."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from walnatsd.spool.errors import DamageError

ROW_BYTES = 200
"""What a message costs on disk besides its payload and headers: two indexes, row and page headers; a generous mean."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it will be published: headers complete, codecs applied."""

    event: str
    uid: str
    header: Mapping[str, str]
    payload: bytes
    emitted_at: float
    """Seconds since the epoch."""
    deliver_at: float | None = None
    """Seconds since the epoch, None where it is to be delivered at once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in the spool."""

    id: int
    """Its place: messages of an event are forwarded in this order."""
    entry: Entry
    bytes: int
    """What it counts for against `max_bytes`."""


Row = tuple[int, str, str, bytes, bytes, float, float | None, int]
"""id, event, uid, header, payload, emitted_at, deliver_at, checksum."""


def row_of(id_: int, entry: Entry) -> Row:
    """Write an entry as the row of a table. Its checksum tells damage that SQLite does not look for."""
    header = orjson.dumps(dict(entry.header))
    facts = (entry.event, entry.uid, header, entry.payload, entry.emitted_at, entry.deliver_at)
    return (id_, *facts, _checksum(*facts))


def kept_of(row: Row) -> Kept:
    """Read a row.

    Raises:
        DamageError: It is not what was written.
    """
    id_, event, uid, header, payload, emitted_at, deliver_at, checksum = row
    try:
        if checksum == _checksum(event, uid, header, payload, emitted_at, deliver_at):
            return Kept(id_, Entry(event, uid, orjson.loads(header), payload, emitted_at, deliver_at), bytes_of(row))
    except (TypeError, ValueError, AttributeError, struct.error):  # damage may change the type of a value
        pass
    raise DamageError(f"the message with the id {id_} is not what was written")


def bytes_of(row: Row) -> int:
    """Give what a row counts for against `max_bytes`."""
    return len(row[3]) + len(row[4]) + ROW_BYTES


def _checksum(event: str, uid: str, header: bytes, payload: bytes, emitted_at: float, deliver_at: float | None) -> int:
    times = struct.pack("<dd?", emitted_at, deliver_at or 0.0, deliver_at is not None)
    sum_ = zlib.crc32(times)
    for part in (event.encode(), uid.encode(), header, payload):
        sum_ = zlib.crc32(part, zlib.crc32(struct.pack("<Q", len(part)), sum_))
    return sum_
