"""Streams of emits that stay open: how long each emit may take, and how they end when the daemon does."""

import asyncio
import signal
from collections.abc import AsyncIterator

import grpc
import pytest

import walnatsd_client as walnatsd
from support.daemon import config_text, process, running
from support.grpc_calls import refused, refused_status, stubs
from support.nats_server import NatsServer
from support.streams import keep_messages, stored
from walnatsd.api.emit_streams import EmitStreams
from walnatsd.emit.request import EmitRequest
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.v1 import events_pb2

TIMEOUT = "walnats-timeout"


def text_for(nats: NatsServer, **parts: object) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], **parts)


def item(uid: str) -> events_pb2.EmitRequest:
    return events_pb2.EmitRequest(event="counts", payload=b"1", uid=uid)


async def test_who_says_how_long_it_waits_gets_each_result_in_that_time_and_the_stream_goes_on(nats) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        stream = calls.events.EmitStream(metadata=((TIMEOUT, "1.5"),))
        assert dict(await stream.initial_metadata()) == {TIMEOUT: "1.5"}  # before anything is sent
        async with nats.frozen():
            for uid in ("a", "b"):
                await stream.write(item(uid))
            results = [await stream.read(), await stream.read()]
        for uid, result in zip("ab", results, strict=True):
            told = refused_status(result.error)
            assert (told.code, told.reason, told.uid) == ("UNAVAILABLE", "NATS_UNAVAILABLE", uid)
            assert told.maybe_stored
        await stream.write(item("c"))
        assert (await stream.read()).ok.uid == "c"


@pytest.mark.parametrize("given", ["soon", "-1", "nan", ""])
async def test_a_time_that_is_none_is_refused(nats, given: str) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.EmitStream(metadata=((TIMEOUT, given),)).read()
        told = refused(caught.value)
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_TIME")
    assert TIMEOUT in told.message


async def test_a_stream_that_is_open_does_not_hold_up_the_end_of_the_daemon(nats, tmp_path) -> None:
    async with process(tmp_path / "d", text_for(nats, shutdown_timeout=3600)) as daemon:
        assert daemon.sidecar is not None
        async with stubs(daemon.sidecar.grpc) as calls:
            stream = calls.events.EmitStream()
            await stream.write(item("a"))
            assert (await stream.read()).ok.uid == "a"
            daemon.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            told = refused(caught.value)
            assert (told.code, told.reason, told.maybe_stored) == ("UNAVAILABLE", "STOPPING", False)
            assert await daemon.wait() == 0
    assert [line for line in daemon.lines if line["level"] not in ("info", "warning")] == []


async def test_a_stream_that_opens_at_the_very_moment_of_the_end_ends_too() -> None:
    """Its reader is cancelled before it has run at all, and so can't say itself that it is over."""

    async def nothing() -> AsyncIterator[EmitRequest]:
        await asyncio.Event().wait()
        yield EmitRequest("counts", b"1")

    streams = EmitStreams(emitter=None)  # type: ignore[arg-type]  # nothing is emitted
    result = asyncio.ensure_future(anext(streams.results(nothing())))
    await asyncio.sleep(0)  # it has begun, and made its reader
    streams.end(Refusal(Reason.STOPPING, "the daemon is stopping"))
    with pytest.raises(Refusal) as caught:
        async with asyncio.timeout(5):
            await result
    assert caught.value.reason is Reason.STOPPING


async def test_at_the_end_of_the_daemon_all_that_was_taken_in_has_its_result_and_nothing_else_is_stored(
    nats, tmp_path
) -> None:
    async with process(tmp_path / "d", text_for(nats, shutdown_timeout=3600)) as daemon:
        assert daemon.sidecar is not None
        await keep_messages(nats)
        async with stubs(daemon.sidecar.grpc) as calls:
            stream = calls.events.EmitStream()

            ahead = asyncio.Semaphore(500)
            stopping = asyncio.Event()

            async def write() -> None:
                number = 0
                while not stopping.is_set():
                    await stream.write(item(f"u{number}"))
                    number += 1
                    await ahead.acquire()

            writer = asyncio.create_task(write())
            answered = []
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while True:
                    result = await stream.read()
                    assert result.HasField("ok")
                    answered.append(result.uid)
                    ahead.release()
                    if len(answered) == 500:
                        stopping.set()  # gRPC forgets how a stream has ended if a write fails meanwhile
                        await writer
                        daemon.send_signal(signal.SIGTERM)
            assert refused(caught.value).reason == "STOPPING"
            assert await daemon.wait() == 0
    assert len(answered) >= 500
    assert [headers["Nats-Msg-Id"] for _, headers in await stored(nats)] == answered


async def test_a_client_that_emits_one_at_a_time_sees_nothing_of_a_restart(nats, tmp_path) -> None:
    event = walnatsd.Event("counts", int)
    socket = f"unix:{tmp_path}/grpc.sock"
    async with process(tmp_path / "d", text_for(nats, grpc={"listen": socket})) as daemon:
        await keep_messages(nats)
        async with walnatsd.connect(socket) as conn:
            for number in range(50):
                await conn.emit(event, number)
            assert await daemon.end() == 0
            more = asyncio.create_task(conn.emit(event, 50, timeout=60))
            await daemon.start()
            await more
            for number in range(51, 100):
                await conn.emit(event, number)
        await daemon.end()
    assert [int(payload) for payload, _ in await stored(nats)] == list(range(100))
    assert [line for line in daemon.lines if line["level"] not in ("info", "warning")] == []
