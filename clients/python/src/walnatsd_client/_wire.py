"""Messages of the contract as bytes, where one is written for each emit: joining them costs a fraction of making objects."""

from collections.abc import Iterable
from functools import lru_cache

# Numbers of fields, with the type of their values; proto/walnatsd/v1/events.proto has them. A test reads back what is written.
_EVENT = b"\x0a"
_PAYLOAD = b"\x12"
_CONTENT_TYPE = b"\x1a"
_UID = b"\x22"
_ITEM = b"\x0a"  # of EmitBatchRequest
ITEM_OVERHEAD_BYTES = 6
"""What an `EmitRequest` takes in a batch beside its own bytes, at most."""


@lru_cache(4096)  # the lengths of messages repeat
def _length(value: int) -> bytes:
    """Write a length as protobuf does: seven bits to a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def emit_head(event: str, content_type: str) -> bytes:
    """Write what all emits of an event begin with."""
    name, media_type = event.encode(), content_type.encode()
    return b"".join((_EVENT, _length(len(name)), name, _CONTENT_TYPE, _length(len(media_type)), media_type))


def plain_emit(head: bytes, payload: bytes, uid: str) -> bytes:
    """Write an `EmitRequest` that has nothing but a head, a payload and a uid."""
    written_uid = uid.encode()
    return b"".join((head, _PAYLOAD, _length(len(payload)), payload, _UID, _length(len(written_uid)), written_uid))


def emit_batch(emits: Iterable[bytes]) -> bytes:
    """Write an `EmitBatchRequest` of written `EmitRequest`s."""
    parts: list[bytes] = []
    for emit in emits:
        parts += (_ITEM, _length(len(emit)), emit)
    return b"".join(parts)
