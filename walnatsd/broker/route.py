"""The actor-only route: messages that are for one actor alone, because they were parked or are replayed.

A message that must wait long is parked: stored in the stream `walnatsd`, where it occupies nobody, and only then
acknowledged in the stream of its event. The server puts it on the route of its actor when it is due (a schedule,
nats-server 2.12). Older servers get it on the route at once, with the time until which nobody may handle it; the route's
consumer bounds nothing, so what waits there stands in nobody's way.

Most actors never have anything on their route. Its consumer is created with the first message, and the sidecars look
every few seconds which consumers there are, with one request for all actors.
"""

import asyncio
import functools
import hashlib
import random
import time

import structlog

from walnatsd.broker import own_streams
from walnatsd.broker.connection import Connection
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.envelope import Past, enclose
from walnatsd.broker.errors import STREAM_NOT_FOUND, ApiError, BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import ROUTES, SCHEDULES, WORK
from walnatsd.broker.publisher import PubAck, Publisher
from walnatsd.model import headers
from walnatsd.model.message import Message
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import rfc3339

LOOK_INTERVAL_S = 3.0
RETRY_PAUSE_S = 1.0
STORE_BUDGET_S = 10.0
"""How long a message may be tried to be put on the route; as long as a cluster needs to elect a leader."""
LONGEST_SCHEDULE_S = 366 * 86400.0
"""The server counts in nanoseconds and would overflow in the year 2262. What waits longer is parked again."""
NAME_LENGTH = 40

_log = structlog.get_logger("walnatsd.route")


def consumer_name(stream: str, consumer: str) -> str:
    """Name of the consumer of an actor's route."""
    digest = hashlib.sha256(f"{stream}.{consumer}".encode()).hexdigest()
    return f"actor-{consumer[:NAME_LENGTH]}-{digest[:16]}"


class Route:
    """The routes of all actors. An actor is named by its stream and its consumer."""

    def __init__(self, connection: Connection, jetstream: JetStream, publisher: Publisher, *, replicas: int) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._publisher = publisher
        self._replicas = replicas
        self._used: set[str] = set()
        """Names of the consumers that somebody created."""
        self._open: set[str] = set()
        """Of these, the ones that this sidecar has brought up to date."""
        self._news = asyncio.Event()
        self._registered = asyncio.Event()
        self._doubt = False
        self.has_schedules = False
        """Whether the server puts messages on the route when they are due."""

    # ---- the stream and its consumers

    async def register(self) -> None:
        """Create the stream or add what it lacks; see what the server can do. Raises as `register_work_stream`."""
        self.has_schedules = await own_streams.register_work_stream(self._jetstream, replicas=self._replicas)
        self._doubt = False
        self._registered.set()

    @property
    def is_registered(self) -> bool:
        """Whether the stream is there and it is known what the server can do."""
        return self._registered.is_set()

    async def wait_registered(self) -> None:
        """Wait until the stream is there and it is known what the server can do."""
        await self._registered.wait()

    async def watch(self) -> None:
        """See for ever which routes are used, and that the stream is there, once it is registered."""
        await self._registered.wait()
        unsubscribe = self._connection.on_change(self._on_connection)
        try:
            while True:
                await self._connection.wait_connected()
                try:
                    await self._look()
                except (BrokerError, Refusal) as error:
                    _log.warning("can't see which actors have messages of their own", why=str(error))
                await asyncio.sleep(LOOK_INTERVAL_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the sidecars
        finally:
            unsubscribe()

    def _on_connection(self, connected: bool) -> None:
        self._doubt |= connected  # the server may be another version now, or have come back without the stream

    async def _look(self) -> None:
        if self._doubt:
            await self.register()
        before = set(self._open)
        try:
            names = await self._names()
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            _log.error("somebody deleted walnatsd's own stream and what waited in it; creating it again", stream=WORK)
            self._open.clear()
            await self.register()
            return
        self._open -= before - names
        self._learn(names)

    async def _names(self) -> set[str]:
        names: set[str] = set()
        while True:
            page = await self._jetstream.request(f"CONSUMER.NAMES.{WORK}", {"offset": len(names)})
            found = page.get("consumers") or []
            names.update(found)
            if not found or len(names) >= page["total"]:
                return names

    def _learn(self, names: set[str]) -> None:
        if not names <= self._used:
            self._used |= names
            self._news.set()
            self._news = asyncio.Event()

    async def until_open(self, stream: str, consumer: str) -> None:
        """Wait until the actor's route is used and can be pulled from."""
        name = consumer_name(stream, consumer)
        while name not in self._used:
            await self._news.wait()
        while True:
            await self._connection.wait_connected()
            try:
                await self.open(stream, consumer)
            except (BrokerError, Refusal) as error:
                _log.error(
                    "can't open the route of an actor; trying again", stream=stream, consumer=consumer, why=str(error)
                )
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return

    async def open(self, stream: str, consumer: str) -> None:
        """Create the consumer of an actor's route, or bring it up to date.

        It follows the actor's own consumer: its `ack_wait`, and that it is paused.

        Raises:
            Refusal: CONFLICT: there is no such actor in NATS.
            BrokerError: NATS did not answer, or does not accept it.
        """
        info = await self._jetstream.consumer(stream, consumer)
        if info is None:
            raise Refusal(
                Reason.CONFLICT, f"the stream {stream!r} has no consumer {consumer!r}; register the actor first"
            )
        name = consumer_name(stream, consumer)
        more = {
            "description": f"Messages for the actor {consumer} of {stream} only.",
            "filter_subject": f"{ROUTES}{stream}.{consumer}",
        }
        if info.get("paused"):
            more["pause_until"] = info["config"]["pause_until"]
        register = functools.partial(
            own_streams.register_consumer, self._jetstream, WORK, name, ack_wait_ns=info["config"]["ack_wait"], **more
        )
        try:
            await register()
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            await self.register()
            await register()
        self._open.add(name)
        self._learn({name})

    def lose(self, stream: str, consumer: str, why: str) -> None:
        """Take note that the consumer of an actor's route has gone; `until_open` creates it again."""
        _log.error(
            "somebody deleted the consumer of an actor's route; creating it again",
            stream=stream,
            consumer=consumer,
            why=why,
        )
        self._open.discard(consumer_name(stream, consumer))

    # ---- messages

    async def park(self, consumer: str, delivery: Delivery, *, until: float, attempts: int) -> None:
        """Store a message for later. Saying it twice stores it once.

        Args:
            consumer: The actor.
            delivery: What waits; to be acknowledged afterwards.
            until: When it is due, in seconds since the epoch.
            attempts: Attempts that were made and count.

        Raises:
            Refusal: It is not stored.
            BrokerError: It is not stored.
        """
        message = delivery.message
        if consumer_name(message.stream, consumer) not in self._open:
            await self.open(message.stream, consumer)
        stream, sequence = delivery.key
        header = enclose(message, Past(attempts, delivery.hand_overs))
        # the time tells a stream from another of the same name that was there before
        header[headers.MESSAGE_ID] = f"park:{stream}:{consumer}:{sequence}:{message.stored_at!r}"
        target = f"{ROUTES}{message.stream}.{consumer}"
        if self.has_schedules:
            due = rfc3339(min(until, time.time() + LONGEST_SCHEDULE_S))
            header |= {"Nats-Schedule": f"@at {due}", "Nats-Schedule-Target": target}
            subject = f"{SCHEDULES}{WORK}.{message.stream}.{consumer}.{stream}-{sequence}"
        else:
            header[headers.DELAY] = f"{until:.3f}"
            subject = target
        await self._publisher.publish(subject, message.payload, header, budget_s=STORE_BUDGET_S)

    async def send(self, consumer: str, message: Message, past: Past, *, uid: str) -> PubAck:
        """Put a message on an open route now. Saying it twice under the same uid stores it once.

        Raises:
            Refusal: It is not stored.
        """
        header = enclose(message, past) | {headers.MESSAGE_ID: uid}
        return await self._publisher.publish(
            f"{ROUTES}{message.stream}.{consumer}", message.payload, header, budget_s=STORE_BUDGET_S
        )

    async def remove(self, stream: str, consumer: str) -> None:
        """Discard all that waits for an actor, and the consumer of its route: the actor is deleted.

        Raises:
            BrokerError: NATS did not answer.
        """
        name = consumer_name(stream, consumer)
        for subject in (f"{SCHEDULES}{WORK}.{stream}.{consumer}.>", f"{ROUTES}{stream}.{consumer}"):
            await self._ask_if_there(f"STREAM.PURGE.{WORK}", {"filter": subject})
        await self._ask_if_there(f"CONSUMER.DELETE.{WORK}.{name}")
        self._open.discard(name)
        self._used.discard(name)

    async def _ask_if_there(self, operation: str, body: object = None) -> None:
        try:
            await self._jetstream.request(operation, body)
        except ApiError as error:
            if error.code != 404:
                raise
