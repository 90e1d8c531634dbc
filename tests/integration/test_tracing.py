"""Traces, seen by a real receiver of OTLP: one trace from the emitter to the actor, whatever way the message takes."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from support.callers import answered, caller
from support.daemon import Process, config_text, process, running
from support.grpc_calls import stubs
from support.listener import listener
from support.nats_server import free_port
from support.otlp import OtlpReceiver, otlp_grpc_receiver, otlp_receiver
from support.receiver import Received, Receiver, answers
from support.waiting import until
from walnatsd import __version__
from walnatsd.v1 import events_pb2

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
async def otlp(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpReceiver]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with otlp_receiver() as receiver:
        yield receiver


def config(nats_url: str, otlp: OtlpReceiver | str, receiver: Receiver | None = None, **options: Any) -> str:
    """One event and one actor, traced; `options` are the actor's, and `parts` those of the file."""
    parts = options.pop("parts", {})
    otel = {"endpoint": otlp if isinstance(otlp, str) else otlp.url, "sample_ratio": 1}
    actor = {"name": "print", "event": "counts", "retry": {"delays": [0.05], "jitter": 0}} | options
    if receiver is not None:
        actor |= {"url": receiver.url}
    return config_text(nats_url, **{"otel": otel, "events": [{"name": "counts"}], "actors": [actor], **parts})


def parent_in(received: Received) -> tuple[str, str]:
    """Trace and span that an actor was told of."""
    _, trace, span, _ = received.headers["traceparent"].split("-")
    return trace, span


def is_sampled(received: Received) -> bool:
    return bool(int(received.headers["traceparent"][-2:], 16) & 1)


# ---- the whole path


async def test_one_trace_goes_from_the_emitter_over_emit_publish_delivery_and_attempt_to_the_actor(
    nats, receiver, otlp
) -> None:
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        answer = await sidecar.emit(
            "counts", "7", uid="one", trace_id="order-1",
            headers={"traceparent": PARENT, "tracestate": "vendor=x", "baggage": "tenant=acme"},
        )  # fmt: skip
        [received] = await receiver.wait_for(1)
        settled = await otlp.wait_for_one("ack counts")
        emit, publish = await otlp.wait_for_one("emit counts"), await otlp.wait_for_one("publish counts")
        deliver, attempt = await otlp.wait_for_one("deliver counts"), await otlp.wait_for_one("POST /hook")
    assert len(otlp.spans) == 5
    assert {span.trace for span in otlp.spans} == {TRACE}
    assert [span.parent for span in (emit, publish, deliver, attempt, settled)] == [
        CALLER, emit.id, emit.id, deliver.id, deliver.id,
    ]  # fmt: skip
    kinds = [span.kind for span in (emit, publish, deliver, attempt, settled)]
    assert kinds == ["PRODUCER", "CLIENT", "CONSUMER", "CLIENT", "CLIENT"]
    assert publish.links == deliver.links == ((TRACE, emit.id),)
    assert emit.start_ns <= publish.start_ns <= publish.end_ns <= emit.end_ns
    assert (
        deliver.start_ns <= attempt.start_ns <= attempt.end_ns <= settled.start_ns <= settled.end_ns <= deliver.end_ns
    )
    assert not any(span.failed for span in otlp.spans)

    assert parent_in(received) == (TRACE, attempt.id)
    assert received.headers["tracestate"] == "vendor=x"
    assert received.headers["baggage"] == "tenant=acme"
    assert received.headers["walnats-trace"] == "order-1"
    assert answer["sequence"] == 1


async def test_spans_have_the_names_and_attributes_of_the_semantic_conventions(nats, receiver, otlp) -> None:
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "7", uid="one", trace_id="order-1")
        await otlp.wait_for("ack counts")
        emit, publish = await otlp.wait_for_one("emit counts"), await otlp.wait_for_one("publish counts")
        deliver, attempt = await otlp.wait_for_one("deliver counts"), await otlp.wait_for_one("POST /hook")
        settled = await otlp.wait_for_one("ack counts")
    of_all = {"messaging.system": "nats", "messaging.destination.name": "counts"}
    stored = {
        "messaging.message.id": "one",
        "walnatsd.outcome": "stored",
        "walnatsd.stream": "counts",
        "walnatsd.sequence": 1,
    }
    order = {"messaging.message.conversation_id": "order-1"}
    assert emit.attributes == of_all | stored | order | {
        "messaging.operation.name": "emit", "messaging.operation.type": "create",
    }  # fmt: skip
    assert publish.attributes == of_all | stored | {
        "messaging.operation.name": "publish", "messaging.operation.type": "send",
    }  # fmt: skip
    assert deliver.attributes == of_all | order | {
        "messaging.operation.name": "deliver", "messaging.operation.type": "process",
        "messaging.consumer.group.name": "print", "messaging.message.id": "one", "messaging.message.body.size": 1,
        "walnatsd.stream": "counts", "walnatsd.sequence": 1, "walnatsd.attempt": 1, "walnatsd.decision": "Ack",
    }  # fmt: skip
    assert attempt.attributes == {
        "http.request.method": "POST", "http.response.status_code": 204, "url.full": receiver.url, "url.template": "/hook",
        "server.address": "127.0.0.1", "server.port": receiver.port,
        "walnatsd.event": "counts", "walnatsd.actor": "print", "walnatsd.outcome": "acknowledged",
    }  # fmt: skip
    assert settled.attributes == of_all | {
        "messaging.operation.name": "ack", "messaging.operation.type": "settle",
        "messaging.consumer.group.name": "print", "walnatsd.decision": "Ack",
    }  # fmt: skip
    assert emit.scope == ("walnatsd", __version__, "https://opentelemetry.io/schemas/1.44.0")
    assert emit.resource["service.name"] == "tests"
    assert emit.resource["telemetry.sdk.name"] == "opentelemetry"


# ---- who comes before


async def test_the_metadata_of_a_grpc_call_and_the_headers_of_a_message_say_who_comes_before(
    nats, receiver, otlp
) -> None:
    metadata = (("traceparent", PARENT), ("tracestate", "vendor=x"), ("baggage", "tenant=acme"))
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    async with running(config(nats.url, otlp, receiver)) as sidecar, stubs(sidecar.grpc) as calls:
        await calls.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1", uid="1"), metadata=metadata)
        batch = [
            events_pb2.EmitRequest(event="counts", payload=b"2", uid="2"),
            events_pb2.EmitRequest(event="counts", payload=b"3", uid="3", headers={"Traceparent": other}),
        ]
        await calls.events.EmitBatch(events_pb2.EmitBatchRequest(items=batch), metadata=metadata)
        emits = {span.attributes["messaging.message.id"]: span for span in await otlp.wait_for("emit counts", 3)}
        await receiver.wait_for(3)
    assert [(emits[uid].trace, emits[uid].parent) for uid in "123"] == [
        (TRACE, CALLER),
        (TRACE, CALLER),
        ("a" * 32, "b" * 16),
    ]
    told = {received.headers["walnats-uid"]: received for received in receiver.received}
    assert {uid: parent_in(received)[0] for uid, received in told.items()} == {"1": TRACE, "2": TRACE, "3": "a" * 32}
    assert [told[uid].headers.get("baggage") for uid in "123"] == ["tenant=acme", "tenant=acme", None]


async def test_events_of_a_batch_have_the_context_of_their_extension_else_that_of_the_request(
    nats, receiver, otlp
) -> None:
    event = {"specversion": "1.0", "source": "/tests", "type": "counts", "data": 1}
    items = [event | {"id": "1"}, event | {"id": "2", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}]
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        headers = {
            "Content-Type": "application/cloudevents-batch+json",
            "traceparent": PARENT,
            "tracestate": "vendor=x",
        }
        url = f"http://{sidecar.http}/v1/events/counts/batch"
        async with sidecar.session.post(url, data=json.dumps(items), headers=headers) as response:
            assert [item.keys() for item in (await response.json())["items"]] == [{"uid", "ok"}] * 2
        await receiver.wait_for(2)
        emits = {span.attributes["messaging.message.id"]: span for span in await otlp.wait_for("emit counts", 2)}
    assert (emits["/tests 1"].trace, emits["/tests 1"].parent) == (TRACE, CALLER)
    assert (emits["/tests 2"].trace, emits["/tests 2"].parent) == ("a" * 32, "b" * 16)
    told = {received.headers["ce-id"]: received for received in receiver.received}
    assert {id_: parent_in(received)[0] for id_, received in told.items()} == {"1": TRACE, "2": "a" * 32}
    assert told["1"].headers["tracestate"] == "vendor=x"
    assert "tracestate" not in told["2"].headers


async def test_without_tracing_the_context_is_passed_on_as_it_came(nats, receiver) -> None:
    text = config_text(
        nats.url, events=[{"name": "counts"}], actors=[{"name": "print", "event": "counts", "url": receiver.url}]
    )
    metadata = (("traceparent", PARENT), ("tracestate", "vendor=x"), ("baggage", "tenant=acme"))
    async with running(text) as sidecar, stubs(sidecar.grpc) as calls:
        await calls.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1"), metadata=metadata)
        await sidecar.emit("counts", "2", headers=dict(metadata))
        await receiver.wait_for(2)
    for received in receiver.received:
        assert [received.headers[name] for name, _ in metadata] == [value for _, value in metadata]


async def test_a_trace_id_of_walnats_that_is_a_traceparent_is_followed(nats, receiver, otlp) -> None:
    async with running(config(nats.url, otlp, receiver)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"1", headers={"Walnats-Trace": PARENT})  # as walnats' users do it
        deliver = await otlp.wait_for_one("deliver counts")
        await sidecar.emit("counts", "2", trace_id=PARENT)
        emit = await otlp.wait_for_one("emit counts")
        await receiver.wait_for(2)
    assert (deliver.trace, deliver.parent) == (emit.trace, emit.parent) == (TRACE, CALLER)
    assert [received.headers["walnats-trace"] for received in receiver.received] == [PARENT, PARENT]


# ---- failures


async def test_each_try_is_a_delivery_of_its_own_in_the_same_trace_and_says_what_went_wrong(
    nats, receiver, otlp
) -> None:
    receiver.answer = answers(500, 503)
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "7", headers={"traceparent": PARENT})
        deliveries, attempts = await otlp.wait_for("deliver counts", 3), await otlp.wait_for("POST /hook", 3)
        naks = await otlp.wait_for("nak counts", 2)
        await otlp.wait_for("ack counts")
    assert {span.trace for span in otlp.spans} == {TRACE}
    assert [span.attributes["walnatsd.attempt"] for span in deliveries] == [1, 2, 2]  # 503 does not count
    for spans in (deliveries, attempts):
        assert [span.failed for span in spans] == [True, True, False]
        assert [span.attributes.get("error.type") for span in spans] == ["500", "503", None]
    assert deliveries[0].said == attempts[0].said == "the actor answered 500"
    assert [span.attributes["walnatsd.retry.counts"] for span in naks] == [True, False]
    assert naks[0].attributes["walnatsd.retry.after_s"] == 0.05
    assert [parent_in(received)[1] for received in receiver.received] == [span.id for span in attempts]


async def test_a_dead_letter_stands_in_the_trace_and_its_replay_goes_on_with_it(nats, receiver, otlp) -> None:
    receiver.answer = answers(422)
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "7", headers={"traceparent": PARENT})
        term = await otlp.wait_for_one("term counts")
        url = f"http://{sidecar.admin}/admin/v1/dead-letters/1/replay"
        async with sidecar.session.post(url) as response:
            assert response.status == 200
        await otlp.wait_for("ack counts")
        deliveries = await otlp.wait_for("deliver counts", 2)
    assert {span.trace for span in otlp.spans} == {TRACE}
    assert term.attributes["walnatsd.dead_letter.cause"] == "rejected"
    assert [span.attributes["walnatsd.decision"] for span in deliveries] == ["DeadLetter", "Ack"]
    assert [span.attributes.get("error.type") for span in deliveries] == ["422", None]


async def test_a_dead_letter_without_an_attempt_is_a_failed_delivery(nats, receiver, otlp) -> None:
    async with running(config(nats.url, otlp, receiver)), nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"1", headers={"Walnats-Delay": "soon", "traceparent": PARENT})
        deliver = await otlp.wait_for_one("deliver counts")
    assert (deliver.trace, deliver.failed, deliver.attributes["error.type"]) == (TRACE, True, "dead-letter")
    assert "Walnats-Delay" in deliver.said
    assert not receiver.received


async def test_an_emit_that_is_refused_is_a_failed_span_and_nothing_was_published(nats, otlp) -> None:
    async with running(config(nats.url, otlp)) as sidecar:
        status, _ = await sidecar.try_emit("unheard-of", "7", headers={"traceparent": PARENT})
        emit = await otlp.wait_for_one("emit (unknown)")
    assert status == 404
    assert (emit.trace, emit.failed, emit.attributes["error.type"]) == (TRACE, True, "UNKNOWN_EVENT")
    assert "unheard-of" in emit.said
    assert otlp.names == ["emit (unknown)"]


async def test_an_actor_that_does_not_answer_before_the_stop_has_a_cancelled_attempt(nats, receiver, otlp) -> None:
    async def hang(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    async with running(config(nats.url, otlp, receiver, parts={"shutdown_timeout": 0.5})) as sidecar:
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
    [attempt] = otlp.named("POST /hook")
    assert (attempt.failed, attempt.attributes["error.type"]) == (True, "cancelled")


# ---- other ways


async def test_a_batch_is_a_trace_of_its_own_linked_to_those_of_its_messages(nats, receiver, otlp) -> None:
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    batch = {"max_size": 2, "max_wait": "5s"}
    async with running(config(nats.url, otlp, receiver, batch=batch)) as sidecar:
        await sidecar.emit("counts", "1", headers={"traceparent": PARENT})
        await sidecar.emit("counts", "2", headers={"traceparent": other})
        deliver, attempt = await otlp.wait_for_one("deliver counts"), await otlp.wait_for_one("POST /hook")
        emits = await otlp.wait_for("emit counts", 2)
    [received] = receiver.received
    assert (deliver.kind, deliver.parent) == ("CONSUMER", "")
    assert deliver.trace not in (TRACE, "a" * 32)
    assert set(deliver.links) == {(span.trace, span.id) for span in emits}
    assert deliver.attributes["messaging.batch.message_count"] == 2
    assert deliver.attributes["walnatsd.batch.acknowledged"] == 2
    assert parent_in(received) == (attempt.trace, attempt.id) == (deliver.trace, attempt.id)
    inside = {event["data"]: event["traceparent"] for event in json.loads(received.body)}
    assert inside == {1: emits[0].traceparent, 2: emits[1].traceparent}


async def test_a_batch_is_kept_where_one_of_its_messages_is_and_dropped_where_none_is(nats, receiver, otlp) -> None:
    batch = {"max_size": 2, "max_wait": "5s"}
    unsampled = f"00-{'a' * 32}-{'b' * 16}-00"
    async with running(config(nats.url, otlp, receiver, batch=batch, max_jobs=1)) as sidecar:
        for number in "12":
            await sidecar.emit("counts", number, headers={"traceparent": unsampled})
        await receiver.wait_for(1)
        await sidecar.emit("counts", "3", headers={"traceparent": unsampled})
        await sidecar.emit("counts", "4", headers={"traceparent": PARENT})
        await receiver.wait_for(2)
    [deliver] = otlp.named("deliver counts")
    assert (TRACE, otlp.named("emit counts")[0].id) in deliver.links
    assert [is_sampled(received) for received in receiver.received] == [False, True]


async def test_a_listener_gets_the_context_of_its_attempt(nats, otlp) -> None:
    async with running(config(nats.url, otlp)) as sidecar, listener(sidecar.grpc) as acting:
        await sidecar.emit("counts", "7", headers={"traceparent": PARENT})
        [delivery] = await acting.wait_for(1)
        await acting.ack(delivery)
        attempt = await otlp.wait_for_one("listen print")
        await otlp.wait_for("ack counts")
    assert delivery.message.headers["traceparent"] == attempt.traceparent
    assert (attempt.trace, attempt.kind) == (TRACE, "CLIENT")
    assert attempt.attributes == {
        "walnatsd.event": "counts",
        "walnatsd.actor": "print",
        "walnatsd.outcome": "acknowledged",
    }


@pytest.mark.parametrize("kind", ["grpc", "http"])
async def test_a_request_is_a_span_around_its_emit_and_the_wait_for_the_answer(nats, receiver, otlp, kind) -> None:
    async def answer(_received: Received) -> web.StreamResponse:
        return web.json_response(1)

    receiver.answer = answer
    async with running(config(nats.url, otlp, receiver, responds=True)) as sidecar, caller(kind, sidecar) as asking:
        answered(await asking.call("counts", b"7", uid="one"))
        request, emit = await otlp.wait_for_one("request counts"), await otlp.wait_for_one("emit counts")
        attempt = await otlp.wait_for_one("POST /hook")
    assert (emit.parent, emit.trace) == (request.id, request.trace)
    assert attempt.trace == request.trace
    assert request.start_ns <= emit.start_ns <= attempt.start_ns <= attempt.end_ns <= request.end_ns
    assert (request.kind, request.attributes["walnatsd.outcome"], request.failed) == ("CLIENT", "answered", False)


async def test_a_request_that_nobody_answers_is_a_failed_span(nats, receiver, otlp) -> None:
    async with running(config(nats.url, otlp, receiver)) as sidecar, caller("grpc", sidecar) as asking:
        await asking.call("counts", b"7", timeout_s=0.5)
        request = await otlp.wait_for_one("request counts")
    assert (request.failed, request.attributes["error.type"]) == (True, "NO_RESPONSE")


async def test_a_delayed_emit_goes_on_with_its_trace_when_it_is_due(nats, receiver, otlp) -> None:
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.try_emit("counts", "7", delay="1s", headers={"traceparent": PARENT})
        emit = await otlp.wait_for_one("emit counts")
        await receiver.wait_for(1)
        scheduled, stored = await otlp.wait_for("publish counts", 2)
        deliver = await otlp.wait_for_one("deliver counts")
    assert {span.trace for span in otlp.spans} == {TRACE}
    assert [span.attributes["walnatsd.outcome"] for span in (emit, scheduled, stored)] == [
        "scheduled",
        "scheduled",
        "stored",
    ]
    assert stored.parent == deliver.parent == emit.id
    assert stored.links == ((TRACE, emit.id),)
    assert stored.start_ns - scheduled.end_ns > 0.5e9


async def test_a_tick_of_a_clock_begins_a_trace_when_it_is_stored(nats, receiver, otlp) -> None:
    text = config(nats.url, otlp, receiver, parts={"clocks": [{"event": "counts", "every": "1s"}]})
    async with running(text):
        publish, deliver = (await otlp.wait_for("publish counts"))[0], (await otlp.wait_for("deliver counts"))[0]
    assert (publish.kind, publish.parent, publish.links) == ("PRODUCER", "", ())
    assert (deliver.trace, deliver.parent) == (publish.trace, publish.id)


async def test_a_message_in_the_spool_goes_on_with_its_trace_when_it_is_forwarded(
    nats, receiver, otlp, tmp_path
) -> None:
    spool = {"path": str(tmp_path / "spool.db")}
    async with running(config(nats.url, otlp, receiver, parts={"spool": spool})) as sidecar:
        await nats.stop()

        async def is_away() -> bool:
            return "nats" in (await sidecar.readiness())[1]

        await until(is_away)
        status, answer = await sidecar.try_emit("counts", "7", headers={"traceparent": PARENT})
        assert (status, answer["spooled"]) == (202, True)
        emit = await otlp.wait_for_one("emit counts")
        assert not otlp.named("publish counts")
        await nats.start()
        await otlp.wait_for("ack counts")
    stored = [span for span in otlp.named("publish counts") if not span.failed]
    assert [(span.trace, span.parent, span.attributes["walnatsd.outcome"]) for span in stored] == [
        (TRACE, emit.id, "stored")
    ]
    assert emit.attributes["walnatsd.outcome"] == "spooled"
    assert not emit.failed
    assert {span.trace for span in otlp.spans} == {TRACE}


# ---- sampling


async def test_who_began_a_trace_decides_whether_it_is_kept_and_the_ratio_decides_of_those_begun_here(
    nats, receiver, otlp
) -> None:
    text = config(nats.url, otlp, receiver, parts={"otel": {"endpoint": otlp.url, "sample_ratio": 0}})
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")
        await sidecar.emit("counts", "2", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"})
        await sidecar.emit("counts", "3", headers={"traceparent": PARENT})
        await receiver.wait_for(3)
        await otlp.wait_for("ack counts")
    assert {span.trace for span in otlp.spans} == {TRACE}
    assert {received.body: is_sampled(received) for received in receiver.received} == {
        b"1": False,
        b"2": False,
        b"3": True,
    }


async def test_the_context_of_a_trace_that_is_not_kept_goes_on_as_it_came(nats, receiver, otlp) -> None:
    context = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00", "tracestate": "vendor=x"}
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "1", headers=context)
        await sidecar.try_emit("counts", "2", headers=context, delay="1s")
        received = await receiver.wait_for(2)
    assert [{name: each.headers[name] for name in context} for each in received] == [context, context]
    assert not otlp.spans


async def test_of_the_traces_begun_here_about_the_ratio_is_kept(nats, receiver, otlp) -> None:
    text = config(nats.url, otlp, receiver, parts={"otel": {"endpoint": otlp.url, "sample_ratio": 0.5}})
    async with running(text) as sidecar:
        for number in range(100):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(100)
    kept = len(otlp.named("emit counts"))
    assert 20 <= kept <= 80  # six standard deviations
    assert len({span.trace for span in otlp.named("deliver counts")}) == kept


# ---- the exporter


async def test_spans_go_over_grpc_where_the_environment_says_so(nats, receiver, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    async with otlp_grpc_receiver() as otlp:
        async with running(config(nats.url, otlp, receiver)) as sidecar:
            await sidecar.emit("counts", "7")
            await receiver.wait_for(1)
        assert "emit counts" in otlp.names
        assert otlp.headers["x-key"] == "secret"
        assert otlp.spans[0].resource["deployment.environment.name"] == "test"
        assert otlp.spans[0].resource["service.name"] == "tests"


async def test_headers_and_compression_are_those_of_the_environment(nats, receiver, otlp, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "7")
        await otlp.wait_for("emit counts")
    assert (otlp.headers["x-key"], otlp.headers["content-encoding"]) == ("secret", "gzip")


async def test_the_last_spans_are_exported_at_the_stop(nats, receiver, otlp, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        for number in range(20):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(20)
        assert not otlp.spans
    assert len(otlp.named("emit counts")) == 20
    assert len(otlp.named("ack counts")) == 20


async def test_while_the_endpoint_is_away_all_goes_on_one_warning_says_so_and_spans_are_counted(
    nats, receiver, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    endpoint = f"http://127.0.0.1:{free_port()}"
    text = config(nats.url, endpoint, receiver, parts={"log": {"format": "json"}})
    async with process(tmp_path / "daemon", text) as daemon:
        assert daemon.sidecar is not None
        for number in range(100):
            await daemon.sidecar.emit("counts", str(number))
        await receiver.wait_for(100)

        async def counted() -> bool:
            metrics = await daemon.sidecar.metrics()
            failed, dropped = (
                metrics.get(f'walnatsd_spans_total{{outcome="{each}"}}', 0) for each in ("failed", "dropped")
            )
            return failed > 8 and dropped > 0

        await until(counted)
        began = time.monotonic()
        assert await daemon.end() == 0
        assert time.monotonic() - began < 10  # the stop does not wait for who is not there
    warnings = [line for line in daemon.lines if "spans can't be exported" in line["message"]]
    assert len(warnings) == 1
    assert warnings[0]["endpoint"] == endpoint
    assert "Failed to export spans" in warnings[0]["why"]
    assert not [line for line in daemon.lines if str(line.get("library", "")).startswith("opentelemetry")]


async def test_an_endpoint_that_hangs_does_not_hold_up_the_stop(nats, receiver, tmp_path) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        text = config(nats.url, f"http://127.0.0.1:{port}", receiver, parts={"shutdown_timeout": 2})
        async with process(tmp_path / "daemon", text) as daemon:
            assert daemon.sidecar is not None
            await daemon.sidecar.emit("counts", "7")
            await receiver.wait_for(1)
            began = time.monotonic()
            assert await daemon.end() == 0
            assert time.monotonic() - began < 8  # the exporter itself would wait for 10 s
        assert daemon.said("could not be exported in time")


async def test_an_option_in_the_environment_that_makes_no_sense_is_told_and_the_daemon_does_not_start(
    nats, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    daemon = Process(tmp_path / "daemon", config(nats.url, "http://127.0.0.1:4318"))
    with pytest.raises(AssertionError, match="the daemon ended with 1"):
        await daemon.start()
    [line] = [line for line in daemon.lines if "OTEL" in line["message"]]
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf, not 'carrier-pigeon'" in line["message"]


# ---- off


async def test_the_environment_can_switch_it_off_and_the_context_is_passed_on_as_it_came(
    nats, receiver, otlp, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with running(config(nats.url, otlp, receiver)) as sidecar:
        await sidecar.emit("counts", "1", headers={"traceparent": PARENT})
        await sidecar.emit("counts", "2")
        await receiver.wait_for(2)
    told = {received.body: received.headers.get("traceparent") for received in receiver.received}
    assert told == {b"1": PARENT, b"2": None}
    assert not otlp.requests


def test_without_the_option_nothing_of_opentelemetry_is_imported_by_the_daemon() -> None:
    code = "import sys, walnatsd.daemon, walnatsd.cli; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
