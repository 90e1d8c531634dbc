"""What callers can do with actors."""

import contextlib
from collections.abc import Iterator, Sequence

from walnatsd.api.roster import Roster
from walnatsd.broker.registration import Registered
from walnatsd.listeners.listeners import Listeners
from walnatsd.listeners.session import Session
from walnatsd.model.actor import Actor
from walnatsd.model.refusal import Reason, Refusal


class Actors:
    """The use cases of the `Actors` service."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    async def register(self, actors: Sequence[Actor]) -> list[Registered]:
        """Declare actors until the daemon stops and start their dispatch; raises `Refusal`."""
        return [await self._roster.register_actor(actor) for actor in actors]

    @contextlib.contextmanager
    def listen(self, event: str, actor: str, *, max_in_flight: int) -> Iterator[Session]:
        """Serve an actor while the body runs; what is in flight then is handed back at once.

        Args:
            event: Name of the event.
            actor: Name of the actor.
            max_in_flight: How many deliveries are taken at once; 0 for the actor's `max_jobs`.

        Raises:
            Refusal: There is no such actor, it has a webhook, or it is not there yet or any more.
        """
        with self._listeners_of(event, actor).join(max_in_flight) as session:
            yield session

    def _listeners_of(self, event: str, name: str) -> Listeners:
        if self._roster.is_stopping:
            raise Refusal(Reason.STOPPING, "the daemon is stopping", retry_after_s=1.0)
        if loop := self._roster.actors.get((event, name)):
            if isinstance(loop.target, Listeners):
                return loop.target
            raise Refusal(
                Reason.CONFLICT,
                f"the actor {name!r} of {event!r} has a webhook (url), and its messages go there; declare it without url "
                "to serve it over the gRPC stream",
            )
        if self._roster.is_from_file((event, name)):
            raise Refusal(
                Reason.NATS_UNAVAILABLE,
                f"the actor {name!r} of {event!r} is not registered in NATS yet",
                retry_after_s=1.0,
            )
        raise Refusal(
            Reason.UNKNOWN_ACTOR, f"the event {event!r} has no actor {name!r} here; declare or register it first"
        )
