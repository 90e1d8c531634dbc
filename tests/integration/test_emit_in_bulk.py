"""Batches and streams that are too large, too slow, broken off or out of time: clear answers, nothing lost, nothing left."""

import io
import json
from collections.abc import AsyncIterator

import grpc
import pytest

from support.daemon import Sidecar, config_text, process, running
from support.doors import read_answer, refusal
from support.grpc_calls import refused, refused_status, stubs
from support.nats_server import NatsServer
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.v1 import events_pb2

BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def text_for(nats: NatsServer, **parts: object) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], **parts)


def item(payload: bytes = b"1", **fields: object) -> events_pb2.EmitRequest:
    return events_pb2.EmitRequest(event="counts", payload=payload, **fields)


def event(number: int, **parts: object) -> dict[str, object]:
    return {"specversion": "1.0", "id": str(number), "source": "/s", "type": "t", "data": number} | parts


async def post_batch(sidecar: Sidecar, body: object) -> object:
    url = f"http://{sidecar.http}/v1/events/counts/batch"
    data = body if not isinstance(body, list) else json.dumps(body)
    async with sidecar.session.post(url, data=data, headers=BATCH) as response:
        if response.status >= 300:
            return await read_answer(response)
        return (await response.json())["items"]


async def count(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.stream_info("counts")).state.messages


# ---- too large


async def test_ten_thousand_items_are_refused_as_a_whole_whatever_they_are(nats) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        good = refusal(await post_batch(sidecar, [event(n) for n in range(10_000)]))
        bad = refusal(await post_batch(sidecar, [{}] * 10_000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.EmitBatch(events_pb2.EmitBatchRequest(items=[item()] * 10_000))
        over_grpc = refused(caught.value)
    for told in (good, bad, over_grpc):
        assert (told.reason, told.maybe_stored) == ("TOO_LARGE", False)
        assert "at most 1000 items" in told.message
        assert "10000 items" in told.message
    assert await stored(nats) == []


async def test_200_mb_are_refused_without_being_taken_in_whole(nats) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 20)

    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        declared = refusal(await post_batch(sidecar, io.BytesIO(bytes(200 << 20))))
        chunked = refusal(await post_batch(sidecar, chunks()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.EmitBatch(events_pb2.EmitBatchRequest(items=[item(bytes(1 << 20))] * 200))
        assert (await post_batch(sidecar, [event(1)]))[0]["ok"]["sequence"] == 1
    for told in (declared, chunked):
        assert (told.code, told.reason) == ("413", "TOO_LARGE")
        assert "64 MiB" in told.message
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # by gRPC itself, which does not read on
    assert "larger than max" in (caught.value.details() or "")


# ---- good and bad


async def test_an_http_batch_answers_in_order_and_stores_in_order(nats) -> None:
    items = [event(n) if n % 3 else event(n, specversion="2") for n in range(1000)]
    async with running(text_for(nats)) as sidecar:
        await keep_messages(nats)
        answered = await post_batch(sidecar, items)
    assert isinstance(answered, list)
    assert [("ok" in each) for each in answered] == [bool(n % 3) for n in range(1000)]
    assert [each["uid"] for each in answered if "ok" in each] == [f"/s {n}" for n in range(1000) if n % 3]
    assert [each["ok"]["sequence"] for each in answered if "ok" in each] == list(range(1, 667))
    assert [int(payload) for payload, _ in await stored(nats)] == [n for n in range(1000) if n % 3]


# ---- out of time


async def test_a_batch_whose_deadline_nears_answers_for_each_item_in_time(nats) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        async with nats.frozen():
            both = events_pb2.EmitBatchRequest(items=[item(uid="a"), item(uid="b")])
            answer = await calls.events.EmitBatch(both, timeout=2)
        told = [refused_status(result.error) for result in answer.items]
        assert [(each.code, each.reason, each.uid) for each in told] == [
            ("UNAVAILABLE", "NATS_UNAVAILABLE", "a"),
            ("UNAVAILABLE", "NATS_UNAVAILABLE", "b"),
        ]
        assert all(each.maybe_stored for each in told)
        again = await calls.events.EmitBatch(both)
    assert all(result.HasField("ok") for result in again.items)
    assert len(await stored(nats)) == 2  # "maybe" was true, and the uid made the second try safe


async def test_a_stream_out_of_time_ends_and_leaves_nothing_behind(nats, tmp_path) -> None:
    async with process(tmp_path / "d", text_for(nats)) as daemon:
        assert daemon.sidecar is not None
        await keep_messages(nats)
        async with stubs(daemon.sidecar.grpc) as calls, nats.frozen():
            call = calls.events.EmitStream(timeout=0.5)
            for number in range(100):
                await call.write(item(uid=f"u{number}"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await see_that_it_goes_on(daemon.sidecar, nats)
        await daemon.end()
    assert [line for line in daemon.lines if line["level"] not in ("info", "warning")] == []


# ---- broken off


async def test_a_stream_that_is_cancelled_in_the_middle_stores_what_it_answered(nats, tmp_path) -> None:
    async with process(tmp_path / "d", text_for(nats)) as daemon:
        assert daemon.sidecar is not None
        await keep_messages(nats)
        async with stubs(daemon.sidecar.grpc) as calls:
            call = calls.events.EmitStream()
            for number in range(900):
                await call.write(item(uid=f"u{number}"))
            answered = [(await call.read()).uid for _ in range(300)]
            call.cancel()
        await see_that_it_goes_on(daemon.sidecar, nats)
        await daemon.end()
    uids = [headers["Nats-Msg-Id"] for _, headers in await stored(nats)]
    assert answered == uids[:300]
    assert [line for line in daemon.lines if line["level"] not in ("info", "warning")] == []


async def see_that_it_goes_on(sidecar: Sidecar, nats: NatsServer) -> None:
    """Emits pass, and none is in flight any more that nobody waits for."""

    async def passes() -> bool:
        status, answer = await sidecar.try_emit("counts", "last", uid="last")
        assert status in (200, 201, 429), answer
        return status != 429

    await until(passes)
    before = await count(nats)
    await sidecar.emit("counts", "very last", uid="very last")
    await until(lambda: settled_at(nats, before + 1))


async def settled_at(nats: NatsServer, least: int) -> bool:
    return await count(nats) >= least
