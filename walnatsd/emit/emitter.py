"""The path of one emit."""

import asyncio
import time
from collections.abc import Callable

from walnatsd.config.settings import Emit as Settings
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import EmitRequest, Receipt, given_uid, stored_headers, uid_of
from walnatsd.emit.store import Store
from walnatsd.emit.when import due_at
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
        store: Store,
        find_event: Callable[[str], Event | None],
        codecs_for: Callable[[tuple[Codec, ...]], Codecs],
        schema_for: Callable[[Schema], PayloadSchema],
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to take emits in.

        Args:
            store: Stores them.
            find_event: Finds a declared event.
            codecs_for: Gives the codecs of an event.
            schema_for: Gives the compiled schema of an event.
            settings: The limits.
            metrics: Where they are counted.
            clock: Gives the time, in seconds since the epoch.
        """
        self._store = store
        self._clock = clock
        self._find_event = find_event
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
            outcome = "duplicate" if receipt.duplicate else "scheduled" if receipt.scheduled else "stored"
            return receipt
        finally:
            self._metrics.emits(label, outcome).inc()
            self._metrics.emit_seconds(label, outcome).observe(time.perf_counter() - started)

    async def _emit(self, request: EmitRequest, event: Event | None, deadline_s: float | None) -> Receipt:
        outgoing = self._prepare(request, event)
        budget_s = self._settings.timeout if deadline_s is None else min(deadline_s, self._settings.timeout)
        return await self._store_if_there_is_room(outgoing, budget_s)

    def _prepare(self, request: EmitRequest, event: Event | None) -> Outgoing:
        """Check a request and encode it: what comes out may be stored, now or later."""
        if event is None:
            raise _unknown(request)
        uid = uid_of(request)
        header = stored_headers(request, uid)
        until = due_at(request, event, now=self._clock(), uid=uid)
        self._see_that_it_fits(event, request, header, uid)
        payload = self._codecs_for(event.codecs).encode(request.payload)
        return Outgoing(event.name, payload, header, has_given_uid=given_uid(request) != "", due_at=until)

    def _see_that_it_fits(self, event: Event, request: EmitRequest, header: dict[str, str], uid: str) -> None:
        if event.payload_schema is None:
            return
        try:
            self._schema_for(event.payload_schema).check(request.payload, content_type(header))
        except SchemaError as error:
            raise Refusal(Reason.SCHEMA, str(error), uid=uid) from None

    async def _store_if_there_is_room(self, outgoing: Outgoing, budget_s: float) -> Receipt:
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
        try:
            return await self._store.store(outgoing, budget_s=budget_s)
        finally:
            self._in_flight -= 1
            self._bytes_in_flight -= size
            if not self._in_flight:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no emit waits for JetStream."""
        await self._idle.wait()


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
