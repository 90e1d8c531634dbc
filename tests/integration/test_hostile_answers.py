"""Actors that answer in ways nobody should: bounded memory and time, the outcome of the table, the reason in words."""

import asyncio
import resource
import socket
from typing import Any

import pytest

from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.raw_server import RawServer, Serve, answer, raw_server
from support.waiting import until


def text_for(nats: NatsServer, url: str, **options: object) -> str:
    actor = {
        "name": "print", "event": "counts", "url": url,
        "retry": {"delays": [0.05], "max_attempts": 2}, "breaker": {"consecutive": 2, "open_for": 0.1},
    }  # fmt: skip
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def outcome_of(nats: NatsServer, serve: Serve, **options: Any) -> tuple[str, RawServer]:
    """What the first attempt at an actor that answers like this comes to."""
    async with raw_server(serve) as server, running(text_for(nats, server.url, **options)) as sidecar:
        await sidecar.emit("counts", "1")

        async def first() -> str:
            for name, value in (await sidecar.metrics()).items():
                if name.startswith("walnatsd_attempts_total") and value:
                    return name.split('outcome="')[1].rstrip('"}')
            return ""

        return await until(first, timeout_s=20), server


def endless(status: int) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 10000000000\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    return serve


async def test_an_answer_of_10_gigabytes_is_read_up_to_a_limit(nats) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (await outcome_of(nats, endless(200)))[0] == "acknowledged"
    assert (await outcome_of(nats, endless(400)))[0] == "rejected"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


async def test_an_answer_whose_head_never_ends_is_cut_off_at_job_timeout(nats) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert (await outcome_of(nats, drip, job_timeout=0.5))[0] == "failed"


async def test_a_head_without_end_is_no_http(nats) -> None:
    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx-flood: ")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    assert (await outcome_of(nats, flood))[0] == "unavailable"


async def test_bytes_behind_an_answer_are_not_told_by_the_kilobyte(nats, capsys) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    await outcome_of(nats, answer(head + b"x" * 70_000))
    told = [line for line in capsys.readouterr().out.splitlines() if "attempt" in line]
    assert all(len(line) < 2_000 for line in told), max(map(len, told))


async def test_a_success_whose_body_drips_is_a_success_within_job_timeout(nats) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert (await outcome_of(nats, drip, job_timeout=0.5))[0] == "acknowledged"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", "unavailable"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "unavailable"),
        ("HTTP/1.1 banana\r\n\r\n", "unavailable"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", "unavailable"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ncut short", "acknowledged"),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope", "acknowledged"),
        ("HTTP/1.1 500 X\r\ncontent-length: 1000\r\n\r\ncut short", "failed"),
        ("HTTP/1.1 302 Found\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n", "unavailable"),
        ("HTTP/1.1 308 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "unavailable"),
        ("HTTP/1.1 501 X\r\ncontent-length: 0\r\n\r\n", "rejected"),
        ("HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n", "failed"),
    ],
)
async def test_odd_answers_have_the_outcome_of_the_table(nats, text: str, outcome: str) -> None:
    found, _ = await outcome_of(nats, answer(text))
    assert found == outcome


async def test_a_redirect_loop_is_never_followed(nats) -> None:
    loop = "HTTP/1.1 307 Temporary\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(answer(loop)) as server:
        async with running(text_for(nats, server.url, breaker={"consecutive": 1, "open_for": 60})) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: server.requests)
            opened = 'walnatsd_breaker_open{actor="print",event="counts"}'

            async def is_open() -> bool:
                return (await sidecar.metrics()).get(opened) == 1

            await until(is_open)
        assert server.requests == 1


@pytest.mark.parametrize("value", ["soon", "-3", "1e9", "99999999999999999999", "Tue, 99 Foo 2026", "é"])
async def test_a_retry_after_of_nonsense_is_none_and_one_of_a_year_is_bounded(nats, value) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = "500 X" if server.requests == 1 else "204 X"
        retry_after = value if not value.startswith("9") else "0"
        writer.write(f"HTTP/1.1 {status}\r\nretry-after: {retry_after}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    async with raw_server(serve) as server, running(text_for(nats, server.url)) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: server.requests == 2)


async def test_a_name_that_resolves_to_nothing_and_then_to_something_is_found(nats, receiver, monkeypatch) -> None:
    real, known = socket.getaddrinfo, []

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "actor.invalid":
            return real(host, *arguments, **options)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    text = text_for(nats, f"http://actor.invalid:{receiver.port}/", retry={"delays": [0.05], "max_attempts": 1})
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")
        unavailable = 'walnatsd_attempts_total{actor="print",event="counts",outcome="unavailable"}'

        async def tried() -> bool:
            return (await sidecar.metrics()).get(unavailable, 0) >= 3

        await until(tried)
        known.append(True)
        [received] = await receiver.wait_for(1)
    assert received.attempt == 1


async def test_headers_that_http_cannot_carry_do_not_stop_a_message(nats, receiver) -> None:
    head = "NATS/1.0\r\nwe ird: x\r\nX-Fine: gr\u00fc\u00dfe\r\nX-Line: a\nb\r\n\r\n".encode()
    frame = b"HPUB counts %d %d\r\n" % (len(head), len(head) + 1) + head + b"1\r\n"
    async with running(text_for(nats, receiver.url)):
        _, writer = await asyncio.open_connection("127.0.0.1", nats.port)  # the library would refuse such headers
        writer.write(b'CONNECT {"headers": true, "verbose": false}\r\n' + frame)
        [received] = await receiver.wait_for(1)
        writer.close()
    assert received.headers["x-fine"] == "gr%C3%BC%C3%9Fe"
    assert received.headers["x-line"] == "a%0Ab"
    assert "we ird" not in received.headers
