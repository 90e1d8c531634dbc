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
    HANDED_BACK = "handed-back"
    """The attempt was given back before anybody could know: a listener left. It counts neither way."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a responding actor answered, for who asked."""

    payload: bytes
    content_type: str


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
    overloaded: bool = False
    """The actor has too much to do: 429, 503, or no answer in time."""
    answer: str = ""
    """The beginning of what the actor answered, for the history."""
    response: Response | None = None
    """The answer to a request, where the actor responds."""
