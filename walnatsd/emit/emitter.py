"""The path of one emit."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from walnatsd.broker.publisher import Begun
from walnatsd.config.settings import Emit as Settings
from walnatsd.emit.outbox import Outbox
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import EmitRequest, Receipt, given_uid, stored_headers, uid_of, with_encoded_attributes
from walnatsd.emit.store import Store, receipt_of
from walnatsd.emit.when import due_at
from walnatsd.model.event import Codec, Event, Schema
from walnatsd.model.refusal import Reason, Refusal, unknown_event
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.cloudevents import content_type
from walnatsd.payload.codecs import Codecs
from walnatsd.payload.schemas import PayloadSchema, SchemaError

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import EmitTrace, Tracing

MAX_BYTES_IN_FLIGHT = 256 << 20
"""Bounds the memory of emits that wait for JetStream, whatever their number."""
BUSY_RETRY_AFTER_S = 1.0
UNKNOWN = "(unknown)"


@dataclass(slots=True)
class _Emit:
    """An emit on its way."""

    event: Event | None
    label: str
    """The event's name, as metrics have it."""
    budget_s: float
    started: float
    """By `time.perf_counter`, for the loop's clock stands still within a turn."""
    outgoing: Outgoing | None = None
    """What has its room among those in flight."""
    begun: Begun | None = None
    """What is under way already."""
    refusal: Refusal | None = None
    trace: "EmitTrace | None" = None
    """Its span; None where nothing is traced."""
    is_concluded: bool = False
    """Whether its room is given back and it is counted."""


_LABEL = attrgetter("label")


class Emitter:
    """Takes emits in and answers when they are stored."""

    def __init__(
        self,
        store: Store | Outbox,
        find_event: Callable[[str], Event | None],
        codecs_for: Callable[[tuple[Codec, ...]], Codecs],
        schema_for: Callable[[Schema], PayloadSchema],
        settings: Settings,
        metrics: Metrics,
        *,
        tracing: "Tracing | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to take emits in.

        Args:
            store: Stores them: in NATS, or in NATS and the spool.
            find_event: Finds a declared event.
            codecs_for: Gives the codecs of an event.
            schema_for: Gives the compiled schema of an event.
            settings: The limits.
            metrics: Where they are counted.
            tracing: Makes spans of them; None where nothing is traced.
            clock: Gives the time, in seconds since the epoch.
        """
        self._store = store
        self._clock = clock
        self._find_event = find_event
        self._codecs_for = codecs_for
        self._schema_for = schema_for
        self._settings = settings
        self._metrics = metrics
        self._tracing = tracing
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
        budget_s = self._settings.timeout if deadline_s is None else min(deadline_s, self._settings.timeout)
        emit = self._take_in(request, budget_s, time.perf_counter())
        if (outgoing := emit.outgoing) is not None and outgoing.due_at is None and emit.event is not None:
            try:
                emit.begun = self._store.begin(outgoing, emit.event, budget_s=budget_s)
            except Refusal as refusal:
                emit.refusal = refusal
        return await self._end(emit)

    async def emit_all(
        self, requests: Sequence[EmitRequest], *, deadline_s: float | None = None
    ) -> list[Receipt | Refusal]:
        """Store many messages, sent in order; one result per request, in order.

        What can leave at once does so before anything is waited for, and costs no task of its own unless it has to be sent
        again: then none waits for the pauses of the others.
        """
        started = time.perf_counter()
        budget_s = self._settings.timeout if deadline_s is None else min(deadline_s, self._settings.timeout)
        emits = [self._take_in(request, budget_s, started) for request in requests]
        self._begin_all(emits, budget_s)
        results: dict[int, Receipt | Refusal] = {}
        counted: Counter[tuple[str, str]] = Counter()
        try:
            async with asyncio.TaskGroup() as tasks:

                def end_later(emit: _Emit) -> asyncio.Task[Receipt | Refusal]:
                    return tasks.create_task(self._try_end(emit), name=f"emit/{emit.label}")

                later = {
                    place: end_later(emit)
                    for place, emit in enumerate(emits)
                    if emit.begun is None and emit.refusal is None
                }
                for place, emit in enumerate(emits):
                    if (begun := emit.begun) is not None:
                        if not begun.reply.done():
                            await begun.answered()
                        if (ack := begun.ack()) is None:
                            later[place] = end_later(emit)
                            continue
                        assert emit.outgoing is not None
                        results[place] = receipt = receipt_of(emit.outgoing, ack)
                        outcome = receipt.outcome
                        self._conclude(emit, outcome, receipt)
                        counted[emit.label, outcome] += 1
                    elif emit.refusal is not None:
                        results[place] = await self._try_end(emit)
                results |= {place: await task for place, task in later.items()}
        finally:
            for (label, outcome), count in counted.items():
                self._count(label, outcome, started, count)
            for emit in emits:
                if not emit.is_concluded:  # the caller has gone; a task that had not begun by then never will
                    self._give_up(emit)
        return [results[place] for place in range(len(emits))]

    def _begin_all(self, emits: Sequence["_Emit"], budget_s: float) -> None:
        """Send in order what can leave at once; what goes to one event leaves together, as far as it stands together."""
        for _, together in groupby(emits, _LABEL):
            leaving = [emit for emit in together if emit.outgoing is not None and emit.outgoing.due_at is None]
            if not leaving or (event := leaving[0].event) is None:
                continue
            begun = self._store.begin_all(
                [emit.outgoing for emit in leaving if emit.outgoing], event, budget_s=budget_s
            )
            for emit, each in zip(leaving, begun, strict=True):
                if isinstance(each, Refusal):
                    emit.refusal = each
                else:
                    emit.begun = each

    def _take_in(self, request: EmitRequest, budget_s: float, started: float) -> "_Emit":
        """Check a request and give it its room."""
        event = self._find_event(request.event)
        emit = _Emit(event, event.name if event is not None else UNKNOWN, budget_s, started)
        if self._tracing is not None:
            emit.trace = self._tracing.emit(emit.label, request.headers, request.trace_id, request.within)
        try:
            if event is None:
                raise unknown_event(request.event, uid=given_uid(request))
            outgoing = self._prepare(request, event, emit.trace)
            self._take_room(outgoing)
            emit.outgoing = outgoing
            if emit.trace is not None:
                emit.trace.published()
        except Refusal as refusal:
            emit.refusal = refusal
        return emit

    async def _end(self, emit: "_Emit") -> Receipt:
        """See an emit through: give what became of it, and count it."""
        outcome = "cancelled"
        result: Receipt | Refusal | None = None
        try:
            if emit.refusal is not None:
                raise emit.refusal
            assert emit.outgoing is not None
            if emit.begun is not None:
                await emit.begun.answered()
            if emit.begun is not None and (ack := emit.begun.ack()) is not None:
                receipt = receipt_of(emit.outgoing, ack)
            else:
                receipt = await self._store.store(emit.outgoing, budget_s=emit.budget_s, begun=emit.begun)
        except Refusal as refusal:
            outcome, result = refusal.reason, refusal
            raise
        else:
            outcome, result = receipt.outcome, receipt
            return receipt
        finally:
            self._conclude(emit, outcome, result)
            self._count(emit.label, outcome, emit.started)

    async def _try_end(self, emit: "_Emit") -> Receipt | Refusal:
        try:
            return await self._end(emit)
        except Refusal as refusal:
            return refusal

    def _give_up(self, emit: "_Emit") -> None:
        """Wait no more for an emit that has left."""
        if emit.begun is not None:
            emit.begun.reply.cancel()
        self._conclude(emit, "cancelled")
        self._count(emit.label, "cancelled", emit.started)

    def _conclude(self, emit: "_Emit", outcome: str, result: Receipt | Refusal | None = None) -> None:
        """Give the room of an emit back, and end its span."""
        emit.is_concluded = True
        if emit.outgoing is not None:
            self._give_room_back(emit.outgoing)
        if emit.trace is not None:
            match result:
                case Receipt():
                    emit.trace.end(outcome, result.uid, result.stream, result.sequence)
                case Refusal():
                    emit.trace.end(outcome, result.uid, why=result.message)
                case None:
                    emit.trace.end(outcome, emit.outgoing.uid if emit.outgoing is not None else "")

    def _count(self, label: str, outcome: str, started: float, count: int = 1) -> None:
        """Count emits that were answered together."""
        self._metrics.emits(label, outcome).inc(count)
        self._metrics.emit_seconds(label, outcome).observe(time.perf_counter() - started, count)

    def _prepare(self, request: EmitRequest, event: Event, trace: "EmitTrace | None") -> Outgoing:
        """Check a request and encode it: what comes out may be stored, now or later."""
        if request.headers:
            request = with_encoded_attributes(request)
        given = given_uid(request)
        uid = uid_of(request, given)
        header = stored_headers(request, uid)
        if trace is not None:
            trace.enter(header)
        until = due_at(request, event, now=self._clock(), uid=uid) if request.is_delayed else None
        if event.payload_schema is not None:
            self._see_that_it_fits(event.payload_schema, request, header, uid)
        payload = self._codecs_for(event.codecs).encode(request.payload) if event.codecs else request.payload
        return Outgoing(event.name, payload, header, given != "", until)

    def _see_that_it_fits(self, schema: Schema, request: EmitRequest, header: dict[str, str], uid: str) -> None:
        try:
            self._schema_for(schema).check(request.payload, content_type(header))
        except SchemaError as error:
            raise Refusal(Reason.SCHEMA, str(error), uid=uid) from None

    def _take_room(self, outgoing: Outgoing) -> None:
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

    def _give_room_back(self, outgoing: Outgoing) -> None:
        self._in_flight -= 1
        self._bytes_in_flight -= len(outgoing.payload)
        if not self._in_flight:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no emit waits to be stored."""
        await self._idle.wait()
