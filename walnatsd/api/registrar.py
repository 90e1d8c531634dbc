"""Registering declarations in NATS, however long that takes, while emits wait for the actors of their event."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from walnatsd.broker import registration
from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import ApiError, BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.registration import Registered
from walnatsd.config.settings import Manage
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0

_log = structlog.get_logger("walnatsd.roster")


class Registrar:
    """Brings streams and consumers to what is declared. What stands in the way is a health problem meanwhile."""

    def __init__(
        self, connection: Connection, jetstream: JetStream, manage: Manage, *, health: Health, metrics: Metrics
    ) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._manage = manage
        self._health = health
        self._metrics = metrics
        self._holding: dict[str, set[str]] = {}
        self._gates: dict[str, asyncio.Event] = {}

    # ---- emits wait

    def find_gate(self, event: str) -> asyncio.Event | None:
        """Find what the emits of an event must wait for; None where they need not.

        JetStream acknowledges a message that nobody is interested in, and does not keep it. So nothing is emitted before
        the event's actors are registered, or were refused.
        """
        return self._gates.get(event)

    def hold_emits(self, event: str, part: str) -> None:
        """Let no emit of an event pass until this part of it is registered."""
        self._holding.setdefault(event, set()).add(part)
        self._gates.setdefault(event, asyncio.Event())

    def let_emits(self, event: str, part: str) -> None:
        """Let emits pass, unless another part of the event is not registered yet."""
        if holding := self._holding.get(event):
            holding.discard(part)
            if not holding:
                del self._holding[event]
                self._gates.pop(event).set()

    def forget(self, event: str, part: str) -> None:
        """Forget a part of an event that is declared no more."""
        self._health.clear(part)
        self.let_emits(event, part)

    # ---- registering

    async def check(self, events: Iterable[Event], actors: Iterable[Actor]) -> list[str]:
        """See what NATS would not accept of these declarations; nothing is written. Raises BrokerError."""
        problems = []
        for event in events:
            try:
                await registration.register_event(self._jetstream, event, self._manage, dry_run=True)
            except Refusal as refusal:
                problems.append(f"{part_of_event(event.name)}: {refusal.message}")
        for actor in actors:
            try:
                await registration.register_actor(self._jetstream, actor, self._manage, dry_run=True)
            except Refusal as refusal:
                problems.append(f"{part_of(actor)}: {refusal.message}")
        return problems

    async def register_event(self, event: Event) -> None:
        """Register an event, however often that takes."""
        await self._until_registered(event.name, part_of_event(event.name), lambda: self.write_event(event))

    async def register_actor(self, actor: Actor) -> Registered:
        """Register an actor, however often that takes."""
        return await self._until_registered(actor.event, part_of(actor), lambda: self.write_actor(actor))

    async def write_event(self, event: Event) -> Registered:
        """Register an event once; raises Refusal and BrokerError."""
        registered = await registration.register_event(self._jetstream, event, self._manage)
        self.report("event", event.name, "", registered)
        return registered

    async def write_actor(self, actor: Actor) -> Registered:
        """Register an actor once; raises Refusal and BrokerError."""
        registered = await registration.register_actor(self._jetstream, actor, self._manage)
        self.report("actor", actor.event, actor.name, registered)
        return registered

    def report(self, kind: str, event: str, actor: str, registered: Registered) -> None:
        """Say what a registration did and what it left different."""
        self._metrics.drift(kind, event, actor).set(len(registered.drift))
        names = {"event_name": event, "actor": actor} if actor else {"event_name": event}
        if registered.created:
            _log.info(f"created the {kind} in NATS", **names)
        if registered.updated:
            _log.info(f"updated the {kind} in NATS", **names, keys=list(registered.updated))
        for difference in registered.drift:
            _log.warning(f"the {kind} in NATS differs from its declaration", **names, difference=difference)

    async def _until_registered(
        self, event: str, part: str, register: Callable[[], Awaitable[Registered]]
    ) -> Registered:
        """Register, again and again. What stands in the way is a health problem until it is gone.

        The event's emits wait meanwhile, but not for what is refused.
        """
        self.hold_emits(event, part)
        try:
            return await self._try_to_register(event, part, register)
        finally:
            self.let_emits(event, part)

    async def _try_to_register(
        self, event: str, part: str, register: Callable[[], Awaitable[Registered]]
    ) -> Registered:
        pause_s = FIRST_PAUSE_S
        while True:
            self._health.set_problem(part, "not registered in NATS yet")
            await self._connection.wait_connected()
            try:
                registered = await register()
            except (Refusal, BrokerError) as error:
                self._health.set_problem(part, str(error))
                _log.error("can't register; trying again", part=part, why=str(error), after_s=pause_s)
                if isinstance(error, Refusal):
                    self.let_emits(event, part)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._health.clear(part)
                return registered


async def once(registration: Awaitable[Registered]) -> Registered:
    """Register for a caller who waits; what NATS answers becomes a refusal."""
    try:
        return await registration
    except ApiError as error:
        raise Refusal(Reason.CONFLICT, str(error)) from None
    except BrokerError as error:
        raise Refusal(Reason.NATS_UNAVAILABLE, str(error), retry_after_s=1.0) from None


def part_of_event(name: str) -> str:
    """Name an event as a part of the daemon that may have a problem."""
    return f"event {name}"


def part_of(actor: Actor) -> str:
    """The same of an actor."""
    return part_of_actor(actor.event, actor.name)


def part_of_actor(event: str, name: str) -> str:
    """The same of an actor that is known by its names."""
    return f"actor {name} of {event}"
