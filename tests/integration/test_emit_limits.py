"""What is refused for want of room: too large, full, busy. Nothing is stored by it and the connection survives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.daemon import config_text, running
from support.doors import both_doors, door, read_answer, receipt, refusal
from support.nats_server import nats_server
from support.streams import keep_messages, stored

TOO_LARGE = {"grpc": "INVALID_ARGUMENT", "http": "413"}
EVENT_FULL = {"grpc": "RESOURCE_EXHAUSTED", "http": "507"}
BUSY = {"grpc": "RESOURCE_EXHAUSTED", "http": "429"}


@both_doors
async def test_a_message_over_message_size_is_refused(nats, kind) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "limits": {"message_size": "1KiB"}}])
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        large = refusal(await emitter.emit("counts", b"x" * 1025, uid="large"))
        assert receipt(await emitter.emit("counts", b"x" * 900, uid="small"))["sequence"] == 1
    assert (large.code, large.reason, large.uid, large.maybe_stored) == (TOO_LARGE[kind], "TOO_LARGE", "large", False)
    assert "limits.message_size" in large.message
    assert len(await stored(nats)) == 1


@both_doors
@pytest.mark.parametrize(
    ("payload", "header"), [(1 << 20, 10), ((1 << 20) - 100, 5000)], ids=["payload", "with headers"]
)
async def test_a_message_over_max_payload_is_refused_and_the_connection_survives(nats, kind, payload, header) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        large = refusal(await emitter.emit("counts", b"x" * payload, uid="large", headers={"X-A": "a" * header}))
        assert receipt(await emitter.emit("counts", b"x" * 1000))["sequence"] == 1
        metrics = await sidecar.metrics()
    assert (large.code, large.reason, large.uid, large.maybe_stored) == (TOO_LARGE[kind], "TOO_LARGE", "large", False)
    assert "max_payload" in large.message
    assert metrics["walnatsd_nats_reconnects_total"] == 0
    assert len(await stored(nats)) == 1


async def test_a_message_that_waits_for_nats_is_measured_by_the_server_that_comes(tmp_path) -> None:
    async with nats_server(tmp_path / "nats", options={"max_payload": 2048}) as nats:
        await nats.stop()
        async with (
            running(config_text(nats.url, events=[{"name": "counts"}]), ready=False) as sidecar,
            door("http", sidecar) as emitter,
        ):
            waiting = asyncio.create_task(emitter.emit("counts", b"x" * 3000, uid="large"))
            await asyncio.sleep(0)
            await nats.start()
            large = refusal(await waiting)
            assert receipt(await emitter.emit("counts", b"x"))["uid"]
            metrics = await sidecar.metrics()
    assert (large.reason, large.maybe_stored) == ("TOO_LARGE", False)
    assert metrics["walnatsd_nats_reconnects_total"] == 0


async def test_headers_over_the_limit_of_jetstream_are_refused_as_too_large(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, door("grpc", sidecar) as emitter:
        await keep_messages(nats)
        large = refusal(await emitter.emit("counts", uid="u", headers={f"X-{n}": "a" * 1000 for n in range(70)}))
    assert (large.code, large.reason, large.maybe_stored) == ("INVALID_ARGUMENT", "TOO_LARGE", False)
    assert "headers" in large.message
    assert await stored(nats) == []


async def test_a_body_over_the_limit_of_the_http_address_is_refused(nats) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield bytes(1 << 20)

    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        url = f"http://{sidecar.http}/v1/events/counts?uid=large"
        async with sidecar.session.post(url, data=chunks()) as response:
            large = refusal(await read_answer(response))
        await sidecar.emit("counts", b"x")
    assert (large.code, large.reason, large.uid) == ("413", "TOO_LARGE", "large")
    assert "64 MiB" in large.message


async def test_a_message_between_the_batch_limit_and_max_payload_is_answered_over_grpc_too(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, door("grpc", sidecar) as emitter:
        large = refusal(await emitter.emit("counts", bytes(40 << 20), uid="large"))
    assert (large.code, large.reason, large.uid) == ("INVALID_ARGUMENT", "TOO_LARGE", "large")


@both_doors
@pytest.mark.parametrize("limits", [{"messages": 2}, {"bytes": 200}], ids=str)
async def test_a_full_event_refuses_where_it_is_declared_so(nats, kind, limits) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "limits": {**limits, "when_full": "refuse"}}])
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        for number in range(2):
            receipt(await emitter.emit("counts", b"1", uid=f"u{number}"))
        full = refusal(await emitter.emit("counts", b"2" * 100, uid="u2"))
    assert (full.code, full.reason, full.uid, full.maybe_stored) == (EVENT_FULL[kind], "EVENT_FULL", "u2", False)
    assert [payload for payload, _ in await stored(nats)] == [b"1", b"1"]


@both_doors
async def test_a_full_event_drops_the_oldest_where_nothing_else_is_declared(nats, kind) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "limits": {"messages": 2}}])
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        for number in range(3):
            receipt(await emitter.emit("counts", str(number).encode()))
    assert [payload for payload, _ in await stored(nats)] == [b"1", b"2"]


@both_doors
async def test_too_much_in_flight_is_refused_as_busy_until_there_is_room(nats, kind) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], emit={"max_in_flight": 2})
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        async with nats.frozen():
            waiting = [asyncio.create_task(emitter.emit("counts", uid=f"u{n}")) for n in range(3)]
            done, waiting_still = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        [busy] = [refusal(task.result()) for task in done]
        stored_then = [receipt(answer) for answer in await asyncio.gather(*waiting_still)]
        assert receipt(await emitter.emit("counts", uid=busy.uid))["duplicate"] is False
    assert (busy.code, busy.reason, busy.maybe_stored) == (BUSY[kind], "BUSY", False)
    assert busy.retry_after_s == 1
    assert len(stored_then) == 2
    assert len(await stored(nats)) == 3
