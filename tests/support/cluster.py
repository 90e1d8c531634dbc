"""A cluster of three nats-servers on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error
from nats.js import JetStreamContext

from support.nats_server import NatsServer, free_port
from support.waiting import until

SIZE = 3
ELECTION_S = 1.0
"""Who asks before there is a leader gets no answer; so soon it is asked again."""


class Cluster:
    """Three nodes that store everything three times."""

    def __init__(self, folder: Path) -> None:
        routes = [free_port() for _ in range(SIZE)]
        self.nodes = [
            NatsServer(
                folder / f"n{number}",
                options={
                    "server_name": f"n{number}",
                    "cluster": {
                        "name": "tests",
                        "listen": f"127.0.0.1:{routes[number]}",
                        "routes": [f"nats-route://127.0.0.1:{port}" for port in routes],
                    },
                },
            )
            for number in range(SIZE)
        ]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def node(self, name: str) -> NatsServer:
        """The node of a server name."""
        return self.nodes[int(name.removeprefix("n"))]

    @contextlib.asynccontextmanager
    async def jetstream(self, **options: Any) -> AsyncIterator[JetStreamContext]:
        """The plain library's view; it finds its way to a node that lives."""
        connection = await nats.connect(self.urls, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **options)
        try:
            yield connection.jetstream()
        finally:
            await connection.close()

    async def wait_ready(self) -> None:
        """Wait until a stream with three replicas can be made."""
        async with self.jetstream() as jetstream:
            hasty = jetstream._nc.jetstream(timeout=ELECTION_S)
            await until(lambda: _takes_streams(hasty), timeout_s=30)


async def _takes_streams(jetstream: JetStreamContext) -> bool:
    try:
        await jetstream.add_stream(name="probe", subjects=["probe"], num_replicas=SIZE)
        return await jetstream.delete_stream("probe")
    except (Error, TimeoutError):
        return False


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster that is ready, and ends with what it stored."""
    started = Cluster(folder)
    try:
        await asyncio.gather(*(node.start() for node in started.nodes))
        await started.wait_ready()
        yield started
    finally:
        await asyncio.gather(*(node.kill() for node in started.nodes))
