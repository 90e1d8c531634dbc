"""The walnats library itself on the other side: as publisher, as actor, as neighbour on the same consumer."""

import asyncio
import dataclasses
import datetime as dt
import json
import time
from collections.abc import Iterator

import grpc
import pytest
import walnats
from aiohttp import web
from nats.js import JetStreamContext

import walnatsd_client
from support.daemon import config_text, running
from support.letters import unsettled
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver, answers
from support.waiting import until
from walnatsd.v1 import events_pb2, events_pb2_grpc

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # walnats' clock


@dataclasses.dataclass(frozen=True)
class Parcel:
    id: int
    status: str


COUNTS = walnats.Event("counts", int)
PARCELS = walnats.Event("parcel.sent", Parcel, description="A parcel left.")


def config(nats: NatsServer, receiver: Receiver | None, *events: str, **options: object) -> str:
    actors = [{"name": "print", "event": event, "url": receiver.url} | options for event in events] if receiver else []
    return config_text(nats.url, events=[{"name": event} for event in events], actors=actors)


# ---- walnats emits


async def test_what_walnats_emits_reaches_the_webhook_with_uid_and_trace_id(nats, receiver) -> None:
    events = walnats.Events(COUNTS, PARCELS)
    async with running(config(nats, receiver, "counts", "parcel.sent")), events.connect(nats.url) as walnats_side:
        await walnats_side.register()
        await walnats_side.emit(COUNTS, 7, uid="u 1", trace_id="t", meta={"X-Own": "o", "traceparent": "p"}, sync=True)
        await walnats_side.emit(COUNTS, 7, uid="u 1", sync=True)  # a duplicate
        await walnats_side.emit(PARCELS, Parcel(7, "Füße"))
        by_event = {each.headers["walnats-event"]: each for each in await receiver.wait_for(2)}
        await until(lambda: settled(nats))
    assert len(receiver.received) == 2
    counts, parcel = by_event["counts"], by_event["parcel.sent"]
    assert counts.body == b"7"
    assert counts.headers["walnats-uid"] == "u 1"
    assert counts.headers["walnats-trace"] == "t"
    assert counts.headers["x-own"] == "o"
    assert counts.headers["traceparent"] == "p"
    assert counts.headers["content-type"] == "application/json"
    assert counts.headers["ce-id"] == "u%201"
    assert json.loads(parcel.body) == {"id": 7, "status": "Füße"}
    assert "walnats-uid" not in parcel.headers
    assert parcel.headers["ce-id"] == "parcel-sent-1"
    assert parcel.headers["ce-type"] == "parcel.sent"


async def settled(nats: NatsServer, event: str = "counts") -> bool:
    return await unsettled(nats, event) == 0


async def test_a_cloudevent_of_walnats_arrives_attribute_by_attribute(nats, receiver) -> None:
    naive = dt.datetime(2026, 11, 24, 1, 2, 3, 450000)  # noqa: DTZ001 - walnats appends the Z itself
    meta = walnats.CloudEvent(
        id="i-1", source="/warehouse", type="com.example.counted", datacontenttype="text/x-number",
        dataschema="https://example.com/s", subject="Füße & 100%", time=naive,
        partitionkey="k", sampledrate=3, traceparent="00-aa-bb-01", dataref="r", sequence="9", tracestate="x=1",
    )  # fmt: skip
    async with running(config(nats, receiver, "counts")):
        async with walnats.Events(COUNTS).connect(nats.url) as walnats_side:
            await walnats_side.emit(COUNTS, 7, meta=meta, sync=True)
        [received] = await receiver.wait_for(1)
    assert received.headers["content-type"] == "text/x-number"
    assert received.headers["walnats-uid"] == "i-1"
    assert {name[3:]: value for name, value in received.headers.items() if name.startswith("ce-")} == {
        "id": "i-1", "source": "/warehouse", "type": "com.example.counted", "specversion": "1.0",
        "dataschema": "https://example.com/s", "subject": "F%C3%BC%C3%9Fe%20&%20100%25", "time": "2026-11-24T01:02:03.450000Z",
        "partitionkey": "k", "sampledrate": "3", "traceparent": "00-aa-bb-01", "dataref": "r", "sequence": "9",
        "tracestate": "x=1",
    }  # fmt: skip


async def test_a_delay_of_walnats_is_honoured_and_is_no_attempt(nats, receiver) -> None:
    async with running(config(nats, receiver, "counts")):
        async with walnats.Events(COUNTS).connect(nats.url) as walnats_side:
            # its own clock is exact on hosts in UTC only
            walnats_side = dataclasses.replace(walnats_side, _now=time.time)  # noqa: PLW2901
            began = time.time()
            await walnats_side.emit(COUNTS, 7, delay=1.0, sync=True)
        [received] = await receiver.wait_for(1)
        assert time.time() - began >= 0.999
    assert received.attempt == 1


# ---- walnatsd emits


class Seen(walnats.middlewares.Middleware):
    """Keeps what the walnats actor's handler is not told."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.traces: list[str | None] = []

    def on_start(self, ctx: walnats.types.Context) -> None:
        self.headers.append(ctx._msg.headers or {})
        self.traces.append(ctx.trace_id)


@pytest.fixture
def seen() -> Iterator[Seen]:
    return Seen()


async def handled_by_walnats(nats: NatsServer, event: walnats.Event, count: int, seen: Seen) -> list[object]:
    """Let a walnats actor `print` handle what waits for it."""
    messages: list[object] = []
    actor = walnats.Actor("print", event, messages.append, middlewares=(seen,))
    async with walnats.Actors(actor).connect(nats.url) as walnats_side:
        await walnats_side.listen(burst=True, batch=count, poll_delay=10)
    await until(lambda: settled(nats, event.stream_name))
    return messages


async def register_with_walnats(nats: NatsServer, event: walnats.Event) -> None:
    async with walnats.Events(event).connect(nats.url) as walnats_side:
        await walnats_side.register()
    async with walnats.Actors(walnats.Actor("print", event, print)).connect(nats.url) as walnats_side:
        await walnats_side.register()


async def test_what_is_emitted_over_http_reaches_a_walnats_actor(nats, seen) -> None:
    async with running(config(nats, None, "parcel.sent")) as sidecar:
        await register_with_walnats(nats, PARCELS)
        headers = {"ce-id": "i", "ce-source": "/s", "traceparent": "p"}
        await sidecar.emit("parcel.sent", '{"id": 7, "status": "sent"}', uid="u", trace_id="t", headers=headers)
        duplicate = await sidecar.emit("parcel.sent", "{}", uid="u")
        assert duplicate["duplicate"]
        assert await handled_by_walnats(nats, PARCELS, 1, seen) == [Parcel(7, "sent")]
    assert seen.traces == ["t"]
    assert headers.items() <= seen.headers[0].items()
    assert seen.headers[0]["Nats-Msg-Id"] == "u"


async def test_what_is_emitted_over_grpc_reaches_a_walnats_actor(nats, seen) -> None:
    async with running(config(nats, None, "counts")) as sidecar, grpc.aio.insecure_channel(sidecar.grpc) as channel:
        await register_with_walnats(nats, COUNTS)
        stub = events_pb2_grpc.EventsStub(channel)
        requests = [
            events_pb2.EmitRequest(
                event="counts", payload=b"%d" % n, uid=f"u{n}", trace_id=f"t{n}", headers={"ce-a": "b"}
            )
            for n in range(3)
        ]
        await stub.Emit(requests[0])
        await stub.EmitBatch(events_pb2.EmitBatchRequest(items=requests[1:]))
        assert await handled_by_walnats(nats, COUNTS, 3, seen) == [0, 1, 2]
    assert seen.traces == ["t0", "t1", "t2"]
    assert [(each["Nats-Msg-Id"], each["ce-a"]) for each in seen.headers] == [("u0", "b"), ("u1", "b"), ("u2", "b")]


@pytest.mark.parametrize("version", ["2.10.26", "2.12.8", "newest"])
async def test_a_delayed_emit_reaches_a_walnats_actor_when_it_is_due(version, tmp_path, seen) -> None:
    """Over a schedule, or before nats-server 2.12 with the header that walnats knows."""
    handled: list[float] = []
    actor = walnats.Actor("print", COUNTS, lambda _number: handled.append(time.time()), middlewares=(seen,))
    binary = None if version == "newest" else binary_of(version)
    async with nats_server(tmp_path / "nats", binary=binary) as nats, running(config(nats, None, "counts")) as sidecar:
        await register_with_walnats(nats, COUNTS)
        async with (
            walnatsd_client.connect(sidecar.grpc) as client,
            walnats.Actors(actor).connect(nats.url) as walnats_side,
        ):
            listening = asyncio.create_task(walnats_side.listen(poll_delay=5))
            began = time.time()
            receipt = await client.emit(walnatsd_client.Event("counts", int), 7, uid="u", trace_id="t", delay=1.2)
            assert receipt.scheduled == (version != "2.10.26")
            await until(lambda: handled)
            await until(lambda: settled(nats))
            listening.cancel()
            await asyncio.wait([listening])
    [at] = handled
    assert at >= began + 1.2 - 0.01  # walnats lets a message through when less than a millisecond is left
    assert seen.traces == ["t"]
    assert seen.headers[0]["Nats-Msg-Id"] == "u"


async def test_what_the_python_client_emits_reaches_a_walnats_actor(nats, seen) -> None:
    parcels = walnatsd_client.Event("parcel.sent", Parcel)
    async with running(config(nats, None)) as sidecar, walnatsd_client.connect(sidecar.grpc) as client:
        await client.register(parcels)
        await register_with_walnats(nats, PARCELS)
        await client.emit(parcels, Parcel(7, "Füße"), uid="u", trace_id="t", headers={"X-Own": "o"})
        assert await handled_by_walnats(nats, PARCELS, 1, seen) == [Parcel(7, "Füße")]
    assert seen.traces == ["t"]
    assert seen.headers[0]["X-Own"] == "o"


async def test_a_message_that_the_webhook_fails_can_be_finished_by_a_walnats_actor(nats, receiver, seen) -> None:
    receiver.answer = answers(then=500)
    async with running(config(nats, receiver, "counts", retry={"delays": [0.01]})) as sidecar:
        await sidecar.emit("counts", "7")
        await receiver.wait_for(2)
    assert await handled_by_walnats(nats, COUNTS, 1, seen) == [7]


# ---- both at once


async def test_a_walnats_actor_and_a_walnatsd_actor_share_one_consumer(nats, receiver) -> None:
    by_walnats: list[int] = []

    async def handle(message: int) -> None:
        by_walnats.append(message)
        await asyncio.sleep(0.01)

    async def answer(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.Response()

    receiver.answer = answer
    actors = walnats.Actors(walnats.Actor("print", COUNTS, handle, max_jobs=2))
    async with (
        running(config(nats, receiver, "counts", max_jobs=2)) as sidecar,
        actors.connect(nats.url) as walnats_side,
    ):
        await walnats_side.register()
        listening = asyncio.create_task(walnats_side.listen(poll_delay=5))
        number = 0
        while not (by_walnats and receiver.received) or number < 50:
            await sidecar.emit("counts", str(number))
            number += 1
        await until(lambda: settled(nats))
        listening.cancel()
        await asyncio.wait([listening])
    assert sorted([*by_walnats, *map(int, receiver.bodies)]) == list(range(number))


async def test_actors_of_different_names_get_every_message_whoever_runs_them(nats, receiver, seen) -> None:
    async with running(config(nats, receiver, "counts")) as sidecar:
        messages: list[int] = []
        actors = walnats.Actors(walnats.Actor("other", COUNTS, messages.append))
        async with actors.connect(nats.url) as walnats_side:
            await walnats_side.register()
            for number in range(10):
                await sidecar.emit("counts", str(number))
            await walnats_side.listen(burst=True, batch=10, poll_delay=10)
        await receiver.wait_for(10)
    assert messages == list(range(10))
    assert sorted(map(int, receiver.bodies)) == messages


# ---- who made the stream


async def test_a_stream_and_consumer_of_walnats_are_adopted_with_what_they_hold(nats, receiver) -> None:
    limits = walnats.Limits(age=3600, messages=1000, bytes=1 << 20, message_size=1 << 16, consumers=10)
    event = walnats.Event("counts", int, description="Numbers.", limits=limits)
    actor = walnats.Actor("print", event, print, description="Shows.", ack_wait=7, max_attempts=5, max_ack_pending=50)
    async with walnats.Events(event).connect(nats.url) as events, walnats.Actors(actor).connect(nats.url) as actors:
        await events.register()
        await actors.register()
        for number in range(3):
            await events.emit(event, number, sync=True)
    async with nats.jetstream() as jetstream:
        before = await configs(jetstream)
        async with running(config(nats, receiver, "counts")):
            await receiver.wait_for(3)
            await until(lambda: settled(nats))
        after = await configs(jetstream)
    assert sorted(receiver.bodies) == [b"0", b"1", b"2"]
    # only what is declared is written, and what walnatsd must have: the server's own limit would strand messages
    assert before["consumer"].pop("max_deliver") == 5
    assert after["consumer"].pop("max_deliver") == -1
    assert after == before


async def configs(jetstream: JetStreamContext) -> dict[str, dict[str, object]]:
    """The configs of stream and consumer as the server has them."""
    stream = await jetstream._api_request("$JS.API.STREAM.INFO.counts", b"")
    consumer = await jetstream._api_request("$JS.API.CONSUMER.INFO.counts.print", b"")
    return {"stream": stream["config"], "consumer": consumer["config"]}


async def test_walnats_can_register_what_walnatsd_made_and_walnatsd_takes_it_back(nats, receiver, seen) -> None:
    text = config_text(
        nats.url,
        events=[{"name": "counts", "duplicate_window": "5m", "limits": {"age": "1h", "when_full": "refuse", "messages": 99}}],
        actors=[{"name": "print", "event": "counts", "url": receiver.url, "ack_wait": 9, "max_ack_pending": 77}],
    )  # fmt: skip
    async with nats.jetstream() as jetstream:
        async with running(text) as sidecar:
            ours = await configs(jetstream)
            await register_with_walnats(nats, COUNTS)
            assert (await configs(jetstream))["stream"]["duplicate_window"] != 300_000_000_000  # walnats resets it
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)
            await until(lambda: settled(nats))
        async with running(text) as sidecar:
            assert await configs(jetstream) == ours
            await sidecar.emit("counts", "2")
            await receiver.wait_for(2)
    assert receiver.bodies == [b"1", b"2"]
