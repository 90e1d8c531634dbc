"""What administrators can do: look at events and actors, pause, resume and delete them."""

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from walnatsd.api.explained import explained
from walnatsd.api.roster import Roster
from walnatsd.api.watch import Watch, orphans_of
from walnatsd.broker import inspection
from walnatsd.broker.inspection import ConsumerState
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.pauses import pause_reason, paused_until
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import Schedules
from walnatsd.clocks.keeper import ClockStatus, Keeper
from walnatsd.dispatch.actor_loop import ActorState
from walnatsd.model.event import Event
from walnatsd.model.names import check_actor_name, check_event_name, stream_name
from walnatsd.model.refusal import Reason, Refusal

_log = structlog.get_logger("walnatsd.administration")


@dataclass(frozen=True, slots=True)
class EventStatus:
    """An event, as it is declared here and as it is in NATS."""

    event: Event
    in_file: bool
    """Declared in the config file; otherwise over gRPC."""
    messages: int | None
    """What the stream holds; None where there is no stream."""
    bytes: int | None
    actors: tuple[str, ...]
    """Those declared here."""
    others: tuple[str, ...]
    """Consumers that are not declared here, but somebody serves."""
    orphans: tuple[str, ...]
    """Consumers that nobody serves: they hold messages back."""
    clock: ClockStatus | None
    """Its clock, where one is declared."""
    drift: tuple[str, ...]
    """How the stream differs from its declaration."""


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """An actor that is declared here, in this sidecar and in NATS."""

    event: str
    name: str
    url: str | None
    in_file: bool
    here: ActorState
    """How it fares in this sidecar."""
    consumer: ConsumerState | None
    """Its consumer, over all sidecars; None where there is none."""
    oldest_age_s: float | None
    """How long ago the oldest message was stored that it has not settled; None where there is none."""
    pause_reason: str | None
    paused_until: str | None
    """As RFC 3339; None where it is for ever, or not paused for all sidecars."""
    orphans: tuple[str, ...]
    """Of its event: consumers that nobody serves."""
    drift: tuple[str, ...]


class Administration:
    """The use cases behind the administration address."""

    def __init__(
        self,
        jetstream: JetStream,
        route: Route,
        schedules: Schedules,
        roster: Roster,
        watch: Watch,
        clocks: Keeper,
    ) -> None:
        self._jetstream = jetstream
        self._route = route
        self._schedules = schedules
        self._roster = roster
        self._watch = watch
        self._clocks = clocks

    # ---- looking

    def event_names(self) -> list[str]:
        """List the declared events."""
        return sorted(self._roster.events)

    def actor_names(self) -> list[tuple[str, str]]:
        """List the running actors by event and name."""
        return sorted(self._roster.actors)

    async def event(self, name: str) -> EventStatus:
        """Look at a declared event.

        Raises:
            Refusal: NATS_UNAVAILABLE.
        """
        event = self._roster.events[name]
        with explained():
            info = await self._jetstream.stream(event.stream)
            consumers = await inspection.consumers(self._jetstream, event.stream) or []
        ours = sorted(self._roster.actors_of(name))
        orphans = orphans_of(consumers, ours)
        others = {consumer.name for consumer in consumers} - {*ours, *orphans}
        return EventStatus(
            event=event,
            in_file=self._roster.is_from_file(name),
            messages=info["state"]["messages"] if info else None,
            bytes=info["state"]["bytes"] if info else None,
            actors=tuple(ours),
            others=tuple(sorted(others)),
            orphans=tuple(orphans),
            clock=self._clocks.status(name),
            drift=self._watch.drift_of(name),
        )

    async def actors(self, names: list[tuple[str, str]]) -> list[ActorStatus]:
        """Look at actors of this sidecar: one request for each of their events, and one for each that lags.

        Raises:
            Refusal: NATS_UNAVAILABLE.
        """
        with explained():
            consumers = {
                event: await inspection.consumers(self._jetstream, stream_name(event)) or []
                for event in dict.fromkeys(event for event, _ in names)
            }
            # an actor may have gone meanwhile
            return [
                await self._actor(event, name, consumers[event])
                for event, name in names
                if (event, name) in self._roster.actors
            ]

    async def _actor(self, event: str, name: str, consumers: Sequence[ConsumerState]) -> ActorStatus:
        loop = self._roster.actors[event, name]
        consumer = next((each for each in consumers if each.name == name), None)
        config = consumer.config if consumer is not None and consumer.paused_for_s else None
        oldest = None
        if consumer is not None and consumer.unsettled:
            oldest = await inspection.stored_at(self._jetstream, stream_name(event), event, consumer.floor)
        return ActorStatus(
            event=event,
            name=name,
            url=loop.actor.url,
            in_file=self._roster.is_from_file((event, name)),
            here=loop.state,
            consumer=consumer,
            oldest_age_s=max(0.0, time.time() - oldest) if oldest is not None else None,
            pause_reason=pause_reason(config) if config is not None else loop.state.pause_reason,
            paused_until=paused_until(config) if config is not None else None,
            orphans=tuple(orphans_of(consumers, self._roster.actors_of(event))),
            drift=self._watch.drift_of((event, name)),
        )

    # ---- doing

    async def pause(self, event: str, actor: str, until: dt.datetime | None) -> bool:
        """Pause an actor for all sidecars; it need not be declared here.

        Returns:
            False where the server is too old (before 2.11), and it was paused in this sidecar only.

        Raises:
            Refusal: UNKNOWN_ACTOR; NATS_UNAVAILABLE; SERVER_VERSION: it is not served here, so nothing was paused.
        """
        _check_names(event, actor)
        with explained(f"there is no actor {actor!r} of {event!r} in NATS"):
            everywhere = await self._roster.pause(event, actor, "paused by an administrator", until)
        return self._everywhere_or_here(event, actor, everywhere)

    async def resume(self, event: str, actor: str) -> bool:
        """Let a paused actor go on. Returns and raises as `pause`."""
        _check_names(event, actor)
        with explained(f"there is no actor {actor!r} of {event!r} in NATS"):
            everywhere = await self._roster.resume(event, actor)
        return self._everywhere_or_here(event, actor, everywhere)

    def _everywhere_or_here(self, event: str, actor: str, everywhere: bool) -> bool:
        if not everywhere and (event, actor) not in self._roster.actors:
            raise Refusal(
                Reason.SERVER_VERSION,
                f"pausing the actor {actor!r} of {event!r}, which this sidecar does not serve, needs nats-server 2.11",
            )
        return everywhere

    async def delete_actor(self, event: str, actor: str) -> None:
        """Delete an actor's consumer, and with it the messages that only it had not settled, parked ones too.

        Raises:
            Refusal: CONFLICT: the config file declares it; UNKNOWN_ACTOR; NATS_UNAVAILABLE.
        """
        _check_names(event, actor)
        self._see_that_it_is_not_in_the_file((event, actor), f"the actor {actor!r} of {event!r}")
        await self._roster.forget_actor(event, actor)
        with explained(f"there is no actor {actor!r} of {event!r} in NATS"):
            await inspection.delete_consumer(self._jetstream, stream_name(event), actor)
            await self._route.remove(stream_name(event), actor)
        _log.warning("deleted an actor", event_name=event, actor=actor)

    async def delete_event(self, event: str, *, confirm: str) -> None:
        """Delete an event's stream with all its messages and actors, its delayed emits and its clock.

        Args:
            event: Its name.
            confirm: The same again, so that nobody does it by a slip.

        Raises:
            Refusal: INVALID_REQUEST: not confirmed; CONFLICT: the config file declares it or one of its actors;
                UNKNOWN_EVENT; NATS_UNAVAILABLE.
        """
        _check_names(event)
        if confirm != event:
            raise Refusal(
                Reason.INVALID_REQUEST,
                f"deleting {event!r} deletes all of its messages; confirm it with confirm={event}",
            )
        self._see_that_it_is_not_in_the_file(event, f"the event {event!r}")
        for actor in self._roster.actors_of(event):
            await self._roster.forget_actor(event, actor)
        self._roster.forget_event(event)
        stream = stream_name(event)
        with explained(f"there is no stream of the event {event!r} in NATS", Reason.UNKNOWN_EVENT):
            consumers = await inspection.consumers(self._jetstream, stream) or []
            await inspection.delete_stream(self._jetstream, stream)
            for consumer in consumers:
                await self._route.remove(stream, consumer.name)
            await self._schedules.remove(stream)
            await self._clocks.remove(stream)
        _log.warning("deleted an event", event_name=event)

    def _see_that_it_is_not_in_the_file(self, name: str | tuple[str, str], what: str) -> None:
        if self._roster.is_from_file(name):
            raise Refusal(
                Reason.CONFLICT, f"the config file declares {what}; take it out of the file and reload, then delete it"
            )


def _check_names(event: str, actor: str | None = None) -> None:
    try:
        check_event_name(event)
        if actor is not None:
            check_actor_name(actor)
    except ValueError as error:
        raise Refusal(Reason.INVALID_NAME, str(error)) from None
