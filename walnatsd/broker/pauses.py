"""Pausing consumers on the server, so that all sidecars obey and restarts keep it (nats-server 2.11)."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from walnatsd.broker.errors import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.route import consumer_name

FOR_EVER = dt.timedelta(days=100 * 365)
REASON = "walnatsd.pause-reason"
"""Key in the consumer's metadata, so that every sidecar can say why."""


async def pause(jetstream: JetStream, stream: str, consumer: str, until: dt.datetime, reason: str) -> bool:
    """Pause an actor's consumer, and that of its route: messages in flight may finish, nothing more is handed out.

    Returns:
        Whether the server did; False means that it is older than 2.11.

    Raises:
        BrokerError: NATS did not answer, or there is no such consumer.
    """
    if not await _set(jetstream, stream, consumer, until.astimezone(dt.UTC).isoformat()):
        return False
    await _note(jetstream, stream, consumer, reason)
    return True


async def resume(jetstream: JetStream, stream: str, consumer: str) -> bool:
    """Let a paused consumer go on. Returns and raises as `pause`."""
    if not await _set(jetstream, stream, consumer, None):
        return False
    await _note(jetstream, stream, consumer, None)
    return True


def pause_reason(config: Mapping[str, Any]) -> str | None:
    """Read the reason out of a consumer's config."""
    reason: str | None = (config.get("metadata") or {}).get(REASON)
    return reason


def paused_until(config: Mapping[str, Any]) -> str | None:
    """Read until when a consumer is paused out of its config; None where it is for ever."""
    until: str | None = config.get("pause_until")
    if until is None or dt.datetime.fromisoformat(until) - dt.datetime.now(dt.UTC) > FOR_EVER / 2:
        return None
    return until


async def _set(jetstream: JetStream, stream: str, consumer: str, until: str | None) -> bool:
    if await jetstream.api_level() < 1:
        return False  # nobody would answer
    body = {"pause_until": until} if until is not None else None
    answer = await jetstream.request(f"CONSUMER.PAUSE.{stream}.{consumer}", body)
    try:
        await jetstream.request(f"CONSUMER.PAUSE.{WORK}.{consumer_name(stream, consumer)}", body)
    except ApiError as error:  # most actors have nothing on their route; it is created as paused as the actor is
        if error.err_code not in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
            raise
    return bool(answer.get("paused")) == (until is not None)


async def _note(jetstream: JetStream, stream: str, consumer: str, reason: str | None) -> None:
    """Keep the reason in the consumer's metadata. The pause itself is not touched by an update."""
    info = await jetstream.consumer(stream, consumer)
    if info is None:
        return
    metadata = {key: value for key, value in (info["config"].get("metadata") or {}).items() if key != REASON}
    if reason is not None:
        metadata[REASON] = reason
    await jetstream.update_consumer(stream, consumer, info["config"] | {"metadata": metadata})
