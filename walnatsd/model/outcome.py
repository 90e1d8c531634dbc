"""What an attempt came to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The classes of the contract's answer table (section 5)."""

    ACKNOWLEDGED = "acknowledged"
    """The actor did its work."""
    UNAVAILABLE = "unavailable"
    """The actor is not there; no fault of the message. Never makes a dead letter."""
    FAILED = "failed"
    """The attempt failed; it counts."""
    REJECTED = "rejected"
    """The actor will never take this message."""
    GONE = "gone"
    """The actor asks for no more messages (410)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to, in the actor's words and in ours."""

    verdict: Verdict
    """The class of the answer."""
    reason: str
    """In words, for logs and dead letters."""
    status: int | None = None
    """The HTTP status, where there was an answer."""
    retry_after_s: float | None = None
    """What the actor asked for with `Retry-After`, bounded."""
    holds_actor: bool = False
    """The `Retry-After` is meant for the actor as a whole (429 and 503)."""
