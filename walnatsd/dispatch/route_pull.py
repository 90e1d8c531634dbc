"""Pulling from the route of an actor: what was parked or is replayed, and so is for this actor only."""

from collections.abc import Callable

from walnatsd.broker.delivery import Delivery
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.broker.route import consumer_name
from walnatsd.broker.wire import Frame
from walnatsd.dispatch.intake import StartJob
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.model.actor import Actor


class RoutePull:
    """A pull that begins once there is something on the route; most actors never have any."""

    def __init__(
        self,
        actor: Actor,
        sidecar: Sidecar,
        *,
        capacity: Callable[[], int],
        receive: Callable[[Delivery], None],
        start: StartJob,
    ) -> None:
        """Prepare the pull.

        Args:
            actor: The declaration.
            sidecar: What is shared.
            capacity: Tells how many more messages of the route there is room for.
            receive: Takes each delivery.
            start: Runs a job within the life of the actor.
        """
        self._actor = actor
        self._sidecar = sidecar
        self._capacity = capacity
        self._receive = receive
        self._start = start
        self._pull: Pull | None = None

    @property
    def asked(self) -> int | None:
        """How many messages are asked for and have not come; None where the route was never used."""
        return self._pull.asked if self._pull is not None else None

    def wake(self) -> None:
        """Look again whether there is room."""
        if self._pull is not None:
            self._pull.wake()

    def withdraw(self) -> None:
        """Take back what was asked for."""
        if self._pull is not None:
            self._pull.withdraw()

    async def run(self) -> None:
        """Pull for ever, once the route is used."""
        stream, consumer, route = self._actor.stream, self._actor.name, self._sidecar.route
        while True:
            await route.until_open(stream, consumer)
            self._pull = Pull(
                self._sidecar.connection,
                self._sidecar.jetstream,
                stream=WORK,
                consumer=consumer_name(stream, consumer),
                capacity=self._capacity,
                receive=self._read,
            )
            try:
                await self._pull.run()
            except ConsumerGoneError as error:
                route.lose(stream, consumer, str(error))
            finally:
                self._pull = None

    def _read(self, frame: Frame) -> None:
        actor, sidecar = self._actor, self._sidecar
        delivery = Delivery.of_route(sidecar.connection, sidecar.jetstream, actor.event, actor.stream, frame)
        if delivery.dead_letter:
            letters, message = sidecar.dead_letter_stream, delivery.message
            self._start(letters.remove_replayed(message, actor.name, delivery.dead_letter), "replayed")
        self._receive(delivery)
