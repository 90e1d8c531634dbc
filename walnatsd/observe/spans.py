"""The spans of emits, publishes, requests, deliveries and attempts: their names, attributes, and how they hang together.

Names and attributes are those of the OpenTelemetry semantic conventions 1.44.0 for messaging and HTTP clients, and
`walnatsd.*` where they have none. docs/operating/tracing.md has the table.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from time import time_ns

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.headers import TRACE_ID
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.retry import Decision
from walnatsd.model.trace_context import TRACEPARENT, TRACESTATE, header_of, is_left_out
from walnatsd.observe.span_facts import (
    Facts,
    attributes,
    conversation,
    identity,
    of_attempt,
    of_consumer,
    of_message,
    settlement,
)
from walnatsd.payload.cloudevents import PREFIX as CLOUDEVENTS

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
MOST_LINKS = 128
"""The specification's default limit of the links of a span; the SDK would drop those beyond it."""

_NO_ERROR = frozenset({Verdict.ACKNOWLEDGED, Verdict.HANDED_BACK})
_STORED = frozenset({"stored", "duplicate", "scheduled"})
_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans. Those who are traced ask for one, tell it what became of them, and know nothing else of it.

    Where the trace that they belong to is not kept, there is none for them, and the context goes on as it came: that costs
    next to nothing. Where a trace begins here and is not kept, there is one that records nothing, for its context tells the
    others so.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    # ---- emitting

    def request(self, event: str, header: Mapping[str, str], trace_id: str) -> "RequestTrace | None":
        """Begin the span of a request: an emit, and the wait for its answer."""
        if is_left_out(header):
            return None
        span = self._tracer.start_span(
            f"request {event}",
            _parent(header, trace_id),
            SpanKind.CLIENT,
            attributes("request", None, event) | conversation(trace_id),
        )
        return RequestTrace(span)

    def emit(
        self, event: str, header: Mapping[str, str], trace_id: str, within: "RequestTrace | None" = None
    ) -> "EmitTrace | None":
        """Begin the span of an emit, a part of the request where there is one, else of what the emitter says.

        Args:
            event: Its name.
            header: As the emitter gave it.
            trace_id: As the emitter gave it; empty where it gave none.
            within: The request that it is made for.
        """
        if is_left_out(header):
            return None
        parent = trace.set_span_in_context(within.span, Context()) if within is not None else _parent(header, trace_id)
        span = self._tracer.start_span(
            f"emit {event}", parent, SpanKind.PRODUCER, attributes("emit", "create", event) | conversation(trace_id)
        )
        return EmitTrace(self._tracer, event, span)

    def publish(self, event: str, header: Mapping[str, str]) -> "PublishTrace | None":
        """Begin the span of a message that is stored now and was emitted before; ticks of clocks were not.

        Args:
            event: Its name.
            header: As it is stored.
        """
        if is_left_out(header):
            return None
        created = trace.get_current_span(_parent(header)).get_span_context()
        span = self._tracer.start_span(
            f"publish {event}",
            _parent(header),
            SpanKind.CLIENT if created.is_valid else SpanKind.PRODUCER,
            attributes("publish", "send", event) | identity(header),
            links=[Link(created)] if created.is_valid else (),
        )
        if created.is_valid:
            return PublishTrace(span, header)
        own: dict[str, str] = dict(header)
        _put(span, own)
        return PublishTrace(span, own)

    # ---- dispatching

    def deliver(self, actor: Actor, message: Message, number: int) -> "DeliveryTrace | None":
        """Begin the spans of a delivery and of its attempt, in the trace of the message.

        Args:
            actor: Who is called.
            message: The message.
            number: Which attempt it is, from 1.
        """
        if is_left_out(message.headers):
            return None
        parent = _parent(message.headers)
        created = trace.get_current_span(parent).get_span_context()
        span = self._tracer.start_span(
            f"deliver {actor.event}",
            parent,
            SpanKind.CONSUMER,
            of_consumer(actor.event, actor.name) | of_message(message) | {"walnatsd.attempt": number},
            links=[Link(created)] if created.is_valid else (),
        )
        return DeliveryTrace(self._tracer, actor, span)

    def deliver_batch(self, actor: Actor, messages: Sequence[Message]) -> "DeliveryTrace":
        """Begin the spans of a batch: they are in nobody's trace, and linked to all that there are."""
        found = (trace.get_current_span(_parent(message.headers)).get_span_context() for message in messages)
        created = [context for context in found if context.is_valid]
        created.sort(key=lambda context: not context.trace_flags.sampled)  # those that are kept first
        span = self._tracer.start_span(
            f"deliver {actor.event}",
            Context(),
            SpanKind.CONSUMER,
            of_consumer(actor.event, actor.name) | {"messaging.batch.message_count": len(messages)},
            links=[Link(context) for context in created[:MOST_LINKS]],
        )
        return DeliveryTrace(self._tracer, actor, span)

    def give_up(self, actor: Actor, message: Message, reason: str) -> None:
        """Record a delivery that became a dead letter without an attempt."""
        delivery = self.deliver(actor, message, 0)
        if delivery is None:
            return
        delivery.attempt.end()
        _fail(delivery.span, "dead-letter", reason)
        delivery.span.end()


class EmitTrace:
    """The span of an emit, and the one of its publish."""

    def __init__(self, tracer: trace.Tracer, event: str, span: Span) -> None:
        self._tracer = tracer
        self._event = event
        self._span = span
        self._published_at: int | None = None

    def enter(self, header: MutableMapping[str, str]) -> None:
        """Make the message a part of the trace: its creation context is this span."""
        _put(self._span, header)

    def published(self) -> None:
        """Take note that it is handed to NATS from now on."""
        self._published_at = time_ns()

    def end(self, outcome: str, uid: str, stream: str = "", sequence: int = 0, why: str = "") -> None:
        """End it.

        Args:
            outcome: As the metric `walnatsd_emits_total` names it.
            uid: Of the message; empty where it is not known.
            stream: Where it was stored; empty where it was not.
            sequence: Its place there; 0 where it has none yet.
            why: In words, where it was refused.
        """
        span = self._span
        if not span.is_recording():
            return
        facts: Facts = {"walnatsd.outcome": outcome}
        if uid:
            facts["messaging.message.id"] = uid
        if stream:
            facts["walnatsd.stream"] = stream
        if sequence:
            facts["walnatsd.sequence"] = sequence
        is_error = outcome not in _STORED and outcome != "spooled"
        if self._published_at is not None and outcome != "spooled":
            published = self._tracer.start_span(
                f"publish {self._event}",
                trace.set_span_in_context(span, Context()),
                SpanKind.CLIENT,
                attributes("publish", "send", self._event) | facts,
                links=[Link(span.get_span_context())],
                start_time=self._published_at,
            )
            if is_error:
                _fail(published, outcome, why)
            published.end()
        span.set_attributes(facts)
        if is_error:
            _fail(span, outcome, why)
        span.end()


class RequestTrace:
    """The span of a request."""

    def __init__(self, span: Span) -> None:
        self.span = span
        """For the emit that is a part of it."""

    def end(self, outcome: str) -> None:
        """End it; the outcome is as the metric `walnatsd_calls_total` names it."""
        self.span.set_attribute("walnatsd.outcome", outcome)
        if outcome != "answered":
            _fail(self.span, outcome, "")
        self.span.end()


class PublishTrace:
    """The span of a message that is stored later than it was emitted: from the spool, or because it is due."""

    def __init__(self, span: Span, header: Mapping[str, str]) -> None:
        self._span = span
        self.header = header
        """What the message is stored with, a part of the trace."""

    def end(self, outcome: str, stream: str = "", sequence: int = 0, why: str = "") -> None:
        """End it; arguments as of `EmitTrace.end`."""
        self._span.set_attribute("walnatsd.outcome", outcome)
        if stream:
            self._span.set_attribute("walnatsd.stream", stream)
        if sequence:
            self._span.set_attribute("walnatsd.sequence", sequence)
        if outcome not in _STORED:
            _fail(self._span, outcome, why)
        self._span.end()


class DeliveryTrace:
    """The spans of a delivery: one from its attempt to its settlement, within it one of the attempt, one of the settlement."""

    def __init__(self, tracer: trace.Tracer, actor: Actor, span: Span) -> None:
        self._tracer = tracer
        self._actor = actor
        self.span = span
        self._settled_from = 0
        if not span.is_recording():  # nor would anything within it be
            self.attempt = span
            return
        self._context = trace.set_span_in_context(span, Context())
        name, attributes = of_attempt(actor.event, actor.name, actor.url)
        self.attempt = tracer.start_span(name, self._context, SpanKind.CLIENT, attributes)

    @property
    def id(self) -> str | None:
        """The id of the trace, 32 hex digits; None where tracing is switched off by the environment."""
        context = self.span.get_span_context()
        return format(context.trace_id, "032x") if context.is_valid else None

    def continued(self, message: Message) -> Message:
        """Give the message as the actor gets it: what the actor does is a part of the attempt."""
        header = dict(message.headers)
        _put(self.attempt, header)
        return message._replace(headers=header)

    def header(self) -> dict[str, str]:
        """Give the same for a request with many messages."""
        header: dict[str, str] = {}
        _put(self.attempt, header)
        return header

    def attempted(self, outcome: Outcome) -> None:
        """End the attempt; what follows is the settlement."""
        self._settled_from = time_ns()
        span = self.attempt
        if not span.is_recording():
            return
        span.set_attribute("walnatsd.outcome", outcome.verdict.value)
        if outcome.status is not None:
            span.set_attribute("http.response.status_code", outcome.status)
        _judge(span, outcome)
        span.end(self._settled_from)

    def settled(self, attempt: Attempt, decision: Decision) -> None:
        """End the delivery of one message, which the decision was carried out on."""
        if not self.span.is_recording():
            return
        name, facts = settlement(decision)
        self._tracer.start_span(
            f"{name} {self._actor.event}",
            self._context,
            SpanKind.CLIENT,
            attributes(name, "settle", self._actor.event) | {"messaging.consumer.group.name": self._actor.name} | facts,
            start_time=self._settled_from,
        ).end()
        self.span.set_attributes(facts)
        _judge(self.span, attempt.outcome)
        self.span.end()

    def settled_all(self, outcomes: Sequence[Outcome]) -> None:
        """End the delivery of a batch."""
        if not self.span.is_recording():
            return
        for verdict in (Verdict.ACKNOWLEDGED, Verdict.FAILED, Verdict.REJECTED):
            count = sum(outcome.verdict is verdict for outcome in outcomes)
            self.span.set_attribute(f"walnatsd.batch.{verdict.value}", count)
        bad = next((outcome for outcome in outcomes if outcome.verdict not in _NO_ERROR), None)
        if bad is not None:
            _judge(self.span, bad)
        self.span.end()

    def cancelled(self) -> None:
        """End all of it: the stop could not wait, and the message was handed back."""
        if not self.span.is_recording():
            return
        for span in (self.attempt, self.span):
            span.set_attribute("walnatsd.outcome", "cancelled")
            _fail(span, "cancelled", "the daemon stopped before there was an answer; the message was handed back")
            span.end()


# ---- contexts


def _parent(header: Mapping[str, str], trace_id: str = "") -> Context:
    """Read who comes before: from `traceparent`, else from the CloudEvents extension, else from walnats' trace id.

    walnats' OpenTelemetryTraceMiddleware reads a `traceparent` there.
    """
    for prefix in ("", CLOUDEVENTS):
        if (parent := header_of(header, prefix + TRACEPARENT)) is not None:
            state = header_of(header, prefix + TRACESTATE) or ""
            return _propagator.extract({TRACEPARENT: parent, TRACESTATE: state}, Context())
    return _propagator.extract({TRACEPARENT: trace_id or header.get(TRACE_ID, "")}, Context())


def _put(span: Span, header: MutableMapping[str, str]) -> None:
    """Put a span's context into headers, in place of the one that was there."""
    if not span.get_span_context().is_valid:
        return  # OTEL_SDK_DISABLED
    for name in [name for name in header if name.lower() in (TRACEPARENT, TRACESTATE)]:
        del header[name]
    _propagator.inject(header, trace.set_span_in_context(span, Context()))


# ---- errors


def _judge(span: Span, outcome: Outcome) -> None:
    """Mark the span of what came to this outcome, where that is an error."""
    if outcome.verdict not in _NO_ERROR:
        _fail(span, str(outcome.status or outcome.verdict.value), outcome.reason)


def _fail(span: Span, kind: str, why: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, why or None))
