"""A listener that answers only what it is told to: the gRPC stream without the Python client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from support.waiting import until
from walnatsd.v1 import actors_pb2, actors_pb2_grpc

OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.max_receive_message_length", -1),
]
Request = actors_pb2.ListenRequest


class Listener:
    """One stream: records what comes."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call
        self.deliveries: list[actors_pb2.Delivery] = []
        self.heartbeats = 0
        self.unanswered: set[int] = set()
        self.most_unanswered = 0
        self._reader: asyncio.Task[None] | None = None

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.message.payload for delivery in self.deliveries]

    def read(self) -> None:
        """Begin to read."""
        self._reader = asyncio.create_task(self._read())

    async def wait_for(self, count: int) -> list[actors_pb2.Delivery]:
        """Wait until so many deliveries have come."""
        await until(lambda: len(self.deliveries) >= count, what=f"{count} deliveries")
        return self.deliveries

    async def subscribed(self) -> None:
        """Wait until the session has begun."""
        await until(lambda: self.heartbeats)

    async def send(self, *results: Request.Result) -> None:
        """Send results in one message."""
        self.unanswered -= {result.delivery_id for result in results}
        await self.call.write(Request(results=Request.Results(items=results)))

    async def ack(self, *deliveries: actors_pb2.Delivery) -> None:
        await self.send(*[Request.Result(delivery_id=each.delivery_id, ack=Request.Ack()) for each in deliveries])

    async def retry(self, delivery: actors_pb2.Delivery, reason: str = "", *, after: Duration | None = None) -> None:
        retry = Request.Retry(after=after, reason=reason)
        await self.send(Request.Result(delivery_id=delivery.delivery_id, retry=retry))

    async def reject(self, delivery: actors_pb2.Delivery, reason: str) -> None:
        await self.send(Request.Result(delivery_id=delivery.delivery_id, reject=Request.Reject(reason=reason)))

    async def stop(self) -> None:
        await self.call.write(Request(stop=Request.Stop()))

    async def ending(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream; give its status and walnatsd's reason."""
        if self._reader is None:
            self.read()
        async with asyncio.timeout(15):
            code = await self.call.code()
            info = error_details_pb2.ErrorInfo()
            for key, value in await self.call.trailing_metadata():
                if key == "grpc-status-details-bin":
                    status_pb2.Status.FromString(value).details[0].Unpack(info)
        return code, info.reason

    async def close(self) -> None:
        """Break the stream off."""
        self.call.cancel()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while isinstance(response := await self.call.read(), actors_pb2.ListenResponse):
                if not response.deliveries:
                    self.heartbeats += 1
                self.deliveries += response.deliveries
                self.unanswered |= {delivery.delivery_id for delivery in response.deliveries}
                self.most_unanswered = max(self.most_unanswered, len(self.unanswered))


@contextlib.asynccontextmanager
async def stream(address: str) -> AsyncIterator[Listener]:
    """A stream on which nothing has been said yet, and which nobody reads yet."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        listener = Listener(actors_pb2_grpc.ActorsStub(channel).Listen())
        try:
            yield listener
        finally:
            await listener.close()


@contextlib.asynccontextmanager
async def listener(
    address: str, event: str = "counts", actor: str = "print", *, max_in_flight: int = 0
) -> AsyncIterator[Listener]:
    """A listener of an actor, subscribed."""
    async with stream(address) as started:
        subscribe = Request.Subscribe(event=event, actor=actor, max_in_flight=max_in_flight)
        await started.call.write(Request(subscribe=subscribe))
        started.read()
        await started.subscribed()
        yield started
