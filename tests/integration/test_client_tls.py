"""The Python client over TLS: with the sidecar's authority, with a certificate of its own, sync and async."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import walnatsd_client as walnatsd
from support.certificates import Authority, Pair
from support.daemon import Sidecar, config_text, running

COUNT = walnatsd.Event("counts", int)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> Pair:
    return authority.pair("ours")


@pytest.fixture
async def sidecar(nats, authority) -> AsyncIterator[Sidecar]:
    """A sidecar that wants client certificates."""
    options = authority.pair("server").options(client_ca_file=authority.ca)
    async with running(config_text(nats.url, grpc={"tls": options})) as sidecar:
        yield sidecar


async def test_calls_and_streams_go_over_tls(sidecar: Sidecar, authority, ours) -> None:
    seen = asyncio.Queue[int]()
    show = walnatsd.Actor("show", COUNT, seen.put)
    tls = walnatsd.Tls(ca_file=authority.ca, cert_file=ours.cert, key_file=ours.key)
    async with walnatsd.connect(sidecar.grpc, tls=tls) as conn:
        await conn.register(show)
        listening = asyncio.create_task(conn.listen(show))
        assert (await conn.emit(COUNT, 7)).sequence == 1
        async with asyncio.timeout(15):
            assert await seen.get() == 7
        listening.cancel()
        await asyncio.wait([listening])


async def test_blocking_code_speaks_tls(sidecar: Sidecar, authority, ours) -> None:
    tls = walnatsd.Tls(ca_file=authority.ca, cert_file=ours.cert, key_file=ours.key)

    def emit() -> int:
        with walnatsd.connect_sync(sidecar.grpc, tls=tls) as conn:
            conn.register(COUNT)
            return conn.emit(COUNT, 1).sequence

    assert await asyncio.to_thread(emit) == 1


async def test_key_and_certificate_may_stand_in_one_file(sidecar: Sidecar, authority, tmp_path) -> None:
    authority.issue().private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    tls = walnatsd.Tls(ca_file=authority.ca, cert_file=str(tmp_path / "both.pem"))
    async with walnatsd.connect(sidecar.grpc, tls=tls) as conn:
        await conn.register(COUNT)


async def test_who_is_not_trusted_or_shows_nothing_is_told_why(sidecar: Sidecar, authority, ours, tmp_path) -> None:
    other = Authority(tmp_path, "other")
    for tls, words in (
        (walnatsd.Tls(ca_file=other.ca, cert_file=ours.cert, key_file=ours.key), "CERTIFICATE_VERIFY_FAILED"),
        (walnatsd.Tls(), "CERTIFICATE_VERIFY_FAILED"),
        (walnatsd.Tls(ca_file=authority.ca, server_name="elsewhere"), "Hostname Verification Check failed"),
    ):
        async with walnatsd.connect(sidecar.grpc, tls=tls) as conn:
            with pytest.raises(walnatsd.UnavailableError) as caught:
                await conn.register(COUNT, timeout=1)
        assert words in str(caught.value)
    for shows_nothing in (walnatsd.Tls(ca_file=authority.ca), None):
        async with walnatsd.connect(sidecar.grpc, tls=shows_nothing) as conn:
            with pytest.raises(walnatsd.UnavailableError):
                await conn.register(COUNT, timeout=1)


async def test_a_unix_socket_needs_the_name_in_the_certificate(nats, authority, tmp_path) -> None:
    listen = {"listen": f"unix:{tmp_path / 'grpc.sock'}", "tls": authority.pair("server").options()}
    async with running(config_text(nats.url, grpc=listen)) as sidecar:
        tls = walnatsd.Tls(ca_file=authority.ca, server_name="localhost")
        async with walnatsd.connect(sidecar.grpc, tls=tls) as conn:
            await conn.register(COUNT)


async def test_files_that_can_not_be_used_are_told_at_once(authority, ours, tmp_path) -> None:
    other = authority.pair("other")
    (tmp_path / "text").write_text("hello")
    for tls, words in (
        (walnatsd.Tls(key_file=ours.key), "key_file needs cert_file"),
        (walnatsd.Tls(cert_file=ours.cert, key_file=other.key), f"{ours.cert} and {other.key} are no certificate and"),
        (walnatsd.Tls(cert_file=ours.cert), f"{ours.cert} and the key in it are no certificate and its key"),
        (walnatsd.Tls(ca_file=str(tmp_path / "text")), f"{tmp_path / 'text'} holds no certificates in PEM form"),
        (walnatsd.Tls(ca_file=str(tmp_path / "none")), f"{tmp_path / 'none'} holds no certificates"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            async with walnatsd.connect(tls=tls):
                pass
        with walnatsd.connect_sync(tls=tls) as conn, pytest.raises(ValueError, match=re.escape(words)):
            await asyncio.to_thread(conn.register, COUNT)
