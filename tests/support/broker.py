"""The parts of the broker room on their own, connected to a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from walnatsd.broker.connection import Connection, connect
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.pull import Pull
from walnatsd.broker.wire import Frame
from walnatsd.config.secrets import Secrets
from walnatsd.config.settings import Nats
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics


@dataclass
class Broker:
    connection: Connection
    jetstream: JetStream

    async def consumer(self, **config: Any) -> None:
        """An event `counts` with an actor `print`, as registration makes them."""
        stream = {"name": "counts", "subjects": ["counts"], "retention": "interest"}
        await self.jetstream.request("STREAM.CREATE.counts", stream)
        await self.add_consumer("print", **config)

    async def add_consumer(self, name: str, **config: Any) -> None:
        config = {"durable_name": name, "name": name, "ack_policy": "explicit", "deliver_policy": "all"} | config
        body = {"stream_name": "counts", "action": "create", "config": config}
        await self.jetstream.request(f"CONSUMER.CREATE.counts.{name}", body)

    async def store(self, *payloads: bytes) -> None:
        """Store messages, in order."""
        for payload in payloads:
            await self.connection.request("counts", payload)

    async def unsettled(self) -> int:
        """Messages of the consumer that are not settled."""
        info = await self.jetstream.consumer("counts", "print")
        assert info is not None
        return int(info["num_pending"] + info["num_ack_pending"])

    async def ack_pending(self) -> int:
        """Messages that the consumer has handed out and that are not settled."""
        info = await self.jetstream.consumer("counts", "print")
        assert info is not None
        return int(info["num_ack_pending"])

    async def waiting_pulls(self, count: int) -> bool:
        """Whether just so many pull requests wait at the consumer."""
        info = await self.jetstream.consumer("counts", "print")
        assert info is not None
        return bool(info["num_waiting"] == count)


@contextlib.asynccontextmanager
async def broker(url: str) -> AsyncIterator[Broker]:
    """A connection of walnatsd's own, once it is there."""
    settings = Nats(servers=(url,))
    async with connect(settings, Secrets({}), name="tests", health=Health(), metrics=Metrics()) as connection:
        async with asyncio.timeout(15):
            await connection.wait_connected()
        yield Broker(connection, JetStream(connection))


@dataclass
class Puller:
    """A running pull that keeps what it gets until somebody settles it."""

    pull: Pull
    limit: int
    held: list[Delivery] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    most_held: int = 0
    task: asyncio.Task[None] | None = None

    def receive(self, delivery: Delivery) -> None:
        self.held.append(delivery)
        self.payloads.append(delivery.message.payload)
        self.most_held = max(self.most_held, len(self.held))

    async def settle(self, count: int = 1) -> None:
        """Ack what is held longest."""
        for _ in range(count):
            await self.held[0].ack()
            del self.held[0]
            self.pull.wake()


@contextlib.asynccontextmanager
async def pulling(parts: Broker, *, limit: int = 4) -> AsyncIterator[Puller]:
    """Pull the actor `print` with room for `limit` messages; an exception of the pull comes out of `task`."""
    puller: Puller

    def receive(frame: Frame) -> None:
        puller.receive(Delivery.of_event(parts.connection, parts.jetstream, "counts", frame))

    pull = Pull(
        parts.connection,
        parts.jetstream,
        stream="counts",
        consumer="print",
        capacity=lambda: puller.limit - len(puller.held),
        receive=receive,
    )
    puller = Puller(pull, limit)
    puller.task = asyncio.create_task(pull.run())
    try:
        yield puller
    finally:
        puller.task.cancel()
        await asyncio.wait([puller.task])
