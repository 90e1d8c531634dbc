"""Batch delivery: many messages in one request, a result for each."""

import asyncio
import json

import pytest
from aiohttp import web
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.raw_server import raw_server
from support.receiver import Received, Receiver
from support.waiting import until


def batch_actor(
    nats: NatsServer, receiver: Receiver, *, batch: dict[str, object] | None = None, **options: object
) -> str:
    actor = {
        "name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0},
        "batch": {"max_wait": "100ms"} | (batch or {}),
    }  # fmt: skip
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


def items(received: Received) -> list[dict[str, object]]:
    assert received.headers["content-type"] == "application/cloudevents-batch+json"
    return json.loads(received.body)


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return not info.num_ack_pending and not info.num_pending


async def letters(nats: NatsServer) -> list[dict[str, str]]:
    async with nats.jetstream() as jetstream:
        state = (await jetstream.stream_info("walnatsd-dead-letters")).state
        found = [await jetstream.get_msg("walnatsd-dead-letters", n) for n in range(1, state.last_seq + 1)]
        return [message.headers or {} for message in found]


async def store(nats: NatsServer, count: int) -> None:
    async with nats.jetstream() as jetstream:
        await asyncio.gather(*(jetstream.publish("counts", str(n).encode()) for n in range(count)))


async def test_waiting_messages_come_in_full_batches_and_an_empty_2xx_acks_all(nats, receiver) -> None:
    async with running(batch_actor(nats, receiver, batch={"max_size": 10}, max_jobs=1)):
        await store(nats, 35)
        await until(lambda: settled(nats))
    numbers = [event["data"] for received in receiver.received for event in items(received)]
    assert sorted(numbers) == list(range(35))
    assert max(len(items(received)) for received in receiver.received) == 10
    assert receiver.most_in_progress == 1


async def test_a_lone_message_waits_no_longer_than_max_wait(nats, receiver) -> None:
    async with running(batch_actor(nats, receiver, batch={"max_size": 1000})) as sidecar:
        await sidecar.emit("counts", "7", uid="one", trace_id="t", headers={"ce-subject": "a%20b"})
        [received] = await receiver.wait_for(1)
    [event] = items(received)
    assert event == {
        "id": "one", "source": "tests", "type": "counts", "specversion": "1.0", "time": event["time"], "subject": "a b",
        "datacontenttype": "application/json", "data": 7, "walnatssequence": 1, "walnatsattempt": 1, "walnatstrace": "t",
    }  # fmt: skip
    assert received.headers["walnats-event"] == "counts"
    assert received.headers["walnats-actor"] == "print"
    assert received.headers["webhook-id"].startswith("msg_")


async def test_the_cloudevents_sdk_reads_a_batch(nats, receiver) -> None:
    async with running(batch_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", '{"a": 12345678901234567890123}')
        await sidecar.emit("counts", b"\x00\xff", headers={"Content-Type": "application/octet-stream"})
        await sidecar.emit("counts", "no json")
        await until(lambda: settled(nats))
    events = [event for received in receiver.received for event in items(received)]
    read = [JSONFormat().read(CloudEvent, json.dumps(event)) for event in events]
    assert [event.get_data() for event in read] == [{"a": 12345678901234567890123}, b"\x00\xff", b"no json"]


async def test_max_bytes_bounds_a_batch(nats, receiver) -> None:
    async with running(batch_actor(nats, receiver, batch={"max_bytes": 100})) as sidecar:
        for _ in range(6):
            await sidecar.emit("counts", json.dumps("x" * 40))
        await sidecar.emit("counts", json.dumps("y" * 500))
        await until(lambda: settled(nats))
    sizes = [[len(str(event["data"])) for event in items(received)] for received in receiver.received]
    assert all(sum(size + 2 for size in batch) <= 100 for batch in sizes if batch != [500])
    assert [500] in sizes
    assert sum(map(len, sizes)) == 7


async def test_each_message_has_its_own_result(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        status = {0: "ack", 1: "retry", 2: "reject", 3: "perhaps"}
        results = [
            {"sequence": event["walnatssequence"], "status": status[event["data"]], "reason": "because"}
            for event in items(received)
            if event["data"] in status and event["walnatsattempt"] == 1
        ]
        again = [
            {"sequence": event["walnatssequence"], "status": "ack"}
            for event in items(received)
            if event["walnatsattempt"] > 1
        ]
        return web.json_response({"results": [*results, *again, {"sequence": 999, "status": "reject"}, "nonsense"]})

    receiver.answer = answer
    async with running(batch_actor(nats, receiver, batch={"max_size": 5})):
        await store(nats, 5)
        await until(lambda: settled(nats))
        [letter] = await letters(nats)
    attempts: dict[object, int] = {}
    for received in receiver.received:
        for event in items(received):
            attempts[event["data"]] = attempts.get(event["data"], 0) + 1
    assert attempts == {0: 1, 1: 2, 2: 1, 3: 2, 4: 2}  # not named or named oddly: retried
    assert letter["walnats-dead-letter-reason"] == "reject: because"


async def test_a_poison_message_is_found_by_sending_a_rejected_batch_one_by_one(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        return web.Response(status=422 if any(event["data"] == 3 for event in items(received)) else 204)

    receiver.answer = answer
    async with running(batch_actor(nats, receiver, batch={"max_size": 6}, max_jobs=1)):
        await store(nats, 6)
        await until(lambda: settled(nats))
        [letter] = await letters(nats)
    assert letter["walnats-dead-letter-sequence"] == "4"
    assert letter["walnats-dead-letter-status"] == "422"


async def test_a_batch_that_fails_as_a_whole_is_retried_as_a_whole(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if len(receiver.received) == 1 else 204)

    receiver.answer = answer
    async with running(batch_actor(nats, receiver, batch={"max_size": 3})):
        await store(nats, 3)
        await until(lambda: settled(nats))
    assert {event["walnatsattempt"] for event in items(receiver.received[-1])} == {2}


async def test_an_answer_that_is_json_but_no_results_is_retried_and_a_plain_ok_is_a_success(nats, receiver) -> None:
    async def answer(_received: Received) -> web.StreamResponse:
        return web.json_response({"fine": True}) if len(receiver.received) == 1 else web.Response(text="OK")

    receiver.answer = answer
    async with running(batch_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: settled(nats))
    assert [items(received)[0]["walnatsattempt"] for received in receiver.received] == [1, 2]


@pytest.mark.parametrize(
    ("kind", "body", "requests"),
    [
        ("application/json", '{"results": [', 2),
        ("application/json", "", 2),
        ("text/plain", '{"results": [', 2),
        ("text/plain", "OK", 1),
    ],
)
async def test_results_that_are_cut_short_are_retried_and_a_plain_success_that_is_cut_short_is_one(
    nats, receiver, kind, body, requests
) -> None:
    """An answer without the first letter of its results was taken for "all are done"."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = server.requests == 1
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {500 if first else 0}\r\n\r\n"
        writer.write((head + (body if first else "")).encode())
        await writer.drain()

    async with raw_server(serve) as server:
        async with running(batch_actor(nats, receiver, url=server.url)) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: settled(nats))
        assert server.requests == requests


async def test_an_actor_that_is_not_there_counts_no_attempts_of_a_batch(nats, receiver) -> None:
    await receiver.down()
    text = batch_actor(
        nats, receiver, breaker={"consecutive": 2, "open_for": 0.2}, retry={"max_attempts": 1, "delays": [0.05]}
    )
    async with running(text) as sidecar:
        await store(nats, 10)
        opened = 'walnatsd_breaker_open{actor="print",event="counts"}'

        async def is_open() -> bool:
            return (await sidecar.metrics()).get(opened) == 1

        await until(is_open)
        await receiver.up()
        await until(lambda: settled(nats))
    assert {event["walnatsattempt"] for received in receiver.received for event in items(received)} == {1}


async def test_a_stop_hands_the_open_batch_back(nats, receiver) -> None:
    async with running(batch_actor(nats, receiver, batch={"max_wait": 60}, ack_wait=60)) as sidecar:
        await sidecar.emit("counts", "1")

        async def held() -> bool:
            return (await sidecar.metrics()).get('walnatsd_deliveries_in_flight{actor="print",event="counts"}') == 1

        await until(held)
    async with running(batch_actor(nats, receiver, batch={"max_wait": 0}, ack_wait=60)):
        [received] = await receiver.wait_for(1)
    assert items(received)[0]["data"] == 1
