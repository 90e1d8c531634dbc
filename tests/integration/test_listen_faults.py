"""Listeners and sidecars that vanish, fall silent or do not read."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import pytest

import walnatsd_client as walnatsd
import walnatsd_client._connection
from support.daemon import Process, Sidecar, config_text, running
from support.listener import Request, listener, stream
from support.nats_server import NatsServer, nats_server
from support.proxy import proxy
from support.waiting import until
from walnatsd.servers import grpc as grpc_server
from walnatsd.servers import grpc_listen

COUNT = walnatsd.Event("counts", int)

# A listener that says what it got and then hangs.
HANGING_LISTENER = """
import asyncio, sys
import walnatsd_client as walnatsd

async def hang(count: int) -> None:
    print(count, flush=True)
    await asyncio.Event().wait()

async def main() -> None:
    async with walnatsd.connect(sys.argv[1]) as conn:
        await conn.listen(walnatsd.Actor("print", walnatsd.Event("counts", int), hang))

asyncio.run(main())
"""


def one_actor(nats: NatsServer, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "retry": {"delays": [0.05], "jitter": 0}, "ack_wait": 60}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options], shutdown_timeout=3)


async def listeners(sidecar: Sidecar) -> float:
    return (await sidecar.metrics()).get('walnatsd_listeners{actor="print",event="counts"}', 0)


def port_of(sidecar: Sidecar) -> int:
    return int(sidecar.grpc.rpartition(":")[2])


async def is_settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
    return (info.num_ack_pending or 0) + (info.num_pending or 0) == 0


async def test_what_a_killed_listener_had_goes_to_another_at_once(nats) -> None:
    async with running(one_actor(nats)) as sidecar:
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HANGING_LISTENER, sidecar.grpc, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert killed.stdout is not None
            await until(lambda: listeners(sidecar))
            await sidecar.emit("counts", "7")
            assert await killed.stdout.readline() == b"7\n"
            async with listener(sidecar.grpc) as ours:
                killed.kill()
                [delivery] = await ours.wait_for(1)  # ack_wait is 60 s
                await ours.ack(delivery)
                await until(lambda: is_settled(nats))
        finally:
            if killed.returncode is None:
                killed.kill()
            await killed.wait()
    assert (delivery.message.payload, delivery.attempt) == (b"7", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_listener_goes_on_with_a_sidecar_that_restarted_and_registers_again_what_it_forgot(
    nats, tmp_path, number
) -> None:
    handled: list[int] = []

    async def handle(count: int) -> None:
        handled.append(count)

    config = config_text(nats.url, grpc={"listen": f"unix:{tmp_path}/grpc.sock"})
    daemon = Process(tmp_path / "sidecar", config)
    try:
        await daemon.start()
        async with walnatsd.connect(f"unix:{tmp_path}/grpc.sock") as conn:
            actor = walnatsd.Actor("print", COUNT, handle)
            await conn.register(actor, walnatsd.Event("others", int))
            listening = asyncio.create_task(conn.listen(actor))
            await conn.emit(COUNT, 1)
            await until(lambda: handled == [1])
            await daemon.end(number)
            sidecar = await daemon.start()
            await until(lambda: listeners(sidecar))
            await conn.emit(COUNT, 2)
            await conn.emit(walnatsd.Event("others", int), 1)
            await until(lambda: handled == [1, 2])
            listening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listening
    finally:
        await daemon.end(signal.SIGKILL)


async def test_a_listener_whose_connection_is_dead_without_a_word_is_noticed(nats, monkeypatch) -> None:
    monkeypatch.setattr(grpc_server, "KEEPALIVE_S", 0.3)
    monkeypatch.setattr(grpc_server, "KEEPALIVE_TIMEOUT_S", 0.3)
    async with (
        running(one_actor(nats)) as sidecar,
        proxy(port_of(sidecar)) as between,
        listener(f"127.0.0.1:{between.port}") as silent,
    ):
        await sidecar.emit("counts", "7")
        await silent.wait_for(1)
        between.pause()
        async with listener(sidecar.grpc) as ours:
            [delivery] = await ours.wait_for(1)
            assert await listeners(sidecar) == 1
    assert delivery.attempt == 1


async def test_a_client_notices_a_dead_connection_and_listens_on_another(nats, monkeypatch) -> None:
    keepalive = {"grpc.keepalive_time_ms": 300, "grpc.http2.ping_timeout_ms": 300}
    options = dict(walnatsd_client._connection._CHANNEL_OPTIONS) | keepalive
    monkeypatch.setattr(walnatsd_client._connection, "_CHANNEL_OPTIONS", list(options.items()))
    monkeypatch.setattr(grpc_server, "CLIENT_PINGS_S", 0.1)
    handled: list[int] = []

    async def handle(count: int) -> None:
        handled.append(count)

    async with (
        running(one_actor(nats)) as sidecar,
        proxy(port_of(sidecar)) as between,
        walnatsd.connect(f"127.0.0.1:{between.port}") as conn,
    ):
        listening = asyncio.create_task(conn.listen(walnatsd.Actor("print", COUNT, handle)))
        await until(lambda: listeners(sidecar))
        between.pause()
        await until(lambda: between.open_connections > 1, what="another connection")
        await between.cut()
        between.resume()
        await sidecar.emit("counts", "7")
        await until(lambda: handled == [7])
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening


@pytest.fixture
async def roomy_nats(tmp_path) -> AsyncIterator[NatsServer]:
    """A server that takes messages larger than what gRPC sends to somebody who does not read."""
    async with nats_server(tmp_path / "nats", options={"max_payload": 8 << 20}) as server:
        yield server


async def emit_large(sidecar: Sidecar) -> None:
    async with walnatsd.connect(sidecar.grpc) as conn:
        for _ in range(4):
            await conn.emit(walnatsd.Event("counts", bytes), b"x" * (6 << 20))


async def test_a_listener_that_does_not_read_is_cut_off_and_what_it_had_goes_to_another(
    roomy_nats, monkeypatch
) -> None:
    monkeypatch.setattr(grpc_listen, "READ_TIMEOUT_S", 0.5)
    async with running(one_actor(roomy_nats)) as sidecar, stream(sidecar.grpc) as lazy:
        await lazy.call.write(Request(subscribe=Request.Subscribe(event="counts", actor="print")))
        await until(lambda: listeners(sidecar))
        await emit_large(sidecar)
        async with listener(sidecar.grpc) as ours:
            await ours.ack(*await ours.wait_for(4))
            await until(lambda: is_settled(roomy_nats))
            assert await listeners(sidecar) == 1
        assert await lazy.ending() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NOT_READING")
    assert {delivery.attempt for delivery in ours.deliveries} == {1}


async def test_a_listener_that_does_not_read_holds_up_no_stop(roomy_nats) -> None:
    config = one_actor(roomy_nats, job_timeout=0.5)
    async with contextlib.AsyncExitStack() as outlasting, asyncio.timeout(30), running(config) as sidecar:
        lazy = await outlasting.enter_async_context(stream(sidecar.grpc))
        await lazy.call.write(Request(subscribe=Request.Subscribe(event="counts", actor="print")))
        await until(lambda: listeners(sidecar))
        await emit_large(sidecar)
