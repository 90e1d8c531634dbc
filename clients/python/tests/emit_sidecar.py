"""A gRPC server that plays the sidecar towards emitters and those who register."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import walnatsd_client as walnatsd
from sidecar_server import Servicer
from walnatsd_client import _line
from walnatsd_client._proto import actors_pb2, events_pb2

COUNT = walnatsd.Event("counts", int)

Context = grpc.aio.ServicerContext
Emit = Callable[[events_pb2.EmitRequest, Context], Awaitable[events_pb2.EmitResponse]]


class _RefusedError(Exception):
    def __init__(self, status: status_pb2.Status) -> None:
        self.status = status


class _ItemContext:
    """The context of a batch, for one item: what ends a call ends the item."""

    def __init__(self, context: Context) -> None:
        self.time_remaining = context.time_remaining

    async def abort_with_status(self, status: grpc.Status) -> None:
        [(_, value)] = status.trailing_metadata
        raise _RefusedError(status_pb2.Status.FromString(value))


class Sidecar(Servicer):
    """Stores what is emitted, once per uid, unless the test plays `emit` itself."""

    def __init__(self) -> None:
        self.registered: list[events_pb2.Event | actors_pb2.Actor] = []
        self.emitted: list[events_pb2.EmitRequest] = []
        self.batches: list[list[events_pb2.EmitRequest]] = []
        self.on_line: list[events_pb2.EmitRequest] = []
        self.lines: list[Context] = []
        self.stored: dict[str, int] = {}
        self.emit: Emit = self.store

    async def Emit(self, request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:  # noqa: N802
        self.emitted.append(request)
        return await self.emit(request, context)

    async def EmitBatch(  # noqa: N802
        self, request: events_pb2.EmitBatchRequest, context: Context
    ) -> events_pb2.EmitBatchResponse:
        """One result per item, of `emit`."""
        self.batches.append(list(request.items))
        self.emitted += request.items
        return events_pb2.EmitBatchResponse(
            items=await asyncio.gather(*(self._result(item, context) for item in request.items))
        )

    async def EmitStream(  # noqa: N802
        self, requests: AsyncIterator[events_pb2.EmitRequest], context: Context
    ) -> AsyncIterator[events_pb2.EmitResult]:
        """One result per request, of `emit`; says that it knows what a line is."""
        await context.send_initial_metadata(
            [(key, value) for key, value in context.invocation_metadata() if key == _line.TIMEOUT]
        )
        self.lines.append(context)
        async for request in requests:
            self.on_line.append(request)
            self.emitted.append(request)
            yield await self._result(request, context)

    async def _result(self, item: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResult:
        try:
            return events_pb2.EmitResult(uid=item.uid, ok=await self.emit(item, _ItemContext(context)))  # type: ignore[arg-type]
        except _RefusedError as refused:
            return events_pb2.EmitResult(uid=item.uid, error=refused.status)

    async def store(self, request: events_pb2.EmitRequest, _: Context) -> events_pb2.EmitResponse:
        duplicate = request.uid in self.stored
        sequence = self.stored.setdefault(request.uid, len(self.stored) + 1)
        return events_pb2.EmitResponse(uid=request.uid, stream=request.event, sequence=sequence, duplicate=duplicate)

    async def Register(  # noqa: N802
        self, request: events_pb2.RegisterEventsRequest | actors_pb2.RegisterActorsRequest, _: Context
    ) -> events_pb2.RegisterEventsResponse | actors_pb2.RegisterActorsResponse:
        if isinstance(request, events_pb2.RegisterEventsRequest):
            self.registered += request.events
            answers = [
                events_pb2.RegisteredEvent(name=e.name, stream=e.name, created=True, drift=["storage: file"])
                for e in request.events
            ]
            return events_pb2.RegisterEventsResponse(events=answers)
        self.registered += request.actors
        return actors_pb2.RegisterActorsResponse(
            actors=[
                actors_pb2.RegisteredActor(name=a.name, event=a.event, updated=["ack_wait"]) for a in request.actors
            ]
        )


class Gate:
    """An Emit that stores nothing until it is opened."""

    def __init__(self, sidecar: Sidecar, *events: walnatsd.Event[int] | walnatsd.Event[str]) -> None:
        """Shut it for these events, or for all."""
        self._sidecar = sidecar
        self._events = {event.name for event in events}
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()
        sidecar.emit = self.emit

    async def emit(self, request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        self.arrived.set()
        if not self._events or request.event in self._events:
            await self.open.wait()
        return await self._sidecar.store(request, context)


async def emit_together(
    conn: walnatsd.Connection,
    *numbers: int,
    timeout: float = 15.0,  # noqa: ASYNC109 - of each emit
) -> list[walnatsd.Receipt | BaseException]:
    """Emit counts at the same time."""
    emits = (conn.emit(COUNT, number, uid=f"uid-{number}", timeout=timeout) for number in numbers)
    return await asyncio.gather(*emits, return_exceptions=True)


def refuse_with(reason: str, *, code: grpc.StatusCode, maybe_stored: str = "false", retry_s: int = 0) -> Emit:
    """An Emit that answers an error as section 3 of the contract says."""

    async def refuse(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        info = error_details_pb2.ErrorInfo(
            domain="walnatsd", reason=reason, metadata={"uid": request.uid, "maybe_stored": maybe_stored}
        )
        details = [AnyMessage(), AnyMessage()]
        details[0].Pack(info)
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=retry_s)))
        status = status_pb2.Status(code=code.value[0], message="because", details=details[: 2 if retry_s else 1])
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    return refuse
