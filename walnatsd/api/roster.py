"""The roster: which events and actors there are, and the only one who starts and stops actors."""

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import structlog

from walnatsd.broker import pauses
from walnatsd.broker.errors import ApiError, BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.registration import Registered, register_actor, register_event
from walnatsd.config.settings import Manage
from walnatsd.dispatch.actor_loop import ActorLoop, Equipment
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0

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
        self._manage = manage
        self._sidecar = sidecar
        self._equip = equip
        self._health = health
        self._metrics = metrics
        self._events: dict[str, Event] = {}
        self._from_file: set[str | tuple[str, str]] = set()
        self._actors: dict[tuple[str, str], ActorLoop] = {}
        self._stopping = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the actors while the body runs."""
        async with asyncio.TaskGroup() as self._tasks:
            yield

    # ---- what there is

    def find_event(self, name: str) -> Event | None:
        """Find a declared event."""
        return self._events.get(name)

    # ---- from the config file

    def declare(self, events: Iterable[Event]) -> None:
        """Take the events of the config file in, so that emits know them before NATS is there."""
        for event in events:
            self._events[event.name] = event
            self._from_file.add(event.name)

    async def register_file(self, events: Iterable[Event], actors: Iterable[Actor]) -> None:
        """Register what the config file declares, however often that takes, and start the actors."""
        events, actors = list(events), list(actors)
        await _all(
            self._until_registered(f"event {event.name}", functools.partial(self._write_event, event))
            for event in events
        )
        await _all(self._bring_up(actor) for actor in actors)

    async def _bring_up(self, actor: Actor) -> None:
        self._from_file.add((actor.event, actor.name))
        await self._until_registered(_part(actor), lambda: self._write_actor(actor))
        self._start(actor)

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
        registered = await _once(self._write_event(event))
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
        registered = await _once(self._write_actor(actor))
        running = self._actors.get(key)
        if running is not None and running.actor != actor:
            await self._end(running)
        self._start(actor)
        return registered

    # ---- both

    async def _write_event(self, event: Event) -> Registered:
        registered = await register_event(self._jetstream, event, self._manage)
        self._report("event", event.name, "", registered)
        return registered

    async def _write_actor(self, actor: Actor) -> Registered:
        registered = await register_actor(self._jetstream, actor, self._manage)
        self._report("actor", actor.event, actor.name, registered)
        return registered

    def _report(self, kind: str, event: str, actor: str, registered: Registered) -> None:
        self._metrics.drift(kind, event, actor).set(len(registered.drift))
        names = {"event_name": event, "actor": actor} if actor else {"event_name": event}
        if registered.created:
            _log.info(f"created the {kind} in NATS", **names)
        if registered.updated:
            _log.info(f"updated the {kind} in NATS", **names, keys=list(registered.updated))
        for difference in registered.drift:
            _log.warning(f"the {kind} in NATS differs from its declaration", **names, difference=difference)

    async def _until_registered(self, part: str, register: Callable[[], Awaitable[Registered]]) -> None:
        """Register, again and again. What stands in the way is a health problem until it is gone."""
        pause_s = FIRST_PAUSE_S
        while True:
            self._health.set_problem(part, "not registered in NATS yet")
            await self._sidecar.connection.wait_connected()
            try:
                await register()
            except (Refusal, BrokerError) as error:
                self._health.set_problem(part, str(error))
                _log.error("can't register; trying again", part=part, why=str(error), after_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._health.clear(part)
                return

    # ---- actors

    def _start(self, actor: Actor) -> None:
        key = (actor.event, actor.name)
        if key in self._actors or self._stopping:
            return
        loop = ActorLoop(
            actor,
            self._equip(actor, self._events[actor.event]),
            self._sidecar,
            pause=lambda reason: self._pause(actor, reason),
            restore=lambda reason: self._restore(actor, reason),
        )
        self._actors[key] = loop
        self._tasks.create_task(loop.run(), name=f"actors/{actor.event}/{actor.name}")

    async def _end(self, loop: ActorLoop) -> None:
        await loop.stop(loop.actor.job_timeout)
        self._actors.pop((loop.actor.event, loop.actor.name), None)

    async def _restore(self, actor: Actor, reason: str) -> None:
        """Register an actor and its event again after somebody else deleted them."""
        _log.error(
            "somebody deleted the actor's consumer; registering it again",
            event=actor.event,
            actor=actor.name,
            why=reason,
        )
        event = self._events[actor.event]
        await self._until_registered(f"event {event.name}", lambda: self._write_event(event))
        await self._until_registered(_part(actor), lambda: self._write_actor(actor))

    async def _pause(self, actor: Actor, reason: str) -> bool:
        """Pause an actor for all sidecars; False where the server can't."""
        until = dt.datetime.now(dt.UTC) + pauses.FOR_EVER
        try:
            if await pauses.pause(self._jetstream, actor.stream, actor.name, until):
                return True
            why = "the server is older than 2.11"
        except BrokerError as error:
            why = str(error)
        _log.error(
            "can't pause the consumer; the actor is paused in this sidecar only, until it is started again",
            event_name=actor.event, actor=actor.name, reason=reason, why=why,
        )  # fmt: skip
        return False

    async def stop(self, timeout_s: float) -> None:
        """Stop all actors: pulls end, deliveries finish within `timeout_s` seconds or are handed back."""
        self._stopping = True
        await _all(loop.stop(timeout_s) for loop in self._actors.values())
        self._actors.clear()


async def _once(registration: Awaitable[Registered]) -> Registered:
    try:
        return await registration
    except ApiError as error:
        raise Refusal(Reason.CONFLICT, str(error)) from None
    except BrokerError as error:
        raise Refusal(Reason.NATS_UNAVAILABLE, str(error), retry_after_s=1.0) from None


async def _all(work: Iterable[Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)  # type: ignore[arg-type]


def _part(actor: Actor) -> str:
    return f"actor {actor.name} of {actor.event}"
