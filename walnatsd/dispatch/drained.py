"""Whether an actor has handled all that there is, for a burst."""

import structlog

from walnatsd.broker.errors import BrokerError
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.route import consumer_name
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.model.actor import Actor

_log = structlog.get_logger("walnatsd.dispatch")


async def has_nothing_left(actor: Actor, sidecar: Sidecar) -> bool:
    """Ask the server whether it has nothing more for an actor now; False where it does not answer.

    A paused actor is left as it is. What is parked for long does not count.
    """
    stream, consumer = actor.stream, actor.name
    try:
        info = await sidecar.jetstream.consumer(stream, consumer)
        due = await sidecar.jetstream.consumer(WORK, consumer_name(stream, consumer)) or {}
    except BrokerError:
        return False
    if info is not None and info.get("paused"):
        _log.warning(
            "a paused actor is left as it is",
            event_name=actor.event, actor=consumer, messages=info.get("num_pending", 0),
        )  # fmt: skip
        return True
    if info is None or info.get("num_pending") or info.get("num_ack_pending"):
        return False
    # without schedules, what is parked for long is unsettled on the route
    return not due.get("num_pending") and not (due.get("num_ack_pending") and sidecar.route.has_schedules)
