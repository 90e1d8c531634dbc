"""A gRPC server that plays the sidecar towards listeners."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import walnatsd_client as walnatsd
from sidecar_server import Servicer
from walnatsd_client._proto import actors_pb2, events_pb2, message_pb2

Request = actors_pb2.ListenRequest
Context = grpc.aio.ServicerContext


class Session:
    """One stream as the sidecar sees it."""

    def __init__(self, context: Context, subscribe: Request.Subscribe) -> None:
        self.subscribe = subscribe
        self.requests: asyncio.Queue[Request | None] = asyncio.Queue()
        """What the listener sent after it subscribed; None for the end."""
        self.ending: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        self._context = context
        self._last_id = 0

    async def deliver(self, *payloads: bytes, time_left_s: float = 30.0, **fields: object) -> None:
        """Send deliveries in one message."""
        deliveries = []
        for payload in payloads:
            self._last_id += 1
            deadline = Timestamp()
            deadline.FromNanoseconds(round((time.time() + time_left_s) * 1e9))
            message = message_pb2.Message(event="counts", payload=payload, content_type="application/json", **fields)
            deliveries.append(
                actors_pb2.Delivery(delivery_id=self._last_id, message=message, attempt=2, deadline=deadline)
            )
        await self._context.write(actors_pb2.ListenResponse(deliveries=deliveries))

    async def next(self) -> Request | None:
        async with asyncio.timeout(10):
            return await self.requests.get()

    async def result(self) -> Request.Result:
        """The next result, which must come alone."""
        request = await self.next()
        assert request is not None
        [result] = request.results.items
        return result

    def end(self, code: grpc.StatusCode, reason: str = "") -> None:
        self.ending.set_result((code, reason))


class Sidecar(Servicer):
    """Takes every subscription but those that `refuse` names a reason for."""

    def __init__(self) -> None:
        self.sessions: asyncio.Queue[Session] = asyncio.Queue()
        self.registered: list[str] = []
        self.refuse: dict[str, tuple[grpc.StatusCode, str]] = {}
        """By name of the actor."""

    async def session(self) -> Session:
        async with asyncio.timeout(10):
            return await self.sessions.get()

    async def Register(  # noqa: N802
        self, request: events_pb2.RegisterEventsRequest | actors_pb2.RegisterActorsRequest, _: Context
    ) -> events_pb2.RegisterEventsResponse | actors_pb2.RegisterActorsResponse:
        if isinstance(request, events_pb2.RegisterEventsRequest):
            self.registered += [event.name for event in request.events]
            return events_pb2.RegisterEventsResponse(events=[events_pb2.RegisteredEvent() for _ in request.events])
        self.registered += [actor.name for actor in request.actors]
        for actor in request.actors:
            self.refuse.pop(actor.name, None)
        return actors_pb2.RegisterActorsResponse(actors=[actors_pb2.RegisteredActor() for _ in request.actors])

    async def Listen(self, requests: AsyncIterator[Request], context: Context) -> None:  # noqa: N802
        subscribe = (await anext(requests)).subscribe
        if subscribe.actor in self.refuse:
            await end_with(context, *self.refuse[subscribe.actor])
        session = Session(context, subscribe)
        await context.write(actors_pb2.ListenResponse())
        self.sessions.put_nowait(session)
        reader = asyncio.create_task(self._read(requests, session))
        try:
            done, _ = await asyncio.wait([reader, session.ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reader.cancel()
        if session.ending in done:
            await end_with(context, *session.ending.result())

    async def _read(self, requests: AsyncIterator[Request], session: Session) -> None:
        async for request in requests:
            session.requests.put_nowait(request)
        session.requests.put_nowait(None)


async def end_with(context: Context, code: grpc.StatusCode, reason: str) -> None:
    if not reason:
        await context.abort(code, "because")
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(domain="walnatsd", reason=reason))
    status = status_pb2.Status(code=code.value[0], message="because", details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))


@asynccontextmanager
async def listening(conn: walnatsd.Connection, *actors: walnatsd.Actor, **options: int) -> AsyncIterator[asyncio.Task]:
    task = asyncio.create_task(conn.listen(*actors, **options))
    try:
        yield task
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
