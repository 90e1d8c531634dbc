"""Frames of the NATS client protocol: header blocks, publish frames, the subject that acks go to."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_NANOSECONDS = 1_000_000_000
_BLANKS = " \t\n\r\v\f"
"""What is no part of a header's value around it; other blanks of Unicode are."""


made = tuple.__new__
"""Makes a named tuple of all its fields, as its class does in more than twice the time; here that is once per message."""


def to_ns(seconds: float) -> int:
    """Write a duration as NATS does: in whole nanoseconds."""
    return round(seconds * _NANOSECONDS)


def from_ns(nanoseconds: int) -> float:
    """Read a time or a duration of NATS. An int is divided by an int, for a float would round a time twice."""
    return nanoseconds / _NANOSECONDS


class Frame(NamedTuple):  # cheaper to make than a frozen dataclass, and one is made for all that arrives
    """What arrived on a subscription."""

    subject: str
    """Where it was sent to."""
    reply: str
    """Where an answer goes; empty where none is expected."""
    payload: bytes
    """The body."""
    head: bytes
    """The raw header block; empty where there is none."""

    @property
    def status(self) -> int:
        """The inline status, 0 where there is none."""
        head = self.head
        if len(head) < 12 or head[8:9] != b" ":
            return 0
        code = head[9:12]
        return int(code) if code.isdigit() else 0

    @property
    def description(self) -> str:
        """The words after the inline status."""
        return self.head.partition(b"\r\n")[0][13:].decode("utf-8", "replace")

    def headers(self) -> dict[str, str]:
        """Parse the header block. Of a name that stands twice, the last value counts."""
        parsed = {}
        for line in self.head.decode("utf-8", "replace").removesuffix("\r\n\r\n").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                parsed[name] = value.strip(_BLANKS)
        return parsed


def head_of(headers: Mapping[str, str]) -> bytes:
    """Write a header block. Names and values must be checked before."""
    if not headers:
        return b""
    if len(headers) == 1:
        [(name, value)] = headers.items()
        return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def publish_frame(subject: str, reply: str, head: bytes, payload: bytes) -> bytes:
    """Write a PUB or HPUB frame."""
    if head:
        line = f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n".encode()
        return b"".join((line, head, payload, b"\r\n"))
    return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"


def publish_frames(subject: str, replies: Iterable[str], messages: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write HPUB frames of several messages, each a head and a payload, to one subject."""
    parts: list[bytes] = []
    for reply, (head, payload) in zip(replies, messages, strict=True):
        size = len(head)
        parts += (f"HPUB {subject} {reply} {size} {size + len(payload)}\r\n".encode(), head, payload, b"\r\n")
    return b"".join(parts)


def word_frames(subjects: Iterable[str], reply: str, word: str) -> bytes:
    """Write PUB frames that say the same word, in ASCII, to many subjects."""
    rest = f" {reply} {len(word)}\r\n{word}\r\n"
    return "".join([f"PUB {subject}{rest}" for subject in subjects]).encode()


class AckSubject(NamedTuple):
    """What the reply subject of a delivery tells (ADR-15)."""

    stream: str
    consumer: str
    delivered: int
    """How often the message was handed over, this time included."""
    sequence: int
    """Position in the stream."""
    stored_at: float
    """Seconds since the epoch."""


def parse_ack_subject(subject: str) -> AckSubject:
    """Read `$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>`, with or without domain and account.

    Raises:
        ValueError: The subject is no ack subject.
    """
    tokens = subject.split(".")
    if len(tokens) != 9:
        tokens = tokens[:2] + tokens[4:11] if len(tokens) >= 11 else tokens[:9]
    if len(tokens) < 9:
        raise ValueError(f"not an ack subject: {subject!r}")
    js, ack, stream, consumer, delivered, sequence, _, stored_ns, _ = tokens
    if js != "$JS" or ack != "ACK":
        raise ValueError(f"not an ack subject: {subject!r}")
    return made(AckSubject, (stream, consumer, int(delivered), int(sequence), int(stored_ns) / _NANOSECONDS))
