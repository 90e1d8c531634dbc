"""The path of one emit."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from walnatsd.broker.interest import Interest
from walnatsd.broker.publisher import PubAck, Publisher, Room
from walnatsd.config.settings import Emit as Settings
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import EmitRequest, Receipt, given_uid, stored_headers, uid_of
from walnatsd.model.event import Codec, Event, Schema
from walnatsd.model.names import check_event_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.cloudevents import content_type
from walnatsd.payload.codecs import Codecs
from walnatsd.payload.schemas import PayloadSchema, SchemaError

MAX_BYTES_IN_FLIGHT = 256 << 20
"""Bounds the memory of emits that wait for JetStream, whatever their number."""
BUSY_RETRY_AFTER_S = 1.0
UNKNOWN = "(unknown)"


class Emitter:
    """Takes emits in and answers after the PubAck."""

    def __init__(
        self,
        publisher: Publisher,
        interest: Interest,
        find_event: Callable[[str], Event | None],
        find_gate: Callable[[str], asyncio.Event | None],
        codecs_for: Callable[[tuple[Codec, ...]], Codecs],
        schema_for: Callable[[Schema], PayloadSchema],
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        """Prepare to take emits in.

        Args:
            publisher: Stores them.
            interest: Tells how many actors an event has in NATS.
            find_event: Finds a declared event.
            find_gate: Finds what the emits of an event must wait for, None where they need not.
            codecs_for: Gives the codecs of an event.
            schema_for: Gives the compiled schema of an event.
            settings: The limits.
            metrics: Where they are counted.
        """
        self._publisher = publisher
        self._interest = interest
        self._find_event = find_event
        self._find_gate = find_gate
        self._codecs_for = codecs_for
        self._schema_for = schema_for
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0
        self._bytes_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def emit(self, request: EmitRequest, *, deadline_s: float | None = None) -> Receipt:
        """Store one message.

        Args:
            request: The message.
            deadline_s: Seconds that the caller waits at most, where it said so.

        Raises:
            Refusal: It was not stored, or nobody knows (`maybe_stored`).
        """
        started = time.perf_counter()  # the loop's clock stands still within a turn
        event = self._find_event(request.event)
        label = event.name if event is not None else UNKNOWN
        outcome = "cancelled"
        try:
            receipt = await self._emit(request, event, deadline_s)
        except Refusal as refusal:
            outcome = refusal.reason
            raise
        else:
            outcome = "duplicate" if receipt.duplicate else "stored"
            return receipt
        finally:
            self._metrics.emits(label, outcome).inc()
            self._metrics.emit_seconds(label, outcome).observe(time.perf_counter() - started)

    async def _emit(self, request: EmitRequest, event: Event | None, deadline_s: float | None) -> Receipt:
        outgoing = self._prepare(request, event)
        budget_s = self._settings.timeout if deadline_s is None else min(deadline_s, self._settings.timeout)
        ack = await self._store(outgoing, budget_s)
        # of a uid that is new, only our own retry can be the duplicate
        return Receipt(outgoing.uid, ack.stream, ack.sequence, ack.duplicate and outgoing.has_given_uid, ack.retried)

    def _prepare(self, request: EmitRequest, event: Event | None) -> Outgoing:
        """Check a request and encode it: what comes out may be stored, now or later."""
        if event is None:
            raise _unknown(request)
        uid = uid_of(request)
        header = stored_headers(request, uid)
        if request.delayed:
            raise Refusal(Reason.NOT_SUPPORTED, "delay and deliver_at are not supported yet by this version", uid=uid)
        self._see_that_it_fits(event, request, header, uid)
        return Outgoing(
            event=event.name,
            payload=self._codecs_for(event.codecs).encode(request.payload),
            header=header,
            has_given_uid=given_uid(request) != "",
        )

    def _see_that_it_fits(self, event: Event, request: EmitRequest, header: dict[str, str], uid: str) -> None:
        if event.payload_schema is None:
            return
        try:
            self._schema_for(event.payload_schema).check(request.payload, content_type(header))
        except SchemaError as error:
            raise Refusal(Reason.SCHEMA, str(error), uid=uid) from None

    async def _store(self, outgoing: Outgoing, budget_s: float) -> PubAck:
        """Store what is ready, if there is room for one more in flight."""
        size = len(outgoing.payload)
        if self._in_flight >= self._settings.max_in_flight or self._bytes_in_flight + size > MAX_BYTES_IN_FLIGHT:
            raise Refusal(
                Reason.BUSY,
                f"{self._in_flight} emits with {self._bytes_in_flight} bytes wait for JetStream already",
                uid=outgoing.uid,
                retry_after_s=BUSY_RETRY_AFTER_S,
            )
        self._in_flight += 1
        self._bytes_in_flight += size
        self._idle.clear()
        event = self._find_event(outgoing.event)
        try:
            return await self._publisher.publish(
                outgoing.event,
                outgoing.payload,
                outgoing.header,
                budget_s=budget_s,
                find_gate=lambda: self._find_gate(outgoing.event),
                admit=self._admission(event, outgoing.uid) if event is not None and event.min_actors else None,
                room=_room(event) if event is not None else None,
            )
        finally:
            self._in_flight -= 1
            self._bytes_in_flight -= size
            if not self._in_flight:
                self._idle.set()

    def _admission(self, event: Event, uid: str) -> Callable[[bool], Awaitable[None]]:
        """Give what sees before each try that the event has its `min_actors`."""

        async def see(again: bool) -> None:
            count = await self._interest.count(event.stream, enough=event.min_actors, again=again)
            if count is not None and count < event.min_actors:
                actors = f"{count} actor{'' if count == 1 else 's'}"
                raise Refusal(
                    Reason.NO_ACTORS,
                    f"the event {event.name!r} has {actors} in NATS and min_actors is {event.min_actors}; nothing was stored. "
                    "Emit again, with the same uid, when its actors are registered",
                    uid=uid,
                )

        return see

    async def wait_idle(self) -> None:
        """Wait until no emit waits for JetStream."""
        await self._idle.wait()


def _room(event: Event) -> Room | None:
    return Room(event.limits.bytes, event.storage == "memory") if event.limits.bytes else None


def _unknown(request: EmitRequest) -> Refusal:
    try:
        check_event_name(request.event)
    except ValueError as error:
        return Refusal(Reason.INVALID_NAME, f"{request.event[:300]!r}: {error}", uid=request.uid)
    return Refusal(
        Reason.UNKNOWN_EVENT,
        f"the event {request.event!r} is not declared; add it to events in the config file or register it",
        uid=request.uid,
    )
