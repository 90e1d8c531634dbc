"""What a handler makes of a message, however it came here."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from walnatsd_client._actor import Actor
from walnatsd_client._delivery import CURRENT, Delivery, Reject, Retry

_logger = logging.getLogger("walnatsd_client")


async def handle(actor: Actor[Any], delivery: Delivery, payload: bytes) -> Reject | Retry | None:
    """Decode a message and call the actor's handler.

    Returns:
        None where the handler returned, else what is asked for. A payload that is not of the event's schema is
        rejected; any other exception is logged, not told, and asks for another attempt.
    """
    token = CURRENT.set(delivery)
    try:
        try:
            message = actor.event.decode(payload)
        except ValueError as error:
            return Reject(f"the payload is not of the event's schema: {error}")
        await _call(actor.handler, message)
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
    else:
        return None
    finally:
        CURRENT.reset(token)


async def _call(handler: Callable[[Any], object], message: object) -> None:
    """Call a handler: on the loop if it is a coroutine function, else in a thread."""
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - asks how, not whether
        result = handler(message)
    else:
        result = await asyncio.to_thread(_call_in_thread, handler, message)
    if inspect.isawaitable(result):
        await result


def _call_in_thread(handler: Callable[[Any], object], message: object) -> object:
    try:
        return handler(message)
    except StopIteration as error:
        # A future can't carry it: whoever awaits it would wait for ever.
        raise RuntimeError("the handler raised StopIteration") from error
