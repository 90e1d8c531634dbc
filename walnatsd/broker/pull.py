"""Pulling continuously: one subscription, and requests for just as many messages as there is room for."""

import asyncio
import contextlib
import functools
from collections.abc import Callable

import orjson
import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError, NotConnectedError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.pin import Pin
from walnatsd.broker.wire import Frame, to_ns

EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
SILENCE_S = 2 * HEARTBEAT_S + 1
NO_RESPONDERS_PAUSE_S = 0.25
BAD_REQUEST_PAUSE_S = 5.0
LOOK_INTERVAL_S = 5.0

_HEARTBEAT, _BAD_REQUEST, _NOT_FOUND, _TIMEOUT, _CONFLICT, _WRONG_PIN, _NO_RESPONDERS = (
    100,
    400,
    404,
    408,
    409,
    423,
    503,
)
_PENDING = "Nats-Pending-Messages"

_log = structlog.get_logger("walnatsd.pull")


class ConsumerGoneError(Exception):
    """The consumer or its stream does not exist any more, or not as it was registered."""


class Pull:
    """A durable consumer's messages, as many as fit.

    `capacity` says how many more messages there is room for, those that were asked for not counted; call `wake` when it
    may have grown. Each message is handed to `receive` as it is read.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        *,
        stream: str,
        consumer: str,
        capacity: Callable[[], int],
        receive: Callable[[Frame], None],
        pin: Pin | None = None,
    ) -> None:
        """Prepare the pull.

        Args:
            connection: To NATS.
            jetstream: The API.
            stream: Name of the stream.
            consumer: Name of the consumer.
            capacity: Tells how many more messages there is room for.
            receive: Takes each message.
            pin: Where the consumer serves one client at a time; it is told of what comes before `receive` is.
        """
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._consumer = consumer
        self._capacity = capacity
        self._receive = receive
        self._pin = pin
        self._next = f"{jetstream.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        connection.spell(self._next)
        self._inbox = ""
        self._sid = 0
        self._asked = 0
        self._heard_at = 0.0
        self._wake = asyncio.Event()
        self._doubt = False
        self._renewal = False
        self._lost_group = False
        self._pause_s = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def asked(self) -> int:
        """How many messages are asked for and have not come."""
        return self._asked

    def wake(self) -> None:
        """Look again whether there is room."""
        self._wake.set()

    def withdraw(self) -> None:
        """Take back what was asked for; what is on its way is still handed over."""
        if self._asked:
            self._renewal = True
            self._wake.set()

    async def run(self) -> None:
        """Pull until cancelled; what the server had sent by then has been handed over.

        Raises:
            ConsumerGoneError: There is nothing to pull from any more.
        """
        self._lost_group = False
        unsubscribe = self._connection.on_change(self._on_connection)
        await self._connection.wait_connected()
        await self._subscribe()
        try:
            while True:
                await self._step()
        finally:
            unsubscribe()
            await self._connection.detach(self._sid)

    async def _subscribe(self) -> None:
        """Begin a generation: the server drops earlier requests, for nobody listens to their inbox any more."""
        self._inbox = self._connection.new_inbox()
        self._asked = 0
        self._renewal = False
        self._sid = await self._connection.attach(self._inbox, functools.partial(self._on_frame, self._inbox))

    async def _step(self) -> None:
        """Ask for what there is room for, then wait for a reason to look again."""
        if not self._connection.is_connected:
            await self._connection.wait_connected()
        if self._asked and self._silent_in_s <= 0:
            _log.warning("a pull has gone silent; asking again", stream=self._stream, consumer=self._consumer)
            self._doubt = self._renewal = True
        if self._pause_s:
            pause_s, self._pause_s = self._pause_s, 0.0
            await asyncio.sleep(pause_s)
        if self._lost_group:
            raise ConsumerGoneError(f"the consumer {self._consumer!r} of the stream {self._stream!r} lost its group")
        if self._renewal:
            await self._connection.detach(self._sid)
            await self._subscribe()
        if self._doubt:
            await self._see_that_it_is_there()
        room = self._capacity() - self._asked
        if self._pin is not None and not self._pin.is_ours and self._asked:
            room = 0  # the server pins one request; what was asked for beside it would wait in vain
        if room > 0 and room >= self._asked:  # refill when half of it is used up, not for every single message
            self._ask(room)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._silent_in_s if self._asked else LOOK_INTERVAL_S):
                await self._wake.wait()

    @property
    def _silent_in_s(self) -> float:
        """When what is asked for will have been silent for too long, unless something comes."""
        return self._heard_at + SILENCE_S - self._loop.time()

    def _ask(self, count: int) -> None:
        body: dict[str, object] = {
            "batch": count,
            "expires": to_ns(EXPIRES_S),
            "idle_heartbeat": to_ns(HEARTBEAT_S),
        }
        if self._pin is not None:
            body |= self._pin.request
        try:
            self._connection.publish(self._next, orjson.dumps(body), reply=self._inbox)
        except NotConnectedError:
            return  # the reconnect wakes us
        self._asked += count
        self._heard_at = self._loop.time()

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._doubt = self._renewal = True  # the server may have come back without the consumer
            self._wake.set()

    def _on_frame(self, inbox: str, frame: Frame) -> None:
        """Take what came on an inbox. A message's own subject is the event's, so the subscription tells the inbox."""
        current = inbox == self._inbox
        if current:
            self._heard_at = self._loop.time()
        if frame.head and (status := frame.status):
            if current and status != _HEARTBEAT:
                self._on_status(status, frame)
                self._wake.set()
            return
        if current and self._asked:
            self._asked -= 1
        if self._pin is not None and not self._pin.see(frame):
            self._lost_group, self._pause_s = True, NO_RESPONDERS_PAUSE_S
            self._wake.set()
        self._receive(frame)
        if not self._asked and self._capacity() > 0:  # there was less room when it was asked for
            self._wake.set()

    def _on_status(self, status: int, frame: Frame) -> None:
        pending = frame.headers().get(_PENDING)
        if status in (_NOT_FOUND, _TIMEOUT, _CONFLICT) and pending is not None:
            self._asked = max(0, self._asked - int(pending))
            return
        if status == _WRONG_PIN and self._pin is not None:
            self._pin.lose("another sidecar is pinned")
            self._renewal = True
            return
        # A conflict without a count is a leader change, a deletion (a look tells which), or a limit of the consumer that
        # somebody else set: 'Exceeded MaxRequestBatch of 1', which only the text tells.
        self._doubt = self._renewal = True
        if status == _NO_RESPONDERS:
            self._pause_s = NO_RESPONDERS_PAUSE_S
        elif status == _BAD_REQUEST or frame.description.startswith("Exceeded"):
            _log.error("NATS refuses a pull", stream=self._stream, consumer=self._consumer, why=frame.description)
            self._pause_s = BAD_REQUEST_PAUSE_S
            if self._pin is not None:
                self._pin.lose("NATS refuses a pull of its group")
                self._lost_group, self._pause_s = True, NO_RESPONDERS_PAUSE_S

    async def _see_that_it_is_there(self) -> None:
        try:
            info = await self._jetstream.consumer(self._stream, self._consumer)
        except BrokerError:
            return  # not known; doubt stays
        self._doubt = False
        if info is None:
            raise ConsumerGoneError(f"the consumer {self._consumer!r} of the stream {self._stream!r} does not exist")
