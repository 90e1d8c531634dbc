"""Time zones of the test's own, with a change of wall time when it wants one; for nats-server and for Python."""

import struct
import zoneinfo
from pathlib import Path


def write_zone(folder: Path, name: str, *, before_s: int, after_s: int, change_at: int) -> zoneinfo.ZoneInfo:
    """Write a zone whose offset from UTC changes once (TZif version 1, RFC 9636), and give it.

    nats-server finds it where the environment variable ZONEINFO names the folder.
    """
    names = b"BEF\0AFT\0"
    head = b"TZif\0" + bytes(15) + struct.pack(">6l", 0, 0, 0, 1, 2, len(names))
    types = struct.pack(">lBB", before_s, 0, 0) + struct.pack(">lBB", after_s, 0, 4)
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(head + struct.pack(">l", change_at) + b"\1" + types + names)
    with file.open("rb") as opened:
        return zoneinfo.ZoneInfo.from_file(opened, name)
