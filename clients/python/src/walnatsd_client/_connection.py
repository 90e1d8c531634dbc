"""The connection to a sidecar: declare and emit."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Never, TypeVar

import grpc

from walnatsd_client._actor import Actor
from walnatsd_client._call import call
from walnatsd_client._cloud_event import CloudEvent
from walnatsd_client._declarations import actor_message, event_message
from walnatsd_client._emit_request import emit_request
from walnatsd_client._event import Event, EventWithResponse
from walnatsd_client._gathering import Gathering
from walnatsd_client._listen import listen_for_ever, side_by_side
from walnatsd_client._monitor import Feed, watching
from walnatsd_client._proto import actors_pb2, actors_pb2_grpc, events_pb2, events_pb2_grpc
from walnatsd_client._registrations import Registrations
from walnatsd_client._request import request
from walnatsd_client._tls import Tls
from walnatsd_client._token import token_or_default, with_token

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_TARGET = "127.0.0.1:7520"
DEFAULT_TIMEOUT_S = 15.0
DEFAULT_REQUEST_TIMEOUT_S = 4.0

_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # http_proxy is for the world outside; a sidecar is next door
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a restarted sidecar is found again within a second
    ("grpc.max_receive_message_length", -1),  # the sidecar passes on what NATS takes, which may be more than 4 MiB
    # a connection that is dead without a word is noticed by pings; the sidecar allows them every 5 s
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # else a minute, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class Receipt(NamedTuple):  # one is made for each emit, at a quarter of the price of a frozen dataclass
    """What became of an emitted message."""

    uid: str
    """The uid it was stored under."""
    stream: str
    """Name of the stream."""
    sequence: int
    """Position in the stream; 0 where it has none yet."""
    duplicate: bool
    """The uid was stored before, within the duplicate window; nothing was stored now."""
    scheduled: bool
    """Stored, and handed to actors later."""
    spooled: bool
    """NATS is away; stored on the sidecar's disk."""


_receipt: Callable[[tuple[str, str, int, bool, bool, bool]], Receipt] = partial(tuple.__new__, Receipt)
"""What `Receipt(…)` does, without a call of a function in Python."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a declaration."""

    declaration: Event[Any] | Actor[Any]
    """The declaration."""
    created: bool
    """The stream or consumer was created now."""
    updated: tuple[str, ...]
    """Options that were changed now, like `limits.age`."""
    drift: tuple[str, ...]
    """What differs from the declaration and was not written, with the reason."""


class Connection:
    """A connection to a sidecar, made by `connect`. May be used by any number of tasks at once."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None = None) -> None:
        self._channel = channel
        calling = with_token(channel, token)
        self._events = events_pb2_grpc.EventsStub(calling)
        self._actors = actors_pb2_grpc.ActorsStub(calling)
        self._registrations = Registrations(self.register)
        self._gathering = Gathering(channel, calling)

    async def register(
        self,
        *declarations: Event[Any] | Actor[Any],
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - the budget of all tries, told to the sidecar too
    ) -> tuple[Registered, ...]:
        """Declare events and actors: create what is missing, update what differs, start the actors.

        The event of an actor is declared with it. Declarations live until the sidecar stops; one of the same name in
        the sidecar's file wins.

        Args:
            declarations: Events and actors.
            timeout: How long to try if the sidecar or NATS is away, in seconds.

        Returns:
            One entry per event, then one per actor.

        Raises:
            ValueError: Two declarations of one event differ.
            InvalidError: The sidecar doesn't accept a declaration.
            ConflictError: A declaration can't be met by what is there in NATS.
            UnavailableError: NATS or the sidecar didn't answer in time.
            WalnatsdError: Anything else.
        """
        actors = [declaration for declaration in declarations if isinstance(declaration, Actor)]
        events = _distinct([d.event if isinstance(d, Actor) else d for d in declarations])
        answer = await call(
            self._channel,
            self._events.Register,
            events_pb2.RegisterEventsRequest(events=map(event_message, events)),
            timeout_s=timeout,
        )
        registered = [_registered(*pair) for pair in zip(events, answer.events, strict=True)]
        if actors:
            actors_answer = await call(
                self._channel,
                self._actors.Register,
                actors_pb2.RegisterActorsRequest(actors=map(actor_message, actors)),
                timeout_s=timeout,
            )
            registered += [_registered(*pair) for pair in zip(actors, actors_answer.actors, strict=True)]
        self._registrations.note(declarations)
        return tuple(registered)

    async def emit(
        self,
        event: Event[T],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        delay: float | None = None,
        deliver_at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        meta: CloudEvent | None = None,
        expected_last_sequence: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - as above
    ) -> Receipt:
        """Store a message; returns once NATS has it.

        Where the connection to the sidecar is lost, it is emitted again under the same uid, so it is stored once.

        Args:
            event: A declared event.
            message: What to store, of the event's schema.
            uid: Deduplication id, 1 to 256 visible ASCII characters or spaces. None: `<ce-source> <ce-id>` where `meta`
                or the headers have both, else a new one.
            trace_id: Handed to the actors.
            delay: Hand it to actors after this many seconds.
            deliver_at: Hand it to actors at this time, with a time zone.
            headers: `traceparent`, `tracestate`, CloudEvents attributes (`ce-…`) and your own.
            meta: CloudEvents attributes.
            expected_last_sequence: Store it only if this is the sequence of the stream's last message.
            timeout: How long to try, in seconds.

        Raises:
            ValueError: `delay` and `deliver_at` are both given, `deliver_at` has no time zone, or an attribute stands in
                `headers` and in `meta`.
            InvalidError: The sidecar doesn't accept the payload, a header, the uid or the time.
            UnknownEventError: The event is not declared.
            ConflictError: Another sequence than expected, or too few actors.
            CapacityError: The event is full and refuses, or the sidecar is busy.
            UnavailableError: NATS or the sidecar didn't answer in time; `maybe_stored` and `uid` tell how to go on.
            WalnatsdError: Anything else.
        """
        uid, wire = emit_request(
            event,
            message,
            uid=uid,
            trace_id=trace_id,
            headers=headers,
            meta=meta,
            expected_last_sequence=expected_last_sequence,
            delay=delay,
            deliver_at=deliver_at,
        )
        answer = await self._gathering.emit(event.name, uid, wire, timeout)
        return _receipt(
            (answer.uid, answer.stream, answer.sequence, answer.duplicate, answer.scheduled, answer.spooled)
        )

    async def request(
        self,
        event: EventWithResponse[T, R],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        meta: CloudEvent | None = None,
        expected_last_sequence: int | None = None,
        timeout: float = DEFAULT_REQUEST_TIMEOUT_S,  # noqa: ASYNC109 - as above
    ) -> R:
        """Store a message and wait for what the first responding actor answers.

        Nothing stores answers. Where this ends without one, the message may be stored and handled all the same.

        Args:
            event: A declared event, made by `Event.with_response`.
            message: What to store, of the event's schema.
            uid: As of `emit`. A message that is stored already is not asked again.
            trace_id: Handed to the actors.
            headers: As of `emit`.
            meta: As of `emit`.
            expected_last_sequence: As of `emit`.
            timeout: How long storing and waiting may take, in seconds.

        Returns:
            The answer, of the event's response schema.

        Raises:
            NoResponseError: Nobody answered in time.
            DeadLetterError: The actor gave the message up.
            ConflictError: The event has no actor (`NO_ACTORS`), or a message of this uid was there before (`DUPLICATE`).
            CapacityError: The answer is larger than NATS takes (`RESPONSE_TOO_LARGE`), or as of `emit`.
            UnavailableError: NATS or the sidecar didn't answer in time, or the connection to the sidecar broke while the
                answer was awaited; `maybe_stored` and `uid` tell how to go on.
            ValueError: The answer is not of the response's schema.
            WalnatsdError: Anything else, as of `emit`.
        """
        uid, wire = emit_request(
            event,
            message,
            uid=uid,
            trace_id=trace_id,
            headers=headers,
            meta=meta,
            expected_last_sequence=expected_last_sequence,
        )
        return await request(self._channel, self._events.Call, event, uid, wire, timeout)

    def monitor(self, *events: Event[T]) -> AbstractAsyncContextManager[Feed[T]]:
        """Watch what is emitted as some events, as it is emitted.

        ```python
        async with conn.monitor(COUNT) as feed:  # from here on, everything is seen
            async for seen in feed:
                print(seen.uid, seen.message)
        ```

        It is a live feed: nothing is stored for it, and what is seen is published, not necessarily stored: duplicates are
        seen too, and what is emitted while NATS or the sidecar is away is not. Where the connection to the sidecar is
        lost, the feed goes on once it is back.

        Args:
            events: Declared events, at least one.

        Raises:
            ValueError: No event is given.
            UnknownEventError: An event is not declared.
            CapacityError: This end does not keep up (`NOT_READING`, while iterating), or too many watch (`BUSY`).
            UnavailableError: The sidecar has no connection to NATS (at the beginning), or this connection was closed here.
            WalnatsdError: Anything else.
        """
        if not events:
            raise ValueError("give one or more events")
        return watching(self._events, events, self._registrations)

    async def listen(self, *actors: Actor[Any], max_in_flight: int = 0) -> Never:
        """Handle the messages of actors until cancelled, over the connection to the sidecar.

        The actors must have been declared without `url`. Where the connection is lost, or the sidecar restarts, it is
        made again for ever, and what was registered on this connection is registered again where the sidecar has
        forgotten it.

        | what happens | what the sidecar makes of it |
        |---|---|
        | the handler returns | done |
        | it raises `Reject`, or the payload is not of the event's schema | dead letter |
        | it raises `Retry` or anything else (logged here, not told) | another attempt |
        | it is not done within the actor's `job_timeout`; it is cancelled then | another attempt |
        | the connection is lost meanwhile; it is cancelled | another attempt at once, by whoever listens; none counted |

        A handler in a thread can't be cancelled: it goes on, and what it returns is ignored.

        When cancelled, it takes nothing more, lets handlers finish, and sees that the sidecar knows of it. When cancelled
        once more, it ends at once.

        Args:
            actors: What to serve.
            max_in_flight: How many messages of each actor are handled here at once. 0: the actor's `max_jobs`.

        Raises:
            ValueError: No actor is given, or one twice, or `max_in_flight` is negative.
            UnknownActorError: An actor is not declared.
            ConflictError: An actor is declared with a webhook.
            UnavailableError: This connection was closed.
            WalnatsdError: The sidecar refuses for another reason.
        """
        names = {(actor.event.name, actor.name) for actor in actors}
        if not actors or len(names) < len(actors):
            raise ValueError("give one or more different actors")
        if max_in_flight < 0:
            raise ValueError(f"max_in_flight is {max_in_flight}; it must be positive, or 0 for the actor's max_jobs")
        await side_by_side(
            [listen_for_ever(self._actors, actor, self._registrations, max_in_flight=max_in_flight) for actor in actors]
        )


@asynccontextmanager
async def connect(
    target: str = DEFAULT_TARGET, *, token: str | None = None, tls: Tls | None = None
) -> AsyncIterator[Connection]:
    """Open a connection to a sidecar.

    It is made on the first call and made again whenever it is lost, so the sidecar may start after its service.

    Args:
        target: Host and port, or a socket as `unix:/run/walnatsd/grpc.sock`.
        token: One of the sidecar's `auth.tokens`, sent with every call. None: what the environment variable
            `WALNATSD_TOKEN` holds, if it is set. Emitting needs the scope `emit`; registering actors, listening and
            watching `act`.
        tls: Speak TLS, with these certificates. None: the sidecar has none.

    Raises:
        ValueError: The token has characters that can't be sent, or a file of `tls` can't be used.
    """
    token = token_or_default(token)
    async with _channel(target, tls) as channel:
        connection = Connection(channel, token)
        try:
            yield connection
        finally:
            await connection._gathering.close()  # noqa: SLF001 - ours


def _channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, tls.credentials(), options=[*_CHANNEL_OPTIONS, *tls.options])


def _distinct(events: list[Event[Any]]) -> list[Event[Any]]:
    by_name: dict[str, Event[Any]] = {}
    for event in events:
        if by_name.setdefault(event.name, event) != event:
            raise ValueError(f"two declarations of the event {event.name} differ")
    return list(by_name.values())


def _registered(
    declaration: Event[Any] | Actor[Any], answer: events_pb2.RegisteredEvent | actors_pb2.RegisteredActor
) -> Registered:
    return Registered(declaration, answer.created, tuple(answer.updated), tuple(answer.drift))
