"""The deliveries that an actor holds in this sidecar, from the hand-over to the settlement."""

from collections.abc import Callable, Iterator, Sequence

from walnatsd.broker.delivery import Delivery, Key
from walnatsd.dispatch.attempts import Attempts
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.slots import Slots
from walnatsd.model.actor import Actor
from walnatsd.observe.metrics import Metrics


class Hand:
    """Counts and pulses what it holds; a message is in it once, however often it is handed over.

    While it holds something, the actor shares the sidecar's slots.
    """

    def __init__(
        self,
        actor: Actor,
        pulse: Pulse,
        slots: Slots,
        metrics: Metrics,
        attempts: Attempts,
        *,
        receive: Callable[[Delivery], None],
        always_pulsed: bool = False,
    ) -> None:
        """Prepare the hand, empty.

        Args:
            actor: The declaration.
            pulse: What tells NATS that jobs are in progress.
            slots: The sidecar's; told whether the actor has work.
            metrics: Where it is counted.
            attempts: Told of hand-overs that are no attempt.
            receive: Takes what was handed over while its message was being handed back.
            always_pulsed: Pulse whatever the actor's `pulse` says, for what is held may have to wait.
        """
        self._actor = actor
        self._pulse = pulse
        self._slots = slots
        self._is_pulsed = actor.pulse or always_pulsed
        self._attempts = attempts
        self._receive = receive
        self._held: dict[Key, Delivery] = {}
        self._next: dict[Key, Delivery] = {}
        metrics.in_flight(actor.event, actor.name).set_function(self._held.__len__)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(tuple(self._held.values()))

    def take(self, delivery: Delivery) -> bool:
        """Hold a delivery; False where its message is held already.

        The server hands a message over again when it missed the pulses. It is still handled once at a time here, and
        settled by the newer hand-over. What comes after a nak is the next hand-over, even where it overtakes the nak's
        confirmation; so is what has the place of a message whose stream was deleted and made anew, and of that one nothing
        more is said.
        """
        if held := self._held.get(delivery.key):
            held.is_replaced = held.message.stored_at != delivery.message.stored_at
            if held.is_handed_back or held.is_replaced:
                self._next[delivery.key] = delivery
            else:
                held.take_over(delivery)
                self._attempts.defer(delivery)
            return False
        if not self._held:
            self._slots.join()
            if self._is_pulsed:
                self._pulse.join(self._held, ack_wait_s=self._actor.ack_wait)
        delivery.pulsed_at = self._pulse.now()
        self._held[delivery.key] = delivery
        return True

    def let_go(self, delivery: Delivery) -> None:
        """Hold a delivery no more; it is settled."""
        self.let_go_all((delivery,))

    def let_go_all(self, deliveries: Sequence[Delivery]) -> None:
        """Hold some deliveries no more; they are settled."""
        for delivery in deliveries:
            del self._held[delivery.key]
            if delivery.is_replaced:  # what was noted of it would count for the one that has its place
                self._attempts.forget(delivery)
        if deliveries and not self._held:
            self._slots.leave()
            self._pulse.leave(self._held)
        if self._next:
            for delivery in deliveries:
                if next_delivery := self._next.pop(delivery.key, None):
                    self._receive(next_delivery)
