"""The client of webhooks against servers that speak raw bytes, on both loops that the daemon may run on."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority
from support.waiting import until
from walnatsd.webhook import http_client
from walnatsd.webhook.dialer import Origin
from walnatsd.webhook.errors import BrokenError, NotConnectedError, NotHttpError
from walnatsd.webhook.http_client import HttpClient
from walnatsd.webhook.http_connection import HEAD_LIMIT_BYTES, Answer

pytestmark = pytest.mark.both_loops

Handle = Callable[["Caller"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD = b"POST /hook HTTP/1.1\r\nhost: actor\r\ncontent-length: 4\r\n\r\n"
LIMIT = 1000


class Caller:
    """One connection to a server of a test."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """Which connection it is, from 1."""
        self.requests = 0
        self._reader = reader
        self._writer = writer

    async def next(self) -> bytes:
        """Read a request; gives its body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        self.requests += 1
        return body

    async def say(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()

    async def flood(self, text: bytes) -> None:
        while True:
            await self.say(text)

    async def gone(self) -> None:
        """Wait until the other side closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass


class Server:
    """Runs the test's function on every connection, then closes it."""

    def __init__(self, port: int, callers: list[Caller]) -> None:
        self.origin = Origin(is_tls=False, host="127.0.0.1", port=port)
        self.callers = callers

    @property
    def requests(self) -> int:
        return sum(caller.requests for caller in self.callers)


@contextlib.asynccontextmanager
async def serving(handle: Handle, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()
    callers: list[Caller] = []

    async def serve(caller: Caller, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            await handle(caller)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(Caller(len(callers) + 1, reader, writer))
        tasks.add(asyncio.create_task(serve(callers[-1], writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield Server(listening.sockets[0].getsockname()[1], callers)
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def saying(text: bytes) -> Handle:
    """Answer the first request with this, then close."""

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(text)

    return handle


def staying(*texts: bytes) -> Handle:
    """Answer one request after the other with these, the last one again and again."""

    async def handle(caller: Caller) -> None:
        while True:
            body = await caller.next()
            await caller.say(texts[min(caller.requests, len(texts)) - 1].replace(b"<body>", body))

    return handle


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with http_client.http_client() as client:
        yield client


async def ask(client: HttpClient, server: Server, body: bytes = b"body", **options: Any) -> Answer:
    given = {"tls": None, "connect_s": 30.0, "timeout_s": 60.0, "limit": LIMIT} | options
    head = HEAD.replace(b": 4", b": %d" % len(body))
    return await client.request(given.pop("origin", server.origin), given.pop("tls"), head, body, **given)


# ---- connections are kept, and only those that can be


async def test_a_connection_is_used_again(client) -> None:
    async with serving(staying(OK)) as server:
        for _ in range(3):
            assert (await ask(client, server)).body == b"ok"
        assert [caller.requests for caller in server.callers] == [3]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 500 Not yours\r\ncontent-length: 0\r\n\r\n",
        OK + b"HTTP/1.1 500 Not y",
        OK + b"surplus",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\0",
    ],
)
async def test_a_connection_with_something_left_over_is_not_used_again(client, answer) -> None:
    """What is read on it next would pass for the answer to another message."""

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(answer)
        await caller.gone()

    async with serving(handle) as server:
        for number in (1, 2):
            assert await ask(client, server) == Answer(200, "", None, b"ok", complete=True)
            assert len(server.callers) == number


async def test_an_answer_that_nobody_asked_for_is_nobodys(client) -> None:
    """Some servers say 408 on a connection that is idle for long."""
    late = asyncio.Event()

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(OK)
        if caller.number == 1:
            await late.wait()
            await caller.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            await caller.gone()
            late.clear()

    async with serving(handle) as server:
        await ask(client, server)
        late.set()
        await until(lambda: not late.is_set())
        assert (await ask(client, server)).status == 200
        assert len(server.callers) == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(client) -> None:
    async with serving(saying(OK)) as server:
        for number in (1, 2, 3):
            assert (await ask(client, server)).complete
            assert len(server.callers) == number
            await until(lambda: not client._idle or not next(iter(client._idle.values()))[0].usable)


async def test_a_request_that_meets_the_end_of_its_connection_is_sent_once(client) -> None:
    """Whether it was read nobody knows; to send it again is a decision of the retry policy."""

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(OK)
        await caller.next()

    async with serving(handle) as server:
        await ask(client, server)
        with pytest.raises(BrokenError, match="the other side closed it"):
            await ask(client, server)
        assert server.requests == 2
        assert len(server.callers) == 1


async def test_idle_connections_are_closed_in_time(client, monkeypatch) -> None:
    monkeypatch.setattr(http_client, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(http_client, "SWEEP_INTERVAL_S", 0.02)
    closed = []

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(OK)
        await caller.gone()
        closed.append(caller.number)

    async with serving(handle) as server:
        await ask(client, server)
        await until(lambda: closed)
        assert client._idle == {}
        assert client._sweeping is None


async def test_a_connection_that_is_too_old_is_not_used_even_if_nobody_swept(client, monkeypatch) -> None:
    monkeypatch.setattr(http_client, "KEEPALIVE_S", 0.0)
    async with serving(staying(OK)) as server:
        await ask(client, server)
        await ask(client, server)
        assert len(server.callers) == 2


async def test_a_fresh_request_has_a_connection_of_its_own(client) -> None:
    async with serving(staying(OK)) as server:
        await ask(client, server)
        assert (await ask(client, server, fresh=True)).status == 200
        await ask(client, server)
        assert [caller.requests for caller in server.callers] == [2, 1]


async def test_requests_at_once_have_connections_of_their_own_and_their_own_answers(client) -> None:
    async with serving(staying(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<body>")) as server:
        for _ in range(3):
            bodies = [b"%04d" % number for number in range(50)]
            answers = await asyncio.gather(*(ask(client, server, body) for body in bodies))
            assert [answer.body for answer in answers] == bodies
        assert len(server.callers) == 50


async def test_an_early_answer_is_taken_and_its_connection_closed(client) -> None:
    """The rest of the request would be read as the beginning of the next one."""

    async def handle(caller: Caller) -> None:
        await caller._reader.readuntil(b"\r\n\r\n")
        await caller.say(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.Event().wait()

    async with serving(handle) as server:
        for number in (1, 2):
            answer = await ask(client, server, b"x" * (16 << 20))
            assert (answer.status, answer.body, answer.complete) == (413, b"big", True)
            assert len(server.callers) == number


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
async def test_a_body_arrives_as_it_is(client, size) -> None:
    body = os.urandom(size)
    got = []

    async def handle(caller: Caller) -> None:
        got.append(await caller.next())
        await caller.say(OK)

    async with serving(handle) as server:
        await ask(client, server, body)
    assert got == [body]


# ---- what ends early


async def test_a_request_that_is_cancelled_leaves_nothing_to_the_next_one(client) -> None:
    seen = asyncio.Event()

    async def handle(caller: Caller) -> None:
        while True:
            body = await caller.next()
            seen.set()
            if body == b"slow":
                await caller.gone()
            await caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + body)

    async with serving(handle) as server:
        for _ in range(3):
            seen.clear()
            slow = asyncio.create_task(ask(client, server, b"slow"))
            await seen.wait()
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert (await ask(client, server, b"fast")).body == b"fast"


async def test_no_answer_in_time_is_a_timeout(client) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(b"HTTP/1.1 200 OK\r\nx-and:")
        await caller.gone()

    async with serving(handle) as server:
        with pytest.raises(TimeoutError):
            await ask(client, server, timeout_s=0.1)
        assert client._idle == {}


@pytest.mark.parametrize("before_s", [60.0, 1.0])
async def test_each_exchange_on_a_connection_has_a_time_limit_of_its_own(client, before_s) -> None:
    """Though one timer serves them: that of the exchange before may be far too late, or go off in the midst of this one."""

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(OK)
        await caller.next()
        await caller.gone()

    async with serving(handle) as server:
        await ask(client, server, timeout_s=before_s)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await ask(client, server, timeout_s=1.5)
        assert 1.49 <= time.monotonic() - began < 30
        assert (server.requests, len(server.callers)) == (2, 1)


async def test_a_body_that_is_late_is_cut_short(client) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome")
        await caller.gone()

    async with serving(handle) as server:
        answer = await ask(client, server, timeout_s=0.3)
        assert (answer.status, answer.body, answer.complete) == (200, b"some", False)
        assert client._idle == {}


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nx-flood: ",
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
async def test_a_head_without_end_is_no_http(client, beginning) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(beginning)
        await caller.flood(b"x" * 60_000)

    async with serving(handle) as server:
        with pytest.raises(NotHttpError):
            await ask(client, server)


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"]
)
async def test_interim_answers_without_end_are_no_http(client, interim) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.flood(interim * 100)

    async with serving(handle) as server:
        with pytest.raises(NotHttpError, match=f"{HEAD_LIMIT_BYTES >> 10} KiB of headers"):
            await ask(client, server)


@pytest.mark.parametrize("flood", [b"0\r\nx-trailer: ", b"2;extension="])
async def test_a_trailer_without_end_cuts_the_answer_short(client, flood) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n" + flood)
        await caller.flood(b"x" * 60_000)

    async with serving(handle) as server:
        answer = await ask(client, server)
        assert (answer.status, answer.body, answer.complete) == (200, b"ok", False)
        await until(lambda: client._idle == {})


@pytest.mark.parametrize("framing", [b"content-length: 100000000", b"transfer-encoding: chunked", b"x-none: 1"])
async def test_a_body_is_read_up_to_the_limit(client, framing) -> None:
    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await caller.flood(b"400\r\n" + b"x" * 0x400 + b"\r\n" if b"chunked" in framing else b"x" * 60_000)

    async with serving(handle) as server:
        answer = await ask(client, server)
        assert (answer.status, len(answer.body), answer.complete) == (200, LIMIT, False)
        assert client._idle == {}


async def test_a_body_as_long_as_the_limit_is_whole(client) -> None:
    async with serving(staying(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * LIMIT)) as server:
        answer = await ask(client, server)
        assert (len(answer.body), answer.complete) == (LIMIT, True)


async def test_an_answer_is_read_to_where_it_was_cut(client) -> None:
    """Without a whole head there is none; with one, it is cut short."""
    head, body = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", b"0123456789"
    ends = iter(range(len(head + body)))

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.say((head + body)[: next(ends)])

    async with serving(handle) as server:
        for end in range(len(head + body)):
            if end < len(head):
                with pytest.raises(BrokenError):
                    await ask(client, server)
            else:
                assert await ask(client, server) == Answer(200, "", None, body[: end - len(head)], complete=False)
        assert client._idle == {}


# ---- opening connections


async def test_who_refuses_is_told_with_the_address(client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        origin = Origin(is_tls=False, host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(NotConnectedError, match=rf"^{origin}: Connection refused$"):
            await client.request(origin, None, HEAD, b"body", connect_s=5, timeout_s=5, limit=LIMIT)


async def test_a_handshake_that_takes_too_long_is_no_connection(client) -> None:
    async with serving(Caller.gone) as server:
        origin = server.origin._replace(is_tls=True)
        with pytest.raises(NotConnectedError, match=r"no connection within 0.1 s"):
            await ask(client, server, origin=origin, connect_s=0.1)


async def test_what_speaks_no_tls_is_no_connection(client) -> None:
    async def handle(caller: Caller) -> None:
        await caller.say(b"SSH-2.0-OpenSSH_9.2\r\n")
        await caller.gone()

    async with serving(handle) as server:
        with pytest.raises(NotConnectedError, match="SSL"):
            await ask(client, server, origin=server.origin._replace(is_tls=True))


async def test_other_certificates_are_other_connections(client, tmp_path) -> None:
    """After certificates were renewed, nothing goes out on what was opened with those of before."""
    authority = Authority(tmp_path)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue().configure_cert(server_tls)
    before, after = authority.client(), authority.client()
    async with serving(staying(OK), tls=server_tls) as server:
        origin = server.origin._replace(is_tls=True)
        for tls in (before, before, after, after):
            assert (await ask(client, server, origin=origin, tls=tls)).body == b"ok"
        assert [caller.requests for caller in server.callers] == [2, 2]


async def test_a_certificate_of_somebody_else_is_no_connection(client, tmp_path) -> None:
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Authority(tmp_path).issue().configure_cert(server_tls)
    async with serving(staying(OK), tls=server_tls) as server:
        with pytest.raises(NotConnectedError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(client, server, origin=server.origin._replace(is_tls=True))
        assert server.requests == 0


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_nothing_stays_open(client, tmp_path) -> None:
    """Whatever ends a request: cancelled while connecting or waiting, too late, refused, not trusted."""

    async def handle(caller: Caller) -> None:
        await caller.next()
        await caller.gone()

    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Authority(tmp_path).issue().configure_cert(server_tls)
    async with serving(handle) as plain, serving(handle, tls=server_tls) as tls, serving(Caller.gone) as mute:
        before = descriptors()
        over_tls = tls.origin._replace(is_tls=True)
        for round_ in range(10):
            requests = [
                asyncio.create_task(ask(client, plain)),
                asyncio.create_task(ask(client, plain, timeout_s=0.001)),
                asyncio.create_task(ask(client, tls, origin=over_tls)),
                asyncio.create_task(ask(client, mute, origin=mute.origin._replace(is_tls=True))),
                asyncio.create_task(ask(client, mute, origin=mute.origin._replace(is_tls=True), connect_s=0.002)),
            ]
            for _ in range(round_ * 3):
                await asyncio.sleep(0)
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        await until(lambda: descriptors() <= before)
