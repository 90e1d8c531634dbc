"""A delivery after its attempt, and how it is observed: counted, and written as one line."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from walnatsd.broker.delivery import Delivery
from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.outcome import Verdict
from walnatsd.model.retry import ACK, Decision, Retry
from walnatsd.model.trace_context import trace_of
from walnatsd.observe.metrics import Metrics

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import DeliveryTrace

_log = structlog.get_logger("walnatsd.dispatch")


class Attempted(NamedTuple):
    """A delivery after its attempt."""

    delivery: Delivery
    attempt: Attempt
    trace: "DeliveryTrace | None" = None
    """The span of the delivery, where it has one of its own."""


def observe_handled(metrics: Metrics, actor: Actor, handled: Sequence[Attempted]) -> None:
    """Count attempts that were a success, and write their lines where such are wanted."""
    labels, verdict, now = (actor.event, actor.name), Verdict.ACKNOWLEDGED, time.time()
    metrics.attempts(*labels, verdict).inc(len(handled))
    durations = [attempt.duration_s for _, attempt, _ in handled]
    if durations.count(durations[0]) == len(durations):  # a batch, which is one attempt at all its messages
        metrics.attempt_seconds(*labels, verdict).observe(durations[0], len(durations))
    else:
        metrics.attempt_seconds(*labels, verdict).observe_all(durations)
    ages = [now - delivery.message.stored_at for delivery, _, _ in handled]
    metrics.acknowledged_seconds(*labels).observe_all([age if age > 0 else 0.0 for age in ages])
    if _log.is_enabled_for(logging.DEBUG):
        for attempted in handled:
            _write_line(logging.DEBUG, actor, attempted, ACK)


def observe(metrics: Metrics, actor: Actor, attempted: Attempted, decision: Decision) -> None:
    """Count an attempt that was no success, and write its line."""
    attempt, labels = attempted.attempt, (actor.event, actor.name)
    metrics.attempts(*labels, attempt.outcome.verdict).inc()
    metrics.attempt_seconds(*labels, attempt.outcome.verdict).observe(attempt.duration_s)
    if isinstance(decision, Retry):
        metrics.retries(*labels, "true" if decision.counts else "false").inc()
    has_left = attempt.outcome.verdict is Verdict.HANDED_BACK  # a listener, as they may
    _write_line(logging.INFO if has_left else logging.WARNING, actor, attempted, decision)


def _write_line(level: int, actor: Actor, attempted: Attempted, decision: Decision) -> None:
    """Write the line of an attempt, whose fields docs/operating/logs.md has in a table."""
    (delivery, attempt, trace), outcome = attempted, attempted.attempt.outcome
    message = delivery.message
    _log.log(
        level,
        "attempt", event_name=message.event, actor=actor.name, uid=message.uid, sequence=message.sequence,
        attempt=attempt.number, outcome=outcome.verdict.value, status=outcome.status, reason=outcome.reason,
        decision=type(decision).__name__, after_s=round(getattr(decision, "after_s", 0.0), 3),
        duration_ms=round(attempt.duration_s * 1000, 2), trace_id=message.trace_id,
        w3c_trace_id=trace.id if trace is not None else trace_of(message.headers),
    )  # fmt: skip
