"""Load generators for emitting: each runs in a process of its own and prints how many were confirmed per second.

python -m benchmarks.loads.emit KIND ADDRESS [--callers 64] [--seconds 3]
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import nats
import uvloop
import walnats
from faststream.nats import NatsBroker

import walnatsd_client as walnatsd
from walnatsd.v1 import events_pb2, events_pb2_grpc

EVENT = "bench"
PAYLOAD = b'"' + b"x" * 254 + b'"'
WARM_UP_S = 0.5
BATCH = 100

Emit = Callable[[], Awaitable[object]]
"""One call that returns when what it emitted is confirmed."""


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Emit]:
    """The Python client, through the sidecar."""
    event = walnatsd.Event(EVENT, bytes)
    async with walnatsd.connect(address) as connection:
        yield lambda: connection.emit(event, PAYLOAD)


@asynccontextmanager
async def unary(address: str) -> AsyncIterator[Emit]:
    """`Events.Emit` with the bare stub."""
    request = events_pb2.EmitRequest(event=EVENT, payload=PAYLOAD)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = events_pb2_grpc.EventsStub(channel)
        yield lambda: stub.Emit(request)


@asynccontextmanager
async def batch(address: str) -> AsyncIterator[Emit]:
    """`Events.EmitBatch` with the bare stub, 100 to a batch."""
    item = events_pb2.EmitRequest(event=EVENT, payload=PAYLOAD)
    request = events_pb2.EmitBatchRequest(items=[item] * BATCH)

    async def emit() -> None:
        answer = await stub.EmitBatch(request)
        assert all(each.HasField("ok") for each in answer.items)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = events_pb2_grpc.EventsStub(channel)
        yield emit


@asynccontextmanager
async def echo(address: str) -> AsyncIterator[Emit]:
    """An empty gRPC server that gives back what it gets."""
    request = events_pb2.EmitRequest(event=EVENT, payload=PAYLOAD)
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/bench.Echo/Echo",
            request_serializer=events_pb2.EmitRequest.SerializeToString,
            response_deserializer=events_pb2.EmitResponse.FromString,
        )
        yield lambda: call(request)


@asynccontextmanager
async def of_walnats(address: str) -> AsyncIterator[Emit]:
    """The walnats library in the process of the caller, PubAck awaited."""
    event = walnats.Event(EVENT, bytes)
    async with walnats.Events(event).connect(address) as connection:
        yield lambda: connection.emit(event, PAYLOAD, sync=True)


@asynccontextmanager
async def of_nats(address: str) -> AsyncIterator[Emit]:
    """The plain nats library in the process of the caller, PubAck awaited."""
    connection = await nats.connect(address)
    jetstream = connection.jetstream()
    try:
        yield lambda: jetstream.publish(EVENT, PAYLOAD)
    finally:
        await connection.close()


@asynccontextmanager
async def of_faststream(address: str) -> AsyncIterator[Emit]:
    """FastStream in the process of the caller, PubAck awaited."""
    async with NatsBroker(address, logger=None) as broker:
        publisher = broker.publisher(EVENT, stream=EVENT)
        await broker.start()
        yield lambda: publisher.publish(PAYLOAD)


KINDS = {
    "client": client,
    "unary": unary,
    "batch": batch,
    "echo": echo,
    "walnats": of_walnats,
    "nats": of_nats,
    "faststream": of_faststream,
}


async def main() -> None:
    arguments = _arguments()
    async with KINDS[arguments.kind](arguments.address) as emit:
        per_s = await _drive(emit, arguments.callers, arguments.seconds)
    print(json.dumps({"per_s": per_s * (BATCH if arguments.kind == "batch" else 1)}))


async def _drive(emit: Emit, callers: int, seconds: float) -> float:
    begin = time.monotonic() + WARM_UP_S
    end = begin + seconds
    counted = 0

    async def call() -> None:
        nonlocal counted
        while (started := time.monotonic()) < end:
            await emit()
            counted += started >= begin

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(call())
    return counted / (time.monotonic() - begin)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
