"""The roster: which events and actors there are, and the only one who starts and stops actors."""

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import structlog

from walnatsd.api.registrar import Registrar, once, part_of, part_of_actor, part_of_event
from walnatsd.broker import pauses
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.registration import Registered
from walnatsd.config.settings import Manage
from walnatsd.dispatch.actor_loop import ActorLoop, Equipment
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.listeners.listeners import Listeners
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

HAND_BACK_S = 2.0

Key = tuple[str, str]
"""An actor: the name of its event and its own."""
Equip = Callable[[Actor, Event], Equipment]
"""Gives what the loop of an actor works with."""

_log = structlog.get_logger("walnatsd.roster")


class Roster:
    """Declared events and actors. Used as `async with`; leaving it without `stop` ends the actors at once."""

    def __init__(
        self,
        jetstream: JetStream,
        manage: Manage,
        sidecar: Sidecar,
        equip: Equip,
        *,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self._jetstream = jetstream
        self._sidecar = sidecar
        self._equip = equip
        self._registrar = Registrar(sidecar.connection, jetstream, manage, health=health, metrics=metrics)
        self._events: dict[str, Event] = {}
        self._from_file: set[str | Key] = set()
        self._actors: dict[Key, ActorLoop] = {}
        self._actors_of: dict[str, dict[str, ActorLoop]] = {}
        """The same by event, then by name."""
        self._restoring: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the actors while the body runs."""
        async with asyncio.TaskGroup() as self._tasks:
            yield

    @property
    def registrar(self) -> Registrar:
        """Registers what is declared."""
        return self._registrar

    # ---- what there is

    def find_event(self, name: str) -> Event | None:
        """Find a declared event."""
        return self._events.get(name)

    @property
    def events(self) -> Mapping[str, Event]:
        """The declared events by name."""
        return self._events

    @property
    def actors(self) -> Mapping[Key, ActorLoop]:
        """The running actors by event and name."""
        return self._actors

    def actors_of(self, event: str) -> Mapping[str, ActorLoop]:
        """The running actors of an event by name, as they are now."""
        return dict(self._actors_of.get(event, {}))

    def acts_on(self, event: str) -> bool:
        """Whether an actor of this event runs here."""
        return event in self._actors_of

    @property
    def is_stopping(self) -> bool:
        """Whether all actors stop, or have stopped."""
        return self._stopping

    def is_from_file(self, name: str | Key) -> bool:
        """Whether the config file declares this event, or this actor."""
        return name in self._from_file

    # ---- from the config file

    def declare(
        self, events: Iterable[Event], actors: Iterable[Actor], *, changed: Collection[Event | Actor] | None = None
    ) -> None:
        """Take what the config file declares in: emits and listeners know it before NATS is there.

        Args:
            events: The file's.
            actors: The file's.
            changed: Those of them that are to be registered; all where None.
        """
        for event in events:
            self._events[event.name] = event
            self._from_file.add(event.name)
            if changed is None or event in changed:
                self._registrar.hold_emits(event.name, part_of_event(event.name))
        for actor in actors:
            self._from_file.add((actor.event, actor.name))
            if changed is None or actor in changed:
                self._registrar.hold_emits(actor.event, part_of(actor))

    async def replace(
        self, events: Sequence[Event], actors: Sequence[Actor], *, changed: Collection[Event | Actor]
    ) -> None:
        """Make these the declarations of the config file.

        Actors that are gone stop, those that changed start anew, each after its deliveries in flight are settled; their
        consumers stay. What came over gRPC stays too, unless the file declares it now.

        Args:
            events: All of the file's.
            actors: All of the file's.
            changed: Those of them that are new or not as they were.
        """
        wanted: set[str | Key] = {event.name for event in events} | {(actor.event, actor.name) for actor in actors}
        gone = [name for name in self._from_file if name not in wanted]
        restarted = [(actor.event, actor.name) for actor in actors if actor in changed]
        ending = [(self._actors[key], _gone(*key)) for key in self._actors if key in gone]
        ending += [(self._actors[key], _replaced(*key)) for key in self._actors if key in restarted]
        await _all(self._end(loop, why) for loop, why in ending)
        for name in gone:
            self._from_file.discard(name)
            if isinstance(name, str) and not self.acts_on(name):
                self._events.pop(name, None)  # otherwise an actor that came over gRPC still needs it
            part = part_of_event(name) if isinstance(name, str) else part_of_actor(*name)
            self._registrar.forget(name if isinstance(name, str) else name[0], part)
        self.declare(events, actors, changed=changed)
        await self.register_file(
            [event for event in events if event in changed], [actor for actor in actors if actor in changed]
        )

    async def forget_actor(self, event: str, name: str) -> None:
        """Stop an actor that came over gRPC, after its deliveries in flight are settled."""
        if loop := self._actors.get((event, name)):
            await self._end(loop, _gone(event, name))

    def forget_event(self, name: str) -> None:
        """Forget an event that came over gRPC."""
        self._events.pop(name, None)

    async def register_file(self, events: Iterable[Event], actors: Iterable[Actor]) -> None:
        """Register what the config file declares, however often that takes, and start the actors."""
        events, actors = list(events), list(actors)
        names = {event.name for event in events}
        await _all(
            [
                *(self._bring_up_event(event, [a for a in actors if a.event == event.name]) for event in events),
                *(self._bring_up(actor) for actor in actors if actor.event not in names),
            ]
        )

    async def _bring_up_event(self, event: Event, actors: Iterable[Actor]) -> None:
        """Register an event, then its actors. Those of other events don't wait for it."""
        await self._registrar.register_event(event)
        await _all(self._bring_up(actor) for actor in actors)

    async def _bring_up(self, actor: Actor) -> None:
        registered = await self._registrar.register_actor(actor)
        self._start(actor, registered)

    # ---- over gRPC

    async def register_event(self, event: Event) -> Registered:
        """Register an event until the daemon stops. An entry of that name in the config file wins.

        Raises:
            Refusal: It conflicts with what is there, or NATS is not available.
        """
        if event.name in self._from_file:
            return Registered(drift=("the config file declares this event; the registration changed nothing",))
        for other in self._events.values():
            if other.stream == event.stream and other.name != event.name:
                raise Refusal(
                    Reason.CONFLICT,
                    f"{event.name!r} and {other.name!r} map to one stream, {event.stream!r}; rename one",
                )
        registered = await once(self._registrar.write_event(event))
        self._events[event.name] = event
        return registered

    async def register_actor(self, actor: Actor) -> Registered:
        """Register an actor until the daemon stops, and start it. An entry of that name in the config file wins.

        Raises:
            Refusal: Its event is not declared, it conflicts with what is there, or NATS is not available.
        """
        key = (actor.event, actor.name)
        if key in self._from_file:
            return Registered(drift=("the config file declares this actor; the registration changed nothing",))
        if actor.event not in self._events:
            raise Refusal(Reason.UNKNOWN_EVENT, f"the event {actor.event!r} is not declared; register it first")
        registered = await once(self._registrar.write_actor(actor))
        running = self._actors.get(key)
        if running is not None and running.actor != actor:
            await self._end(running, _replaced(*key))
        self._start(actor, registered)
        return registered

    # ---- actors

    def _start(self, actor: Actor, registered: Registered) -> None:
        key = (actor.event, actor.name)
        if key in self._actors or self._stopping:
            return
        loop = ActorLoop(
            actor,
            self._equip(actor, self._events[actor.event]),
            self._sidecar,
            pause=lambda reason: self._pause(actor, reason),
            restore=lambda reason: self.restore(actor, reason),
            pinned=registered.pinned,
        )
        if isinstance(loop.target, Listeners):
            loop.target.changed = loop.credit_changed
        self._actors[key] = loop
        self._actors_of.setdefault(actor.event, {})[actor.name] = loop
        self._tasks.create_task(loop.run(), name=f"actors/{actor.event}/{actor.name}")

    async def _end(self, loop: ActorLoop, why: Refusal) -> None:
        """Stop an actor. Its listeners may answer what they have; then their streams end with this status."""
        await loop.stop(loop.actor.job_timeout, hand_back_s=HAND_BACK_S)
        _end_listeners(loop, why)
        event, name = loop.actor.event, loop.actor.name
        if self._actors.pop((event, name), None) is not None:
            del self._actors_of[event][name]
            if not self._actors_of[event]:
                del self._actors_of[event]

    async def restore(self, actor: Actor, reason: str) -> None:
        """Register an actor and its event again after somebody else deleted or changed them."""
        _log.error(
            "somebody deleted or changed the actor's consumer; registering it again",
            event_name=actor.event,
            actor=actor.name,
            why=reason,
        )
        event = self._events[actor.event]
        self._registrar.hold_emits(event.name, part_of(actor))
        await self._registrar.register_event(event)
        await self._registrar.register_actor(actor)

    def restore_later(self, actor: Actor, reason: str) -> None:
        """Have `restore` done, unless it is under way."""
        self._once_at_a_time(part_of(actor), functools.partial(self.restore, actor, reason))

    def restore_event(self, event: Event, reason: str) -> None:
        """Have an event registered again, and its actors with it, unless that is under way."""
        self._once_at_a_time(part_of_event(event.name), functools.partial(self._restore_event, event, reason))

    def _once_at_a_time(self, part: str, restore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            try:
                await restore()
            finally:
                self._restoring.pop(part, None)

        if part not in self._restoring and not self._stopping:
            self._restoring[part] = self._tasks.create_task(run(), name=f"restore/{part}")

    async def _restore_event(self, event: Event, reason: str) -> None:
        _log.error("somebody deleted the event's stream; registering it again", event_name=event.name, why=reason)
        actors = [loop.actor for loop in self.actors_of(event.name).values()]
        for actor in actors:
            self._registrar.hold_emits(event.name, part_of(actor))
        await self._registrar.register_event(event)
        for actor in actors:
            await self._registrar.register_actor(actor)

    async def pause(self, event: str, name: str, reason: str, until: dt.datetime | None = None) -> bool:
        """Pause an actor: for all sidecars, until the given time or for ever.

        Returns:
            False where the server is too old for that, and the actor was paused in this sidecar only.

        Raises:
            BrokerError: NATS did not answer, or there is no such consumer.
        """
        until = until or dt.datetime.now(dt.UTC) + pauses.FOR_EVER
        everywhere = await pauses.pause(self._jetstream, stream_name(event), name, until, reason)
        if loop := self._actors.get((event, name)):
            if everywhere:
                loop.obey_pause()
            else:
                loop.pause_here(reason, (until - dt.datetime.now(dt.UTC)).total_seconds())
        return everywhere

    async def resume(self, event: str, name: str) -> bool:
        """Let a paused actor go on. Returns and raises as `pause`."""
        everywhere = await pauses.resume(self._jetstream, stream_name(event), name)
        if loop := self._actors.get((event, name)):
            loop.resume_here()
        return everywhere

    async def _pause(self, actor: Actor, reason: str) -> bool:
        """Pause an actor because of what it answered; False where only this sidecar can."""
        try:
            if await self.pause(actor.event, actor.name, reason):
                return True
            why = "the server is older than 2.11"
        except BrokerError as error:
            why = str(error)
        _log.error(
            "can't pause the consumer; the actor is paused in this sidecar only, until it is resumed or started again",
            event_name=actor.event, actor=actor.name, reason=reason, why=why,
        )  # fmt: skip
        return False

    async def drained(self) -> None:
        """Wait until no actor has anything left to do: nothing waits, nothing is unsettled."""
        at_once = False
        while not at_once:  # an actor's handler may have emitted for one that was drained before
            at_once = all([await loop.drained() for loop in list(self._actors.values())])

    async def stop(self, timeout_s: float, *, hand_back_s: float) -> None:
        """Stop all actors: pulls end, deliveries finish within `timeout_s` seconds.

        Those that did not are handed back, which takes `hand_back_s` seconds at most.
        """
        self._stopping = True
        for restoring in list(self._restoring.values()):  # it may be waiting for what never comes
            restoring.cancel()
        await _all(loop.stop(timeout_s, hand_back_s=hand_back_s) for loop in self._actors.values())
        for loop in self._actors.values():
            _end_listeners(loop, Refusal(Reason.STOPPING, "the daemon is stopping", retry_after_s=1.0))
        self._actors.clear()
        self._actors_of.clear()


async def _all(work: Iterable[Awaitable[object]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)  # type: ignore[arg-type]


def _end_listeners(loop: ActorLoop, why: Refusal) -> None:
    if isinstance(loop.target, Listeners):
        loop.target.end(why)


def _gone(event: str, name: str) -> Refusal:
    return Refusal(Reason.UNKNOWN_ACTOR, f"the actor {name!r} of {event!r} is not declared here any more")


def _replaced(event: str, name: str) -> Refusal:
    return Refusal(Reason.REPLACED, f"the actor {name!r} of {event!r} was declared anew; come again")
