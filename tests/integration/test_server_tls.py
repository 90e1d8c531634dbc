"""TLS of the gRPC, HTTP and admin addresses: who is let in, and certificates that are replaced while they are in use."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from support.certificates import LONG_AGO, Authority, Pair, der
from support.daemon import Process, Sidecar, config_text, process, running
from support.grpc_calls import Stubs
from support.waiting import until
from walnatsd.config import certificates
from walnatsd.config.certificates import Certificates
from walnatsd.config.tls import TlsFiles
from walnatsd.observe.metrics import Metrics
from walnatsd.servers.web import serve_web
from walnatsd.v1 import events_pb2

PARTS = ("grpc", "http", "admin")
every_part = pytest.mark.parametrize("part", PARTS)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LOOK_INTERVAL_S", 0.05)


def text_for(nats: Any, *parts: str, **tls: str) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], **{part: {"tls": tls} for part in parts})


def address_of(sidecar: Sidecar, part: str) -> tuple[str, int]:
    host, _, port = getattr(sidecar, part).rpartition(":")
    return host, int(port)


class Caller:
    """A connection to an address, once the server has let it in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.tls: ssl.SSLObject = writer.get_extra_info("ssl_object")

    @property
    def shown(self) -> bytes:
        """The server's certificate."""
        return self.tls.getpeercert(binary_form=True) or b""

    async def is_answered(self, part: str) -> bool:
        """Whether the server says anything: with TLS 1.3 a client is turned away only after its handshake."""
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        self._writer.write(hello if part == "grpc" else b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            async with asyncio.timeout(10):
                return bool(await self._reader.read(9))
        except (ConnectionError, ssl.SSLError):
            return False


@contextlib.asynccontextmanager
async def calling(sidecar: Sidecar, part: str, context: ssl.SSLContext) -> AsyncIterator[Caller]:
    """Connect; raises where the handshake fails."""
    context.set_alpn_protocols(["h2"] if part == "grpc" else ["http/1.1"])
    reader, writer = await asyncio.open_connection(*address_of(sidecar, part), ssl=context, server_hostname="localhost")
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


async def lets_in(sidecar: Sidecar, part: str, context: ssl.SSLContext) -> bool:
    try:
        async with calling(sidecar, part, context) as caller:
            return await caller.is_answered(part)
    except (ConnectionError, ssl.SSLError):
        return False


async def shown(sidecar: Sidecar, part: str, context: ssl.SSLContext) -> bytes:
    async with calling(sidecar, part, context) as caller:
        assert await caller.is_answered(part)
        return caller.shown


@contextlib.asynccontextmanager
async def channel_to(sidecar: Sidecar, authority: Authority, pair: Pair | None = None) -> AsyncIterator[Stubs]:
    files = [Path(authority.ca), *([Path(pair.key), Path(pair.cert)] if pair is not None else [])]
    credentials = grpc.ssl_channel_credentials(*[file.read_bytes() for file in files])
    options = [("grpc.ssl_target_name_override", "localhost")]  # the name of a Unix socket is in no certificate
    async with grpc.aio.secure_channel(sidecar.grpc, credentials, options=options) as channel:
        yield Stubs(channel)


async def emit(stubs: Stubs) -> int:
    answer = await stubs.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1"), timeout=15)
    return int(answer.sequence)


def open_files(daemon: Process) -> int:
    return len([*Path(f"/proc/{daemon.pid}/fd").iterdir()])


async def is_up(sidecar: Sidecar, context: ssl.SSLContext) -> bool:
    async with (
        aiohttp.ClientSession() as session,  # its connection ends with it
        session.get(f"https://{sidecar.admin}/readyz", ssl=context) as response,
    ):
        return response.status == 200


async def metrics(sidecar: Sidecar, context: ssl.SSLContext) -> dict[str, float]:
    async with sidecar.session.get(f"https://{sidecar.admin}/metrics", ssl=context) as response:
        lines = (await response.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


# ---- who is let in


async def test_every_address_speaks_tls_and_nothing_else(nats, authority) -> None:
    pair = authority.pair("server")
    async with running(text_for(nats, *PARTS, **pair.options())) as sidecar:
        async with channel_to(sidecar, authority) as stubs:
            assert await emit(stubs) == 1
        url = f"https://{sidecar.http}/v1/events/counts"
        async with sidecar.session.post(url, data=b"1", ssl=authority.client()) as response:
            assert (response.status, (await response.json())["sequence"]) == (201, 2)
        assert await is_up(sidecar, authority.client())
        for part in ("http", "admin"):
            with pytest.raises(aiohttp.ClientError):
                await sidecar.session.get(f"http://{getattr(sidecar, part)}/readyz")
        async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Stubs(channel).events.Emit(events_pb2.EmitRequest(event="counts"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@every_part
async def test_a_caller_needs_a_certificate_of_the_authority_where_one_is_named(
    nats, authority, tmp_path, part
) -> None:
    clients, others = Authority(tmp_path, "clients"), Authority(tmp_path, "others")
    options = authority.pair("server").options(client_ca_file=clients.ca)
    async with running(text_for(nats, part, **options)) as sidecar:
        assert await lets_in(sidecar, part, authority.client(clients.pair("client")))
        assert not await lets_in(sidecar, part, authority.client())
        assert not await lets_in(sidecar, part, authority.client(others.pair("other")))
        assert not await lets_in(sidecar, part, authority.client(clients.pair("late", expires=LONG_AGO)))
        assert await lets_in(sidecar, part, authority.client(clients.pair("client")))


async def test_an_emit_over_grpc_with_a_client_certificate(nats, authority, tmp_path) -> None:
    clients = Authority(tmp_path, "clients")
    options = authority.pair("server").options(client_ca_file=clients.ca)
    async with running(text_for(nats, "grpc", **options)) as sidecar:
        async with channel_to(sidecar, authority, clients.pair("client")) as stubs:
            assert await emit(stubs) == 1
        async with channel_to(sidecar, authority) as stubs:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.events.Emit(events_pb2.EmitRequest(event="counts"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@every_part
async def test_tls_older_than_1_2_is_refused(nats, authority, part) -> None:
    old, new = authority.client(), authority.client()
    for context in (old, new):
        context.set_ciphers("ALL:@SECLEVEL=0")  # else this end would not even try
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    new.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(text_for(nats, part, **authority.pair("server").options())) as sidecar:
        assert not await lets_in(sidecar, part, old)
        assert await lets_in(sidecar, part, new)


async def test_a_unix_socket_can_have_tls(nats, authority, tmp_path) -> None:
    parts = {
        part: {"listen": f"unix:{tmp_path / part}.sock", "tls": authority.pair(part).options()}
        for part in ("http", "grpc")
    }
    async with running(config_text(nats.url, events=[{"name": "counts"}], **parts)) as sidecar:
        reader, writer = await asyncio.open_unix_connection(
            str(tmp_path / "http.sock"), ssl=authority.client(), server_hostname="localhost"
        )
        async with asyncio.timeout(10):
            assert await Caller(reader, writer).is_answered("http")
        writer.transport.abort()
        async with channel_to(sidecar, authority) as stubs:
            assert await emit(stubs) == 1


async def test_callers_that_fail_at_tls_neither_fill_the_log_nor_leave_anything_open(nats, authority, tmp_path) -> None:
    text = text_for(nats, *PARTS, **authority.pair("server").options())
    stranger = ssl.create_default_context()
    async with process(tmp_path / "d", text, ready=False) as daemon:
        assert daemon.sidecar is not None
        await until(lambda: is_up(daemon.sidecar, authority.client()))
        before = open_files(daemon)
        for part in PARTS:
            assert not await lets_in(daemon.sidecar, part, stranger)
            _, writer = await asyncio.open_connection(*address_of(daemon.sidecar, part))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await writer.drain()
            writer.close()
        await until(lambda: open_files(daemon) <= before)
        assert await is_up(daemon.sidecar, authority.client())
        await daemon.end()
    assert [line for line in daemon.lines if line.get("level") != "info"] == []


# ---- certificates that are replaced


@every_part
async def test_new_connections_get_the_new_certificate_and_open_ones_live_on(nats, authority, part) -> None:
    pair, renewed = authority.pair("server"), authority.issue()
    context = authority.client()
    async with running(text_for(nats, part, **pair.options())) as sidecar, calling(sidecar, part, context) as before:
        assert before.shown != der(renewed)
        pair.replace(renewed)

        async def is_renewed() -> bool:
            return await shown(sidecar, part, context) == der(renewed)

        await until(is_renewed)
        assert await before.is_answered(part)


@every_part
async def test_half_of_a_new_pair_changes_nothing_and_is_told(nats, authority, part, capsys) -> None:
    pair, renewed = authority.pair("server"), authority.issue()
    context = authority.client()
    stale = f'walnatsd_certificate_stale{{part="{part}"}}'
    async with running(text_for(nats, part, "admin", **pair.options())) as sidecar:
        former = await shown(sidecar, part, context)
        assert (await metrics(sidecar, context))[stale] == 0
        pair.replace_certificate(renewed)

        async def is_stale() -> bool:
            return (await metrics(sidecar, context))[stale] == 1

        await until(is_stale)
        assert await shown(sidecar, part, context) == former
        told = [line for line in capsys.readouterr().out.splitlines() if "certificate" in line]
        assert sum("the former ones stay in use" in line and f"part={part}" in line for line in told) == 1
        assert any(pair.cert in line and "the key belongs to another certificate" in line for line in told)
        pair.replace_key(renewed)

        async def is_renewed() -> bool:
            return await shown(sidecar, part, context) == der(renewed)

        await until(is_renewed)
        assert (await metrics(sidecar, context))[stale] == 0


@every_part
async def test_a_renewed_certificate_that_has_expired_is_not_used(nats, authority, part, capsys) -> None:
    pair, context = authority.pair("server"), authority.client()
    async with running(text_for(nats, part, **pair.options())) as sidecar:
        former = await shown(sidecar, part, context)
        pair.replace(authority.issue(expires=LONG_AGO))

        async def is_told() -> bool:
            assert await shown(sidecar, part, context) == former
            why = f"the certificate in {pair.cert} has expired, on 2020-01-02T00:00:00Z"
            return why in capsys.readouterr().out

        await until(is_told)


@every_part
async def test_files_that_vanish_change_nothing(nats, authority, part) -> None:
    pair, context = authority.pair("server"), authority.client()
    async with running(text_for(nats, part, "admin", **pair.options())) as sidecar:
        former = await shown(sidecar, part, context)
        pair.remove_key()

        async def is_stale() -> bool:
            return (await metrics(sidecar, context))[f'walnatsd_certificate_stale{{part="{part}"}}'] == 1

        await until(is_stale)
        assert await shown(sidecar, part, context) == former


@every_part
async def test_another_authority_for_clients_is_followed_and_no_session_gets_around_it(
    nats, authority, tmp_path, part
) -> None:
    before, after = Authority(tmp_path, "clients"), Authority(tmp_path, "after")
    options = authority.pair("server").options(client_ca_file=before.ca)
    old, new = authority.client(before.pair("old")), authority.client(after.pair("new"))
    async with running(text_for(nats, part, **options)) as sidecar:
        assert await lets_in(sidecar, part, old)
        assert not await lets_in(sidecar, part, new)
        before.give_way_to(after)
        await until(lambda: lets_in(sidecar, part, new))
        assert not await lets_in(sidecar, part, old)


async def test_an_address_starts_with_the_certificates_that_were_read_whatever_becomes_of_the_files(authority) -> None:
    pair = authority.pair("server")
    read = Certificates("http", TlsFiles(pair.cert, pair.key, None, for_server=True))
    pair.remove_key()
    async with (
        serve_web("http", "127.0.0.1:0", web.Application(), Metrics(), tls=read, stop_within_s=lambda: 1.0) as address,
        aiohttp.ClientSession() as session,
        session.get(f"https://localhost:{address.rpartition(':')[2]}/", ssl=authority.client()) as response,
    ):
        assert response.status == 404


async def test_when_a_certificate_expires_is_a_metric(nats, authority) -> None:
    pair = authority.pair("server")
    async with running(text_for(nats, "admin", **pair.options())) as sidecar:
        name = 'walnatsd_certificate_not_after_timestamp_seconds{part="admin"}'
        expected = ssl.cert_time_to_seconds("Jan  1 00:00:00 3000 GMT")
        assert (await metrics(sidecar, authority.client()))[name] == expected
