"""Declarations as the messages of the contract. A field that is None is left unset: not declared."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from walnatsd_client._actor import Actor, Batch, BatchActor, Breaker, MatchTime, OrderHeader, RateLimit, RetryPolicy
from walnatsd_client._event import Event, EventWithResponse, Limits
from walnatsd_client._proto import actors_pb2, events_pb2

_LONGEST_DURATION_S = 315_576_000_000  # what google.protobuf.Duration holds


def duration(seconds: float) -> Duration:
    """Seconds as the contract's type.

    Raises:
        ValueError: They are not finite, or more than 10,000 years.
    """
    if not -_LONGEST_DURATION_S <= seconds <= _LONGEST_DURATION_S:
        raise ValueError(f"{seconds} is no number of seconds that can be sent")
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def event_message(event: Event[Any]) -> events_pb2.Event:
    """An event as the contract's message."""
    return events_pb2.Event(
        name=event.name,
        description=event.description,
        limits=_limits(event.limits),
        duplicate_window=_optional_duration(event.duplicate_window),
        replicas=event.replicas,
        storage=event.storage,
        min_actors=event.min_actors,
    )


def actor_message(actor: Actor[Any]) -> actors_pb2.Actor:
    """An actor as the contract's message."""
    return actors_pb2.Actor(
        name=actor.name,
        event=actor.event.name,
        url=actor.url,
        description=actor.description,
        start=actor.start,
        ack_wait=_optional_duration(actor.ack_wait),
        max_ack_pending=actor.max_ack_pending,
        max_jobs=actor.max_jobs,
        job_timeout=_optional_duration(actor.job_timeout),
        pulse=actor.pulse,
        priority=actor.priority,
        retry=_retry(actor.retry),
        rate_limit=_rate_limit(actor.rate_limit),
        match_time=_match_time(actor.match_time),
        filter=actor.filter,
        order_by=_order_by(actor.order_by),
        wait_for=actor.wait_for,
        headers=actor.headers,
        breaker=_breaker(actor.breaker),
        responds=isinstance(actor.event, EventWithResponse) or None if actor.responds is None else actor.responds,
        batch=_batch(actor.batch) if isinstance(actor, BatchActor) else None,
    )


def _optional_duration(seconds: float | None) -> Duration | None:
    return None if seconds is None else duration(seconds)


def _limits(limits: Limits) -> events_pb2.Limits:
    return events_pb2.Limits(
        age=_optional_duration(limits.age),
        consumers=limits.consumers,
        messages=limits.messages,
        bytes=limits.bytes,
        message_size=limits.message_size,
        when_full=limits.when_full,
    )


def _retry(policy: RetryPolicy | None) -> actors_pb2.Retry | None:
    if policy is None:
        return None
    return actors_pb2.Retry(
        delays=[duration(delay) for delay in policy.delays],
        jitter=policy.jitter,
        max_attempts=policy.max_attempts,
        unlimited=policy.unlimited,
    )


def _rate_limit(limit: RateLimit | None) -> actors_pb2.RateLimit | None:
    return None if limit is None else actors_pb2.RateLimit(jobs=limit.jobs, period=duration(limit.period))


def _match_time(match: MatchTime | None) -> actors_pb2.MatchTime | None:
    if match is None:
        return None
    return actors_pb2.MatchTime(year=match.year, month=match.month, day=match.day, hour=match.hour, minute=match.minute)


def _batch(batch: Batch) -> actors_pb2.Batch:
    return actors_pb2.Batch(
        max_size=batch.max_size or 0,  # 0 is what protobuf takes for not given
        max_bytes=batch.max_bytes or 0,
        max_wait=_optional_duration(batch.max_wait),
    )


def _order_by(key: str | OrderHeader | None) -> actors_pb2.OrderBy | None:
    match key:
        case None:
            return None
        case OrderHeader(header):
            return actors_pb2.OrderBy(header=header)
        case pointer:
            return actors_pb2.OrderBy(pointer=pointer)


def _breaker(breaker: Breaker | None) -> actors_pb2.Breaker | None:
    if breaker is None:
        return None
    return actors_pb2.Breaker(
        window=_optional_duration(breaker.window),
        min_attempts=breaker.min_attempts,
        failure_ratio=breaker.failure_ratio,
        consecutive=breaker.consecutive,
        open_for=_optional_duration(breaker.open_for),
        max_open_for=_optional_duration(breaker.max_open_for),
    )
