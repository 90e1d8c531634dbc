"""The proxy does to a connection what the scenarios think it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from support.proxy import WITHIN_BYTES, Proxy, proxy
from support.waiting import until

MESSAGE = b"HPUB orders" + b"." * 200


class Peer:
    """A server that keeps what it gets and sends it back."""

    def __init__(self) -> None:
        self.got = b""
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.got += data
                writer.write(data)
        self.connections -= 1
        writer.close()


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def way(peer) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    async with proxy(server.sockets[0].getsockname()[1]) as way:
        yield way
    server.close()


async def test_a_cut_in_mid_message_lets_only_its_beginning_through_and_breaks_the_connection_on_both_sides(
    peer, way
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    way.cut_within(b"HPUB ")
    writer.write(b"PING")
    assert await reader.readexactly(4) == b"PING"
    writer.write(MESSAGE)
    await until(lambda: not way.is_to_cut)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() in (b"", MESSAGE[:WITHIN_BYTES])
    await until(lambda: not peer.connections)
    assert peer.got.removeprefix(b"PING") in (b"", MESSAGE[:WITHIN_BYTES])
    writer.close()


async def test_a_forsaken_connection_takes_everything_and_answers_nothing_while_new_ones_work(peer, way) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    way.forsake()
    assert way.forsaken == 1
    writer.write(b"two")
    await writer.drain()
    new_reader, new_writer = await asyncio.open_connection("127.0.0.1", way.port)
    new_writer.write(b"three")
    assert await new_reader.readexactly(5) == b"three"
    assert peer.got == b"onethree"
    assert not reader.at_eof()
    writer.close()
    await until(lambda: not way.forsaken)
    new_writer.close()


async def test_latency_delays_both_ways_and_keeps_the_order(way) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    way.latency_s = 0.1
    started = loop.time()
    writer.write(b"one")
    await asyncio.sleep(0)
    writer.write(b"two")
    assert await reader.readexactly(6) == b"onetwo"
    assert loop.time() - started >= 0.2
    writer.close()
