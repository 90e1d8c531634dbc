"""Services, events and actors as one system, gathered from the files of several sidecars."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from walnatsd.model.actor import Actor
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event
from walnatsd.payload.schema_evolution import schema_changes


@dataclass(frozen=True, slots=True)
class Service:
    """What one file declares."""

    name: str
    events: Sequence[Event]
    actors: Sequence[Actor]
    clocks: Sequence[Clock] = ()
    servers: Sequence[str] = ()
    """Addresses of NATS, where the file names them."""


class System:
    """All services together; files of one service are taken together.

    A file declares the events that its service emits and those that it acts on, and does not say which is which. A service
    is taken for an emitter of an event if it has a clock or no actor for it; where that leaves nobody, all who declare the
    event are.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        """Gather.

        Raises:
            ValueError: Two files declare an event differently, or the same actor; in words, a line for each.
        """
        by_name: dict[str, Service] = {}
        self.events: dict[str, Event] = {}
        self._actors: dict[tuple[str, str], tuple[str, Actor]] = {}
        self._streams: dict[str, str] = {}
        problems: list[str] = []
        for service in services:
            for event in service.events:
                problems += self._add_event(service, event)
            for actor in service.actors:
                key = (actor.event, actor.name)
                if key in self._actors:
                    both = f"{self._actors[key][0]!r} and {service.name!r}"
                    problems.append(f"the actor {actor.name!r} of {actor.event!r} is declared by {both}")
                self._actors[key] = (service.name, actor)
            known = by_name.get(service.name)
            by_name[service.name] = _together(known, service) if known is not None else service
        if problems:
            raise ValueError("\n".join(problems))
        self.services = tuple(by_name.values())

    def _add_event(self, service: Service, event: Event) -> Iterable[str]:
        other = self._streams.setdefault(event.stream, event.name)
        if other != event.name:
            yield f"the events {event.name!r} and {other!r} map to one stream, {event.stream!r}; rename one of them"
        known = self.events.setdefault(event.name, event)
        if known is event:
            return
        if known.payload_schema is not None and event.payload_schema is not None:
            for change in schema_changes(known.payload_schema, event.payload_schema):
                yield f"the event {event.name!r} has another schema in {service.name!r} than elsewhere: {change}"
        # what one declaration leaves out another one may say
        said = {
            key: getattr(event, key) for key in ("description", "payload_schema", "example") if not getattr(known, key)
        }
        self.events[event.name] = known.model_copy(update=said)

    def actors(self) -> list[tuple[Service, Actor]]:
        """List actors with the services they belong to."""
        by_name = {service.name: service for service in self.services}
        return [(by_name[name], actor) for name, actor in self._actors.values()]

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


def clocks_of(service: Service, event: str) -> list[str]:
    """Say at which times a service emits an event by itself."""
    return [
        f"every {clock.every:g} s" if clock.every is not None else f"{clock.cron} ({clock.timezone})"
        for clock in service.clocks
        if clock.event == event
    ]


def _together(one: Service, other: Service) -> Service:
    known = {event.name for event in one.events}
    events = [*one.events, *(event for event in other.events if event.name not in known)]
    return Service(
        one.name, events, [*one.actors, *other.actors], [*one.clocks, *other.clocks], [*one.servers, *other.servers]
    )
