"""One attempt, as it is remembered for the history of a message."""

import datetime as dt
from typing import NamedTuple

from walnatsd.model.outcome import Outcome

MAX_ANSWER_LENGTH = 1024


class Attempt(NamedTuple):
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
        """Write it for the `walnats-dead-letter-history` header: `reason` stands where there was no answer to quote."""
        began = dt.datetime.fromtimestamp(self.at, dt.UTC).isoformat(timespec="milliseconds")
        words = self.outcome.answer or self.outcome.reason
        return {
            "attempt": self.number,
            "at": began.replace("+00:00", "Z"),
            "duration_ms": round(self.duration_s * 1000, 2),
            "outcome": self.outcome.verdict.value,
            "status": self.outcome.status,
            "answer" if self.outcome.answer else "reason": words[:MAX_ANSWER_LENGTH],
        }
