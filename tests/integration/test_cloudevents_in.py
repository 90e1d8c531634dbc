"""CloudEvents in structured and batched mode, and emits over a stream."""

import asyncio
import json
from collections.abc import AsyncIterator

import grpc

from support.daemon import config_text, running
from walnatsd.api.emit_streams import MAX_UNDER_WAY, EmitStreams
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.v1 import events_pb2, events_pb2_grpc

EVENT = {
    "specversion": "1.0",
    "id": "7",
    "source": "/ware house",
    "type": "parcel.sent",
    "subject": "ü",
    "data": {"a": 1},
}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def text_for(nats, receiver, **event: object) -> str:
    actors = [{"name": "print", "event": "counts", "url": receiver.url}]
    return config_text(nats.url, events=[{"name": "counts"} | event], actors=actors)


async def test_a_structured_event_arrives_in_binary_mode_with_every_attribute(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        answer = await sidecar.emit("counts", json.dumps(EVENT | {"urgent": True}), headers=STRUCTURED)
        assert answer["uid"] == "/ware%20house 7"
        again, told = await sidecar.try_emit("counts", json.dumps(EVENT), headers=STRUCTURED)
        assert (again, told["duplicate"]) == (200, True)
        [received] = await receiver.wait_for(1)
    headers = received.headers
    assert received.body == b'{"a":1}'
    assert headers["content-type"] == "application/json"
    assert (headers["ce-id"], headers["ce-source"], headers["ce-type"]) == ("7", "/ware%20house", "parcel.sent")
    assert (headers["ce-subject"], headers["ce-urgent"]) == ("%C3%BC", "true")


async def test_a_structured_event_that_is_none_is_refused_in_words(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        for body, extra, reason, words in (
            ("{}", {}, "INVALID_REQUEST", "the body is no CloudEvent: specversion"),
            ("no json", {}, "INVALID_REQUEST", "the body is no CloudEvent"),
            (
                json.dumps(EVENT),
                {"ce-id": "8"},
                "INVALID_HEADER",
                "the header ce-id says something else than the CloudEvent",
            ),
        ):
            status, problem = await sidecar.try_emit("counts", body, headers=STRUCTURED | extra)
            assert (status, problem["reason"]) == (400, reason)
            assert words in problem["detail"]
        status, problem = await sidecar.try_emit("counts", "[]", headers=BATCH)
        assert (status, problem["reason"]) == (400, "INVALID_REQUEST")
        assert "/batch" in problem["detail"]
    assert receiver.received == []


async def test_a_batch_stores_the_good_ones_and_explains_the_others(nats, receiver) -> None:
    items = [EVENT, {"specversion": "1.0"}, EVENT | {"id": "8"}, EVENT, EVENT | {"id": "9", "data": "x" * 100}]
    async with running(text_for(nats, receiver, limits={"message_size": 300})) as sidecar:
        url = f"http://{sidecar.http}/v1/events/counts/batch"
        async with sidecar.session.post(url, data=json.dumps(items), headers=BATCH) as response:
            assert response.status == 200
            answered = (await response.json())["items"]
        await receiver.wait_for(2)
    assert answered[0] == {
        "uid": "/ware%20house 7",
        "ok": {
            "uid": "/ware%20house 7", "stream": "counts", "sequence": 1, "duplicate": False, "scheduled": False,
            "spooled": False,
        },
    }  # fmt: skip
    assert (answered[1]["error"]["reason"], answered[1]["error"]["status"]) == ("INVALID_REQUEST", 400)
    assert answered[2]["ok"]["sequence"] == 2
    assert answered[3]["ok"]["duplicate"] is True
    assert answered[4]["error"]["reason"] == "TOO_LARGE"


async def test_a_batch_that_is_none_is_refused_as_a_whole(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        url = f"http://{sidecar.http}/v1/events/counts/batch"
        many = json.dumps([EVENT] * 1001)
        for query, headers, body, status, reason in (
            ("", BATCH, "{}", 400, "INVALID_REQUEST"),
            ("", BATCH, "no json", 400, "INVALID_REQUEST"),
            ("", STRUCTURED, "[]", 400, "INVALID_REQUEST"),
            ("?uid=1", BATCH, "[]", 400, "INVALID_REQUEST"),
            ("", BATCH, many, 413, "TOO_LARGE"),
        ):
            async with sidecar.session.post(url + query, data=body, headers=headers) as response:
                assert (response.status, (await response.json(content_type=None))["reason"]) == (status, reason)
        async with sidecar.session.post(url, data="[]", headers=BATCH) as response:
            assert (response.status, await response.json()) == (200, {"items": []})
    assert receiver.received == []


async def test_a_stream_of_emits_gets_one_result_each_in_order(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar, grpc.aio.insecure_channel(sidecar.grpc) as channel:
        stub = events_pb2_grpc.EventsStub(channel)

        async def requests() -> AsyncIterator[events_pb2.EmitRequest]:
            for number in range(2500):
                name = "nope" if number == 1000 else "counts"
                yield events_pb2.EmitRequest(event=name, payload=b"%d" % number, uid=f"u{number}")

        results = [result async for result in stub.EmitStream(requests())]
    assert [result.uid for result in results] == [f"u{number}" for number in range(2500)]
    assert [n for n, result in enumerate(results) if result.WhichOneof("result") == "error"] == [1000]
    sequences = [result.ok.sequence for result in results if result.HasField("ok")]
    assert sequences == sorted(sequences)
    assert len(set(sequences)) == 2499


async def test_a_stream_whose_results_nobody_takes_is_not_read_without_end() -> None:
    read = 0

    class Emitter:
        async def emit(self, request: EmitRequest, *, deadline_s: float | None) -> Receipt:
            return Receipt(request.uid, "counts", 1, False)

    async def endless() -> AsyncIterator[EmitRequest]:
        nonlocal read
        while True:
            read += 1
            yield EmitRequest("counts", b"", uid=str(read))
            await asyncio.sleep(0)

    results = EmitStreams(Emitter()).results(endless())  # type: ignore[arg-type]
    first = await anext(results)
    assert isinstance(first, Receipt)
    for _ in range(10_000):
        await asyncio.sleep(0)
    assert MAX_UNDER_WAY <= read <= MAX_UNDER_WAY + 3
    await results.aclose()
