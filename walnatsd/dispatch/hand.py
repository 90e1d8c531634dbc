"""The deliveries that an actor holds in this sidecar, from the hand-over to the settlement."""

from collections.abc import Iterator

from walnatsd.broker.delivery import Delivery, Key
from walnatsd.dispatch.pulse import Pulse
from walnatsd.model.actor import Actor
from walnatsd.observe.metrics import Metrics


class Hand:
    """Counts and pulses what it holds."""

    def __init__(self, actor: Actor, pulse: Pulse, metrics: Metrics) -> None:
        self._actor = actor
        self._pulse = pulse
        self._in_flight = metrics.in_flight(actor.event, actor.name)
        self._held: dict[Key, Delivery] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(tuple(self._held.values()))

    def take(self, delivery: Delivery) -> bool:
        """Hold a delivery; False where its message is held already.

        The server hands a message over again when it missed the pulses. It is still handled once at a time here, and
        settled by the newer hand-over.
        """
        if held := self._held.get(delivery.key):
            held.take_over(delivery)
            return False
        self._held[delivery.key] = delivery
        self._in_flight.inc()
        if self._actor.pulse:
            self._pulse.keep(delivery, ack_wait_s=self._actor.ack_wait)
        return True

    def let_go(self, delivery: Delivery) -> None:
        """Hold a delivery no more; it is settled."""
        del self._held[delivery.key]
        self._in_flight.dec()
        self._pulse.drop(delivery)
