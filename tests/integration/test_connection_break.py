"""The moment in which the connection to NATS has broken and nobody has been told yet."""

import asyncio

import pytest
from nats.aio.client import Client

from support.daemon import config_text
from support.nats_server import NatsServer
from walnatsd import daemon
from walnatsd.config.load import load_text


async def test_who_waits_for_a_connection_that_has_just_broken_does_not_spin(nats: NatsServer) -> None:
    async with daemon.running(load_text(config_text(nats.url), file=None, environ={})) as started:
        connection = started.connection
        await connection.wait_connected()
        connection._client._status = Client.RECONNECTING  # what the library does first when the socket breaks
        assert not connection.is_connected
        with pytest.raises(TimeoutError):  # returning here made settlements try again for ever without a task switch
            await asyncio.wait_for(connection.wait_connected(), 0.05)
        connection._client._status = Client.CONNECTED
        await asyncio.wait_for(connection.wait_connected(), 5)
