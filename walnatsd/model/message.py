"""A message: one stored occurrence of an event."""

from collections.abc import Mapping
from typing import NamedTuple

from walnatsd.model import headers


class Message(NamedTuple):  # cheaper to make than a frozen dataclass, and one is made for every delivery
    """A message as the stream holds it."""

    event: str
    """Name of the event."""
    payload: bytes
    """The stored body."""
    headers: Mapping[str, str]
    """The stored headers, `Nats-*` and `Walnats-*` among them."""
    stream: str
    """Name of the stream."""
    sequence: int
    """Position in the stream."""
    stored_at: float
    """When the stream stored it, in seconds since the epoch."""
    replay: int = 0
    """Which replay of a dead letter it is; 0 where it is none."""

    @property
    def uid(self) -> str | None:
        """The deduplication id, where the emitter gave one."""
        return self.headers.get(headers.MESSAGE_ID)

    @property
    def identity(self) -> str:
        """The uid, or what stands for it where there is none: the place in the stream."""
        return self.headers.get(headers.MESSAGE_ID) or f"{self.stream}-{self.sequence}"

    @property
    def trace_id(self) -> str | None:
        """The emitter's trace id."""
        return self.headers.get(headers.TRACE_ID)
