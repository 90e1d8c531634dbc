"""The in-memory connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Never, TypeVar, cast

import grpc

from walnatsd_client._actor import Actor, BatchActor
from walnatsd_client._connection import Connection
from walnatsd_client._errors import UnknownActorError
from walnatsd_client._event import Event
from walnatsd_client.testing._actors import Actors
from walnatsd_client.testing._batches import one_by_one
from walnatsd_client.testing._channel import MemoryChannel
from walnatsd_client.testing._clock import Clock
from walnatsd_client.testing._events import Events
from walnatsd_client.testing._refusal import Refusal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Emitted(Generic[T]):
    """A message that was emitted."""

    message: T
    """The message."""
    uid: str
    """The uid it was stored under."""
    sequence: int
    """Its position in the stream; 0 where it was delayed."""
    duplicate: bool
    """The uid was stored before; nothing was stored now."""
    trace_id: str
    """Empty where none was given."""
    headers: Mapping[str, str]
    """The headers, those of `meta` among them."""
    delay: float | None
    """As given, in seconds."""
    deliver_at: datetime | None
    """As given."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that an actor gave up."""

    event: str
    """Name of the event."""
    actor: str
    """Name of the actor."""
    payload: bytes
    """The payload; `actor.event.decode` reads it, if it is of the event's schema."""
    uid: str
    """The message's uid."""
    reason: str
    """Why."""
    attempts: int
    """How often it was tried."""
    headers: Mapping[str, str]
    """The message's headers."""


class _Sidecar:
    """A sidecar and its NATS, in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.events = Events(self.clock, self._change)
        self.actors = Actors(self.events.find_consumer, self.events.declare_actor)
        self._changed = asyncio.Event()

    def _change(self) -> None:
        self._changed.set()

    async def until_served(self, actors: tuple[Actor[Any], ...]) -> None:
        consumers = [self.events.find_consumer(actor.event.name, actor.name) for actor in actors]
        await self._until(lambda: all(consumer.sessions for consumer in consumers))

    async def settle(self) -> None:
        streams = self.events.streams
        await self._until(lambda: not any(c.is_busy for s in streams.values() for c in s.consumers.values()))

    async def _until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    async def advance(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        try:
            await self.settle()
            while (due := self.clock.next_due()) is not None and due <= end:
                self.clock.turn_to(due)
                await self.settle()
            self.clock.turn_to(end)
        finally:
            self.clock.run()
        await self.settle()


class MemoryConnection(Connection):
    """A connection to a sidecar in memory, made by `connect`. What `Connection` does, it does in the same way."""

    def __init__(self, sidecar: _Sidecar, channel: MemoryChannel) -> None:
        """Connect.

        Args:
            sidecar: What it is connected to.
            channel: What leads there.
        """
        super().__init__(cast("grpc.aio.Channel", channel))
        self._sidecar = sidecar

    def emitted(self, event: Event[T]) -> tuple[Emitted[T], ...]:
        """Give what was emitted, refusals apart, in order.

        Raises:
            ValueError: Something was emitted that is not of the event's schema.
        """
        stream = self._sidecar.events.streams.get(event.name)
        return tuple(_emitted(event, each.request, each.response) for each in stream.emitted) if stream else ()

    def dead_letters(self, actor: Actor[Any]) -> tuple[DeadLetter, ...]:
        """Give the dead letters of an actor, in order.

        Raises:
            UnknownActorError: The actor is not registered.
        """
        try:
            consumer = self._sidecar.events.find_consumer(actor.event.name, actor.name)
        except Refusal as refusal:
            raise UnknownActorError(refusal.message, refusal.reason) from None
        return tuple(
            DeadLetter(
                event=letter.stored.request.event,
                actor=letter.actor,
                payload=letter.stored.request.payload,
                uid=letter.stored.uid,
                reason=letter.reason,
                attempts=letter.attempts,
                headers=dict(letter.stored.request.headers),
            )
            for letter in consumer.letters
        )

    async def settle(self) -> None:
        """Wait until no handler runs, and none would be called without more time passing.

        Messages of actors that nobody serves are not waited for.
        """
        await self._sidecar.settle()

    async def advance(self, seconds: float) -> None:
        """Let time pass: delays and waits for another attempt end, in their order, and what they set off is waited for.

        Only the sidecar's time; `asyncio.sleep` in a handler takes what it takes.
        """
        await self._sidecar.advance(seconds)


@asynccontextmanager
async def connect(*actors: Actor[Any]) -> AsyncIterator[MemoryConnection]:
    """Open a connection to a sidecar in memory that is there as long as the connection.

    Args:
        actors: Registered and served from the beginning to the end, those with a `url` and batch actors, too. Messages
            that are there at the same time make a batch.

    Raises:
        ValueError: An actor is given twice.
        WalnatsdError: As `register`.
    """
    sidecar = _Sidecar()
    channel = MemoryChannel(Events=sidecar.events, Actors=sidecar.actors)
    connection = MemoryConnection(sidecar, channel)
    served = [one_by_one(actor) if isinstance(actor, BatchActor) else actor for actor in actors]
    sidecar.actors.served.update((actor.event.name, actor.name) for actor in actors)
    listening: asyncio.Task[Never] | None = None
    try:
        if actors:
            await connection.register(*actors)
            listening = asyncio.create_task(connection.listen(*served), name="testing/listen")
            await _begun(listening, sidecar.until_served(actors))
        yield connection
    finally:
        if listening is not None:
            listening.cancel()
            await asyncio.wait((listening,))
        await connection._gathering.close()  # noqa: SLF001 - ours
        sidecar.clock.close()
        await channel.close()


async def _begun(listening: "asyncio.Task[Never]", served: Coroutine[Any, Any, None]) -> None:
    """Wait until the actors are served; raise what ends the listening before."""
    serving = asyncio.create_task(served, name="testing/served")
    try:
        await asyncio.wait((listening, serving), return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            await listening
    finally:
        serving.cancel()
        await asyncio.wait((serving,))


def _emitted(event: Event[T], request: Any, response: Any) -> Emitted[T]:
    return Emitted(
        message=event.decode(request.payload),
        uid=response.uid,
        sequence=response.sequence,
        duplicate=response.duplicate,
        trace_id=request.trace_id,
        headers=dict(request.headers),
        delay=request.delay.ToNanoseconds() / 1e9 if request.HasField("delay") else None,
        deliver_at=request.deliver_at.ToDatetime(UTC) if request.HasField("deliver_at") else None,
    )
