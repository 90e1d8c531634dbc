"""Emitting what is due: from walnatsd's own stream into the streams of the events."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.publisher import PubAck
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import DUE_CONSUMER, DueMessage, ElsewhereError, read_due, register_due_consumer
from walnatsd.broker.wire import Frame
from walnatsd.emit.store import Store
from walnatsd.model.event import Event
from walnatsd.model.message import Message
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.sparingly import Sparingly

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing

AT_ONCE = 64
"""Messages in hand; with payloads of 1 MiB, NATS' own limit, the memory of so many is nothing to worry about."""
STORE_BUDGET_S = 3.0
"""How long storing is tried at a time. Short, for others wait behind it; an election of a leader takes a few turns."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 120.0
REGISTER_PAUSE_S = 5.0
ELSEWHERE_PAUSE_S = 0.1
"""Of what only another sidecar can store, times the hand-overs so far: chance finds that one soon, where it runs."""
LONGEST_ELSEWHERE_PAUSE_S = 10.0
WATCH_INTERVAL_S = 5.0
LOOK_PAUSE_S = 0.1
STEADY_LOOKS = 5
"""After so many looks, what is still unsettled counts as put off."""
SAY_AGAIN_S = 60.0
UNKNOWN = "(unknown)"

_log = structlog.get_logger("walnatsd.due")


class Due:
    """Stores what is due in the stream of its event, then acknowledges it; all sidecars share the work.

    The uid keeps what was stored and not acknowledged (somebody was killed in between) from being stored twice. Events
    that this sidecar does not declare are served as well, for the messages say themselves what they are.

    What can't be stored is never given up, for the emitter was told that it will be. It waits, less and less often tried,
    and is in nobody's way: no slot is held for it, and where an event as a whole can't be reached, one message tries for
    all others.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        store: Store,
        route: Route,
        find_event: Callable[[str], Event | None],
        metrics: Metrics,
        *,
        tracing: "Tracing | None" = None,
        read: Callable[[Message], DueMessage] = read_due,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepare.

        Args:
            connection: To NATS.
            jetstream: The API.
            store: Stores them.
            route: Registers the stream that they wait in.
            find_event: Finds a declared event; metrics name no other.
            metrics: Where they are counted.
            tracing: Makes spans of what is stored; None where nothing is traced.
            read: Reads a message that is due; raises ValueError, and ElsewhereError where another sidecar can read it.
            clock: Gives the time, in seconds since the epoch.
            draw: Gives chance, from 0 to 1, which spreads what is tried again.
        """
        self._connection = connection
        self._jetstream = jetstream
        self._store = store
        self._route = route
        self._find_event = find_event
        self._metrics = metrics
        self._tracing = tracing
        self._read = read
        self._clock = clock
        self._draw = draw
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._in_hand = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._away: dict[str, float] = {}
        """Events that could not be reached, and when one message of each is tried again, on the loop's clock."""
        self._complaints = Sparingly(SAY_AGAIN_S, self._loop.time)
        """When it was said last of an event that its messages can't be stored, and for which reason."""
        self._pull = Pull(
            connection,
            jetstream,
            stream=WORK,
            consumer=DUE_CONSUMER,
            capacity=lambda: AT_ONCE - self._in_hand,
            receive=self._receive,
        )

    async def pull(self) -> None:
        """Take over what is due, until cancelled; a declared event that can't be registered holds up no other."""
        await self._route.wait_registered()
        while True:
            await self._connection.wait_connected()
            try:
                await register_due_consumer(self._jetstream)
                await self._pull.run()
            except ConsumerGoneError as error:
                _log.error("somebody deleted walnatsd's own stream or consumer; creating it again", why=str(error))
            except BrokerError as error:
                _log.error("what is due can't be taken over now; trying again", stream=WORK, why=str(error))
                await asyncio.sleep(REGISTER_PAUSE_S)

    async def work(self) -> None:
        """Store what was taken over, until cancelled; what is in hand then comes back after the ack wait."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(self._work(), name=f"due/{number}")

    async def watch(self) -> None:
        """See for ever how many messages are due and not stored, once per period."""
        await self._route.wait_registered()
        while True:
            await self._connection.wait_connected()
            try:
                info = await self._jetstream.consumer(WORK, DUE_CONSUMER)
            except BrokerError as error:
                _log.debug("can't see how many messages are due now", why=str(error))
            else:
                self._metrics.due_waiting.set(info["num_pending"] + info["num_ack_pending"] if info else 0)
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def drained(self) -> None:
        """Wait until all that is due is stored, or put off because it can't be: for a burst."""
        looks, last = 0, -1
        while looks < STEADY_LOOKS:
            await asyncio.sleep(LOOK_PAUSE_S)
            await self._connection.wait_connected()
            try:
                info = await self._jetstream.consumer(WORK, DUE_CONSUMER)
            except BrokerError:
                continue
            if info is None or info["num_pending"] or self._in_hand:
                looks, last = 0, -1
                continue
            unsettled = info["num_ack_pending"]  # put off, on the way to us, or in the hands of other sidecars
            if not unsettled:
                return
            looks, last = (looks + 1 if unsettled == last else 0), unsettled

    async def wait_idle(self) -> None:
        """Wait until nothing is in hand."""
        await self._idle.wait()

    def _receive(self, frame: Frame) -> None:
        self._in_hand += 1
        self._idle.clear()
        self._waiting.put_nowait(Delivery.of_event(self._connection, self._jetstream, "", frame))

    async def _work(self) -> None:
        while True:
            delivery = await self._waiting.get()
            try:
                await self._handle(delivery)
            finally:
                self._in_hand -= 1
                if not self._in_hand:
                    self._idle.set()
                self._pull.wake()

    # ---- one message

    async def _handle(self, delivery: Delivery) -> None:
        """Store it first, and acknowledge it after."""
        try:
            due = self._read(delivery.message)
        except ElsewhereError:
            await delivery.nak(min(ELSEWHERE_PAUSE_S * delivery.deliveries, LONGEST_ELSEWHERE_PAUSE_S))
            return
        except ValueError as error:
            await self._put_off(delivery, "", "UNREADABLE", str(error))
            return
        if (again_at := self._away.get(due.event)) is not None:
            now = self._loop.time()
            if again_at > now:
                await delivery.nak((again_at - now) * (1 + self._draw()))
                return
            self._away[due.event] = now + STORE_BUDGET_S  # this one tries; the others would hold slots in vain
        trace = self._tracing.publish(due.event, due.header) if self._tracing is not None else None
        header = due.header if trace is None else trace.header
        try:
            ack = await self._store.store_now(due.event, due.payload, header, budget_s=STORE_BUDGET_S)
        except Refusal as refusal:
            if trace is not None:
                trace.end(refusal.reason, why=refusal.message)
            if due.is_tick and refusal.reason is Reason.NO_ACTORS:  # nobody emitted it who could be told to wait
                self._metrics.due(self._label(due.event), refusal.reason).inc()
                await delivery.ack()
                return
            await self._put_off(delivery, due.event, refusal.reason, refusal.message)
            return
        self._away.pop(due.event, None)
        self._observe(due, ack)
        if trace is not None:
            trace.end("duplicate" if ack.duplicate else "stored", ack.stream, ack.sequence)
        await delivery.ack()

    def _observe(self, due: DueMessage, ack: PubAck) -> None:
        label = self._label(due.event)
        self._metrics.due(label, "duplicate" if ack.duplicate else "stored").inc()
        if due.due_at is not None and not ack.duplicate:
            self._metrics.due_lateness_seconds(label).observe(max(0.0, self._clock() - due.due_at))

    # ---- what can't be stored

    async def _put_off(self, delivery: Delivery, event: str, reason: str, why: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** min(delivery.deliveries - 1, 10), LONGEST_PAUSE_S)
        self._metrics.due(self._label(event), reason).inc()
        self._say(delivery, event, reason, why)
        if reason == Reason.NATS_UNAVAILABLE:
            self._away[event] = self._loop.time() + pause_s
        else:
            self._away.pop(event, None)
        await delivery.nak(pause_s * (1 + self._draw()))

    def _say(self, delivery: Delivery, event: str, reason: str, why: str) -> None:
        """Say it aloud, but not once per message."""
        if not self._complaints.may_say((event, reason)):
            return
        _log.error(
            "messages that are due can't be stored now; they wait and are tried again",
            event_name=event or None, reason=reason, why=why, sequence_in_walnatsd=delivery.key[1],
        )  # fmt: skip

    def _label(self, event: str) -> str:
        return event if self._find_event(event) is not None else UNKNOWN
