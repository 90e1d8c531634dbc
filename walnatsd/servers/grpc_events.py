"""The `Events` service."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import DecodeError

from walnatsd.api.declarations import read_event
from walnatsd.api.events import Events
from walnatsd.api.pages import DEFAULT_LIMIT, check_limit
from walnatsd.broker.schedules import Scheduled
from walnatsd.emit.request import NO_HEADERS, EmitRequest, Receipt
from walnatsd.model import trace_context
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.grpc_errors import refuse, status_of, unreadable
from walnatsd.servers.grpc_monitor import show
from walnatsd.servers.times import duration_s, instant_s, read_duration
from walnatsd.v1 import events_pb2, events_pb2_grpc

_ANSWER_SHARE, _ANSWER_LEAST_S, _ANSWER_MOST_S = 0.1, 0.02, 0.25
"""What is kept of the caller's deadline for the answer, or it would see its own timeout instead of ours."""

TIMEOUT = "walnats-timeout"
"""Metadata of a stream of emits: how long the caller waits for the result of each, as durations are written in the config."""

Context = grpc.aio.ServicerContext[Any, Any]


class EventsServicer(events_pb2_grpc.EventsServicer):
    """Translates between the `Events` service and the use cases."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def Emit(self, request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:  # noqa: N802
        """Store one message."""
        try:
            receipt = await self._events.emit(_read(request, _trace_of(context)), deadline_s=_time_left_s(context))
        except Refusal as refusal:
            await refuse(context, refusal)
        answer = events_pb2.EmitResponse()
        _write_receipt(answer, receipt)
        return answer

    async def EmitBatch(  # noqa: N802
        self, request: events_pb2.EmitBatchRequest, context: Context
    ) -> events_pb2.EmitBatchResponse:
        """Store many messages; one result per item, in order."""
        trace = _trace_of(context)
        requests = [_read(item, trace) for item in request.items]
        try:
            results = await self._events.emit_batch(requests, deadline_s=_time_left_s(context))
        except Refusal as refusal:
            await refuse(context, refusal)
        answer = events_pb2.EmitBatchResponse()
        add = answer.items.add
        for result in results:
            _write_result(add(), result)
        return answer

    async def Register(  # noqa: N802
        self, request: events_pb2.RegisterEventsRequest, context: Context
    ) -> events_pb2.RegisterEventsResponse:
        """Declare events until the daemon stops."""
        try:
            events = [read_event(declaration(event)) for event in request.events]
            outcomes = await self._events.register(events)
        except Refusal as refusal:
            await refuse(context, refusal)
        return events_pb2.RegisterEventsResponse(
            events=[
                events_pb2.RegisteredEvent(
                    name=event.name,
                    stream=event.stream,
                    created=outcome.created,
                    updated=outcome.updated,
                    drift=outcome.drift,
                )
                for event, outcome in zip(events, outcomes, strict=True)
            ]
        )

    async def EmitStream(  # type: ignore[override]  # noqa: N802 - it reads from the context and writes to it
        self, _requests: AsyncIterator[events_pb2.EmitRequest], context: Context
    ) -> None:
        """Store what arrives; one result per request, in order."""
        try:
            deadline_s = await _begin_stream(context)
            async with aclosing(self._events.emit_stream(_read_all(context), deadline_s=deadline_s)) as results:
                async for result in results:
                    answer = events_pb2.EmitResult()
                    _write_result(answer, result)
                    await context.write(answer)
        except Refusal as refusal:
            await refuse(context, refusal)
        except DecodeError as error:  # what came before it has its results
            await refuse(context, unreadable(error))
        except grpc.aio.InternalError:
            return  # the caller has gone

    async def Call(self, request: events_pb2.CallRequest, context: Context) -> events_pb2.CallResponse:  # noqa: N802
        """Store one message and wait for the first answer."""
        timeout_s = duration_s(request.timeout) if request.HasField("timeout") else None
        try:
            emit = _read(request.emit, _trace_of(context))
            answer = await self._events.call(emit, timeout_s=timeout_s, deadline_s=_time_left_s(context))
        except Refusal as refusal:
            await refuse(context, refusal)
        return events_pb2.CallResponse(
            payload=answer.payload,
            content_type=answer.content_type,
            headers={**answer.headers, "walnats-uid": answer.uid},
        )

    async def Monitor(  # type: ignore[override]  # noqa: N802 - it writes to the context instead of yielding
        self, request: events_pb2.MonitorRequest, context: Context
    ) -> None:
        """Show what is emitted, as it is emitted."""
        try:
            async with self._events.monitor(request.events) as watcher:
                await show(watcher, context)
        except Refusal as refusal:
            await refuse(context, refusal)

    async def ListScheduled(  # noqa: N802
        self, request: events_pb2.ListScheduledRequest, context: Context
    ) -> events_pb2.ListScheduledResponse:
        """List the delayed emits of an event that are not due yet."""
        try:
            items, cursor = await self._events.scheduled.page(
                request.event, limit=check_limit(request.limit or DEFAULT_LIMIT), cursor=request.cursor or None
            )
        except Refusal as refusal:
            await refuse(context, refusal)
        return events_pb2.ListScheduledResponse(items=map(_scheduled, items), next_cursor=cursor or "")

    async def CancelScheduled(  # noqa: N802
        self, request: events_pb2.CancelScheduledRequest, context: Context
    ) -> events_pb2.CancelScheduledResponse:
        """Cancel a delayed emit."""
        try:
            cancelled = await self._events.scheduled.cancel(request.event, request.uid)
        except Refusal as refusal:
            await refuse(context, refusal)
        return events_pb2.CancelScheduledResponse(cancelled=cancelled)


async def _begin_stream(context: Context) -> float | None:
    """Tell a caller who said how long it waits for each result that this is heard; give it as a deadline, None where it did not.

    Raises:
        Refusal: INVALID_TIME.
    """
    given = dict(context.invocation_metadata() or ()).get(TIMEOUT)
    if given is None:
        return None
    timeout_s = read_duration(TIMEOUT, str(given))
    await context.send_initial_metadata(((TIMEOUT, given),))
    return _less_the_answer(timeout_s)


async def _read_all(context: Context) -> AsyncIterator[EmitRequest]:
    trace = _trace_of(context)
    while (request := await context.read()) is not grpc.aio.EOF:
        yield _read(request, trace)


def _time_left_s(context: Context) -> float | None:
    """Give the time until the answer must be on its way for the caller to see it, None where there is no deadline."""
    left_s = context.time_remaining()
    if left_s is None:
        return None
    return _less_the_answer(left_s)


def _less_the_answer(left_s: float) -> float:
    return max(0.0, left_s - min(max(left_s * _ANSWER_SHARE, _ANSWER_LEAST_S), _ANSWER_MOST_S))


def declaration(message: Any) -> Mapping[str, Any]:
    """Write a declaration as the config file would: the same keys, only those that are set.

    Raises:
        Refusal: INVALID_DECLARATION: it has a duration that is none (`google/protobuf/duration.proto` has the rules).
    """
    try:
        return MessageToDict(message, preserving_proto_field_name=True)
    except SerializeToJsonError as error:
        why = str(error).removeprefix("Failed to serialize ").rstrip(".")
        raise Refusal(Reason.INVALID_DECLARATION, f"{message.name!r} can't be registered: {why}") from None


def _trace_of(context: Context) -> dict[str, str]:
    """Give the trace context that the caller's own instrumentation put into the metadata of the call."""
    return {name: str(value) for name, value in context.invocation_metadata() or () if name in trace_context.NAMES}


def _read(request: events_pb2.EmitRequest, trace: Mapping[str, str]) -> EmitRequest:
    """Read an emit; the trace context of the call is the message's, where that has none of its own."""
    headers = dict(request.headers) if request.headers else NO_HEADERS
    if trace and not any(name.lower() in trace_context.NAMES for name in headers):
        headers = {**headers, **trace}
    when = request.WhichOneof("when")
    return EmitRequest(  # by place, for this is done for each item of a batch
        request.event,
        request.payload,
        request.content_type,
        request.uid,
        request.trace_id,
        headers,
        duration_s(request.delay) if when == "delay" else None,
        instant_s(request.deliver_at) if when == "deliver_at" else None,
        request.expected_last_sequence if request.HasField("expected_last_sequence") else None,
    )


def _scheduled(scheduled: Scheduled) -> events_pb2.Scheduled:
    item = events_pb2.Scheduled(event=scheduled.event, uid=scheduled.uid)
    item.deliver_at.FromMicroseconds(round(scheduled.due_at * 1e6))
    return item


def _write_result(answer: events_pb2.EmitResult, result: Receipt | Refusal) -> None:
    answer.uid = result.uid
    if isinstance(result, Receipt):
        _write_receipt(answer.ok, result)
    else:
        answer.error.CopyFrom(status_of(result))


def _write_receipt(answer: events_pb2.EmitResponse, receipt: Receipt) -> None:
    """Write a receipt into its message, where most flags are as they are in a new one."""
    answer.uid = receipt.uid
    answer.stream = receipt.stream
    answer.sequence = receipt.sequence
    if receipt.duplicate:
        answer.duplicate = True
    if receipt.scheduled:
        answer.scheduled = True
    if receipt.spooled:
        answer.spooled = True
