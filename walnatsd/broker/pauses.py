"""Pausing consumers on the server, so that all sidecars obey and restarts keep it (nats-server 2.11)."""

import datetime as dt

from walnatsd.broker.errors import ApiError, NoRespondersError
from walnatsd.broker.jetstream import JetStream

FOR_EVER = dt.timedelta(days=100 * 365)


async def pause(jetstream: JetStream, stream: str, consumer: str, until: dt.datetime) -> bool:
    """Pause a consumer: messages in flight may finish, nothing more is handed out.

    Returns:
        Whether the server did; False means that it is older than 2.11.

    Raises:
        BrokerError: NATS did not answer.
    """
    return await _set(jetstream, stream, consumer, until.astimezone(dt.UTC).isoformat())


async def resume(jetstream: JetStream, stream: str, consumer: str) -> bool:
    """Let a paused consumer go on. Returns and raises as `pause`."""
    return await _set(jetstream, stream, consumer, None)


async def _set(jetstream: JetStream, stream: str, consumer: str, until: str | None) -> bool:
    body = {"pause_until": until} if until is not None else None
    try:
        answer = await jetstream.request(f"CONSUMER.PAUSE.{stream}.{consumer}", body)
    except NoRespondersError:
        return False  # servers before 2.11 don't know the subject
    except ApiError:
        raise
    return bool(answer.get("paused")) == (until is not None)
