"""What a handler makes of a message, however it came here."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from walnatsd_client._actor import Actor, BatchActor
from walnatsd_client._delivery import CURRENT, Delivery, Reject, Retry
from walnatsd_client._event import EventWithResponse
from walnatsd_client._execution import call

_logger = logging.getLogger("walnatsd_client")


@dataclass(frozen=True, slots=True)
class Done:
    """The handler returned."""

    response: bytes | None = None
    """What it answers who asked; None where the event has no response."""
    content_type: str = ""
    """Media type of the response."""


DONE = Done()


async def handle(actor: Actor[Any], delivery: Delivery, payload: bytes) -> Done | Reject | Retry:
    """Decode a message and call the actor's handler.

    Returns:
        What it came to. A payload that is not of the event's schema is rejected; an exception that is neither Reject nor
        Retry is logged, not told, and asks for another attempt.
    """
    event = actor.event
    try:
        message = event.decode(payload)
    except ValueError as error:
        return Reject(f"the payload is not of the event's schema: {error}")
    outcome = await _run(actor, delivery, message)
    if isinstance(outcome, (Reject, Retry)):
        return outcome
    if not isinstance(event, EventWithResponse):
        return DONE
    try:
        return Done(event.encode_response(outcome.value), event.response_content_type)
    except (TypeError, ValueError, AttributeError):
        _logger.exception("actor %s returned what is no %s", actor.name, event.response_schema)
        return Retry(reason="the handler returned no response of the event's schema; its log says why")


async def handle_messages(
    actor: BatchActor[Any], delivery: Delivery, messages: list[Any]
) -> Sequence[Done | Reject | Retry] | Reject | Retry:
    """Call the handler of a batch actor; gives a result per message, or one for all."""
    outcome = await _run(actor, delivery, messages)
    if isinstance(outcome, (Reject, Retry)):
        return outcome
    results = outcome.value
    if results is None:
        return [DONE] * len(messages)
    if (
        not isinstance(results, (list, tuple))
        or len(results) != len(messages)
        or not all(result is None or isinstance(result, (Reject, Retry)) for result in results)
    ):
        _logger.error("actor %s returned neither None nor a None, Reject or Retry for each message", actor.name)
        return Retry(reason="the handler returned no list of results; its log says why")
    return [DONE if result is None else result for result in results]


class _Returned(NamedTuple):
    value: Any


async def _run(actor: Actor[Any], delivery: Delivery, message: object) -> _Returned | Reject | Retry:
    token = CURRENT.set(delivery)
    try:
        return _Returned(await call(actor.handler, message, actor._runs_in))  # noqa: SLF001 - of this package
    except (Reject, Retry) as asked:
        return asked
    except Exception:
        _logger.exception(
            "actor %s failed: event %s, uid %s, sequence %d, attempt %d",
            delivery.actor,
            delivery.event,
            delivery.uid,
            delivery.sequence,
            delivery.attempt,
        )
        return Retry(reason="the handler failed; its log says why")
    finally:
        CURRENT.reset(token)
