"""The decision after an attempt, as a value."""

from dataclasses import dataclass
from enum import StrEnum

from walnatsd.model.actor import Retry as RetryPolicy
from walnatsd.model.outcome import Outcome, Verdict


class Cause(StrEnum):
    """Why a message becomes a dead letter; the label of the metric."""

    REJECTED = "rejected"
    ATTEMPTS = "attempts"
    MALFORMED = "malformed"
    CODEC = "codec"
    FILTER = "filter"


@dataclass(frozen=True, slots=True)
class Ack:
    """Settle the message: it is handled."""


ACK = Ack()


@dataclass(frozen=True, slots=True)
class Retry:
    """Hand the message back."""

    after_s: float
    """Not before this many seconds."""
    counts: bool
    """Whether the attempt counts towards `max_attempts`."""


AT_ONCE = Retry(0.0, counts=False)
"""Hand the message back as if it had never come: nobody could attempt it here."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Settle the message unseen: the actor did not ask for such."""

    why: str
    """Which option says so: `filter` or `match_time`."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give the message up."""

    cause: Cause
    """The class of the reason."""
    reason: str
    """In words."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Hand the message back and pause the actor."""

    reason: str
    """In words."""


Decision = Ack | Skip | Retry | DeadLetter | Pause


def decide(outcome: Outcome, *, attempt: int, deliveries: int, policy: RetryPolicy, draw: float) -> Decision:
    """Decide what becomes of a message after an attempt.

    Args:
        outcome: What the attempt came to.
        attempt: Which attempt it was, from 1, without deferrals.
        deliveries: How often the message was handed over, deferrals included; an unavailable actor backs off by it.
        policy: The actor's retry policy.
        draw: A number from 0 to 1, drawn evenly; jitter comes from it.
    """
    match outcome.verdict:
        case Verdict.ACKNOWLEDGED:
            return ACK
        case Verdict.REJECTED:
            return DeadLetter(Cause.REJECTED, outcome.reason)
        case Verdict.GONE:
            return Pause(outcome.reason)
        case Verdict.HANDED_BACK:
            return AT_ONCE
        case Verdict.UNAVAILABLE:
            return Retry(_wait_s(outcome, deliveries, policy, draw), counts=False)
        case Verdict.FAILED:
            if policy.max_attempts is not None and attempt >= policy.max_attempts:
                return DeadLetter(Cause.ATTEMPTS, f"gave up after {attempt} attempts; the last one: {outcome.reason}")
            return Retry(_wait_s(outcome, attempt, policy, draw), counts=True)


def _wait_s(outcome: Outcome, attempt: int, policy: RetryPolicy, draw: float) -> float:
    delay_s = policy.delays[min(attempt, len(policy.delays)) - 1]
    jittered_s = delay_s * (1 + policy.jitter * (2 * draw - 1))
    return max(jittered_s, outcome.retry_after_s or 0.0)
