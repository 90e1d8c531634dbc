"""Consumers: each works off what waits for its actor, in a process of its own, and prints how many per second.

python -m benchmarks.loads.consume KIND ADDRESS COUNT
"""

import argparse
import asyncio
import contextlib
import json
import time

import uvloop
import walnats
from faststream.nats import NatsBroker, PullSub
from nats.js.api import ConsumerConfig

import walnatsd_client as walnatsd
from benchmarks.sink import Arrivals

EVENT, ACTOR = "bench", "print"
JOBS = 64


async def with_walnats(address: str, arrivals: Arrivals, batch: int) -> None:
    """The walnats library; batch 1 is its default, 16 its best."""

    async def handle(_message: bytes) -> None:
        arrivals.note(1, time.monotonic())

    actor = walnats.Actor(ACTOR, walnats.Event(EVENT, bytes), handle, max_jobs=JOBS)
    async with walnats.Actors(actor).connect(address) as connection:
        await _until(arrivals, connection.listen(batch=batch, max_jobs=JOBS))


async def with_listen(address: str, arrivals: Arrivals) -> None:
    """The Python client, over the sidecar's stream."""

    async def handle(_message: bytes) -> None:
        arrivals.note(1, time.monotonic())

    actor = walnatsd.Actor(ACTOR, walnatsd.Event(EVENT, bytes), handle)
    async with walnatsd.connect(address) as connection:
        await _until(arrivals, connection.listen(actor))


async def with_faststream(address: str, arrivals: Arrivals) -> None:
    """FastStream, pulling batches of 100."""
    broker = NatsBroker(address, logger=None)

    @broker.subscriber(
        EVENT,
        stream=EVENT,
        durable=ACTOR,
        config=ConsumerConfig(durable_name=ACTOR, max_ack_pending=1000),
        pull_sub=PullSub(batch_size=100, timeout=1.0),
    )
    async def handle(_message: bytes) -> None:
        arrivals.note(1, time.monotonic())

    async with broker:
        await broker.start()
        await arrivals.done.wait()


async def _until(arrivals: Arrivals, listening: object) -> None:
    task = asyncio.ensure_future(listening)  # type: ignore[call-overload]
    await asyncio.wait([task, asyncio.ensure_future(arrivals.done.wait())], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["walnats", "walnats-16", "listen", "faststream"])
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    arrivals = Arrivals()
    arrivals.begin(arguments.count)
    match arguments.kind:
        case "walnats":
            await with_walnats(arguments.address, arrivals, 1)
        case "walnats-16":
            await with_walnats(arguments.address, arrivals, 16)
        case "listen":
            await with_listen(arguments.address, arrivals)
        case "faststream":
            await with_faststream(arguments.address, arrivals)
    print(json.dumps({"per_s": arrivals.per_s}))


if __name__ == "__main__":
    uvloop.run(main())
