"""Damage in SQLite's write-ahead log, which SQLite itself passes over: it takes what is whole and forgets the rest.

The format is section 4 of https://sqlite.org/fileformat2.html. A checksum covers everything before it, so what follows a
damaged frame is lost. A crash leaves such a tail too, but of the last transaction at most, for each one is on the disk
before the next begins. More than one behind the first bad frame is damage.
"""

import struct

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC_LITTLE_ENDIAN = 0x377F0682
_MAGIC_BIG_ENDIAN = 0x377F0683
_MASK = 0xFFFFFFFF


def lost_transactions(log: bytes) -> int:
    """Count the finished transactions that SQLite would forget because the log is damaged; 0 where it is whole."""
    if len(log) < _HEADER_BYTES:
        return 0
    magic, _, page_bytes, _, *salts = struct.unpack_from(">6I", log)
    header_sum = struct.unpack_from(">2I", log, 24)
    order = {_MAGIC_LITTLE_ENDIAN: "<", _MAGIC_BIG_ENDIAN: ">"}.get(magic)
    is_valid = order is not None and _checksum(order, log[:24], (0, 0)) == header_sum
    if not is_valid or not page_bytes:
        # salts and page size can't be trusted: nothing of it can be read, and there was something
        return 1 if len(log) > _HEADER_BYTES and any(log) else 0
    assert order is not None
    sum_ = header_sum
    is_whole = True
    behind = 0
    size = _FRAME_HEADER_BYTES + page_bytes
    for at in range(_HEADER_BYTES, len(log) - size + 1, size):
        _, pages_after_commit, *frame_salts = struct.unpack_from(">4I", log, at)
        frame_sum = struct.unpack_from(">2I", log, at + 16)
        is_current = frame_salts == salts
        if is_whole:
            if not is_current:
                return 0  # the rest is of an earlier round
            body = log[at : at + 8] + log[at + _FRAME_HEADER_BYTES : at + size]
            sum_ = _checksum(order, body, sum_)
            is_whole = sum_ == frame_sum
        if not is_whole and is_current and pages_after_commit:
            behind += 1
    return behind - 1 if behind > 1 else 0


def _checksum(order: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
