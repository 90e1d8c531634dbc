"""Services, events and actors as one system, gathered from the files of several sidecars."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from walnatsd.model.actor import Actor
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event


@dataclass(frozen=True, slots=True)
class Service:
    """What one file declares."""

    name: str
    events: Sequence[Event]
    actors: Sequence[Actor]
    clocks: Sequence[Clock] = ()


class System:
    """All services together.

    A file declares the events that its service emits and those that it acts on, and does not say which is which. A service
    is taken for an emitter of an event if it has a clock or no actor for it; where that leaves nobody, all who declare the
    event are.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        """Gather.

        Raises:
            ValueError: Two files declare an event differently, or the same actor; in words.
        """
        self.services = tuple(services)
        self.events: dict[str, Event] = {}
        self._actors: dict[tuple[str, str], tuple[Service, Actor]] = {}
        for service in self.services:
            for event in service.events:
                self._add_event(service, event)
            for actor in service.actors:
                other, _ = self._actors.setdefault((actor.event, actor.name), (service, actor))
                if other is not service:
                    raise ValueError(
                        f"the actor {actor.name!r} of {actor.event!r} is declared by {other.name!r} and {service.name!r}"
                    )

    def _add_event(self, service: Service, event: Event) -> None:
        known = self.events.get(event.name)
        if known is None or _says_more(event, known):
            self.events[event.name] = event
        elif known.payload_schema and event.payload_schema and known.payload_schema != event.payload_schema:
            raise ValueError(f"the event {event.name!r} has another schema in {service.name!r} than elsewhere")

    def actors(self) -> list[tuple[Service, Actor]]:
        """List actors with the services they belong to."""
        return list(self._actors.values())

    def emitters(self, event: str) -> list[Service]:
        """List the services that are taken for emitters of an event."""
        declaring = [service for service in self.services if any(each.name == event for each in service.events)]
        emitting = [
            service
            for service in declaring
            if any(clock.event == event for clock in service.clocks)
            or not any(actor.event == event for actor in service.actors)
        ]
        return emitting or declaring


def _says_more(event: Event, known: Event) -> bool:
    """Whether a declaration documents what another one of the same event leaves out."""
    return _weight(event) > _weight(known)


def _weight(event: Event) -> int:
    return sum(value is not None for value in (event.description, event.payload_schema, event.example))
