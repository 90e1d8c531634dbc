"""What an ordered actor needs of the broker: its pin, and the count of what is unsettled."""

import functools
from collections.abc import Callable

from walnatsd.broker.order import count_unsettled, pin_timeout_s
from walnatsd.broker.pin import Pin
from walnatsd.dispatch.reign import CountUnsettled
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.model.actor import Actor


def pinned_to(
    actor: Actor, sidecar: Sidecar, *, gained: Callable[[], None], lost: Callable[[], None], proven: Callable[[], None]
) -> Pin:
    """Make the pin of an actor's consumer, which this sidecar may gain and lose; see `Pin`."""
    return Pin(
        sidecar.connection,
        sidecar.jetstream,
        stream=actor.stream,
        consumer=actor.name,
        timeout_s=pin_timeout_s(actor),
        ack_wait_s=actor.ack_wait,
        gained=gained,
        lost=lost,
        proven=proven,
    )


def counting(actor: Actor, sidecar: Sidecar) -> CountUnsettled:
    """Give what asks the server how many messages of the actor are unsettled."""
    return functools.partial(count_unsettled, sidecar.jetstream, actor)
