"""How answers are read, however the network cuts them. The bytes are given to the connection directly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walnatsd.webhook.errors import BrokenError, NotHttpError
from walnatsd.webhook.http_connection import Answer, HttpConnection

pytestmark = pytest.mark.both_loops


class Opened:
    """A connection to a server that reads what comes and says nothing."""

    def __init__(self, connection: HttpConnection) -> None:
        self.connection = connection

    async def read(self, *parts: bytes, limit: int = 1000) -> Answer:
        """Make a request, and have its answer come in these parts; an empty one is the end of the connection."""
        exchange = asyncio.create_task(
            self.connection.exchange(b"GET / HTTP/1.1\r\n\r\n", b"", limit=limit, timeout_s=10)
        )
        await asyncio.sleep(0)
        for part in parts:
            if part:
                self.connection.data_received(part)
            else:
                self.connection.eof_received()
                self.connection.connection_lost(None)
        return await exchange


@contextlib.asynccontextmanager
async def opening() -> AsyncIterator[Opened]:
    gone = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    place = server.sockets[0].getsockname()
    _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, *place)
    try:
        yield Opened(connection)
    finally:
        connection.abort()
        server.close()
        await gone.wait()


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    async with opening() as opened:
        yield opened


ANSWERS = [
    (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, "", None, b"", complete=True)),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello", Answer(200, "text/plain", None, b"hello", complete=True)),
    (b"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", Answer(200, "", None, b"", complete=True)),
    (b"HTTP/1.1 503 X\r\nRETRY-AFTER:  7 \r\nretry-after: 9\r\ncontent-length: 1\r\n\r\n.", Answer(503, "", "7 ", b".", complete=True)),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n", Answer(200, "", None, b"hello", complete=True)),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: retry-after\r\n\r\n1\r\nx\r\n0\r\nretry-after: 9\r\n\r\n", Answer(200, "", None, b"x", complete=True)),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok", Answer(201, "", None, b"ok", complete=True)),
    (b"HTTP/1.1 103 Early Hints\r\nretry-after: 3\r\ncontent-type: a/b\r\n\r\nHTTP/1.1 102 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n", Answer(204, "", None, b"", complete=True)),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", Answer(304, "", None, b"", complete=True)),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx", Answer(200, "", None, b"x", complete=True)),
    (b"HTTP/1.1 200 OK\ncontent-length: 1\n\nx", Answer(200, "", None, b"x", complete=True)),
    (b"HTTP/1.1 200 OK\r\nx-empty:\r\ncontent-length: 1\r\nx-empty: \r\n\r\nx", Answer(200, "", None, b"x", complete=True)),
    (b"HTTP/1.1 200 OK\r\ncontent-type: \xc3\xa9\xff\r\ncontent-length: 0\r\n\r\n", Answer(200, "é\ufffd", None, b"", complete=True)),
]  # fmt: skip
WITHOUT_END = [
    (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    (b"HTTP/1.0 200 OK\r\n\r\n", b""),
    (b"HTTP/1.1 500 X\r\ntransfer-encoding: gzip\r\n\r\nhello", b"hello"),
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
async def test_an_answer_that_is_cut_anywhere_is_the_same(opened, text, answer) -> None:
    """All of them on one connection, which is good for the next one each time."""
    for at in range(1, len(text)):
        assert await opened.read(text[:at], text[at:]) == answer
        assert opened.connection.usable
    assert await opened.read(text) == answer
    assert await opened.read(*(text[at : at + 1] for at in range(len(text)))) == answer
    assert opened.connection.usable


@pytest.mark.parametrize(("text", "body"), WITHOUT_END)
async def test_an_answer_without_end_ends_with_its_connection(opened, text, body) -> None:
    answer = await opened.read(*(text[at : at + 1] for at in range(len(text))), b"")
    assert (answer.body, answer.complete) == (body, True)
    assert not opened.connection.usable


async def test_after_101_comes_no_answer_and_no_other_request(opened) -> None:
    text = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x00"
    assert (await opened.read(text)).status == 101
    assert not opened.connection.usable


async def test_an_offer_to_upgrade_is_no_upgrade(opened) -> None:
    """Apache makes it with every answer."""
    text = b"HTTP/1.1 200 OK\r\nupgrade: h2,h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok"
    assert await opened.read(text) == Answer(200, "", None, b"ok", complete=True)
    assert opened.connection.usable


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_told_so(opened, text) -> None:
    with pytest.raises(NotHttpError, match=r"\w"):
        await opened.read(text)
    assert not opened.connection.usable


async def test_a_body_that_turns_bad_is_cut_short(opened) -> None:
    answer = await opened.read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nnonsense\r\n")
    assert answer == Answer(200, "", None, b"ok", complete=False)
    assert not opened.connection.usable


async def test_a_length_beside_chunks_is_no_answer_to_go_on_from(opened) -> None:
    """It is how answers are smuggled past who reads the other of the two."""
    text = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with contextlib.suppress(NotHttpError):
        await opened.read(text)
    assert not opened.connection.usable


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(0, 200))
async def test_no_bytes_raise_anything_but_what_is_told(data: bytes, at: int) -> None:
    """They begin as an answer does, so that the parser is not done with them at once."""
    text = b"HTTP/1.1 200 OK\r\n" + data
    async with opening() as opened:
        with contextlib.suppress(NotHttpError, BrokenError):
            assert (await opened.read(text[:at] or b"H", text[at:] or b"T", b"")).status == 200
