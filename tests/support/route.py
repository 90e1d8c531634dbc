"""Looking at long waits from outside."""

import contextlib
from collections.abc import AsyncIterator

from nats.js.errors import NotFoundError

from support.nats_server import NatsServer
from walnatsd.broker.connection import connect
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Publisher
from walnatsd.broker.route import Route
from walnatsd.config.secrets import Secrets
from walnatsd.config.settings import Nats
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics


@contextlib.asynccontextmanager
async def route_of(nats: NatsServer) -> AsyncIterator[Route]:
    """The route as a part, without a daemon around it."""
    settings = Nats(servers=(nats.url,))
    async with connect(settings, Secrets({}), name="tests", health=Health(), metrics=Metrics()) as connection:
        await connection.wait_connected()
        yield Route(connection, JetStream(connection), Publisher(connection), replicas=1)


async def in_stream(nats: NatsServer, stream: str = "walnatsd") -> int:
    """How many messages a stream holds."""
    async with nats.jetstream() as jetstream:
        return (await jetstream.stream_info(stream)).state.messages


async def unsettled(nats: NatsServer, stream: str = "counts", consumer: str = "print") -> int:
    """How many messages a consumer has handed over that are not settled."""
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info(stream, consumer)).num_ack_pending or 0


async def is_parked(nats: NatsServer, count: int = 1) -> bool:
    """Whether so many messages wait in walnatsd's own stream, and none anywhere else."""
    try:
        return (await in_stream(nats), await unsettled(nats), await in_stream(nats, "counts")) == (count, 0, 0)
    except NotFoundError:
        return False
