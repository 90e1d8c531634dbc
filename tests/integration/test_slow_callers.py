"""Callers that take their time or take too much: they are cut off, and everybody else is served meanwhile."""

import asyncio
import contextlib
import resource
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from support.certificates import Authority
from support.daemon import Sidecar, config_text, process, running
from support.feeds import watching
from support.grpc_calls import stubs
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.servers import connections
from walnatsd.servers import grpc as grpc_server
from walnatsd.v1 import events_pb2

HEAD = b"POST /v1/events/counts HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_S", 0.02)
    monkeypatch.setattr(connections, "LIMITS_S", {"head": 0.3, "body": 0.3, "unread": 0.3})


def text_for(nats: Any, **parts: Any) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], **parts)


class Line:
    """A TCP connection whose other end may hang up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def hang_up(self) -> None:
        self._writer.transport.abort()

    async def is_cut(self) -> bool:
        """Wait until the other end hangs up, whatever it says before."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True

    async def trickle(self, byte: bytes) -> None:
        """Send a byte now and then until the other end hangs up."""
        cut = asyncio.create_task(self.is_cut())
        while not cut.done():
            self.send(byte)
            await asyncio.wait([cut], timeout=0.02)


@contextlib.asynccontextmanager
async def line_to(address: str, *, limit: int = 65536) -> AsyncIterator[Line]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    line = Line(reader, writer)
    try:
        async with asyncio.timeout(20):
            yield line
    finally:
        line.hang_up()


async def cut(sidecar: Sidecar, address: str, why: str) -> float:
    name = f'walnatsd_connections_cut_total{{address="{address}",why="{why}"}}'
    return (await sidecar.metrics()).get(name, 0)


# ---- HTTP: requests


@pytest.mark.parametrize("part", ["http", "admin", "monitoring"])
async def test_a_head_that_trickles_in_or_never_comes_is_cut_off(nats, part) -> None:
    async with running(text_for(nats, monitoring={"listen": "127.0.0.1:0"})) as sidecar:
        address = getattr(sidecar, part)
        async with line_to(address) as trickling, line_to(address) as silent:
            trickling.send(b"GET / HTTP/1.1\r\nHost: ")
            await asyncio.gather(trickling.trickle(b"a"), silent.is_cut())
        await until(lambda: cut(sidecar, part, "head"))
        assert await cut(sidecar, part, "head") == 2
        await sidecar.emit("counts", "1")


async def test_another_request_that_trickles_in_is_cut_off_and_an_idle_connection_is_kept(nats) -> None:
    async with (
        running(text_for(nats)) as sidecar,
        line_to(sidecar.http) as trickling,
        line_to(sidecar.http) as idle,
    ):
        for line in (trickling, idle):
            line.send(HEAD + b"Content-Length: 1\r\n\r\n")
            line.send(b"1")  # in a piece of its own, after which the connection must count as idle
            assert b"201" in await line.reader.readline()
            await line.reader.readuntil(b"}")
        trickling.send(b"POST ")
        await trickling.trickle(b"a")
        assert await cut(sidecar, "http", "head") == 1
        idle.send(HEAD + b"Content-Length: 1\r\n\r\n1")
        assert b"201" in await idle.reader.readline()


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n"])
async def test_a_body_that_trickles_in_is_cut_off_and_nothing_is_stored(nats, framing) -> None:
    async with running(text_for(nats)) as sidecar:
        await keep_messages(nats)
        async with line_to(sidecar.http) as line:
            line.send(HEAD + framing)
            await line.trickle(b"a")
        assert await cut(sidecar, "http", "body") == 1
        await sidecar.emit("counts", "good")
    assert [payload for payload, _ in await stored(nats)] == [b"good"]


async def test_who_waits_for_the_daemon_is_not_cut_off(nats) -> None:
    """A request that waits for an actor, and a live feed in silence, outlast all limits of callers."""
    actor = {"name": "a", "event": "counts", "url": "http://127.0.0.1:9/", "responds": True}
    async with running(text_for(nats, actors=[actor])) as sidecar, watching(sidecar, "counts") as feed:
        url = f"http://{sidecar.http}/v1/events/counts/request?timeout=1s"
        async with sidecar.session.post(url, data=b"1") as response:
            assert response.status == 504
        await until(lambda: feed_goes_on(feed))
        assert not [name for name in await sidecar.metrics() if name.startswith("walnatsd_connections_cut_total")]


async def feed_goes_on(feed: Any) -> bool:
    return bool(await feed.next())


# ---- HTTP: answers


async def test_who_does_not_read_the_answers_is_cut_off(nats) -> None:
    async with running(text_for(nats)) as sidecar, line_to(sidecar.http, limit=1024) as line:
        line.send(GET * 2000)  # each of them brings many times its size
        await until(lambda: cut(sidecar, "http", "unread"))
        assert await line.is_cut()
        await sidecar.emit("counts", "1")


# ---- HTTP: connections


async def test_connections_beyond_the_limit_are_refused_and_there_is_room_again_when_one_ends(
    nats, monkeypatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "LIMITS_S", {"head": 60, "body": 60, "unread": 60})
    async with running(text_for(nats)) as sidecar, contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line_to(sidecar.http)) for _ in range(3)]
        for line in lines:
            line.send(GET)
            assert b"200" in await line.reader.readline()
        async with line_to(sidecar.http) as one_too_many:
            assert await one_too_many.is_cut()
        assert await cut(sidecar, "http", "too_many") == 1
        lines[0].hang_up()

        async def is_let_in() -> bool:
            async with line_to(sidecar.http) as line:
                line.send(GET)
                try:
                    return b"200" in await line.reader.readline()
                except ConnectionError:
                    return False

        await until(is_let_in)


async def test_who_does_not_come_through_with_tls_is_cut_off(nats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(connections, "TLS_HANDSHAKE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(grpc_server, "HANDSHAKE_TIMEOUT_S", 0.3)
    tls = {"tls": Authority(tmp_path).pair("server").options()}
    async with running(text_for(nats, http=tls, grpc=tls)) as sidecar:
        for address in (sidecar.http, sidecar.grpc):
            async with line_to(address) as silent, line_to(address) as begun:
                begun.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                await asyncio.gather(silent.is_cut(), begun.is_cut())


async def test_the_daemon_may_open_as_many_files_as_the_system_allows(nats, tmp_path) -> None:
    """The usual limit of 1024 would leave an address 256 connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    less = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))"
    async with process(tmp_path / "d", text_for(nats), prelude=less) as daemon:
        soft, _ = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)


# ---- gRPC

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(stream: int, path: bytes) -> bytes:
    """The head of a call, with literal headers only (RFC 7541, section 6.2.2)."""
    headers = {
        b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"localhost",
        b"te": b"trailers", b"content-type": b"application/grpc",
    }  # fmt: skip
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers.items())
    return frame(HEADERS, block, flags=4, stream=stream)


async def frames_until(line: Line, is_it: Callable[[int, bytes], bool]) -> tuple[int, bytes]:
    """Read frames up to the one that is waited for; give its stream and what it holds."""
    while True:
        head = await line.reader.readexactly(9)
        payload = await line.reader.readexactly(int.from_bytes(head[:3], "big"))
        if is_it(head[3], payload):
            return int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload


async def test_a_grpc_connection_that_says_nothing_is_cut_off(nats, monkeypatch) -> None:
    monkeypatch.setattr(grpc_server, "HANDSHAKE_TIMEOUT_S", 0.3)
    async with running(text_for(nats)) as sidecar, line_to(sidecar.grpc) as silent:
        assert await silent.is_cut()


async def test_a_grpc_connection_without_calls_is_closed(nats, monkeypatch) -> None:
    monkeypatch.setattr(grpc_server, "IDLE_S", 0.3)
    async with running(text_for(nats)) as sidecar:
        async with line_to(sidecar.grpc) as idle:
            idle.send(PREFACE + frame(SETTINGS))
            await frames_until(idle, lambda kind, _: kind == GOAWAY)
        async with stubs(sidecar.grpc) as calls:  # a client makes another, unnoticed
            for number in (1, 2, 3):
                answer = await calls.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1"))
                assert answer.sequence == number
                async with line_to(sidecar.grpc) as idle:  # it began later, so that the client's is closed when it is
                    idle.send(PREFACE + frame(SETTINGS))
                    await frames_until(idle, lambda kind, _: kind == GOAWAY)


async def test_a_flood_of_pings_ends_the_connection(nats) -> None:
    async with running(text_for(nats)) as sidecar, line_to(sidecar.grpc) as line:
        line.send(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)) * 200)
        _, payload = await frames_until(line, lambda kind, _: kind == GOAWAY)
        assert int.from_bytes(payload[4:8], "big") == ENHANCE_YOUR_CALM
        assert b"too_many_pings" in payload
        await sidecar.emit("counts", "1")


async def test_one_connection_has_no_more_calls_at_once_than_it_was_told(nats, monkeypatch) -> None:
    monkeypatch.setattr(grpc_server, "MAX_STREAMS", 3)
    async with running(text_for(nats)) as sidecar:
        async with line_to(sidecar.grpc) as line:
            line.send(PREFACE + frame(SETTINGS))
            _, told = await frames_until(line, lambda kind, _: kind == SETTINGS)
            settings = dict(struct.unpack(">HI", told[at : at + 6]) for at in range(0, len(told), 6))
            assert settings[MAX_CONCURRENT_STREAMS] == 3
            line.send(frame(SETTINGS, flags=1))
            line.send(b"".join(request(2 * n + 1, b"/walnatsd.v1.Events/EmitStream") for n in range(4)))
            stream, _ = await frames_until(line, lambda kind, _: kind == RST_STREAM)
            assert stream == 7
        await sidecar.emit("counts", "1")


async def test_a_call_with_too_much_metadata_is_refused(nats) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        request = events_pb2.EmitRequest(event="counts", payload=b"1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.Emit(request, metadata=[("x-much", "a" * grpc_server.MAX_METADATA_BYTES)])
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await calls.events.Emit(request)).sequence == 1
