"""One attempt, as it is remembered for the history of a message."""

from dataclasses import dataclass

from walnatsd.model.outcome import Outcome

MAX_ANSWER_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of the actor."""

    number: int
    """Which attempt at the message it was, from 1."""
    at: float
    """When it began, in seconds since the epoch."""
    duration_s: float
    """How long it took."""
    outcome: Outcome
    """What it came to."""

    def as_json(self) -> dict[str, object]:
        """Write it for the `walnats-dead-letter-history` header and the log."""
        return {
            "attempt": self.number,
            "at": round(self.at, 3),
            "duration_ms": round(self.duration_s * 1000, 2),
            "outcome": self.outcome.verdict.value,
            "status": self.outcome.status,
            "answer": (self.outcome.answer or self.outcome.reason)[:MAX_ANSWER_LENGTH],
        }
